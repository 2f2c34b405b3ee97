"""The file of an image in the catalog, and no other file.

Images are requested by id. The path comes from the catalog, and a file is read only if it is inside
its root with all symlinks resolved, so that a link changed after indexing exposes nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from sightline.indexer.errors import NotFoundError
from sightline.indexer.files import archives
from sightline.indexer.types import ImageRecord


def original(record: ImageRecord) -> Path:
    """The path of an image's file, symlinks resolved; in a WebDataset archive a path that leads
    into it, for ``opened``.

    Raises ``NotFoundError`` if it is missing, not a regular file, or outside its root.
    """
    missing = NotFoundError(f"the file of image {record.id} is missing")
    if not record.decoded:
        raise NotFoundError(
            f"the file of image {record.id} was imported and not read by this library:"
            f" run `sightline index FOLDER` with the folder that contains it"
        )
    packed = archives.split(record.absolute)
    try:
        root = os.path.realpath(record.root, strict=True)
        path = os.path.realpath(packed[0] if packed else record.absolute, strict=True)
        if packed and packed[1] not in archives.list_members(Path(path)).members:
            raise missing
        regular = stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116 (links are resolved)
    except (OSError, ValueError) as error:
        raise missing from error
    if not regular or os.path.commonpath([root, path]) != root:
        raise missing
    return Path(path, packed[1]) if packed else Path(path)


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, int, int]]:
    """Opens a path from ``original`` for reading: the file, its size in bytes and its ``mtime_ns``.
    Raises OSError if it is missing."""
    size, mtime_ns = archives.size_and_mtime(path)
    packed = archives.split(path)
    if packed is not None:
        yield BytesIO(archives.read(*packed)), size, mtime_ns
        return
    with path.open("rb") as file:
        yield file, size, mtime_ns
