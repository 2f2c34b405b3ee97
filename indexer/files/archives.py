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
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from cachetools import LRUCache, cached

from sightline.indexer.files.beneath import Identity, identity

SUFFIX = ".tar"

MAX_MEMBER_BYTES = 2**30
"""Larger members are not read, because a member is held in memory."""

SIDECAR_SUFFIXES = (".txt", ".json")
"""Of the files beside an image that hold its caption and URL."""

MAX_SIDECAR_BYTES = 2**20
"""Larger sidecar files are ignored."""

MAX_MEMBERS = 2_000_000
"""An archive with more is taken for corrupt."""

MAX_NAME = 1000
"""Characters of a member's name; longer ones are ignored."""

ZEROS = 2**20
"""Bytes that are read at a time behind the end of an archive."""

COMPRESSED = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)
"""First bytes of compressed archives."""

CACHED_LISTINGS = 8
"""Archives whose listing is cached: 10,000 members take 3 MB, and up to 0.6 s to read."""


@dataclass(frozen=True)
class Member:
    """The position of a file in its archive, in bytes."""

    offset: int
    size: int


@dataclass(frozen=True)
class Located:
    """A member, and the archive in which it was found."""

    member: Member
    archive: Identity


@dataclass(frozen=True)
class Listing:
    """The regular files of an archive."""

    members: dict[str, Member] = field(default_factory=dict)
    """By name. Of two members of one name the later counts, as for tar itself."""
    problem: str | None = None
    """Why the archive could not be read to its end, or None."""
    mtime_ns: int = 0
    """Of the archive."""

    @cached_property
    def sidecars(self) -> dict[str, str]:
        """Names of the files in ``SIDECAR_SUFFIXES`` by their names in lower case."""
        return {
            name.lower(): name for name in self.members if name.lower().endswith(SIDECAR_SUFFIXES)
        }


def split(path: Path) -> tuple[Path, str] | None:
    """The archive and the member's name, for a path inside an archive; None for any other path."""
    if f"{SUFFIX}{os.sep}" not in str(path).lower():
        return None
    for parent in path.parents:
        if parent.suffix.lower() == SUFFIX and parent.is_file():
            return parent, path.relative_to(parent).as_posix()
    return None


@cached(LRUCache(CACHED_LISTINGS), key=identity, lock=Lock())
def list_members(archive: BinaryIO) -> Listing:
    """The listing of an open archive, cached until the file changes. Raises ``OSError``."""
    found = identity(archive)
    size, mtime_ns = found.size, found.mtime_ns
    members: dict[str, Member] = {}
    start: int | None = 0
    try:
        while start is not None:
            if problem := _list_one(archive, start, size, members):
                return Listing(members, problem, mtime_ns)
            start = _next_start(archive)
    except (tarfile.TarError, EOFError, ValueError) as error:
        reason = _compression(archive) or f"the archive cannot be read to its end: {error}"
        return Listing(members, reason, mtime_ns)
    return Listing(members, mtime_ns=mtime_ns)


def _list_one(archive: BinaryIO, start: int, size: int, members: dict[str, Member]) -> str | None:
    """Adds the members of the archive at ``start`` of a file of ``size`` bytes, which is left
    behind its end. Returns the problem, if there is one."""
    archive.seek(start)
    with tarfile.open(fileobj=archive, mode="r:") as tar:
        number = -1
        for number, member in enumerate(tar):
            if member.size < 0 or number >= MAX_MEMBERS:
                return "the archive is corrupt"
            if not member.isreg():
                continue
            if member.offset_data + member.size > size:
                return "the archive is truncated"
            if name := _relative_name(member.name):
                members[name] = Member(member.offset_data, member.size)
        if number < 0 and start:
            return "the archive cannot be read to its end: what follows it is no archive"
        archive.seek(tar.offset)
    return None


def _next_start(archive: BinaryIO) -> int | None:
    """Where the next of concatenated archives begins: behind zeros, at a whole block."""
    while block := archive.read(ZEROS):
        if rest := block.lstrip(b"\0"):
            at = archive.tell() - len(rest)
            return at - at % tarfile.BLOCKSIZE
    return None


def _compression(archive: BinaryIO) -> str | None:
    """Why a compressed archive is not read, or None for any other file."""
    archive.seek(0)
    head = archive.read(6)
    name = next((name for magic, name in COMPRESSED if head.startswith(magic)), None)
    return name and f"it is compressed by {name}, and only plain .tar is read: decompress it"


def _relative_name(name: str) -> str | None:
    """``name`` in the archive; None if it leads outside, is hidden, long or not printable."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts or name.startswith("/") or ".." in parts or parts[-1].startswith("."):
        return None
    relative = "/".join(parts)
    return relative if relative.isprintable() and len(relative) <= MAX_NAME else None


def find(archive: BinaryIO, name: str) -> Member:
    """The position of a member. Raises ``OSError`` if the archive cannot be read, or the member is
    missing (``FileNotFoundError``)."""
    member = list_members(archive).members.get(name)
    if member is None:
        raise FileNotFoundError(2, "it is no longer in its archive", name)
    return member


def read(archive: BinaryIO, name: str) -> bytes:
    """The bytes of a member of an open archive.

    Raises ``OSError`` as ``find``, and for a member larger than ``MAX_MEMBER_BYTES``.
    """
    member = find(archive, name)
    if member.size > MAX_MEMBER_BYTES:
        raise OSError(27, "it is too large to be read from an archive", name)
    archive.seek(member.offset)
    return archive.read(member.size)


def read_sidecars(archive: BinaryIO, name: str) -> dict[str, str]:
    """``caption`` and ``url`` of an image, as far as its sidecar files hold them."""
    folder, slash, base = name.rpartition("/")
    stem = folder + slash + base.partition(".")[0]
    listing = list_members(archive)
    found: dict[str, str] = {}
    for suffix in SIDECAR_SUFFIXES:
        beside = stem + suffix
        if beside not in listing.members:
            beside = listing.sidecars.get(beside.lower(), "")
        member = listing.members.get(beside)
        if member is not None and member.size <= MAX_SIDECAR_BYTES:
            found |= parse_sidecar(suffix, read(archive, beside))
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
        key: fields[key].encode("utf-8", "replace").decode()  # JSON may hold lone surrogates
        for key in ("caption", "url")
        if isinstance(fields, dict) and isinstance(fields.get(key), str) and fields[key].strip()
    }
