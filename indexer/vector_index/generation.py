"""One generation of a quantised index, opened for searching.

FAISS proposes candidates by their quantised vectors; they are ranked by the exact cosine of the
float16 vectors that lie beside it. How many lists it looks into depends on the query: those whose
centroid is nearly as close as the closest one ("query-aware dynamic pruning": Chen et al., SPANN,
2021). A picture's neighbours lie in few lists; a text, off the cone of the pictures, is about as
close to many. Row numbers are FAISS's ids; ``ids`` gives the image of a row.
Everything is memory-mapped (but packed codes, which FAISS reads) and nothing is changed after
opening, so that any number of threads may search.
"""

from __future__ import annotations

import math
import mmap
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.types import Embeddings, Ids
from sightline.indexer.vector_index.exact import (
    Allowed,
    Bits,
    Scores,
    best,
    bits_of,
    cosines,
    ids_in,
    widened,
)
from sightline.indexer.vector_index.manifest import (
    EVERYWHERE,
    Manifest,
    Reach,
    UntrustedError,
    verify,
)

EXACT_ROWS = 5_000
"""Where a filter leaves no more rows than this, all of them are ranked."""

MANY_GONE = 0.02
"""Beyond this share of rows that are gone, FAISS is told which; below, their places among the
candidates are spared."""

FURTHER, CANDIDATES_A_RESULT, CODES_A_RESULT = 0.25, 5, 128
"""For more results than the ten that are tuned for: so much further it is reached, in proportion to
the logarithm, for a hundred and more, and into twice so many more lists at most; and for each so
many more candidates are ranked and at least so many codes looked at. At a million that finds .97 of
the first 50 to 300 too."""

CODES_OF_A_SHARE = 0.75
"""Of the codes that are looked at under a filter only its share counts; but what it leaves is as
close together as before. With 1 all codes are looked at for the first 256 of a twentieth, with 0.5
.94 of the first hundred pictures like one are found of a tenth, with this .97."""

ENOUGH = 300
"""Results beyond which no more codes are asked for: of the first 1,000 of a million .95 are found
then, of 2,000 .90; with codes for each of them it is .98 and .99 in twice the time."""

FIRST = 64
"""Candidates ranked at first, or twice what is wanted: they say what the others must reach."""

BLOCK = 65_536
"""Rows scanned at a time."""

MADV_POPULATE_READ = 22
"""Linux's number for it; Python has no name for it yet."""

POPULATED = 2
"""Times the bytes of a file: a machine with so much memory has its pages entered beforehand."""

Found = list[tuple[Scores, Ids]]
Propose = Callable[[Embeddings, int, int], tuple[Scores, Ids] | None]
"""Given queries as the lists know them, how many and ``nprobe``: what ``candidates`` gives, or None
where it is to be asked."""


@dataclass(frozen=True, eq=False)
class Left:
    """The rows that a filter leaves."""

    manifest: Manifest
    """Of the generation whose rows they are,"""
    gone: NDArray[np.bool_] | None
    """without these."""
    count: int
    few: Ids | None
    """Themselves, where they are no more than ``EXACT_ROWS``,"""
    bits: Bits | None
    """or as a set."""

    @property
    def rows(self) -> Ids:
        """Sorted."""
        if self.bits is not None:
            return ids_in(self.bits)
        assert self.few is not None
        return self.few


class Generation:
    """The files of one manifest, open."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        """UntrustedError when the files are not what the manifest says."""
        import faiss

        verify(directory, manifest)
        self.manifest = manifest
        names = {name: directory / facts.name for name, facts in manifest.files.items()}
        try:
            self.ids: Ids = _mapped(names["ids"], "<i8")
            shape = (manifest.rows, manifest.dimension)
            self.vectors: NDArray[np.float16] = _mapped(names["vectors"], "<f2").reshape(shape)
            # Packed codes are read, others mapped. IO_FLAG_MMAP, the older way of mapping, goes
            # through lists "on disk" that threads fetch ahead: three times as slow as memory.
            index: Any = faiss.read_index(str(names["index"]), faiss.IO_FLAG_MMAP_IFC)
        except (KeyError, ValueError, OSError, RuntimeError) as error:
            raise UntrustedError(f"the index cannot be opened ({_line(error)})") from error
        if (
            index.ntotal != manifest.rows
            or index.d != manifest.dimension
            or len(self.ids) != manifest.rows
        ):
            raise UntrustedError("the index is not of the size that its manifest says")
        self._index = index  # which owns its parts
        self.ivf: Any = faiss.downcast_index(faiss.extract_index_ivf(index))
        """FAISS's inverted lists."""
        self._turn: Any = index.chain.at(0)
        self.gpu: Propose | None = None
        """Proposes candidates where nothing is filtered: ``index_gpu.OnGpu``."""

    @cached_property
    def _order(self) -> Ids | None:
        """Rows in the order of their ids; None when they lie so."""
        ids = self.ids
        return None if (ids[1:] > ids[:-1]).all() else np.argsort(ids, kind="stable")

    @cached_property
    def _sizes(self) -> Ids:
        """Rows in each list."""
        lists = self.ivf.invlists
        return np.array([lists.list_size(n) for n in range(self.manifest.nlist)])

    @cached_property
    def _sorted(self) -> Ids:
        return self.ids if self._order is None else self.ids[self._order]

    def rows_of(self, allowed: Allowed) -> Ids:
        """The rows of those of its ids that are here, sorted."""
        if self._order is None and self.ids[-1] - self.ids[0] == len(self.ids) - 1:  # no gaps
            ends = np.searchsorted(allowed.ids, (self.ids[0], self.ids[-1] + 1))
            return allowed.ids[slice(*ends)] - self.ids[0]
        places = allowed.places(self._sorted)
        places = places if self._order is None else np.sort(self._order[places])
        return places[self.ids[places] >= 0]

    def left(self, allowed: Allowed, gone: NDArray[np.bool_] | None) -> Left:
        """What a filter leaves; ``allowed`` remembers it."""
        known: Left | None = allowed.left
        if known is not None and known.manifest is self.manifest and known.gone is gone:
            return known
        rows = self.rows_of(allowed)
        if gone is not None:
            rows = rows[~gone[rows]]
        small = len(rows) <= EXACT_ROWS
        few, bits = (rows, None) if small else (None, bits_of(rows, self.manifest.rows))
        allowed.left = made = Left(self.manifest, gone, len(rows), few, bits)
        return made

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
    ) -> Found:
        """For each of ``(q, d)`` queries the exact scores of its best ``k`` and their ids, in no
        order, perhaps more. ``gone`` marks rows that must not be found."""
        left = None if allowed is None else self.left(allowed, gone)
        there = self.manifest.rows if left is None else left.count
        beyond = max(0, k - 10)
        depth = self.manifest.depth + CANDIDATES_A_RESULT * beyond
        if (left is not None and there <= max(EXACT_ROWS, depth)) or depth * 8 >= there:
            rows = np.flatnonzero(self._alive(gone)) if left is None else left.rows
            return self._scan(queries, k, rows)
        chosen = None
        if left is not None:
            chosen = left.bits
        elif self.many_gone(gone):
            chosen = np.packbits(self._alive(gone), bitorder="little")
        share = there / self.manifest.rows
        most, reach = self._look(share)
        if beyond:
            further = FURTHER * min(1.0, math.log10(k / 10))
            most, reach = math.ceil(most * (1 + 2 * further)), times_as_far(reach, 1 + further)
        least = int(CODES_A_RESULT * min(beyond, ENOUGH) / share**CODES_OF_A_SHARE)
        proposed = None
        if self.gpu is not None and chosen is None:
            proposed = self.gpu(self._turn.apply(queries), depth, self._seen(most, least))
        if proposed is None:
            proposed = self.candidates(queries, depth, most, reach, chosen, least=least)
        about, near = proposed
        return [
            self._rank(query, rows, scores, gone, k)
            for query, rows, scores in zip(queries, near, about, strict=True)
        ]

    def _alive(self, gone: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
        alive = self.ids >= 0
        return alive if gone is None else alive & ~gone

    def many_gone(self, gone: NDArray[np.bool_] | None = None) -> bool:
        """Whether FAISS must be told which rows are gone: ``gone`` and what was so when written."""
        extra = 0 if gone is None else int(gone.sum())
        return self.manifest.gone + extra > MANY_GONE * self.manifest.rows

    def _look(self, share: float) -> tuple[int, Reach]:
        """``nprobe`` and ``reach`` for a filter that this share of the rows meets: as measured for
        the next smaller share, and beyond the smallest as many more as it is smaller."""
        nprobe, reach = self.manifest.nprobe, self.manifest.reach
        if share >= 1:
            return nprobe, reach
        for measured, nprobe, reach in self.manifest.filtered:
            if measured <= share:
                return nprobe, reach
        least = self.manifest.filtered[-1][0] if self.manifest.filtered else 1.0
        return min(self.manifest.nlist, int(nprobe * least / share)), EVERYWHERE

    def _seen(self, nprobe: int, least: int) -> int:
        """How many of the nearest lists may be looked into for ``nprobe``, or ``least`` rows."""
        nlist = self.manifest.nlist
        # The largest lists are some four times the mean.
        return min(nlist, max(nprobe, 4 * least * nlist // self.manifest.rows))

    def lists(
        self, queries: Embeddings, nprobe: int, reach: Reach = EVERYWHERE, *, least: int = 0
    ) -> tuple[Embeddings, Scores, Ids]:
        """``queries`` as the lists know them, and for each the products with the centroids of the
        lists to look into, falling, and the lists, -1 where they are fewer: up to ``nprobe`` within
        ``reach`` of the best, and in any case as many as hold ``least`` rows."""
        turned = self._turn.apply(queries)
        near, lists = self.ivf.quantizer.search(turned, self._seen(nprobe, least))
        at, far = zip(*reach, strict=True)
        wanted = near >= near[:, :1] - np.interp(near[:, :1], at, far)
        if least:
            # A query that is about as close to everything would look into all that are seen.
            wanted[:, nprobe:] = False
            before = np.cumsum(self._sizes[lists], axis=1) - self._sizes[lists]
            wanted |= (before < least) & (lists >= 0)
        lists[~wanted] = -1
        used = int(wanted.sum(axis=1).max())
        return turned, np.ascontiguousarray(near[:, :used]), np.ascontiguousarray(lists[:, :used])

    def homes(self, rows: Ids) -> Ids:
        """The list that each row belongs to: that of the nearest centroid."""
        return self.ivf.quantizer.search(self._turn.apply(self.fetch(rows)), 1)[1][:, 0]

    def candidates(
        self,
        queries: Embeddings,
        depth: int,
        nprobe: int,
        reach: Reach,
        chosen: NDArray[np.uint8] | None,
        *,
        least: int = 0,
    ) -> tuple[Scores, Ids]:
        """``(q, depth)`` scores by the codes, falling, and rows, -1 where there are fewer, from the
        ``lists`` that these say."""
        import faiss

        turned, near, lists = self.lists(queries, nprobe, reach, least=least)
        parameters: Any = faiss.SearchParametersIVF()
        parameters.nprobe = lists.shape[1]
        if chosen is not None:
            selector = faiss.IDSelectorBitmap(chosen)  # type: ignore[call-arg, arg-type]
            parameters.sel = selector
        about = np.empty((len(queries), depth), np.float32)
        rows = np.empty((len(queries), depth), np.int64)
        # The plain method of C++: what Python wraps around it takes no parameters.
        self.ivf.search_preassigned_c(
            len(queries),
            faiss.swig_ptr(turned),
            depth,
            faiss.swig_ptr(lists),
            faiss.swig_ptr(near),
            faiss.swig_ptr(about),
            faiss.swig_ptr(rows),
            False,
            parameters,
            None,
        )
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
        if rows[-1] < 0:  # where there are fewer, they end so
            rows, about = rows[rows >= 0], about[rows >= 0]
        if self.manifest.gone or gone is not None:
            there = self.ids[rows] >= 0
            if gone is not None:
                there &= ~gone[rows]
            rows, about = rows[there], about[there]
        first = max(FIRST, 2 * k)
        scores = cosines(self.vectors[rows[:first]], query)
        if len(rows) > first:
            floor = np.partition(scores, first - k)[first - k]
            reach = self.manifest.slack + offset(scores, about)
            # ``about`` falls, so what may still reach the last place lies together.
            end = first + int(np.searchsorted(-about[first:], reach - floor, "right"))
            if end > first:
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


def _mapped(path: Path, dtype: str) -> NDArray[Any]:
    """A file as an array, read-only. Where it is small beside the machine's memory its pages, which
    lie in the system's cache since it was verified, are entered into the page table at once (0.05 s
    for a GB): otherwise the first look at each costs five times as much as the look itself."""
    with path.open("rb") as file:
        size = path.stat().st_size
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    if isinstance(pages, mmap.mmap) and sys.platform == "linux":
        if size * POPULATED < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
            with suppress(OSError):  # not before Linux 5.14
                pages.madvise(MADV_POPULATE_READ)
    return np.frombuffer(pages, dtype)


def times_as_far(reach: Iterable[tuple[float, float]], times: float) -> Reach:
    """``reach``, so many times as far."""
    return tuple((best, times * far) for best, far in reach)


def offset(scores: Scores, about: Scores) -> float:
    """How much higher exact scores are than those by the codes, all in all: codes lose a part of
    what lies along the query, of every vector alike."""
    above = scores[:FIRST] - about[:FIRST]
    middle = len(above) // 2
    return float(np.partition(above, middle)[middle])  # ``np.median`` takes ten times as long


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
