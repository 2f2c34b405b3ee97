"""Compares embeddings of a library's thumbnails with those of the originals, and their cost.

    python -m benchmarks.thumbnails FOLDER... [--limit 400]

For the built-in model, and for ViT-B/32 of 224 and of 384 pixels with random weights, prints the
mean and the lowest cosine between the two embeddings of each image, the overlap of the ten nearest
images of each, and CPU milliseconds per image: encoding alone (of pixels in memory), from
thumbnails as ``sightline reencode --from thumbnails``, and from originals.

Random weights are a proxy: their embeddings of different images are alike, so that cosines say
little and the overlap is the stricter figure.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.encoder import build
from sightline.indexer.encoder import Encoder, encode_photos
from sightline.indexer.files.walk import scan
from sightline.indexer.photo import Decoder
from sightline.indexer.types import Candidate, Embeddings, Photo

NEIGHBOURS = 10


def cpu_seconds() -> float:
    """Of this process and of the worker processes that have ended."""
    used = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        used += usage.ru_utime + usage.ru_stime
    return used


def encode(
    encoder: Encoder, sources: list[tuple[int, Candidate | bytes]], *, details: bool = False
) -> tuple[dict[int, Photo], Embeddings, float]:
    """The photos and unit vectors of ``sources``, by position, and CPU seconds per image."""
    photos: dict[int, Photo] = {}
    vectors = np.full((len(sources), encoder.dimension), np.nan, np.float32)

    def read(decoder: Decoder) -> Iterator[tuple[int, Photo]]:
        for key, outcome in decoder.each(sources):
            if isinstance(outcome, Photo):
                photos[key] = outcome
                yield key, outcome

    start = cpu_seconds()
    with Decoder(encoder.geometry, details=details) as decoder:
        for batch in encode_photos(encoder, read(decoder)):
            for key, _, vector in batch:
                vectors[key] = vector
    return photos, vectors, (cpu_seconds() - start) / len(sources)


def overlap(one: Embeddings, other: Embeddings) -> float:
    """The mean fraction of each image's nearest ones by ``one`` that are nearest by ``other``."""
    near = []
    for vectors in (one, other):
        cosines = vectors @ vectors.T
        np.fill_diagonal(cosines, -2)
        near.append(np.argsort(-cosines, axis=1)[:, :NEIGHBOURS])
    return (
        float(np.mean([len(np.intersect1d(a, b)) for a, b in zip(*near, strict=True)])) / NEIGHBOURS
    )


def compare(name: str, encoder: Encoder, files: list[Candidate]) -> None:
    """Prints one line of the table."""
    encoder.warm(("image",))
    photos, originals, _ = encode(encoder, [*enumerate(files)], details=True)
    keys = sorted(photos)
    small: list[tuple[int, Candidate | bytes]] = [
        (position, photos[key].thumbnail) for position, key in enumerate(keys)
    ]
    _, thumbnails, by_thumbnail = encode(encoder, small)
    _, _, by_file = encode(encoder, [*enumerate(files)])
    start = cpu_seconds()
    for _ in encode_photos(encoder, ((key, photos[key]) for key in keys)):
        pass
    alone = (cpu_seconds() - start) / len(keys)
    originals = originals[keys]
    cosines = (originals * thumbnails).sum(axis=1)
    print(
        f"{name:<28} {len(keys):>5} {cosines.mean():>8.4f} {cosines.min():>8.4f}"
        f" {overlap(originals, thumbnails):>8.3f} {1000 * alone:>8.1f} {1000 * by_thumbnail:>8.1f}"
        f" {1000 * by_file:>8.1f} {alone / by_thumbnail:>8.2f}",
        flush=True,
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--limit", type=int, default=400)
    parser.add_argument("--dtype", default="auto")
    options = parser.parse_args()
    files = [file for folder in options.folders for file in scan(folder.resolve())]
    if len(files) > options.limit:
        files = random.Random(0).sample(files, options.limit)
    print(
        f"{'model':<28} {'n':>5} {'cosine':>8} {'lowest':>8} {'top-10':>8} {'alone':>8}"
        f" {'thumbs':>8} {'files':>8} {'speed':>8}"
    )
    compare("builtin", Encoder.load("builtin", device="cpu"), files)
    for size in (224, 384):
        with tempfile.TemporaryDirectory() as place:
            build(Path(place), image_size=size)
            encoder = Encoder.load(place, device="cpu", dtype=options.dtype)
            compare(f"ViT-B/32 {size}, random ({encoder.dtype})", encoder, files)


if __name__ == "__main__":
    main()
