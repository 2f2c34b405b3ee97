"""Recall and speed of the vector index beside exact search, in one process.

    python -m benchmarks.vector_index [--images 100000] [--kind auto] [--rebuild] [--grow]
        [--keep DIRECTORY] [--write VECTORS.npy] [--peer INDEX.faiss] [--search-device cuda]

Indexes generated vectors with CLIP's geometry (``benchmarks.clip_geometry``) as a library would be.
A search is timed as a whole: from a vector to ranked ids and exact scores. Prints the time and
memory of the build, bytes on disk and in memory, and recall, p50 and p99 of single queries on one
thread: image and text queries that were not used for tuning, beside FAISS's ``IndexFlatIP`` (and
``HNSW32`` up to 100,000 vectors), for more results and under filters; then searches per second from
1, 2, 8 and 32 threads.

``--keep`` stores vectors and index in a directory and reuses them. ``--write`` only writes the
vectors, for another program; ``--peer`` measures the FAISS index that it built of them.
``--rebuild`` times searches while another process builds the next generation. ``--grow`` only
builds the index, adds 1 % of the images at a time until the index has been extended twice, and
prints the CPU time of each step and searches after it. ``--search-device cuda`` also searches the
index on a GPU, one query at a time and in batches.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from benchmarks.clip_geometry import ClipGeometry
from sightline.indexer.catalog.embeddings import Changes
from sightline.indexer.types import Embeddings, Ids
from sightline.indexer.vector_index import (
    VectorIndex,
    build_index,
    check_search_device,
    maintain_index,
    open_index,
)

DIMENSION = 512
BLOCK = 50_000
QUERIES, FEW_QUERIES = 300, 60
"""Of each kind; fewer for exact search, for more results and under filters."""
MAX_IN_MEMORY = 2_000_000
"""More vectors are stored in a file, and Flat, which needs twice as many bytes, is left out."""


Search = Callable[..., tuple[Embeddings, Ids]]
"""(queries, k) -> scores and ids."""


class VectorsInMemory:
    """A source of vectors, like a catalog. ``ids`` and ``vectors`` hold none added later."""

    dimension, identity = DIMENSION, "benchmark"

    def __init__(self, count: int, geometry: ClipGeometry, file: Path | None = None) -> None:
        """Reads the vectors from ``file`` if it exists, or generates them and writes it."""
        self.count = count
        self._added: list[tuple[Ids, Embeddings]] = []
        self.ids = np.arange(1, count + 1)
        self.vectors: np.ndarray
        shape = count, DIMENSION
        if file is not None and file.exists():
            self.vectors = np.memmap(file, np.float16, "r", shape=shape)
            return
        if file is not None:
            self.vectors = np.memmap(file, np.float16, "w+", shape=shape)
        elif count > MAX_IN_MEMORY:
            with tempfile.TemporaryFile() as scratch:
                self.vectors = np.memmap(scratch, np.float16, "w+", shape=shape)
        else:
            self.vectors = np.empty(shape, np.float16)
        for start in range(0, count, BLOCK):
            size = min(BLOCK, count - start)
            self.vectors[start : start + size] = geometry.images(size, seed=start)

    @property
    def version(self) -> int:
        """1, and 1 for each ``add``."""
        return 1 + len(self._added)

    def add(self, vectors: Embeddings) -> None:
        """Adds images, all in one version."""
        self._added.append((self.count + np.arange(1, len(vectors) + 1), vectors))
        self.count += len(vectors)

    def blocks(
        self,
        size: int = BLOCK,
        *,
        after_version: int | None = None,
        until_version: int | None = None,
    ) -> Iterator[tuple[Ids, Embeddings]]:
        """All vectors, in the order of ids, or those newer than a version."""
        for start in range(0, 0 if after_version else len(self.ids), size):
            part = self.vectors[start : start + size]
            yield self.ids[start : start + size], part.astype(np.float32)
        yield from self._added_after(after_version or 1)

    def changes(self, after_version: int) -> Changes:
        """The images added since."""
        added = self._added_after(after_version)
        none = np.empty(0, np.int64)
        return Changes(
            np.concatenate([none, *(ids for ids, _ in added)]),
            np.concatenate([np.empty((0, DIMENSION), np.float32), *(some for _, some in added)]),
            none,
            self.version,
        )

    def pending(self, after_version: int) -> int:
        """The number of them."""
        return sum(len(ids) for ids, _ in self._added_after(after_version))

    def _added_after(self, version: int) -> list[tuple[Ids, Embeddings]]:
        return self._added[version - 1 :]


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--kind", default="auto")
    parser.add_argument("--keep", type=Path, help="directory for vectors and index")
    parser.add_argument("--write", type=Path, help="write the vectors in float32, and exit")
    parser.add_argument("--peer", type=Path, help="FAISS index of the same vectors")
    parser.add_argument("--rebuild", action="store_true")
    parser.add_argument("--grow", action="store_true")
    parser.add_argument("--search-device", choices=["cpu", "cuda"], default="cpu")
    options = parser.parse_args()
    check_search_device(options.search_device)
    import faiss

    geometry = ClipGeometry(DIMENSION, seed=0)
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    source = VectorsInMemory(
        options.images, geometry, options.keep and options.keep / "vectors.f16"
    )
    if options.write:
        np.save(options.write, source.vectors.astype(np.float32))
        return
    queries = {
        "text": geometry.texts(QUERIES, seed=11),
        "image": geometry.images(QUERIES, seed=10**9),
    }
    with tempfile.TemporaryDirectory() as scratch:
        directory = (options.keep or Path(scratch)) / "index"
        if options.grow:
            grow(directory, source, geometry, options.kind, queries)
            return
        index = opened(directory, source, options.kind)
        others = {"Sightline": index.search}
        on_gpu: VectorIndex | None = None
        if options.search_device != "cpu":
            on_gpu = open_index(directory, source, model="m", revision="r", device="cuda")
            print(f"on the GPU: {on_gpu.state.device_note or 'yes'}\n")
            others["on the GPU"] = on_gpu.search
        faiss.omp_set_num_threads(1)
        one_thread(source, queries, {**others, **faiss_indexes(source, options.peer)})
        print(
            f"\n{'results':12}{'filter':>10}{'text':>10}{'image':>10}{'p50 ms':>10}{'first ms':>10}"
        )
        for k, fraction in [
            (100, 1),
            (300, 1),
            (1000, 1),
            *((10, f) for f in (0.5, 0.1, 0.01, 0.001)),
        ]:
            more_or_filtered(index, source, queries, k, fraction)
        every = np.concatenate(list(queries.values()))
        print(f"\n{'threads':12}{'searches/s':>10}")
        for threads in (1, 2, 8, 32):
            with ThreadPoolExecutor(threads) as pool:
                started = time.perf_counter()
                list(pool.map(lambda query: index.search(query[None], 10), every))
                print(f"{threads:<12}{len(every) / (time.perf_counter() - started):10.0f}")
        if on_gpu is not None:
            in_batches(index, on_gpu, every)
        if options.rebuild:
            while_rebuilding(directory, index, every, options)


def opened(directory: Path, source: VectorsInMemory, kind: str) -> VectorIndex:
    """The index in ``directory``, built unless it exists; prints what that took."""
    if directory.exists():
        print("using the existing index")
    else:
        started, before = time.perf_counter(), resident()
        with PeakMemory() as peak:
            build_for(directory, source, kind)
        seconds, megabytes = time.perf_counter() - started, (peak.bytes - before) / 1e6
        print(f"built in {seconds:.0f} s with {megabytes:,.0f} MB of memory at most")
    started = time.perf_counter()
    index = open_index(directory, source, model="m", revision="r")
    milliseconds, state = (time.perf_counter() - started) * 1000, index.state
    disk = sum(path.stat().st_size for path in directory.iterdir())
    print(
        f"{source.count:,} x {DIMENSION}: {state.type}, nprobe {state.nprobe},"
        f" opened in {milliseconds:.0f} ms, {disk / 1e6:,.0f} MB on disk,"
        f" {state.bytes / source.count:.0f} bytes of memory per vector\n"
    )
    return index


def grow(
    directory: Path,
    source: VectorsInMemory,
    geometry: ClipGeometry,
    kind: str,
    queries: dict[str, Embeddings],
) -> None:
    """Prints the CPU seconds of adding 1 % at a time, as an indexing run does, and those of single
    searches then, which score what is not in the index yet exactly; and the mean of the steps as a
    fraction of the build, if the index in ``directory`` does not exist already."""
    build_seconds = None
    if not directory.exists():
        started = time.process_time()
        build_for(directory, source, kind)
        build_seconds = time.process_time() - started
        print(f"built in {build_seconds:.1f} CPU s")
    captions = geometry.texts(300, seed=12)
    one_percent = source.count // 100
    every = np.concatenate([some[:FEW_QUERIES] for some in queries.values()])
    print(f"{'images':>10}{'CPU s':>10}{'generation':>12}{'CPU ms per search':>20}")
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "index"
        shutil.copytree(directory, copy)
        index = open_index(copy, source, model="m", revision="r")
        first, seconds = index.state.generation, []
        while index.state.generation < first + 2:
            source.add(geometry.images(one_percent, seed=2 * 10**9 + source.count))
            started = time.process_time()
            maintain_index(
                copy, source, model="m", revision="r", kind=kind, text_queries=lambda: captions
            )
            seconds.append(time.process_time() - started)
            index.refresh()
            started = time.process_time()
            for query in every:
                index.search(query[None], 10)
            milliseconds = (time.process_time() - started) / len(every) * 1000
            print(
                f"{source.count:10,}{seconds[-1]:10.2f}{index.state.generation:12}"
                f"{milliseconds:20.2f}"
            )
    mean = sum(seconds) / len(seconds)
    of_build = "" if build_seconds is None else f", {mean / build_seconds:.1%} of the build"
    print(f"1 % takes {mean:.2f} CPU s on average{of_build}")


def faiss_indexes(source: VectorsInMemory, peer: Path | None) -> dict[str, Search]:
    """FAISS's own indexes of the same vectors."""
    import faiss

    indexes: dict[str, Any] = {}
    if source.count <= MAX_IN_MEMORY:
        indexes["Flat"] = faiss.IndexFlatIP(DIMENSION)
    if source.count <= 100_000:
        indexes["HNSW32"] = faiss.IndexHNSWFlat(DIMENSION, 32, faiss.METRIC_INNER_PRODUCT)
    for index in indexes.values():
        for _, block in source.blocks():
            index.add(block)
    if peer:
        indexes[peer.stem] = faiss.read_index(str(peer))

    def search(index: Any, query: Embeddings, k: int) -> tuple[Embeddings, Ids]:
        scores, rows = index.search(query, k)
        return scores, rows + 1  # ids count from 1

    return {name: partial(search, index) for name, index in indexes.items()}


def one_thread(
    source: VectorsInMemory, queries: dict[str, Embeddings], searches: dict[str, Search]
) -> None:
    """Prints recall@10 and times of single queries, one row for each index."""
    truth = {kind: exact(source, some) for kind, some in queries.items()}
    print(
        f"{'one thread':12}{'text':>10}{'image':>10}{'p50 ms':>10}{'p99 ms':>10}"
        f"{'text p50':>10}{'image p50':>10}{'of Flat':>10}"
    )
    rows = {}
    for name, search in searches.items():
        count = FEW_QUERIES if name == "Flat" else QUERIES
        rows[name] = {
            kind: timed(search, some[:count], truth[kind], 10) for kind, some in queries.items()
        }
    flat = (
        np.median(np.concatenate([ms for _, ms in rows["Flat"].values()])) if "Flat" in rows else 0
    )
    for name, row in rows.items():
        p50, p99 = np.percentile(np.concatenate([ms for _, ms in row.values()]), [50, 99])
        recall = "".join(f"{recall:10.3f}" for recall, _ in row.values())
        medians = "".join(f"{np.median(ms):10.2f}" for _, ms in row.values())
        ratio = f"   1/{flat / p50:.1f}" if flat else ""
        print(f"{name:12}{recall}{p50:10.2f}{p99:10.2f}{medians}{ratio}")


def timed(
    search: Search, queries: Embeddings, truth: Ids, k: int, **options: Any
) -> tuple[float, list[float]]:
    """Recall of single queries, and their milliseconds."""
    hits, times = 0, []
    for query, true in zip(queries, truth, strict=False):
        started = time.perf_counter()
        _, found = search(query[None], k, **options)
        times.append((time.perf_counter() - started) * 1000)
        hits += len(set(found[0].tolist()) & set(true.tolist()))
    return hits / len(queries) / k, times


def more_or_filtered(
    index: VectorIndex,
    source: VectorsInMemory,
    queries: dict[str, Embeddings],
    k: int,
    fraction: float,
) -> None:
    """Prints recall and times for ``k`` results under a random filter that accepts ``fraction`` of
    the images: with the filter cached, as while the query text changes, and for the first time."""
    allowed = None
    if fraction < 1:
        size = int(fraction * source.count)
        allowed = np.sort(np.random.default_rng(3).choice(source.ids, size, replace=False))
        allowed.flags.writeable = False
    recalls, cached, first = [], [], []
    for some in queries.values():
        few = some[:FEW_QUERIES]
        truth = exact(source, few, k, allowed)
        recall, times = timed(index.search, few, truth, k, allowed=allowed)
        recalls.append(recall)
        cached += times
        for query in few[:20]:
            copy = None if allowed is None else allowed.copy()
            first += timed(index.search, query[None], truth, k, allowed=copy)[1]
    print(
        f"{k:<12}{fraction:10}{recalls[0]:10.3f}{recalls[1]:10.3f}"
        f"{np.median(cached):10.2f}{np.median(first):10.2f}"
    )


def in_batches(index: VectorIndex, on_gpu: VectorIndex, queries: Embeddings) -> None:
    """Prints searches per second in batches, on all cores of the CPU and on the GPU, and the
    fraction of the CPU's top 10 that the GPU found."""
    import faiss

    faiss.omp_set_num_threads(os.cpu_count() or 1)
    print(f"\n{'batch size':12}{'CPU':>12}{'GPU':>12}{'agreement':>12}")
    for size in (1, 8, 64, len(queries)):
        rates, found = [], []
        for one in (index, on_gpu):
            one.search(queries[:size], 10)
            started = time.perf_counter()
            parts = range(0, len(queries), size)
            found.append(np.concatenate([one.search(queries[n : n + size], 10)[1] for n in parts]))
            rates.append(len(queries) / (time.perf_counter() - started))
        agreement = [np.isin(b, a).mean() for a, b in zip(*found, strict=True)]
        print(f"{size:<12}{rates[0]:12.0f}{rates[1]:12.0f}{np.mean(agreement):12.3f}")


def resident() -> int:
    """Bytes of anonymous memory of this process (Linux)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("RssAnon:")[2].split()[0])


class PeakMemory:
    """Maximum of ``resident`` inside the ``with``, sampled five times a second."""

    bytes = 0

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(0.2):
            self.bytes = max(self.bytes, resident())


def build_for(directory: Path, source: VectorsInMemory, kind: str) -> None:
    """Builds the index of ``source``, tuned with captions that are not searched later."""
    captions = ClipGeometry(DIMENSION, seed=0).texts(300, seed=12)
    build_index(
        directory, source, model="m", revision="r", kind=kind, text_queries=lambda: captions
    )


def rebuild(directory: Path, images: int, kind: str) -> None:
    """Builds the next generation; runs in another process."""
    build_for(directory, VectorsInMemory(images, ClipGeometry(DIMENSION, seed=0)), kind)


def while_rebuilding(
    directory: Path, index: VectorIndex, queries: Embeddings, options: argparse.Namespace
) -> None:
    """Prints p50, p99 and maximum of consecutive searches before and during a build."""

    def milliseconds(n: int) -> float:
        started = time.perf_counter()
        index.refresh()
        index.search(queries[n % len(queries)][None], 10)
        return (time.perf_counter() - started) * 1000

    before = [milliseconds(n) for n in range(2 * len(queries))]
    other = multiprocessing.get_context("spawn").Process(
        target=rebuild, args=(directory, options.images, options.kind)
    )
    first = index.state.generation
    other.start()
    times: list[float] = []
    while other.is_alive() or not times:
        times.append(milliseconds(len(times)))
    times += [milliseconds(n) for n in range(100)]
    print(f"\n{'searches':22}{'p50 ms':>10}{'p99 ms':>10}{'max ms':>10}")
    for name, some in (("idle", before), ("during a build", times)):
        p50, p99 = np.percentile(some, [50, 99])
        print(f"{name:22}{p50:10.2f}{p99:10.2f}{max(some):10.2f}")
    print(f"{len(times):,} searches, generation {first} and then {index.state.generation}")


def exact(
    source: VectorsInMemory, queries: Embeddings, k: int = 10, allowed: Ids | None = None
) -> Ids:
    """``(q, k)`` ids of the true nearest neighbours."""
    ids = source.ids if allowed is None else allowed
    scores = np.full((len(queries), k), -2, np.float32)
    found = np.zeros((len(queries), k), np.int64)
    for start in range(0, len(ids), BLOCK):
        block = ids[start : start + BLOCK]
        cosines = queries @ source.vectors[block - 1].astype(np.float32).T
        cosines = np.concatenate([scores, cosines], axis=1)
        both = np.concatenate([found, np.broadcast_to(block, (len(queries), len(block)))], axis=1)
        top = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
        scores = np.take_along_axis(cosines, top, 1)
        found = np.take_along_axis(both, top, 1)
    return found


if __name__ == "__main__":
    main()
