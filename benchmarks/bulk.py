"""Millions of embeddings: parquet shards, a library made of them, and FAISS built in parts.

    python -m benchmarks.bulk --images 100000 --directory /tmp/bulk

Writes shards as ``sightline embed`` does (generated vectors, no thumbnails) and imports them into a
library. Then builds a FAISS index of the same files as on one large machine: one template is
trained, several processes each add a part of the shards to a copy of it, and the parts are merged.
The result must find the same ids as an index built in one process, and a part with its own training
must be refused. Prints the time of each step per image.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clip_geometry import ClipGeometry
from sightline.indexer.library import Library
from sightline.indexer.shards.import_shards import create_for, import_shards
from sightline.indexer.shards.place import Place
from sightline.indexer.shards.shard_files import (
    Origin,
    ShardRow,
    ShardWriter,
    image_id,
    read_origin,
    read_shard,
    whole_shards,
    write_origin,
)
from sightline.indexer.types import PhotoInfo

DIMENSION = 512
SHARD = 2048
FACTORY = "IVF1024,PQ64np"
"""For this size; from 10 million on use IVF65536_HNSW32, trained on a GPU."""


def main() -> None:
    """Prints a line per step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--parts", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--add", nargs="*", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    place = Place.at(str(options.directory / "shards"))
    if options.add is not None:
        template, out, *names = options.add
        add(place, template, out, names)
        return
    if not whole_shards(place):
        step("write shards", options.images, lambda: write(place, options.images))
    size = sum(p.stat().st_size for p in Path(place.path).iterdir())
    print(f"{'parquet, no thumbnails':32}{size / options.images:10.0f} bytes per image", flush=True)
    directory = options.directory / "library"
    if not Library.exists(directory):
        step("import into a library", options.images, lambda: import_into_library(place, directory))
    catalog = (directory / "catalog.db").stat().st_size
    print(f"{'catalog.db':32}{catalog / options.images:10.0f} bytes per image", flush=True)
    build_in_parts(place, options.directory, options.images, options.parts)


def step(name: str, count: int, work: Any) -> Any:
    """Calls ``work`` and prints its time."""
    started = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - started
    print(f"{name:32}{seconds:9.1f} s{count / seconds:12,.0f} images/s", flush=True)
    return result


def write(place: Place, count: int) -> None:
    """Writes shards of generated vectors."""
    geometry = ClipGeometry(DIMENSION, seed=0)
    write_origin(place, Origin("benchmark", "1", DIMENSION, "bulk", "2026-01-01T00:00:00"))
    for number, start in enumerate(range(0, count, SHARD), 1):
        with ShardWriter(place, number, DIMENSION) as out:
            vectors = geometry.images(min(SHARD, count - start), seed=start)
            for n, vector in enumerate(vectors):
                info = PhotoInfo(1024, 768, "jpeg", camera="Sightline Nine")
                path = f"{number:06}/{n:05}.jpg"
                row = ShardRow(image_id(number, n), "/pictures", path, 1000, start + n + 1)
                filled = {"vector": vector, "info": info, "content_hash": f"{start + n:032x}"}
                out.write(ShardRow(*list(vars(row).values())[:5], **filled))


def import_into_library(place: Place, directory: Path) -> None:
    """Imports the shards into a library, without building its index."""
    with create_for(directory, read_origin(place)) as library:
        library.maintain_index = lambda **_: None  # type: ignore[method-assign, assignment]
        import_shards(library, place)


def vectors_of(place: Place, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Ids and ``(n, d) float32`` of one shard."""
    rows = [row for rows in read_shard(place, name, thumbnails=False) for row in rows]
    rows = [row for row in rows if row.vector is not None]
    return np.array([row.id for row in rows]), np.stack([row.vector for row in rows])


def add(place: Place, template: str, out: str, names: Sequence[str]) -> None:
    """Adds some shards to a copy of the template; runs in its own process."""
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.read_index(template)
    for name in names:
        ids, vectors = vectors_of(place, name)
        index.add_with_ids(vectors, ids)
    faiss.write_index(index, out)


def build_in_parts(place: Place, directory: Path, count: int, parts: int) -> None:
    """Trains, adds in parallel and merges; then adds everything in one process and compares."""
    import faiss

    names = list(whole_shards(place).values())
    sample = np.concatenate(
        [vectors_of(place, name)[1] for name in names[:: max(1, len(names) // 24)]]
    )

    def trained(seed: int) -> Any:
        index = faiss.index_factory(DIMENSION, FACTORY, faiss.METRIC_INNER_PRODUCT)
        index.cp.seed = seed
        index.train(sample)
        return index

    template = step(f"train on {len(sample):,}", len(sample), lambda: trained(1))
    path = str(directory / "template.faiss")
    faiss.write_index(template, path)
    outs = [str(directory / f"part-{n}.faiss") for n in range(parts)]

    def in_parallel() -> None:
        command = [sys.executable, "-m", "benchmarks.bulk", "--directory", str(directory), "--add"]
        running = [
            subprocess.Popen([*command, path, out, *names[n::parts]]) for n, out in enumerate(outs)
        ]
        assert not any(process.wait() for process in running)

    step(f"add in {parts} processes", count, in_parallel)
    merged = faiss.read_index(outs[0])

    def merge() -> None:
        for out in outs[1:]:
            part = faiss.read_index(out)
            merged.check_compatible_for_merge(part)
            merged.merge_from(part, 0)

    step("merge_from", count, merge)
    whole = faiss.read_index(path)

    def in_one_process() -> None:
        for name in names:
            ids, vectors = vectors_of(place, name)
            whole.add_with_ids(vectors, ids)

    step("add in one process", count, in_one_process)
    queries = ClipGeometry(DIMENSION, seed=0).images(200, seed=10**9)
    for index in (merged, whole):
        index.nprobe = 64
    same = np.array_equal(merged.search(queries, 10)[1], whole.search(queries, 10)[1])
    print(f"{merged.ntotal:,} vectors merged; the same ids as in one process: {same}", flush=True)
    separate = trained(2)
    separate.add_with_ids(sample[:100], np.arange(100))
    try:
        merged.check_compatible_for_merge(separate)
        print("a part with its own training was NOT refused")
    except RuntimeError as error:
        print(f"a part with its own training is refused: {str(error).splitlines()[0][-90:]}")


if __name__ == "__main__":
    main()
