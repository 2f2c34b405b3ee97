"""The file behind a picture of the catalog, and nothing else.

Pictures are asked for by id only. The path comes from the catalog, and the file is used only when
it really lies inside its root: a symlink that was turned elsewhere after indexing leads nowhere.
A picture in a WebDataset archive is as much of the archive as is its own.
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
    """Where the file of ``record`` really is, links resolved; for a picture in an archive a path
    that leads into it, which ``opened`` understands.

    Raises ``NotFoundError`` when it is gone, not a regular file, or outside its root.
    """
    gone = NotFoundError(f"the file of picture {record.id} is not there now")
    packed = archives.inside(record.absolute)
    try:
        root = os.path.realpath(record.root, strict=True)
        path = os.path.realpath(packed[0] if packed else record.absolute, strict=True)
        if packed and packed[1] not in archives.contents(Path(path)).members:
            raise gone
        regular = stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116 (no link is left to follow)
    except (OSError, ValueError) as error:
        raise gone from error
    if not regular or os.path.commonpath([root, path]) != root:
        raise gone
    return Path(path, packed[1]) if packed else Path(path)


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, int, int]]:
    """What ``original`` gave, open for reading, its size and its ``mtime_ns``. OSError when it is
    not there any more."""
    size, mtime_ns = archives.status(path)
    packed = archives.inside(path)
    if packed is not None:
        yield BytesIO(archives.read(*packed)), size, mtime_ns
        return
    with path.open("rb") as file:
        yield file, size, mtime_ns
