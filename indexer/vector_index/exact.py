"""Exact search over float16 vectors in memory: small libraries, and the delta of large ones.

Vectors are stored as in the catalog, in a ``faiss.IndexScalarQuantizer`` (float16): half the memory
and a third of the time of ``IndexFlatIP``. FAISS only selects; ``cosines`` computes the scores, so
that equal vectors have bitwise equal scores wherever they are stored. Few vectors need no
selection, and a search from the shell then does not import FAISS.

Everything here is immutable. An update returns a new ``ExactIndex`` that shares its unchanged
segments, so that searches in progress are not affected.
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
Scores = NDArray[np.float32]
Mask = NDArray[np.bool_]
Found = list[tuple[Scores, Ids]]
"""For each query exact scores and ids of its top k, unsorted; there may be more than k."""

BLOCK = 65_536
"""Vectors read, converted or scanned at a time."""

ROUNDING = 1e-5
"""Upper bound of the difference between two float32 summations of one cosine."""

CHUNK = 256
"""Vectors gathered and converted to float32 at a time: half a megabyte at 512 dimensions, which
fits a core's L2 cache."""

SCAN_FROM = 1_024
"""Vectors from which FAISS selects: fewer are scored in half a millisecond."""

GATHER_BELOW = 1 / 8
"""Fraction of the vectors below which a filter's vectors are gathered instead of scanning all."""


SCALE = np.float32(2.0**112)
"""What ``_scaled_down`` divides by: the difference of the exponent biases, as a factor."""


def to_float32(half: NDArray[Any]) -> NDArray[np.float32]:
    """Finite float16 as float32, five times as fast as ``astype``."""
    half = np.ascontiguousarray(half, "<f2")
    wide = _scaled_down(half, np.empty(half.shape, "<i4"))
    wide *= SCALE  # exact for subnormal numbers too
    return wide


def _scaled_down(half: Half, bits: NDArray[np.int32]) -> NDArray[np.float32]:
    """``half`` / ``SCALE`` as float32 in the memory of ``bits``: sign, exponent and fraction are
    shifted into place."""
    bits[...] = half.view("<i2")
    bits <<= 13
    bits &= np.int32(-0x70002000)
    return bits.view("<f4")


def cosines(vectors: Half, query: NDArray[np.float32], rows: Ids | None = None) -> Scores:
    """``(n,) float32``: inner product of each of ``vectors``, or of these ``rows`` of them, and
    ``query``. Equal vectors give bitwise equal scores at any position, which a matrix product does
    not guarantee."""
    count = len(vectors) if rows is None else len(rows)
    scores = np.empty(count, np.float32)
    shape = min(CHUNK, count), len(query)
    bits, gathered = np.empty(shape, "<i4"), np.empty(shape, vectors.dtype)
    scaled_up = query * SCALE  # a pass over the query instead of the vectors; both are exact
    for start in range(0, count, CHUNK):
        part = slice(start, start + CHUNK)
        if rows is None:
            chunk = np.ascontiguousarray(vectors[part], "<f2")
        else:
            chunk = gathered[: len(rows[part])]
            # Rows are valid; "clip" only spares a buffer.
            np.take(vectors, rows[part], axis=0, out=chunk, mode="clip")
        np.vecdot(_scaled_down(chunk, bits[: len(chunk)]), scaled_up, out=scores[part])
    return scores


def top_k(scores: Scores, ids: Ids, k: int) -> tuple[Scores, Ids]:
    """The ``k`` highest scores, descending, ties by id."""
    if len(scores) > 4 * k:
        kth = np.partition(scores, len(scores) - k)[len(scores) - k]
        above = scores >= kth
        scores, ids = scores[above], ids[above]
    order = np.lexsort((ids, -scores))[:k]
    return scores[order], ids[order]


def selector(rows: Ids, count: int) -> Any:
    """``faiss.IDSelectorBitmap`` that accepts ``rows`` out of ``count``. Keep it while FAISS
    searches: it owns the bitmap."""
    import faiss

    mask = np.zeros(count, bool)
    mask[rows] = True
    bitmap = np.packbits(mask, bitorder="little")
    return faiss.IDSelectorBitmap(bitmap)  # type: ignore[call-arg, arg-type]


class IdFilter:
    """A set of image ids that a search may return."""

    def __init__(self, ids: Ids) -> None:
        """``ids`` in any order."""
        ids = np.asarray(ids, np.int64)
        if len(ids) > 1 and not (ids[1:] > ids[:-1]).all():
            ids = np.unique(ids)
        self.ids = ids
        """Sorted and unique."""
        self.rows: Any = None
        """``generation.FilteredRows``: cache of what a generation made of this filter."""

    def positions(self, ids: Ids) -> Ids:
        """Positions in the sorted ``ids`` of those that this filter accepts, ascending."""
        if len(self.ids) * 16 < len(ids):
            positions = np.searchsorted(ids, self.ids)
            inside = positions < len(ids)
            positions, wanted = positions[inside], self.ids[inside]
            return positions[ids[positions] == wanted]
        return np.flatnonzero(np.isin(ids, self.ids, assume_unique=True))


@dataclass(frozen=True, eq=False)
class Segment:
    """Some vectors, sorted by id."""

    ids: Ids
    vectors: Half
    """``(n, d) float16``: of ``ids``; a view of the memory of ``index`` if there is one."""
    index: Any = None
    """``faiss.IndexScalarQuantizer``, float16, of at least ``SCAN_FROM`` vectors."""
    deleted: Mask | None = None
    """Rows that were removed or replaced since."""

    @classmethod
    def of(cls, ids: Ids, vectors: Half) -> Segment:
        """A segment of ``(n, d)`` ``vectors``; ``ids`` are sorted and unique."""
        vectors = np.ascontiguousarray(vectors, "<f2")
        if len(ids) < SCAN_FROM:
            return cls(ids, vectors)
        import faiss

        index = faiss.IndexScalarQuantizer(
            vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        )
        faiss.copy_array_to_vector(vectors.view(np.uint8).ravel(), index.codes)
        index.ntotal = len(ids)
        codes = faiss.rev_swig_ptr(index.codes.data(), vectors.nbytes)
        return cls(ids, codes.view("<f2").reshape(vectors.shape), index)

    @cached_property
    def count(self) -> int:
        """Rows that are not deleted."""
        return len(self.ids) - (0 if self.deleted is None else int(self.deleted.sum()))

    def without(self, ids: IdFilter) -> Segment:
        """This segment with ``ids`` deleted."""
        rows = ids.positions(self.ids)
        if not len(rows):
            return self
        deleted = np.zeros(len(self.ids), bool) if self.deleted is None else self.deleted.copy()
        deleted[rows] = True
        return replace(self, deleted=deleted)

    def live(self) -> tuple[Ids, Half]:
        """Ids and vectors that are not deleted."""
        if self.deleted is None:
            return self.ids, self.vectors
        return self.ids[~self.deleted], self.vectors[~self.deleted]

    def search(self, queries: Embeddings, k: int, allowed: IdFilter | None) -> Found:
        """Top ``k`` of each of ``(q, d)`` ``queries``, with every tie of the last."""
        rows: Ids | None = None
        if allowed is not None:
            rows = allowed.positions(self.ids)
            if self.deleted is not None:
                rows = rows[~self.deleted[rows]]
        elif self.deleted is not None:
            rows = np.flatnonzero(~self.deleted)
        count = len(self.ids) if rows is None else len(rows)
        if self.index is None or count <= max(4 * k, GATHER_BELOW * len(self.ids)):
            ids = self.ids if rows is None else self.ids[rows]
            return [(cosines(self.vectors, query, rows), ids) for query in queries]
        return self._scan(queries, k, rows)

    def _scan(self, queries: Embeddings, k: int, rows: Ids | None) -> Found:
        import faiss

        parameters = faiss.SearchParameters()
        if rows is not None:
            parameters.sel = selector(rows, len(self.ids))
        found: Found = []
        scores, near = self.index.search(queries, k + 16, params=parameters)
        for query, score, row in zip(queries, scores, near, strict=True):
            lowest = score[k - 1] - ROUNDING
            if score[-1] >= lowest:  # more ties than were asked for
                _, _, row = self.index.range_search(query[None], float(lowest), params=parameters)
            row = row[row >= 0]
            found.append((cosines(self.vectors, query, row), self.ids[row]))
        return found


@dataclass(frozen=True, eq=False)
class ExactIndex:
    """Vectors in memory: segments of which no two hold the same id, largest first."""

    dimension: int
    segments: tuple[Segment, ...] = ()

    @classmethod
    def of(cls, dimension: int, blocks: Iterable[tuple[Ids, NDArray[Any]]]) -> ExactIndex:
        """The vectors of ``blocks``, whose ids are unique."""
        ids, vectors = [np.empty(0, np.int64)], [np.empty((0, dimension), np.float16)]
        for some, block in blocks:
            ids.append(np.asarray(some, np.int64))
            vectors.append(np.asarray(block, np.float16))
        return cls(dimension)._with(np.concatenate(ids), np.concatenate(vectors))

    @cached_property
    def count(self) -> int:
        """Number of vectors."""
        return sum(segment.count for segment in self.segments)

    @property
    def bytes(self) -> int:
        """Bytes of memory."""
        return sum(len(segment.ids) * (2 * self.dimension + 8) for segment in self.segments)

    def updated(self, ids: Ids, vectors: NDArray[Any], removed: Ids) -> ExactIndex:
        """This without ``removed``, and with ``vectors`` added for ``ids`` or replacing theirs."""
        deleted = IdFilter(np.concatenate([ids, removed]).astype(np.int64))
        remaining = [segment.without(deleted) for segment in self.segments]
        kept = ExactIndex(self.dimension, tuple(segment for segment in remaining if segment.count))
        return kept._with(np.asarray(ids, np.int64), np.asarray(vectors, np.float16))

    def _with(self, ids: Ids, vectors: Half) -> ExactIndex:
        """This with new ``ids``. Merges the last segments while they are at most twice the size of
        what follows them, so that there are O(log n) segments (a log-structured merge tree)."""
        if not len(ids):
            return self
        segments = list(self.segments)
        parts = [(ids, vectors)]
        size = len(ids)
        while segments and segments[-1].count <= 2 * size:
            parts.append(segments.pop().live())
            size += len(parts[-1][0])
        ids = np.concatenate([part[0] for part in parts])
        vectors = np.concatenate([part[1] for part in parts])
        if not (ids[1:] > ids[:-1]).all():
            order = np.argsort(ids)
            ids, vectors = ids[order], vectors[order]
        return ExactIndex(self.dimension, (*segments, Segment.of(ids, vectors)))

    def fetch(self, ids: Ids) -> tuple[Mask, Embeddings]:
        """Which of ``ids`` are here, and ``(n, d)`` vectors; rows of absent ids are undefined."""
        present = np.zeros(len(ids), bool)
        vectors = np.empty((len(ids), self.dimension), np.float32)
        for segment in self.segments:
            rows = np.minimum(np.searchsorted(segment.ids, ids), len(segment.ids) - 1)
            here = segment.ids[rows] == ids
            if segment.deleted is not None:
                here &= ~segment.deleted[rows]
            vectors[here] = to_float32(segment.vectors[rows[here]])
            present |= here
        return present, vectors

    def search(self, queries: Embeddings, k: int, allowed: IdFilter | None) -> Found:
        """Top ``k`` of each of ``(q, d)`` ``queries`` among ``allowed``."""
        parts = [segment.search(queries, k, allowed) for segment in self.segments]
        return merged(parts, len(queries))


def merged(parts: list[Found], queries: int) -> Found:
    """What several indexes found for the same queries, as one."""
    if len(parts) == 1:
        return parts[0]
    none = np.empty(0, np.float32), np.empty(0, np.int64)
    found = []
    for n in range(queries):
        scores, ids = zip(none, *(part[n] for part in parts), strict=True)
        found.append((np.concatenate(scores), np.concatenate(ids)))
    return found
