"""All of torch, for other libraries: this program's processes import a part of it only."""

from __future__ import annotations

import importlib
import sys

LEFT_OUT = "torch._meta_registrations"
"""What ``server.web.tuning.shorten_torch_import`` replaces by an empty module."""


def complete_torch() -> None:
    """Imports what was left out of torch. transformers, torchvision and open_clip may import
    torch's compiler, which cannot be imported without it."""
    module = sys.modules.get(LEFT_OUT)
    if module is not None and module.__spec__ is None:
        del sys.modules[LEFT_OUT]
        if "torch" in sys.modules:
            importlib.import_module(LEFT_OUT)
