"""Groups of pictures that are the same: copies of one file first, then near-identical shots.

Two pictures belong together when their files are equal, or when their embeddings agree *and* their
perceptual hashes do (``near_duplicates`` says why both, and measured the limits). The best file of
a group is the one with most pixels, then the largest; everything else in the group is near *it*, so
that no chain of small steps ties strangers together. Nothing is ever deleted here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.types import Filters, Ids, ImageRecord
from sightline.server.search.image_json import image_as_dict
from sightline.server.search.near_duplicates import BITS, COSINE, IDENTICAL

if TYPE_CHECKING:
    from sightline.indexer.library import Library

BLOCK = 1024
"""Pictures whose neighbours are asked for at once."""

NEIGHBOURS, MORE, MOST = 16, 8, 1024
"""Neighbours asked for at first; where the last one is still near, so many times more, to a limit:
a picture of which there are more copies is found from the side of its copies."""

Kind = Literal["copies", "similar"]


@dataclass(frozen=True)
class Group:
    """Pictures that are the same, as ids; the best file first, the others by how good they are."""

    kind: Kind
    """``copies``: all files are equal, byte for byte."""
    ids: tuple[int, ...]
    spare: int
    """Bytes of all but the best."""

    def as_dict(self, records: dict[int, ImageRecord], *, absolute: bool) -> dict[str, Any]:
        """For JSON; ``records`` are those of ``ids``, without what has gone meanwhile."""
        told = [image_as_dict(records[id], absolute=absolute) for id in self.ids if id in records]
        return {"kind": self.kind, "spare_bytes": self.spare, "images": told}


def find_groups(
    library: Library,
    filters: Filters = Filters(),  # noqa: B008 (frozen)
    *,
    similar: bool = True,
) -> list[Group]:
    """All groups among the pictures that meet ``filters``: copies first, each kind by the bytes
    that its spare files take. ``similar`` False finds copies only, and looks at no embedding."""
    files = library.catalog.files(library.select(filters) if filters else None)
    copies = _copies(files.content)
    pairs = [copies]
    if similar:
        pairs.append(_near(library, files.ids, files.phash, files.hashed, filters))
    return _stars(files.ids, files.pixels, files.sizes, np.concatenate(pairs), copies)


def _copies(content: NDArray[np.int64]) -> NDArray[np.int64]:
    """``(p, 2)`` places of equal files: each with every other. ``content`` numbers the files'
    contents; -1 where it is not known."""
    order = np.argsort(content, kind="stable")
    order = order[content[order] >= 0]
    pairs: list[tuple[int, int]] = []
    ends = np.flatnonzero(np.diff(content[order])) + 1
    for group in np.split(order, ends):
        if len(group) > 1:
            # All with all, so that whichever is the best one has every other at its side.
            a, b = np.triu_indices(len(group), 1)
            pairs += zip(group[a].tolist(), group[b].tolist(), strict=True)
    return np.array(pairs, np.int64).reshape(-1, 2)


def _near(
    library: Library,
    ids: Ids,
    phash: NDArray[np.int64],
    hashed: NDArray[np.bool_],
    filters: Filters,
) -> NDArray[np.int64]:
    """``(p, 2)`` places of pictures whose embeddings and hashes agree."""
    pairs: list[NDArray[np.int64]] = []
    for start in range(0, len(ids), BLOCK):
        places = np.arange(start, min(start + BLOCK, len(ids)))
        wanted = NEIGHBOURS
        while len(places):
            vectors = library.vectors(ids[places])
            there = ~np.isnan(vectors[:, 0])  # a picture may leave while we look
            places, vectors = places[there], vectors[there]
            if not len(places):
                break
            scores, found = library.nearest(vectors, wanted, filters=filters)
            other = np.minimum(np.searchsorted(ids, found), len(ids) - 1)
            mine = np.repeat(places[:, None], wanted, axis=1)
            near = (scores >= COSINE) & (ids[other] == found) & (other != mine)
            a, b, cosine = mine[near], other[near], scores[near]
            both = hashed[a] & hashed[b]
            apart = np.bitwise_count((phash[a] ^ phash[b]).view(np.uint64))
            same = np.where(both, apart <= BITS, cosine >= IDENTICAL)
            pairs.append(np.stack([a[same], b[same]], axis=1))
            full = scores[:, -1] >= COSINE
            places, wanted = places[full], wanted * MORE
            if wanted > MOST:
                break
    return np.concatenate(pairs) if pairs else np.empty((0, 2), np.int64)


def _stars(
    ids: Ids,
    pixels: NDArray[np.int64],
    sizes: NDArray[np.int64],
    pairs: NDArray[np.int64],
    copies: NDArray[np.int64],
) -> list[Group]:
    """The best file takes in all its neighbours that nobody has taken, then the next best one."""
    beside: dict[int, set[int]] = {}
    for a, b in pairs.tolist():
        beside.setdefault(a, set()).add(b)
        beside.setdefault(b, set()).add(a)
    equal: dict[int, set[int]] = {}
    for a, b in copies.tolist():
        equal.setdefault(a, set()).add(b)
        equal.setdefault(b, set()).add(a)
    places = np.array(sorted(beside), np.int64)
    best_first = places[np.lexsort((ids[places], -sizes[places], -pixels[places]))].tolist()
    rank = {place: n for n, place in enumerate(best_first)}
    taken: set[int] = set()
    groups = []
    for best in best_first:
        if best in taken:
            continue
        others = sorted(beside[best] - taken, key=rank.__getitem__)
        if not others:
            continue
        taken |= {best, *others}
        kind: Kind = "copies" if set(others) <= equal.get(best, set()) else "similar"
        members = tuple(ids[[best, *others]].tolist())
        groups.append(Group(kind, members, int(sizes[others].sum())))
    return sorted(groups, key=lambda group: (group.kind, -group.spare, group.ids))
