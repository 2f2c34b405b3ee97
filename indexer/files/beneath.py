"""Opens files of a root without following a link out of it.

A path is checked and opened in one step, through directory descriptors: between a check by name and
an open by name, another program can replace the file by a link.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from sightline.indexer.errors import PhotoError

OUTSIDE = "it is a link out of its folder"
NOT_REGULAR = "it is not a regular file"

_FLAGS = os.O_RDONLY | sum(
    getattr(os, name, 0)
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY")
)
"""O_NONBLOCK: opening a named pipe does not wait for a writer."""

_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)

_HAS_DIR_FD = os.open in os.supports_dir_fd


class Identity(NamedTuple):
    """Tells whether two descriptors are of one file in one state."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


def identity(file: BinaryIO) -> Identity:
    """The identity of an open file."""
    status = os.fstat(file.fileno())
    changed = status.st_mtime_ns if os.name == "nt" else status.st_ctime_ns
    return Identity(status.st_dev, status.st_ino, status.st_size, mtime_of(status), changed)


def mtime_of(status: os.stat_result) -> int:
    """The mtime in nanoseconds since 1970, as 64 bits hold it: the years 1677 to 2262. A file may
    have any date, also one of the year 9999."""
    return min(max(status.st_mtime_ns, -(2**63)), 2**63 - 1)


def ctime_and_inode(status: os.stat_result) -> tuple[int | None, int | None]:
    """The ctime, in nanoseconds since 1970, and the inode, as signed 64-bit numbers. None on
    Windows, where st_ctime is the time of creation and a listing has no inodes."""
    if os.name == "nt":
        return None, None
    inode = status.st_ino - 2**64 if status.st_ino >= 2**63 else status.st_ino
    return min(max(status.st_ctime_ns, -(2**63)), 2**63 - 1), inode


def open_beneath(root: Path, path: str) -> tuple[BinaryIO, str | None]:
    """Opens ``path``, relative to ``root``: the file, and None. If the path leads into an archive:
    the archive, and the name in it.

    Links are followed as long as they stay in ``root``; ``root`` itself may be a link. Raises
    ``PhotoError`` for a link out of it and for what is not a regular file, ``OSError`` if the file
    cannot be opened, ``ValueError`` for a path that is not valid.
    """
    names = PurePosixPath(path)
    if _HAS_DIR_FD and not names.is_absolute() and ".." not in names.parts:
        try:
            descriptor, rest = _open_parts(os.fspath(root), names.parts, follow_top=True)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.EMLINK):  # there is a link in the path
                raise
        else:
            return _regular(descriptor), "/".join(rest) or None
    top = os.path.realpath(root, strict=True)
    real = os.path.realpath(os.path.join(top, path))  # noqa: PTH118
    if os.path.commonpath([top, real]) != top:
        raise PhotoError(OUTSIDE)
    parts = Path(real).relative_to(top).parts
    open_parts = _open_parts if _HAS_DIR_FD else _open_by_path
    descriptor, rest = open_parts(top, parts)
    return _regular(descriptor), "/".join(rest) or None


def is_beneath(root: Path, path: str) -> bool:
    """Whether ``path`` is in ``root`` with all links resolved."""
    top = os.path.realpath(root)
    return os.path.commonpath([top, os.path.realpath(path)]) == top


def open_file(path: Path) -> BinaryIO:
    """Opens ``path``, following links. Raises ``PhotoError`` for what is not a regular file,
    ``OSError`` if it cannot be opened."""
    return _regular(os.open(path, _FLAGS & ~_NOFOLLOW))


def _regular(descriptor: int) -> BinaryIO:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise PhotoError(NOT_REGULAR)
    return os.fdopen(descriptor, "rb")


def _open_parts(
    top: str, parts: tuple[str, ...], *, follow_top: bool = False
) -> tuple[int, tuple[str, ...]]:
    """Opens one component of a path after the other, up to the first regular file; the descriptor,
    and the components that remain. A link is refused (ELOOP), at ``top`` unless ``follow_top``."""
    descriptor = os.open(top, _FLAGS & ~_NOFOLLOW if follow_top else _FLAGS)
    try:
        for number, part in enumerate(parts):
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return descriptor, parts[number:]
            inner = os.open(part, _FLAGS, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
    except OSError:
        os.close(descriptor)
        raise
    return descriptor, ()


def _open_by_path(top: str, parts: tuple[str, ...]) -> tuple[int, tuple[str, ...]]:
    """``_open_parts`` where there are no directory descriptors (Windows): opens by name, then
    checks that the name leads to the opened file without a link."""
    here = top
    rest = parts
    while rest and not os.path.isfile(here):  # noqa: PTH113
        here, rest = os.path.join(here, rest[0]), rest[1:]  # noqa: PTH118
    descriptor = os.open(here, _FLAGS)
    try:
        opened, named = os.fstat(descriptor), os.lstat(here)
        if os.path.realpath(here) != here or not os.path.samestat(opened, named):
            raise PhotoError(OUTSIDE)
    except (OSError, PhotoError):
        os.close(descriptor)
        raise
    return descriptor, rest
