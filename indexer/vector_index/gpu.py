"""FAISS on a GPU (CUDA): training, adding, and proposing candidates.

    index_on_gpu = to_gpu(index, "auto")     # None without a GPU
    copy = GpuCopy(generation)               # its candidates come from the GPU from now on
    copy.note                                # why the CPU searches, if it does

On a GPU a search scans the ``nprobe`` nearest lists, for all queries of a call at once; candidates
are re-ranked on the CPU as always. The CPU searches what a GPU cannot: filters, 4-bit codes,
RaBitQ, more than 2,048 candidates; and everything after a GPU error. CUDA errors other than a lack
of memory end the process, because FAISS aborts.

Not yet run on a GPU: written against the source of FAISS 1.15 (``faiss/gpu``), and tested with a
copy on the CPU instead.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from sightline.indexer.errors import UsageError
from sightline.indexer.types import Embeddings, Ids
from sightline.indexer.vector_index.exact import Scores
from sightline.indexer.vector_index.generation import Generation

MAX_SELECTION = 2048
"""FAISS's limit on a GPU for candidates and for probed lists per query."""

MANY_DELETED_NOTE = (
    "too many images were deleted or encoded again since the index was built, which a GPU search"
    " cannot skip: run `sightline rebuild`"
)

log = logging.getLogger("sightline")


def gpu_available() -> bool:
    """Whether FAISS is built for GPUs and finds one."""
    import faiss

    return hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0


def to_gpu(index: Any, device: str, *, float16: bool = False) -> Any:
    """A copy of ``index`` on the GPU ``device`` (``cuda:1``; ``auto`` and ``cuda`` are the first);
    None for the CPU, and for ``auto`` without a GPU. UsageError for ``cuda`` without a GPU."""
    import faiss

    if device != "auto" and not device.startswith("cuda"):
        return None
    if not gpu_available():
        if device == "auto":
            return None
        raise _no_gpu("--device")
    options = faiss.GpuClonerOptions()
    options.useFloat16 = float16  # also of IVF-PQ's tables, which do not fit in float32
    number = int(device.partition(":")[2] or 0)
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), number, index, options)


def check_search_device(device: str) -> None:
    """UsageError unless searches can run on ``device``: ``cpu``, or ``cuda`` with a GPU."""
    if device not in ("cpu", "cuda"):
        raise UsageError(f"searches run on cpu or cuda, not on {device}")
    if device == "cuda" and not gpu_available():
        raise _no_gpu("--search-device")


def _no_gpu(option: str) -> UsageError:
    return UsageError(
        f'FAISS has no GPU here: install ".[gpu]" on a machine with one, or leave out {option}'
    )


class GpuCopy:
    """The quantised vectors of a generation on the first GPU."""

    def __init__(self, generation: Generation) -> None:
        """Copies them and makes ``generation`` take its candidates from the GPU. If that is not
        possible ``note`` is the reason, and the CPU searches."""
        self.note = _unsupported(generation)
        self._index: Any = None
        self._lock = threading.Lock()
        if self.note is None:
            try:
                self._index = to_gpu(generation.ivf, "cuda", float16=True)
                generation.gpu = self.candidates
            except (RuntimeError, MemoryError) as error:
                self.note = f"the index cannot be copied to the GPU: {_reason(error)}"

    def candidates(self, queries: Embeddings, depth: int, nprobe: int) -> tuple[Scores, Ids] | None:
        """``(q, depth)`` quantised scores, descending, and rows, padded with -1, from the
        ``nprobe`` nearest lists of each of the rotated ``queries``. None if the CPU must search:
        for too many candidates, and always after an error."""
        import faiss

        if max(depth, nprobe) > MAX_SELECTION:
            return None
        parameters: Any = faiss.SearchParametersIVF()
        parameters.nprobe = nprobe
        with self._lock:  # GPU indexes are not thread-safe
            if self._index is None:
                return None
            try:
                return self._index.search(queries, depth, params=parameters)
            except (RuntimeError, MemoryError) as error:
                self._index, self.note = None, f"the GPU failed: {_reason(error)}"
                log.warning("searches run on the CPU from now on: %s", self.note)
                return None


def _unsupported(generation: Generation) -> str | None:
    """Why a GPU cannot search this generation."""
    import faiss

    manifest = generation.manifest
    if not isinstance(generation.ivf, faiss.IndexIVFPQ):
        return "FAISS searches only 8-bit IVF-PQ on a GPU, which ivf-pq uses from 300,000 images"
    if max(manifest.depth, manifest.nprobe) > MAX_SELECTION:
        return f"a GPU search is limited to {MAX_SELECTION:,} candidates; this index needs more"
    return MANY_DELETED_NOTE if generation.many_deleted() else None


def _reason(error: Exception) -> str:
    """FAISS's message without the position in its source."""
    text = " ".join(str(error).split()).rpartition(" failed: ")[2]
    return text[:200] or type(error).__name__
