"""Calibration: the cosine from which an image matches a text, for one model and each text.

One cosine for all texts fails: the vector of a wide group ("dog") is far from each of its kinds,
and the nearest image of a rare thing that the library lacks is as near. Two numbers correct it:

- *Offset.* A linear function of the text's vector, fitted to how often people photograph and write
  of a thing: what is rare requires a higher cosine.
- *Support.* The probability that the names nearest to an image (a softmax over ``names``) are near
  the text: an image that is nearest to "collie" supports "dog".

The closest images of the library's sample are judged in order; the first that is not supported ends
the matches. Fitted by ``python -m benchmarks.calibrate``; measured in docs/evaluation.md.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.types import Embeddings
from sightline.server.search.relevance import ScoreScale

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder

log = logging.getLogger(__name__)

FILE = "calibration.safetensors"
"""In the model's folder."""

JUDGED = 48
"""Images of the sample whose support is computed, the closest ones."""

BLOCK = 8
"""Images whose support is computed at a time; most queries need no second block."""

SOFTMAX_SCALE = 60.0
"""Factor of an image's cosines to the names before the softmax."""

NEAR, NEAR_STEEPNESS = 0.6, 20.0
"""Cosine of a name and a text that count as related by half, and the steepness around it."""


ROUNDING = 1e-5
"""By how much a cosine may differ where it is computed again."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """The numbers of one model."""

    names: Embeddings
    """``(n, d) float32, unit norm``: text vectors of the names of things."""
    direction: NDArray[np.float32]
    """``(d,)``: subtracted from ``bias`` by its product with the text's vector."""
    bias: float
    support: float
    """By how much full support lowers the cosine of a match."""
    below_best: float
    """Largest distance of a match from the closest image's cosine."""

    @classmethod
    def of(cls, encoder: Encoder) -> Calibration | None:
        """The calibration in the encoder's folder; None without one, or if it is of other weights
        (which is logged)."""
        from safetensors import safe_open

        path = encoder.directory / FILE
        if not path.is_file():
            return None
        with safe_open(path, framework="numpy") as file:
            facts = file.metadata()
            if facts["revision"] != encoder.revision:
                log.warning("%s was fitted for other weights and is ignored", path)
                return None
            names = file.get_tensor("names").astype(np.float32)
            direction = file.get_tensor("direction")
        numbers = {key: float(facts[key]) for key in ("bias", "support", "below_best")}
        return cls(names, direction, **numbers)

    def save(self, path: Path, *, revision: str) -> None:
        """Writes the file that ``of`` reads; ``revision`` is that of the weights."""
        from safetensors.numpy import save_file

        tensors: dict[str, NDArray[Any]] = {
            "names": self.names.astype(np.float16),
            "direction": self.direction,
        }
        numbers = {key: repr(getattr(self, key)) for key in ("bias", "support", "below_best")}
        save_file(tensors, path, metadata={"revision": revision, **numbers})

    def match_cosine(
        self, text: NDArray[np.float32], sample: Embeddings, cosines: NDArray[np.float32]
    ) -> float:
        """The cosine from which an image matches ``text``, a unit vector.

        ``sample`` is the library's, ``(n, d)`` with n > 0, and ``cosines`` are its ``(n,)`` cosines
        to the text.
        """
        unsupported = self.bias - float(self.direction @ text)
        best = float(cosines.max())
        lowest = max(unsupported - self.support, best - self.below_best)
        threshold = max(unsupported, best - self.below_best)
        rows = np.flatnonzero((cosines >= lowest) & (cosines < threshold))
        if not len(rows):
            return threshold
        if len(rows) > JUDGED:
            rows = rows[np.argpartition(-cosines[rows], JUDGED - 1)[:JUDGED]]
        rows = rows[np.argsort(-cosines[rows])]
        related = self.relatedness(text)
        found: list[float] = []
        for start in range(0, len(rows), BLOCK):
            block = rows[start : start + BLOCK]
            supports = np.sqrt(self.probabilities(sample[block]) @ related)
            for row, support in zip(block, supports, strict=True):
                if cosines[row] < unsupported - self.support * support:
                    return threshold
                threshold = float(cosines[row]) - ROUNDING
            found += supports.tolist()
        if len(rows) == JUDGED:
            # All judged match, and more images may: as supported as these are on average.
            mean = unsupported - self.support * float(np.mean(found))
            threshold = min(threshold, max(lowest, mean))
        return threshold

    def relatedness(self, text: NDArray[np.float32]) -> NDArray[np.float32]:
        """How related each name is to a text, ``(n,)``, 0 to 1."""
        return 1 / (1 + np.exp(NEAR_STEEPNESS * (NEAR - self.names @ text)))

    def probabilities(self, images: Embeddings) -> NDArray[np.float32]:
        """The probability of each name for each of ``(m, d)`` images, ``(m, n)``."""
        logits = SOFTMAX_SCALE * (images @ self.names.T)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)


def text_scale(
    text: NDArray[np.float32], sample: Embeddings, calibration: Calibration | None
) -> ScoreScale:
    """The scale of a text's cosines to a sample, with the model's calibration if it has one."""
    cosines = sample @ text
    if calibration is None or not len(sample):
        return ScoreScale.of(cosines)
    return ScoreScale.of(cosines, calibration.match_cosine(text, sample, cosines))
