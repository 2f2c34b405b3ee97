"""Thumbnails of a collection's pictures.

Milvus does not hold them (20 kB each, and it keeps what it holds in memory): they stay in the
library or the shards that filled the collection, and are read from there where they are reached.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from cachetools import LRUCache

from sightline.indexer.catalog.thumbnails import Thumbnails
from sightline.indexer.errors import SightlineError
from sightline.indexer.library.library import THUMBNAILS
from sightline.indexer.shards.shard_files import MOST_ROWS, Place, pyarrow, shard_name

GROUPS = 32
"""Row groups kept: 6 MB each."""


class Thumbs:
    """Thumbnails by id. Any thread may ask."""

    def __init__(self, stored: Thumbnails | None, shards: Place | None) -> None:
        """Use ``Thumbs.at``."""
        self._stored = stored
        self._shards = shards
        self._groups: LRUCache[tuple[int, int], dict[int, bytes]] = LRUCache(GROUPS)
        self._bounds: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
        self._lock = threading.Lock()

    @classmethod
    def at(cls, place: dict[str, Any] | None) -> Thumbs:
        """From ``{"library": folder}`` or ``{"shards": address}``; empty where that is away."""
        said = place or {}
        try:
            if "library" in said:
                path = Path(said["library"]) / THUMBNAILS
                return cls(Thumbnails.open(path, read_only=True) if path.exists() else None, None)
            if "shards" in said:
                return cls(None, Place.at(said["shards"]))
        except SightlineError:
            pass
        return cls(None, None)

    def close(self) -> None:
        """Lets go of the files."""
        if self._stored is not None:
            self._stored.close()

    def get(self, id: int) -> bytes | None:
        """A WebP picture, or None."""
        if self._stored is not None:
            return self._stored.get(id)
        return self._from_shard(self._shards, id) if self._shards is not None else None

    def _from_shard(self, place: Place, id: int) -> bytes | None:
        number = id // MOST_ROWS
        with self._lock:
            for (shard, _), thumbnails in self._groups.items():
                if shard == number and id in thumbnails:
                    return thumbnails[id]
        pa = pyarrow()
        try:
            with place.fs.open(place.join(shard_name(number)), "rb") as file:
                parquet = pa.parquet.ParquetFile(file)
                # A shard may have been written anew since, with pictures that had failed.
                written = number, parquet.metadata.num_rows, parquet.metadata.serialized_size
                bounds = self._bounds.setdefault(written, _bounds(parquet))
                for group, (low, high) in enumerate(bounds):
                    if not low <= id <= high:
                        continue
                    table = parquet.read_row_group(group, columns=["id", "thumbnail"])
                    columns = (table.column(name).to_pylist() for name in ("id", "thumbnail"))
                    # None: it could not be read yet.
                    thumbnails = {i: one for i, one in zip(*columns, strict=True) if one}
                    with self._lock:
                        self._groups[number, group] = thumbnails
                    if id in thumbnails:
                        return thumbnails[id]
        except (OSError, pa.ArrowException):
            return None  # the shards are away, and the page shows the picture's colour instead
        return None


def _bounds(parquet: Any) -> list[tuple[int, int]]:
    """The lowest and highest id of each row group."""
    found = []
    for group in range(parquet.num_row_groups):
        statistics = parquet.metadata.row_group(group).column(0).statistics
        found.append((statistics.min, statistics.max) if statistics else (0, 2**63))
    return found
