"""Images of an output that could not be read, and are tried again in their place.

A failure that may pass (a file that was missing, a store that did not answer) is retried by every
later run, as ``sightline index`` does; any other on request. The shard is rewritten with the images
that it has and those that can now be read, under the same ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sightline.indexer.shards.place import Place
from sightline.indexer.shards.plan import Item, Shard, read_plan
from sightline.indexer.shards.shard_files import failed_rows

File = tuple[str, tuple[str, int, int]]
"""A source, and an item's path, size and date."""


class Retry:
    """The failures of an output whose file still exists unchanged. One that has changed gets a new
    shard anyway."""

    def __init__(self, place: Place, *, every: bool) -> None:
        """Reads the failures of all shards. ``every`` includes those that are unlikely to pass."""
        self._rows = {
            number: wanted
            for number, rows in failed_rows(place).items()
            if (wanted := frozenset(row for row, passing in rows.items() if passing or every))
        }
        shards = read_plan(place) if self._rows else []
        self._failed = {
            _file(shard, row) for shard in shards for row in self._rows.get(shard.number, ())
        }
        self._existing: set[File] = set()

    def watching(self, found: Iterable[tuple[str, Item]]) -> Iterator[tuple[str, Item]]:
        """Passes ``found`` on, and records which of it failed before."""
        for source, item in found:
            if (file := (source, item[:3])) in self._failed:
                self._existing.add(file)
            yield source, item

    def rows_of(self, shards: Sequence[Shard]) -> dict[int, frozenset[int]]:
        """The rows of each shard to retry. Call it after ``watching`` has ended."""
        retried = {}
        for shard in shards:
            rows = self._rows.get(shard.number, frozenset())
            if again := frozenset(row for row in rows if _file(shard, row) in self._existing):
                retried[shard.number] = again
        return retried


def _file(shard: Shard, row: int) -> File:
    """The file of a row; the archive for an image in one."""
    item = shard.items[0] if shard.items[0].is_archive else shard.items[row]
    return shard.source, item[:3]
