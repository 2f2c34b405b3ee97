"""Several pictures as one zip, written while it is being read: nothing of it is kept."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from time import localtime
from typing import TYPE_CHECKING

from werkzeug.exceptions import RequestEntityTooLarge

from sightline.indexer.errors import NotFoundError
from sightline.indexer.types import ImageRecord
from sightline.server.search.image_json import folder_of
from sightline.server.search.originals import opened, original

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

MAX_FILES = 5000
MAX_BYTES = 20 * 2**30
CHUNK = 256 * 1024

_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\]')
"""Letters that some system cannot have in a file's name."""


class _Sink(io.RawIOBase):
    """What ``zipfile`` writes to: gathers bytes until they are fetched. Not seekable."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, data: Buffer, /) -> int:
        """Takes bytes in."""
        taken = bytes(data)
        self._parts.append(taken)
        return len(taken)

    def fetch(self) -> bytes:
        """What was written since the last time."""
        data = b"".join(self._parts)
        self._parts.clear()
        return data


def contents(records: Sequence[ImageRecord]) -> list[tuple[Path, str]]:
    """The files of ``records`` that are there, with the names they get in the zip.

    Raises ``NotFoundError`` when none is there and ``RequestEntityTooLarge`` for more than
    ``MAX_BYTES``.
    """
    if sum(record.size for record in records) > MAX_BYTES:
        raise RequestEntityTooLarge(
            f"these pictures are more than {MAX_BYTES // 2**30} GB; choose fewer"
        )
    found: list[tuple[Path, str]] = []
    taken: set[str] = set()
    for record in records:
        try:
            path = original(record)
        except NotFoundError:
            continue
        name = _UNSAFE.sub("_", f"{folder_of(record)}/{PurePosixPath(record.path).name}")
        name = "/".join(part for part in name.split("/") if part not in ("", ".", ".."))
        stem, dot, suffix = name.rpartition(".")
        number = 2
        while name.lower() in taken:
            name = f"{stem} ({number}).{suffix}" if dot else f"{suffix} ({number})"
            number += 1
        taken.add(name.lower())
        found.append((path, name))
    if not found:
        raise NotFoundError("none of these pictures' files is there now")
    return found


def stream(files: Sequence[tuple[Path, str]]) -> Iterator[bytes]:
    """The zip of ``files``, uncompressed: pictures are that already. A file that cannot be opened
    by the time its turn comes is left out."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w") as archive:
        for path, name in files:
            whole = ExitStack()
            try:
                source, size, mtime_ns = whole.enter_context(opened(path))
            except OSError:
                continue
            with whole:
                # The format begins in 1980.
                date = max(localtime(mtime_ns / 1e9)[:6], (1980, 1, 1, 0, 0, 0))
                entry = zipfile.ZipInfo(name, date)
                entry.file_size = size
                entry.external_attr = 0o644 << 16
                with archive.open(entry, "w", force_zip64=size > 2**30) as target:
                    while data := source.read(CHUNK):
                        target.write(data)
                        yield sink.fetch()
            yield sink.fetch()
    yield sink.fetch()
