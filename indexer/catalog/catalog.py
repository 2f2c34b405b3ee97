"""The catalog: one SQLite file with a library's images, their metadata and their embeddings.

SQLite is the source of truth: the vector index and the thumbnails can be rebuilt from it, so that
its transactions alone make ``kill -9`` harmless.

    with Catalog.create(path, model="laion-b32", revision="..", dimension=512) as catalog:
        root = catalog.add_root(Path("/home/ana/Pictures"))
        catalog.write(root, images=[NewImage(candidate, photo, vector)])
        catalog.select(Filters((Condition("in", "Holidays"),)))      # ids
        catalog.vectors(ids)                                          # (n, d) float32

``reader`` holds every query, this module every change. Below them are ``image_rows`` (images),
``embeddings`` (vectors), ``filters`` (conditions -> SQL), ``full_text`` (FTS5), ``facets`` (counts,
dates), ``kept`` (saved searches, collections), ``check`` (doctor), ``migrations`` (tables) and
``store`` (the file). ``docs/catalog.md`` documents every table.

*Version.* Each commit that changes embeddings increments ``version``; the rows it writes and the
tombstones of the images it deletes carry that number. ``changes(version)`` brings an index of an
earlier version up to date. Ids are never reused; an image that is encoded again keeps its id.

*Threads.* Thread-safe: readers borrow a connection each, writers wait for each other.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from sightline.indexer.catalog import check, embeddings, full_text, image_rows, migrations
from sightline.indexer.catalog.check import Problem
from sightline.indexer.catalog.filters import prepare
from sightline.indexer.catalog.new_embeddings import NewEmbeddings
from sightline.indexer.catalog.reader import RUN_COUNTS, CatalogReader
from sightline.indexer.catalog.store import FileKind, Store, create
from sightline.indexer.errors import LibraryError
from sightline.indexer.types import (
    Candidate,
    Failure,
    Ids,
    Int8Check,
    Location,
    NewImage,
    PhotoInfo,
    Root,
    TextLine,
)

CATALOG = FileKind(
    name="a Sightline library",
    application_id=0x53474C43,  # "SGLC"
    migrations=migrations.catalog,
    remedy=(
        "`sightline doctor` says what can be saved; or restore it from a copy, or delete the"
        " library and index the folders again"
    ),
)


REPLACED_BATCH = 10_000
"""Embeddings replaced between two reports of progress."""


@dataclass(frozen=True)
class WriteResult:
    """What one ``Catalog.write`` changes; also passed to ``before_commit``."""

    images: tuple[int, ...]
    """The ids of the ``images`` given, in their order."""
    copied: tuple[tuple[int, int], ...]
    """``(new id, id of the image it is a copy of)``, in the order given."""
    removed: tuple[int, ...]
    """Images that were deleted, on request or because another image now has their path."""
    version: int


class Catalog(CatalogReader):
    """An open catalog for reading and writing. Close it, or use it in a ``with``."""

    @classmethod
    def create(cls, path: Path, *, model: str, revision: str, dimension: int) -> Self:
        """Creates and opens a catalog, bound to one model. LibraryError if the file exists."""

        def fill(connection: sqlite3.Connection) -> None:
            meta = {
                "model": model,
                "revision": revision,
                "dimension": str(dimension),
                "identity": uuid.uuid4().hex,
                "created_at": image_rows.now(),
                "version": "0",
            }
            connection.executemany("INSERT INTO meta (name, value) VALUES (?, ?)", meta.items())

        create(path, CATALOG, fill)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Self:
        """Opens a catalog, and migrates one of an earlier version.

        LibraryError for a file that is missing, another program's, written by a newer Sightline,
        truncated or corrupt; the file stays unchanged. ``read_only`` works on a read-only disk.
        """
        store = Store(path, CATALOG, read_only=read_only, prepare=prepare)
        try:
            return cls(store)
        except BaseException:
            store.close()
            raise

    # roots ----------------------------------------------------------------------------------------

    def add_root(self, path: Path, *, named: bool = False) -> Root:
        """The root at the absolute ``path``; added if it is new. ``named`` records that the user
        named it."""
        for root in self.roots():
            if root.path == path and root.named >= named:
                return root
        text = self._root_path(path)
        with self._store.writing() as connection:
            connection.execute(
                "INSERT INTO roots (path, added_at, named) VALUES (?, ?, ?)"
                " ON CONFLICT (path) DO UPDATE SET named = max(named, excluded.named)",
                [text, image_rows.now(), int(named)],
            )
            sql = "SELECT id, named FROM roots WHERE path = ?"
            id, known = connection.execute(sql, [text]).fetchone()
            return Root(id, path, known == 1)

    def move_root(self, old: Path, new: Path) -> Root:
        """Changes the path of the root ``old`` to ``new``. Nothing is encoded again."""
        text = self._root_path(new)
        with self._store.writing() as connection:
            root = self._root_at(connection, old)
            sql = "SELECT 1 FROM roots WHERE path = ? AND id <> ?"
            if connection.execute(sql, [text, root]).fetchone():
                raise LibraryError(f"{new} is a folder of this library already")
            connection.execute("UPDATE roots SET path = ?, named = 1 WHERE id = ?", [text, root])
            # A copy of a file has another inode and ctime.
            connection.execute(
                "UPDATE images SET ctime_ns = NULL, inode = NULL WHERE folder_id IN"
                " (SELECT id FROM folders WHERE root_id = ?)",
                [root],
            )
            connection.execute("UPDATE failures SET ctime_ns = NULL WHERE root_id = ?", [root])
            if old.name != new.name:
                sql = (
                    "SELECT images.id FROM images JOIN folders ON folders.id = images.folder_id"
                    " WHERE folders.root_id = ?"
                )
                full_text.write(connection, [image for (image,) in connection.execute(sql, [root])])
        return Root(root, new, named=True)

    def remove_root(self, path: Path) -> Ids:
        """Deletes a root with its images and failures; returns the ids of the images."""
        with self._store.writing() as connection:
            root = self._root_at(connection, path)
            sql = (
                "SELECT images.id FROM images JOIN folders ON folders.id = images.folder_id"
                " WHERE folders.root_id = ?"
            )
            ids = [image for (image,) in connection.execute(sql, [root])]
            if ids:
                image_rows.remove(connection, json.dumps(ids), self._next_version(connection))
            connection.execute("DELETE FROM folders WHERE root_id = ?", [root])
            connection.execute("DELETE FROM failures WHERE root_id = ?", [root])
            connection.execute("DELETE FROM roots WHERE id = ?", [root])
        return np.array(ids, np.int64)

    def _root_path(self, path: Path) -> str:
        if not path.is_absolute():
            raise LibraryError(f"{path} is not an absolute path")
        text = str(path)
        if image_rows.storable(text) != text:
            raise LibraryError(
                f"{image_rows.storable(text)} has a name that is not UTF-8: rename it"
            )
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
        decoded: Iterable[int] = (),
        described: Sequence[tuple[int, Candidate, PhotoInfo]] = (),
        before_commit: Callable[[WriteResult], None] | None = None,
    ) -> WriteResult:
        """Writes what a run found under ``root``, in one transaction.

        - ``images``: new ones, or changed ones, which name their id and keep it; without a vector
          a changed one keeps its embedding and labels
        - ``moved``: ids with their new files
        - ``copied``: ids with further files of the same content
        - ``touched``: ids with files of a new date and the same content
        - ``decoded``: ids of imported images whose files have been decoded now
        - ``described``: ids whose files have not changed, with metadata that has
        - ``failed``: files that could not be read; an existing image of such a file stays
        - ``removed``: ids to delete

        An image whose path another image now has is deleted. Failures of files that could be read
        are deleted.

        ``before_commit`` is called inside the transaction, to write thumbnails. A crash between
        the two leaves thumbnails without an image, never an image without one. If it raises,
        everything is rolled back.

        Raises LibraryError for a vector of another dimension or with non-finite values, and for a
        full disk.
        """
        vectors = [image.vector for image in images if image.vector is not None]
        blobs = embeddings.to_blobs(vectors, self.dimension)
        with self._store.writing() as connection:
            self._require_model(connection)
            folders = image_rows.Folders(connection, root.id)
            ids = image_rows.known_as(connection, folders, images)
            arriving = [
                *moved,
                *((i or 0, image.candidate) for i, image in zip(ids, images, strict=True)),
                *((0, candidate) for _, candidate in copied),
            ]
            leaving = {*removed, *image_rows.in_the_way(connection, folders, arriving)}
            changes_vectors = bool(vectors or copied or leaving)
            version = (self._next_version if changes_vectors else self._this_version)(connection)
            gone = image_rows.remove(connection, json.dumps([int(i) for i in leaving]), version)
            ids = [None if i in leaving else i for i in ids]
            first = image_rows.next_id(connection)
            fresh = iter(range(first, first + len(images) + len(copied)))
            new: list[tuple[int, NewImage]] = []
            old: list[tuple[int, NewImage]] = []
            for i, image in zip(ids, images, strict=True):
                if i is None and image.vector is None:
                    raise LibraryError(f"{image.candidate.path} is new and has no embedding")
                (new if i is None else old).append((next(fresh) if i is None else i, image))
            image_rows.move(connection, folders, [*moved, *touched])
            connection.executemany(
                "UPDATE images SET decoded = 1 WHERE id = ?", [(i,) for i in decoded]
            )
            image_rows.describe(connection, described)
            image_rows.update(connection, folders, old)
            image_rows.insert(connection, folders, new)
            fresh_ids = iter([i for i, _ in new])
            final = tuple(next(fresh_ids) if i is None else i for i in ids)
            encoded = [
                i for i, image in zip(final, images, strict=True) if image.vector is not None
            ]
            connection.executemany(
                "INSERT OR REPLACE INTO embeddings (image_id, vector, version) VALUES (?, ?, ?)",
                [(i, blob, version) for i, blob in zip(encoded, blobs, strict=True)],
            )
            copies = [(next(fresh), i, candidate) for i, candidate in copied]
            image_rows.copy(connection, folders, copies, version)
            full_text.write(
                connection,
                [
                    *final,
                    *(i for i, _ in moved),
                    *(new for new, _, _ in copies),
                    *(i for i, _, _ in described),
                ],
            )
            if gone or moved:
                image_rows.sweep_folders(connection)
            readable = [candidate.path for _, candidate in (*arriving, *touched)]
            image_rows.forget_failures(connection, root.id, readable)
            image_rows.write_failures(connection, root.id, failed)
            written = WriteResult(
                final, tuple((new, old) for new, old, _ in copies), tuple(gone), version
            )
            if before_commit is not None:
                before_commit(written)
        return written

    def replace_embeddings(
        self,
        new: NewEmbeddings,
        *,
        unreadable: Mapping[int, str],
        progress: Callable[[int], None],
    ) -> None:
        """Replaces every embedding by that in ``new``, and the model by that of ``new``, in one
        transaction: then this catalog must be closed and opened again.

        ``unreadable`` are images without a new embedding, and why. They stay without one: their
        files count as never read, so that the next run reads them. Nothing else changes.
        ``progress`` is called with the number of images written, inside the transaction.
        """

        def rows() -> Iterator[tuple[int, bytes, int]]:
            for number, (image, vector, _) in enumerate(new.rows(), 1):
                yield image, vector, version
                if number % REPLACED_BATCH == 0:
                    progress(number)

        with self._store.writing() as connection:
            version = self._next_version(connection)
            if version != new.version:
                raise LibraryError("the library changed meanwhile: run the command again")
            connection.execute("DELETE FROM embeddings")
            connection.executemany(
                "INSERT INTO embeddings (image_id, vector, version) VALUES (?, ?, ?)", rows()
            )
            connection.executemany(
                "UPDATE images SET pixels_hash = ? WHERE id = ?",
                ((pixels_hash, image) for image, _, pixels_hash in new.rows()),
            )
            image_rows.mark_unread(connection, unreadable)
            connection.executemany(
                "UPDATE meta SET value = ? WHERE name = ?",
                [
                    (new.model, "model"),
                    (new.revision, "revision"),
                    (str(new.dimension), "dimension"),
                ],
            )
            progress(new.count)

    def stamp_files(self, files: Sequence[tuple[int, Candidate]]) -> None:
        """Stores the ctime and the inode of the files of images that are otherwise unchanged."""
        with self._store.writing() as connection:
            connection.executemany(
                "UPDATE images SET ctime_ns = ?, inode = ? WHERE id = ?",
                [(file.ctime_ns, file.inode, image) for image, file in files],
            )

    def remove(self, ids: Iterable[int]) -> Ids:
        """Deletes images, and returns the ids of those that existed."""
        listed = json.dumps([int(i) for i in ids])
        with self._store.writing() as connection:
            gone = image_rows.remove(connection, listed, self._this_version(connection) + 1)
            if gone:
                self._next_version(connection)
                image_rows.sweep_folders(connection)
        return np.array(gone, np.int64)

    def forget_failures(self, root: Root, paths: Sequence[str]) -> None:
        """Deletes the failures of files that no longer exist."""
        with self._store.writing() as connection:
            image_rows.forget_failures(connection, root.id, paths)

    def _next_version(self, connection: Any) -> int:
        version = self._this_version(connection) + 1
        connection.execute("UPDATE meta SET value = ? WHERE name = 'version'", [str(version)])
        return version

    # runs -----------------------------------------------------------------------------------------

    def start_run(self, folders: Sequence[str]) -> int:
        """Records the start of a run over ``folders``; returns the run's id."""
        with self._store.writing() as connection:
            row = connection.execute(
                "INSERT INTO runs (started_at, folders) VALUES (?, ?)",
                [image_rows.now(), json.dumps([image_rows.storable(folder) for folder in folders])],
            ).lastrowid
        assert row is not None
        return row

    def update_run(self, run: int, counts: Mapping[str, int], *, total: int | None = None) -> None:
        """Records the progress of a run. ``counts`` are those of ``RUN_COUNTS``."""
        with self._store.writing() as connection:
            self._write_run(connection, run, {**counts, "total": total})

    def finish_run(self, run: int, counts: Mapping[str, int]) -> None:
        """Records the end of a run, and updates SQLite's statistics."""
        with self._store.writing() as connection:
            self._write_run(connection, run, counts)
            connection.execute(
                "UPDATE runs SET finished_at = ? WHERE id = ?", [image_rows.now(), run]
            )
        self._store.analyze()

    @staticmethod
    def _write_run(connection: Any, run: int, counts: Mapping[str, int | None]) -> None:
        for name in (*RUN_COUNTS, "total"):
            if counts.get(name) is not None:
                connection.execute(f"UPDATE runs SET {name} = ? WHERE id = ?", [counts[name], run])

    # text in images -------------------------------------------------------------------------------

    def write_texts(self, read: Sequence[tuple[int, Sequence[TextLine]]], *, engine: str) -> None:
        """Stores the lines that ``engine`` read in each image; none is a result too. Ids that no
        longer exist are ignored."""
        with self._store.writing() as connection:
            full_text.write(connection, image_rows.write_texts(connection, read, engine))

    def set_reads_text(self, on: bool) -> None:
        """Whether indexing runs read the text in images."""
        with self._store.writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO meta (name, value) VALUES ('reads_text', ?)", [str(int(on))]
            )

    def set_int8_check(self, check: Int8Check, *, model: str, revision: str) -> None:
        """Stores how ``model`` in int8 compares with float32 on the library's images."""
        text = json.dumps({"model": model, "revision": revision, **asdict(check)})
        with self._store.writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO meta (name, value) VALUES ('int8_check', ?)", [text]
            )

    # places ---------------------------------------------------------------------------------------

    def write_locations(self, found: Sequence[tuple[int, Location | None]]) -> None:
        """Stores the place of each image, or that there is none."""
        with self._store.writing() as connection:
            image_rows.write_locations(connection, found)
            full_text.write(connection, [i for i, place in found if place is not None])

    # labels ---------------------------------------------------------------------------------------

    def write_labels(
        self,
        scores: Iterable[tuple[int, str, float]],
        *,
        replace: Iterable[str] = (),
        among: Ids | None = None,
    ) -> None:
        """Stores ``(id, label, score)``. Labels in ``replace`` are first deleted from every image,
        or from the ids ``among``. Ids that no longer exist are ignored."""
        listed = None if among is None else json.dumps([int(i) for i in among])
        with self._store.writing() as connection:
            self._require_model(connection)
            connection.executemany(
                "DELETE FROM labels WHERE folded = ?1"
                f" AND (?2 IS NULL OR image_id IN {image_rows.LISTED.replace('?', '?2')})",
                [(full_text.fold(name), listed) for name in replace],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO labels (image_id, label, folded, score)"
                " SELECT id, ?, ?, ? FROM images WHERE id = ?",
                (
                    (
                        image_rows.storable(label),
                        full_text.fold(image_rows.storable(label)),
                        float(score),
                        int(i),
                    )
                    for i, label, score in scores
                ),
            )

    # doctor ---------------------------------------------------------------------------------------

    def repair(self) -> list[Problem]:
        """Repairs what ``check`` calls repairable, except thumbnails; returns what was done."""
        return check.repair(self._store, self.dimension)
