"""Calibration: the cosine from which an image matches a text, for one model and each text.

One cosine for all texts fails: the closest image of a rare thing that the library lacks is as close
as a photo of a wide group ("dog") whose kinds the model knows apart. What people seldom write of is
seldom photographed, so a rare word requires a higher cosine: by the logarithm of its rank in the
model's vocabulary, the mean over the words of a text. Of the images above that cosine only those
near the closest one match, or which are far above it.

Fitted by ``python -m benchmarks.calibrate``; measured in docs/evaluation.md.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.types import Embeddings
from sightline.server.search.relevance import ScoreScale

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder

log = logging.getLogger(__name__)

FILE = "calibration.json"
"""In the model's folder."""

LOG_OFFSET = 100
"""Added to ranks: the first hundred words are about equally common."""


@dataclass(frozen=True)
class Calibration:
    """The numbers of one model."""

    first_word: int
    """The id of the most frequent word in the vocabulary."""
    bias: float
    rarity: float
    """By how much the cosine of a match rises with the natural logarithm of the rank."""
    below_best: float
    """Largest distance of a match from the closest image's cosine..."""
    certain: float
    """... unless it is so far above what the text requires."""

    @classmethod
    def of(cls, encoder: Encoder) -> Calibration | None:
        """The calibration in the encoder's folder; None without one, or if it is of other weights
        (which is logged)."""
        path = encoder.directory / FILE
        if not path.is_file():
            return None
        numbers = json.loads(path.read_text(encoding="utf-8"))
        if numbers.pop("revision") != encoder.revision:
            log.warning("%s was fitted for other weights and is ignored", path)
            return None
        return cls(**numbers)

    def save(self, path: Path, *, revision: str) -> None:
        """Writes the file that ``of`` reads; ``revision`` is that of the weights."""
        numbers = {"revision": revision, **asdict(self)}
        path.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")

    def log_rank(self, ids: Sequence[int]) -> float:
        """The rarity of a text whose words have these ids: their mean. Sentences have lower cosines
        than their rarest word."""
        ranks = [max(one - self.first_word, 0) for one in ids] or [0]
        return sum(math.log(rank + LOG_OFFSET) for rank in ranks) / len(ranks)

    def match_cosine(self, ids: Sequence[int], best: float) -> float:
        """The cosine from which an image matches a text whose words have these ids; ``best`` is the
        cosine of the closest image."""
        required = self.bias + self.rarity * self.log_rank(ids)
        return max(required, min(best - self.below_best, required + self.certain))


def text_scale(
    text: NDArray[np.float32],
    sample: Embeddings,
    calibration: Calibration | None,
    *,
    ids: Sequence[int],
) -> ScoreScale:
    """The scale of a text's cosines to a sample, with the model's calibration if it has one.
    ``ids`` are those of the text's words."""
    cosines = sample @ text
    if calibration is None or not len(sample):
        return ScoreScale.of(cosines)
    return ScoreScale.of(cosines, calibration.match_cosine(ids, float(cosines.max())))
