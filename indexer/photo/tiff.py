"""TIFF files of which Pillow reads too little or nothing: 16 bits in planes, floats, odd depths.

Pillow reads all others. ``tifffile`` reads the pixels here, as 16 bits per channel.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.indexer.errors import PhotoError
from sightline.indexer.photo.formats import check_size, photo_errors
from sightline.indexer.photo.high_depth import MAX_BYTES, Deep, depth, float_range

BITS, PHOTOMETRIC, ORIENTATION, SAMPLES, PLANAR, ICC_PROFILE = 258, 262, 274, 277, 284, 34675
"""TIFF tags."""

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK, LAB = 0, 1, 2, 5, 8
"""Values of ``PHOTOMETRIC``."""

COMPRESSION = 259
OTHER_COMPRESSIONS = (34712, 50001, 50002, 52546)
"""JPEG 2000, WebP and JPEG XL, which Pillow's libtiff does not decode."""


@dataclass(frozen=True)
class Page:
    """One page of a TIFF file, not decoded yet."""

    size: tuple[int, int]
    """Width, height, before ``orientation`` is applied."""
    orientation: int
    exif: Image.Exif
    header: Image.Image
    """The image in CMYK or Lab; else one pixel with the mode and the ``info`` of the page."""
    page: Any

    @property
    def is_deep(self) -> bool:
        """Whether ``read`` returns the pixels; they are in ``header`` otherwise."""
        return self.header.mode in ("L", "RGB")

    def read(self) -> Deep:
        """The pixels. Raises ``PhotoError``."""
        with photo_errors():
            return _sixteen_bits(self.page)


def is_for_tifffile(image: Image.Image) -> bool:
    """Whether Pillow would read too few bits of a TIFF, or the wrong ones."""
    if image.format != "TIFF":
        return False
    tags = getattr(image, "tag_v2", {})
    bits, samples = tags.get(BITS, (1,)), tags.get(SAMPLES, 1)
    deep = isinstance(bits, tuple) and max(bits) > 8 and samples >= 2
    plain = tags.get(PHOTOMETRIC) in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB)
    if (deep and tags.get(PLANAR) == 2) or tags.get(COMPRESSION) in OTHER_COMPRESSIONS:
        return True
    return deep and plain and image.width * image.height * 8 <= MAX_BYTES


def is_tiff(file: BinaryIO) -> bool:
    """Whether a file begins like a TIFF, of 32 or 64 bits."""
    file.seek(0)
    head = file.read(4)
    file.seek(0)
    return head in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@contextmanager
def open_page(file: BinaryIO, *, max_pixels: int) -> Iterator[Page]:
    """The first page that is no reduced copy. Raises ``PhotoError`` for what is not read."""
    import tifffile

    file.seek(0)
    with photo_errors(), tifffile.TiffFile(io.BytesIO(file.read())) as tiff:
        page = next((one for one in tiff.pages if not one.is_reduced), tiff.pages[0])
        check_size(page.imagewidth, page.imagelength, max_pixels=max_pixels)
        if page.photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK, LAB):
            name = getattr(page.photometric, "name", page.photometric)
            raise PhotoError(f"it is a TIFF of {page.bitspersample} bits in {name}, not supported")
        if page.imagewidth * page.imagelength * max(8, 2 * page.samplesperpixel) > 2 * MAX_BYTES:
            raise PhotoError("it is too large: a TIFF of this kind is read up to 96 megapixels")
        file.seek(0)
        exif = _exif(file)
        if page.photometric in (CMYK, LAB):
            header = _of_8_bits(page)
        else:
            header = Image.new("RGB" if page.photometric == RGB else "L", (1, 1))
        header.format = "TIFF"
        profile = page.tags.valueof(ICC_PROFILE)
        if profile is not None:
            header.info["icc_profile"] = bytes(profile)
        orientation = page.tags.valueof(ORIENTATION, 1)
        size = (page.imagewidth, page.imagelength)
        upright = int(orientation) if orientation in range(1, 9) else 1
        yield Page(size, upright, exif, header, page)


def _exif(file: BinaryIO) -> Image.Exif:
    exif = Image.Exif()
    try:
        exif.load_from_fp(file)
        exif.get_ifd(0x8769)
        exif.get_ifd(0x8825)
    except Exception:  # malformed metadata raises any kind of exception
        return Image.Exif()
    return exif


def _pixels(page: Any) -> NDArray[Any]:
    """``(H, W, C)``."""
    values = np.asarray(page.asarray(maxworkers=1))
    axes = page.axes
    if "S" not in axes:
        values = values.reshape(page.imagelength, page.imagewidth, 1)
    elif axes.index("S") == 0:
        values = np.moveaxis(values, 0, -1)
    if values.ndim != 3:
        raise PhotoError(f"it is a TIFF with the axes {axes}, which is not supported")
    return values


def _of_8_bits(page: Any) -> Image.Image:
    """A page in CMYK or Lab; alpha is ignored."""
    mode, channels = ("CMYK", 4) if page.photometric == CMYK else ("LAB", 3)
    values = _pixels(page)[..., :channels]
    if values.dtype not in (np.uint8, np.uint16, np.int8, np.int16) or values.shape[2] < channels:
        raise PhotoError(f"it is a TIFF of {values.dtype} in {mode}, which is not supported")
    if values.dtype.itemsize == 2:
        values = values.view(np.uint16) >> 8  # a and b of Lab are signed
    data = values.astype(np.uint8).tobytes()
    return Image.frombytes(mode, (page.imagewidth, page.imagelength), data, "raw", mode)


def _sixteen_bits(page: Any) -> Deep:
    values = _pixels(page)
    colours = 3 if page.photometric == RGB else 1
    extra = tuple(page.extrasamples or ())
    has_alpha = values.shape[2] > colours and bool(extra) and int(extra[0]) in (1, 2)
    alpha = values[..., colours : colours + 1] if has_alpha else None
    shown = _scaled(values[..., :colours])
    if page.photometric == WHITE_IS_ZERO:
        shown = 65535 - shown
    if alpha is None:
        return shown
    opacity = _scaled(alpha)
    if int(extra[0]) == 1:  # the colours are multiplied by it
        full = shown.astype(np.float32) * 65535 / np.maximum(opacity, 1)
        shown = np.minimum(full, 65535).astype(np.uint16)
    return np.concatenate([shown, opacity], axis=2)


def _scaled(values: NDArray[Any]) -> Deep:
    """Values of any type as 16 bits; files do not state the range of most."""
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind == "b":
        return values.astype(np.uint16) * 65535
    if kind == "u" and size == 1:
        return values.astype(np.uint16) * 257
    if kind == "u" and size == 2:
        bits = depth(int(values.max(initial=0)))
        if bits == 16:
            return values.astype(np.uint16, copy=False)
        low, high = 0.0, float(2**bits - 1)
    elif kind == "f":
        values = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        low, high = float_range(values)
    else:
        low, high = float(min(0, values.min())), float(values.max())
        if low >= 0:
            bits = next((bits for bits in (8, 16) if high < 2**bits), int(high).bit_length())
            high = float(2**bits - 1)
    scaled = (values.astype(np.float32) - low) * (65535 / max(high - low, 1e-12))
    return np.clip(scaled + 0.5, 0, 65535).astype(np.uint16)
