"""Rows of an output whose file was embedded again since: what readers of the shards leave out."""

from __future__ import annotations

from collections.abc import Container, Sequence

from sightline.indexer.shards.plan import Shard, read_plan
from sightline.indexer.shards.shard_files import MOST_ROWS, Place


def superseded(place: Place, there: Container[int]) -> set[int]:
    """Ids of the rows of the shards ``there`` at ``place`` that a later one of these has in another
    version."""
    if len({name for name in place.names() if name.startswith("plan-")}) < 2:
        return set()  # nothing is embedded twice by one run, and plans of millions take seconds
    return superseded_rows(read_plan(place), there)


def superseded_rows(shards: Sequence[Shard], there: Container[int]) -> set[int]:
    """The same of a plan that was read, ``shards``.

    Archives change as a whole. A folder that could not be listed has no rows but its failure, and
    gives way to the files in it.
    """
    latest: dict[tuple[str, str], int] = {}
    unlisted: dict[tuple[str, str], int] = {}
    old: set[int] = set()
    for shard in shards:
        if shard.number not in there:
            continue
        for n, item in enumerate(shard.items):
            id = shard.number * MOST_ROWS + n
            before = latest.get((shard.source, item.path))
            if before is not None:
                end = (before // MOST_ROWS + 1) * MOST_ROWS
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
