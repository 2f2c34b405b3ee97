"""Ranks, proportions with confidence intervals, and the adjustments of scores before ranking.

A rank is 1 for the best; of equal scores the earlier row ranks first, as in a search.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.types import Embeddings

Ranks = NDArray[np.int64]

RECALL_AT = (1, 5, 10)
"""The k of recall@k."""

MAX_QUERIES = 256
"""Queries that are scored at a time."""

MAX_SCORES = 2**26
"""Scores in memory at a time: 256 MB."""

RESAMPLES = 2000
"""Of the bootstrap."""
LEVEL = 0.95
"""Confidence level of all intervals."""
_Z = 1.959964
"""Quantile of the normal distribution for a two-sided interval at ``LEVEL``."""

BETA = 20.0
"""Inverse temperature of query-bank normalisation, as in its paper."""


@dataclass(frozen=True)
class Proportion:
    """A fraction of cases, 0 to 1, with its 95% confidence interval."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return {
            "value": round(self.value, 5),
            "low": round(self.low, 5),
            "high": round(self.high, 5),
        }

    def __str__(self) -> str:
        half = (self.high - self.low) / 2
        return f"{100 * self.value:.1f} ±{100 * half:.1f}"


def proportion(right: int, cases: int) -> Proportion:
    """The proportion of independent cases, with Wilson's score interval."""
    if not cases:
        return Proportion(math.nan, 0.0, 1.0)
    value = right / cases
    centre = (value + _Z**2 / (2 * cases)) / (1 + _Z**2 / cases)
    half = _Z / (1 + _Z**2 / cases)
    half *= math.sqrt(value * (1 - value) / cases + _Z**2 / (4 * cases**2))
    low = 0.0 if right == 0 else max(centre - half, 0.0)
    return Proportion(value, low, 1.0 if right == cases else min(centre + half, 1.0))


def grouped_proportion(right: NDArray[np.bool_], groups: Sequence[int]) -> Proportion:
    """The proportion of cases that come in groups, such as five captions of one image.

    The interval is the percentile bootstrap over groups, with a fixed seed. If all cases are right,
    or all wrong, it is Wilson's for as many cases as groups, as the bootstrap has no variance then.
    """
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    hits = np.bincount(group, weights=right.astype(np.float64))
    sizes = np.bincount(group).astype(np.float64)
    if right.all() or not right.any():
        return proportion(len(sizes) if right.any() else 0, len(sizes))
    random = np.random.default_rng(0)
    counts = random.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), RESAMPLES)
    resampled = (counts @ hits) / (counts @ sizes)
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Proportion(float(right.mean()), float(low), float(high))


def query_slices(queries: int, gallery: int) -> Iterator[slice]:
    """Slices of the queries whose scores over the gallery fit in memory."""
    step = max(1, min(MAX_QUERIES, MAX_SCORES // max(gallery, 1)))
    return (slice(start, start + step) for start in range(0, queries, step))


Adjust = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Cosines ``(q, n)`` of some queries and the whole gallery -> the scores to rank by."""


def best_ranks(
    queries: Embeddings, gallery: Embeddings, targets: Sequence[Sequence[int]], adjust: Adjust
) -> Ranks:
    """``(q,)``: the best rank of each query's targets, one or more rows of the gallery."""
    found = np.empty(len(queries), np.int64)
    columns = np.arange(len(gallery))
    for rows in query_slices(len(queries), len(gallery)):
        for row, scores in enumerate(adjust(queries[rows] @ gallery.T), rows.start):
            target = np.asarray(targets[row])
            best = target[np.argmax(scores[target])]
            before = (scores > scores[best]) | ((scores == scores[best]) & (columns < best))
            found[row] = 1 + np.count_nonzero(before)
    return found


def unadjusted(cosines: NDArray[np.float32]) -> NDArray[np.float32]:
    """The cosines."""
    return cosines


def query_bank(gallery: Embeddings, bank: Embeddings) -> Adjust:
    """Query-bank normalisation with the dynamic inverted softmax (Bogolin et al., CVPR 2022).

    It lowers the scores of hubs, images that are close to every query: cosines are divided by what
    a bank of other queries gives the image. Only queries whose nearest image is also the nearest of
    a query of the bank are adjusted.
    """
    logits = (bank @ gallery.T).astype(np.float64) * BETA
    top = logits.max(axis=0)
    log_sums = (top + np.log(np.exp(logits - top).sum(axis=0))).astype(np.float32)
    hubs = np.zeros(len(gallery), bool)
    hubs[logits.argmax(axis=1)] = True

    def adjust(cosines: NDArray[np.float32]) -> NDArray[np.float32]:
        adjusted = hubs[cosines.argmax(axis=1)]
        result = cosines.copy()
        result[adjusted] = np.float32(BETA) * cosines[adjusted] - log_sums
        return result

    return adjust


def z_scores(texts: Embeddings, images: Embeddings) -> Adjust:
    """Robust z-scores per text: (cosine - median) / (median - 10th percentile) over ``images``.

    ``describe`` ranks captions by them.
    """
    median, spread = np.empty(len(texts), np.float32), np.empty(len(texts), np.float32)
    for rows in query_slices(len(texts), len(images)):
        low, half = np.quantile(texts[rows] @ images.T, [0.1, 0.5], axis=1)
        median[rows] = half
        spread[rows] = np.maximum(half - low, 1e-6)
    return lambda cosines: (cosines - median) / spread


def centred(texts: Embeddings, bank: Embeddings) -> Embeddings:
    """``texts`` minus the mean of a bank of texts, at unit length."""
    shifted = texts - bank.mean(axis=0)
    norms = np.linalg.norm(shifted, axis=1, keepdims=True)
    result: Embeddings = (shifted / np.maximum(norms, 1e-12)).astype(np.float32)
    return result
