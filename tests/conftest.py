"""Fixtures that many tests share: a small real model, real pictures, a library of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from indexer.encoder import Encoder

sys.path.insert(0, str(Path(__file__).resolve().parent))


@pytest.fixture(autouse=True)
def _no_library_of_the_person_who_runs_the_tests(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No test may touch a real library or ask the hub for anything."""
    monkeypatch.setenv("SIGHTLINE_LIBRARY", str(tmp_path_factory.getbasetemp() / "default-library"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a real CLIP architecture of random weights: 32 dimensions, 32 pixels."""
    from helpers_models import build_clip

    return build_clip(tmp_path_factory.mktemp("models") / "tiny-clip")


@pytest.fixture(scope="session")
def tiny_encoder(tiny_clip: Path) -> Encoder:
    """``tiny_clip``, loaded."""
    from indexer.encoder import Encoder

    return Encoder.load(str(tiny_clip), device="cpu")
