"""Folders that are not indexed or served without the user's explicit confirmation.

The whole disk, the home folder itself, and the folders of the operating system: a library of one of
these makes every image in it, and whatever decodes as one, visible to everyone with the token.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from sightline.indexer.errors import UsageError

SYSTEM = tuple(
    Path(os.path.realpath(path))  # macOS: /etc is a link
    for path in ("/etc", "/proc", "/sys", "/dev", "/boot", "/System", os.environ.get("SYSTEMROOT"))
    if path
)
"""Folders that are sensitive with everything below them."""


def is_sensitive(path: Path) -> bool:
    """Whether ``path``, symlinks resolved, is a file system's root, the home folder or a folder
    that contains it, or a folder of the operating system."""
    real = Path(os.path.realpath(path))
    home = Path(os.path.realpath(Path.home()))
    return (
        real == Path(real.anchor)
        or home.is_relative_to(real)
        or any(real.is_relative_to(folder) for folder in SYSTEM)
    )


def refuse(paths: Iterable[Path], allowed: Iterable[Path] = ()) -> None:
    """UsageError if one of ``paths`` is sensitive and not among ``allowed``."""
    confirmed = {os.path.realpath(path) for path in allowed}
    for path in paths:
        if is_sensitive(path) and os.path.realpath(path) not in confirmed:
            raise UsageError(
                f"{path} contains private or system files, whose images would be searchable and"
                f" downloadable: name a folder of photos, or confirm with --allow-root {path}"
            )
