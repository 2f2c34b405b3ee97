"""Vectors held in memory and searched exactly: small libraries whole, and what is newer than the
index files of a large one.

A vector is kept as the catalog keeps it, in float16, inside ``faiss.IndexScalarQuantizer``: on two
cores one query over 50,000 vectors of 512 dimensions takes 2.6 ms, where numpy in float32 takes 3.8
and ``IndexFlatIP`` 8.0, and it takes half the memory. The scan only chooses; scores are computed by
``cosines``, which gives the same bits wherever a row lies and whichever way it was found.

Everything here is immutable: a change makes a new ``Rows`` that shares what did not change, so that
a search that has begun is not disturbed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.types import Embeddings, Ids

Half = NDArray[np.float16]
Bits = NDArray[np.uint8]
"""A set of ids, one bit each: id n is bit ``n % 8`` of byte ``n // 8``."""
Scores = NDArray[np.float32]

CLOSE = 1e-5
"""More than two ways of summing one cosine in float32 can differ: what is this close to the last
place may belong there."""

CHUNK = 1024
"""Rows turned into float32 at a time: 2 MB at 512 dimensions, which stays in a core's cache."""

GROW = np.float32(2.0**112)

SPARSE = 8
"""Where fewer than one row in so many may be found, those are gathered instead of scanning all."""


def widened(half: NDArray[Any]) -> NDArray[np.float32]:
    """Finite float16 as float32, the same values: a sixth of the time that ``astype`` takes."""
    wide = _shrunk(half)
    wide *= GROW
    return wide


def _shrunk(half: NDArray[Any]) -> NDArray[np.float32]:
    """Finite float16 as float32, by moving their bits. The exponent is then too small by 112, which
    a product with ``GROW`` puts right, also for numbers below the smallest normal one."""
    bits = np.ascontiguousarray(half, "<f2").view("<i2").astype("<i4")
    bits <<= 13
    bits &= np.int32(-0x70002000)  # the sign, 5 bits of exponent, 10 of fraction
    return bits.view("<f4")


def cosines(rows: Half, query: NDArray[np.float32]) -> Scores:
    """``(n,) float32``: the product of each float16 row and ``query``. Equal rows give equal bits,
    wherever they lie: a matrix product does not promise that, and ties would fall by chance."""
    grown = query * GROW
    if len(rows) <= CHUNK:
        return np.vecdot(_shrunk(rows), grown)
    out = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), CHUNK):
        out[start : start + CHUNK] = np.vecdot(_shrunk(rows[start : start + CHUNK]), grown)
    return out


def best(scores: Scores, ids: Ids, k: int) -> tuple[Scores, Ids]:
    """The ``k`` highest, ties by id."""
    if len(scores) > 4 * k:
        floor = np.partition(scores, len(scores) - k)[len(scores) - k]
        some = scores >= floor
        scores, ids = scores[some], ids[some]
    order = np.lexsort((ids, -scores))[:k]
    return scores[order], ids[order]


def bits_of(ids: Ids, size: int) -> Bits:
    """The set of ``ids``, those below ``size``."""
    flags = np.zeros(-(-size // 8) * 8, bool)
    flags[ids[(ids >= 0) & (ids < size)]] = True
    return np.packbits(flags, bitorder="little")


def count_bits(bits: Bits) -> int:
    """How many ids are in the set."""
    return int(np.bitwise_count(bits).sum())


def ids_in(bits: Bits) -> Ids:
    """The ids of the set, sorted."""
    return np.flatnonzero(np.unpackbits(bits, bitorder="little")).astype(np.int64)


def has(bits: Bits, ids: Ids) -> NDArray[np.bool_]:
    """Which of ``ids`` are in the set."""
    inside = (ids >= 0) & (ids < 8 * len(bits))
    places = np.where(inside, ids, 0)
    if not len(bits):
        return inside
    return inside & ((bits[places >> 3] >> (places & 7).astype(np.uint8)) & 1).astype(bool)


class Allowed:
    """The ids that a search may find: looked at in the way that is cheapest where it is needed."""

    def __init__(self, ids: Ids) -> None:
        """``ids`` in any order."""
        self.left: Any = None
        """The rows that a generation of the index made of it: kept as long as this is."""
        ids = np.asarray(ids, np.int64)
        if len(ids) > 1 and not (ids[1:] > ids[:-1]).all():
            ids = np.unique(ids)
        self.ids = ids

    def bits(self, size: int) -> Bits:
        """As a set of the ids below ``size``."""
        return bits_of(self.ids, size)

    @cached_property
    def _flags(self) -> NDArray[np.bool_]:
        flags = np.zeros(int(self.ids[-1]) + 2 if len(self.ids) else 1, bool)
        flags[self.ids] = True
        return flags

    def among(self, ids: Ids) -> NDArray[np.bool_]:
        """Which of ``ids`` may be found."""
        return self._flags[np.minimum(ids, len(self._flags) - 1)]

    def places(self, ids: Ids) -> Ids:
        """Where in the sorted ``ids`` those stand that may be found."""
        if len(self.ids) * 16 < len(ids):
            places = np.searchsorted(ids, self.ids)
            inside = places < len(ids)
            places, wanted = places[inside], self.ids[inside]
            return places[ids[places] == wanted]
        return np.flatnonzero(self.among(ids))


@dataclass(frozen=True, eq=False)
class Segment:
    """Some vectors, sorted by id."""

    ids: Ids
    index: Any
    """``faiss.IndexScalarQuantizer`` in float16; its codes are the rows as they lie in SQLite."""
    gone: NDArray[np.bool_] | None = None
    """Rows that were removed or replaced."""

    @classmethod
    def of(cls, ids: Ids, vectors: Half) -> Segment:
        """A segment of ``(n, d)`` ``vectors``; ``ids`` are sorted and different."""
        import faiss

        d = vectors.shape[1]
        index = faiss.IndexScalarQuantizer(
            d, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        )
        codes = np.ascontiguousarray(vectors, "<f2").view(np.uint8).ravel()
        faiss.copy_array_to_vector(codes, index.codes)
        index.ntotal = len(ids)
        return cls(ids, index)

    @property
    def vectors(self) -> Half:
        """``(n, d) float16``, a view."""
        import faiss

        n, d = len(self.ids), self.index.d
        if not n:
            return np.empty((0, d), np.float16)
        raw = faiss.rev_swig_ptr(self.index.codes.data(), n * d * 2)
        return raw.view("<f2").reshape(n, d)

    @cached_property
    def count(self) -> int:
        """Rows that are still there."""
        return len(self.ids) - (0 if self.gone is None else int(self.gone.sum()))

    def without(self, ids: Ids) -> Segment:
        """This, with ``ids`` (sorted) gone."""
        places = Allowed(ids).places(self.ids)
        if not len(places):
            return self
        gone = np.zeros(len(self.ids), bool) if self.gone is None else self.gone.copy()
        gone[places] = True
        return replace(self, gone=gone)

    def living(self) -> tuple[Ids, Half]:
        """What is still there; rows are views where nothing has gone."""
        if self.gone is None:
            return self.ids, self.vectors
        return self.ids[~self.gone], self.vectors[~self.gone]

    def search(
        self, queries: Embeddings, k: int, allowed: Allowed | None
    ) -> list[tuple[Scores, Ids]]:
        """For each query the exact scores of its best ``k`` and their ids, in no order; more where
        the last place is shared."""
        places: Ids | None = None
        if allowed is not None:
            places = allowed.places(self.ids)
            if self.gone is not None:
                places = places[~self.gone[places]]
        elif self.gone is not None:
            places = np.flatnonzero(~self.gone)
        there = len(self.ids) if places is None else len(places)
        if not there:
            nothing = np.empty(0, np.float32), np.empty(0, np.int64)
            return [nothing for _ in queries]
        if there <= 4 * k or there * SPARSE <= len(self.ids):
            rows = self.vectors if places is None else self.vectors[places]
            ids = self.ids if places is None else self.ids[places]
            return [(cosines(rows, query), ids) for query in queries]
        return self._scan(queries, k, places)

    def _scan(self, queries: Embeddings, k: int, places: Ids | None) -> list[tuple[Scores, Ids]]:
        import faiss

        parameters = faiss.SearchParameters()
        if places is not None:
            bits = bits_of(places, len(self.ids))
            selector = faiss.IDSelectorBitmap(bits)  # type: ignore[call-arg, arg-type]
            parameters.sel = selector
        found: list[tuple[Scores, Ids]] = []
        scores, near = self.index.search(queries, k + 16, params=parameters)
        for query, score, place in zip(queries, scores, near, strict=True):
            floor = score[k - 1] - CLOSE
            if score[-1] >= floor:
                _, _, place = self.index.range_search(query[None], float(floor), params=parameters)
            place = place[place >= 0]
            found.append((cosines(self.vectors[place], query), self.ids[place]))
        return found


@dataclass(frozen=True, eq=False)
class Rows:
    """All the vectors held in memory: an immutable set of segments, no id in two of them."""

    dimension: int
    segments: tuple[Segment, ...] = ()

    @classmethod
    def of(cls, dimension: int, blocks: Iterable[tuple[Ids, NDArray[Any]]]) -> Rows:
        """The vectors of ``blocks``; no id comes twice."""
        ids, halves = [np.empty(0, np.int64)], [np.empty((0, dimension), np.float16)]
        for some, vectors in blocks:
            ids.append(np.asarray(some, np.int64))
            halves.append(np.asarray(vectors, np.float16))
        return cls(dimension)._with(np.concatenate(ids), np.concatenate(halves))

    @cached_property
    def count(self) -> int:
        """How many vectors."""
        return sum(segment.count for segment in self.segments)

    @cached_property
    def ids(self) -> Ids:
        """Their ids, sorted."""
        ids = [segment.living()[0] for segment in self.segments]
        return np.sort(np.concatenate(ids)) if ids else np.empty(0, np.int64)

    @property
    def bytes(self) -> int:
        """Of memory."""
        return sum(len(segment.ids) * (2 * self.dimension + 8) for segment in self.segments)

    def changed(self, ids: Ids, vectors: NDArray[Any], removed: Ids) -> Rows:
        """This without ``removed``, and with ``vectors`` for ``ids``, in place of older ones."""
        out = np.unique(np.concatenate([ids, removed]).astype(np.int64))
        left = (
            tuple(segment.without(out) for segment in self.segments) if len(out) else self.segments
        )
        kept = Rows(self.dimension, tuple(segment for segment in left if segment.count))
        return kept._with(np.asarray(ids, np.int64), np.asarray(vectors, np.float16))

    def _with(self, ids: Ids, vectors: Half) -> Rows:
        """This and ``ids`` that are not among it. Segments that are not much larger than what
        follows them are melted together, so there are few, and a row is copied few times."""
        if not len(ids):
            return self
        segments = list(self.segments)
        parts = [(ids, vectors)]
        size = len(ids)
        while segments and segments[-1].count <= 2 * size:
            part = segments.pop().living()
            parts.append(part)
            size += len(part[0])
        ids = np.concatenate([part[0] for part in parts])
        vectors = np.concatenate([part[1] for part in parts])
        if not (ids[1:] > ids[:-1]).all():
            order = np.argsort(ids)
            ids, vectors = ids[order], vectors[order]
        return Rows(self.dimension, (*segments, Segment.of(ids, vectors)))

    def fetch(self, ids: Ids) -> tuple[NDArray[np.bool_], Embeddings]:
        """Which of ``ids`` are here, and their vectors (rows of the others are undefined)."""
        found = np.zeros(len(ids), bool)
        vectors = np.empty((len(ids), self.dimension), np.float32)
        for segment in self.segments:
            places = np.minimum(np.searchsorted(segment.ids, ids), len(segment.ids) - 1)
            here = segment.ids[places] == ids
            if segment.gone is not None:
                here &= ~segment.gone[places]
            vectors[here] = widened(segment.vectors[places[here]])
            found |= here
        return found, vectors

    def search(
        self, queries: Embeddings, k: int, allowed: Allowed | None
    ) -> list[tuple[Scores, Ids]]:
        """For each query its best ``k`` (in no order, perhaps more) with exact scores."""
        parts = [segment.search(queries, k, allowed) for segment in self.segments]
        if len(parts) == 1:
            return parts[0]
        nothing = [(np.empty(0, np.float32), np.empty(0, np.int64))]
        joined = []
        for n in range(len(queries)):
            one = nothing + [part[n] for part in parts]
            scores = np.concatenate([scores for scores, _ in one])
            joined.append((scores, np.concatenate([ids for _, ids in one])))
        return joined
