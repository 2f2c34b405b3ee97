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

from indexer.errors import QueryError
from indexer.types import Embeddings, Filters, Ids
from server import near_duplicates
from server.relevance import SAME, SURE, Scale

if TYPE_CHECKING:
    from indexer.library_interface import AnyLibrary

Scores = NDArray[np.float32]

TURN_AWAY = 0.5
"""Share of its weight with which a negative term counts beside positive ones."""

FIRST, DEEPER = 256, 8
"""Depth of a first look, and how many times deeper each further one goes."""

DEEPEST = 100_000
"""Places of a ranking. Nobody looks further; filters narrow what is ranked."""

BLOCK = 128
"""Pictures that are folded at a time; fixed, so that pages do not depend on their size."""


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
        self._places: list[int] = []
        self._folded_upto = 0
        self._under: dict[int, list[int]] = {}
        self._heads: tuple[Ids, Embeddings] | None = None

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
            # What has been shown stays where it was.
            new = ~np.isin(ids, self.ids)
            self.whole = len(ids) < step or step >= DEEPEST
            self.scores = np.concatenate([self.scores, scores[new]])
            self.standing = np.concatenate([self.standing, standing[new]])
            self.ids = np.concatenate([self.ids, ids[new]])

    def page(self, offset: int, k: int) -> list[tuple[int, tuple[int, ...]]]:
        """Places ``offset`` to ``offset + k`` of the folded ranking: each one's place among
        ``ids``, and the ids of the near-identical shots folded under it."""
        with self._lock:
            self._fold_until(lambda: len(self._places) >= offset + k)
            return [
                (place, tuple(self._under.get(int(self.ids[place]), ())))
                for place in self._places[offset : offset + k]
            ]

    def good(self, exact: int) -> int | None:
        """How many places stand on or above the line; None without a line. Counted where there
        are up to ``exact``, otherwise counted on from the library's sample by ``_estimate``."""
        with self._lock:
            if self.line is None:
                return None
            self.upto(1)
            below = self.standing < self.line
            if not below.any() and not self.whole:
                self.upto(exact)
                below = self.standing < self.line
            raw = int(np.argmax(below)) if below.any() else len(self.ids)
            self._fold_until(lambda: self._folded_upto >= min(raw, exact))
            above = set(self.ids[:raw].tolist())
            folded = sum(image in above for others in self._under.values() for image in others)
            if not below.any() and not self.whole:
                raw = max(raw, self._estimate())
            return max(raw - folded, 0)

    def good_ids(self, most: int) -> Ids:
        """The ids on or above the line (all, without one), at most ``most`` of them."""
        with self._lock:
            depth = FIRST
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

    def _estimate(self) -> int:
        """Good pictures of the whole library, from its sample."""
        return 0

    def _fold_until(self, enough: Callable[[], bool]) -> None:
        """Folds block after block until ``enough()`` or the end."""
        while not enough():
            start = self._folded_upto
            self.upto(start + BLOCK)
            block = self.ids[start : start + BLOCK]
            if not len(block):
                return
            if self._fold:
                vectors = self._library.vectors(block)
                # A picture that left since it was ranked has no vector.
                vectors[np.isnan(vectors[:, 0])] = 0
                folded = near_duplicates.fold(block, vectors, self._hashes, before=self._heads)
                self._heads = near_duplicates.heads(folded, block, vectors)
            else:
                folded = [(int(image), int(image)) for image in block]
            for place, (image, under) in enumerate(folded, start):
                if image == under:
                    self._places.append(place)
                else:
                    self._under.setdefault(under, []).append(image)
            self._folded_upto = start + len(block)

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
    ) -> None:
        """``picture``: the vector is one picture's own; ``itself``: the picture of the library
        that it belongs to; ``fits``: the cosine that means a match, where it is known."""
        super().__init__(library, filters, fold)
        sample = library.sample()
        self._vector = vector
        self._picture = picture
        self._itself = itself
        self._sampled = sample @ vector
        self._scale = Scale.of(self._sampled, fits)
        self.line = self._scale.line

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

    def _estimate(self) -> int:
        good = float((self._scale.standing(self._sampled) >= (self.line or 0)).mean())
        return round(good * self._library.matching(self._filters))


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
        self._sampled = self._judge(sample)[1]

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

    def _estimate(self) -> int:
        good = float((self._sampled >= (self.line or 0)).mean())
        return round(good * self._library.matching(self._filters))
