"""Measures ``photo.read`` against the full decode: speed, and difference of pixels and embeddings.

    python -m benchmarks.decoding FOLDER [--limit 240] [--rounds 3] [--model builtin]
    python -m benchmarks.decoding --megapixels 12 --limit 24

On the same files, the median of interleaved rounds:

    pillow      Pillow's full decode, resize, crop: the model's input and nothing else
    equivalent  everything that ``photo.read`` makes, from a full decode
    read        ``photo.read``
    decoder     ``Decoder`` with one worker per core, already started

then the time of each step of ``photo.read``, the mean difference of its pixels to those of the full
decode, of 255, and the cosine of their embeddings.
"""

from __future__ import annotations

import argparse
import cProfile
import hashlib
import io
import os
import pstats
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from benchmarks.photographs import SIZES, write_photographs
from sightline.indexer.encoder import Encoder
from sightline.indexer.errors import PhotoError
from sightline.indexer.files.walk import scan
from sightline.indexer.photo import Decoder, photo
from sightline.indexer.types import Candidate, Geometry, Pixels

CORES = os.cpu_count() or 1

STEPS = {
    "reading the file, hash": ("read_and_hash",),
    "decoding, reduction": ("_decode",),
    "thumbnail's pixels": ("downscale",),
    "thumbnail's WebP": ("_webp",),
    "model's input": ("model_input",),
    "EXIF, XMP, IPTC": ("add_metadata",),
    "perceptual hash, colour": ("perceptual_hash", "mean_colour"),
}
"""Profiled functions by step."""


def pillow(path: Path, geometry: Geometry) -> Pixels:
    """The usual code: decode, orient, resize, crop."""
    with Image.open(path) as image:
        seen = ImageOps.exif_transpose(image).convert("RGB")
    if geometry.fit == "squash":
        window = geometry.width, geometry.height
        return np.asarray(seen.resize(window, Image.Resampling[geometry.resample.upper()]))
    scale = geometry.resize / min(seen.size)
    whole = [max(geometry.resize, int(side * scale)) for side in seen.size]
    small = seen.resize((whole[0], whole[1]), Image.Resampling[geometry.resample.upper()])
    left, top = (whole[0] - geometry.width) // 2, (whole[1] - geometry.height) // 2
    return np.asarray(small.crop((left, top, left + geometry.width, top + geometry.height)))


def equivalent(path: Path, geometry: Geometry) -> Pixels:
    """Everything that ``photo.read`` makes, from a full decode."""
    hashlib.sha256(path.read_bytes()).hexdigest()
    with Image.open(path) as image:
        image.getexif().get_ifd(0x8769)
        thumbnail = ImageOps.exif_transpose(image).convert("RGB")
    thumbnail.thumbnail((photo.THUMBNAIL_SIZE, photo.THUMBNAIL_SIZE))
    thumbnail.save(io.BytesIO(), "WEBP")
    return pillow(path, geometry)


def timed(work: Callable[[], object]) -> float:
    """Seconds that ``work`` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def rates(some: list[Candidate], geometry: Geometry, rounds: int) -> dict[str, float]:
    """Images per second of each method, the median of ``rounds``."""
    seconds: dict[str, list[float]] = {}
    with Decoder(geometry, workers=CORES) as decoder:
        list(decoder.photos(some[: 4 * CORES]))
        methods: dict[str, Callable[[], object]] = {
            "pillow": lambda: [pillow(c.absolute, geometry) for c in some],
            "equivalent": lambda: [equivalent(c.absolute, geometry) for c in some],
            "read": lambda: [photo.read(c.absolute, geometry) for c in some],
            "decoder": lambda: list(decoder.photos(some)),
        }
        for _ in range(rounds):
            for name, work in methods.items():
                seconds.setdefault(name, []).append(timed(work))
    return {name: len(some) / statistics.median(taken) for name, taken in seconds.items()}


def step_times(some: list[Candidate], geometry: Geometry) -> dict[str, float]:
    """Milliseconds per image of each step."""
    profile = cProfile.Profile()
    profile.runcall(lambda: [photo.read(c.absolute, geometry) for c in some])
    found = dict.fromkeys(STEPS, 0.0)
    for (file, _, name), (_, _, _, cumulative, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        for step, names in STEPS.items():
            if name in names and "photo" in file:
                found[step] += cumulative * 1000 / len(some)
    return found


def readable(candidates: list[Candidate], geometry: Geometry) -> list[Candidate]:
    """The candidates that are images."""
    found = []
    for candidate in candidates:
        try:
            photo.read(candidate.absolute, geometry)
        except PhotoError:
            continue
        found.append(candidate)
    return found


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--megapixels", choices=SIZES, default="12")
    parser.add_argument("--limit", type=int, default=240)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="builtin")
    options = parser.parse_args()
    encoder = Encoder.load(options.model, device="cpu")
    geometry = encoder.geometry
    with tempfile.TemporaryDirectory(prefix="sightline-benchmark-") as scratch:
        folder = options.folder
        if folder is None:
            folder = Path(scratch)
            write_photographs(folder, options.limit, SIZES[options.megapixels])
        some = readable(list(scan(folder))[: options.limit], geometry)
        sizes = [photo.read(c.absolute, geometry).info for c in some]
        megapixels = statistics.mean(info.width * info.height for info in sizes) / 1e6
        print(f"{len(some)} images of {megapixels:.2f} megapixels on average, {CORES} cores\n")
        found = rates(some, geometry, options.rounds)
        print(f"{'':12}{'images/s':>10}{'ms each':>10}{'x pillow':>10}")
        for name, rate in found.items():
            print(f"{name:12}{rate:10.1f}{1000 / rate:10.2f}{rate / found['pillow']:10.2f}")
        print()
        for step, milliseconds in step_times(some, geometry).items():
            print(f"{step:26}{milliseconds:8.2f} ms")
        pixels = np.stack([photo.read(c.absolute, geometry).pixels for c in some])
        full = np.stack([pillow(c.absolute, geometry) for c in some])
    differences = np.abs(pixels.astype(int) - full).mean(axis=(1, 2, 3))
    cosines = (encoder.encode_images(pixels) * encoder.encode_images(full)).sum(axis=1)
    print(
        f"\nagainst the full decode: pixels differ by {differences.mean():.2f} of 255 (at most"
        f" {differences.max():.2f}); cosine of embeddings {cosines.mean():.5f} (at least"
        f" {cosines.min():.5f}, {encoder.model} in {encoder.dtype})"
    )


if __name__ == "__main__":
    main()
