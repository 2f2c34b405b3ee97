"""Compares embeddings in int8 with those in float32 on a user's own images, before int8 is used."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from sightline.indexer.types import Embeddings, Int8Check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sightline.indexer.encoder.encoder import Encoder
    from sightline.indexer.types import Pixels

CHECKED_IMAGES = 256
"""Images that are encoded in both."""
NEIGHBOURS = 10
"""Nearest images that are compared per image."""
MIN_COSINE = 0.995
"""Mean cosine of each image's two embeddings."""
MIN_OVERLAP = 0.95
"""Mean fraction of each image's nearest ones that are the same."""


class Int8Trial:
    """Encodes images in float32 and in int8 until there are ``CHECKED_IMAGES``, then decides."""

    def __init__(self, encoder: Encoder, on_check: Callable[[Int8Check], None]) -> None:
        self._encoder, self._on_check = encoder, on_check
        self._pairs: list[tuple[Embeddings, Embeddings]] = []
        self._lock = threading.Lock()

    def encode(self, pixels: Sequence[Pixels]) -> Embeddings:
        """``Encoder.encode_images``; float32 until it is decided. Thread-safe."""
        if self._encoder.int8_check is not None:
            return self._encoder.encode_images(pixels)
        exact = self._encoder.encode_images(pixels, dtype="float32")
        quantised = self._encoder.encode_images(pixels, dtype="int8")
        with self._lock:
            self._pairs.append((exact, quantised))
        return exact

    def decide(self) -> None:
        """Compares what is encoded if it is enough, tells the encoder, and calls ``on_check``."""
        with self._lock:
            count = sum(len(exact) for exact, _ in self._pairs)
            if self._encoder.int8_check is not None or count < CHECKED_IMAGES:
                return
            exact, quantised = (np.concatenate(part) for part in zip(*self._pairs, strict=True))
            self._pairs.clear()
        check = compare(exact[:CHECKED_IMAGES], quantised[:CHECKED_IMAGES])
        self._encoder.decide_int8(check)
        self._on_check(check)


def compare(exact: Embeddings, quantised: Embeddings) -> Int8Check:
    """The comparison of two embeddings ``(n, d)`` of the same images, n > ``NEIGHBOURS``."""
    cosine = float(np.einsum("nd,nd->n", exact, quantised).mean())
    pairs = zip(_nearest(exact), _nearest(quantised), strict=True)
    overlap = float(np.mean([len(np.intersect1d(a, b)) for a, b in pairs])) / NEIGHBOURS
    passed = cosine >= MIN_COSINE and overlap >= MIN_OVERLAP
    return Int8Check(len(exact), cosine, overlap, passed)


def _nearest(vectors: Embeddings) -> np.ndarray:
    """``(n, NEIGHBOURS)``: the rows nearest to each row, without itself."""
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    return np.argpartition(-cosines, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
