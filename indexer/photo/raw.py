"""Camera RAW, with the ``raw`` extra: the embedded preview, or the sensor data at half size."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from sightline.indexer.errors import PhotoError
from sightline.indexer.files.walk import RAW_SUFFIXES
from sightline.indexer.installation import install_command
from sightline.indexer.photo.formats import check_size, open_image, photo_errors

MIN_PREVIEW = 1000
"""Pixels on the longer side of a preview that is used; some cameras embed only 160."""

EXIF_ORIENTATION = {0: 1, 3: 3, 5: 8, 6: 6}
"""By LibRaw's ``flip``."""


@dataclass(frozen=True)
class RawImage:
    """The image to use for a RAW file, and the facts of its container."""

    image: Image.Image
    transpose: int
    """EXIF orientation to apply to ``image``."""
    size: tuple[int, int]
    """Of the sensor image, upright."""
    orientation: int
    """EXIF orientation of the sensor image."""
    exif: Image.Exif


def is_raw(path: Path) -> bool:
    """Whether the file name has a suffix of camera RAW."""
    return path.suffix.lower() in RAW_SUFFIXES


@contextmanager
def open_raw(file: BinaryIO, *, max_pixels: int) -> Iterator[RawImage]:
    """The image of a camera RAW file. Raises ``PhotoError`` if it cannot be read."""
    try:
        import rawpy
    except ImportError as error:
        raise PhotoError(
            f"camera RAW needs the raw extra: {install_command('raw')}", transient=True
        ) from error
    data = file.read()
    with photo_errors():
        try:
            raw = rawpy.imread(io.BytesIO(data))
        except rawpy.LibRawError as error:
            raise PhotoError(f"it is not camera RAW that can be read: {_text(error)}") from error
        with raw:
            orientation = EXIF_ORIENTATION.get(raw.sizes.flip, 1)
            width, height = raw.sizes.width, raw.sizes.height
            check_size(width, height, max_pixels=max_pixels)
            size = (height, width) if orientation >= 5 else (width, height)
            min_preview = min(MIN_PREVIEW, max(size))
            exif = _exif(data)
            preview = _preview(raw, rawpy)
            if isinstance(preview, bytes):
                with open_image(io.BytesIO(preview), max_pixels=max_pixels) as image:
                    if max(image.size) >= min_preview:
                        own = image.getexif()
                        # The preview's own orientation is right, but most have none.
                        transpose = int(own.get(0x0112, 0) or 0) or orientation
                        yield RawImage(
                            image, transpose, size, orientation, exif if len(exif) else own
                        )
                        return
            elif preview is not None and max(preview.size) >= min_preview:
                yield RawImage(preview, orientation, size, orientation, exif)
                return
            try:
                half = min(width, height) >= 2 * MIN_PREVIEW
                pixels = raw.postprocess(half_size=half, use_camera_wb=True)
            except rawpy.LibRawError as error:
                raise PhotoError(f"it is corrupt: {_text(error)}") from error
            yield RawImage(Image.fromarray(pixels), 1, size, orientation, exif)


def _preview(raw: Any, rawpy: Any) -> bytes | Image.Image | None:
    """The largest preview in the file: the bytes of a JPEG, or an image."""
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
    """The EXIF of a RAW file that is a TIFF, as most are; empty for others."""
    exif = Image.Exif()
    try:
        exif.load_from_fp(io.BytesIO(data))
        exif.get_ifd(0x8769)
        exif.get_ifd(0x8825)
    except Exception:  # Pillow raises many kinds for what is not TIFF
        return Image.Exif()
    return exif


def _text(error: Exception) -> str:
    args = [a.decode(errors="replace") if isinstance(a, bytes) else str(a) for a in error.args]
    return " ".join(args) or type(error).__name__
