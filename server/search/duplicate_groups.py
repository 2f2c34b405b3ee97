"""Groups of duplicates: copies of one file first, then near-identical images.

Two images belong together if their files are equal, or if their embeddings *and* their perceptual
hashes agree (``near_duplicates`` has the reasons and the measured limits). The best file of a group
has the most pixels, then the most bytes. All others are near-identical to *it*, so that chains do
not connect unlike images.

One file is one copy, whatever its paths: symlinks, hard links and bind mounts of a file count once
(``identity``), and an image whose file does not exist now is in no group. Nothing is deleted here,
but users delete what ``removable`` yields.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.errors import PhotoError, UsageError
from sightline.indexer.files import deadline
from sightline.indexer.files.beneath import open_beneath
from sightline.indexer.files.identity import FileIdentity, file_identity
from sightline.indexer.types import Filters, Ids, ImageRecord
from sightline.server.search.image_json import image_as_dict
from sightline.server.search.lru_cache import LruCache
from sightline.server.search.near_duplicates import (
    IDENTICAL_COSINE,
    MAX_HASH_BITS,
    MIN_COSINE,
    NO_DETAIL,
)
from sightline.server.search.query import parse

if TYPE_CHECKING:
    from sightline.indexer.library import AnyLibrary, Library

BLOCK = 1024
"""Images whose neighbours are searched at a time."""

FILES = 256
"""Files whose identity is determined at a time, within one deadline."""

FIRST_K, K_GROWTH, MAX_K = 16, 8, 1024
"""Neighbours searched per image at first, growth while all of them are near, and their limit. An
image with more copies is found as a neighbour of its copies."""

READ_BYTES = 2**20
"""Bytes of each file that are compared at a time."""

CACHED_CANDIDATES = 4
"""Results of ``find_candidates`` in memory, 100 bytes per image that may be a duplicate."""

Kind = Literal["copies", "similar"]


@dataclass(frozen=True)
class Group:
    """Duplicates of one image, as ids: the best file first, then the others by quality."""

    kind: Kind
    """``copies``: all files are equal, byte for byte."""
    ids: tuple[int, ...]
    spare: int
    """Bytes of all files but the best."""

    def as_dict(self, records: dict[int, ImageRecord], *, absolute: bool) -> dict[str, Any]:
        """For JSON; ``records`` are those of ``ids`` without images deleted meanwhile."""
        images = [image_as_dict(records[id], absolute=absolute) for id in self.ids if id in records]
        return {"kind": self.kind, "spare_bytes": self.spare, "images": images}


@dataclass(frozen=True)
class Candidates:
    """Images that may be duplicates by what the catalog has stored about them: arrays ``(n,)`` in
    the order of ``ids``."""

    ids: Ids
    """Sorted."""
    content: NDArray[np.int64]
    """Equal numbers for equal contents only."""
    pixels: NDArray[np.int64]
    sizes: NDArray[np.int64]
    """Bytes."""
    near: NDArray[np.int64]
    """``(p, 2)`` row numbers of pairs of near-identical images."""


@dataclass(frozen=True)
class Duplicates:
    """The groups of the files that exist now."""

    groups: list[Group]
    """Copies first, then by descending spare bytes."""
    missing: int
    """Candidates that are left out because their files do not exist now."""


class DuplicateFinder:
    """Finds the duplicates in one library. Safe to use from several threads, which find candidates
    one after another."""

    def __init__(self, library: AnyLibrary) -> None:
        self._library = library
        self._candidates: LruCache[Candidates] = LruCache(CACHED_CANDIDATES)
        self._finding = threading.Lock()

    def find(self, filters: str, *, similar: bool = True) -> Duplicates:
        """The duplicates among the images that match ``filters``, in the query language, and whose
        files exist now. The candidates are cached until the library changes. Raises ``UsageError``
        for a query with terms, and for a library in Milvus."""
        from sightline.indexer.library import Library

        query = parse(filters, dates=False)
        if query.terms:
            raise UsageError("only filters (in:Holidays) are allowed here, no text")
        library = self._library
        if not isinstance(library, Library):
            raise UsageError("duplicates are found in a library in a folder only, not in Milvus")
        library.refresh()
        # Labels and collections change without a new version.
        stamp = library.stamp if query.filters else 0
        with self._finding:
            candidates = self._candidates.get_or_create(
                (query.filters, similar, library.version, stamp),
                lambda: find_candidates(library, query.filters, similar=similar),
            )
        return group_files(library, candidates)


def find_groups(
    library: Library,
    filters: Filters = Filters(),  # noqa: B008 (frozen)
    *,
    similar: bool = True,
) -> list[Group]:
    """All groups among the images that match ``filters``: copies first, then by descending spare
    bytes. Without ``similar`` only copies are found, and no embedding is read."""
    return group_files(library, find_candidates(library, filters, similar=similar)).groups


def find_candidates(library: Library, filters: Filters, *, similar: bool) -> Candidates:
    """The candidates among the images that match ``filters``. Depends on the catalog only."""
    files = library.catalog.files(library.select(filters) if filters else None)
    near = np.empty((0, 2), np.int64)
    if similar:
        near = _near_identical(library, files.ids, files.phash, files.hashed, filters)
    content = _content_classes(files.content)
    copied = np.bincount(content, minlength=1)[content] > 1
    rows = np.union1d(np.flatnonzero(copied), near)
    return Candidates(
        files.ids[rows],
        content[rows],
        files.pixels[rows],
        files.sizes[rows],
        np.searchsorted(rows, near),
    )


def group_files(library: Library, candidates: Candidates) -> Duplicates:
    """The groups of ``candidates``, by the files that exist at this moment."""
    present, missing = _distinct_files(library, candidates.ids)
    return Duplicates(_stars(candidates, present), missing)


def removable(
    groups: Iterable[Group], records: Mapping[int, ImageRecord]
) -> Iterator[tuple[ImageRecord, bool]]:
    """All files but the best of each group, each with whether it may be deleted at this moment:
    it and the best file exist and are two files, and their bytes are equal. Files of a group that
    is not of copies have the bytes that were indexed. Files in archives are not read here: neither
    they nor their copies are removable."""
    for one in groups:
        kept = records.get(one.ids[0])
        for id in one.ids[1:]:
            if id in records:
                yield records[id], kept is not None and _is_spare(records[id], kept, one.kind)


def _is_spare(spare: ImageRecord, kept: ImageRecord, kind: Kind) -> bool:
    # With Pillow, which a search from the shell does not need.
    from sightline.indexer.photo.photo import hash_stream

    try:
        with _opened(spare) as a, _opened(kept) as b:
            if os.path.sameopenfile(a.fileno(), b.fileno()):
                return False
            if kind == "copies":
                return _same_bytes(a, b)
            return hash_stream(a) == spare.content_hash and hash_stream(b) == kept.content_hash
    except (OSError, ValueError, PhotoError):
        return False


def _opened(record: ImageRecord) -> BinaryIO:
    file, member = open_beneath(Path(record.root), record.path)
    if member is not None:
        file.close()
        raise PhotoError("it is in an archive")
    return file


def _same_bytes(a: BinaryIO, b: BinaryIO) -> bool:
    """Whether two open files are equal. ``filecmp`` would trust sizes and times it saw before."""
    while True:
        block = a.read(READ_BYTES)
        if block != b.read(READ_BYTES):
            return False
        if not block:
            return True


def _content_classes(content: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number per row, equal for equal contents only. -1 in ``content`` is unknown content."""
    unknown = content < 0
    classes = content.copy()
    classes[unknown] = content.max(initial=0) + 1 + np.arange(np.count_nonzero(unknown))
    return classes


def _distinct_files(library: Library, ids: Ids) -> tuple[list[int], int]:
    """The rows of ``ids`` whose files exist now, one row per file, and the number of missing files.
    Of several paths of a file the one that is no symlink is chosen, then the one indexed first."""
    chosen: dict[FileIdentity, tuple[bool, int]] = {}
    row_of = {id: row for row, id in enumerate(ids.tolist())}
    found = 0
    records = list(library.images(row_of))
    for start in range(0, len(records), FILES):
        for id, identity, is_link in deadline.call(_identities, records[start : start + FILES]):
            key = is_link, row_of[id]
            chosen[identity] = min(chosen.get(identity, key), key)
            found += 1
    return [row for _, row in chosen.values()], len(ids) - found


def _identities(records: Sequence[ImageRecord]) -> list[tuple[int, FileIdentity, bool]]:
    """``(id, identity, is a symlink)`` of each of ``records`` whose file exists."""
    return [
        (record.id, identity, record.absolute.is_symlink())
        for record in records
        if (identity := file_identity(record.absolute)) is not None
    ]


def _near_identical(
    library: Library,
    ids: Ids,
    phash: NDArray[np.int64],
    hashed: NDArray[np.bool_],
    filters: Filters,
) -> NDArray[np.int64]:
    """``(p, 2)`` row numbers of pairs of images whose embeddings and hashes agree."""
    pairs: list[NDArray[np.int64]] = []
    for start in range(0, len(ids), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(ids)))
        k = FIRST_K
        while len(rows):
            vectors = library.vectors(ids[rows])
            present = ~np.isnan(vectors[:, 0])  # images may be deleted meanwhile
            rows, vectors = rows[present], vectors[present]
            if not len(rows):
                break
            cosines, found = library.nearest(vectors, k, filters=filters)
            neighbours = np.minimum(np.searchsorted(ids, found), len(ids) - 1)
            own = np.repeat(rows[:, None], k, axis=1)
            near = (cosines >= MIN_COSINE) & (ids[neighbours] == found) & (neighbours != own)
            a, b = own[near], neighbours[near]
            differing_bits = np.bitwise_count((phash[a] ^ phash[b]).view(np.uint64))
            detailed = (phash != NO_DETAIL) | ~hashed
            agree = (detailed[a] & detailed[b]) & np.where(
                hashed[a] & hashed[b],
                differing_bits <= MAX_HASH_BITS,
                cosines[near] >= IDENTICAL_COSINE,
            )
            pairs.append(np.stack([a[agree], b[agree]], axis=1))
            rows, k = rows[cosines[:, -1] >= MIN_COSINE], k * K_GROWTH
            if k > MAX_K:
                break
    return np.concatenate(pairs) if pairs else np.empty((0, 2), np.int64)


def _stars(candidates: Candidates, present: list[int]) -> list[Group]:
    """Groups of the best file, its copies, and all images near-identical to one of these; then of
    the best one remaining, and so on. ``present`` are the rows that are grouped."""
    ids, content, sizes = candidates.ids, candidates.content, candidates.sizes
    rows = np.array(present, np.int64)
    best_first = rows[np.lexsort((ids[rows], -sizes[rows], -candidates.pixels[rows]))].tolist()
    rank = {row: n for n, row in enumerate(best_first)}
    copies: dict[int, list[int]] = {}
    """The rows of each content, best first."""
    for row in best_first:
        copies.setdefault(int(content[row]), []).append(row)
    neighbours: dict[int, set[int]] = {}
    for a, b in candidates.near.tolist():
        if a in rank and b in rank and content[a] != content[b]:
            neighbours.setdefault(int(content[a]), set()).add(int(content[b]))
            neighbours.setdefault(int(content[b]), set()).add(int(content[a]))
    grouped: set[int] = set()
    groups = []
    for best in copies:
        if best in grouped:
            continue
        similar = neighbours.get(best, set()) - grouped
        members = [row for one in (best, *similar) for row in copies[one]]
        if len(members) < 2:
            continue
        members.sort(key=rank.__getitem__)
        grouped |= {best, *similar}
        kind: Kind = "similar" if similar else "copies"
        groups.append(Group(kind, tuple(ids[members].tolist()), int(sizes[members[1:]].sum())))
    return sorted(groups, key=lambda group: (group.kind, -group.spare, group.ids))
