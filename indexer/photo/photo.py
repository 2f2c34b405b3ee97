"""Reads one image file: pixels for the encoder, metadata, a thumbnail and hashes.

These functions decode in the calling process. Indexing and the server call them through
``decoder.Decoder``, in worker processes that may crash.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import xxhash
from PIL import Image

from sightline.indexer.errors import PhotoError
from sightline.indexer.files import archives, sidecars
from sightline.indexer.files.beneath import identity, open_beneath, open_file
from sightline.indexer.photo import high_depth, metadata, ocr, pixels, raw, repair, tiff
from sightline.indexer.photo.capture_date import from_name, with_date
from sightline.indexer.photo.colour import ColourSpace, colour_space
from sightline.indexer.photo.decoder import Box
from sightline.indexer.photo.formats import (
    MAX_PIXELS,
    format_name,
    hash_stream,
    open_image,
    photo_errors,
    read_and_hash,
    unchanged,
)
from sightline.indexer.photo.messages import Checked
from sightline.indexer.photo.ocr import TextReader
from sightline.indexer.types import Candidate, Geometry, Photo, PhotoInfo, Pixels, TextLine

__all__ = [
    "MAX_PIXELS",
    "THUMBNAIL_SIZE",
    "check",
    "crop",
    "hash_file",
    "preview",
    "read",
    "read_bytes",
]

THUMBNAIL_SIZE = 512
"""Pixels on the longer side of a thumbnail, at most."""

CHECK_SIZE = 256
"""Pixels on the longer side to which ``check`` decodes."""

THUMBNAIL_FILTER = Image.Resampling.HAMMING
"""As sharp as bicubic for reduction, in 4 ms instead of 7 (Lanczos: 10)."""

THUMBNAIL_WEBP = {"quality": 75, "method": 0}
"""WebP options: 21 kB and 3.4 ms each. The default, method 4, makes 17 kB in 13.5 ms."""


ANIMATED = ("gif", "png", "webp", "avif")
"""Formats whose further images are frames."""

Source = Path | Candidate
"""A file by name, which may be a link, or a file of a root, whose links may not leave the root."""


@dataclass(frozen=True)
class _File:
    """An open image file, or an open archive and the name of an image in it."""

    file: BinaryIO
    member: str | None
    is_raw: bool


@contextmanager
def _opened(source: Source) -> Iterator[_File]:
    """Every exception raised while it is opened becomes a ``PhotoError``."""
    with photo_errors():
        if isinstance(source, Candidate):
            file, member = open_beneath(source.root, source.path)
            name = source.path
        elif (packed := archives.split(source)) is not None:
            file, member = open_beneath(*packed)
            name = packed[1]
        else:
            file, member, name = open_file(source), None, source.name
    with unchanged(file):
        yield _File(file, member, raw.is_raw(Path(name)))


def hash_file(source: Source) -> str:
    """xxh3_128 of the file's bytes, as 32 hexadecimal digits. Raises ``PhotoError``."""
    with _opened(source) as opened, photo_errors():
        if opened.member is not None:
            return xxhash.xxh3_128_hexdigest(_read_member(opened))
        return hash_stream(opened.file)


def list_archive(archive: Candidate) -> archives.Listing:
    """The members of an archive. Raises ``PhotoError``."""
    with _opened(archive) as opened, photo_errors():
        return archives.list_members(opened.file)


def locate(image: Candidate) -> archives.Located:
    """The position of an image in its archive. Raises ``PhotoError``."""
    with _opened(image) as opened, photo_errors():
        member = archives.find(opened.file, opened.member or "")
        return archives.Located(member, identity(opened.file))


def check(source: Source) -> Checked:
    """What a file is, found by decoding it. Raises ``PhotoError``."""
    with _opened(source) as opened:
        file = identity(opened.file)
        offset, size = 0, file.size
        stream: BinaryIO
        if opened.member is not None:
            data = _read_member(opened)
            with photo_errors():
                offset = archives.find(opened.file, opened.member).offset
            stream, digest, size = io.BytesIO(data), xxhash.xxh3_128_hexdigest(data), len(data)
        else:
            stream, digest = read_and_hash(opened.file)
        with _open(stream, opened.is_raw, MAX_PIXELS) as image:
            _decode(image, pixels.fit_within(image.size, CHECK_SIZE))
            return Checked(file, image.format, digest, offset, size)


def read(
    source: Source,
    geometry: Geometry,
    *,
    max_pixels: int = MAX_PIXELS,
    thumbnail: bool = True,
    details: bool = True,
) -> Photo:
    """Reads an image file, also one in an archive. Raises ``PhotoError``.

    With ``thumbnail=False`` the photo's thumbnail is ``b""``; with ``details=False`` it has
    nothing but pixels, size, format and content hash.
    """
    with _opened(source) as opened:
        if opened.member is not None:
            data = _read_member(opened)
            photo = read_bytes(
                data, geometry, max_pixels=max_pixels, thumbnail=thumbnail, details=details
            )
            if not details:
                return photo
            with photo_errors():
                sidecar = archives.read_sidecars(opened.file, opened.member)
            caption = photo.info.caption or sidecar.get("caption")
            info = replace(photo.info, caption=caption, url=sidecar.get("url"))
            return replace(photo, info=with_date(info, from_name(opened.member), "name"))
        stream, digest = read_and_hash(opened.file)
        photo = _photo(
            stream,
            digest,
            geometry,
            max_pixels,
            thumbnail,
            details,
            is_raw=opened.is_raw,
            beside=_sidecars(source) if details else (),
        )
        if not details:
            return photo
        return replace(photo, info=with_date(photo.info, from_name(_name(source)), "name"))


def _name(source: Source) -> str:
    return source.path if isinstance(source, Candidate) else source.name


def _sidecars(source: Source) -> metadata.Sidecars:
    return sidecars.read(source) if isinstance(source, Candidate) else ()


def describe(source: Source, *, max_pixels: int = MAX_PIXELS) -> PhotoInfo:
    """The metadata of an image file as ``read`` returns it, without its colour. Most formats are
    not decoded. Raises ``PhotoError``."""
    with _open_source(source) as (stream, is_raw), _open(stream, is_raw, max_pixels) as opened:
        if opened.format == "png":
            opened.image.load()  # text may follow the pixels
        info = _info(opened, _sidecars(source))
        return with_date(info, from_name(_name(source)), "name")


def _read_member(opened: _File) -> bytes:
    """The bytes of an image in an archive. Raises ``PhotoError``."""
    assert opened.member is not None
    if opened.is_raw:
        raise PhotoError("camera RAW is read from folders only, not from an archive")
    with photo_errors():
        return archives.read(opened.file, opened.member)


def read_bytes(
    data: bytes,
    geometry: Geometry,
    *,
    max_pixels: int = MAX_PIXELS,
    thumbnail: bool = True,
    details: bool = True,
) -> Photo:
    """Reads an image file given as bytes; not camera RAW. ``thumbnail`` and ``details`` as for
    ``read``. Raises ``PhotoError``."""
    if not data:
        raise PhotoError("the file is empty")
    digest = xxhash.xxh3_128_hexdigest(data)
    return _photo(io.BytesIO(data), digest, geometry, max_pixels, thumbnail, details)


def crop(
    source: Source | bytes, box: Box, geometry: Geometry, *, max_pixels: int = MAX_PIXELS
) -> Pixels:
    """The model's input for a region of an image: ``(height, width, 3) uint8``.

    ``source`` is a file or its bytes. ``box`` is clipped to the image. Raises ``PhotoError`` if
    nothing remains, or the image cannot be read.
    """
    with _open_source(source) as (stream, is_raw), _open(stream, is_raw, max_pixels) as opened:
        width, height = opened.size
        left, top, right, bottom = (min(max(edge, 0.0), 1.0) for edge in box)
        if not (left < right and top < bottom):
            raise PhotoError("the region is empty")
        region = max(1, round((right - left) * width)), max(1, round((bottom - top) * height))
        target = pixels.resized_size(region, geometry)
        min_size = (
            max(1, round(pixels.MARGIN * target[0] * width / region[0])),
            max(1, round(pixels.MARGIN * target[1] * height / region[1])),
        )
        image = _decode(opened, min_size)
        edges = (
            int(left * image.width),
            int(top * image.height),
            max(int(left * image.width) + 1, round(right * image.width)),
            max(int(top * image.height) + 1, round(bottom * image.height)),
        )
        return pixels.model_input(image.crop(edges), region, geometry)


def preview(source: Source, size: int, *, max_pixels: int = MAX_PIXELS) -> bytes:
    """An upright WebP copy for browsers, at most ``size`` pixels on its longer side.

    Raises ``PhotoError`` if the file cannot be read.
    """
    with _open_source(source) as (stream, is_raw), _open(stream, is_raw, max_pixels) as opened:
        image = _decode(opened, pixels.fit_within(opened.size, size))
        image = pixels.downscale(image, size, Image.Resampling.LANCZOS)
        return _webp(image, {"quality": 85, "method": 2})


def read_text(
    source: Source, reader: TextReader, *, max_pixels: int = MAX_PIXELS
) -> list[TextLine]:
    """The lines of text in an image. Raises ``PhotoError``."""
    with _open_source(source) as (stream, is_raw), _open(stream, is_raw, max_pixels) as opened:
        return reader.read(_decode(opened, pixels.fit_within(opened.size, ocr.MAX_SIDE)))


@dataclass(frozen=True)
class _Opened:
    """An image whose header has been read."""

    stream: BinaryIO
    image: Image.Image
    format: str
    transpose: int
    """EXIF orientation to apply to the pixels of ``image``."""
    size: tuple[int, int]
    """Upright, full resolution. Of the preview that is decoded, if the file is camera RAW."""
    orientation: int
    """EXIF orientation in the file."""
    raw_size: tuple[int, int] | None = None
    """Upright size of a RAW file's sensor image."""
    exif: Image.Exif | None = None
    """Of a RAW file."""
    space: ColourSpace | None = None
    """Of ``image``; None for sRGB."""
    notes: list[str] = field(default_factory=list)
    """See ``Photo``."""
    read_deep: high_depth.Read | None = None
    """Reads more than the 8 bits of ``image``, where they matter."""


@contextmanager
def _open_source(source: Source | bytes) -> Iterator[tuple[BinaryIO, bool]]:
    """A stream, and whether it is camera RAW."""
    if isinstance(source, bytes):
        yield io.BytesIO(source), False
        return
    with _opened(source) as opened:
        if opened.member is not None:
            yield io.BytesIO(_read_member(opened)), False
        else:
            yield opened.file, opened.is_raw


@contextmanager
def _open(stream: BinaryIO, is_raw: bool, max_pixels: int) -> Iterator[_Opened]:
    """Every exception raised in the context becomes a ``PhotoError``."""
    if is_raw:
        with raw.open_raw(stream, max_pixels=max_pixels) as found, photo_errors():
            space, note = colour_space(found.image)
            yield _Opened(
                stream,
                found.image,
                "raw",
                found.transpose,
                pixels.oriented(found.image.size, found.transpose),
                found.orientation,
                found.size,
                found.exif,
                space,
                [note] if note else [],
            )
        return
    if tiff.is_tiff(stream) and _needs_tifffile(stream, max_pixels):
        with tiff.open_page(stream, max_pixels=max_pixels) as page, photo_errors():
            space, note = colour_space(page.header)
            yield _Opened(
                stream,
                page.header,
                "tiff",
                page.orientation,
                pixels.oriented(page.size, page.orientation),
                page.orientation,
                exif=page.exif,
                space=space,
                notes=[note] if note else [],
                read_deep=page.read if page.is_deep else None,
            )
        return
    with photo_errors():
        mended = repair.without_bad_chunks(stream)
    with open_image(mended or stream, max_pixels=max_pixels) as image:
        orientation = metadata.orientation(image)
        # Pillow applies the orientation of a TIFF when it loads it; its size is upright before.
        transpose = 1 if image.format == "TIFF" else orientation
        # pillow_heif applies the orientation of a HEIC, and keeps the original here.
        in_file = image.info.get("original_orientation") or orientation
        space, note = colour_space(image, mended or stream)
        notes = [one for one in (note, repair.BAD_CHUNK if mended else None) if one]
        yield _Opened(
            mended or stream,
            image,
            format_name(image),
            transpose,
            pixels.oriented(image.size, transpose),
            in_file if 1 <= in_file <= 8 else 1,
            space=space,
            notes=notes,
            read_deep=high_depth.reader(image, mended or stream, space),
        )


def _needs_tifffile(stream: BinaryIO, max_pixels: int) -> bool:
    try:
        with open_image(stream, max_pixels=max_pixels) as image:
            return tiff.is_for_tifffile(image)
    except PhotoError:
        return True


def _decode(opened: _Opened, min_size: tuple[int, int]) -> Image.Image:
    """The image in RGB, upright, reduced to not less than ``min_size``."""
    stored = pixels.oriented(min_size, opened.transpose)
    if opened.read_deep is not None:
        rgb = pixels.reduce_deep_to_rgb(opened.read_deep(), stored, opened.space)
    else:
        if opened.format in ANIMATED:
            pixels.seek_representative_frame(opened.image, max_pixels=MAX_PIXELS)
        opened.image.draft(None, stored)  # JPEG decodes to 1/2, 1/4 or 1/8 of its size
        rgb = pixels.reduce_to_rgb(_loaded(opened, stored), stored, opened.space)
    return pixels.make_upright(rgb, opened.transpose)


def _loaded(opened: _Opened, min_size: tuple[int, int]) -> Image.Image:
    """The image with its pixels decoded, also of a JPEG that lacks only its end marker."""
    try:
        opened.image.load()
    except OSError as error:
        if opened.format != "jpeg" or "truncated" not in str(error):
            raise
        mended = repair.jpeg_without_end(opened.stream, min_size)
        if mended is None:
            raise
        opened.notes.append(repair.NO_END)
        return mended
    return opened.image


def _photo(
    stream: BinaryIO,
    digest: str,
    geometry: Geometry,
    max_pixels: int,
    thumbnail: bool,
    details: bool,
    *,
    is_raw: bool = False,
    beside: metadata.Sidecars = (),
) -> Photo:
    with _open(stream, is_raw, max_pixels) as opened:
        image = _decode(opened, pixels.min_decoded_size(opened.size, geometry, THUMBNAIL_SIZE))
        if not details:
            width, height = opened.size
            info = PhotoInfo(width=width, height=height, format=opened.format)
            return Photo(info, pixels.model_input(image, opened.size, geometry), b"", digest)
        # Colour and perceptual hash are computed from the thumbnail, also if it is not encoded.
        small = pixels.downscale(image, THUMBNAIL_SIZE, THUMBNAIL_FILTER)
        return Photo(
            info=replace(_info(opened, beside), color=pixels.mean_colour(small)),
            pixels=pixels.model_input(image, opened.size, geometry),
            thumbnail=_webp(small, THUMBNAIL_WEBP) if thumbnail else b"",
            content_hash=digest,
            phash=pixels.perceptual_hash(small),
            notes=tuple(opened.notes),
        )


def _info(opened: _Opened, beside: metadata.Sidecars) -> PhotoInfo:
    width, height = opened.raw_size or opened.size
    info = PhotoInfo(
        width=width, height=height, format=opened.format, orientation=opened.orientation
    )
    if opened.format == "gif":
        opened.image.info["xmp"] = metadata.gif_xmp(opened.stream)
    return metadata.add_metadata(info, opened.image, opened.exif, sidecars=beside)


def _webp(image: Image.Image, options: dict[str, int]) -> bytes:
    out = io.BytesIO()
    image.save(out, "WEBP", icc_profile=b"", **options)  # else that of image.info
    return out.getvalue()
