"""Cosine and full text in one ranking, fused by reciprocal rank.

File and folder names, titles, captions, keywords, places and dates say what pixels do not:
``germany 2019 castle``. Such a query has two rankings, by cosine and by the summed inverse document
frequency of its words in an image's text, and each image gets ``1 / (10 + rank)`` from both
(G. Cormack, C. Clarke, S. Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and individual
Rank Learning Methods", SIGIR 2009).

*Columns.* A model sees a visible thing (a word of ``visual_words``) by itself, and not everything
in a folder "Red Car Club" is a red car: such a word counts a tenth in the name of a file, folder or
place of what it counts in a title, caption, keyword or in the image. Any other word counts in full
everywhere.

*Reading errors.* A word that was read in an image with one error (``catalog.spellings``) counts
half, and an image with all words, one of them so, is a match, after those with the exact words.
Only of words outside ``visual_words``: a model sees a horse where "horse" is not written.

*Ties.* Images with equal words share their mean rank, so a word that one file has counts much, and
a word that half of the library has (the root's own name) next to nothing.

*Matches.* An image whose text holds every word of the query is a match whatever it looks like,
unless the query is one visible thing and only the name of its place holds it ("Mountain View"), or
only the name of a folder with most of the library ("Family"). An image found by names and numbers
(words outside ``visual_words``, which mean little to a model) is compared with the remainder of the
query, ``castle``, and is a match if that fits. Order: images whose text holds the query as a
phrase, those whose text holds all of its words, other matches, the rest; each group by fused rank.

docs/evaluation.md has the measurements (``python -m benchmarks.fused_ranking``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.catalog.full_text import STOP_WORDS
from sightline.indexer.types import Condition, Filters, Ids
from sightline.server.search.ranking import CosineRanking, Ranking
from sightline.server.search.relevance import Scores, ScoreScale
from sightline.server.search.visual_words import visual_words

if TYPE_CHECKING:
    from sightline.indexer.catalog.embeddings import Changes
    from sightline.indexer.library import AnyLibrary

RANK_CONSTANT = 10
"""Added to ranks. The paper has 60, with which any word outweighs the first ranks by cosine."""

MAX_IDS = 10_000
"""Images that are read for all words of a query together, the first by id."""

MAX_WORD_IDS = 2_000
"""Words that more images have count only together with all others: bounds the time of a search."""

MAX_WORDS = 12
"""Words of a query that are looked up, the first ones."""

VISUAL_NAME_FACTOR = 0.1
"""Factor of a visual word in the name of a file, folder or place."""

MISREAD_FACTOR = 0.5
"""Factor of the inverse document frequency of a word that differs by a reading error."""

TEXT_MATCH_MARGIN = 1.0
"""z-score above the threshold of an image that matches by its text."""

_PUNCTUATION = ".,;:!?()[]'"
_NO_IDS: Ids = np.empty(0, np.int64)
_ALL_WORDS_BONUS = 1000.0
"""More than the summed inverse document frequency of any query."""


@dataclass(frozen=True, eq=False)
class TextMatches:
    """Images whose text holds words of a query."""

    ids: Ids
    """Sorted."""
    ranks: NDArray[np.float64]
    """From 1, of each of ``ids``; equal words share their mean rank."""
    weights: NDArray[np.float64]
    """Of the reciprocal ranks beside those by cosine, up to 1: the mean factor of the words."""
    complete: Ids
    """Sorted ids of images that hold all words."""
    phrase: Ids
    """Sorted ids of those that hold them one after the other; empty if many images hold them."""
    misread: Ids
    """Sorted ids of images that hold all words, one of them with a reading error."""
    named: Ids
    """Sorted ids of images that hold the query's names; empty if it has none, or nothing else."""
    remainder: str
    """The query without these names."""
    all_names: bool
    """Whether ``named`` images hold every name, not only most."""

    @classmethod
    def find(cls, library: AnyLibrary, text: str, filters: Filters) -> TextMatches | None:
        """Looks up the words of ``text`` in images that meet ``filters``; None if none has one."""
        words = [word for word in dict.fromkeys(text.split()) if _is_searched(word)][:MAX_WORDS]
        limit = MAX_IDS if len(words) == 1 else MAX_WORD_IDS + 1
        found = {word: library.full_text_search(word, limit) for word in words}
        found = {word: ids for word, ids in found.items() if len(ids)}
        similar = {
            word: np.setdiff1d(ids, found.get(word, _NO_IDS), assume_unique=True)
            for word in words
            if not _is_visual(word) and len(ids := library.misread(word, MAX_WORD_IDS))
        }
        if not found and not similar:
            return None
        complete = _NO_IDS
        if len(found) == len(words):
            joint = " ".join(words)
            complete = found[joint] if joint in found else library.full_text_search(joint, MAX_IDS)
        if len(words) == 1 and _is_visual(words[0]) and len(complete):
            complete = _distinguished(library, words[0], complete)
        rare = {word: ids for word, ids in found.items() if len(ids) <= MAX_WORD_IDS}
        together = complete
        if len(rare) < len(found) < len(words):
            # Some words have no image and others many: count images with all words that have one.
            together = library.full_text_search(" ".join(found), MAX_IDS)
        misread = _NO_IDS
        for word, with_error in similar.items():
            for other in words:
                if other != word and len(with_error):
                    with_other = rare.get(other)
                    if with_other is None:
                        with_other = library.full_text_search(other, MAX_IDS)
                    with_error = _common(with_error, with_other)
            misread = _union(misread, with_error)
        misread = np.setdiff1d(misread, complete, assume_unique=True)
        ids = _union(together, misread, *rare.values(), *similar.values())
        if filters and len(ids):
            selected = library.select(filters)
            ids, complete, misread = (_common(one, selected) for one in (ids, complete, misread))
        if not len(ids):
            return None
        scores, frequencies = np.zeros(len(ids)), np.zeros(len(ids))
        for with_word, frequency, factor in _weighted(library, rare, similar):
            held = np.isin(ids, with_word)
            frequencies[held] += frequency
            scores[held] += factor * frequency
        only_visual = all(_is_visual(word) for word in (*found, *similar))
        weights = np.full(len(ids), VISUAL_NAME_FACTOR if only_visual else 1.0)
        np.divide(scores, frequencies, out=weights, where=frequencies > 0)
        scores[np.isin(ids, together)] += _ALL_WORDS_BONUS
        _, group, sizes = np.unique(-scores, return_inverse=True, return_counts=True)
        mean_ranks = np.cumsum(sizes) - (sizes - 1) / 2
        return cls(
            ids,
            mean_ranks[group],
            weights,
            complete,
            _with_phrase(library, text, complete),
            misread,
            *_named(library, text, words, rare, ids),
        )

    def of(self, ids: Ids) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The rank and weight of each of ``ids``; weight 0 where its text holds no word."""
        index = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return self.ranks[index], np.where(self.ids[index] == ids, self.weights[index], 0.0)


def _union(*parts: Ids) -> Ids:
    """Sorted, without duplicates. ``np.unique`` hashes, which takes four times as long."""
    ids = np.sort(np.concatenate(parts))
    return ids[np.diff(ids, prepend=-1) > 0]


def _common(one: Ids, other: Ids) -> Ids:
    """Sorted; both are without duplicates."""
    return np.intersect1d(one, other, assume_unique=True)


def _plain(word: str) -> str:
    return word.strip(_PUNCTUATION).lower()


def _is_searched(word: str) -> bool:
    return bool(_plain(word)) and _plain(word) not in STOP_WORDS


def _is_visual(word: str) -> bool:
    return _plain(word) in visual_words()


def _inverse_frequency(found: int, count: int) -> float:
    """Inverse document frequency as in bm25, but positive."""
    return max(math.log((count - found + 0.5) / (found + 0.5)), 0.01)


def _weighted(
    library: AnyLibrary, rare: Mapping[str, Ids], similar: Mapping[str, Ids]
) -> Iterator[tuple[Ids, float, float]]:
    """Sorted ids of images that hold a word, its inverse document frequency, and its factor."""
    for word, ids in rare.items():
        frequency = _inverse_frequency(len(ids), library.count)
        if _is_visual(word):
            written = library.full_text_search(word, MAX_WORD_IDS, names=False)
            yield np.setdiff1d(ids, written, assume_unique=True), frequency, VISUAL_NAME_FACTOR
            ids = written
        yield ids, frequency, 1.0
    for ids in similar.values():
        yield ids, MISREAD_FACTOR * _inverse_frequency(len(ids), library.count), 1.0


def _distinguished(library: AnyLibrary, word: str, ids: Ids) -> Ids:
    """Those of ``ids``, whose text holds the visual ``word``, that do so outside of names, or in
    the name of a file or folder that distinguishes them from half of the library."""
    written = library.full_text_search(word, MAX_IDS, names=False)
    in_names = np.setdiff1d(ids, written, assume_unique=True)
    if len(in_names):
        placed = library.select(Filters((Condition("place", _plain(word)),)))
        in_names = np.setdiff1d(in_names, placed, assume_unique=True)
    distinguishes = len(ids) < MAX_IDS and len(in_names) <= library.count / 2
    return _union(written, in_names) if distinguishes else written


def _with_phrase(library: AnyLibrary, text: str, complete: Ids) -> Ids:
    """Those of ``complete`` that hold all words of ``text`` one after the other; none if they are
    more than ``MAX_WORD_IDS``."""
    if len(text.split()) == 1:
        return complete
    if not 0 < len(complete) <= MAX_WORD_IDS:
        return _NO_IDS
    # Full text searches words that are joined by underscores as a phrase.
    return _common(complete, library.full_text_search("_".join(text.split()), MAX_IDS))


def _named(
    library: AnyLibrary, text: str, words: Sequence[str], rare: Mapping[str, Ids], ids: Ids
) -> tuple[Ids, str, bool]:
    """``named``, ``remainder`` and ``all_names`` of a ``TextMatches``."""
    none: tuple[Ids, str, bool] = _NO_IDS, "", False
    names = [word for word in words if not _is_visual(word)]
    if not names or len(names) == len(words):
        return none
    held = names
    named = _common(ids, library.full_text_search(" ".join(names), MAX_IDS))
    if not len(named):
        counts = sum((np.isin(ids, rare[n]) for n in names if n in rare), np.zeros(len(ids)))
        if not counts.max():
            return none
        named = ids[counts == counts.max()]
        # Images can hold equally many names, but different ones: those that all of them hold.
        held = [n for n in names if n in rare and np.isin(named, rare[n]).all()]
    if not held or len(named) > library.count / 2:
        return none  # names that most images share (the root's own) do not distinguish any
    rest = [word for word in text.split() if word not in held]
    while rest and not _is_searched(rest[0]):
        rest.pop(0)
    while rest and not _is_searched(rest[-1]):
        rest.pop()
    return (named, " ".join(rest), held == names) if rest else none


class FusedRanking(CosineRanking):
    """By the cosine to one vector and by text."""

    def __init__(
        self,
        library: AnyLibrary,
        filters: Filters,
        fold: bool,
        vector: NDArray[np.float32],
        scale: ScoreScale,
        matches: TextMatches,
        *,
        remainder: tuple[NDArray[np.float32], ScoreScale] | None = None,
    ) -> None:
        """``remainder``: the vector of ``matches.remainder`` and the scale of its cosines; None if
        there is no remainder."""
        super().__init__(library, filters, fold, vector, scale)
        self._matches = matches
        self._remainder = remainder

    def outlasts(self, changes: Changes, new: Ranking) -> bool:
        return (
            super().outlasts(changes, new)
            and isinstance(new, FusedRanking)
            and np.array_equal(new._matches.ids, self._matches.ids)
            and np.array_equal(new._matches.complete, self._matches.complete)
            and not np.isin(self._matches.ids, changes.ids).any()
        )

    def _search(self, depth: int) -> tuple[Ids, Scores, Scores]:
        matches = self._matches
        nearest, _, _ = super()._search(depth)
        # Of images with text matches: the nearest, and the first by text.
        found = [nearest, self._nearest_among(matches.ids, self._vector, depth)]
        found.append(matches.ids[np.argsort(matches.ranks, kind="stable")[:depth]])
        found.append(matches.phrase[:depth])
        if self._remainder is not None:
            found.append(self._nearest_among(matches.named, self._remainder[0], depth))
        ids = _union(*found)
        vectors = self._library.vectors(ids)
        present = ~np.isnan(vectors[:, 0])
        ids, vectors = ids[present], vectors[present]
        scores = np.minimum(vectors @ self._vector, 1)
        z_scores = self._scale.z_scores(scores)
        threshold = self.threshold if self.threshold is not None else 0.0
        by_text = np.isin(ids, matches.complete)
        if self._remainder is not None:
            vector, scale = self._remainder
            named = np.isin(ids, matches.named)
            # Shifted so that both scales have the same threshold.
            shifted = scale.z_scores(vectors @ vector)
            shifted += np.float32(threshold - (scale.threshold or 0.0))
            z_scores[named] = np.maximum(z_scores[named], shifted[named])
            if self.threshold is not None and matches.all_names:
                by_text |= named & (shifted >= threshold)
        rank = np.empty(len(ids))
        rank[np.lexsort((ids, -z_scores))] = np.arange(1, len(ids) + 1)
        fused = self._fuse(z_scores, rank, *matches.of(ids))
        matched = by_text | np.isin(ids, matches.misread)
        z_scores[matched] = np.maximum(z_scores[matched], threshold + TEXT_MATCH_MARGIN)
        match = z_scores >= threshold if self.threshold is not None else np.ones(len(ids), bool)
        tier = self._tiers(match, by_text, np.isin(ids, matches.phrase))
        order = np.lexsort((ids, -scores, -fused, -tier))[:depth]
        return ids[order], scores[order], z_scores[order]

    def _tiers(self, *groups: NDArray[np.bool_]) -> NDArray[np.int64]:
        """What orders images first, highest first: each of ``groups`` is part of the one before."""
        return np.sum(groups, axis=0)

    def _fuse(
        self,
        z_scores: Scores,
        ranks: NDArray[np.float64],
        text_ranks: NDArray[np.float64],
        weights: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """What orders images within a tier, highest first. ``ranks`` by cosine and ``text_ranks``
        start at 1."""
        return 1 / (RANK_CONSTANT + ranks) + weights / (RANK_CONSTANT + text_ranks)

    def _nearest_among(self, among: Ids, vector: NDArray[np.float32], k: int) -> Ids:
        if not len(among):
            return among
        _, ids = self._library.nearest(vector[None], k, among=among)
        return ids[0][ids[0] >= 0]

    def _estimate(self) -> float:
        matches = self._matches
        return max(super()._estimate(), len(matches.complete) + len(matches.misread))
