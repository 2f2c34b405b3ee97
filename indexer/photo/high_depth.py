"""Pixels of more than 8 bits per channel, of files of which Pillow decodes 8.

8 bits are too few where a colour space spreads its tones unlike sRGB: linear light, PQ, HLG.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import Image

from sightline.indexer.photo.colour import ColourSpace, avif_depth

Deep = NDArray[np.uint16]
"""``(H, W, C) uint16``, C of 1 to 4: grey or RGB, and perhaps alpha; 65535 is full."""

Read = Callable[[], Deep]

MAX_BYTES = 384 * 2**20
"""Of the pixels; larger images are decoded with 8 bits, so that a worker's memory suffices."""

ROWS = 256
"""Rows that are reduced at a time."""


DEPTHS = (8, 10, 12, 14, 16)
"""Bits that values in 16 bits may have."""

HALF_USED = 14
"""Bits from which values must use the upper half of their range: fewer bits than 16 are rarely
declared, and a dark image of 16 bits must stay dark."""


def depth(highest: int) -> int:
    """How many bits values in 16 bits have whose highest one this is."""
    return next(
        bits
        for bits in DEPTHS
        if highest < 2**bits and (bits < HALF_USED or bits == 16 or highest >= 2 ** (bits - 1))
    )


def float_range(values: NDArray[np.float32]) -> tuple[float, float]:
    """Black and white of finite floats: 0..1 if nearly all fit, 0..255 or 0..65535 if all do."""
    low, high = float(values.min()), float(values.max())
    if low >= -0.05 and float(np.percentile(values[::7, ::7], 99)) <= 1:
        return 0.0, 1.0
    if low >= 0:
        return 0.0, next((top for top in (255.0, 65535.0) if 16 < high <= top), high)
    return low, high


def reader(image: Image.Image, file: BinaryIO, space: ColourSpace | None) -> Read | None:
    """What reads all bits of ``image``, if they matter and there are more than 8."""
    if space is None or image.width * image.height * 8 > MAX_BYTES:
        return None
    if image.format == "PNG" and _bit_depth_of_png(file) == 16:
        return lambda: _png(file)
    if image.format == "HEIF" and space.cicp is not None and image.info.get("bit_depth", 8) > 8:
        return lambda: _heif(file)
    if image.format == "AVIF" and space.cicp is not None and (bits := avif_depth(file)) > 8:
        return lambda: _avif(file, bits, image.size)
    return None


def _bit_depth_of_png(file: BinaryIO) -> int:
    position = file.tell()
    file.seek(24)
    depth = file.read(1)
    file.seek(position)
    return depth[0] if depth else 0


def _png(file: BinaryIO) -> Deep:
    import imagecodecs

    file.seek(0)
    return _three_axes(imagecodecs.png_decode(file.read()))


def _heif(file: BinaryIO) -> Deep:
    file.seek(0)
    decoded = pillow_heif.open_heif(file, convert_hdr_to_8bit=False, hdr_to_16bit=False)
    bits = int(decoded.mode.partition(";")[2] or 8)
    return _scaled(_three_axes(np.asarray(decoded)), bits)


def _avif(file: BinaryIO, bits: int, size: tuple[int, int]) -> Deep:
    import imagecodecs

    file.seek(0)
    values = _three_axes(imagecodecs.avif_decode(file.read(), index=0, numthreads=1))
    if values.shape[1::-1] != size:
        raise ValueError("its size differs from that in its header")
    return _scaled(values, bits)


def _three_axes(values: NDArray[np.uint16]) -> Deep:
    return values[..., None] if values.ndim == 2 else values


def _scaled(values: NDArray[np.uint16], bits: int) -> Deep:
    return (values * np.float32(65535 / (2**bits - 1)) + 0.5).astype(np.uint16)


def reduced(values: Deep, factor: int) -> Deep:
    """The means of squares of ``factor`` pixels, as ``Image.reduce``; alpha weighs the rest."""
    if factor == 1:
        return values
    height, width, channels = values.shape
    columns = np.arange(0, width, factor)
    out = np.empty((-(-height // factor), len(columns), channels), np.uint16)
    has_alpha = channels in (2, 4)
    step = max(1, ROWS // factor) * factor
    for top in range(0, height, step):
        strip = values[top : top + step].astype(np.float32)
        if has_alpha:
            strip[..., :-1] *= strip[..., -1:]
        rows = np.arange(0, len(strip), factor)
        sums = np.add.reduceat(np.add.reduceat(strip, rows, axis=0), columns, axis=1)
        counts = np.minimum(factor, len(strip) - rows)[:, None] * np.minimum(
            factor, width - columns
        )
        if has_alpha:
            alpha = sums[..., -1:]
            sums[..., :-1] = np.divide(
                sums[..., :-1], alpha, out=np.zeros_like(sums[..., :-1]), where=alpha > 0
            )
            sums[..., -1:] /= counts[..., None]
        else:
            sums /= counts[..., None]
        out[top // factor : top // factor + len(rows)] = (sums + 0.5).astype(np.uint16)
    return out


def to_srgb(values: Deep, space: ColourSpace | None) -> Image.Image:
    """``values`` in sRGB: mode ``RGB``, or ``RGBA`` if there is alpha."""
    channels = values.shape[2]
    colours = values[..., : 3 if channels >= 3 else 1]
    if space is None:
        eight = (colours // 257).astype(np.uint8)
        shown = Image.fromarray(eight if channels >= 3 else eight[..., 0]).convert("RGB")
    else:
        shown = space.convert_deep(colours)
    if channels in (2, 4):
        shown.putalpha(Image.fromarray((values[..., -1] // 257).astype(np.uint8)))
    return shown
