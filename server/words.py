"""Words that fit a picture: a bank of everyday captions, ranked by one picture's vector.

A caption that is near every picture says nothing about this one, so each is judged by how far its
cosine stands out from the cosines that the same caption has with the library's sample.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from server.relevance import FEWEST, Scale, relevance

if TYPE_CHECKING:
    from indexer.library import Library


class WordBank:
    """The bank's vectors, computed when they are first needed and kept."""

    def __init__(
        self,
        library: Library,
        encode: Callable[[Sequence[str]], list[NDArray[np.float32]]],
    ) -> None:
        self._library = library
        self._encode = encode
        self._lock = threading.Lock()
        self._texts: tuple[str, ...] = ()
        self._vectors: NDArray[np.float32] | None = None

    def fitting(self, vector: NDArray[np.float32], k: int) -> list[tuple[str, float]]:
        """The ``k`` texts that fit a picture's unit vector best, and how well, 0 to 1."""
        texts, vectors = self._bank()
        cosines = vectors @ vector
        sample = self._library.sample()
        if len(sample) < FEWEST:
            best = np.argsort(-cosines, kind="stable")[:k]
            return [(texts[n], float(max(cosines[n], 0))) for n in best]
        scales = [Scale.of(scores) for scores in vectors @ sample.T]
        standing = np.array(
            [scale.standing(cosines[n : n + 1])[0] for n, scale in enumerate(scales)], np.float32
        )
        best = np.argsort(-standing, kind="stable")[:k]
        fits = relevance(standing[best], scales[0].line)
        return [(texts[n], float(fit)) for n, fit in zip(best.tolist(), fits, strict=True)]

    def _bank(self) -> tuple[tuple[str, ...], NDArray[np.float32]]:
        with self._lock:
            if self._vectors is None:
                from indexer.captions import CAPTIONS

                self._texts = tuple(CAPTIONS)
                self._vectors = np.stack(self._encode(self._texts))
            return self._texts, self._vectors
