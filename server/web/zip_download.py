"""Several originals as one zip, streamed: nothing is stored."""

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


def contents(records: Sequence[ImageRecord]) -> list[tuple[Path, str]]:
    """The available files of ``records`` and their names in the zip.

    Raises ``NotFoundError`` when no file is available and ``RequestEntityTooLarge`` for more than
    ``MAX_BYTES``.
    """
    if sum(record.size for record in records) > MAX_BYTES:
        raise RequestEntityTooLarge(
            f"these images are more than {MAX_BYTES // 2**30} GB; choose fewer"
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
        raise NotFoundError("none of the files of these images is available now")
    return found


def stream(files: Sequence[tuple[Path, str]]) -> Iterator[bytes]:
    """The zip of ``files``, not compressed, since images already are. A file that cannot be opened
    is left out."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w") as archive:
        for path, name in files:
            stack = ExitStack()
            try:
                source, size, mtime_ns = stack.enter_context(opened(path))
            except OSError:
                continue
            with stack:
                # Zip dates start in 1980.
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
