"""Towers and tokenizer of the architectures that only ``open_clip_torch`` computes.

MobileCLIP, PE-Core, EVA, ConvNeXt, CoCa and the text towers of XLM-RoBERTa and NLLB, among others.
Images are resized by Sightline, in OpenCLIP's manner, and standardised by ``Encoder``.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from sightline.indexer.encoder.model_files import ModelFiles
from sightline.indexer.errors import ModelError
from sightline.indexer.installation import install_command


class OpenClipTextTower:
    """Token ids to embeddings."""

    def __init__(self, files: ModelFiles, device: torch.device, dtype: torch.dtype) -> None:
        self._model, self._device = _model(files, device, dtype), device

    def __call__(self, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Token ids ``(n, t)`` to unnormalised embeddings ``(n, d)``."""
        found: torch.Tensor = self._model.encode_text(ids.to(self._device))
        return found


class OpenClipImageTower:
    """Pixels to embeddings."""

    def __init__(self, files: ModelFiles, device: torch.device, dtype: torch.dtype) -> None:
        self._model = _model(files, device, dtype)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels ``(n, height, width, 3)`` to unnormalised embeddings ``(n, d)``."""
        found: torch.Tensor = self._model.encode_image(pixels.permute(0, 3, 1, 2))
        return found


class OpenClipTokenizer:
    """A backend of ``tokenizer.Tokenizer``; rows have the model's full length."""

    def __init__(self, files: ModelFiles) -> None:
        self._tokenizer = _package(files).get_tokenizer(_address(files.directory))
        inner = getattr(self._tokenizer, "tokenizer", self._tokenizer)
        self.vocabulary_size = int(getattr(inner, "vocab_size", 0))
        self.pad_id = 0

    def __call__(self, texts: list[str]) -> list[list[int]]:
        """The ids of each text."""
        found: list[list[int]] = self._tokenizer(texts).tolist()
        return found


def _model(files: ModelFiles, device: torch.device, dtype: torch.dtype) -> Any:
    return _load(_package(files), files.directory, files.id, device, dtype)


@lru_cache(maxsize=1)
def _load(
    open_clip: Any, directory: Path, name: str, device: torch.device, dtype: torch.dtype
) -> Any:
    """Both towers; they share one model, which the package loads as a whole."""
    try:
        model = open_clip.create_model(_address(directory), device=device)
    except (RuntimeError, ValueError, OSError, KeyError, TypeError, AssertionError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(f"{name} cannot be loaded by open_clip_torch: {reason}") from error
    return model.to(dtype).eval().requires_grad_(False)


def _address(directory: Path) -> str:
    return f"local-dir:{directory}"


def _package(files: ModelFiles) -> Any:
    try:
        import open_clip
    except ImportError as error:
        raise ModelError(
            f"{files.id} has an architecture that needs the extra openclip: "
            f"{install_command('openclip')}"
        ) from error
    return open_clip
