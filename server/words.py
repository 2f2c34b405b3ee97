"""Texts that fit a picture: a bank of everyday captions, or a person's own list.

A caption that is near every picture says nothing about this one, so each of the bank is judged by
how far its cosine stands out from the cosines that the same caption has with the library's sample.
A person's own texts are alternatives, and are ranked as the model was trained to tell them apart:
by cosine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from server.relevance import FEWEST, Scale, relevance

if TYPE_CHECKING:
    from indexer.encoder import Encoder
    from indexer.library import Library


@dataclass(frozen=True)
class Fitting:
    """A text, and how well it fits a picture."""

    text: str
    score: float
    """Cosine."""
    probability: float
    """The model's own: among all the texts that were ranked, or, for SigLIP, by itself."""
    relevance: float
    """0 to 1, .5 on the line from which a text fits this picture better than most of the library;
    in a library too small for a line the cosine itself."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "text": self.text,
            "score": round(self.score, 6),
            "probability": round(self.probability, 6),
            "relevance": round(self.relevance, 4),
        }


class WordBank:
    """Ranks texts by one picture. The bank's vectors are computed when they are first needed."""

    def __init__(
        self,
        library: Library,
        encoder: Encoder,
        encode: Callable[[Sequence[str]], list[NDArray[np.float32]]],
    ) -> None:
        """``encode`` gives a unit vector a text; ``encoder`` turns cosines into probabilities."""
        self._library = library
        self._encoder = encoder
        self._encode = encode
        self._lock = threading.Lock()
        self._texts: tuple[str, ...] = ()
        self._vectors: NDArray[np.float32] | None = None

    def fitting(self, vector: NDArray[np.float32], k: int) -> list[Fitting]:
        """The ``k`` captions of the bank that fit a picture's unit vector best."""
        texts, vectors = self._bank()
        return self._ranked(texts, vectors, vector, k, standing_first=True)

    def among(self, texts: Sequence[str], vector: NDArray[np.float32], k: int) -> list[Fitting]:
        """The ``k`` of ``texts`` that fit a picture's unit vector best."""
        return self._ranked(texts, np.stack(self._encode(texts)), vector, k, standing_first=False)

    def _ranked(
        self,
        texts: Sequence[str],
        vectors: NDArray[np.float32],
        vector: NDArray[np.float32],
        k: int,
        *,
        standing_first: bool,
    ) -> list[Fitting]:
        from indexer.zero_shot import probabilities

        cosines = vectors @ vector
        own = probabilities(cosines[None], self._encoder)[0]
        sample = self._library.sample()
        if len(sample) < FEWEST:
            order = np.argsort(-cosines, kind="stable")[:k]
            fits = np.maximum(cosines, 0)
        else:
            scales = [Scale.of(scores) for scores in vectors @ sample.T]
            standing = np.array(
                [scale.standing(cosines[n : n + 1])[0] for n, scale in enumerate(scales)],
                np.float32,
            )
            fits = relevance(standing, scales[0].line)
            order = np.argsort(-(standing if standing_first else cosines), kind="stable")[:k]
        return [
            Fitting(texts[n], float(cosines[n]), float(own[n]), float(fits[n]))
            for n in order.tolist()
        ]

    def _bank(self) -> tuple[tuple[str, ...], NDArray[np.float32]]:
        with self._lock:
            if self._vectors is None:
                from indexer.captions import CAPTIONS

                self._texts = tuple(CAPTIONS)
                self._vectors = np.stack(self._encode(self._texts))
            return self._texts, self._vectors
