"""Relevance: whether a score is a match, judged by the score distribution of its own query.

The nearest image of a library is nearest even when nothing fits, and a cosine of .28 is a good
match for one query and model and a poor one for the next. What carries over is how far a score
stands out from the scores that the same query gives to a fixed random sample of the library
(``Library.sample``). The median of these and their standard deviation make a scale; an image whose
z-score on it reaches a threshold is a match.

The standard deviation is estimated below the median only: matches, often a large part of a personal
collection, are above it. docs/evaluation.md measures how often the threshold is right, and where it
fails.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]
"""``(n,) float32``: cosines or z-scores of n images."""

MIN_SAMPLE = 20
"""Images below which there is no threshold: too few scores to estimate a distribution."""

THRESHOLD_SMALL, THRESHOLD_LARGE = 3.0, 3.5
"""z-score of a match in samples of up to ``SMALL`` and from ``LARGE`` images on, and between them
linear in the logarithm: the maximum of more scores stands out more."""
SMALL, LARGE = 50, 300

STEEPNESS = 1.5
"""Of the logistic curve from z-score to relevance: .82 one deviation above the threshold."""

UNREACHABLE = 1e6
"""Threshold where no image can be a match: a text of which the model knows no word."""

SAME_IMAGE = 0.985
"""Cosine from which an image is the one that was searched with, resized or saved again."""

SAME_IMAGE_MARGIN = 8.0
"""z-score above the threshold of such an image: relevance 1 to four decimal places."""

QUANTILE, QUANTILE_Z = 0.1, 1.2816
"""The quantile that estimates the standard deviation, and how many standard deviations it is below
the median of a normal distribution."""


MIN_MATCHES = 8
"""Matches in the sample from which they predict their number in the library, within a third."""

TAIL = 64
"""Highest scores of the sample that fewer are predicted from."""


@dataclass(frozen=True)
class ScoreScale:
    """The distribution of one query's scores over a sample of the library."""

    median: float
    deviation: float
    """Standard deviation, estimated below the median."""
    threshold: float | None
    """z-score of a match; None if the sample is too small for one."""
    matches: float = 0
    """Images of the sample that reach the threshold; if they are few, as many as its highest scores
    let expect."""
    size: int = 0
    """Images of the sample."""

    @classmethod
    def of(cls, scores: Scores, match_cosine: float | None = None) -> ScoreScale:
        """The scale of a query whose cosines to the library's sample are ``scores``.

        ``match_cosine`` is a cosine known to mean a match with this model and kind of query. Its
        z-score is the threshold then: a concept that half of the library shares is found, and one
        that no image shows has no match, however far the nearest image stands out.
        """
        n = len(scores)
        if n < 2:
            return cls(float(scores[0]) if n else 0.0, 1.0, None, size=n)
        low, median = _quantiles(scores, QUANTILE, 0.5)
        # Equal images have no deviation; any positive number keeps the arithmetic finite.
        deviation = max((median - low) / QUANTILE_Z, 1e-6)
        if n < MIN_SAMPLE:
            return cls(median, deviation, None, size=n)
        position = math.log(n / SMALL) / math.log(LARGE / SMALL)
        threshold = THRESHOLD_SMALL + (THRESHOLD_LARGE - THRESHOLD_SMALL) * min(
            max(position, 0.0), 1.0
        )
        if match_cosine is not None:
            threshold = (match_cosine - median) / deviation
        z_scores = _z_scores(scores, median, deviation)
        return cls(median, deviation, threshold, expected_matches(z_scores, threshold), n)

    def z_scores(self, scores: Scores) -> Scores:
        """Distance of each score from the median, in standard deviations."""
        return _z_scores(scores, self.median, self.deviation)


def expected_matches(z_scores: Scores, threshold: float) -> float:
    """``ScoreScale.matches`` of a sample with these z-scores."""
    matches = int((z_scores >= threshold).sum())
    if matches >= MIN_MATCHES or len(z_scores) <= TAIL:
        return matches
    return extrapolated(np.partition(z_scores, -TAIL)[-TAIL:], threshold)


def extrapolated(highest: Scores, threshold: float) -> float:
    """How many scores reach ``threshold``, of which these are the ``highest``: by a generalised
    Pareto distribution with their mean and variance (J. Hosking, J. Wallis, "Parameter and Quantile
    Estimation for the Generalized Pareto Distribution", 1987)."""
    excess = highest.astype(np.float64) - float(highest.min())
    mean = float(excess.mean())
    if not mean:
        return float((highest >= threshold).sum())
    ratio = mean**2 / float(excess.var())
    shape, scale = (1 - ratio) / 2 or 1e-9, mean * (1 + ratio) / 2
    base = 1 + shape * (threshold - float(highest.min())) / scale
    if base <= 0 and shape < 0:
        return 0.0  # beyond the end of the distribution
    # The bounds are those of a heavy tail, whose estimate may not be finite.
    return len(highest) * math.exp(min(-math.log(max(base, 1e-3)) / shape, 20.0))


def _z_scores(scores: Scores, median: float, deviation: float) -> Scores:
    return ((scores - np.float32(median)) / np.float32(deviation)).astype(np.float32)


def _quantiles(scores: Scores, *fractions: float) -> list[float]:
    """``np.quantile`` in a tenth of its time, which goes into axes, weights and NaN."""
    positions = [fraction * (len(scores) - 1) for fraction in fractions]
    lower = [int(position) for position in positions]
    upper = [min(index + 1, len(scores) - 1) for index in lower]
    ordered = np.partition(scores, [*lower, *upper])
    return [
        float(ordered[a]) + (position - a) * (float(ordered[b]) - float(ordered[a]))
        for position, a, b in zip(positions, lower, upper, strict=True)
    ]


def relevance(z_scores: Scores, threshold: float | None) -> Scores:
    """0 to 1, rising with the z-score, .5 at the threshold; 1 everywhere without a threshold."""
    if threshold is None:
        return np.ones(len(z_scores), np.float32)
    exponent = np.clip(STEEPNESS * (z_scores.astype(np.float64) - threshold), -50, 50)
    return (1 / (1 + np.exp(-exponent))).astype(np.float32)
