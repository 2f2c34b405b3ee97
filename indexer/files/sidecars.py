"""Finds the files beside an image that hold its metadata: XMP sidecars, JSON of Google Takeout.

IMG_1.jpg.xmp, IMG_1.xmp                  darktable, digiKam; Lightroom, Capture One
IMG_1.jpg.json                            Takeout until 2024
IMG_1.jpg.supplemental-metadata.json      Takeout since; its names are cut to 46 characters
IMG_1.jpg(2).json                         of IMG_1(2).jpg, the second file of that name
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

import xxhash

from sightline.indexer.errors import PhotoError
from sightline.indexer.files.beneath import open_beneath
from sightline.indexer.types import Candidate

XMP_SUFFIX, TAKEOUT_SUFFIX = ".xmp", ".json"

SUFFIXES = frozenset({XMP_SUFFIX, TAKEOUT_SUFFIX})
"""Lower-case."""

MAX_BYTES = 4 * 2**20
"""Larger sidecars are ignored. Most have a few thousand bytes; darktable stores its history."""

READER_VERSION = 2
"""Part of every stamp: increased when metadata is read differently, so that the next run reads it
again."""

_TAKEOUT_LENGTH = 46
"""Characters of the name of a Takeout file, without its suffix."""

_SUPPLEMENT = ".supplemental-metadata"

_EDITED = ("-edited", "-bearbeitet", "-modifié", "-editado", "-editada", "-modificato", "-bewerkt")
"""Ends of names that Takeout gives to edited copies; their metadata is beside the original."""

_NUMBER = re.compile(r"\(\d{1,4}\)$")


class Sidecars:
    """The sidecars in one folder."""

    def __init__(self, entries: Iterable[os.DirEntry[str]]) -> None:
        self._entries = {
            entry.name.lower(): entry
            for entry in entries
            if entry.name[-5:].lower().endswith((XMP_SUFFIX, TAKEOUT_SUFFIX))
        }

    def of(self, name: str) -> tuple[tuple[str, ...], int]:
        """The names of an image's sidecars, the most important first, and the stamp of its
        metadata, which differs when one of them is new, changed or gone."""
        if not self._entries:
            return NO_SIDECARS
        found: dict[str, tuple[int, int]] = {}
        for names in (_xmp_names(name.lower()), _takeout_names(name.lower())):
            for wanted in names:
                entry = self._entries.get(wanted)
                if entry is None or entry.name in found:
                    continue
                try:
                    status = entry.stat()
                    if not entry.is_file():
                        continue
                except OSError:
                    continue  # a broken link, or deleted since the folder was listed
                found[entry.name] = status.st_size, status.st_mtime_ns
                if wanted.endswith(TAKEOUT_SUFFIX):
                    break
        return tuple(found), _stamp(found)


def _stamp(found: dict[str, tuple[int, int]]) -> int:
    return (xxhash.xxh3_64_intdigest(repr((READER_VERSION, found)).encode()) >> 1) | 1


NO_SIDECARS: tuple[tuple[str, ...], int] = (), _stamp({})
"""What ``Sidecars.of`` returns for an image that has none."""


def _xmp_names(name: str) -> Iterator[str]:
    yield name + XMP_SUFFIX
    yield PurePosixPath(name).stem + XMP_SUFFIX


def _takeout_names(name: str) -> Iterator[str]:
    stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix
    forms = [(name, "")]
    if number := _NUMBER.search(stem):
        forms.append((stem[: number.start()] + suffix, number[0]))
    for base, number_of_copy in tuple(forms):
        plain = base.removesuffix(suffix)
        forms += [
            (plain.removesuffix(end) + suffix, number_of_copy)
            for end in _EDITED
            if plain.endswith(end)
        ]
    for base, number_of_copy in forms:
        yield f"{base}{number_of_copy}{TAKEOUT_SUFFIX}"
        full = base + _SUPPLEMENT
        for length in range(min(len(full), _TAKEOUT_LENGTH), len(base), -1):
            yield f"{full[:length]}{number_of_copy}{TAKEOUT_SUFFIX}"
        if len(base) > _TAKEOUT_LENGTH:
            yield f"{base[:_TAKEOUT_LENGTH]}{number_of_copy}{TAKEOUT_SUFFIX}"
        # A title without a suffix, which the image got from its format.
        yield f"{base.removesuffix(suffix)}{number_of_copy}{TAKEOUT_SUFFIX}"


def read(image: Candidate) -> list[tuple[str, bytes]]:
    """``(name, content)`` of the sidecars of ``image`` in their order, without those that cannot be
    read, are too large, or are links out of the root."""
    folder = image.path.rpartition("/")[0]
    found = []
    for name in image.sidecars:
        try:
            file, member = open_beneath(image.root, f"{folder}/{name}" if folder else name)
            with file:
                data = b"" if member else file.read(MAX_BYTES + 1)
        except (OSError, ValueError, PhotoError):
            continue  # sidecars never keep an image from being read
        if data and len(data) <= MAX_BYTES:
            found.append((name, data))
    return found
