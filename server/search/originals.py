"""The file of an image in the catalog, and no other file.

Images are requested by id. The path comes from the catalog, and the file is opened once, beneath
its root (``files.beneath``): a link changed after indexing, or between a check and the opening,
exposes nothing. A catalog may be somebody else's, and name any file: a worker process has to decode
the file first, and to find the format and the hash that the catalog has.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from sightline.indexer.errors import NotFoundError, PhotoError
from sightline.indexer.files import deadline
from sightline.indexer.files.beneath import Identity, identity, open_beneath
from sightline.indexer.photo import Decoder
from sightline.indexer.photo.messages import Checked
from sightline.indexer.types import Candidate, ImageRecord
from sightline.server.search.lru_cache import LruCache

CHECKED_FILES = 2**16
"""Files whose format and hash are cached, 400 bytes each."""

_checked: LruCache[Checked] = LruCache(CHECKED_FILES)
"""By identity and name in the archive: true of a file whatever library it is in."""


@dataclass(frozen=True)
class Original:
    """An open image file, whose reads have a deadline. The caller closes ``file``."""

    file: BufferedReader
    """At its start; in an archive, the part that is the image."""
    size: int
    mtime_ns: int
    """Of the archive, for an image in one."""


def original(record: ImageRecord) -> Candidate:
    """The file of ``record``, for ``Decoder`` to read.

    Raises ``NotFoundError`` if this library has not decoded it itself.
    """
    if not record.decoded:
        raise NotFoundError(
            f"the file of image {record.id} was imported and not read by this library:"
            f" run `sightline index FOLDER` with the folder that contains it"
        )
    return Candidate(Path(record.root), record.path, record.size, record.mtime_ns)


def open_original(
    record: ImageRecord, decoder: Decoder, *, limit: AbstractContextManager[None] | None = None
) -> Original:
    """Opens the file of ``original``. ``decoder`` checks a file that was not opened before, within
    ``limit``.

    Raises ``NotFoundError`` if it is missing, not a regular file, outside its root, or no longer
    the image that was indexed; ``FilesAwayError`` if the disk does not answer.
    """
    missing = NotFoundError(f"the file of image {record.id} is missing")
    candidate = original(record)
    try:
        file, member, found = deadline.call(
            _open, candidate, discard=lambda opened: opened and opened[0].close()
        )
    except (OSError, ValueError, PhotoError) as error:
        raise missing from error
    with ExitStack() as stack:
        stack.enter_context(file)
        checked = _checked.get((found, member))
        if checked is None:
            try:
                with limit or nullcontext():
                    checked = decoder.check(candidate)
            except PhotoError as error:
                raise _changed(record) from error
            if checked.file != found:
                raise missing
            _checked.put((found, member), checked)
        if (checked.format, checked.content_hash) != (record.info.format, record.content_hash):
            raise _changed(record)
        stack.pop_all()
    part = deadline.TimedFile(file, checked.offset, checked.size)
    return Original(BufferedReader(part, deadline.CHUNK), checked.size, found.mtime_ns)


def _open(candidate: Candidate) -> tuple[BinaryIO, str | None, Identity]:
    file, member = open_beneath(candidate.root, candidate.path)
    return file, member, identity(file)


def _changed(record: ImageRecord) -> NotFoundError:
    return NotFoundError(
        f"the file of image {record.id} is no longer the image that was indexed: run"
        " `sightline index`"
    )


def is_available(record: ImageRecord) -> bool:
    """Whether the file, or the archive that held it, is present in its root. Raises
    ``FilesAwayError`` if the disk does not answer."""
    try:
        file, _, _ = deadline.call(
            _open, original(record), discard=lambda opened: opened and opened[0].close()
        )
    except (OSError, ValueError, PhotoError, NotFoundError):
        return False
    file.close()
    return True
