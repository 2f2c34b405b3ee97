"""Opens files that may be anything: which formats are read, and why others are refused.

Only the Pillow readers in ``FORMATS`` run (its PostScript reader would start another program), the
size is checked from the header before pixels are decoded, and every error becomes a ``PhotoError``.
"""

from __future__ import annotations

import errno
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import pillow_heif
import xxhash
from PIL import AvifImagePlugin, Image, ImageFile, UnidentifiedImageError

from sightline.indexer.errors import PhotoError
from sightline.indexer.files.beneath import identity
from sightline.indexer.installation import install_command

MAX_PIXELS = 250_000_000
"""Pixels of an image, at most: a gigabyte decoded. The largest cameras make 150 megapixels."""

IN_MEMORY_BYTES = 64 * 2**20
"""Files up to this size are read into memory; larger ones are hashed and then decoded from disk."""

CHANGED = "the file changed while it was read"

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "HEIF")
"""Pillow's names of the formats that are read."""

FORMAT_NAMES = {"mpo": "jpeg", "dib": "bmp"}
"""Our names of formats that Pillow distinguishes and users do not."""

SIGNATURES = (
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1a\x45\xdf\xa3", "a video"),
    (b"RIFF", "a video or sound"),
    (b"ID3", "a sound"),
    (b"8BPS", "a Photoshop document"),
    (b"gimp xcf", "a GIMP document"),
    (b"\x1f\x8b", "a file compressed by gzip"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"<svg", "an SVG drawing"),
    (b"<!DOCTYPE", "a web page"),
    (b"<!doctype", "a web page"),
    (b"<html", "a web page"),
    (b"SQLite format 3", "a database"),
)
"""First bytes of other files that have an image's name, and what they are."""

UNSUPPORTED = (
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"II\xbc", "JPEG XR"),
    (b"v/1\x01", "OpenEXR"),
    (b"qoif", "QOI"),
)
"""First bytes of image formats that are not read, and their names."""

JPEG_XL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
"""First bytes of JPEG XL."""

ISO_IMAGE_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis")
"""Brands of images among the ISO media files (``ftyp``); the others are videos."""

# Pillow's own check, for files whose size differs from that in the header.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
ImageFile.LOAD_TRUNCATED_IMAGES = False

# Without this, Pillow would take the thumbnail in a HEIC file for a reduced image.
pillow_heif.register_heif_opener(thumbnails=False)


def decode_on_one_thread() -> None:
    """For a worker process: the processes fill the cores."""
    pillow_heif.options.DECODE_THREADS = 1
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def format_name(image: Image.Image) -> str:
    """The value of ``PhotoInfo.format``."""
    name = (image.format or "").lower()
    return FORMAT_NAMES.get(name, name)


@contextmanager
def unchanged(file: BinaryIO) -> Iterator[BinaryIO]:
    """Closes ``file`` at the end. Raises ``PhotoError`` if it is empty, or changes before."""
    before = identity(file)
    with file:
        if not before.size:
            raise PhotoError("the file is empty")
        try:
            yield file
        except PhotoError as error:
            if identity(file) != before:
                raise PhotoError(CHANGED, transient=True) from error
            raise
        if identity(file) != before:
            raise PhotoError(CHANGED, transient=True)


def read_and_hash(file: BinaryIO) -> tuple[BinaryIO, str]:
    """A stream for the decoder, and the hash of its bytes (see ``hash_stream``).

    Small files come as a copy in memory, so that hash and pixels are of the same bytes.
    """
    with photo_errors():
        if identity(file).size <= IN_MEMORY_BYTES:
            data = file.read()
            return io.BytesIO(data), xxhash.xxh3_128_hexdigest(data)
        digest = hash_stream(file)
        file.seek(0)
    return file, digest


def hash_stream(file: BinaryIO) -> str:
    """xxh3_128 of the rest of ``file``, as 32 hexadecimal digits."""
    digest = xxhash.xxh3_128()
    while block := file.read(2**20):
        digest.update(block)
    return digest.hexdigest()


@contextmanager
def open_image(file: BinaryIO, *, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """The image in ``file`` with its header read and its size checked, its pixels not decoded.

    Everything that Pillow or the body of the context raises becomes a ``PhotoError``.
    """
    formats: tuple[str, ...] = FORMATS
    with photo_errors(file):
        if file.read(12).startswith(JPEG_XL):
            formats = _jpeg_xl()
        file.seek(0)
    with photo_errors(file), Image.open(file, formats=formats) as image:
        check_size(*image.size, max_pixels=max_pixels)
        if image.format == "TIFF":
            _seek_full_page(image)
            check_size(*image.size, max_pixels=max_pixels)
        yield image


SMALL_PAGE, MAX_PAGES = 640, 16
"""Pixels on the longer side of a first page of a TIFF that may be a copy of a later one; and pages
that are examined."""


def _seek_full_page(image: Image.Image) -> None:
    """Moves a TIFF whose first page is a reduced copy to the page that is copied."""
    is_copy, width, height = _is_reduced(image), *image.size
    if not is_copy and max(image.size) > SMALL_PAGE:
        return
    for number in range(1, MAX_PAGES):
        try:
            image.seek(number)
        except EOFError:
            break
        larger = image.width >= 2 * width and image.height >= 2 * height
        same_shape = abs(image.width * height / (image.height * width) - 1) <= 0.02
        if not _is_reduced(image) and (is_copy or (larger and same_shape)):
            return
    image.seek(0)


def _is_reduced(image: Image.Image) -> bool:
    """Whether a page of a TIFF declares that it is a reduced copy of another one."""
    tags = getattr(image, "tag_v2", {})
    return bool(tags.get(254, 0) & 1) or tags.get(255) == 2


def _jpeg_xl() -> tuple[str, ...]:
    """Pillow's name of JPEG XL, whose reader is registered. Raises ``PhotoError`` without it."""
    try:
        from pillow_jxl import JpegXLImagePlugin
    except ImportError as error:
        raise PhotoError(
            f"JPEG XL needs the extra `jxl`: {install_command('jxl')}", transient=True
        ) from error
    JpegXLImagePlugin.DECODE_THREADS = 0  # the calling one: the processes fill the cores
    return ("JXL",)


def check_size(width: int, height: int, *, max_pixels: int = MAX_PIXELS) -> None:
    """Raises ``PhotoError`` for more than ``max_pixels`` pixels, or none."""
    if width < 1 or height < 1:
        raise PhotoError("it has no pixels")
    if width * height > max_pixels:
        raise PhotoError(_too_large(f"{width:,} x {height:,}", max_pixels))


def _too_large(size: str, max_pixels: int = MAX_PIXELS) -> str:
    millions = max_pixels / 1e6
    return f"it is too large: {size} pixels, more than the limit of {millions:,.6g} million"


@contextmanager
def photo_errors(file: BinaryIO | None = None) -> Iterator[None]:
    """Turns every exception into a ``PhotoError`` with the reason.

    Corrupt images make Pillow raise ``SyntaxError``, ``IndexError``, ``struct.error`` and others.
    """
    try:
        yield
    except PhotoError:
        raise
    except UnidentifiedImageError as error:
        raise PhotoError(_unidentified_reason(file)) from error
    except FileNotFoundError as error:
        raise PhotoError("the file no longer exists", transient=True) from error
    except PermissionError as error:
        raise PhotoError("no permission to read it", transient=True) from error
    except MemoryError as error:
        raise PhotoError("it needs more memory than an image may have") from error
    except Image.DecompressionBombError as error:
        # Pillow raises this itself, before check_size, at twice the limit.
        pixels = re.search(r"\d{9,}", str(error))
        size = f"{int(pixels[0]):,}" if pixels else "far too many"
        raise PhotoError(_too_large(size)) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            if error.errno == errno.ELOOP:
                raise PhotoError("it is a symbolic link in a loop") from error
            raise PhotoError(
                f"the disk could not read it: {error.strerror or error.errno}", transient=True
            ) from error
        text = " ".join(str(error).split())[:200] or type(error).__name__
        if "truncated" in text.lower() or isinstance(error, EOFError):
            raise PhotoError(f"it is truncated: {text}") from error
        raise PhotoError(f"it is corrupt: {text}") from error


def _unidentified_reason(file: BinaryIO | None) -> str:
    """The reason why no reader knows the file, from its first bytes."""
    head = b""
    if file is not None and not file.closed:
        try:
            file.seek(0)
            head = file.read(512)
        except OSError:
            return "it cannot be read"
    stripped = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for start, kind in SIGNATURES:
        if stripped.startswith(start) and not (start == b"RIFF" and head[8:12] == b"WEBP"):
            return f"it is not an image but {kind}"
    for start, kind in UNSUPPORTED:
        if head.startswith(start):
            return f"it is {kind}, which is not supported"
    if bits := _bits_of_jpeg(file, head):
        return f"it is a JPEG of {bits} bits per channel, which is not supported"
    if head[4:8] in (b"wide", b"mdat", b"moov", b"free", b"skip"):
        return "it is not an image but a video"
    if head[4:8] == b"ftyp" and head[8:12] not in ISO_IMAGE_BRANDS:
        return "it is not an image but a video"
    if not head.strip(b"\0"):
        return "it is not an image: it begins with zeros only"
    if _is_text(head):
        return "it is not an image but text"
    if head.startswith((b"\xff\xd8", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")):
        return "it is corrupt: it begins like an image, but its header is broken or truncated"
    if head[4:8] == b"ftyp":
        return "it is corrupt: it begins like a HEIC or AVIF image that cannot be read"
    return "it is not an image of a supported format"


def _bits_of_jpeg(file: BinaryIO | None, head: bytes) -> int | None:
    """The bits per channel that a JPEG declares, unless they are 8; None for any other file."""
    if file is None or file.closed or not head.startswith(b"\xff\xd8\xff"):
        return None
    file.seek(0)
    found = re.search(rb"\xff[\xc0-\xc3\xc9-\xcb]\x00[\x0b-\x14]([\x02-\x10])", file.read(2**20))
    return found[1][0] if found and found[1][0] != 8 else None


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # not just a character truncated at the end
            return False
        text = head[: error.start].decode("utf-8")
    return bool(text) and all(c.isprintable() or c in "\t\r\n\f" for c in text)
