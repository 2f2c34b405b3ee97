"""Encodes a sample of a user's own photos with several models, to choose one by looking."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.indexer.encoder.int8_check import CHECKED_IMAGES
from sightline.indexer.evaluation.evaluate import Encoded, encode_files
from sightline.indexer.types import Embeddings, Progress, no_progress

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder


@dataclass(frozen=True)
class Trial:
    """What one model made of the sample."""

    model: str
    dimension: int
    device: str
    dtype: str
    images: Encoded
    queries: Embeddings
    """``(q, d)``: the queries."""
    seconds: float
    """For reading and encoding the sample, without loading the model."""

    @property
    def images_per_second(self) -> float:
        """Images read and encoded per second on this machine."""
        return len(self.images.kept) / self.seconds if self.seconds > 0 else 0.0

    def hours(self, images: int) -> float:
        """Hours that an indexing run over ``images`` takes at this rate."""
        return images / self.images_per_second / 3600


def try_model(
    encoder: Encoder,
    files: Sequence[Path],
    queries: Sequence[str],
    *,
    workers: int | None = None,
    progress: Progress = no_progress,
) -> Trial:
    """Encodes ``files`` and ``queries``. Raises UsageError if no file can be read."""
    encoder.warm(("image", "text"))
    if encoder.int8_check is None and encoder.may_use_int8 and len(files) >= CHECKED_IMAGES:
        # As an indexing run would: the time below is that of what it decides for.
        encode_files(encoder, files[:CHECKED_IMAGES], workers=workers, on_int8_check=lambda _: None)
    texts = encoder.encode_texts(queries)
    started = time.monotonic()
    images = encode_files(encoder, files, workers=workers, progress=progress)
    return Trial(
        encoder.model,
        encoder.dimension,
        encoder.device,
        encoder.dtype,
        images,
        texts,
        time.monotonic() - started,
    )
