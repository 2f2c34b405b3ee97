"""Identity of files: (device, inode) after resolving links, at the moment of the call.

Symlinks, hard links, bind mounts and a folder reached through a symlink are other paths of one
file. Two mounts of one network share are two devices, so their files count as different.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import NamedTuple

from sightline.indexer.files import archives


class FileIdentity(NamedTuple):
    """Equal for all paths of one file."""

    device: int
    inode: int
    member: str
    """The name of a file in an archive; the real path on file systems without inodes."""


def file_identity(path: Path) -> FileIdentity | None:
    """The identity of the regular file at ``path``; None if there is none now. For a path into an
    archive the archive has to exist; whether it still holds the file is not checked."""
    try:
        packed = archives.split(path)
        if packed is None:
            status, member = path.stat(), ""
        else:
            status, member = packed[0].stat(), packed[1]
        if not stat.S_ISREG(status.st_mode):
            return None
        if not status.st_ino:
            member = str(path.resolve())
    except (OSError, ValueError):
        return None
    return FileIdentity(status.st_dev, status.st_ino, member)
