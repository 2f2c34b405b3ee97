"""Rankings: the library in the order of a query, computed only as deep as it is read.

A ranking is cached while a client pages through it, and each page continues the one before. A
deeper search of an approximate index can find images that a shallow one missed; these come after
what has been shown, not between it.

**Sum of terms** (``CosineRanking``). Unit vectors are added by weight; negative terms count half of
theirs (``NEGATIVE_FACTOR``).

**Texts and images in one query.** Text and image vectors lie in different cones (the modality gap),
and cosines between two images vary three times as much as those between a text and an image, so a
plain sum ranks like the image alone. Therefore the library's mean is subtracted from image vectors,
and each kind is divided by the standard deviation of its cosines over the library's sample.
docs/evaluation.md has the measurements.

**All terms** (``MatchAllRanking``). Each term's scores become z-scores (``relevance.ScoreScale``),
scaled so that the best image of the sample has the same one for every term (``balanced``):
otherwise a term that stands out less than the others decides alone. An image is ranked by its
lowest z-score. This is exact: an image outside every term's first D has, for every term, at most
the D-th image's z-score, so once enough images exceed the lowest of these bounds, nothing outside
can displace them (Fagin's threshold algorithm); until then D grows.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import harmonic_mean
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.errors import QueryError
from sightline.indexer.types import Embeddings, Filters, Ids
from sightline.server.search import near_duplicates
from sightline.server.search.near_duplicates import ROUNDING
from sightline.server.search.relevance import (
    MIN_MATCHES,
    SAME_IMAGE,
    SAME_IMAGE_MARGIN,
    Scores,
    ScoreScale,
    expected_matches,
    extrapolated,
)

if TYPE_CHECKING:
    from sightline.indexer.catalog.embeddings import Changes
    from sightline.indexer.library import AnyLibrary

NEGATIVE_FACTOR = 0.5
"""Factor of negative weights beside positive ones; measured in docs/evaluation.md."""

BALANCED = 0.95
"""Factor of balanced z-scores, with which as few pairs of terms that no image shows have a match as
without balance; measured in docs/evaluation.md."""

FIRST_DEPTH, DEPTH_FACTOR = 128, 2
"""Depth of the first search, of which others are multiples, and the factor by which each further
one is deeper at least."""

MAX_DEPTH = 100_000
"""Ranks of a ranking; filters narrow what is ranked."""

FEW = 5_000
"""Images that meet a filter up to which all of them are scored (``generation.EXACT_ROWS``)."""

EXPECTED_FACTOR = 1.25
"""Depth of the first search in multiples of the matches that the sample predicts: one deeper search
costs less than two."""

FOLD_BLOCK = 64
"""Ranks are folded in multiples of this."""

FOLD_STEP, FOLD_WINDOW = 512, 1024
"""Ranks whose vectors are read at a time, and ranks before them with which they are compared.
Near-duplicates have similar ranks, and a page costs the same at any offset."""

FOLD_SAMPLE = 128
"""First ranks whose fraction of near-duplicates is extrapolated to a large number of matches."""


@dataclass(frozen=True)
class MatchCount:
    """The number of images that reach the threshold, near-duplicates counted once."""

    count: int
    estimated: bool = False
    """Whether it is an estimate, of two significant digits."""

    @classmethod
    def about(cls, number: float) -> MatchCount:
        """An estimate."""
        count = round(number)
        return cls(round(count, 2 - len(str(count))), estimated=True)


@dataclass(frozen=True)
class WeightedVector:
    """The unit vector of a term, and its weight."""

    vector: NDArray[np.float32]
    weight: float
    is_image: bool


def combine(terms: Sequence[WeightedVector], sample: Embeddings) -> NDArray[np.float32]:
    """The ``(d,)`` unit vector of the weighted sum of ``terms``; see the module's docstring.

    ``sample`` is the library's. Raises ``QueryError`` if the terms cancel each other out.
    """
    if len(terms) == 1 and terms[0].weight > 0:
        return terms[0].vector
    mixed = len({term.is_image for term in terms}) == 2 and len(sample) > 1
    any_positive = any(term.weight > 0 for term in terms)
    total = np.zeros_like(terms[0].vector, np.float64)
    for term in terms:
        weight = term.weight * (NEGATIVE_FACTOR if term.weight < 0 and any_positive else 1.0)
        vector = term.vector.astype(np.float64)
        if mixed:
            deviation = float((sample @ term.vector).std()) or 1.0
            mean = sample.mean(axis=0, dtype=np.float64) if term.is_image else 0.0
            vector = (vector - mean) / deviation
        total += weight * vector
    norm = float(np.linalg.norm(total))
    if norm < 1e-6 * sum(abs(term.weight) for term in terms):
        raise QueryError("the terms of this query cancel each other out")
    return (total / norm).astype(np.float32)


def balanced(scales: Sequence[ScoreScale], best: Scores, *, positive: int) -> list[ScoreScale]:
    """Scales on which the ``best`` score of every term has the same z-score.

    It is ``BALANCED`` times the harmonic mean of those of the ``positive`` first terms (the others
    are negative), at least their lowest; or their lowest if that is below the threshold, so that a
    match reaches the threshold of every term where nothing shows one of them.
    """
    heights = [float(score) - scale.median for score, scale in zip(best, scales, strict=True)]
    z_scores = [
        max(height / scale.deviation, 0.0) for height, scale in zip(heights, scales, strict=True)
    ]
    lowest = common = min(z_scores[:positive])
    threshold = scales[0].threshold
    if threshold is not None and lowest >= threshold:
        common = max(lowest, BALANCED * harmonic_mean(z_scores[:positive]))
    return [
        replace(scale, deviation=height / common) if height > 0 and common > 0 else scale
        for height, scale in zip(heights, scales, strict=True)
    ]


class Ranking:
    """Images in order, read from the front. Safe to use from several threads.

    ``ids``, ``scores`` and ``z_scores`` hold the ranks known so far. Subclasses implement
    ``_search``.
    """

    def __init__(self, library: AnyLibrary, filters: Filters, fold: bool) -> None:
        """``fold``: near-duplicates share one rank of a page."""
        self.ids: Ids = np.empty(0, np.int64)
        self.scores: Scores = np.empty(0, np.float32)
        self.z_scores: Scores = np.empty(0, np.float32)
        self.threshold: float | None = None
        self.complete = False
        """Whether ``ids`` is the whole ranking."""
        self._library = library
        self._filters = filters
        self._fold = fold
        self._lock = threading.RLock()
        self._heads: NDArray[np.int64] = np.empty(0, np.int64)
        """Among the first ``_folded`` ranks, those that are not folded under another."""
        self._folded = 0
        self._duplicates: dict[int, list[int]] = {}
        """Id of a head -> ids of the near-duplicates folded under it."""
        self._shown = 0
        """Ranks that a page has returned."""
        self._sample_matches, self._sample_size = 0.0, 0
        """Matches among the images of the library's sample (``ScoreScale``), and its size."""

    def _search(self, depth: int) -> tuple[Ids, Scores, Scores]:
        """Ids, scores and z-scores of the first ``depth`` ranks; fewer if there are no more."""
        raise NotImplementedError

    def outlasts(self, changes: Changes, new: Ranking) -> bool:
        """Whether ``changes`` of the library leave the known ranks as they are; ``new`` is a
        ranking by the same query after them. False if that is uncertain."""
        return False

    def ensure(self, depth: int) -> None:
        """Searches until the first ``depth`` ranks are known."""
        with self._lock:
            if self.complete or len(self.ids) >= depth:
                return
            step = max(depth, DEPTH_FACTOR * len(self.ids))
            step = min(-(-step // FIRST_DEPTH) * FIRST_DEPTH, MAX_DEPTH)
            ids, scores, z_scores = self._search(step)
            # What has been shown keeps its rank; the rest is as the deeper search ranks it.
            shown = self._shown
            new = ~np.isin(ids, self.ids[:shown])
            self.complete = len(ids) < step or step >= MAX_DEPTH
            self.scores = np.concatenate([self.scores[:shown], scores[new]])
            self.z_scores = np.concatenate([self.z_scores[:shown], z_scores[new]])
            self.ids = np.concatenate([self.ids[:shown], ids[new]])
            self._unfold(shown)

    def page(self, offset: int, k: int) -> list[tuple[int, tuple[int, ...]]]:
        """The folded ranking from ``offset`` to ``offset + k``: for each head its rank (index into
        ``ids``) and the ids of its near-duplicates."""
        with self._lock:
            while (missing := offset + k - len(self._heads)) > 0 and self._fold_more(missing):
                pass
            ranks = self._heads[offset : offset + k].tolist()
            if ranks:
                self._shown = max(self._shown, ranks[-1] + 1)
            return [(rank, tuple(self._duplicates.get(int(self.ids[rank]), ()))) for rank in ranks]

    def order(self) -> tuple[Ids, NDArray[np.int64], int | None]:
        """The ids of the whole ranking, each head followed by its near-duplicates; the ranks of the
        heads; and how many of the heads are matches (None without a threshold)."""
        with self._lock:
            self.ensure(MAX_DEPTH)
            while self._fold_more(FOLD_STEP):
                pass
            heads = self.ids[self._heads].tolist()
            ids = [one for head in heads for one in (head, *self._duplicates.get(head, ()))]
            strong = None
            if self.threshold is not None:
                strong = int((self.z_scores[self._heads] >= self.threshold).sum())
            return np.array(ids, np.int64), self._heads.copy(), strong

    def count_matches(self, exact: int, *, page: int = 0) -> MatchCount | None:
        """Images that reach the threshold, near-duplicates counted once; None without a threshold.

        Counted up to ``exact``; more are estimated from the library's sample, or from the scores of
        the known ranks, and from the fraction of near-duplicates in the first ``FOLD_SAMPLE``
        ranks. ``page``: ranks that are read next in any case, so that one search serves both.
        """
        with self._lock:
            if self.threshold is None:
                return None
            many = self._surely_more_than(exact)
            self.ensure(max(page, FIRST_DEPTH if many else min(exact, self._expected_matches())))
            count, all_known = self._known_matches()
            if not all_known and not many:
                self.ensure(exact)
                count, all_known = self._known_matches()
            countable = all_known and (count <= exact or not self._fold)
            depth = count if countable else min(count, FOLD_SAMPLE)
            while self._folded < depth and self._fold_more(depth - self._folded):
                pass
            heads = int(np.searchsorted(self._heads, depth))
            if countable:
                return MatchCount(heads)
            images = count if all_known else max(count, self._estimate())
            return MatchCount.about(images * heads / depth)

    def match_ids(self, limit: int) -> Ids:
        """The ids of the first matches (of all images without a threshold), up to ``limit``."""
        with self._lock:
            depth = max(1, min(limit, self._expected_matches()))
            while True:
                self.ensure(depth)
                count, all_known = self._known_matches()
                if all_known or depth >= limit:
                    return self.ids[: min(count, limit)]
                depth *= DEPTH_FACTOR

    def _known_matches(self) -> tuple[int, bool]:
        """Matches among the known ranks, and whether these are all."""
        if self.threshold is not None:
            below = self.z_scores < self.threshold
            if below.any():
                return int(np.argmax(below)), True
        return len(self.ids), self.complete

    def _estimate(self) -> float:
        """Matches in the whole library, extrapolated from its sample or, if few of that match, from
        the known ranks, all of which do."""
        possible = self._library.matching(self._filters)
        if self._sample_matches >= MIN_MATCHES:
            return self._sample_matches / self._sample_size * possible
        return min(extrapolated(self.z_scores, self.threshold or 0.0), possible)

    def _expected_matches(self) -> int:
        """Depth at which all matches are probably known. Filtered images may be unlike the sample,
        so nothing is predicted for many of them; few are all scored whatever the depth."""
        if self._filters:
            meeting = self._library.matching(self._filters)
            return meeting if meeting <= FEW else FIRST_DEPTH
        if not self._sample_size:
            return FIRST_DEPTH
        fraction = self._sample_matches / self._sample_size
        return max(FIRST_DEPTH, int(EXPECTED_FACTOR * fraction * self._library.count))

    def _surely_more_than(self, count: int) -> bool:
        """Whether the sample has more matches than ``count`` in the library let expect, by three
        standard deviations of a Poisson distribution. False with filters."""
        if self._filters or not self._library.count:
            return False
        expected = count / self._library.count * self._sample_size
        return self._sample_matches > expected + 3 * expected**0.5

    def _unfold(self, keep: int) -> None:
        """Discards the folding beyond the first ``keep`` ranks."""
        if self._folded <= keep:
            return
        kept = set(self.ids[:keep].tolist())
        remaining = {
            head: [image for image in images if image in kept]
            for head, images in self._duplicates.items()
            if head in kept
        }
        self._duplicates = {head: images for head, images in remaining.items() if images}
        self._heads = self._heads[self._heads < keep]
        self._folded = keep

    def _fold_more(self, count: int) -> bool:
        """Folds at least ``count`` more ranks; False if there are none."""
        start = self._folded
        end = start + -(-count // FOLD_BLOCK) * FOLD_BLOCK
        self.ensure(end)
        end = min(end, len(self.ids))
        while self._folded < end:
            # Steps end at multiples of FOLD_STEP, so that what an image is compared with does not
            # depend on the sizes of the pages before.
            first = self._folded
            step = first - first % FOLD_STEP
            last = min(end, step + FOLD_STEP)
            ids = heads = self.ids[first:last]
            if self._fold:
                window = self._heads[np.searchsorted(self._heads, step - FOLD_WINDOW) :]
                before = self.ids[window]
                # Read again for every step: a cached ranking holds no vectors.
                vectors = self._library.vectors(np.concatenate([before, ids]))
                vectors[np.isnan(vectors[:, 0])] = 0  # deleted since it was ranked
                known, own = vectors[: len(before)], vectors[len(before) :]
                heads = near_duplicates.fold(ids, own, self._hashes, before=(before, known))
            for index in np.flatnonzero(heads != ids).tolist():
                self._duplicates.setdefault(int(heads[index]), []).append(int(ids[index]))
            self._heads = np.concatenate([self._heads, first + np.flatnonzero(heads == ids)])
            self._folded = last
        return end > start

    def _hashes(self, ids: Ids) -> dict[int, int | None]:
        return near_duplicates.hashes_of(self._library.images(ids.tolist()))


class ListedRanking(Ranking):
    """Images in a given order: by date, random."""

    def __init__(
        self,
        library: AnyLibrary,
        ids: Ids,
        fold: bool,
        *,
        scores: Scores | None = None,
        z_scores: Scores | None = None,
        threshold: float | None = None,
    ) -> None:
        """Scores and z-scores are 0 unless given."""
        super().__init__(library, Filters(), fold)
        self.ids = ids
        self.scores = np.zeros(len(ids), np.float32) if scores is None else scores
        self.z_scores = np.zeros(len(ids), np.float32) if z_scores is None else z_scores
        self.threshold = threshold
        self.complete = True


class CosineRanking(Ranking):
    """By the cosine to one vector."""

    def __init__(
        self,
        library: AnyLibrary,
        filters: Filters,
        fold: bool,
        vector: NDArray[np.float32],
        scale: ScoreScale,
        *,
        is_image: bool = False,
        itself: int | None = None,
    ) -> None:
        """``scale`` is that of the vector's cosines to the library's sample. ``is_image``: the
        vector is one image's own; ``itself``: the id of that image, if it is in the library."""
        super().__init__(library, filters, fold)
        self._vector = vector
        self._scale = scale
        self._is_image = is_image
        self._itself = itself
        self.threshold = scale.threshold
        self._sample_matches, self._sample_size = scale.matches, scale.size
        self._lowest = np.float32(-np.inf)
        """Cosine below which an image is in none of the known ranks."""

    def outlasts(self, changes: Changes, new: Ranking) -> bool:
        # What meets filters can change without an embedding.
        if self._filters or not isinstance(new, CosineRanking) or type(new) is not type(self):
            return False
        if new._scale != self._scale:
            return False
        with self._lock:
            if np.isin(self.ids, np.concatenate([changes.ids, changes.removed])).any():
                return False
            return bool((changes.vectors @ self._vector < self._lowest - ROUNDING).all())

    def _search(self, depth: int) -> tuple[Ids, Scores, Scores]:
        scores, ids = self._library.nearest(self._vector[None], depth, filters=self._filters)
        self._lowest = scores[0, -1]
        found = ids[0] >= 0
        ids, scores = ids[0][found], np.minimum(scores[0][found], 1)
        if self._itself is not None and self._itself in ids:
            # Stored vectors are rounded; a copy must not be ranked before the image itself.
            rest = ids != self._itself
            ids = np.concatenate([[self._itself], ids[rest]])
            scores = np.concatenate([np.ones(1, np.float32), scores[rest]])
        z_scores = self._scale.z_scores(scores)
        if self._is_image:
            # The image itself is a match even if the whole library looks like it.
            same = scores >= SAME_IMAGE
            z_scores[same] = np.maximum(z_scores[same], (self.threshold or 0) + SAME_IMAGE_MARGIN)
        return ids, scores, z_scores


class MatchAllRanking(Ranking):
    """By the lowest z-score of several terms, on ``balanced`` scales."""

    def __init__(
        self,
        library: AnyLibrary,
        filters: Filters,
        fold: bool,
        terms: Sequence[WeightedVector],
    ) -> None:
        """``terms``: of their weights only the signs count."""
        super().__init__(library, filters, fold)
        sample = library.sample()
        positive = [term.vector for term in terms if term.weight > 0]
        negative = [term.vector for term in terms if term.weight < 0]
        self._positive = len(positive)
        self._vectors = np.stack([*positive, *negative])
        cosines = self._vectors @ sample.T
        # An image that is searched with must not be the best one if it happens to be sampled.
        best = np.where(cosines < SAME_IMAGE, cosines, -1).max(axis=1, initial=-1)
        scales = [ScoreScale.of(row) for row in cosines]
        self._scales = balanced(scales, best, positive=self._positive)
        self.threshold = threshold = self._scales[0].threshold
        self._sample_size = len(sample)
        if threshold is not None:
            self._sample_matches = expected_matches(self._rate(sample)[1], threshold)

    def _rate(self, vectors: Embeddings) -> tuple[Scores, Scores]:
        """Score (lowest cosine of the positive terms) and z-score of each of ``vectors``."""
        cosines = vectors @ self._vectors.T
        z_scores = np.stack(
            [scale.z_scores(cosines[:, n]) for n, scale in enumerate(self._scales)], axis=1
        )
        lowest = z_scores[:, : self._positive].min(axis=1)
        # A negative term subtracts its z-score where that is positive, and never adds.
        for n in range(self._positive, len(self._scales)):
            lowest = lowest - np.maximum(z_scores[:, n], 0)
        return cosines[:, : self._positive].min(axis=1), lowest

    def _search(self, depth: int) -> tuple[Ids, Scores, Scores]:
        positive = self._vectors[: self._positive]
        depth_per_term = min(2 * depth, MAX_DEPTH)
        while True:
            scores, ids = self._library.nearest(positive, depth_per_term, filters=self._filters)
            seen_all = bool((ids < 0).any()) or depth_per_term >= MAX_DEPTH
            candidates = np.unique(ids[ids >= 0])
            lowest, z_scores = self._rate(self._library.vectors(candidates))
            present = ~np.isnan(z_scores)
            candidates, lowest, z_scores = candidates[present], lowest[present], z_scores[present]
            order = np.lexsort((candidates, -z_scores))[:depth]
            if not seen_all:
                bounds = [
                    self._scales[n].z_scores(scores[n, -1:])[0] for n in range(self._positive)
                ]
                exact = len(order) == depth and z_scores[order[-1]] >= min(bounds)
            if seen_all or exact:
                return candidates[order], lowest[order], z_scores[order]
            depth_per_term = min(depth_per_term * 4, MAX_DEPTH)


class ExactTextFirst(Ranking):
    """A ranking by terms in which images with the exact words of ``text:`` filters come first among
    the matches, and first among the rest; others have a reading error."""

    def __init__(
        self, library: AnyLibrary, filters: Filters, fold: bool, every: Ranking, exact: Ranking
    ) -> None:
        """``every``: of all images that meet ``filters``; ``exact``: of those with exact words."""
        super().__init__(library, filters, fold)
        self._every, self._exact = every, exact
        self.threshold = every.threshold

    def _search(self, depth: int) -> tuple[Ids, Scores, Scores]:
        every, exact = self._every, self._exact
        every.ensure(depth)
        exact.ensure(depth)
        rest = ~np.isin(every.ids, exact.ids)
        ids = np.concatenate([exact.ids, every.ids[rest]])
        scores = np.concatenate([exact.scores, every.scores[rest]])
        z_scores = np.concatenate([exact.z_scores, every.z_scores[rest]])
        below = np.zeros(len(ids), bool)
        if self.threshold is not None:
            below = z_scores < self.threshold
        order = np.argsort(below, kind="stable")[:depth]
        return ids[order], scores[order], z_scores[order]
