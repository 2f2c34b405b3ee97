"""Embeddings by another model, collected beside the catalog until they replace those in it.

They are in a separate SQLite file, so that collecting them disturbs neither searches nor indexing
runs, and dropping them is deleting a file. ``Catalog.replace_embeddings`` reads them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from sightline.indexer.catalog import embeddings, migrations
from sightline.indexer.catalog.embeddings import Changes
from sightline.indexer.catalog.image_rows import LISTED
from sightline.indexer.catalog.store import FileKind, Store, create, delete, pairs_of
from sightline.indexer.types import Embeddings, Ids

NEW_EMBEDDINGS = FileKind(
    name="new embeddings of a Sightline library",
    application_id=0x53474C45,  # "SGLE"
    migrations=migrations.new_embeddings,
    remedy="drop it with `sightline reencode --discard`",
)


@dataclass(frozen=True)
class NewEmbedding:
    """The embedding of one image by another model."""

    image: int
    version: int
    """Of the image's embedding in the catalog: another one there means that the image changed."""
    vector: Embeddings
    """``(d,)``, unit norm."""
    pixels_hash: str | None
    """Of the pixels that the model was shown; None if they are a thumbnail's."""


class NewEmbeddings:
    """An open file of new embeddings. Close it, or use it in a ``with``. Thread-safe.

    It is a source of vectors for a vector index: call ``prepare`` before.
    """

    def __init__(self, store: Store) -> None:
        """Use ``open`` or ``create``."""
        self._store = store
        try:
            meta = self._meta()
            self.model: str = meta["model"]
            self.revision: str = meta["revision"]
            self.dimension = int(meta["dimension"])
            self.identity: str = meta["identity"]
        except (KeyError, ValueError) as error:
            store.close()
            raise store.corrupt(f"meta: {error}") from error
        self.version = 0
        """Of the catalog once these embeddings are in it; set by ``prepare``."""

    @classmethod
    def create(
        cls, path: Path, *, model: str, revision: str, dimension: int, identity: str
    ) -> Self:
        """Creates and opens the file. ``identity`` is the catalog's."""

        def fill(connection: sqlite3.Connection) -> None:
            meta = {
                "model": model,
                "revision": revision,
                "dimension": str(dimension),
                "identity": identity,
                "done": "0",
                "total": "0",
            }
            connection.executemany("INSERT INTO meta (name, value) VALUES (?, ?)", meta.items())

        create(path, NEW_EMBEDDINGS, fill)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Self:
        """Opens the file. LibraryError if it cannot be used."""
        return cls(Store(path, NEW_EMBEDDINGS, read_only=read_only))

    @staticmethod
    def delete(path: Path) -> None:
        """Deletes the file, if there is one."""
        delete(path)

    def close(self) -> None:
        """Closes every connection."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _meta(self) -> dict[str, Any]:
        with self._store.reading() as connection:
            return dict(connection.execute("SELECT name, value FROM meta").fetchall())

    @property
    def progress(self) -> tuple[int, int]:
        """Images that are encoded, and images in the library when that was last counted."""
        meta = self._meta()
        return int(meta["done"]), int(meta["total"])

    def versions(self) -> Ids:
        """``(n, 2) int64``: id and ``NewEmbedding.version`` of each image, by id."""
        with self._store.reading() as connection:
            return pairs_of(connection, "image_id", "version", "new_embeddings")

    def put(self, encoded: Sequence[NewEmbedding], *, done: int, total: int) -> None:
        """Stores embeddings, replacing those of the same images, and the progress."""
        blobs = embeddings.to_blobs([one.vector for one in encoded], self.dimension)
        with self._store.writing() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO new_embeddings (image_id, version, pixels_hash, vector)"
                " VALUES (?, ?, ?, ?)",
                [
                    (one.image, one.version, one.pixels_hash, blob)
                    for one, blob in zip(encoded, blobs, strict=True)
                ],
            )
            connection.executemany(
                "UPDATE meta SET value = ? WHERE name = ?",
                [(str(done), "done"), (str(total), "total")],
            )

    def prepare(self, outdated: Iterable[int], *, version: int) -> None:
        """Deletes the embeddings of the images ``outdated``; the others are those of ``version``
        of the catalog."""
        with self._store.writing() as connection:
            connection.execute(
                f"DELETE FROM new_embeddings WHERE image_id IN {LISTED}",
                [json.dumps([int(image) for image in outdated])],
            )
        self.version = version

    def rows(self) -> Iterator[tuple[int, bytes, str | None]]:
        """``(image id, stored vector, pixels hash)`` of each embedding, by id."""
        with self._store.reading(limited=False) as connection:
            yield from connection.execute(
                "SELECT image_id, vector, pixels_hash FROM new_embeddings ORDER BY image_id"
            )

    # as the source of a vector index --------------------------------------------------------------

    @property
    def count(self) -> int:
        """The number of embeddings."""
        with self._store.reading() as connection:
            return connection.execute("SELECT count(*) FROM new_embeddings").fetchone()[0]

    def blocks(
        self,
        size: int = 65_536,
        *,
        after_version: int | None = None,
        until_version: int | None = None,
    ) -> Iterator[tuple[Ids, Embeddings]]:
        """All embeddings in blocks of up to ``size``, by id: they are all of one version."""
        last = 0
        while True:
            with self._store.reading() as connection:
                rows = connection.execute(
                    "SELECT image_id, vector FROM new_embeddings WHERE image_id > ?"
                    " ORDER BY image_id LIMIT ?",
                    [last, size],
                ).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            ids = np.fromiter((row[0] for row in rows), np.int64, len(rows))
            yield ids, embeddings.from_blobs([row[1] for row in rows], self.dimension)

    def changes(self, after_version: int) -> Changes:
        """None."""
        empty = np.empty(0, np.int64)
        return Changes(empty, np.empty((0, self.dimension), np.float32), empty, self.version)

    def pending(self, after_version: int) -> int:
        """0."""
        return 0
