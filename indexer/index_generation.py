"""One generation of a quantised index, opened for searching.

FAISS proposes candidates by their quantised vectors; they are ranked by the exact cosine of the
float16 vectors that lie beside it. Row numbers are FAISS's ids; ``ids`` gives the image of a row.
Everything is memory-mapped (but packed codes, which FAISS reads) and nothing is changed after
opening, so that any number of threads may search.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.index_files import Manifest, UntrustedError, verify
from indexer.index_rows import Allowed, Scores, best, bits_of, cosines, widened
from indexer.types import Embeddings, Ids

EXACT_ROWS = 20_000
"""Where a filter leaves no more rows than this, all of them are ranked."""

MANY_GONE = 0.02
"""Beyond this share of rows that are gone, FAISS is told which; below, their places among the
candidates are spared."""

FIRST = 64
"""Candidates ranked at first, or twice what is wanted: they say what the others must reach."""

BLOCK = 65_536
"""Rows scanned at a time."""

Found = list[tuple[Scores, Ids]]


class Generation:
    """The files of one manifest, open."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        """UntrustedError when the files are not what the manifest says."""
        import faiss

        verify(directory, manifest)
        self.manifest = manifest
        names = {name: directory / facts.name for name, facts in manifest.files.items()}
        try:
            # As plain arrays: each row or slice of np.memmap makes another one, which takes time.
            self.ids: Ids = np.asarray(np.memmap(names["ids"], "<i8", "r"))
            shape = (manifest.rows, manifest.dimension)
            self.vectors: NDArray[np.float16] = np.asarray(
                np.memmap(names["vectors"], "<f2", "r", shape=shape)
            )
            # Packed codes are read, others mapped. IO_FLAG_MMAP, the older way of mapping, goes
            # through lists "on disk" that threads fetch ahead: three times as slow as memory.
            self._index = faiss.read_index(str(names["index"]), faiss.IO_FLAG_MMAP_IFC)
        except (KeyError, ValueError, OSError, RuntimeError) as error:
            raise UntrustedError(f"the index cannot be opened ({_line(error)})") from error
        if (
            self._index.ntotal != manifest.rows
            or self._index.d != manifest.dimension
            or len(self.ids) != manifest.rows
        ):
            raise UntrustedError("the index is not of the size that its manifest says")

    @cached_property
    def _order(self) -> Ids | None:
        """Rows in the order of their ids; None when they lie so."""
        ids = self.ids
        return None if (ids[1:] > ids[:-1]).all() else np.argsort(ids, kind="stable")

    @cached_property
    def _sorted(self) -> Ids:
        return self.ids if self._order is None else self.ids[self._order]

    def rows_of(self, ids: Ids) -> Ids:
        """The rows of those of ``ids`` (sorted) that are here, sorted."""
        places = Allowed(ids).places(self._sorted)
        places = places if self._order is None else np.sort(self._order[places])
        return places[self.ids[places] >= 0]

    def fetch(self, rows: Ids) -> Embeddings:
        """``(n, d) float32``."""
        return widened(self.vectors[rows])

    def vectors_of(
        self, ids: Ids, gone: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.bool_], Embeddings]:
        """Which of ``ids`` are here, and their vectors (rows of the others are undefined)."""
        last = len(self.ids) - 1
        places = np.clip(ids - self._sorted[0], 0, last)  # where they lie when none is missing
        if (self._sorted[places] != ids).any():
            places = np.minimum(np.searchsorted(self._sorted, ids), last)
        here = (self._sorted[places] == ids) & (ids >= 0)
        rows = places if self._order is None else self._order[places]
        if gone is not None:
            here &= ~gone[rows]
        vectors = np.empty((len(ids), self.manifest.dimension), np.float32)
        vectors[here] = self.fetch(rows[here])
        return here, vectors

    def search(
        self,
        queries: Embeddings,
        k: int,
        *,
        allowed: Allowed | None = None,
        gone: NDArray[np.bool_] | None = None,
        nprobe: int | None = None,
        depth: int | None = None,
    ) -> Found:
        """For each of ``(q, d)`` queries the exact scores of its best ``k`` and their ids, in no
        order, perhaps more. ``gone`` marks rows that must not be found; ``nprobe`` and ``depth``
        are those of the manifest unless given."""
        rows: Ids | None = None
        if allowed is not None:
            rows = self.rows_of(allowed.ids)
            if gone is not None:
                rows = rows[~gone[rows]]
        there = self.manifest.rows if rows is None else len(rows)
        depth = (depth or self.manifest.depth) + 4 * max(0, k - 10)
        if (rows is not None and there <= max(EXACT_ROWS, depth)) or depth * 8 >= there:
            if rows is None:
                rows = np.flatnonzero(self._alive(gone))
            return self._scan(queries, k, rows)
        chosen = None
        if rows is not None:
            chosen = bits_of(rows, self.manifest.rows)
        elif self._share_gone(gone) > MANY_GONE:
            chosen = np.packbits(self._alive(gone), bitorder="little")
        if nprobe is None:
            nprobe = self._nprobe(there / self.manifest.rows)
        about, near = self.candidates(queries, depth, nprobe, chosen)
        return [
            self._rank(query, rows, scores, gone, k)
            for query, rows, scores in zip(queries, near, about, strict=True)
        ]

    def _alive(self, gone: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
        alive = self.ids >= 0
        return alive if gone is None else alive & ~gone

    def _share_gone(self, gone: NDArray[np.bool_] | None) -> float:
        extra = 0 if gone is None else int(gone.sum())
        return (self.manifest.gone + extra) / max(1, self.manifest.rows)

    def _nprobe(self, share: float) -> int:
        """For a filter that this share of the rows meets: as measured for the next smaller share,
        and beyond the smallest as many more as it is smaller."""
        if share >= 1:
            return self.manifest.nprobe
        nprobe = self.manifest.nprobe
        for measured, probes in self.manifest.filtered:
            nprobe = probes
            if measured <= share:
                return nprobe
        least = self.manifest.filtered[-1][0] if self.manifest.filtered else 1.0
        return min(self.manifest.nlist, int(nprobe * least / share))

    def candidates(
        self, queries: Embeddings, depth: int, nprobe: int, chosen: NDArray[np.uint8] | None
    ) -> tuple[Scores, Ids]:
        """``(q, depth)`` scores by the codes, falling, and rows, -1 where there are fewer."""
        import faiss

        parameters: Any = faiss.SearchParametersIVF()
        parameters.nprobe = min(nprobe, self.manifest.nlist)
        if chosen is not None:
            selector = faiss.IDSelectorBitmap(chosen)  # type: ignore[call-arg, arg-type]
            parameters.sel = selector
        if isinstance(self._index, faiss.IndexPreTransform):
            inner = parameters
            parameters = faiss.SearchParametersPreTransform()
            parameters.index_params = inner
        about, rows = self._index.search(queries, depth, params=parameters)
        return about, rows

    def _rank(
        self,
        query: NDArray[np.float32],
        rows: Ids,
        about: Scores,
        gone: NDArray[np.bool_] | None,
        k: int,
    ) -> tuple[Scores, Ids]:
        """Exact scores of the candidates that may be among the best ``k``, and their ids."""
        there = rows >= 0
        if self.manifest.gone:
            there &= self.ids[rows] >= 0
        if gone is not None:
            there &= ~gone[rows]
        if not there.all():
            rows, about = rows[there], about[there]
        first = max(FIRST, 2 * k)
        scores = cosines(self.vectors[rows[:first]], query)
        if len(rows) > first:
            floor = np.partition(scores, first - k)[first - k]
            reach = self.manifest.slack + offset(scores, about)
            # ``about`` falls, so what may still reach the last place lies together.
            end = first + int(np.searchsorted(-about[first:], reach - floor, "right"))
            scores = np.concatenate([scores, cosines(self.vectors[rows[first:end]], query)])
            rows = rows[:end]
        return scores, self.ids[rows]

    def _scan(self, queries: Embeddings, k: int, rows: Ids) -> Found:
        found: Found = [(np.empty(0, np.float32), np.empty(0, np.int64)) for _ in queries]
        for start in range(0, len(rows), BLOCK):
            part = rows[start : start + BLOCK]
            ids, vectors = self.ids[part], self.vectors[part]
            for n, query in enumerate(queries):
                scores, kept = found[n]
                found[n] = best(
                    np.concatenate([scores, cosines(vectors, query)]),
                    np.concatenate([kept, ids]),
                    k,
                )
        return found


def offset(scores: Scores, about: Scores) -> float:
    """How much higher exact scores are than those by the codes, all in all: codes lose a part of
    what lies along the query, of every vector alike."""
    return float(np.median(scores[:FIRST] - about[:FIRST]))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
