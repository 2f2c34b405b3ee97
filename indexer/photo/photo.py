"""One picture file, read once: pixels for the encoder, a thumbnail, and what is known of it.

    photo_files      opening what may be anything; why files are refused
    photo_pixels     modes, sizes, orientation
    photo_metadata   EXIF, XMP, IPTC (photo_xmp)
    photo_raw        camera RAW (with the ``raw`` extra)

These functions decode in the calling process. A run of the indexer and the server go through
``decode.Decoder``, whose workers may crash.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import BinaryIO

import xxhash
from PIL import Image

from sightline.indexer.errors import PhotoError
from sightline.indexer.files import archives
from sightline.indexer.photo import metadata, pixels, raw
from sightline.indexer.photo.formats import (
    MAX_PIXELS,
    contents,
    format_name,
    hash_stream,
    opened,
    reasons,
    regular_file,
)
from sightline.indexer.types import Geometry, Photo, PhotoInfo, Pixels

__all__ = ["MAX_PIXELS", "THUMBNAIL_SIZE", "crop", "hash_file", "preview", "read", "read_bytes"]

THUMBNAIL_SIZE = 512
"""Pixels of a thumbnail's longer side, at most."""

THUMBNAIL_FILTER = Image.Resampling.HAMMING
"""As sharp as bicubic when making smaller, in 4 ms instead of 7 (Lanczos: 10)."""

THUMBNAIL = {"quality": 75, "method": 0}
"""How thumbnails are packed: 21 kB and 3.4 ms each. Method 4, WebP's default, saves a fifth of the
bytes and takes 13.5 ms, as long as decoding a picture of two megapixels."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom of a part, as fractions 0..1 of the picture as it is seen."""


def hash_file(path: Path) -> str:
    """Of the file's bytes: xxh3_128 as 32 hexadecimal digits. Raises ``PhotoError``."""
    if (packed := archives.inside(path)) is not None:
        return xxhash.xxh3_128_hexdigest(_unpacked(*packed))
    with regular_file(path) as file, reasons():
        return hash_stream(file)


def read(
    path: Path, geometry: Geometry, *, max_pixels: int = MAX_PIXELS, thumbnail: bool = True
) -> Photo:
    """Reads the picture at ``path``; without ``thumbnail`` its thumbnail is ``b""``. Raises
    ``PhotoError`` with the reason when it cannot."""
    if (packed := archives.inside(path)) is not None:
        data = _unpacked(*packed)
        photo = read_bytes(data, geometry, max_pixels=max_pixels, thumbnail=thumbnail)
        with reasons():
            said = archives.notes(*packed)
        caption = photo.info.caption or said.get("caption")
        return replace(photo, info=replace(photo.info, caption=caption, url=said.get("url")))
    with regular_file(path) as file:
        stream, digest = contents(file)
        return _photo(stream, digest, geometry, max_pixels, thumbnail, is_raw=raw.is_raw(path))


def _unpacked(archive: Path, name: str) -> bytes:
    """A picture in an archive. Raises ``PhotoError``."""
    if raw.is_raw(Path(name)):
        raise PhotoError("camera RAW is read from folders only, not from an archive")
    with reasons():
        return archives.read(archive, name)


def read_bytes(
    data: bytes, geometry: Geometry, *, max_pixels: int = MAX_PIXELS, thumbnail: bool = True
) -> Photo:
    """Reads the picture that ``data`` is the file of; camera RAW is not among them. Without
    ``thumbnail`` its thumbnail is ``b""``."""
    if not data:
        raise PhotoError("the file is empty")
    digest = xxhash.xxh3_128_hexdigest(data)
    return _photo(io.BytesIO(data), digest, geometry, max_pixels, thumbnail)


def crop(
    source: Path | bytes, box: Box, geometry: Geometry, *, max_pixels: int = MAX_PIXELS
) -> Pixels:
    """What a model is to see of a part of a picture: ``(height, width, 3) uint8``.

    ``source`` is a file or its bytes. Parts outside the picture are left out; ``PhotoError`` when
    nothing remains, or the picture cannot be read.
    """
    with _source(source) as (stream, is_raw), _opened(stream, is_raw, max_pixels) as picture:
        size = picture.size
        left, top, right, bottom = (min(max(edge, 0.0), 1.0) for edge in box)
        if not (left < right and top < bottom):
            raise PhotoError("the part to be cut out is empty")
        part = max(1, round((right - left) * size[0])), max(1, round((bottom - top) * size[1]))
        model = pixels.resized(part, geometry)
        least = (
            max(1, round(pixels.MARGIN * model[0] * size[0] / part[0])),
            max(1, round(pixels.MARGIN * model[1] * size[1] / part[1])),
        )
        seen = _seen(picture, least)
        edges = (
            int(left * seen.width),
            int(top * seen.height),
            max(int(left * seen.width) + 1, round(right * seen.width)),
            max(int(top * seen.height) + 1, round(bottom * seen.height)),
        )
        return pixels.cut(seen.crop(edges), part, geometry)


def preview(path: Path, size: int, *, max_pixels: int = MAX_PIXELS) -> bytes:
    """A copy for the browser, upright, its longer side at most ``size``: WebP.

    Raises ``PhotoError`` when the file cannot be read.
    """
    with _source(path) as (stream, is_raw), _opened(stream, is_raw, max_pixels) as picture:
        seen = _seen(picture, pixels.within(picture.size, size))
        profile = pixels.kept_profile(picture.image)
        return _webp(
            pixels.smaller(seen, size, Image.Resampling.LANCZOS),
            profile,
            {"quality": 85, "method": 2},
        )


@dataclass(frozen=True)
class _Open:
    """A picture whose header has been read, and how it is seen."""

    image: Image.Image
    format: str
    turn: int
    """EXIF orientation to be applied to the pixels that ``image`` will have."""
    size: tuple[int, int]
    """Upright, before anything is made smaller."""
    orientation: int
    """As the file says it."""
    full: tuple[int, int] | None = None
    """Of a RAW file's own picture; ``image`` is its preview."""
    exif: Image.Exif | None = None


@contextmanager
def _source(source: Path | bytes) -> Iterator[tuple[BinaryIO, bool]]:
    """A stream of a file or of its bytes, and whether it is camera RAW."""
    if not isinstance(source, bytes) and (packed := archives.inside(source)) is not None:
        source = _unpacked(*packed)
    if isinstance(source, bytes):
        yield io.BytesIO(source), False
        return
    with regular_file(source) as file:
        yield file, raw.is_raw(source)


@contextmanager
def _opened(stream: BinaryIO, is_raw: bool, max_pixels: int) -> Iterator[_Open]:
    """Opens an ordinary picture or a RAW file. Everything raised inside becomes ``PhotoError``."""
    if is_raw:
        with raw.developed(stream, max_pixels=max_pixels) as found, reasons():
            size = pixels.turned(found.image.size, found.orientation)
            image, turn = found.image, found.orientation
            yield _Open(image, "raw", turn, size, found.held, found.size, found.exif)
        return
    with opened(stream, max_pixels=max_pixels) as image:
        orientation = metadata.orientation(image)
        # Pillow turns TIFF itself when it loads it, and gives its upright size before.
        turn = 1 if image.format == "TIFF" else orientation
        said = image.info.get("original_orientation") or orientation
        size = pixels.turned(image.size, turn)
        yield _Open(image, format_name(image), turn, size, said if 1 <= said <= 8 else 1)


def _seen(picture: _Open, least: tuple[int, int]) -> Image.Image:
    """The picture in RGB, upright, not smaller than ``least`` unless it is."""
    stored = pixels.turned(least, picture.turn)
    picture.image.draft(None, stored)  # JPEG can decode to a fraction of its size
    return pixels.upright(pixels.shrink(picture.image, stored), picture.turn)


def _photo(
    stream: BinaryIO,
    digest: str,
    geometry: Geometry,
    max_pixels: int,
    thumbnail: bool,
    *,
    is_raw: bool = False,
) -> Photo:
    with _opened(stream, is_raw, max_pixels) as picture:
        seen = _seen(picture, pixels.wanted(picture.size, geometry, THUMBNAIL_SIZE))
        # Colour and perceptual hash are those of the thumbnail, encoded or not.
        small = pixels.smaller(seen, THUMBNAIL_SIZE, THUMBNAIL_FILTER)
        profile = pixels.kept_profile(picture.image)
        said = metadata.read(picture.image, picture.exif)
        width, height = picture.full or picture.size
        info = PhotoInfo(
            width=width,
            height=height,
            format=picture.format,
            orientation=picture.orientation,
            color=pixels.mean_colour(small),
            **{field.name: getattr(said, field.name) for field in fields(said)},
        )
        return Photo(
            info=info,
            pixels=pixels.cut(seen, picture.size, geometry),
            thumbnail=_webp(small, profile, THUMBNAIL) if thumbnail else b"",
            content_hash=digest,
            phash=pixels.perceptual_hash(small),
        )


def _webp(image: Image.Image, profile: bytes | None, options: dict[str, int]) -> bytes:
    out = io.BytesIO()
    image.save(out, "WEBP", icc_profile=profile or b"", **options)
    return out.getvalue()
