"""Recall of ranking by cosine alone and by cosine and full text, with the built-in model.

    python -m benchmarks.fused_ranking [--scenes 1000]

Drawn scenes of held-out seeds are put at random into folders named after forty trips ("2019
Germany"), so that folder and content are independent. Queries ask for one scene by its caption,
with and without the trip, or for a trip alone. The same with misleading folder names ("Red Car
Club"), where text can only reduce recall. Prints R@1 and R@10 by cosine and by both.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.builtin_model import encoded
from sightline.data.scenes import captions, compose, render
from sightline.indexer.encoder import Encoder
from sightline.indexer.library import Library
from sightline.indexer.types import Candidate, Embeddings, NewImage, Photo, PhotoInfo
from sightline.server.search import SearchEngine

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
    """A library of ``vectors``, image n in ``folders[n]``."""
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


def recall(found: Sequence[list[int]], wanted: Sequence[set[int]]) -> tuple[float, float]:
    """R@1 and R@10: the fraction of queries with a ``wanted`` id among the first hits."""
    first = np.mean([bool(ids) and ids[0] in ok for ids, ok in zip(found, wanted, strict=True)])
    ten = np.mean([bool(ok & set(ids)) for ids, ok in zip(found, wanted, strict=True)])
    return float(first), float(ten)


def report(
    title: str, engine: SearchEngine, queries: Sequence[str], wanted: Sequence[set[int]]
) -> None:
    """Prints a row for each ranking."""

    print(title)
    for name, words in (("cosine", False), ("fused", True)):
        results = [engine.search(query, k=10, fold=False, words=words) for query in queries]
        first, ten = recall([[hit.id for hit in result.hits] for result in results], wanted)
        print(f"  {name:10}{first:8.3f}{ten:8.3f}")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=600)
    count = parser.parse_args().scenes
    encoder = Encoder.load("builtin")
    scenes = [compose(seed, split="test") for seed in range(500_000, 500_000 + count)]
    vectors = encoded(encoder, (render(scene, width=320, height=240) for scene in scenes))
    texts = [captions(scene)[0] for scene in scenes]
    queried = range(0, count, 2)
    rng = random.Random(0)
    trips = [rng.choice(TRIPS) for _ in scenes]
    misleading = [rng.choice(MISLEADING) for _ in scenes]
    own = [{n + 1} for n in queried]
    print(f"{'':12}{'R@1':>8}{'R@10':>8}   ({count:,} images, {len(queried)} queries)")
    with tempfile.TemporaryDirectory() as folder:
        with (
            make(Path(folder) / "trips", encoder, vectors, trips) as library,
            SearchEngine(library, encoder) as engine,
        ):
            with_trip = [f"{' '.join(reversed(trips[n].split()))} {texts[n]}" for n in queried]
            report("a scene of a trip", engine, with_trip, own)
            report("a scene, no trip named", engine, [texts[n] for n in queried], own)
            of_trip = [{n + 1 for n in range(count) if trips[n] == trip} for trip in TRIPS]
            report("a trip alone", engine, TRIPS, of_trip)
        with (
            make(Path(folder) / "misleading", encoder, vectors, misleading) as library,
            SearchEngine(library, encoder) as engine,
        ):
            report("misleading folders", engine, [texts[n] for n in queried], own)


if __name__ == "__main__":
    main()
