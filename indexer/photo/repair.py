"""Reads images that are complete but for a detail that viewers overlook.

A PNG with an auxiliary chunk that is corrupt; a JPEG that lacks only its end marker. What lacks
pixels is refused.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile

PNG = b"\x89PNG\r\n\x1a\n"

BAD_CHUNK = "a corrupt part of its metadata was ignored"
NO_END = "its end marker is missing; its pixels are complete"

NEEDED_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT")
"""Chunks that hold pixels: an error in one is an error of the image."""

MAX_TEXT = 2**20
"""Bytes of a text chunk, decompressed; a larger one is ignored."""

END = b"\xff\xd9"
"""The end marker of JPEG."""

TAIL = 2**16
"""Bytes at the end of a file that may follow the end marker."""


def without_bad_chunks(file: BinaryIO) -> BinaryIO | None:
    """A copy of a PNG without the corrupt auxiliary chunks; None if there are none."""
    file.seek(0)
    if file.read(8) != PNG:
        file.seek(0)
        return None
    bad: list[tuple[int, int]] = []
    at = 8
    while len(head := file.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        if kind in NEEDED_CHUNKS or size > MAX_TEXT:
            file.seek(size + 4, io.SEEK_CUR)
        else:
            body = file.read(size + 4)
            if len(body) == size + 4 and _is_bad(kind, body[:-4], body[-4:]):
                bad.append((at, at + 12 + size))
        at += 12 + size
        if kind == b"IEND":
            break
    file.seek(0)
    if not bad:
        return None
    out, at = io.BytesIO(), 0
    for start, end in bad:
        file.seek(at)
        out.write(file.read(start - at))
        at = end
    file.seek(at)
    out.write(file.read())
    file.seek(0)
    out.seek(0)
    return out


def _is_bad(kind: bytes, body: bytes, checksum: bytes) -> bool:
    if zlib.crc32(kind + body) != int.from_bytes(checksum, "big"):
        return True
    packed: bytes | None = None
    if kind in (b"zTXt", b"iCCP"):
        packed = body.partition(b"\0")[2][1:]
    elif kind == b"iTXt":
        _, _, rest = body.partition(b"\0")
        if rest[:1] == b"\1":
            packed = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    if packed is None or kind == b"iCCP":
        return False
    try:
        return len(zlib.decompressobj().decompress(packed, MAX_TEXT + 1)) > MAX_TEXT
    except zlib.error:
        return True


def jpeg_without_end(file: BinaryIO, min_size: tuple[int, int]) -> Image.Image | None:
    """The decoded image of a JPEG that lacks its end marker and nothing else, as ``draft`` reduces
    it to ``min_size``; None if it lacks pixels."""
    file.seek(0)
    data = file.read()
    if END in data[-TAIL:]:
        return None
    progressive = _scans_of_progressive(data)
    if progressive is not None:
        image = Image.open(io.BytesIO(data + END), formats=("JPEG",))
        image.draft(None, min_size)
        image.load()
        return image if progressive else None
    source = io.BytesIO(data + LOOKAHEAD)
    image = Image.open(source, formats=("JPEG",))
    image.draft(None, min_size)
    image.load_prepare()
    colour = tuple(MARK[: len(image.getbands())])
    image.im.paste(colour if len(colour) > 1 else colour[0], (0, 0, *image.size))
    # Pillow itself would add an end marker, and libjpeg fill missing rows with grey.
    image.load_read = source.read  # type: ignore[attr-defined]
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        image.load()
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before
    last = np.asarray(image.crop((0, image.height - 1, image.width, image.height)))
    return None if (last == np.array(colour)).all() else image


LOOKAHEAD = bytes(8)
"""What libjpeg reads behind the last pixel before it returns that; too little for many pixels."""

MARK = (255, 0, 254, 1)
"""A colour that no row of pixels has, for those that are not decoded."""


def _scans_of_progressive(data: bytes) -> bool | None:
    """Whether the last scan of every coefficient of a progressive JPEG has begun; None if the JPEG
    is not progressive."""
    components = 0
    complete: dict[int, set[int]] = {}
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF or data[at + 1] in (0x00, 0xFF, *range(0xD0, 0xD8)):
            at = data.find(b"\xff", at + 1)
            if at < 0:
                break
            continue
        marker = data[at + 1]
        (size,) = struct.unpack_from(">H", data, at + 2)
        body = data[at + 4 : at + 2 + size]
        if marker in (0xC0, 0xC1):
            return None
        if marker == 0xC2:
            components = body[5]
        elif marker == 0xDA and components and len(body) == body[0] * 2 + 4:
            start, end, low = body[-3], body[-2], body[-1] & 15
            if not low:
                for n in range(body[0]):
                    complete.setdefault(body[1 + 2 * n], set()).update(range(start, end + 1))
        at += 2 + size
    if not components:
        return None
    return len(complete) == components and all(len(one) == 64 for one in complete.values())
