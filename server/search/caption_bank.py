"""CaptionBank: the texts that describe an image, from a bank of everyday captions or given.

Ranked by cosine; ranking by z-score finds fewer right captions (docs/evaluation.md).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.types import Embeddings
from sightline.server.search.relevance import MIN_SAMPLE, ScoreScale, relevance

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder
    from sightline.indexer.library import AnyLibrary


@dataclass(frozen=True)
class ScoredText:
    """A text and how well it describes an image."""

    text: str
    score: float
    """Cosine."""
    probability: float
    """By the model: softmax over all ranked texts, or SigLIP's sigmoid."""
    relevance: float | None
    """0 to 1; .5 where the text fits this image better than most of the library. The cosine in a
    library too small for a threshold, None without a library."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "text": self.text,
            "score": round(self.score, 6),
            "probability": round(self.probability, 6),
            "relevance": None if self.relevance is None else round(self.relevance, 4),
        }


def rank_texts(
    encoder: Encoder,
    texts: Sequence[str],
    vectors: Embeddings,
    image: NDArray[np.float32],
    k: int,
    *,
    sample: Embeddings | None = None,
) -> list[ScoredText]:
    """The ``k`` of ``texts``, whose unit vectors are ``vectors``, with the highest cosine to an
    image's unit vector. Their relevance is judged by a library's ``sample``."""
    from sightline.indexer.zero_shot.labels import probabilities

    cosines = vectors @ image
    own = probabilities(cosines[None], encoder)[0]
    found = []
    for row in np.argsort(-cosines, kind="stable")[:k].tolist():
        score, fit = float(cosines[row]), None
        if sample is not None:
            fit = _relevance(score, vectors[row], sample)
        found.append(ScoredText(texts[row], score, float(own[row]), fit))
    return found


def _relevance(score: float, text: NDArray[np.float32], sample: Embeddings) -> float:
    if len(sample) < MIN_SAMPLE:
        return max(score, 0.0)
    scale = ScoreScale.of(text @ sample.T)
    return float(relevance(scale.z_scores(np.array([score], np.float32)), scale.threshold)[0])


class CaptionBank:
    """Ranks texts by their fit to an image. The bank is encoded at its first use."""

    def __init__(
        self,
        library: AnyLibrary,
        encoder: Encoder,
        encode: Callable[[Sequence[str]], list[NDArray[np.float32]]],
    ) -> None:
        """``encode`` returns the unit vector of each text."""
        self._library = library
        self._encoder = encoder
        self._encode = encode
        self._lock = threading.Lock()
        self._bank: tuple[Sequence[str], Embeddings] | None = None

    def rank(
        self, image: NDArray[np.float32], k: int, *, texts: Sequence[str] | None = None
    ) -> list[ScoredText]:
        """The ``k`` of ``texts``, or of the bank, that fit an image's unit vector best."""
        texts, vectors = (texts, np.stack(self._encode(texts))) if texts else self._captions()
        sample = self._library.sample()
        return rank_texts(self._encoder, texts, vectors, image, k, sample=sample)

    def _captions(self) -> tuple[Sequence[str], Embeddings]:
        with self._lock:
            if self._bank is None:
                from sightline.indexer.zero_shot.captions import CAPTIONS

                captions = tuple(CAPTIONS)
                self._bank = captions, np.stack(self._encode(captions))
            return self._bank
