"""Random views of prepared images through the locked image tower, cached on disk.

Two arrays a source: ``<name>.features.npy``, the pooled features, float16 ``(n * views, d)``,
which is all that training reads, and ``<name>.flipped.npy``, which views are mirrored. View
``v`` of image ``i`` is row ``i * views + v``; view 0 is the whole image.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from sightline.data.training import prepare
from sightline.data.training.network import EfficientNetLite, channels_last

SIDE = 224
"""Pixels a side of the tower's input."""

MEAN, STD = 127.0, 128.0
"""Of pixel values: what EfficientNet-Lite was trained with."""

BATCH = 16
"""Images per pass: fast on one core."""


@dataclass(frozen=True)
class Augmentation:
    """How far a random view may differ from the image.

    Captions name what is at the edges and colours, so scenes are changed little; 6,000 photos would
    be learnt by heart without strong changes.
    """

    smallest_area: float
    stretch: float
    """Largest logarithm of the aspect ratio's change."""
    contrast: float
    """Largest relative change of contrast; brightness changes by up to 50 times as many levels."""


PHOTO = Augmentation(smallest_area=0.45, stretch=0.3, contrast=0.25)
SCENE = Augmentation(smallest_area=0.8, stretch=0.12, contrast=0.06)


def view(
    image: Image.Image, augmentation: Augmentation, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], bool]:
    """A random crop, possibly mirrored: ``(SIDE, SIDE, 3) uint8``, and whether it is mirrored."""
    area = rng.uniform(augmentation.smallest_area, 1)
    stretch = np.exp(rng.uniform(-augmentation.stretch, augmentation.stretch))
    width, height = min(1, np.sqrt(area * stretch)), min(1, np.sqrt(area / stretch))
    left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    box = (
        left * image.width,
        top * image.height,
        (left + width) * image.width,
        (top + height) * image.height,
    )
    pixels = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box))
    mirrored = bool(rng.random() < 0.5)
    values = (pixels[:, ::-1] if mirrored else pixels).astype(np.float32)
    mean = values.mean()
    gain = 1 + rng.uniform(-augmentation.contrast, augmentation.contrast)
    shift = 50 * rng.uniform(-augmentation.contrast, augmentation.contrast)
    return np.clip((values - mean) * gain + mean + shift, 0, 255).astype(np.uint8), mirrored


def views(
    pixels: prepare.Pixels, count: int, augmentation: Augmentation, *, seed: int
) -> Iterator[tuple[NDArray[np.uint8], bool]]:
    """``count`` views of each image in turn: the whole image, then random ones."""
    for row in range(len(pixels)):
        image = Image.fromarray(pixels[row])
        yield np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)), False
        for number in range(1, count):
            yield view(image, augmentation, np.random.default_rng((seed, number, row)))


@torch.inference_mode()
def cache(
    folder: Path,
    name: str,
    tower: EfficientNetLite,
    *,
    count: int,
    augmentation: Augmentation,
    seed: int = 0,
) -> None:
    """Compute the arrays of one prepared source, unless ``<name>.flipped.npy`` is there already."""
    done = folder / f"{name}.flipped.npy"
    if done.exists():
        return
    pixels, _ = prepare.load(folder, name)
    rows, flipped = len(pixels) * count, []
    features = None
    tower = channels_last(copy.deepcopy(tower).to(torch.bfloat16))
    start = 0
    waiting = views(pixels, count, augmentation, seed=seed)
    while batch := list(islice(waiting, BATCH)):
        flipped += [mirrored for _, mirrored in batch]
        values = torch.from_numpy(np.stack([each for each, _ in batch])).permute(0, 3, 1, 2)
        found = tower(((values.float() - MEAN) / STD).to(torch.bfloat16))
        if features is None:
            path, shape = folder / f"{name}.features.npy", (rows, found.shape[1])
            features = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
        end = start + len(batch)
        features[start:end] = found.half().numpy()
        start = end
    np.save(done, np.asarray(flipped))


@dataclass(frozen=True)
class Cached:
    """The cached arrays of one source."""

    features: NDArray[np.float16]
    """``(n, views, d)``."""
    flipped: NDArray[np.bool_]
    """``(n, views)``."""

    @classmethod
    def open(cls, folder: Path, name: str, images: int) -> Cached:
        """What :func:`cache` computed for a source of ``images`` images."""
        features = np.load(folder / f"{name}.features.npy", mmap_mode="r")
        flipped = np.load(folder / f"{name}.flipped.npy")
        shaped = features.reshape(images, -1, features.shape[1])
        return cls(shaped, flipped.reshape(images, -1))
