"""FAISS on a GPU (CUDA): whether there is one, and a generation that is searched there.

    gpu = OnGpu(generation)     # its codes are copied; the GPU proposes candidates from then on
    gpu.note                    # why the processor does, where it does

Only who proposes candidates differs. The GPU looks into all of ``nprobe`` lists, for all queries of
a call at once, with tables in float16; candidates are ranked by exact cosine as they are otherwise.
What a GPU cannot do (filters, packed codes, a very deep look) the processor does as before, and so
it does everything where the GPU does not find what it finds, or fails.

**None of this has run on a GPU yet.** It was written by the source of FAISS 1.15 (``faiss/gpu``);
the tests put a copy in memory in the place of the one on a GPU. What CUDA itself reports as an
error, other than memory that is not there, ends the process: FAISS aborts then.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

import numpy as np

from sightline.indexer.errors import UsageError
from sightline.indexer.types import Embeddings, Ids
from sightline.indexer.vector_index.exact import Scores, best
from sightline.indexer.vector_index.generation import Generation

MOST = 2048
"""Candidates, and lists looked into, that FAISS can choose on a GPU."""

TEMPORARY = 512 << 20
"""Bytes of the GPU for what a search computes on its way, taken when a copy is made. A list that a
query looks into takes 130 kB for its tables and some more for its scores, so at 300 lists ten
queries are worked on at once; FAISS takes 1.5 GiB when it is not told."""

CHECKED, AGREEMENT = 64, 0.98
"""So many of the library's own vectors are searched both ways, and such a share of the ten that the
processor finds must be found, or closer ones for them: more lists are looked into. Tables in
float16 may cost some that stand last among the candidates."""

SOME_GONE = (
    "too many of its pictures are gone or were encoded again since, and a GPU cannot pass them"
    " over: run `sightline rebuild`"
)

log = logging.getLogger("sightline")


def gpu_there() -> bool:
    """Whether FAISS is the one for GPUs, and has one."""
    import faiss

    return hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0


def moved(index: Any, device: str, *, half: bool = False) -> Any:
    """``index`` on the GPU that ``device`` names (``auto`` or ``cuda``: the first, ``cuda:1``), in
    float16 with ``half``; None where it names the processor, or no GPU is there for ``auto``.
    UsageError for ``cuda`` without one."""
    import faiss

    if device != "auto" and not device.startswith("cuda"):
        return None
    if not gpu_there():
        if device == "auto":
            return None
        raise _no_gpu("--device")
    options = faiss.GpuClonerOptions()
    options.useFloat16 = half
    number = int(device.partition(":")[2] or 0)
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), number, index, options)


def check_search_device(device: str) -> None:
    """UsageError unless searches can run on ``device``: ``cpu``, or ``cuda`` with a GPU."""
    if device not in ("cpu", "cuda"):
        raise UsageError(f"searches run on cpu or on cuda, not on {device}")
    if device == "cuda" and not gpu_there():
        raise _no_gpu("--search-device")


def _no_gpu(option: str) -> UsageError:
    return UsageError(
        f'FAISS has no GPU here: install ".[gpu]" on a machine with one, or leave out {option}'
    )


def copied(ivf: Any) -> Any:
    """``ivf``, a ``faiss.IndexIVFPQ``, on the first GPU: the codes, the rows they are of, and the
    centroids in the float16 that they are kept in.

    The copy has resources of its own, so that an older one goes on being searched meanwhile, and
    takes them with it when it is let go. RuntimeError where memory does not suffice.
    """
    import faiss

    own: Any = faiss.StandardGpuResources()
    own.setTempMemory(TEMPORARY)
    options = faiss.GpuClonerOptions()
    options.useFloat16 = True  # tables: in float32 those of 64 bytes do not fit in shared memory
    return faiss.index_cpu_to_gpu(own, 0, ivf, options)


class OnGpu:
    """The quantised vectors of a generation on a GPU."""

    def __init__(self, generation: Generation) -> None:
        """Copies them, and has ``generation`` take its candidates from there if it then finds what
        it finds without. Where it does not, or anything goes wrong, ``note`` says so: no error."""
        self.note = _unfit(generation)
        self._rows = generation.manifest.rows
        self._copy: Any = None
        self._lock = threading.Lock()
        if self.note is not None:
            return
        try:
            self._copy = copied(generation.ivf)
            share = self._agreement(generation)
            if share < AGREEMENT:
                self.note = f"the GPU found only {share:.3f} of what the processor finds"
        except (RuntimeError, MemoryError) as error:
            self.note = f"the GPU cannot take it: {_said(error)}"
        if self.note is not None:
            self._copy = None
        generation.gpu = None if self._copy is None else self.candidates

    def _agreement(self, generation: Generation) -> float:
        """The share of what the processor finds that is found this way, too, or closer ones."""
        alive = np.flatnonzero(generation.ids >= 0)
        count = min(CHECKED, len(alive))
        rows = np.random.default_rng(generation.manifest.generation).choice(alive, count, False)
        queries = generation.fetch(np.sort(rows))
        truth = generation.search(queries, 10)
        generation.gpu = self._search
        hits = total = 0
        for one, other in zip(truth, generation.search(queries, 10), strict=True):
            scores, wanted = best(*one, 10)
            closer, found = best(*other, 10)
            last = closer[-1] if len(found) == len(wanted) else -np.inf
            hits += int((np.isin(wanted, found) | (scores <= last)).sum())
            total += len(wanted)
        return hits / max(1, total)

    def candidates(self, queries: Embeddings, depth: int, nprobe: int) -> tuple[Scores, Ids] | None:
        """``(q, depth)`` scores by the codes, falling, and rows, -1 where there are fewer, of the
        ``nprobe`` lists nearest to each of the ``queries`` as the lists know them. None where the
        processor is to be asked; once the GPU has failed, always."""
        try:
            return self._search(queries, depth, nprobe)
        except (RuntimeError, MemoryError) as error:
            with self._lock:
                if self._copy is not None:
                    self._copy, self.note = None, f"the GPU failed: {_said(error)}"
                    log.warning("searches run on the processor from now on: %s", self.note)
            return None

    def _search(self, queries: Embeddings, depth: int, nprobe: int) -> tuple[Scores, Ids] | None:
        import faiss

        if max(depth, nprobe) > MOST:
            return None
        # Never with a selector: FAISS passes it over there without a word.
        look: Any = faiss.SearchParametersIVF(nprobe=nprobe)  # type: ignore[call-arg]
        with self._lock:  # an index on a GPU is for one thread at a time
            if self._copy is None:
                return None
            scores, rows = self._copy.search(queries, depth, params=look)
        if rows.size and not -1 <= rows.min() <= rows.max() < self._rows:
            raise RuntimeError("it answered with rows that do not exist")
        return scores, rows


def _unfit(generation: Generation) -> str | None:
    """Why a GPU would be of no use, known without one."""
    import faiss

    manifest = generation.manifest
    if not isinstance(generation.ivf, faiss.IndexIVFPQ):
        return "FAISS searches only codes of eight bits on a GPU, those of larger ivf-pq libraries"
    if max(manifest.depth, manifest.nprobe) > MOST:
        return f"a GPU chooses {MOST:,} at most, and a search here takes more"
    return SOME_GONE if generation.many_gone() else None


def _said(error: Exception) -> str:
    """FAISS's own words, without the place in its source."""
    text = " ".join(str(error).split()).rpartition(" failed: ")[2]
    return text[:200] or type(error).__name__
