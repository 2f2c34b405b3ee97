"""Opening a picture file that may be anything: which kinds are read, and why others are refused.

Nothing here decodes pixels. Pillow is told which of its readers may be tried (its PostScript reader
runs another program), sizes are judged from the header, and every way in which a file can be wrong
becomes a ``PhotoError`` of one line.
"""

from __future__ import annotations

import errno
import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pillow_heif
import xxhash
from PIL import AvifImagePlugin, Image, ImageFile, UnidentifiedImageError

from sightline.indexer.errors import PhotoError

MAX_PIXELS = 250_000_000
"""Pixels that a picture may claim to have: a gigabyte decoded. The largest cameras make 150 MP."""

HELD_BYTES = 64 * 2**20
"""Files up to this size are read once, into memory; larger ones are hashed first and then read by
the decoder from the disk, so that a scan of gigabytes does not need gigabytes."""

CHANGED = "the file changed while it was read"

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "HEIF")
"""Pillow's readers that are asked; no others."""

NAMES = {"mpo": "jpeg", "dib": "bmp"}
"""Kinds that Pillow tells apart and people do not."""

MISTAKEN = (
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1a\x45\xdf\xa3", "a video"),
    (b"RIFF", "a video or sound"),
    (b"ID3", "a sound"),
    (b"8BPS", "a Photoshop document"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"<svg", "an SVG drawing"),
    (b"<!DOCTYPE", "a web page"),
    (b"<!doctype", "a web page"),
    (b"<html", "a web page"),
    (b"SQLite format 3", "a database"),
)
"""First bytes of what is found under a picture's name, and what it is then."""

ISO_PICTURES = (b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis")
"""Brands of the pictures among the files that begin like a QuickTime film."""

# Pillow's own limit, for files that change their mind about their size after the header.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
ImageFile.LOAD_TRUNCATED_IMAGES = False


# Without the thumbnails in HEIC files: Pillow would take one for the picture made smaller.
pillow_heif.register_heif_opener(thumbnails=False)


def decode_on_one_thread() -> None:
    """For a process that is one of many that read pictures side by side."""
    pillow_heif.options.DECODE_THREADS = 1
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def format_name(image: Image.Image) -> str:
    """The lower-case name that ``PhotoInfo.format`` keeps."""
    name = (image.format or "").lower()
    return NAMES.get(name, name)


@contextmanager
def regular_file(path: Path) -> Iterator[BinaryIO]:
    """``path``, open for reading. Whatever is not a regular file with something in it is refused;
    a pipe would otherwise hold up the run for ever.

    Raises ``PhotoError``: also when the file changed before the caller was done with it.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with reasons():
        handle = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
        before = os.fstat(handle)
        if not stat.S_ISREG(before.st_mode):
            os.close(handle)
            raise PhotoError("it is not a regular file")
    with os.fdopen(handle, "rb") as file:
        if not before.st_size:
            raise PhotoError("the file is empty")
        try:
            yield file
        except PhotoError as error:
            if _stamp(os.fstat(handle)) != _stamp(before):
                raise PhotoError(CHANGED, passing=True) from error
            raise
        if _stamp(os.fstat(handle)) != _stamp(before):
            raise PhotoError(CHANGED, passing=True)


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def contents(file: BinaryIO) -> tuple[BinaryIO, str]:
    """What a decoder is to read, and the hash of the bytes (xxh3_128, hex).

    Small files come back as a copy in memory, so that hash and pixels are of the same bytes.
    """
    with reasons():
        if os.fstat(file.fileno()).st_size <= HELD_BYTES:
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
def opened(file: BinaryIO, *, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """The picture in ``file``: its header is read, its size found bearable, its pixels not read.

    Whatever Pillow or the caller's use of the picture raises becomes a ``PhotoError``.
    """
    with reasons(file), Image.open(file, formats=FORMATS) as image:
        check_size(*image.size, max_pixels=max_pixels)
        yield image


def check_size(width: int, height: int, *, max_pixels: int = MAX_PIXELS) -> None:
    """Raises ``PhotoError`` for a picture that would fill the memory, or that has no pixels."""
    if width < 1 or height < 1:
        raise PhotoError("it has no pixels")
    if width * height > max_pixels:
        raise PhotoError(_too_large(f"{width:,} x {height:,}", max_pixels))


def _too_large(size: str, max_pixels: int = MAX_PIXELS) -> str:
    millions = max_pixels / 1e6
    return f"it is too large: {size} pixels, more than the {millions:,.6g} million that are read"


@contextmanager
def reasons(file: BinaryIO | None = None) -> Iterator[None]:
    """Turns whatever a reader of files raises into a ``PhotoError`` that says why.

    Everything is caught, because it is the file that decides what is raised: damaged pictures bring
    forth ``SyntaxError``, ``IndexError``, ``struct.error`` and many others from Pillow.
    """
    try:
        yield
    except PhotoError:
        raise
    except UnidentifiedImageError as error:
        raise PhotoError(_what_it_is(file)) from error
    except FileNotFoundError as error:
        raise PhotoError("the file is not there any more", passing=True) from error
    except PermissionError as error:
        raise PhotoError("no permission to read it", passing=True) from error
    except MemoryError as error:
        raise PhotoError("it needs more memory than a picture may have") from error
    except Image.DecompressionBombError as error:
        # Pillow looks before this module can, at twice the limit.
        pixels = re.search(r"\d{9,}", str(error))
        size = f"{int(pixels[0]):,}" if pixels else "far too many"
        raise PhotoError(_too_large(size)) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            if error.errno == errno.ELOOP:
                raise PhotoError("it is a link that leads nowhere") from error
            raise PhotoError(
                f"the disk could not read it: {error.strerror or error.errno}", passing=True
            ) from error
        text = " ".join(str(error).split())[:200] or type(error).__name__
        if "truncated" in text.lower() or isinstance(error, EOFError):
            raise PhotoError(f"it is cut off: {text}") from error
        raise PhotoError(f"it is damaged: {text}") from error


def _what_it_is(file: BinaryIO | None) -> str:
    """The reason for a file that no reader knows, from its first bytes."""
    head = b""
    if file is not None and not file.closed:
        try:
            file.seek(0)
            head = file.read(512)
        except OSError:
            return "it cannot be read"
    stripped = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for start, kind in MISTAKEN:
        if stripped.startswith(start) and not (start == b"RIFF" and head[8:12] == b"WEBP"):
            return f"it is not a picture but {kind}"
    if head[4:8] == b"ftyp" and head[8:12] not in ISO_PICTURES:
        return "it is not a picture but a video"
    if not head.strip(b"\0"):
        return "it is not a picture: it begins with nothing but zeros"
    if _is_text(head):
        return "it is not a picture but text"
    if head.startswith((b"\xff\xd8", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")):
        return "it is damaged: it begins like a picture, but its header is broken or cut off"
    if head[4:8] == b"ftyp":
        return "it is damaged: it begins like a HEIC or AVIF picture that cannot be read"
    return "it is not a picture of a kind that is read here"


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # rather than a character cut at the end
            return False
        text = head[: error.start].decode("utf-8")
    return bool(text) and all(c.isprintable() or c in "\t\r\n\f" for c in text)
