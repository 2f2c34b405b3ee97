"""Several originals as one zip, streamed: nothing is stored."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from time import localtime
from typing import TYPE_CHECKING

from werkzeug.exceptions import RequestEntityTooLarge

from sightline.indexer.errors import NotFoundError
from sightline.indexer.types import ImageRecord
from sightline.server.search.image_json import folder_of
from sightline.server.search.originals import is_available, open_original

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

    from sightline.indexer.photo import Decoder

MAX_FILES = 5000
MAX_BYTES = 20 * 2**30
CHUNK = 256 * 1024

MAX_NAME = 200
"""Characters of a folder's or file's name in the zip; most file systems allow 255 bytes."""

MAX_PATH = 2000
"""Characters of a path in the zip, whose length the format stores in 16 bits."""

_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\]')
"""Characters that some operating system does not allow in a file name."""


class _Sink(io.RawIOBase):
    """The unseekable file that ``zipfile`` writes to; ``fetch`` empties it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, data: Buffer, /) -> int:
        """Buffers ``data``."""
        taken = bytes(data)
        self._parts.append(taken)
        return len(taken)

    def fetch(self) -> bytes:
        """The bytes written since the last call."""
        data = b"".join(self._parts)
        self._parts.clear()
        return data


def contents(
    records: Sequence[ImageRecord], *, most: int | None = MAX_BYTES
) -> list[tuple[ImageRecord, str]]:
    """The available files of ``records`` and their names in the zip.

    Raises ``NotFoundError`` when no file is available and ``RequestEntityTooLarge`` for more than
    ``most`` bytes.
    """
    if most is not None and sum(record.size for record in records) > most:
        raise RequestEntityTooLarge(f"these images are more than {most // 2**30} GB; choose fewer")
    found: list[tuple[ImageRecord, str]] = []
    taken: set[str] = set()
    for record in records:
        if not is_available(record):
            continue
        name = _UNSAFE.sub("_", f"{folder_of(record)}/{PurePosixPath(record.path).name}")
        parts = [part for part in name.split("/") if part not in ("", ".", "..")]
        name = "/".join(_shortened(part) for part in parts)[-MAX_PATH:]
        stem, dot, suffix = name.rpartition(".")
        number = 2
        while name.lower() in taken:
            name = f"{stem} ({number}).{suffix}" if dot else f"{suffix} ({number})"
            number += 1
        taken.add(name.lower())
        found.append((record, name))
    if not found:
        raise NotFoundError("none of the files of these images is available now")
    return found


def _shortened(name: str) -> str:
    """``name`` with at most ``MAX_NAME`` characters, and its suffix."""
    if len(name) <= MAX_NAME:
        return name
    suffix = PurePosixPath(name).suffix[:10]
    return name[: MAX_NAME - len(suffix)] + suffix


def stream(files: Sequence[tuple[ImageRecord, str]], decoder: Decoder) -> Iterator[bytes]:
    """The zip of ``files``, not compressed, since images already are. A file that cannot be opened
    is left out."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w") as archive:
        for record, name in files:
            try:
                original = open_original(record, decoder)
            except NotFoundError:
                continue
            with original.file:
                # Zip dates start in 1980 and end in 2107.
                date = localtime(original.mtime_ns / 1e9)[:6]
                date = min(max(date, (1980, 1, 1, 0, 0, 0)), (2107, 12, 31, 23, 59, 58))
                entry = zipfile.ZipInfo(name, date)
                entry.file_size = original.size
                entry.external_attr = 0o644 << 16
                with archive.open(entry, "w", force_zip64=original.size > 2**30) as target:
                    rest = original.size  # a file that grows meanwhile has an end
                    while data := original.file.read(min(CHUNK, rest)):
                        target.write(data)
                        rest -= len(data)
                        yield sink.fetch()
            yield sink.fetch()
    yield sink.fetch()
