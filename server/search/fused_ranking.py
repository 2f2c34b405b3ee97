"""What is seen and what is written, in one ranking.

File and folder names, titles, captions, keywords, places and dates (``full_text``) say
things that are not in the pixels: "germany 2019 castle". Two rankings answer such a query, by the
cosine and by how telling the words are that a picture has of it (their inverse document frequency,
as in bm25), and they are fused by reciprocal rank: ``1 / (10 + rank)`` is added up (G. Cormack, C.
Clarke, S. Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning
Methods", SIGIR 2009).

*Ties.* Everything in one folder has the same words, so pictures of equal words share the mean of
their ranks: a word that names one file says much, and a word that names half of the library, the
root's own name say, next to nothing.

*The line.* A picture whose words hold every telling word of the query is a match, whatever it
looks like: a person wrote that. One that is found by names and numbers ("germany", "2019": what is
no word for what can be seen, and so says little to a model) has explained those, and is looked at
with the rest of the query, "castle"; where that fits, the whole fits. Such pictures come first,
then what only looks like it, then the rest, each by the fused rank: an unfit picture called
``dog.jpg`` does not come between the dogs.

``benchmarks/words.py`` measures it; ``docs/evaluation.md`` has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.catalog.full_text import STOP_WORDS
from sightline.indexer.types import Filters, Ids
from sightline.server.search.common_words import seen_words
from sightline.server.search.ranking import Nearest, Sampled, Scores, comparing
from sightline.server.search.relevance import Scale

if TYPE_CHECKING:
    from sightline.indexer.library.interface import AnyLibrary

CONSTANT = 10
"""The paper has 60, and finds little difference from 10 on. Here there is some: with 60 the first
places differ by so little that any word turns them round (.507 instead of .693 in the last row of
``docs/evaluation.md``; the other rows are the same)."""

MOST = 10_000
"""Pictures that hold all words of a query, at most: the first by id."""

COMMON = 2_000
"""A word that more pictures have says little of any: it counts only beside all the others. That
bounds what a search takes, also where a caption stands beside each of a million pictures."""

WORDS = 12
"""Words of a query that are looked for."""

SEEN = 0.2
"""What words count that everyday captions have too: a model sees these by itself, and what lies in
"Red Car Club" is not all red cars."""

WRITTEN = 1.0
"""Spreads above the line at which a picture stands that is a match by its words."""

_MARKS = ".,;:!?()[]'"
_NOBODY: Ids = np.empty(0, np.int64)
_ALL = 1000.0
"""More than all words of a query tell together."""


class Written:
    """The pictures that the words of a text find, and what is left of the text for them."""

    def __init__(
        self,
        ids: Ids,
        ranks: NDArray[np.float64],
        weight: float,
        whole: Ids,
        named: Ids,
        rest: str,
        all_named: bool,
    ) -> None:
        """``ids`` sorted, the rank of each, and what a rank counts beside that by what is seen;
        those whose words hold all of the text's; and, sorted
        too, those of which names and numbers of the text (``all_named``: all there are) are known,
        so that ``rest`` is left."""
        self.ids = ids
        self.ranks = ranks
        self.weight = weight
        self.whole = whole
        self.named = named
        self.rest = rest
        self.all_named = all_named

    @classmethod
    def find(cls, library: AnyLibrary, text: str, filters: Filters) -> Written | None:
        """Of the pictures of ``library`` that meet ``filters``; None when there are none."""
        tokens = [t for t in dict.fromkeys(text.split()) if _is_telling(t)][:WORDS]
        most = MOST if len(tokens) == 1 else COMMON + 1
        held = {token: library.holding_words(token, most) for token in tokens}
        held = {token: ids for token, ids in held.items() if len(ids)}
        if not held:
            return None
        everywhere = len(held) == len(tokens)
        whole = _NOBODY
        if everywhere:
            joint = " ".join(tokens)
            whole = held[joint] if joint in held else library.holding_words(joint, MOST)
        rare = {token: ids for token, ids in held.items() if len(ids) <= COMMON}
        together = whole
        if not everywhere and len(rare) < len(held):
            # Some words are nowhere, and others in many places: those that hold all the others.
            together = library.holding_words(" ".join(held), MOST)
        ids = np.unique(np.concatenate([together, *rare.values()]))
        if filters and len(ids):
            ids = np.intersect1d(ids, library.select(filters))
        if not len(ids):
            return None
        scores = np.zeros(len(ids))
        for found in rare.values():
            scores[np.isin(ids, found)] += _telling(len(found), library.count)
        scores[np.isin(ids, together)] += _ALL
        _, group, sizes = np.unique(-scores, return_inverse=True, return_counts=True)
        means = np.cumsum(sizes) - (sizes - 1) / 2
        named = _named(library, text, tokens, rare, ids)
        weight = 1.0 if any(_word(token) not in seen_words() for token in held) else SEEN
        return cls(ids, means[group], weight, np.intersect1d(ids, whole), *named)

    def __len__(self) -> int:
        return len(self.ids)

    def parts(self, ids: Ids) -> NDArray[np.float64]:
        """What each of ``ids`` gets for its words: its reciprocal rank, or 0."""
        place = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        parts = self.weight / (CONSTANT + self.ranks[place])
        return np.where(self.ids[place] == ids, parts, 0.0)


def _word(token: str) -> str:
    return token.strip(_MARKS).lower()


def _is_telling(token: str) -> bool:
    return bool(_word(token)) and _word(token) not in STOP_WORDS


def _telling(found: int, count: int) -> float:
    """Inverse document frequency, as bm25 has it, never nothing."""
    return max(math.log((count - found + 0.5) / (found + 0.5)), 0.01)


def _named(
    library: AnyLibrary, text: str, tokens: Sequence[str], rare: Mapping[str, Ids], ids: Ids
) -> tuple[Ids, str, bool]:
    """Those of ``ids`` that hold the names and numbers among ``tokens`` (or most of them), ``text``
    without these, and whether that is all of them; no ids, and nothing, where there are no such
    names or nothing else."""
    names = [t for t in tokens if _word(t) not in seen_words()]
    nothing: tuple[Ids, str, bool] = _NOBODY, "", False
    if not names or len(names) == len(tokens):
        return nothing
    known = names
    found = np.intersect1d(ids, library.holding_words(" ".join(names), MOST))
    if not len(found):
        counts = sum((np.isin(ids, rare[t]) for t in names if t in rare), np.zeros(len(ids)))
        if not counts.max():
            return nothing
        found = ids[counts == counts.max()]
        # Pictures of several places may hold as many of the names: what they all hold counts.
        known = [t for t in names if t in rare and np.isin(found, rare[t]).all()]
    if not known or len(found) > library.count / 2:
        return (
            nothing  # what most pictures share, the root's own name say, tells none of them apart
        )
    rest = [token for token in text.split() if token not in known]
    while rest and not _is_telling(rest[0]):
        rest.pop(0)
    while rest and not _is_telling(rest[-1]):
        rest.pop()
    return (found, " ".join(rest), known == names) if rest else nothing


class Fused(Nearest):
    """By the cosine to one vector, and by words."""

    def __init__(
        self,
        library: AnyLibrary,
        filters: Filters,
        fold: bool,
        vector: NDArray[np.float32],
        written: Written,
        *,
        rest: NDArray[np.float32] | None = None,
        fits: float | None = None,
        sampled: Sampled | None = None,
    ) -> None:
        """``written``: what the query's words find; ``rest``: the vector of what is left of the
        query for the pictures whose names are known."""
        super().__init__(library, filters, fold, vector, fits=fits, sampled=sampled)
        self._written = written
        self._rest = rest
        if rest is not None:
            self._rest_scale = Scale.of(comparing(library, sampled)(rest), fits)

    def _look(self, depth: int) -> tuple[Ids, Scores, Scores]:
        written = self._written
        seen, scores, standing = super()._look(depth)
        # Of what has the words: the nearest, and the first by the words.
        found = [seen, self._near(self._vector, written.ids, depth)]
        found.append(written.ids[np.argsort(written.ranks, kind="stable")[:depth]])
        if self._rest is not None:
            found.append(self._near(self._rest, written.named, depth))
        ids = np.unique(np.concatenate(found))
        vectors = self._library.vectors(ids)
        there = ~np.isnan(vectors[:, 0])
        ids, vectors = ids[there], vectors[there]
        scores = np.minimum(vectors @ self._vector, 1)
        standing = self._scale.standing(scores)
        line = self.line if self.line is not None else 0.0
        whole = np.isin(ids, written.whole)
        if self._rest is not None:
            named = np.isin(ids, written.named)
            fitting = self._rest_scale.standing(vectors @ self._rest)
            # On the scale of the whole query's: what is as far from its line.
            fitting += np.float32(line - (self._rest_scale.line or 0.0))
            standing[named] = np.maximum(standing[named], fitting[named])
            if self.line is not None and written.all_named:
                whole |= named & (fitting >= line)
        rank = np.empty(len(ids))
        rank[np.lexsort((ids, -standing))] = np.arange(1, len(ids) + 1)
        fused = 1 / (CONSTANT + rank) + written.parts(ids)
        standing[whole] = np.maximum(standing[whole], line + WRITTEN)
        good = standing >= line if self.line is not None else np.ones(len(ids), bool)
        order = np.lexsort((ids, -scores, -fused, ~whole, ~good))[:depth]
        return ids[order], scores[order], standing[order]

    def _near(self, vector: NDArray[np.float32], among: Ids, k: int) -> Ids:
        """The ``k`` of ``among`` that are nearest to ``vector``."""
        if not len(among):
            return among
        _, ids = self._library.nearest(vector[None], k, among=among)
        return ids[0][ids[0] >= 0]

    def _estimate(self) -> int:
        return max(super()._estimate(), len(self._written.whole))
