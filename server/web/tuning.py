"""Process-wide settings of a server with many threads, each measured with ``benchmarks.load``."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from contextlib import suppress

SWITCH_SECONDS = 0.0002
"""Interval after which a thread gives up the GIL; Python's default is 5 ms. p99 of a known text
under load is 89 ms with 0.2 ms and 267 ms with 5 ms (docs/reliability.md)."""

MALLOC_ARENAS = 2
"""Arenas of glibc's malloc, by default up to eight per core: memory under load is 395 MiB with 2
and 514 MiB with the default."""

ONEDNN_PRIMITIVES = "128"
"""Compiled products and convolutions that oneDNN keeps, by default 1,024, up to half a megabyte
each. A text takes six for each number of tokens; with fewer than 96 an image of the built-in model
takes half as long again."""

OPEN_FILES = 4096
"""Three for each of 1,000 connections, and the library's."""

_M_ARENA_MAX = -8
"""The option's number in glibc's malloc.h."""


def prepare_process() -> None:
    """Makes threads switch sooner and share malloc arenas (glibc only), bounds what oneDNN keeps,
    and allows more open files. To be called before threads start and torch is imported."""
    sys.setswitchinterval(SWITCH_SECONDS)
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", ONEDNN_PRIMITIVES)
    if sys.platform != "win32":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, MALLOC_ARENAS)


def limit_blas_threads() -> None:
    """Makes numpy's matrix products single-threaded; torch and FAISS have their own threads.

    OpenBLAS splits even the small products of a search over all cores and its threads busy-wait for
    each other: p95 of a search beside other programs is 1,309 ms with and 56 ms without
    (docs/reliability.md).
    """
    from threadpoolctl import ThreadpoolController

    # numpy's OpenBLAS uses pthreads. FAISS's uses OpenMP, whose limit would slow FAISS's searches.
    ThreadpoolController().select(threading_layer="pthreads").limit(limits=1)


def freeze_heap() -> None:
    """Excludes all current objects from garbage collection: each full collection scanned the
    266,000 objects of the model and its libraries, and blocked all threads for 0.16 s. Returns free
    memory to the system (glibc only): loading ViT-B/32's text tower leaves 10 MB."""
    gc.collect()
    gc.freeze()
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
