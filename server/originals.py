"""The file behind a picture of the catalog, and nothing else.

Pictures are asked for by id only. The path comes from the catalog, and the file is used only when
it really lies inside its root: a symlink that was turned elsewhere after indexing leads nowhere.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from indexer.errors import NotFoundError
from indexer.types import ImageRecord


def original(record: ImageRecord) -> Path:
    """Where the file of ``record`` really is, links resolved.

    Raises ``NotFoundError`` when it is gone, not a regular file, or outside its root.
    """
    gone = NotFoundError(f"the file of picture {record.id} is not there now")
    try:
        root = os.path.realpath(record.root, strict=True)
        path = os.path.realpath(record.absolute, strict=True)
        regular = stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116 (no link is left to follow)
    except (OSError, ValueError) as error:
        raise gone from error
    if not regular or os.path.commonpath([root, path]) != root:
        raise gone
    return Path(path)
