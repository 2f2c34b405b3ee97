"""Rankings: the library in the order of a query, computed as deep as it is looked at.

A ranking is kept while people page through it, so that the next page continues the one before:
asking an approximate index for 2,000 neighbours may turn up a picture that asking for 200 missed,
and it then goes to the end of what was already shown, not into the middle.

**One kind of term.** The unit vectors are added by weight: ``sum(w * v)``. Terms that turn away
count ``TURN_AWAY`` of their weight: a caption of Flickr8k minus another one keeps its picture among
the first ten for .72 of the pairs at full weight, for .87 at half (.90 without the other), while
the other's picture is gone from the first ten in both cases (.00).

**Words and pictures together.** Text and image vectors lie in different cones, and cosines between
two pictures spread three times as wide as those between a text and a picture: a plain sum is the
picture's own search. So the mean of the library is taken off the picture, and each kind is divided
by the spread of its scores over the library's sample. Measured on Flickr8k, a picture and the
caption of one of its 20 nearest, recall@10 of that one: plain sum .65, centred .84, centred and
spread .92, the caption alone .90; with a caption of a picture from the far half of the library:
.04, .04, .47 (a query that is about both).

**All terms must fit.** Each term's scores are put on the same scale (``relevance.Scale``) and a
picture counts by its worst term. That is exact: a picture in no term's first D stands, in every
term, no higher than the D-th one, so once the wanted number of pictures stand above the lowest of
these bounds, nothing outside can push them away (Fagin's threshold algorithm); until then D grows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.errors import QueryError
from sightline.indexer.types import Embeddings, Filters, Ids
from sightline.server.search import near_duplicates
from sightline.server.search.relevance import SAME, SURE, Scale

if TYPE_CHECKING:
    from sightline.indexer.library.interface import AnyLibrary

Scores = NDArray[np.float32]
Sampled = Callable[[NDArray[np.float32]], Scores]

TURN_AWAY = 0.5
"""Share of its weight with which a negative term counts beside positive ones."""

FIRST, DEEPER = 128, 2
"""Depth of a first look, and how many times deeper each further one goes."""

SPARE = 1.25
"""Times the good matches that the sample lets expect, which are looked for at once: a second look
costs more than a deeper first one."""

DEEPEST = 100_000
"""Places of a ranking. Nobody looks further; filters narrow what is ranked."""

BLOCK = 64
"""Places are folded in multiples of this."""

STEP, WINDOW = 512, 1024
"""Places whose vectors are fetched at a time, and how many before them they may be folded under:
shots that look the same stand close to each other in every ranking, and what a page costs does not
grow with the pages before it."""

FOLDED = 128
"""Places from which it is told how many of a large number are near-identical shots."""


@dataclass(frozen=True)
class Weighted:
    """A term that has become a vector."""

    vector: NDArray[np.float32]
    weight: float
    picture: bool


def combine(terms: Sequence[Weighted], sample: Embeddings) -> NDArray[np.float32]:
    """The one ``(d,)`` unit vector that stands for all ``terms``; see the module's text.

    ``sample`` is the library's. Raises ``QueryError`` when the terms cancel each other out.
    """
    if len(terms) == 1 and terms[0].weight > 0:
        return terms[0].vector
    mixed = len({term.picture for term in terms}) == 2 and len(sample) > 1
    anything = any(term.weight > 0 for term in terms)
    total = np.zeros_like(terms[0].vector, np.float64)
    for term in terms:
        weight = term.weight * (TURN_AWAY if term.weight < 0 and anything else 1.0)
        vector = term.vector.astype(np.float64)
        if mixed:
            spread = float((sample @ term.vector).std()) or 1.0
            centre = sample.mean(axis=0, dtype=np.float64) if term.picture else 0.0
            vector = (vector - centre) / spread
        total += weight * vector
    norm = float(np.linalg.norm(total))
    if norm < 1e-6 * sum(abs(term.weight) for term in terms):
        raise QueryError("the terms of this query cancel each other out")
    return (total / norm).astype(np.float32)


def comparing(library: AnyLibrary, sampled: Sampled | None) -> Sampled:
    """What gives the cosines of the library's sample to a vector: ``sampled``, or a product. No
    ranking keeps it: whoever remembers cosines remembers rankings too."""
    return sampled or library.sample().__matmul__


class Ranking:
    """Images in some order, looked at from the front. Safe to use from several threads.

    ``more(depth)`` gives the first ``depth`` of it, or all there is.
    """

    def __init__(self, library: AnyLibrary, filters: Filters, fold: bool) -> None:
        self.ids: Ids = np.empty(0, np.int64)
        self.scores: Scores = np.empty(0, np.float32)
        self.standing: Scores = np.empty(0, np.float32)
        self.line: float | None = None
        self.whole = False
        """Whether ``ids`` is all there is."""
        self._library = library
        self._filters = filters
        self._fold = fold
        self._lock = threading.RLock()
        self._alone: Ids = np.empty(0, np.int64)
        """Places that are not folded under another, among the first ``_folded_upto``."""
        self._folded_upto = 0
        self._shown = 0
        """Places of which somebody was told."""
        self._under: dict[int, list[int]] = {}
        self._good_of_sample = 0, 0
        """How many pictures of the library's sample stand on or above the line, of how many."""

    def _look(self, depth: int) -> tuple[Ids, Scores, Scores]:
        """The first ``depth``: ids, scores, standings."""
        raise NotImplementedError

    def upto(self, depth: int) -> None:
        """Makes sure that the first ``depth`` are known."""
        with self._lock:
            if self.whole or len(self.ids) >= depth:
                return
            step = FIRST
            while step < depth:
                step *= DEEPER
            step = min(step, DEEPEST)
            ids, scores, standing = self._look(step)
            # What has been shown stays where it was; the rest is as this deeper look has it.
            shown = self._shown
            new = ~np.isin(ids, self.ids[:shown])
            self.whole = len(ids) < step or step >= DEEPEST
            self.scores = np.concatenate([self.scores[:shown], scores[new]])
            self.standing = np.concatenate([self.standing[:shown], standing[new]])
            self.ids = np.concatenate([self.ids[:shown], ids[new]])
            self._unfold(shown)

    def page(self, offset: int, k: int) -> list[tuple[int, tuple[int, ...]]]:
        """Places ``offset`` to ``offset + k`` of the folded ranking: each one's place among
        ``ids``, and the ids of the near-identical shots folded under it."""
        with self._lock:
            while (missing := offset + k - len(self._alone)) > 0 and self._fold_more(missing):
                pass
            places = self._alone[offset : offset + k].tolist()
            if places:
                self._shown = max(self._shown, places[-1] + 1)
            return [(place, tuple(self._under.get(int(self.ids[place]), ()))) for place in places]

    def good(self, exact: int, *, page: int = 0) -> int | None:
        """How many places stand on or above the line; None without a line. Counted where there
        are up to ``exact``, otherwise counted on: from the library's sample, and from how many of
        the first ``FOLDED`` are shots of something that is there already. ``page``: places that
        will be wanted in any case, so that one look does for both."""
        with self._lock:
            if self.line is None:
                return None
            raw, counted = self._raw_good(exact, page)
            looked = raw if counted and raw <= exact else min(raw, FOLDED)
            while self._folded_upto < looked and self._fold_more(looked - self._folded_upto):
                pass
            alone = int(np.searchsorted(self._alone, looked))
            if counted and raw <= exact:
                return alone
            return round((raw if counted else max(raw, self._estimate())) * alone / looked)

    def _raw_good(self, exact: int, page: int) -> tuple[int, bool]:
        """How many of the known places stand on or above the line, near-identical shots one by
        one, and whether that is all of them: looked for to ``exact`` places, unless the sample
        says that there are more."""
        more = self._surely_more_than(exact)
        self.upto(max(page, FIRST if more else min(exact, self._expected())))
        raw, counted = self._above()
        if not counted and not more:
            self.upto(exact)
            raw, counted = self._above()
        return raw, counted

    def _above(self) -> tuple[int, bool]:
        """How many of the known places stand on or above the line, and whether no others do."""
        assert self.line is not None
        below = self.standing < self.line
        if below.any():
            return int(np.argmax(below)), True
        return len(self.ids), self.whole

    def good_ids(self, most: int) -> Ids:
        """The ids on or above the line (all, without one), at most ``most`` of them."""
        with self._lock:
            depth = min(most, self._expected())
            while True:
                self.upto(depth)
                below = (
                    self.standing < self.line
                    if self.line is not None
                    else np.zeros(len(self.ids), bool)
                )
                if below.any() or self.whole or depth >= most:
                    end = int(np.argmax(below)) if below.any() else len(self.ids)
                    return self.ids[: min(end, most)]
                depth *= DEEPER

    def _counted(self, standing: Scores) -> tuple[int, int]:
        """How many of these stand on or above the line, of how many."""
        return int((standing >= (self.line or 0)).sum()), len(standing)

    def _estimate(self) -> int:
        """Good pictures of the whole library, from its sample."""
        found, of = self._good_of_sample
        return round(found / of * self._library.matching(self._filters)) if found else 0

    def _expected(self) -> int:
        """Places to look at first: those of the good matches, and some to spare. What meets a
        filter may be unlike the rest, so nothing is expected of it."""
        found, of = self._good_of_sample
        if self._filters or not of:
            return FIRST
        # Where none is in the sample, half of one might have been.
        return max(FIRST, int(SPARE * (found + 0.5) / of * self._library.count))

    def _surely_more_than(self, count: int) -> bool:
        """Whether the sample shows that more than ``count`` are good: by three times the deviation
        of a count (Poisson's). What meets a filter is looked at."""
        found, of = self._good_of_sample
        if self._filters or not found:
            return False
        return (found - 3 * found**0.5) / of * self._library.count > count

    def _unfold(self, upto: int) -> None:
        """Forgets what was folded beyond the first ``upto`` places."""
        if self._folded_upto <= upto:
            return
        kept = set(self.ids[:upto].tolist())
        under = {head: [one for one in some if one in kept] for head, some in self._under.items()}
        self._under = {head: some for head, some in under.items() if some and head in kept}
        self._alone = self._alone[self._alone < upto]
        self._folded_upto = upto

    def _fold_more(self, count: int) -> bool:
        """Folds ``count`` more places or some more; False where there are none."""
        start = self._folded_upto
        end = start + -(-count // BLOCK) * BLOCK
        self.upto(end)
        end = min(end, len(self.ids))
        while self._folded_upto < end:
            first = self._folded_upto
            # Not beyond the next multiple of STEP: so what each place is compared with does not
            # depend on how the pages before it were cut.
            last = min(end, first - first % STEP + STEP)
            self._fold_step(first, last)
            self._folded_upto = last
        return end > start

    def _fold_step(self, first: int, last: int) -> None:
        """Folds the places from ``first`` to ``last`` under each other and under those that stand
        alone among the ``WINDOW`` or more before them."""
        ids = self.ids[first:last]
        under = ids
        if self._fold:
            since = np.searchsorted(self._alone, first - first % STEP - WINDOW)
            # Their vectors are fetched anew for every page, and not kept as long as the ranking.
            before = self.ids[self._alone[since:]]
            vectors = self._library.vectors(np.concatenate([before, ids]))
            # A picture that left since it was ranked has no vector.
            vectors[np.isnan(vectors[:, 0])] = 0
            known, own = vectors[: len(before)], vectors[len(before) :]
            under = near_duplicates.fold(ids, own, self._hashes, before=(before, known))
        for place in np.flatnonzero(under != ids).tolist():
            self._under.setdefault(int(under[place]), []).append(int(ids[place]))
        self._alone = np.concatenate([self._alone, first + np.flatnonzero(under == ids)])

    def _hashes(self, ids: Ids) -> dict[int, int | None]:
        return {record.id: record.phash for record in self._library.images(ids.tolist())}


class Listed(Ranking):
    """Images in an order that is known already: by date, at random."""

    def __init__(self, library: AnyLibrary, ids: Ids, fold: bool) -> None:
        super().__init__(library, Filters(), fold)
        self.ids = ids
        self.scores = np.zeros(len(ids), np.float32)
        self.standing = np.zeros(len(ids), np.float32)
        self.whole = True


class Nearest(Ranking):
    """By the cosine to one vector."""

    def __init__(
        self,
        library: AnyLibrary,
        filters: Filters,
        fold: bool,
        vector: NDArray[np.float32],
        *,
        picture: bool = False,
        itself: int | None = None,
        fits: float | None = None,
        sampled: Sampled | None = None,
    ) -> None:
        """``picture``: the vector is one picture's own; ``itself``: the picture of the library
        that it belongs to; ``fits``: the cosine that means a match, where it is known;
        ``sampled`` gives the cosines of the library's sample to a vector."""
        super().__init__(library, filters, fold)
        self._vector = vector
        self._picture = picture
        self._itself = itself
        of_sample = comparing(library, sampled)(vector)
        self._scale = Scale.of(of_sample, fits)
        self.line = self._scale.line
        self._good_of_sample = self._counted(self._scale.standing(of_sample))

    def _look(self, depth: int) -> tuple[Ids, Scores, Scores]:
        scores, ids = self._library.nearest(self._vector[None], depth, filters=self._filters)
        found = ids[0] >= 0
        ids, scores = ids[0][found], np.minimum(scores[0][found], 1)
        if self._itself is not None and self._itself in ids:
            # Kept vectors are rounded, and the rounding must not put a copy before the picture.
            rest = ids != self._itself
            ids = np.concatenate([[self._itself], ids[rest]])
            scores = np.concatenate([np.ones(1, np.float32), scores[rest]])
        standing = self._scale.standing(scores)
        if self._picture:
            # The picture itself fits, also where a whole library looks like it.
            same = scores >= SAME
            standing[same] = np.maximum(standing[same], (self.line or 0) + SURE)
        return ids, scores, standing


class AllOf(Ranking):
    """By the worst of several terms."""

    def __init__(
        self, library: AnyLibrary, filters: Filters, fold: bool, terms: Sequence[Weighted]
    ) -> None:
        super().__init__(library, filters, fold)
        sample = library.sample()
        # Turned round, a term that turns away is one more that must fit: by not being there.
        self._towards = [term for term in terms if term.weight > 0]
        self._away = [term for term in terms if term.weight < 0]
        self._vectors = np.stack([term.vector for term in [*self._towards, *self._away]])
        self._scales = [Scale.of(sample @ vector) for vector in self._vectors]
        self.line = self._scales[0].line
        self._good_of_sample = self._counted(self._judge(sample)[1])

    def _judge(self, vectors: Embeddings) -> tuple[Scores, Scores]:
        """Score (the lowest cosine among the terms) and standing of each of ``vectors``."""
        cosines = vectors @ self._vectors.T
        standings = np.stack(
            [scale.standing(cosines[:, n]) for n, scale in enumerate(self._scales)], axis=1
        )
        count = len(self._towards)
        worst = standings[:, :count].min(axis=1)
        # What turns away takes off as far as it stands out, and never adds.
        for n in range(count, len(self._scales)):
            worst = worst - np.maximum(standings[:, n], 0)
        return cosines[:, :count].min(axis=1), worst

    def _look(self, depth: int) -> tuple[Ids, Scores, Scores]:
        reach = min(2 * depth, DEEPEST)
        count = len(self._towards)
        while True:
            scores, ids = self._library.nearest(self._vectors[:count], reach, filters=self._filters)
            # The library may have fewer pictures than asked for: then all of them were seen.
            seen_all = bool((ids < 0).any()) or reach >= DEEPEST
            candidates = np.unique(ids[ids >= 0])
            lowest, standing = self._judge(self._library.vectors(candidates))
            there = ~np.isnan(standing)
            candidates, lowest, standing = candidates[there], lowest[there], standing[there]
            order = np.lexsort((candidates, -standing))[:depth]
            if not seen_all:
                bounds = [self._scales[n].standing(scores[n, -1:])[0] for n in range(count)]
                sure = len(order) == depth and standing[order[-1]] >= min(bounds)
            if seen_all or sure:
                return candidates[order], lowest[order], standing[order]
            reach = min(reach * 4, DEEPEST)
