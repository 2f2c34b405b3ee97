"""What a worker process returns, as plain data: JSON and byte strings, each checked on arrival.

A worker may be under the control of a hostile image. It must not be able to make the main program
run code, as unpickling would, or allocate without bound.

    4 bytes   length of the JSON
    4 bytes   length of the bytes
    JSON      {"kind": .., "value": .., "bytes": [length of each byte string]}
    bytes
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import numpy as np
import orjson

from sightline.indexer.dates import PRECISIONS
from sightline.indexer.files.archives import Listing, Located, Member
from sightline.indexer.files.beneath import Identity
from sightline.indexer.types import Photo, PhotoInfo, Pixels, TextLine

MAX_JSON_BYTES = 128 * 2**20
"""A listing of a million names takes 60 MB."""

MAX_BYTES = 64 * 2**20
"""Pixels, thumbnail or preview; a preview of 4,096 pixels takes up to 10 MB."""

LENGTHS = struct.Struct("<II")

Receive = Callable[[int], bytes | bytearray]
"""Returns exactly so many bytes. Raises ``EOFError`` if there are fewer."""


class InvalidMessageError(Exception):
    """A message that no worker sends unless it is controlled by someone else."""


@dataclass(frozen=True)
class Failure:
    """A ``PhotoError`` on its way out of a worker."""

    message: str
    transient: bool


@dataclass(frozen=True)
class Checked:
    """A file that was decoded as an image."""

    file: Identity
    """Of the archive, for an image in one."""
    format: str
    content_hash: str
    offset: int
    """Of the image in ``file``."""
    size: int


def encode(result: Any) -> bytes:
    """The message for a result of a worker's function."""
    kind, value, parts = _plain(result)
    lengths = [len(part) for part in parts]
    head = orjson.dumps({"kind": kind, "value": value, "bytes": lengths})
    return b"".join((LENGTHS.pack(len(head), sum(lengths)), head, *parts))


def receive(read: Receive) -> Any:
    """The result in the next message. Raises ``InvalidMessageError``, and ``EOFError`` as ``read``
    does."""
    head_length, length = LENGTHS.unpack(read(LENGTHS.size))
    if head_length > MAX_JSON_BYTES or length > MAX_BYTES:
        raise InvalidMessageError
    head, data = read(head_length), memoryview(read(length))
    try:
        message = orjson.loads(head)
        parts = []
        for size in message["bytes"]:
            parts.append(data[: _is(int, size)])
            data = data[size:]
        return _KINDS[message["kind"]](message["value"], parts)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, AttributeError) as error:
        raise InvalidMessageError from error


def _plain(result: Any) -> tuple[str, Any, list[bytes]]:
    """Kind, JSON value and byte strings of a result."""
    match result:
        case Photo():
            value = [
                _from_info(result.info),
                result.pixels.shape,
                result.content_hash,
                result.phash,
                result.notes,
            ]
            return "photo", value, [result.pixels.tobytes(), result.thumbnail]
        case PhotoInfo():
            return "info", _from_info(result), []
        case list():
            lines = [[line.text, line.confidence, *line.box] for line in result]
            return "lines", lines, []
        case np.ndarray():
            return "pixels", result.shape, [result.tobytes()]
        case Listing():
            members = result.members.values()
            columns = [[one.offset for one in members], [one.size for one in members]]
            return "listing", [[*result.members], *columns, result.problem, result.mtime_ns], []
        case Located():
            return "located", [result.member.offset, result.member.size, *result.archive], []
        case Checked():
            where = [result.offset, result.size, *result.file]
            return "checked", [result.format, result.content_hash, *where], []
        case Failure():
            message = result.message.encode("utf-8", "backslashreplace").decode()
            return "failure", [message, result.transient], []
        case bytes():
            return "bytes", None, [result]
        case str():
            return "text", result, []
    raise TypeError(type(result).__name__)


def _from_info(info: PhotoInfo) -> dict[str, Any]:
    return {one.name: getattr(info, one.name) for one in fields(PhotoInfo)}


def _is(kind: Any, value: Any) -> Any:
    """``value``, which is of type ``kind``, and not negative if that is int."""
    if type(value) is not kind or (kind is int and value < 0):
        raise ValueError("unexpected value")
    return value


def _optional(kind: Any, value: Any) -> Any:
    return None if value is None else _is(kind, value)


def _to_pixels(shape: Any, data: memoryview) -> Pixels:
    height, width, channels = (_is(int, edge) for edge in shape)
    if channels != 3 or height * width * 3 != len(data):
        raise ValueError("unexpected shape")
    return np.frombuffer(data, np.uint8).reshape(height, width, 3)


def _to_info(value: dict[str, Any]) -> PhotoInfo:
    given = dict(value)
    date, precision = given.pop("taken_at"), given.pop("taken_precision")
    if precision not in PRECISIONS:
        raise ValueError("unexpected precision")
    places = {name: given.pop(name) for name in ("latitude", "longitude")}
    for place in places.values():
        if place is not None and not math.isfinite(_is(float, place)):
            raise ValueError("unexpected position")
    keywords, people = (
        tuple(_is(str, word) for word in given.pop(name)) for name in ("keywords", "people")
    )
    numbers = {name: _is(int, given.pop(name)) for name in ("width", "height", "orientation")}
    rating = _optional(int, given.pop("rating"))
    format = _is(str, given.pop("format"))
    texts = {name: _optional(str, text) for name, text in given.items()}
    return PhotoInfo(
        **texts,
        **numbers,
        **places,
        format=format,
        keywords=keywords,
        people=people,
        rating=rating,
        taken_at=None if date is None else datetime.fromisoformat(date),
        taken_precision=precision,
    )


def _to_photo(value: Any, parts: list[memoryview]) -> Photo:
    info, shape, content_hash, phash, notes = value
    data, thumbnail = parts
    if phash is not None and type(phash) is not int:
        raise ValueError("unexpected hash")
    return Photo(
        info=_to_info(info),
        pixels=_to_pixels(shape, data),
        thumbnail=bytes(thumbnail),
        content_hash=_is(str, content_hash),
        phash=phash,
        notes=tuple(_is(str, note) for note in notes),
    )


def _to_lines(value: Any, _: object) -> list[TextLine]:
    lines = []
    for text, *numbers in value:
        if not all(0 <= _is(float, number) <= 1 for number in numbers):
            raise ValueError("unexpected number")
        confidence, left, top, right, bottom = numbers
        lines.append(TextLine(_is(str, text), confidence, (left, top, right, bottom)))
    return lines


def _to_listing(value: Any, _: list[memoryview]) -> Listing:
    names, offsets, sizes, problem, mtime_ns = value
    members = {
        _is(str, name): Member(_is(int, offset), _is(int, size))
        for name, offset, size in zip(names, offsets, sizes, strict=True)
    }
    if type(mtime_ns) is not int:
        raise ValueError("unexpected date")
    return Listing(members, _optional(str, problem), mtime_ns)


def _to_located(value: Any, _: list[memoryview]) -> Located:
    offset, size, *archive = value
    return Located(Member(_is(int, offset), _is(int, size)), Identity(*archive))


def _to_checked(value: Any, _: list[memoryview]) -> Checked:
    format, content_hash, offset, size, *file = value
    texts = _is(str, format), _is(str, content_hash)
    return Checked(Identity(*file), *texts, _is(int, offset), _is(int, size))


_KINDS: dict[str, Callable[[Any, list[memoryview]], Any]] = {
    "photo": _to_photo,
    "lines": _to_lines,
    "info": lambda value, _: _to_info(value),
    "pixels": lambda shape, parts: _to_pixels(shape, parts[0]),
    "listing": _to_listing,
    "located": _to_located,
    "checked": _to_checked,
    "failure": lambda value, _: Failure(_is(str, value[0]), _is(bool, value[1])),
    "bytes": lambda _, parts: bytes(parts[0]),
    "text": lambda value, _: _is(str, value),
}
