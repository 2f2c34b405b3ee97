"""How good and how fast the vector index is, beside exact search, in one run.

    python -m benchmarks.vector_index [--images 100000] [--kind auto] [--rebuild]
        [--keep DIRECTORY] [--write VECTORS.npy] [--peer INDEX.faiss] [--search-device cuda]

Vectors with CLIP's geometry (``benchmarks.clip_geometry``) go through the index as a library's
would. The whole search is timed: a vector in, ranked ids and exact scores out. Printed are build
time, bytes on disk and in memory, recall@10 of image and text queries that had no part in tuning,
with and without filters, p50 and p99 of single queries on one thread, searches a second from 1, 2,
8 and 32 threads, and the recall and times of FAISS's ``IndexFlatIP`` (and ``HNSW32`` up to 100,000)
on the same vectors.

``--keep`` leaves vectors and index in a directory, and uses those that are there: ten million take
an hour to build. ``--write`` leaves the vectors for another program, and ``--peer`` measures the
index that it made of them, with the search parameters that it left inside. ``--rebuild`` times
searches while another process builds the next generation and until it is in force.
``--search-device cuda`` has the same index searched on a GPU beside it, too, and in batches.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np

from benchmarks.clip_geometry import ClipGeometry
from sightline.indexer.catalog.embeddings import Changes
from sightline.indexer.types import Embeddings, Ids, IndexState
from sightline.indexer.vector_index.index import (
    VectorIndex,
    build_index,
    check_search_device,
    open_index,
)

DIMENSION = 512
BLOCK = 50_000
QUERIES = 300
MOST_IN_MEMORY = 2_000_000
"""More vectors lie in a file, and Flat, which needs twice as many bytes, is left out."""


class Memory:
    """Vectors in memory, as a catalog gives them."""

    dimension, identity, version = DIMENSION, "benchmark", 1

    def __init__(self, count: int, geometry: ClipGeometry, kept: Path | None = None) -> None:
        """``kept`` is the file of those made before, or made now."""
        self.count = count
        self.ids = np.arange(1, count + 1)
        self.vectors: np.ndarray
        shape = count, DIMENSION
        if kept is not None and kept.exists():
            self.vectors = np.memmap(kept, np.float16, "r", shape=shape)
            return
        if kept is not None:
            self.vectors = np.memmap(kept, np.float16, "w+", shape=shape)
        elif count > MOST_IN_MEMORY:
            with tempfile.TemporaryFile() as file:
                self.vectors = np.memmap(file, np.float16, "w+", shape=shape)
        else:
            self.vectors = np.empty(shape, np.float16)
        for start in range(0, count, BLOCK):
            size = min(BLOCK, count - start)
            self.vectors[start : start + size] = geometry.images(size, seed=start)

    def blocks(
        self,
        size: int = BLOCK,
        *,
        after_version: int | None = None,
        until_version: int | None = None,
    ) -> Iterator[tuple[Ids, Embeddings]]:
        """Everything, by id."""
        for start in range(0, 0 if after_version else self.count, size):
            part = self.vectors[start : start + size]
            yield self.ids[start : start + size], part.astype(np.float32)

    def changes(self, after_version: int) -> Changes:
        """None."""
        nothing = np.empty(0, np.int64)
        return Changes(nothing, np.empty((0, DIMENSION), np.float32), nothing, 1)

    def pending(self, after_version: int) -> int:
        """None."""
        return 0


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--kind", default="auto")
    parser.add_argument("--keep", type=Path, help="vectors and index stay here")
    parser.add_argument("--write", type=Path, help="write the vectors here, float32, and end")
    parser.add_argument("--peer", type=Path, help="another program's FAISS index of them")
    parser.add_argument("--rebuild", action="store_true")
    parser.add_argument("--search-device", choices=["cpu", "cuda"], default="cpu")
    options = parser.parse_args()
    check_search_device(options.search_device)
    import faiss

    geometry = ClipGeometry(DIMENSION, seed=0)
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    source = Memory(options.images, geometry, options.keep and options.keep / "vectors.f16")
    if options.write:
        np.save(options.write, source.vectors.astype(np.float32))
        return
    queries = {
        "text": geometry.texts(QUERIES, seed=11),
        "image": geometry.images(QUERIES, seed=10**9),
    }
    truth = {name: exact(source, some) for name, some in queries.items()}
    with tempfile.TemporaryDirectory() as scratch:
        directory = (options.keep or Path(scratch)) / "index"
        started, before = time.perf_counter(), resident()
        if directory.exists():
            print("built before")
        else:
            with Peak() as peak:
                built(directory, source, options.kind)
            print(
                f"built in {time.perf_counter() - started:.0f} s, which took"
                f" {(peak.bytes - before) / 1e6:,.0f} MB at most"
            )
        started = time.perf_counter()
        index = open_index(directory, source, model="m", revision="r")
        opened, state = time.perf_counter() - started, index.state
        disk = sum(path.stat().st_size for path in directory.iterdir())
        print(
            f"{options.images:,} x {DIMENSION}: {state.type}, nprobe {state.nprobe},"
            f" opened in {opened * 1000:.0f} ms, {disk / 1e6:,.0f} MB on disk,"
            f" {state.bytes / options.images:.0f} bytes of memory a vector\n"
        )
        faiss.omp_set_num_threads(1)

        def ours(query: Embeddings) -> Ids:
            return index.search(query, 10)[1][0]

        others: dict[str, Any] = {}
        if options.images <= MOST_IN_MEMORY:
            others["Flat"] = faiss.IndexFlatIP(DIMENSION)
        if options.images <= 100_000:
            others["HNSW32"] = faiss.IndexHNSWFlat(DIMENSION, 32, faiss.METRIC_INNER_PRODUCT)
        for other in others.values():
            for _, block in source.blocks():
                other.add(block)
        if options.peer:
            others[options.peer.stem] = faiss.read_index(str(options.peer))
        searches: dict[str, Callable[[Embeddings], Ids]] = {"Sightline": ours}
        there: VectorIndex | None = None
        if options.search_device != "cpu":
            started = time.perf_counter()
            there = on_gpu = open_index(directory, source, model="m", revision="r", device="cuda")
            note = there.state.device_note or "searched there"
            print(f"opened on the GPU in {(time.perf_counter() - started) * 1000:.0f} ms: {note}\n")
            searches["on the GPU"] = lambda query: on_gpu.search(query, 10)[1][0]
        for name, other in others.items():
            searches[name] = lambda query, other=other: other.search(query, 10)[1][0] + 1
        print(
            f"{'one thread':12}{'text':>10}{'image':>10}{'p50 ms':>10}{'p99 ms':>10}"
            f"{'text p50':>10}{'image p50':>10}{'of Flat':>10}"
        )
        rows = {}
        for name, search in searches.items():
            recall, times = {}, dict[str, list[float]]()
            for kind, some in queries.items():
                few = QUERIES if name != "Flat" else 60
                hits, times[kind] = 0, []
                for n in range(few):
                    begun = time.perf_counter()
                    found = search(some[n : n + 1])
                    times[kind].append((time.perf_counter() - begun) * 1000)
                    hits += len(set(found.tolist()) & set(truth[kind][n].tolist()))
                recall[kind] = hits / few / 10
            both = [*np.percentile(np.concatenate(list(times.values())), [50, 99])]
            rows[name] = (recall, [*both, *(np.median(some) for some in times.values())])
        for name, (recall, (p50, p99, text, image)) in rows.items():
            ratio = f"   1/{rows['Flat'][1][0] / p50:.1f}" if "Flat" in rows else ""
            print(
                f"{name:12}{recall['text']:10.3f}{recall['image']:10.3f}{p50:10.2f}{p99:10.2f}"
                f"{text:10.2f}{image:10.2f}{ratio}"
            )
        del others
        print(f"\n{'filter':12}{'text':>10}{'image':>10}{'p50 ms':>10}{'the first':>10}")
        for share in (0.5, 0.1, 0.01, 0.001):
            filtered(index, source, queries, share)
        print(f"\n{'threads':12}{'searches/s':>10}")
        every = np.concatenate(list(queries.values()))
        for threads in (1, 2, 8, 32):
            with ThreadPoolExecutor(threads) as pool:
                begun = time.perf_counter()
                list(pool.map(lambda n: ours(every[n : n + 1]), range(len(every))))
                print(f"{threads:<12}{len(every) / (time.perf_counter() - begun):10.0f}")
        if there is not None:
            in_batches(index, there, every)
        if options.rebuild:
            while_rebuilding(directory, index, every, options)


def in_batches(index: VectorIndex, there: VectorIndex, queries: Embeddings) -> None:
    """Prints searches a second of both, several in a call, and the share of the one's ten nearest
    that the other found. The processor has all of its cores."""
    import faiss

    faiss.omp_set_num_threads(os.cpu_count() or 1)
    print(f"\n{'batches of':12}{'processor':>12}{'GPU':>12}{'agreement':>12}")
    for size in (1, 8, 64, len(queries)):
        rates, found = [], []
        for one in (index, there):
            one.search(queries[:size], 10)
            begun = time.perf_counter()
            parts = range(0, len(queries), size)
            found.append(np.concatenate([one.search(queries[n : n + size], 10)[1] for n in parts]))
            rates.append(len(queries) / (time.perf_counter() - begun))
        same = [np.isin(b, a).mean() for a, b in zip(*found, strict=True)]
        print(f"{size:<12}{rates[0]:12.0f}{rates[1]:12.0f}{np.mean(same):12.3f}")


def resident() -> int:
    """Bytes of memory that are this process's own (Linux)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("RssAnon:")[2].split()[0])


class Peak:
    """The most of that while it is entered, looked at five times a second."""

    bytes = 0

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watch.join()

    def _look(self) -> None:
        while not self._over.wait(0.2):
            self.bytes = max(self.bytes, resident())


def built(directory: Path, source: Memory, kind: str) -> IndexState:
    """The index of ``source``, tuned on captions that are not asked for later."""
    captions = ClipGeometry(DIMENSION, seed=0).texts(300, seed=12)
    return build_index(
        directory, source, model="m", revision="r", kind=kind, text_queries=lambda: captions
    )


def rebuild(directory: Path, images: int, kind: str) -> None:
    """What the other process does."""
    built(directory, Memory(images, ClipGeometry(DIMENSION, seed=0)), kind)


def while_rebuilding(
    directory: Path, index: VectorIndex, queries: Embeddings, options: argparse.Namespace
) -> None:
    """Prints p50, p99 and the worst of searches one after another, before and meanwhile."""

    def timed(n: int) -> float:
        begun = time.perf_counter()
        index.refresh()
        index.search(queries[n % len(queries)][None], 10)
        return (time.perf_counter() - begun) * 1000

    before = [timed(n) for n in range(2 * len(queries))]
    other = multiprocessing.get_context("spawn").Process(
        target=rebuild, args=(directory, options.images, options.kind)
    )
    first = index.state.generation
    other.start()
    times: list[float] = []
    while other.is_alive() or not times:
        times.append(timed(len(times)))
    times += [timed(n) for n in range(100)]
    print(f"\n{'searches':22}{'p50 ms':>10}{'p99 ms':>10}{'worst':>10}")
    for name, some in (("nothing else", before), ("while it is rebuilt", times)):
        p50, p99 = np.percentile(some, [50, 99])
        print(f"{name:22}{p50:10.2f}{p99:10.2f}{max(some):10.2f}")
    print(f"{len(times):,} searches, generation {first} and then {index.state.generation}")


def exact(source: Memory, queries: Embeddings, allowed: Ids | None = None) -> Ids:
    """``(q, 10)`` ids by a scan of everything."""
    ids = source.ids if allowed is None else allowed
    scores = np.full((len(queries), 10), -2, np.float32)
    found = np.zeros((len(queries), 10), np.int64)
    for start in range(0, len(ids), BLOCK):
        part = ids[start : start + BLOCK]
        both = np.concatenate(
            [scores, queries @ source.vectors[part - 1].astype(np.float32).T], axis=1
        )
        of = np.concatenate([found, np.broadcast_to(part, (len(queries), len(part)))], axis=1)
        top = np.argpartition(-both, 9, axis=1)[:, :10]
        scores, found = np.take_along_axis(both, top, 1), np.take_along_axis(of, top, 1)
    return found


def filtered(index: Any, source: Memory, queries: dict[str, Embeddings], share: float) -> None:
    """One row: a filter that this share of the images meets, as the catalog remembers it while
    people change their words, and as it is the first time."""
    random = np.random.default_rng(3)
    size = int(share * source.count)
    allowed = np.sort(random.choice(source.ids, size, replace=False))
    allowed.flags.writeable = False
    recall, times, new = [], [], []
    for some in queries.values():
        few = some[:60]
        truth = exact(source, few, allowed)
        hits = 0
        for query, true in zip(few, truth, strict=True):
            begun = time.perf_counter()
            _, found = index.search(query[None], 10, allowed=allowed)
            times.append((time.perf_counter() - begun) * 1000)
            hits += len(set(found[0].tolist()) & set(true.tolist()))
        recall.append(hits / len(few) / 10)
        for query in few[:20]:
            other = allowed.copy()
            begun = time.perf_counter()
            index.search(query[None], 10, allowed=other)
            new.append((time.perf_counter() - begun) * 1000)
    print(
        f"{share:<12}{recall[0]:10.3f}{recall[1]:10.3f}{np.median(times):10.2f}"
        f"{np.median(new):10.2f}"
    )


if __name__ == "__main__":
    main()
