"""The catalog: what a library knows of its pictures, their vectors among it, in one SQLite file.

SQLite is the truth. Everything else (the vector index, thumbnails) can be made again from it or
swept against it, so it is the catalog's transactions that make ``kill -9`` harmless.

    with Catalog.create(path, model="laion-b32", revision="..", dimension=512) as catalog:
        root = catalog.add_root(Path("/home/ana/Pictures"))
        catalog.write(root, images=[NewImage(candidate, photo, vector)])
        catalog.select(Filters((Condition("in", "Holidays"),)))      # ids
        catalog.vectors(ids)                                          # (n, d) float32

The neighbours of this module hold a part each: ``catalog_reader`` (every question),
``catalog_rows`` (images), ``catalog_vectors`` (embeddings), ``catalog_filters`` (conditions ->
SQL), ``catalog_words`` (full text), ``catalog_facets`` (names with counts, dates),
``catalog_check`` (doctor), ``migrations`` (tables), ``database`` (the file). Sqlite is in these,
and in ``thumbnails``, alone. ``docs/catalog.md`` describes every table.

*Version.* Each commit that changes vectors counts ``version`` up by one; the rows it writes and the
tombstones of those it removes carry the number. An index that holds everything up to a version is
brought up to date by ``changes(version)``. Ids are never given out twice; an image that is encoded
again keeps its id.

*Threads.* Any thread may call anything. Readers each borrow a connection of their own; writers wait
for one another.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from sightline.indexer.catalog import check as checks
from sightline.indexer.catalog import embeddings as stored
from sightline.indexer.catalog import full_text as words
from sightline.indexer.catalog import images as rows
from sightline.indexer.catalog import migrations
from sightline.indexer.catalog.check import Problem
from sightline.indexer.catalog.embeddings import Changes
from sightline.indexer.catalog.facets import Months, Suggestion
from sightline.indexer.catalog.filters import prepare
from sightline.indexer.catalog.reader import RUN_COUNTS, CatalogReader, Run
from sightline.indexer.catalog.sqlite import Database
from sightline.indexer.catalog.store import Kind, Store, create
from sightline.indexer.errors import LibraryError
from sightline.indexer.types import Candidate, Failure, Ids, NewImage, Root

__all__ = ["Catalog", "Changes", "Months", "Problem", "Run", "Suggestion", "Written"]

CATALOG = Kind(
    name="a Sightline library",
    application_id=0x53474C43,  # "SGLC"
    migrations=migrations.catalog,
    remedy=(
        "`sightline doctor` says what can be saved; or restore it from a copy, or delete the"
        " library and index the folders again"
    ),
)


@dataclass(frozen=True)
class Written:
    """What one ``Catalog.write`` does, told before it is committed."""

    images: tuple[int, ...]
    """The ids of the ``images`` given, in their order."""
    copied: tuple[tuple[int, int], ...]
    """``(new id, id of the image it is a copy of)``, in the order given."""
    removed: tuple[int, ...]
    """What was removed, or was in the way of something that lies there now."""
    version: int


class Catalog(CatalogReader):
    """An open catalog: ``CatalogReader`` and the writing. Close it, or use it in a ``with``."""

    @classmethod
    def create(cls, path: Path, *, model: str, revision: str, dimension: int) -> Self:
        """Makes a new catalog, bound to one model, and opens it. LibraryError when there is one."""

        def fill(database: Database) -> None:
            meta = {
                "model": model,
                "revision": revision,
                "dimension": str(dimension),
                "identity": uuid.uuid4().hex,
                "created_at": rows.now(),
                "version": "0",
            }
            database["meta"].insert_all({"name": k, "value": v} for k, v in meta.items())

        create(path, CATALOG, fill)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Self:
        """Opens a catalog, and brings one of an earlier version up to date.

        LibraryError for a file that is missing, another program's, a newer Sightline's, cut short
        or damaged; the file stays as it was. ``read_only`` works on a read-only disk too.
        """
        store = Store(path, CATALOG, read_only=read_only, prepare=prepare)
        try:
            return cls(store)
        except BaseException:
            store.close()
            raise

    # roots ----------------------------------------------------------------------------------------

    def add_root(self, path: Path) -> Root:
        """The root at the absolute ``path``, new or as it was."""
        text = self._root_path(path)
        for root in self.roots():
            if root.path == path:
                return root
        with self._store.writing() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO roots (path, added_at) VALUES (?, ?)", [text, rows.now()]
            )
            sql = "SELECT id FROM roots WHERE path = ?"
            return Root(connection.execute(sql, [text]).fetchone()[0], path)

    def move_root(self, old: Path, new: Path) -> Root:
        """Says that the folder ``old`` is at ``new`` now. Nothing is encoded again."""
        text = self._root_path(new)
        with self._store.writing() as connection:
            root = self._root_at(connection, old)
            sql = "SELECT 1 FROM roots WHERE path = ? AND id <> ?"
            if connection.execute(sql, [text, root]).fetchone():
                raise LibraryError(f"{new} is a folder of this library already")
            connection.execute("UPDATE roots SET path = ? WHERE id = ?", [text, root])
            if old.name != new.name:
                sql = (
                    "SELECT images.id FROM images JOIN folders ON folders.id = images.folder_id"
                    " WHERE folders.root_id = ?"
                )
                words.write(connection, [image for (image,) in connection.execute(sql, [root])])
        return Root(root, new)

    def remove_root(self, path: Path) -> Ids:
        """Forgets a root and all that was found under it; the ids of its images are returned."""
        with self._store.writing() as connection:
            root = self._root_at(connection, path)
            sql = (
                "SELECT images.id FROM images JOIN folders ON folders.id = images.folder_id"
                " WHERE folders.root_id = ?"
            )
            ids = [image for (image,) in connection.execute(sql, [root])]
            if ids:
                rows.remove(connection, json.dumps(ids), self._next_version(connection))
            connection.execute("DELETE FROM folders WHERE root_id = ?", [root])
            connection.execute("DELETE FROM failures WHERE root_id = ?", [root])
            connection.execute("DELETE FROM roots WHERE id = ?", [root])
        return np.array(ids, np.int64)

    def _root_path(self, path: Path) -> str:
        if not path.is_absolute():
            raise LibraryError(f"{path} is not an absolute path")
        text = str(path)
        if rows.storable(text) != text:
            raise LibraryError(f"{rows.storable(text)} has a name that is not UTF-8: rename it")
        return text

    def _root_at(self, connection: Any, path: Path) -> int:
        row = connection.execute("SELECT id FROM roots WHERE path = ?", [str(path)]).fetchone()
        if row is None:
            raise LibraryError(f"{path} is not a folder of this library: see `sightline roots`")
        return row[0]

    # images ---------------------------------------------------------------------------------------

    def write(
        self,
        root: Root,
        *,
        images: Sequence[NewImage] = (),
        moved: Sequence[tuple[int, Candidate]] = (),
        copied: Sequence[tuple[int, Candidate]] = (),
        failed: Sequence[Failure] = (),
        removed: Iterable[int] = (),
        touched: Sequence[tuple[int, Candidate]] = (),
        before_commit: Callable[[Written], None] | None = None,
    ) -> Written:
        """Writes what a run found under ``root``, all of it or nothing.

        ``images`` are new, or changed when they name an id (which they keep). ``moved`` are images
        with the files they are now, ``copied`` images with further files of the same bytes,
        ``touched`` images whose files have another date and the same bytes, ``failed`` the files
        that could not be read (an image at such a path stays unless it is in ``removed``). What
        can be read now is taken off the failures. An image at a path where another is now goes.

        ``before_commit`` is called inside the transaction with the ids: there thumbnails are
        written. A crash between the two leaves thumbnails without an image, which the next image
        of that id overwrites; never an image without one. An error in it undoes everything.

        LibraryError for a vector that is not finite, or of another dimension; for a full disk.
        """
        blobs = stored.to_blobs([image.vector for image in images], self.dimension)
        with self._store.writing() as connection:
            folders = rows.Folders(connection, root.id)
            ids = rows.known_as(connection, folders, images)
            arriving = [
                *moved,
                *((i or 0, image.candidate) for i, image in zip(ids, images, strict=True)),
                *((0, candidate) for _, candidate in copied),
            ]
            leaving = {*removed, *rows.in_the_way(connection, folders, arriving)}
            changes_vectors = bool(images or copied or leaving)
            version = (self._next_version if changes_vectors else self._this_version)(connection)
            gone = rows.remove(connection, json.dumps([int(i) for i in leaving]), version)
            ids = [None if i in leaving else i for i in ids]
            first = rows.next_id(connection)
            fresh = iter(range(first, first + len(images) + len(copied)))
            new: list[tuple[int, NewImage]] = []
            old: list[tuple[int, NewImage]] = []
            for i, image in zip(ids, images, strict=True):
                (new if i is None else old).append((next(fresh) if i is None else i, image))
            rows.move(connection, folders, [*moved, *touched])
            rows.update(connection, folders, old)
            rows.insert(connection, folders, new)
            fresh_ids = iter([i for i, _ in new])
            final = tuple(next(fresh_ids) if i is None else i for i in ids)
            connection.executemany(
                "INSERT OR REPLACE INTO embeddings (image_id, vector, version) VALUES (?, ?, ?)",
                [(i, blob, version) for i, blob in zip(final, blobs, strict=True)],
            )
            copies = [(next(fresh), i, candidate) for i, candidate in copied]
            rows.copy(connection, folders, copies, version)
            words.write(
                connection, [*final, *(i for i, _ in moved), *(new for new, _, _ in copies)]
            )
            if gone or moved:
                rows.sweep_folders(connection)
            readable = [candidate.path for _, candidate in (*arriving, *touched)]
            rows.forget_failures(connection, root.id, readable)
            rows.write_failures(connection, root.id, failed)
            written = Written(
                final, tuple((new, old) for new, old, _ in copies), tuple(gone), version
            )
            if before_commit is not None:
                before_commit(written)
        return written

    def remove(self, ids: Iterable[int]) -> Ids:
        """Removes images, and returns the ids of those that were there."""
        listed = json.dumps([int(i) for i in ids])
        with self._store.writing() as connection:
            gone = rows.remove(connection, listed, self._this_version(connection) + 1)
            if gone:
                self._next_version(connection)
                rows.sweep_folders(connection)
        return np.array(gone, np.int64)

    def forget_failures(self, root: Root, paths: Sequence[str]) -> None:
        """Takes files off the failures: those that are gone."""
        with self._store.writing() as connection:
            rows.forget_failures(connection, root.id, paths)

    def _next_version(self, connection: Any) -> int:
        version = self._this_version(connection) + 1
        connection.execute("UPDATE meta SET value = ? WHERE name = 'version'", [str(version)])
        return version

    # runs -----------------------------------------------------------------------------------------

    def start_run(self, folders: Sequence[str]) -> int:
        """Writes down that a run over ``folders`` begins; the number of the run."""
        with self._store.writing() as connection:
            row = connection.execute(
                "INSERT INTO runs (started_at, folders) VALUES (?, ?)",
                [rows.now(), json.dumps([rows.storable(folder) for folder in folders])],
            ).lastrowid
        assert row is not None
        return row

    def update_run(self, run: int, counts: Mapping[str, int], *, total: int | None = None) -> None:
        """Writes down how far a run is. Of ``counts`` the names that ``runs`` has are kept."""
        with self._store.writing() as connection:
            self._write_run(connection, run, {**counts, "total": total})

    def finish_run(self, run: int, counts: Mapping[str, int]) -> None:
        """Writes down how a run ended, and tidies the file."""
        with self._store.writing() as connection:
            self._write_run(connection, run, counts)
            connection.execute("UPDATE runs SET finished_at = ? WHERE id = ?", [rows.now(), run])
        self._store.tidy()

    @staticmethod
    def _write_run(connection: Any, run: int, counts: Mapping[str, int | None]) -> None:
        for name in (*RUN_COUNTS, "total"):
            if counts.get(name) is not None:
                connection.execute(f"UPDATE runs SET {name} = ? WHERE id = ?", [counts[name], run])

    # labels ---------------------------------------------------------------------------------------

    def write_labels(
        self,
        scores: Iterable[tuple[int, str, float]],
        *,
        replace: Iterable[str] = (),
        among: Ids | None = None,
    ) -> None:
        """Keeps ``(id, label, score)``. Labels in ``replace`` are first taken off every image, or
        off those ``among`` the ids given. Images that are gone by now are passed over."""
        listed = None if among is None else json.dumps([int(i) for i in among])
        with self._store.writing() as connection:
            connection.executemany(
                "DELETE FROM labels WHERE folded = ?1"
                f" AND (?2 IS NULL OR image_id IN {rows.LISTED.replace('?', '?2')})",
                [(words.fold(name), listed) for name in replace],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO labels (image_id, label, folded, score)"
                " SELECT id, ?, ?, ? FROM images WHERE id = ?",
                (
                    (rows.storable(label), words.fold(rows.storable(label)), float(score), int(i))
                    for i, label, score in scores
                ),
            )

    # doctor ---------------------------------------------------------------------------------------

    def repair(self) -> list[str]:
        """Puts right what ``check`` calls repairable, and says what was done."""
        return checks.repair(self._store, self.dimension)
