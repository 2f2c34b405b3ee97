"""CPU time of a search of text in a library whose images have text: titles, people, places, signs.

    python -m benchmarks.full_text [--images 100000] [--rounds 200] [--keep DIR]

Fills a library with synthetic images: a third has a caption, a quarter a position (and so a place),
a quarter people, a quarter text in the image. Sends queries whose vectors are cached, so that the
model does not count, to the search engine in this process, and prints the median CPU milliseconds
of each kind: words that no text holds, words that many captions hold, names, and a filter. An
earlier version without people, places and text in images runs it as well, which shows what these
cost.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from benchmarks.catalog import BATCH, ROOT, synthetic
from sightline.indexer import types
from sightline.indexer.encoder import Encoder
from sightline.indexer.library import Library
from sightline.server.search import SearchEngine
from sightline.server.search.lru_cache import LruCache

PEOPLE = ("Anna", "Ben", "Clara", "David", "Emma", "Felix", "Greta", "Henry")
SIGNS = ("Total amount due", "Harbour Museum", "Exit only", "Bakery and cafe", "Platform nine")
CAPTIONS = ("a dog runs on the beach", "two children in the snow", "an old house by the lake")

QUERIES = {
    "no text": ("zebra giraffe", "volcano at dawn"),
    "captions": ("dog beach", "children in the snow"),
    "names": ("germany castle", "2019 norway"),
    "filter": ("zebra in:Holidays", "volcano camera:canon"),
}


def fill(library: Library, images: int) -> None:
    """Writes ``images`` synthetic images and their text."""
    rng = np.random.default_rng(0)
    root = library.ensure_root(ROOT)
    people = any(one.name == "people" for one in fields(types.PhotoInfo))
    for start in range(0, images, BATCH):
        vectors = rng.standard_normal((min(BATCH, images - start), library.dimension))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        batch = []
        for number, vector in enumerate(vectors.astype(np.float32), start):
            image = synthetic(number, vector, rng)
            facts: dict[str, object] = {}
            if number % 3 == 0:
                facts["caption"] = f"{CAPTIONS[number // 3 % 3]}, number {number}"
            if people and number % 4 == 1:
                facts["people"] = (PEOPLE[number // 4 % 8],)
            info = replace(image.photo.info, **facts)  # type: ignore[arg-type]
            batch.append(replace(image, photo=replace(image.photo, info=info)))
        written = library.catalog.write(root, images=batch).images
        if hasattr(library.catalog, "write_texts"):
            box = (0.1, 0.1, 0.9, 0.2)
            texts = [(i, [types.TextLine(SIGNS[i % 5], 0.9, box)]) for i in written if i % 4 == 2]
            library.catalog.write_texts(texts, engine="synthetic")
    if hasattr(library, "locate"):
        library.locate(threading.Event())
    library.catalog.finish_run(library.catalog.start_run([str(ROOT)]), {})


def measure(engine: SearchEngine, rounds: int) -> None:
    """Prints a row per kind of query."""
    for kind, queries in QUERIES.items():
        for query in queries:
            engine.search(query)  # caches the vector of its text
        times = []
        for number in range(rounds):
            engine._rankings = LruCache(1)
            started = time.process_time()
            engine.search(queries[number % len(queries)])
            times.append((time.process_time() - started) * 1000)
        p50, p90 = statistics.median(times), sorted(times)[int(0.9 * len(times))]
        print(f"{kind:12}{p50:9.2f}{p90:9.2f}")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--keep", type=Path, help="folder of the library; reused if it exists")
    options = parser.parse_args()
    encoder = Encoder.load("builtin")
    with tempfile.TemporaryDirectory() as folder:
        directory = options.keep or Path(folder) / "library"
        if Library.exists(directory):
            library = Library.open(directory)
        else:
            library = Library.create(
                directory,
                model=encoder.model,
                revision=encoder.revision,
                dimension=encoder.dimension,
            )
            fill(library, options.images)
        with library, SearchEngine(library, encoder) as engine:
            library.refresh()
            print(f"{library.count:,} images\n{'CPU ms':12}{'p50':>9}{'p90':>9}")
            measure(engine, options.rounds)


if __name__ == "__main__":
    main()
