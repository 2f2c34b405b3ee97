"""Process-wide settings that lower the tail latency of a server with many threads."""

from __future__ import annotations

import gc
import sys

SWITCH_SECONDS = 0.0002
"""Interval after which a thread gives up the GIL; Python's default is 5 ms. p99 of small requests
under load is 16 ms with 0.2 ms and 31 ms with 1 ms (docs/reliability.md)."""


def tune_process() -> None:
    """Makes threads switch sooner, and numpy's matrix products single-threaded.

    OpenBLAS splits even the small products of a search over all cores and its threads busy-wait for
    each other: p95 of a search beside other programs is 1,309 ms with and 56 ms without
    (docs/benchmarks.md). torch and FAISS have their own threads.
    """
    from threadpoolctl import ThreadpoolController

    sys.setswitchinterval(SWITCH_SECONDS)
    # numpy's OpenBLAS uses pthreads. FAISS's uses OpenMP, whose limit would slow FAISS's searches.
    ThreadpoolController().select(threading_layer="pthreads").limit(limits=1)


def freeze_heap() -> None:
    """Excludes all current objects from garbage collection: each full collection scanned the
    266,000 objects of the model and its libraries, and blocked all threads for 0.16 s."""
    gc.collect()
    gc.freeze()
