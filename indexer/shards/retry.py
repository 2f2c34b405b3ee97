"""Pictures of an output that could not be read, tried again where they lie.

A failure that may pass (a file that was away, a store that did not answer) is tried again by every
later run, as ``sightline index`` does; any other when it is asked for. The shard is written anew
with the pictures that it has and those that can now be read, each under its own id, so that every
picture is still in the output once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sightline.indexer.shards.plan import Item, Shard, read_plan
from sightline.indexer.shards.shard_files import Place, failed_rows

File = tuple[str, tuple[str, int, int]]
"""A source, and an item's path, size and date."""


class Retry:
    """What of an output is to be tried again: failures whose file is still there as it was. One
    that has changed gets a new shard anyway."""

    def __init__(self, place: Place, *, every: bool) -> None:
        """Reads the failures of all shards. ``every``: also those that will hardly pass."""
        self._rows = {
            number: wanted
            for number, rows in failed_rows(place).items()
            if (wanted := frozenset(row for row, passing in rows.items() if passing or every))
        }
        shards = read_plan(place) if self._rows else []
        self._missing = {
            _file(shard, row) for shard in shards for row in self._rows.get(shard.number, ())
        }
        self._there: set[File] = set()

    def watching(self, found: Iterable[tuple[str, Item]]) -> Iterator[tuple[str, Item]]:
        """``found``, remembering what of it has failed before."""
        for source, item in found:
            if (file := (source, item[:3])) in self._missing:
                self._there.add(file)
            yield source, item

    def of(self, shards: Sequence[Shard]) -> dict[int, frozenset[int]]:
        """The rows of each shard to be tried again; call it when all has been found."""
        again = {}
        for shard in shards:
            rows = self._rows.get(shard.number, frozenset())
            if there := frozenset(row for row in rows if _file(shard, row) in self._there):
                again[shard.number] = there
        return again


def _file(shard: Shard, row: int) -> File:
    """The file that a row is of; an archive for what is in one."""
    item = shard.items[0] if shard.items[0].is_archive else shard.items[row]
    return shard.source, item[:3]
