"""Thumbnails of a library's images, one WebP per image id, in a separate SQLite file.

They are larger than the whole catalog and can be made again: a lost or corrupt ``thumbnails.db``
costs a run over the images, but no encoding. They are written just before the catalog commits
(``Catalog.write(before_commit=..)``), so that a crash leaves at most thumbnails without an image,
which ``sweep`` deletes.

    with Thumbnails.open_or_create(path) as thumbnails:
        thumbnails.put_many({1: webp})
        thumbnails.get(1)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

import numpy as np

from sightline.indexer.catalog import migrations
from sightline.indexer.catalog.store import FileKind, Store, create, ids_of
from sightline.indexer.types import Ids

THUMBNAILS = FileKind(
    name="a Sightline library's thumbnails",
    application_id=0x53474C54,  # "SGLT"
    migrations=migrations.thumbnails,
    remedy="delete it, and the next `sightline index` makes the thumbnails again",
)


class Thumbnails:
    """An open file of thumbnails. Thread-safe."""

    def __init__(self, store: Store) -> None:
        """Use ``Thumbnails.open`` or ``Thumbnails.open_or_create``."""
        self._store = store
        self.frozen = store.frozen

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Self:
        """Opens the file at ``path``. LibraryError if it does not exist or is another program's."""
        return cls(Store(path, THUMBNAILS, read_only=read_only))

    @classmethod
    def open_or_create(cls, path: Path) -> Self:
        """Opens the file at ``path``; creates it if it does not exist."""
        if not path.exists():
            create(path, THUMBNAILS, lambda database: None)
        return cls.open(path)

    def close(self) -> None:
        """Closes every connection."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        with self._store.reading() as connection:
            return connection.execute("SELECT count(*) FROM thumbnails").fetchone()[0]

    def put_many(self, thumbnails: Mapping[int, bytes]) -> None:
        """Writes thumbnails by image id, replacing existing ones; all or none."""
        with self._store.writing() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO thumbnails (image_id, webp) VALUES (?, ?)",
                [(int(image), webp) for image, webp in thumbnails.items()],
            )

    def copy(self, pairs: Iterable[tuple[int, int]]) -> None:
        """For each ``(new id, id)``: gives the new image the thumbnail of the other."""
        with self._store.writing() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO thumbnails (image_id, webp)"
                " SELECT ?, webp FROM thumbnails WHERE image_id = ?",
                [(int(new), int(old)) for new, old in pairs],
            )

    def get(self, id: int) -> bytes | None:
        """The WebP of one image, or None."""
        with self._store.reading() as connection:
            row = connection.execute(
                "SELECT webp FROM thumbnails WHERE image_id = ?", [int(id)]
            ).fetchone()
        return row[0] if row else None

    def remove(self, ids: Iterable[int]) -> None:
        """Deletes the thumbnails of ``ids``; ids without one are ignored."""
        with self._store.writing() as connection:
            connection.execute(
                "DELETE FROM thumbnails WHERE image_id IN (SELECT value FROM json_each(?))",
                [json.dumps([int(i) for i in ids])],
            )

    def ids(self) -> Ids:
        """The ids of all images with a thumbnail, ascending."""
        with self._store.reading() as connection:
            return np.sort(ids_of(connection, "SELECT image_id AS id FROM thumbnails"))

    def sweep(self, images: Ids) -> int:
        """Deletes the thumbnails of all but ``images``, and returns their number."""
        orphans = np.setdiff1d(self.ids(), images)
        if len(orphans):
            self.remove(orphans.tolist())
        return len(orphans)
