"""One generation of a quantised index, opened for searching.

A search has two stages. FAISS scans inverted lists and returns candidates by their quantised
vectors (IVF-PQ or IVF-RaBitQ); candidates are re-ranked by their exact cosine, computed from the
float16 vectors stored beside the index.

The number of lists scanned depends on the query: up to ``nprobe`` lists whose centroid is almost as
close as the nearest one ("query-aware dynamic pruning", Chen et al., SPANN, 2021). The neighbours
of an image are in few lists. A text embedding is outside of the cone of image embeddings and about
equally close to many centroids.

FAISS's ids are row numbers; ``ids`` maps a row to its image. Files are memory-mapped and nothing is
modified after opening, so any number of threads may search.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.types import Embeddings, Ids
from sightline.indexer.vector_index.exact import (
    BLOCK,
    Found,
    IdFilter,
    Mask,
    Scores,
    cosines,
    selector,
    to_float32,
    top_k,
)
from sightline.indexer.vector_index.manifest import (
    UNLIMITED,
    Manifest,
    UntrustedError,
    verify,
)

TUNED_K = 10
"""Results per query that ``nprobe``, ``radius`` and ``depth`` of a manifest are measured for."""

EXACT_ROWS = 5_000
"""Rows accepted by a filter up to which all of them are scored exactly (2 ms at 512 dimensions)."""

SCAN_DEPTH = 1 / 8
"""Fraction of the accepted rows to re-rank from which scoring all of them is faster."""

DEPTH_PER_RESULT = 3
"""Candidates re-ranked for each result beyond ``TUNED_K``."""

RADIUS_GROWTH = 0.5
"""Growth of the probing radius per factor of ten in the rank of a result: see ``probing``."""

CODES_PER_RANK, RANK_EXPONENT = 500, 0.75
"""Codes scanned at least, as a power of the rank of a result: see ``probing``."""

LARGEST_LIST = 4
"""Size of the largest lists, in means."""

MANY_DELETED = 0.02
"""Fraction of deleted rows from which FAISS skips them; below, candidates are dropped after it."""

GpuSearch = Callable[[Embeddings, int, int], tuple[Scores, Ids] | None]
"""(rotated queries, depth, lists) -> as ``candidates``, or None to search on the CPU."""


@dataclass(frozen=True)
class Probing:
    """Which inverted lists a query scans."""

    nprobe: int
    """Maximum number of lists within ``radius``."""
    radius: float = UNLIMITED
    """How much lower than that of the nearest centroid the cosine of a centroid may be."""
    min_codes: int = 0
    """Further lists are scanned until the lists hold as many codes."""


@dataclass(frozen=True, eq=False)
class FilteredRows:
    """The rows that a filter accepts in one generation."""

    manifest: Manifest
    deleted: Mask | None
    """Rows left out because they were deleted; with ``manifest`` the key of this cache."""
    rows: Ids
    """Ascending."""
    selector: Any
    """The same for FAISS; None where all of them are scored exactly."""


class Generation:
    """The open files of one manifest."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        """UntrustedError if the files are not those of the manifest."""
        import faiss

        verify(directory, manifest)
        self.manifest = manifest
        paths = {name: directory / facts.name for name, facts in manifest.files.items()}
        shape = manifest.rows, manifest.dimension
        try:
            # Plain views: indexing a memmap takes longer.
            self.ids: Ids = np.asarray(np.memmap(paths["ids"], "<i8", "r", shape=shape[:1]))
            with paths["vectors"].open("rb") as file:
                self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self.vectors: NDArray[np.float16] = np.frombuffer(self._mapped, "<f2").reshape(shape)
            # IO_FLAG_MMAP, unlike MMAP_IFC, reads lists in other threads: three times as slow.
            index: Any = faiss.read_index(str(paths["index"]), faiss.IO_FLAG_MMAP_IFC)
        except (KeyError, ValueError, OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UntrustedError(f"the index cannot be opened ({reason})") from error
        if (index.ntotal, index.d) != shape:
            raise UntrustedError("the index does not have the size that its manifest says")
        self._index = index  # owns the parts below
        self._transform: Any = index.chain.at(0)
        self.ivf: Any = faiss.downcast_index(faiss.extract_index_ivf(index))
        """``faiss.IndexIVF...``: centroids and inverted lists."""
        self.gpu: GpuSearch | None = None
        """Replaces ``candidates`` for searches without a filter: ``gpu.GpuCopy``."""

    def release_memory(self) -> None:
        """Unmaps the pages of the vectors; searches map those that they read again. The system
        still caches the file. Does nothing on Windows."""
        if hasattr(self._mapped, "madvise"):
            self._mapped.madvise(mmap.MADV_DONTNEED)

    @cached_property
    def _order(self) -> Ids | None:
        """Rows in the order of their ids; None if they are already."""
        ids = self.ids
        return None if (ids[1:] > ids[:-1]).all() else np.argsort(ids, kind="stable")

    @cached_property
    def _sorted_ids(self) -> Ids:
        return self.ids if self._order is None else self.ids[self._order]

    @cached_property
    def _list_sizes(self) -> Ids:
        """Rows in each inverted list."""
        lists = self.ivf.invlists
        return np.array([lists.list_size(n) for n in range(self.manifest.nlist)])

    @cached_property
    def _consecutive(self) -> bool:
        """Whether row ``n`` has the id ``ids[0] + n``."""
        return self._order is None and self.ids[-1] - self.ids[0] == len(self.ids) - 1

    def rows_of(self, wanted: IdFilter) -> Ids:
        """The rows of those of the ids that are in this generation, ascending."""
        if self._consecutive:
            first, last = self.ids[0], self.ids[-1]
            bounds = np.searchsorted(wanted.ids, (first, last + 1))
            return wanted.ids[slice(*bounds)] - first
        rows = wanted.positions(self._sorted_ids)
        rows = rows if self._order is None else np.sort(self._order[rows])
        return rows[self.ids[rows] >= 0]

    def filtered(self, allowed: IdFilter, deleted: Mask | None) -> FilteredRows:
        """The rows that ``allowed`` accepts and that are not deleted; cached in ``allowed``."""
        cached: FilteredRows | None = allowed.rows
        if cached and cached.manifest is self.manifest and cached.deleted is deleted:
            return cached
        rows = self.rows_of(allowed)
        if deleted is not None:
            rows = rows[~deleted[rows]]
        accept = selector(rows, self.manifest.rows) if len(rows) > EXACT_ROWS else None
        allowed.rows = found = FilteredRows(self.manifest, deleted, rows, accept)
        return found

    def fetch(self, rows: Ids) -> Embeddings:
        """``(n, d) float32``: the vectors of ``rows``."""
        return to_float32(self.vectors[rows])

    def vectors_of(self, ids: Ids, deleted: Mask | None) -> tuple[Mask, Embeddings]:
        """Which of ``ids`` are here, and ``(n, d)`` vectors; rows of absent ids are undefined."""
        if self._consecutive:
            rows = np.clip(ids - self.ids[0], 0, len(self.ids) - 1)
        else:
            rows = np.minimum(np.searchsorted(self._sorted_ids, ids), len(self.ids) - 1)
            rows = rows if self._order is None else self._order[rows]
        here = (self.ids[rows] == ids) & (ids >= 0)
        if deleted is not None:
            here &= ~deleted[rows]
        return here, self.fetch(rows)

    def search(
        self,
        queries: Embeddings,
        k: int,
        *,
        allowed: IdFilter | None = None,
        deleted: Mask | None = None,
    ) -> Found:
        """Top ``k`` of each of ``(q, d)`` ``queries``, with exact scores. ``deleted`` marks rows
        that were deleted after the files were written."""
        filtered = None if allowed is None else self.filtered(allowed, deleted)
        count = self.manifest.rows if filtered is None else len(filtered.rows)
        depth = self.manifest.depth + DEPTH_PER_RESULT * max(0, k - TUNED_K)
        if depth >= SCAN_DEPTH * count or (filtered is not None and filtered.selector is None):
            return self._scan(queries, k, self.live(deleted) if filtered is None else filtered.rows)
        accept = None
        if filtered is not None:
            accept = filtered.selector
        elif self.many_deleted(deleted):
            accept = selector(self.live(deleted), self.manifest.rows)
        probing = self.probing(k, count / self.manifest.rows)
        found = None
        if self.gpu is not None and accept is None:
            found = self.gpu(self._transform.apply(queries), depth, self._max_lists(probing))
        if found is None:
            found = self.candidates(queries, depth, probing, accept)
        return [
            self._rerank(query, rows[rows >= 0], deleted)
            for query, rows in zip(queries, found[1], strict=True)
        ]

    def live(self, deleted: Mask | None = None) -> Ids:
        """Rows that are not deleted, ascending."""
        live = self.ids >= 0
        return np.flatnonzero(live if deleted is None else live & ~deleted)

    def many_deleted(self, deleted: Mask | None = None) -> bool:
        """Whether more than ``MANY_DELETED`` of the rows are deleted."""
        count = self.manifest.deleted + (0 if deleted is None else int(deleted.sum()))
        return count > MANY_DELETED * self.manifest.rows

    def probing(self, k: int, fraction: float) -> Probing:
        """Which lists to scan for ``k`` results among this ``fraction`` of the rows.

        The nearest 10 of a random tenth of the rows are the nearest 100 of all rows, so what counts
        is ``rank = k / fraction``. Beyond the rank that ``radius`` was measured for, the radius
        grows with the logarithm of the rank, and the minimum of codes with a power of it.
        """
        rank = max(TUNED_K, k / fraction)
        radius = self.manifest.radius * (1 + RADIUS_GROWTH * math.log10(rank / TUNED_K))
        min_codes = CODES_PER_RANK * (rank**RANK_EXPONENT - TUNED_K**RANK_EXPONENT)
        return Probing(self.manifest.nprobe, radius, int(min_codes))

    def _max_lists(self, probing: Probing) -> int:
        """Lists per query that ``probing`` can require."""
        nlist = self.manifest.nlist
        enough = LARGEST_LIST * probing.min_codes * nlist // self.manifest.rows
        return min(nlist, max(probing.nprobe, enough))

    def probed_lists(self, queries: Embeddings, probing: Probing) -> tuple[Embeddings, Scores, Ids]:
        """The lists that each of ``(q, d)`` ``queries`` scans.

        Returns rotated queries ``(q, d)``, cosines of the centroids ``(q, n)``, descending, and
        list numbers ``(q, n)``, -1 at the end of shorter rows.
        """
        rotated = self._transform.apply(queries)
        near, lists = self.ivf.quantizer.search(rotated, self._max_lists(probing))
        probed = near >= near[:, :1] - probing.radius
        probed[:, probing.nprobe :] = False
        if probing.min_codes:
            sizes = self._list_sizes[lists]
            probed |= np.cumsum(sizes, axis=1) - sizes < probing.min_codes
        lists[~probed] = -1
        longest = int(probed.sum(axis=1).max())
        return (
            rotated,
            np.ascontiguousarray(near[:, :longest]),
            np.ascontiguousarray(lists[:, :longest]),
        )

    def assigned_lists(self, rows: Ids) -> Ids:
        """The list that contains each row: that of the nearest centroid."""
        return self.ivf.quantizer.search(self._transform.apply(self.fetch(rows)), 1)[1][:, 0]

    def candidates(
        self, queries: Embeddings, depth: int, probing: Probing, accept: Any = None
    ) -> tuple[Scores, Ids]:
        """Quantised scores ``(q, depth)``, descending, and rows, padded with -1, found in
        ``probed_lists``. ``accept`` is a ``faiss.IDSelector``."""
        import faiss

        rotated, near, lists = self.probed_lists(queries, probing)
        parameters: Any = faiss.SearchParametersIVF()
        parameters.nprobe = lists.shape[1]
        if accept is not None:
            parameters.sel = accept
        scores = np.empty((len(queries), depth), np.float32)
        rows = np.empty((len(queries), depth), np.int64)
        # The C++ method: FAISS's Python wrapper of it takes no search parameters.
        self.ivf.search_preassigned_c(
            len(queries),
            faiss.swig_ptr(rotated),
            depth,
            faiss.swig_ptr(lists),
            faiss.swig_ptr(near),
            faiss.swig_ptr(scores),
            faiss.swig_ptr(rows),
            False,
            parameters,
            None,
        )
        return scores, rows

    def _rerank(
        self, query: NDArray[np.float32], rows: Ids, deleted: Mask | None
    ) -> tuple[Scores, Ids]:
        """Exact scores and ids of those of the candidate ``rows`` that are not deleted."""
        if self.manifest.deleted:
            rows = rows[self.ids[rows] >= 0]
        if deleted is not None:
            rows = rows[~deleted[rows]]
        return cosines(self.vectors, query, rows), self.ids[rows]

    def _scan(self, queries: Embeddings, k: int, rows: Ids) -> Found:
        """Top ``k`` of ``rows`` by exact search."""
        found: Found = [(np.empty(0, np.float32), np.empty(0, np.int64)) for _ in queries]
        for start in range(0, len(rows), BLOCK):
            block = rows[start : start + BLOCK]
            ids, vectors = self.ids[block], self.vectors[block]
            for n, query in enumerate(queries):
                scores = np.concatenate([found[n][0], cosines(vectors, query)])
                found[n] = top_k(scores, np.concatenate([found[n][1], ids]), k)
        return found
