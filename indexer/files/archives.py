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
    archive.seek(0)
    try:
        with tarfile.open(fileobj=archive, mode="r:") as tar:
            for number, member in enumerate(tar):
                if member.size < 0 or number >= MAX_MEMBERS:
                    return Listing(members, "the archive is corrupt", mtime_ns)
                if not member.isreg():
                    continue
                if member.offset_data + member.size > size:
                    return Listing(members, "the archive is truncated", mtime_ns)
                if name := _relative_name(member.name):
                    members[name] = Member(member.offset_data, member.size)
    except (tarfile.TarError, EOFError, ValueError) as error:
        return Listing(members, f"the archive cannot be read to its end: {error}", mtime_ns)
    return Listing(members, mtime_ns=mtime_ns)


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
        key: fields[key].encode("utf-8", "replace").decode()  # JSON may hold lone surrogates
        for key in ("caption", "url")
        if isinstance(fields, dict) and isinstance(fields.get(key), str) and fields[key].strip()
    }
