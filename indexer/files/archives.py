"""Reads images inside WebDataset archives: tar files in which the files of a sample share a name.

    0000.tar
        000000012.jpg       the image
        000000012.txt       its caption
        000000012.json      {"caption": .., "url": ..}, as img2dataset writes it

An image in an archive has a path like any other, ``shards/0000.tar/000000012.jpg``. Members are
read in place by their offsets, so compressed archives (``.tar.gz``) are not supported.
"""

from __future__ import annotations

import json
import os
import tarfile
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

SUFFIX = ".tar"

MAX_MEMBER_BYTES = 2**30
"""Larger members are not read, because a member is held in memory."""

SIDECAR_SUFFIXES = (".txt", ".json")
"""Of the files beside an image that hold its caption and URL."""

MAX_SIDECAR_BYTES = 2**20
"""Larger sidecar files are ignored."""

CACHED_LISTINGS = 8
"""Archives whose listing is cached: 10,000 members take 3 MB, and up to 0.6 s to read."""


@dataclass(frozen=True)
class Member:
    """The position of a file in its archive, in bytes."""

    offset: int
    size: int


@dataclass(frozen=True)
class Listing:
    """The regular files of an archive."""

    members: dict[str, Member] = field(default_factory=dict)
    """By name. Of two members of one name the later counts, as for tar itself."""
    problem: str | None = None
    """Why the archive could not be read to its end, or None."""


def split(path: Path) -> tuple[Path, str] | None:
    """The archive and the member's name, for a path inside an archive; None for any other path."""
    if f"{SUFFIX}{os.sep}" not in str(path).lower():
        return None
    for parent in path.parents:
        if parent.suffix.lower() == SUFFIX and parent.is_file():
            return parent, path.relative_to(parent).as_posix()
    return None


def list_members(archive: Path) -> Listing:
    """The listing of ``archive``, cached until the file changes. Raises ``OSError``."""
    status = archive.stat()
    return _list_members(archive, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=CACHED_LISTINGS)
def _list_members(archive: Path, mtime_ns: int, size: int) -> Listing:
    members: dict[str, Member] = {}
    try:
        with tarfile.open(archive, "r:") as tar:
            for member in tar:
                if not member.isreg():
                    continue
                if member.offset_data + member.size > size:
                    return Listing(members, "the archive is truncated")
                if name := _relative_name(member.name):
                    members[name] = Member(member.offset_data, member.size)
    except (tarfile.TarError, EOFError, ValueError) as error:
        return Listing(members, f"the archive cannot be read to its end: {error}")
    return Listing(members)


def _relative_name(name: str) -> str | None:
    """``name`` below the archive; None if it leads outside, is hidden or not printable."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts or name.startswith("/") or ".." in parts or parts[-1].startswith("."):
        return None
    relative = "/".join(parts)
    return relative if relative.isprintable() else None


def read(archive: Path, name: str) -> bytes:
    """The bytes of a member.

    Raises ``OSError`` if the archive cannot be read, or the member is missing
    (``FileNotFoundError``) or larger than ``MAX_MEMBER_BYTES``.
    """
    member = list_members(archive).members.get(name)
    if member is None:
        raise FileNotFoundError(2, "it is no longer in its archive", str(archive / name))
    if member.size > MAX_MEMBER_BYTES:
        raise OSError(27, "it is too large to be read from an archive", str(archive / name))
    with archive.open("rb") as file:
        file.seek(member.offset)
        return file.read(member.size)


def size_and_mtime(path: Path) -> tuple[int, int]:
    """``(size, mtime_ns)`` of a file, or of a member of an archive: its size, the archive's mtime.

    Raises ``OSError``.
    """
    inside = split(path)
    if inside is None:
        status = path.stat()
        return status.st_size, status.st_mtime_ns
    archive, name = inside
    member = list_members(archive).members.get(name)
    if member is None:
        raise FileNotFoundError(2, "it is no longer in its archive", str(path))
    return member.size, archive.stat().st_mtime_ns


def read_sidecars(archive: Path, name: str) -> dict[str, str]:
    """``caption`` and ``url`` of an image, as far as its sidecar files hold them."""
    folder, slash, base = name.rpartition("/")
    stem = folder + slash + base.partition(".")[0]
    members = list_members(archive).members
    found: dict[str, str] = {}
    for suffix in SIDECAR_SUFFIXES:
        member = members.get(stem + suffix)
        if member is not None and member.size <= MAX_SIDECAR_BYTES:
            found |= parse_sidecar(suffix, read(archive, stem + suffix))
    return found


def parse_sidecar(name: str, data: bytes) -> dict[str, str]:
    """``caption`` and ``url`` in a ``.txt`` or ``.json`` file beside an image."""
    text = data.decode("utf-8", "replace").strip()
    if not name.endswith(".json"):
        return {"caption": text} if text else {}
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return {
        key: fields[key]
        for key in ("caption", "url")
        if isinstance(fields, dict) and isinstance(fields.get(key), str) and fields[key].strip()
    }
