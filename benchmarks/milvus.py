"""Compares a local library (SQLite, FAISS) with a Milvus collection of the same images.

    python -m benchmarks.milvus --directory /tmp/bench --index HNSW FLAT \\
        --address milvus+http://127.0.0.1:19530/bench
    python -m benchmarks.milvus --directory /tmp/bench --index FLAT HNSW --address /tmp/bench.db

Vectors have CLIP's geometry (``benchmarks.clip_geometry``); each image has a camera, and filters by
camera match 50, 10, 1 and 0.1 %. Both libraries answer ``nearest``: a vector in, ten ids and exact
scores out, filters and network included. Prints the time to fill the collection, recall@10 against
an exhaustive search for text and image queries, and p50 and p99 latency of single queries. The
collection is created and kept; ``--directory`` keeps the library for a second address.
"""

from __future__ import annotations

import argparse
import time
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from benchmarks.clip_geometry import ClipGeometry
from sightline.indexer.errors import SightlineError
from sightline.indexer.library import AnyLibrary, Library
from sightline.indexer.milvus.fill import fill_from_library
from sightline.indexer.milvus.library import MilvusLibrary
from sightline.indexer.types import (
    Candidate,
    Condition,
    Embeddings,
    Filters,
    NewImage,
    Photo,
    PhotoInfo,
)

DIMENSION = 512
BLOCK = 5_000
QUERIES = 100
FRACTIONS = {"all": 1.0, "half": 0.5, "tenth": 0.1, "hundredth": 0.01, "thousandth": 0.001}


def main() -> None:
    """Prints a table per index type."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--address", required=True)
    parser.add_argument("--index", nargs="+", default=["HNSW"])
    parser.add_argument("--directory", type=Path, required=True)
    options = parser.parse_args()
    geometry = ClipGeometry(DIMENSION, seed=0)
    directory = options.directory / f"library-{options.images}"
    if not Library.exists(directory):
        make(directory, options.images, geometry)
    queries = {
        "text": geometry.texts(QUERIES, seed=11),
        "image": geometry.images(QUERIES, seed=10**9),
    }
    with Library.open(directory) as library:
        truth = {name: exact(library, some) for name, some in queries.items()}
        measure(f"local {library.index_state.type}", library, queries, truth)
        for kind in options.index:
            started = time.perf_counter()
            try:
                filled = fill_from_library(library, options.address, index=kind)
            except SightlineError as error:
                print(f"\n{kind}: {error}", flush=True)
                continue
            seconds = time.perf_counter() - started
            print(f"\n{kind}: {filled.added:,} rows added, {seconds:.0f} s in all", flush=True)
            with MilvusLibrary.open(options.address) as remote:
                time.sleep(11)  # until reads no longer wait for the last writes
                measure(f"milvus {kind}", remote, queries, truth)


def camera(number: int) -> str:
    """The camera of an image, by its number."""
    if number % 1000 == 7:
        return "thousandth"
    if number % 100 == 3:
        return "hundredth"
    if number % 10 == 1:
        return "tenth"
    return "half" if number % 2 == 0 else "other"


def make(directory: Path, count: int, geometry: ClipGeometry) -> None:
    """A library of synthetic images."""
    started = time.perf_counter()
    with Library.create(directory, model="benchmark", revision="1", dimension=DIMENSION) as library:
        root = library.ensure_root(Path("/pictures"))
        for start in range(0, count, BLOCK):
            vectors = geometry.images(min(BLOCK, count - start), seed=start)
            images = []
            for n, vector in enumerate(vectors, start):
                info = PhotoInfo(
                    1024,
                    768,
                    "jpeg",
                    taken_at=datetime(2010, 1, 1) + timedelta(hours=n % 100_000),
                    camera=camera(n),
                )
                photo = Photo(info, np.empty((0, 0, 3), np.uint8), b"", f"{n:032x}", n)
                candidate = Candidate(root.path, f"{n // 1000:05}/{n:08}.jpg", 1000, n + 1)
                images.append(NewImage(candidate, photo, vector))
            library.catalog.write(root, images=images)
        captions = geometry.texts(300, seed=12)
        library.rebuild_index(text_queries=lambda: captions)
    print(f"library of {count:,}: {time.perf_counter() - started:.0f} s", flush=True)


def filters_of(fraction: str) -> Filters:
    """The filters that this fraction of the images meets."""
    return Filters() if fraction == "all" else Filters((Condition("camera", fraction),))


def exact(library: Library, queries: Embeddings) -> dict[str, list[set[int]]]:
    """The ten nearest by exhaustive search, for each filter."""
    found: dict[str, list[set[int]]] = {}
    for fraction in FRACTIONS:
        ids = library.select(filters_of(fraction))
        scores = np.full((len(queries), 0), 0, np.float32)
        kept = np.zeros((len(queries), 0), np.int64)
        for start in range(0, len(ids), BLOCK):
            part = ids[start : start + BLOCK]
            scores = np.concatenate([scores, queries @ library.vectors(part).T], axis=1)
            kept = np.concatenate([kept, np.broadcast_to(part, (len(queries), len(part)))], axis=1)
            top = np.argsort(-scores, axis=1)[:, :10]
            scores, kept = np.take_along_axis(scores, top, 1), np.take_along_axis(kept, top, 1)
        found[fraction] = [set(row.tolist()) for row in kept]
    return found


def measure(
    name: str,
    library: AnyLibrary,
    queries: dict[str, Embeddings],
    truth: dict[str, dict[str, list[set[int]]]],
) -> None:
    """Prints a row per filter."""
    print(f"{name:24}{'text':>8}{'image':>8}{'p50 ms':>9}{'p99 ms':>9}", flush=True)
    for fraction in FRACTIONS:
        recall, times = {}, []
        filters = filters_of(fraction)
        library.nearest(queries["text"][:1], 10, filters=filters)
        for kind, some in queries.items():
            hits = 0
            for n in range(QUERIES):
                begun = time.perf_counter()
                ids = library.nearest(some[n : n + 1], 10, filters=filters)[1][0]
                times.append((time.perf_counter() - begun) * 1000)
                hits += len(set(ids.tolist()) & truth[kind][fraction][n])
            recall[kind] = hits / QUERIES / 10
        p50, p99 = np.percentile(times, [50, 99])
        matching = library.matching(filters)
        print(
            f"{fraction + f' ({matching:,})':24}{recall['text']:8.3f}{recall['image']:8.3f}"
            f"{p50:9.2f}{p99:9.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
