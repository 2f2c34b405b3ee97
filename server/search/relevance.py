"""Which of the nearest pictures really fit: where a score stands among a query's own scores.

The nearest picture of a library is nearest even when nothing fits, and a cosine of .28 is a good
match for one query and model and a poor one for the next. What carries over is how far a score
stands out from the scores that the same query gives to the library at large. So every query is
compared with a fixed sample of the library (``Library.sample``); the middle of those scores and
their spread below it make a scale; a picture's *standing* is its distance from the middle in units
of that spread, and ``LINE`` of them is where good matches begin.

The spread is taken from the lower half, because matches, often a good part of a personal
collection, sit in the upper one. Measured on 250 captions of Flickr8k with OpenAI CLIP B/32
vectors, in libraries of n pictures: share of the described pictures that stand above the line, and
share of queries with a picture above it when the answer, and the half of the library that looks
most like it, had been taken out (much of what is left still fits in part):

    =====  =====================  ============================
    n      answer above the line  some other picture above it
    =====  =====================  ============================
    50     .89                    .31
    100    .90                    .38
    300    .93                    .34
    1000   .91                    .51
    2400   .92                    .71
    =====  =====================  ============================

With the median absolute deviation for the spread, at equal recall: .34, .34, .51, .78 and .93.

What this cannot do: a query that a tenth of the library fits a little (``mountain`` in a travel
album, asked of a model that is not sure what a mountain is) stands out little, and is told that
nothing matches. A clear concept does not suffer: 30% of dogs all stand above the line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST = 20
"""Pictures below which a library says nothing about its own scores: no line is drawn."""

LINE_SMALL, LINE_LARGE = 3.0, 3.5
"""The line in units of spread, for samples of up to ``SMALL`` and from ``LARGE`` pictures on,
and between them along the logarithm: the best of few stands out less than the best of many."""
SMALL, LARGE = 50, 300

EXTRA = 0.5
"""Spreads by which a picture must stand out more where a cosine that means a match is known."""

STEEPNESS = 1.5
"""Of the curve from standing to relevance: one spread above the line is .82, one below .18."""

SAME = 0.985
"""Cosine from which the picture found is the picture searched with, resized or saved again."""

SURE = 8.0
"""Spreads above the line from which relevance is 1 to four digits; ``SAME`` stands there."""

LOWER = 0.1
_LOWER_SPREADS = 1.2816
"""A normal distribution's ``LOWER`` quantile lies so many standard deviations below its median."""


@dataclass(frozen=True)
class Scale:
    """How the scores of one query lie over the library."""

    middle: float
    spread: float
    line: float | None
    """The standing from which a picture is a good match; None where the library is too small."""

    @classmethod
    def of(cls, scores: NDArray[np.float32], fits: float | None = None) -> Scale:
        """The scale of a query whose scores over the library's sample are ``scores`` (n,).

        ``fits`` is a cosine that is known to mean a match for this model and kind of query. The
        line is then where that lies, so that a concept which half of the library shares is found;
        what stands out by ``EXTRA`` more than usual is a match below it too.
        """
        n = len(scores)
        if n < 2:
            return cls(float(scores[0]) if n else 0.0, 1.0, None)
        low, middle = _quantiles(scores, LOWER, 0.5)
        # Equal pictures have no spread; any positive number keeps the arithmetic finite.
        spread = max((middle - low) / _LOWER_SPREADS, 1e-6)
        if n < FEWEST:
            return cls(middle, spread, None)
        way = math.log(n / SMALL) / math.log(LARGE / SMALL)
        line = LINE_SMALL + (LINE_LARGE - LINE_SMALL) * min(max(way, 0.0), 1.0)
        if fits is not None:
            line = min(line + EXTRA, max((fits - middle) / spread, 0.0))
        return cls(float(middle), spread, line)

    def standing(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Distance of each score from the middle, in spreads."""
        return ((scores - np.float32(self.middle)) / np.float32(self.spread)).astype(np.float32)


def _quantiles(scores: NDArray[np.float32], *shares: float) -> list[float]:
    """As ``np.quantile`` has them, in a tenth of its time: it looks for NaN, weights and axes."""
    places = [share * (len(scores) - 1) for share in shares]
    below = [int(place) for place in places]
    above = [min(place + 1, len(scores) - 1) for place in below]
    ordered = np.partition(scores, [*below, *above])
    return [
        float(ordered[one]) + (place - one) * (float(ordered[other]) - float(ordered[one]))
        for place, one, other in zip(places, below, above, strict=True)
    ]


def relevance(standing: NDArray[np.float32], line: float | None) -> NDArray[np.float32]:
    """0 to 1, rising with the standing, .5 on the line. Without a line everything is 1."""
    if line is None:
        return np.ones(len(standing), np.float32)
    steps = np.clip(STEEPNESS * (standing.astype(np.float64) - line), -50, 50)
    return (1 / (1 + np.exp(-steps))).astype(np.float32)
