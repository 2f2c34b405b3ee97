"""Rows whose file was embedded again since: readers of the shards leave them out."""

from __future__ import annotations

from collections.abc import Container, Sequence

from sightline.indexer.shards.place import Place
from sightline.indexer.shards.plan import Shard, read_plan
from sightline.indexer.shards.shard_files import MAX_ROWS


def superseded(place: Place, shards: Container[int]) -> set[int]:
    """Ids of rows in ``shards`` (numbers) that a later one of them replaces."""
    if sum(name.startswith("plan-") for name in place.names()) < 2:
        return set()  # one run embeds nothing twice, and a plan of millions takes seconds to read
    return superseded_rows(read_plan(place), shards)


def superseded_rows(plan: Sequence[Shard], shards: Container[int]) -> set[int]:
    """The same for a plan that has been read.

    Archives change as a whole. A folder that could not be listed has one row, its failure, which
    the files in it replace.
    """
    latest: dict[tuple[str, str], int] = {}
    unlisted: dict[tuple[str, str], int] = {}
    old: set[int] = set()
    for shard in plan:
        if shard.number not in shards:
            continue
        for n, item in enumerate(shard.items):
            id = shard.number * MAX_ROWS + n
            before = latest.get((shard.source, item.path))
            if before is not None:
                end = (before // MAX_ROWS + 1) * MAX_ROWS
                old |= set(range(before, end)) if item.is_archive else {before}
            latest[shard.source, item.path] = id
            if item.failure:
                unlisted[shard.source, item.path] = id
            elif unlisted:
                parts = item.path.split("/")
                for depth in range(len(parts)):
                    folder = unlisted.pop((shard.source, "/".join(parts[:depth])), None)
                    if folder is not None:
                        old.add(folder)
    return old
