"""Synthetic photos for benchmarks: seeded, of any size, no two files alike.

Their power spectrum falls as that of photos, and shapes with soft edges add contours, so that JPEGs
of them are about as large, and as slow to decode, as a camera's.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

SIZES = {"12": (4000, 3000), "2": (1632, 1224)}
"""Width and height by megapixels."""

QUALITY = 90


def photograph(seed: int, size: tuple[int, int]) -> Image.Image:
    """One image of ``size`` (width, height)."""
    rng = np.random.default_rng(seed)
    width, height = size
    fy = np.fft.fftfreq(height)[:, None]
    fx = np.fft.rfftfreq(width)[None, :]
    falloff = np.maximum(np.hypot(fy, fx), 1 / max(size)) ** -1.2
    light = _field(rng, falloff, size)
    hues = [_field(rng, falloff**1.2, size) for _ in range(2)]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    for _ in range(12):
        cx, cy = rng.random(2) * size
        radius = rng.uniform(0.04, 0.2) * width
        edge = np.clip((radius - np.hypot(x - cx, (y - cy) * rng.uniform(0.6, 1.6))) / 2, 0, 1)
        light += edge * rng.normal(0, 1.2)
        hues[rng.integers(2)] += edge * rng.normal(0, 1.2)
    luma = 118 + 48 * light
    red, blue = 22 * hues[0], 22 * hues[1]
    rgb = np.stack([luma + red, luma - 0.5 * red - 0.2 * blue, luma + blue], axis=-1)
    return Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8))


def _field(rng: np.random.Generator, falloff: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Noise of that spectrum, with mean 0 and standard deviation 1."""
    width, height = size
    spectrum = np.fft.rfft2(rng.standard_normal((height, width), dtype=np.float32)) * falloff
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, s=(height, width)).astype(np.float32)
    return field / field.std()


def write_photographs(
    folder: Path, count: int, size: tuple[int, int], *, different: int = 12, seed: int = 0
) -> list[Path]:
    """Writes ``count`` JPEG files of ``different`` images, with different EXIF dates, so that no
    file is recognised as a copy of another."""
    folder.mkdir(parents=True, exist_ok=True)
    bodies = []
    for number in range(min(different, count)):
        out = io.BytesIO()
        photograph(seed + number, size).save(out, "JPEG", quality=QUALITY)
        bodies.append(out.getvalue())
    paths = []
    for number in range(count):
        exif = Image.Exif()
        exif[0x010F], exif[0x0110] = "Sightline", "Benchmark"
        clock = f"{2000 + number // 8760}:{1 + number % 12:02}:{1 + number % 28:02}"
        exif.get_ifd(0x8769)[0x9003] = f"{clock} {number % 24:02}:{number % 60:02}:00"
        exif.get_ifd(0x8769)[0xA420] = f"{number:032x}"
        block = exif.tobytes()
        body = bodies[number % len(bodies)]
        segment = b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block
        path = folder / f"{number:06}.jpg"
        path.write_bytes(body[:2] + segment + body[2:])
        paths.append(path)
    return paths
