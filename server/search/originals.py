"""The file of an image in the catalog, and no other file.

Images are requested by id. The path comes from the catalog, and the file is opened once, beneath
its root (``files.beneath``): a link changed after indexing, or between a check and the opening,
exposes nothing.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from sightline.indexer.errors import NotFoundError, PhotoError
from sightline.indexer.files import archives
from sightline.indexer.files.beneath import identity, open_beneath
from sightline.indexer.photo import Decoder
from sightline.indexer.types import Candidate, ImageRecord


@dataclass(frozen=True)
class Original:
    """An open image file. The caller closes ``file``."""

    file: BinaryIO
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


def open_original(record: ImageRecord, decoder: Decoder) -> Original:
    """Opens the file of ``original``. ``decoder`` finds an image in a WebDataset archive.

    Raises ``NotFoundError`` if it is missing, not a regular file, or outside its root.
    """
    missing = NotFoundError(f"the file of image {record.id} is missing")
    candidate = original(record)
    try:
        file, member = open_beneath(candidate.root, candidate.path)
    except (OSError, ValueError, PhotoError) as error:
        raise missing from error
    found = identity(file)
    if member is None:
        return Original(file, found.size, found.mtime_ns)
    with ExitStack() as stack:
        stack.enter_context(file)
        try:
            located = decoder.locate(candidate)
        except PhotoError as error:
            raise missing from error
        if located.archive != found:
            raise missing
        stack.pop_all()
    offset, size = located.member.offset, located.member.size
    return Original(BufferedReader(archives.Window(file, offset, size)), size, found.mtime_ns)


def is_available(record: ImageRecord) -> bool:
    """Whether the file, or the archive that held it, is present in its root."""
    try:
        candidate = original(record)
        file, _ = open_beneath(candidate.root, candidate.path)
    except (OSError, ValueError, PhotoError, NotFoundError):
        return False
    file.close()
    return True
