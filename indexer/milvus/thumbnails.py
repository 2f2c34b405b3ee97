"""Thumbnails of the images in a collection, read from what filled it.

Milvus does not store them (20 kB each, and it keeps its data in memory): they stay in the library
or the shards that filled the collection, and are read from there if that is reachable.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from cachetools import LRUCache

from sightline.indexer.catalog import Thumbnails
from sightline.indexer.errors import SightlineError
from sightline.indexer.library.library import THUMBNAILS
from sightline.indexer.shards.place import Place
from sightline.indexer.shards.shard_files import MAX_ROWS, pyarrow, shard_name

CACHED_GROUPS = 32
"""Row groups cached: 6 MB each."""


class SourceThumbnails:
    """Thumbnails by image id. Thread-safe."""

    def __init__(self, stored: Thumbnails | None, shards: Place | None) -> None:
        """Use ``SourceThumbnails.open``."""
        self._stored = stored
        self._shards = shards
        self._groups: LRUCache[tuple[int, int], dict[int, bytes]] = LRUCache(CACHED_GROUPS)
        self._ranges: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
        self._lock = threading.Lock()

    @classmethod
    def open(cls, source: dict[str, Any] | None) -> SourceThumbnails:
        """From ``{"library": folder}`` or ``{"shards": address}``; empty if that is unreachable."""
        source = source or {}
        try:
            if "library" in source:
                path = Path(source["library"]) / THUMBNAILS
                return cls(Thumbnails.open(path, read_only=True) if path.exists() else None, None)
            if "shards" in source:
                return cls(None, Place.at(source["shards"]))
        except SightlineError:
            pass  # the page then shows each image's colour
        return cls(None, None)

    def close(self) -> None:
        """Closes the files."""
        if self._stored is not None:
            self._stored.close()

    def get(self, id: int) -> bytes | None:
        """WebP, or None."""
        if self._stored is not None:
            return self._stored.get(id)
        return self._from_shard(self._shards, id) if self._shards is not None else None

    def _from_shard(self, shards: Place, id: int) -> bytes | None:
        number = id // MAX_ROWS
        with self._lock:
            for key in self._groups:
                if key[0] == number and (found := self._groups[key].get(id)):
                    return found
        pa = pyarrow()
        try:
            with shards.fs.open(shards.join(shard_name(number)), "rb") as file:
                parquet = pa.parquet.ParquetFile(file)
                # A shard is rewritten when images that had failed are read.
                version = number, parquet.metadata.num_rows, parquet.metadata.serialized_size
                ranges = self._ranges.setdefault(version, _id_ranges(parquet))
                for group, (low, high) in enumerate(ranges):
                    if not low <= id <= high:
                        continue
                    table = parquet.read_row_group(group, columns=["id", "thumbnail"])
                    columns = (table.column(name).to_pylist() for name in ("id", "thumbnail"))
                    thumbnails = {i: one for i, one in zip(*columns, strict=True) if one}
                    with self._lock:
                        self._groups[number, group] = thumbnails
                    if id in thumbnails:
                        return thumbnails[id]
        except (OSError, pa.ArrowException):
            return None  # the shards are away, and the page shows the image's colour
        return None


def _id_ranges(parquet: Any) -> list[tuple[int, int]]:
    """The lowest and highest id of each row group."""
    found = []
    for group in range(parquet.num_row_groups):
        statistics = parquet.metadata.row_group(group).column(0).statistics
        found.append((statistics.min, statistics.max) if statistics else (0, 2**63))
    return found
