"""Texts that fit a picture: of a bank of everyday captions, or of a person's own list.

They are ranked by cosine. Ranking each by how far it stands out from what it says of the rest of
the library was measured and finds fewer right captions (docs/evaluation.md); that distance is given
beside the rank, as the relevance.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sightline.server.search.relevance import FEWEST, Scale, relevance

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder
    from sightline.indexer.library.interface import AnyLibrary


@dataclass(frozen=True)
class Fitting:
    """A text, and how well it fits a picture."""

    text: str
    score: float
    """Cosine."""
    probability: float
    """The model's own: among all the texts that were ranked, or, for SigLIP, by itself."""
    relevance: float | None
    """0 to 1, .5 on the line from which a text fits this picture better than most of the library;
    in a library too small for a line the cosine itself. None without a library."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "text": self.text,
            "score": round(self.score, 6),
            "probability": round(self.probability, 6),
            "relevance": None if self.relevance is None else round(self.relevance, 4),
        }


def ranked(
    encoder: Encoder,
    texts: Sequence[str],
    vectors: NDArray[np.float32],
    image: NDArray[np.float32],
    k: int,
) -> list[Fitting]:
    """The ``k`` of ``texts`` (whose unit vectors are ``(n, d)``) that fit one picture best."""
    from sightline.indexer.zero_shot.labels import probabilities

    cosines = vectors @ image
    own = probabilities(cosines[None], encoder)[0]
    order = np.argsort(-cosines, kind="stable")[:k].tolist()
    return [Fitting(texts[n], float(cosines[n]), float(own[n]), None) for n in order]


class WordBank:
    """Ranks texts by one picture. The bank's vectors are computed when they are first needed."""

    def __init__(
        self,
        library: AnyLibrary,
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
        return self._ranked(*self._bank(), vector, k)

    def among(self, texts: Sequence[str], vector: NDArray[np.float32], k: int) -> list[Fitting]:
        """The ``k`` of ``texts`` that fit a picture's unit vector best."""
        return self._ranked(texts, np.stack(self._encode(texts)), vector, k)

    def _ranked(
        self,
        texts: Sequence[str],
        vectors: NDArray[np.float32],
        vector: NDArray[np.float32],
        k: int,
    ) -> list[Fitting]:
        best = ranked(self._encoder, texts, vectors, vector, k)
        sample = self._library.sample()
        if len(sample) < FEWEST:
            return [replace(one, relevance=max(one.score, 0.0)) for one in best]
        place = {text: row for row, text in enumerate(texts)}
        told = []
        for one in best:
            scale = Scale.of(vectors[place[one.text]] @ sample.T)
            standing = scale.standing(np.array([one.score], np.float32))
            told.append(replace(one, relevance=float(relevance(standing, scale.line)[0])))
        return told

    def _bank(self) -> tuple[tuple[str, ...], NDArray[np.float32]]:
        with self._lock:
            if self._vectors is None:
                from sightline.indexer.zero_shot.captions import CAPTIONS

                self._texts = tuple(CAPTIONS)
                self._vectors = np.stack(self._encode(self._texts))
            return self._texts, self._vectors
