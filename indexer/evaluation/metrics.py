"""Ranks, recall, and how sure they are.

A rank is the place of the right answer, 1 for the first; equal scores stand in the order in which
they were given, as a search has them. Ranking ideas change the scores before ranks are taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.types import Embeddings

Ranks = NDArray[np.int64]

AT = (1, 5, 10)
"""The places of recall@k."""

AT_ONCE = 256
"""Queries that are scored at a time, at most."""

SCORES = 2**26
"""Scores that are held at a time: 256 MB."""

RESAMPLES = 2000
LEVEL = 0.95
_Z = 1.959964
"""Standard deviations of a normal distribution that hold LEVEL of it."""

BETA = 20.0
"""Inverse temperature of query-bank normalisation, as its paper sets it."""


@dataclass(frozen=True)
class Share:
    """A share of cases, 0 to 1, with the interval that holds the true one at 95%."""

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


def share(right: int, cases: int) -> Share:
    """A share of independent cases, with Wilson's score interval."""
    if not cases:
        return Share(math.nan, 0.0, 1.0)
    value = right / cases
    centre = (value + _Z**2 / (2 * cases)) / (1 + _Z**2 / cases)
    half = _Z / (1 + _Z**2 / cases)
    half *= math.sqrt(value * (1 - value) / cases + _Z**2 / (4 * cases**2))
    low = 0.0 if right == 0 else max(centre - half, 0.0)
    return Share(value, low, 1.0 if right == cases else min(centre + half, 1.0))


def shares_of_groups(right: NDArray[np.bool_], groups: Sequence[int]) -> Share:
    """A share of cases that come in groups: five captions of one picture are not five independent
    cases. The interval is the percentile bootstrap's over groups, the same every time; where all
    cases are alike, of which no bootstrap can say anything, Wilson's for as many cases as groups.
    """
    _, place = np.unique(np.asarray(groups), return_inverse=True)
    hits = np.bincount(place, weights=right.astype(np.float64))
    sizes = np.bincount(place).astype(np.float64)
    if right.all() or not right.any():
        return share(len(sizes) if right.any() else 0, len(sizes))
    random = np.random.default_rng(0)
    counts = random.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), RESAMPLES)
    drawn = (counts @ hits) / (counts @ sizes)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Share(float(right.mean()), float(low), float(high))


def chunks(queries: int, gallery: int) -> Iterator[slice]:
    """Queries in pieces whose scores over the gallery fit in memory."""
    step = max(1, min(AT_ONCE, SCORES // max(gallery, 1)))
    return (slice(start, start + step) for start in range(0, queries, step))


Adjust = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Scores ``(q, n)`` of some queries over the whole gallery -> the scores to rank by."""


def ranks(
    queries: Embeddings, gallery: Embeddings, own: Sequence[Sequence[int]], adjust: Adjust
) -> Ranks:
    """``(q,)``: the place of the best of each query's right answers, of which ``own`` has at least
    one a query."""
    found = np.empty(len(queries), np.int64)
    columns = np.arange(len(gallery))
    for some in chunks(len(queries), len(gallery)):
        for row, line in enumerate(adjust(queries[some] @ gallery.T), some.start):
            mine = np.asarray(own[row])
            best = mine[np.argmax(line[mine])]
            before = (line > line[best]) | ((line == line[best]) & (columns < best))
            found[row] = 1 + np.count_nonzero(before)
    return found


def plain(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosines as they are."""
    return scores


def query_bank(gallery: Embeddings, bank: Embeddings) -> Adjust:
    """Query-bank normalisation with the dynamic inverted softmax (Bogolin et al., CVPR 2022).

    A picture that is near every query takes places that are not its own: its scores are divided by
    what a bank of other queries gives it. Only queries whose nearest picture is also the nearest
    of some query of the bank are treated so; the others keep their cosines.
    """
    logits = (bank @ gallery.T).astype(np.float64) * BETA
    top = logits.max(axis=0)
    usual = (top + np.log(np.exp(logits - top).sum(axis=0))).astype(np.float32)
    hubs = np.zeros(len(gallery), bool)
    hubs[logits.argmax(axis=1)] = True

    def adjust(scores: NDArray[np.float32]) -> NDArray[np.float32]:
        treated = hubs[scores.argmax(axis=1)]
        result = scores.copy()
        result[treated] = np.float32(BETA) * scores[treated] - usual
        return result

    return adjust


def standing(texts: Embeddings, images: Embeddings) -> Adjust:
    """How far each text stands out for a picture from what it says of all pictures: the distance
    from the middle of its cosines in units of their spread below it. ``describe`` ranks so."""
    middle, spread = np.empty(len(texts), np.float32), np.empty(len(texts), np.float32)
    for some in chunks(len(texts), len(images)):
        low, half = np.quantile(texts[some] @ images.T, [0.1, 0.5], axis=1)
        middle[some] = half
        spread[some] = np.maximum(half - low, 1e-6)
    return lambda scores: (scores - middle) / spread


def centred(texts: Embeddings, bank: Embeddings) -> Embeddings:
    """Texts without what all texts have in common: the mean of a bank taken off, unit length."""
    moved = texts - bank.mean(axis=0)
    norms = np.linalg.norm(moved, axis=1, keepdims=True)
    result: Embeddings = (moved / np.maximum(norms, 1e-12)).astype(np.float32)
    return result
