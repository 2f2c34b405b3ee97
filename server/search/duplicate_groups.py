"""Groups of duplicates: copies of one file first, then near-identical images.

Two images belong together if their files are equal, or if their embeddings *and* their perceptual
hashes agree (``near_duplicates`` has the reasons and the measured limits). The best file of a group
has the most pixels, then the most bytes. All others are near-identical to *it*, so that chains do
not connect unlike images. Nothing is deleted here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.types import Filters, Ids, ImageRecord
from sightline.server.search.image_json import image_as_dict
from sightline.server.search.near_duplicates import IDENTICAL_COSINE, MAX_HASH_BITS, MIN_COSINE

if TYPE_CHECKING:
    from sightline.indexer.library import Library

BLOCK = 1024
"""Images whose neighbours are searched at a time."""

FIRST_K, K_GROWTH, MAX_K = 16, 8, 1024
"""Neighbours searched per image at first, growth while all of them are near, and their limit. An
image with more copies is found as a neighbour of its copies."""

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


def find_groups(
    library: Library,
    filters: Filters = Filters(),  # noqa: B008 (frozen)
    *,
    similar: bool = True,
) -> list[Group]:
    """All groups among the images that match ``filters``: copies first, then by descending spare
    bytes. Without ``similar`` only copies are found, and no embedding is read."""
    files = library.catalog.files(library.select(filters) if filters else None)
    copies = _copies(files.content)
    pairs = [copies]
    if similar:
        pairs.append(_near_identical(library, files.ids, files.phash, files.hashed, filters))
    return _stars(files.ids, files.pixels, files.sizes, np.concatenate(pairs), copies)


def _copies(content: NDArray[np.int64]) -> NDArray[np.int64]:
    """``(p, 2)`` row numbers of all pairs of equal files. Equal files have the same number in
    ``content``; -1 is unknown content."""
    order = np.argsort(content, kind="stable")
    order = order[content[order] >= 0]
    pairs: list[tuple[int, int]] = []
    ends = np.flatnonzero(np.diff(content[order])) + 1
    for group in np.split(order, ends):
        if len(group) > 1:
            a, b = np.triu_indices(len(group), 1)
            pairs += zip(group[a].tolist(), group[b].tolist(), strict=True)
    return np.array(pairs, np.int64).reshape(-1, 2)


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
            agree = np.where(
                hashed[a] & hashed[b],
                differing_bits <= MAX_HASH_BITS,
                cosines[near] >= IDENTICAL_COSINE,
            )
            pairs.append(np.stack([a[agree], b[agree]], axis=1))
            rows, k = rows[cosines[:, -1] >= MIN_COSINE], k * K_GROWTH
            if k > MAX_K:
                break
    return np.concatenate(pairs) if pairs else np.empty((0, 2), np.int64)


def _stars(
    ids: Ids,
    pixels: NDArray[np.int64],
    sizes: NDArray[np.int64],
    pairs: NDArray[np.int64],
    copies: NDArray[np.int64],
) -> list[Group]:
    """Groups of the best file and all its pairs, then of the best one remaining, and so on."""
    neighbours, equal = _adjacency(pairs), _adjacency(copies)
    rows = np.array(sorted(neighbours), np.int64)
    best_first = rows[np.lexsort((ids[rows], -sizes[rows], -pixels[rows]))].tolist()
    rank = {row: n for n, row in enumerate(best_first)}
    grouped: set[int] = set()
    groups = []
    for best in best_first:
        if best in grouped:
            continue
        others = sorted(neighbours[best] - grouped, key=rank.__getitem__)
        if not others:
            continue
        grouped |= {best, *others}
        kind: Kind = "copies" if set(others) <= equal.get(best, set()) else "similar"
        members = tuple(ids[[best, *others]].tolist())
        groups.append(Group(kind, members, int(sizes[others].sum())))
    return sorted(groups, key=lambda group: (group.kind, -group.spare, group.ids))


def _adjacency(pairs: NDArray[np.int64]) -> dict[int, set[int]]:
    adjacent: dict[int, set[int]] = {}
    for a, b in pairs.tolist():
        adjacent.setdefault(a, set()).add(b)
        adjacent.setdefault(b, set()).add(a)
    return adjacent
