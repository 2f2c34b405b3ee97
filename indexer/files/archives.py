"""Pictures inside WebDataset archives: tar files in which a sample's files share a name.

    0000.tar
        000000012.jpg       the picture
        000000012.txt       its caption
        000000012.json      {"caption": .., "url": ..}, as img2dataset writes it

A picture in an archive has a path like any other, ``shards/0000.tar/000000012.jpg``. Archives are
read in place, by the offsets of their members; compressed ones (``.tar.gz``) have none, and are not
looked into.
"""

from __future__ import annotations

import json
import os
import tarfile
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

SUFFIX = ".tar"

LARGEST = 2**30
"""Bytes that a picture read from an archive may have: it is held in memory."""

NOTES = (".txt", ".json")
LARGEST_NOTE = 2**20

OPEN = 8
"""Archives whose table of contents is kept: 10,000 members take 3 MB, and .6 s to read where other
programs are busy."""


@dataclass(frozen=True)
class Member:
    """Where a file lies in its archive."""

    offset: int
    size: int


@dataclass(frozen=True)
class Contents:
    """What is in an archive."""

    members: dict[str, Member] = field(default_factory=dict)
    """Regular files by name. Of two of one name the later counts, as for tar itself."""
    problem: str | None = None
    """Why the archive could not be read to its end; what comes before is here."""


def inside(path: Path) -> tuple[Path, str] | None:
    """The archive that ``path`` leads into, and the name in there; None for any other path."""
    if f"{SUFFIX}{os.sep}" not in str(path).lower():
        return None
    for up in path.parents:
        if up.suffix.lower() == SUFFIX and up.is_file():
            return up, path.relative_to(up).as_posix()
    return None


def contents(archive: Path) -> Contents:
    """What is in ``archive``. Kept until the file changes. OSError when it cannot be opened."""
    status = archive.stat()
    return _contents(archive, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=OPEN)
def _contents(archive: Path, mtime_ns: int, size: int) -> Contents:
    members: dict[str, Member] = {}
    try:
        with tarfile.open(archive, "r:") as tar:
            for member in tar:
                if not member.isreg():
                    continue
                if member.offset_data + member.size > size:
                    return Contents(members, "the archive was cut short")
                if name := _plain(member.name):
                    members[name] = Member(member.offset_data, member.size)
    except (tarfile.TarError, EOFError, ValueError) as error:
        return Contents(members, f"the archive cannot be read to its end: {error}")
    return Contents(members)


def _plain(name: str) -> str | None:
    """``name`` as a path below its archive; None where it leads out, is hidden, or is no text."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts or name.startswith("/") or ".." in parts or parts[-1].startswith("."):
        return None
    plain = "/".join(parts)
    return plain if plain.isprintable() else None


def read(archive: Path, name: str) -> bytes:
    """The bytes of one member. FileNotFoundError when it is not there, OSError when the archive
    cannot be read or the member is larger than ``LARGEST``."""
    member = contents(archive).members.get(name)
    if member is None:
        raise FileNotFoundError(2, "it is not in its archive any more", str(archive / name))
    if member.size > LARGEST:
        raise OSError(27, "it is too large to be read from an archive", str(archive / name))
    with archive.open("rb") as file:
        file.seek(member.offset)
        return file.read(member.size)


def status(path: Path) -> tuple[int, int]:
    """``(size, mtime_ns)`` of a file, or of a picture in an archive: the size is its own, the time
    the archive's. OSError when it is not there."""
    packed = inside(path)
    if packed is None:
        found = path.stat()
        return found.st_size, found.st_mtime_ns
    archive, name = packed
    member = contents(archive).members.get(name)
    if member is None:
        raise FileNotFoundError(2, "it is not in its archive", str(path))
    return member.size, archive.stat().st_mtime_ns


def notes(archive: Path, name: str) -> dict[str, Any]:
    """What the archive says beside a picture: ``caption`` and ``url``, where it does."""
    folder, _, base = name.rpartition("/")
    stem = f"{folder}/{base.partition('.')[0]}" if folder else base.partition(".")[0]
    members = contents(archive).members
    said: dict[str, Any] = {}
    for suffix in NOTES:
        member = members.get(stem + suffix)
        if member is None or member.size > LARGEST_NOTE:
            continue
        text = read(archive, stem + suffix).decode("utf-8", "replace").strip()
        if suffix == ".txt":
            said["caption"] = text
            continue
        try:
            facts = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(facts, dict):
            said |= {key: facts[key] for key in ("caption", "url") if _is_text(facts.get(key))}
    return said


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
