"""What names and captions add to what is seen, and what they cost, with the built-in model.

    python -m benchmarks.words [--scenes 1000]

Drawn scenes of held-out seeds lie at random in folders called after forty trips ("2019 Germany"),
so that a folder says nothing of the pixels. Queries ask for one picture by a caption, with
the trip and without it, or for a trip alone. The same again with folders whose names mislead ("Red
Car Club"), into which the pictures were put at random as well: there words can only do harm.
Printed: the share of queries whose picture is first, and among ten, by what is seen, by words (bm25
with ties broken by id), and by both.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.relevance import _pixels
from sightline.data.scenes.gallery import captions, compose, render
from sightline.indexer.encoder import Encoder
from sightline.indexer.library.library import Library
from sightline.indexer.types import Candidate, Embeddings, NewImage, Photo, PhotoInfo
from sightline.server.search.engine import SearchEngine

COUNTRIES = (
    "Germany", "Italy", "Norway", "Portugal", "Japan", "Peru", "Kenya", "Canada", "Greece",
    "India", "Iceland", "Chile", "Vietnam", "Ireland", "Morocco", "Poland", "Turkey", "Nepal",
    "Cuba", "Fiji",
)  # fmt: skip
TRIPS = tuple(f"{year} {country}" for country in COUNTRIES for year in (2018, 2019))

MISLEADING = (
    "Red Car Club", "Dog Park", "Blue House", "Night Market", "Green Boat", "Snow Tree",
    "Rain City",
    "Yellow Bird", "Beach Days", "Mountain Horse", "Cat Cafe", "Sunset Bus", "Field of Flowers",
    "Winter Forest", "Bicycle Tour", "Fog Harbour", "White Tent", "Orange Balloon", "Desert Train",
    "Lake Cabin",
)  # fmt: skip


def make(directory: Path, encoder: Encoder, vectors: Embeddings, folders: Sequence[str]) -> Library:
    """A library of ``vectors``, the picture n lying in ``folders[n]``."""
    library = Library.create(
        directory, model=encoder.model, revision=encoder.revision, dimension=encoder.dimension
    )
    root = library.ensure_root(directory / "pictures")
    nothing = np.empty((0, 0, 3), np.uint8)
    photo = Photo(PhotoInfo(640, 480, "jpeg"), nothing, b"", "")
    images = [
        NewImage(Candidate(root.path, f"{folder}/IMG_{n:04}.jpg", 1, 0), photo, vector)
        for n, (folder, vector) in enumerate(zip(folders, vectors, strict=True))
    ]
    library.catalog.write(root, images=images)
    return library


def recall(
    queries: Sequence[str], wanted: Sequence[set[int]], find: Callable[[str], list[int]]
) -> tuple[float, float]:
    """Share of ``queries`` with one of ``wanted`` (ids) first, and among the first ten."""
    found = [find(query)[:10] for query in queries]
    first = np.mean([bool(ids) and ids[0] in ok for ids, ok in zip(found, wanted, strict=True)])
    ten = np.mean([bool(ok & set(ids)) for ids, ok in zip(found, wanted, strict=True)])
    return float(first), float(ten)


def report(
    title: str, engine: SearchEngine, queries: Sequence[str], wanted: Sequence[set[int]]
) -> None:
    """Three lines of the table."""

    def by(words: bool) -> Callable[[str], list[int]]:
        return lambda q: [h.id for h in engine.search(q, k=10, fold=False, words=words).hits]

    ways = {
        "seen": by(False),
        "words": lambda query: [id for id, _ in engine.library.search_words(query, 10)],
        "both": by(True),
    }
    print(title)
    for name, find in ways.items():
        first, ten = recall(queries, wanted, find)
        print(f"  {name:10}{first:8.3f}{ten:8.3f}")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=600)
    count = parser.parse_args().scenes
    encoder = Encoder.load("builtin")
    scenes = [compose(seed, split="test") for seed in range(500_000, 500_000 + count)]
    vectors = encoder.encode_images(
        np.stack([_pixels(render(s, width=320, height=240), encoder) for s in scenes])
    )
    told = [captions(scene)[0] for scene in scenes]
    asked = range(0, count, 2)
    chance = random.Random(0)
    trips = [chance.choice(TRIPS) for _ in scenes]
    wrong = [chance.choice(MISLEADING) for _ in scenes]
    own = [{n + 1} for n in asked]
    print(f"{'':12}{'R@1':>8}{'R@10':>8}   ({count:,} pictures, {len(asked)} queries)")
    with tempfile.TemporaryDirectory() as folder:
        with (
            make(Path(folder) / "trips", encoder, vectors, trips) as library,
            SearchEngine(library, encoder) as engine,
        ):
            with_trip = [f"{' '.join(reversed(trips[n].split()))} {told[n]}" for n in asked]
            report("a picture of a trip", engine, with_trip, own)
            report("a picture, no trip named", engine, [told[n] for n in asked], own)
            of_trip = [{n + 1 for n in range(count) if trips[n] == trip} for trip in TRIPS]
            report("a trip alone", engine, TRIPS, of_trip)
        with (
            make(Path(folder) / "wrong", encoder, vectors, wrong) as library,
            SearchEngine(library, encoder) as engine,
        ):
            report("folders that mislead", engine, [told[n] for n in asked], own)


if __name__ == "__main__":
    main()
