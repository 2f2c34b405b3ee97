"""Camera RAW, with the ``raw`` extra: the preview that the camera put into the file, or else the
sensor's data developed at half size."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from sightline.indexer.errors import PhotoError
from sightline.indexer.photo.formats import check_size, opened, reasons

SUFFIXES = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".fff", ".iiq", ".kdc", ".mef", ".mos"}
    | {".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf"}
    | {".srw", ".x3f"}
)
"""Of camera RAW files, lower-case."""

LEAST_PREVIEW = 1000
"""Pixels on the longer side from which a preview in the file will do. Some cameras put nothing but
a stamp of 160 into it."""

ORIENTATION = {0: 1, 3: 3, 5: 8, 6: 6}
"""LibRaw's way to say how the camera was held -> EXIF's."""


@dataclass(frozen=True)
class Developed:
    """A RAW file's picture, and what its container says."""

    image: Image.Image
    size: tuple[int, int]
    """Of the sensor's picture, upright."""
    orientation: int
    """EXIF's, to be applied to ``image``."""
    held: int
    """How the camera was held, as EXIF's orientation."""
    exif: Image.Exif


def is_raw(path: Path) -> bool:
    """Whether the file's name says that it is camera RAW."""
    return path.suffix.lower() in SUFFIXES


@contextmanager
def developed(file: BinaryIO, *, max_pixels: int) -> Iterator[Developed]:
    """The picture of a camera RAW file. ``PhotoError`` when it cannot be read."""
    try:
        import rawpy
    except ImportError as error:
        raise PhotoError(
            'camera RAW needs the raw extra: pip install "sightline[raw]"', passing=True
        ) from error
    data = file.read()
    with reasons():
        try:
            raw = rawpy.imread(io.BytesIO(data))
        except rawpy.LibRawError as error:
            raise PhotoError(f"it is not camera RAW that can be read: {_text(error)}") from error
        with raw:
            turn = ORIENTATION.get(raw.sizes.flip, 1)
            width, height = raw.sizes.width, raw.sizes.height
            check_size(width, height, max_pixels=max_pixels)
            size = (height, width) if turn >= 5 else (width, height)
            exif = _exif(data)
            preview = _preview(raw, rawpy)
            if isinstance(preview, bytes):
                with opened(io.BytesIO(preview), max_pixels=max_pixels) as image:
                    if max(image.size) >= min(LEAST_PREVIEW, max(size)):
                        own = image.getexif()
                        # A preview that says how it lies knows best; most say nothing.
                        lies = int(own.get(0x0112, 0) or 0) or turn
                        if not len(exif):
                            exif = own
                        yield Developed(image, size, lies, turn, exif)
                        return
            elif preview is not None and max(preview.size) >= min(LEAST_PREVIEW, max(size)):
                yield Developed(preview, size, turn, turn, exif)
                return
            try:
                half = min(raw.sizes.width, raw.sizes.height) >= 2 * LEAST_PREVIEW
                pixels = raw.postprocess(half_size=half, use_camera_wb=True)
            except rawpy.LibRawError as error:
                raise PhotoError(f"it is damaged: {_text(error)}") from error
            yield Developed(Image.fromarray(pixels), size, 1, turn, exif)


def _preview(raw, rawpy) -> bytes | Image.Image | None:  # type: ignore[no-untyped-def]
    """The largest preview in the file: a JPEG's bytes, or a picture."""
    try:
        thumbnail = raw.extract_thumb()
    except rawpy.LibRawError:
        return None
    if thumbnail.format == rawpy.ThumbFormat.JPEG:
        return bytes(thumbnail.data)
    if thumbnail.format == rawpy.ThumbFormat.BITMAP:
        return Image.fromarray(thumbnail.data)
    return None


def _exif(data: bytes) -> Image.Exif:
    """Most RAW files are TIFF inside."""
    exif = Image.Exif()
    try:
        exif.load_from_fp(io.BytesIO(data))
        exif.get_ifd(0x8769)
        exif.get_ifd(0x8825)
    except Exception:  # whatever the file makes of it: then it is not TIFF, and has no EXIF here
        return Image.Exif()
    return exif


def _text(error: Exception) -> str:
    args = [a.decode(errors="replace") if isinstance(a, bytes) else str(a) for a in error.args]
    return " ".join(args) or type(error).__name__
