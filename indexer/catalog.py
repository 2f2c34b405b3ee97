"""The catalog: what a library knows of its pictures, their vectors among it, in one SQLite file.

SQLite is the truth. Everything else (the vector index, thumbnails) can be made again from it or
swept against it, so it is the catalog's transactions that make ``kill -9`` harmless.

    with Catalog.create(path, model="laion-b32", revision="..", dimension=512) as catalog:
        root = catalog.add_root(Path("/home/ana/Pictures"))
        catalog.write(root, images=[NewImage(candidate, photo, vector)])
        catalog.select(Filters((Condition("in", "Holidays"),)))      # ids
        catalog.vectors(ids)                                          # (n, d) float32

The neighbours of this module hold a part each: ``catalog_rows`` (images), ``catalog_vectors``
(embeddings), ``catalog_filters`` (conditions -> SQL), ``catalog_words`` (full text),
``catalog_facets`` (names with counts, dates), ``catalog_check`` (doctor), ``migrations`` (tables),
``database`` (the file). Sqlite is in these, and in ``thumbnails``, alone. ``docs/catalog.md``
describes every table.

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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from sqlite_utils import Database

from indexer import catalog_check as checks
from indexer import catalog_facets as facets
from indexer import catalog_rows as rows
from indexer import catalog_vectors as stored
from indexer import catalog_words as words
from indexer import migrations
from indexer.catalog_check import Problem
from indexer.catalog_facets import Months, Suggestion
from indexer.catalog_filters import prepare, where
from indexer.catalog_vectors import Changes
from indexer.database import Kind, Store, create, ids_of
from indexer.errors import LibraryError
from indexer.types import (
    Candidate,
    Embeddings,
    Failure,
    Filters,
    Ids,
    ImageRecord,
    Known,
    NewImage,
    Root,
)

CATALOG = Kind(
    name="a Sightline library",
    application_id=0x53474C43,  # "SGLC"
    migrations=migrations.catalog,
    remedy=(
        "`sightline doctor` says what can be saved; or restore it from a copy, or delete the"
        " library and index the folders again"
    ),
)

FEW = 5_000
"""Up to so many ids a question goes to SQLite with the ids; beyond, to arrays kept in memory."""

_T = TypeVar("_T")


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


@dataclass(frozen=True)
class Run:
    """One indexing run as it was written down."""

    id: int
    started_at: datetime
    """UTC, without a zone; so is ``finished_at``, None for a run that was killed or still runs."""
    finished_at: datetime | None
    folders: tuple[str, ...]
    counts: Mapping[str, int]


class Catalog:
    """An open catalog. Close it, or use it as a context manager."""

    def __init__(self, store: Store) -> None:
        """Use ``Catalog.open`` or ``Catalog.create``."""
        self._store = store
        self._cache: dict[object, tuple[int, Any]] = {}
        self._last_look = store.stamp()
        with store.reading() as connection:
            meta = dict(connection.execute("SELECT name, value FROM meta").fetchall())
        try:
            self.model: str = meta["model"]
            self.revision: str = meta["revision"]
            self.dimension = int(meta["dimension"])
            self.identity: str = meta["identity"]
        except (KeyError, ValueError) as error:
            raise LibraryError(f"{store.path} is damaged (no {error}): {CATALOG.remedy}") from error

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

    def close(self) -> None:
        """Closes every connection."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # about itself ---------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """The file."""
        return self._store.path

    @property
    def note(self) -> str | None:
        """What a person should know about how it was opened: as it lies on a read-only disk."""
        return self._store.note

    @property
    def version(self) -> int:
        """Counts the commits that changed vectors; some ten microseconds."""
        return int(self._one("SELECT value FROM meta WHERE name = 'version'"))

    @property
    def count(self) -> int:
        """How many images there are."""
        return self._kept("count", lambda: self._one("SELECT count(*) FROM images"))

    def changed_since_last_look(self) -> bool:
        """Whether anybody has committed anything since this was last asked (or opened)."""
        stamp = self._store.stamp()
        changed, self._last_look = stamp != self._last_look, stamp
        return changed

    def _one(self, sql: str, parameters: Sequence = ()) -> Any:
        with self._store.reading() as connection:
            row = connection.execute(sql, parameters).fetchone()
        return row[0] if row else None

    def _kept(self, key: object, compute: Callable[[], _T]) -> _T:
        """``compute()``, remembered until anything is committed."""
        stamp = self._store.stamp()
        kept = self._cache.get(key)
        if kept is None or kept[0] != stamp:
            kept = self._cache[key] = (stamp, compute())
        return kept[1]

    # roots ----------------------------------------------------------------------------------------

    def roots(self) -> list[Root]:
        """The folders that were indexed, by path."""
        with self._store.reading() as connection:
            found = connection.execute("SELECT id, path FROM roots ORDER BY path").fetchall()
        return [Root(root, Path(path)) for root, path in found]

    def root_counts(self) -> dict[int, int]:
        """How many images each root has, by the root's id."""

        def compute() -> dict[int, int]:
            with self._store.reading() as connection:
                sql = (
                    "SELECT roots.id, count(images.id) FROM roots"
                    " LEFT JOIN folders ON folders.root_id = roots.id"
                    " LEFT JOIN images ON images.folder_id = folders.id GROUP BY roots.id"
                )
                return dict(connection.execute(sql).fetchall())

        return self._kept("root_counts", compute)

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

    # what a run asks ------------------------------------------------------------------------------

    def known(self, root: Root) -> dict[str, Known]:
        """Every image of ``root`` by its path."""
        with self._store.snapshot() as connection:
            folders = connection.execute(
                "SELECT id, iif(path = '', '', path || '/') FROM folders WHERE root_id = ?",
                [root.id],
            ).fetchall()
            prefix = dict(folders)
            images = connection.execute(
                "SELECT id, folder_id, name, size, mtime_ns FROM images"
                f" WHERE folder_id IN {rows.LISTED}",
                [json.dumps(list(prefix))],
            )
            known = {}
            for image, folder, name, size, mtime_ns in images:
                path = prefix[folder] + name
                known[path] = Known(image, path, size, mtime_ns)
        return known

    def failed(self, root: Root) -> dict[str, tuple[int, int]]:
        """``(size, mtime_ns)`` of the files of ``root`` that could not be read, by path."""
        with self._store.reading() as connection:
            found = connection.execute(
                "SELECT path, size, mtime_ns FROM failures WHERE root_id = ?", [root.id]
            )
            return {path: (size, mtime_ns) for path, size, mtime_ns in found}

    def known_sizes(self, sizes: Collection[int]) -> set[int]:
        """Those of ``sizes`` that some image's file has."""

        def compute() -> set[int]:
            with self._store.reading() as connection:
                return {size for (size,) in connection.execute("SELECT DISTINCT size FROM images")}

        return self._kept("sizes", compute).intersection(sizes)

    def with_hash(self, content_hash: str) -> list[ImageRecord]:
        """The images whose files have these bytes, by id."""
        with self._store.reading() as connection:
            return list(rows.records(connection, "content_hash = ?", [content_hash]).values())

    # writing --------------------------------------------------------------------------------------

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
        return np.array(gone, np.int64)

    def forget_failures(self, root: Root, paths: Sequence[str]) -> None:
        """Takes files off the failures: those that are gone."""
        with self._store.writing() as connection:
            rows.forget_failures(connection, root.id, paths)

    @staticmethod
    def _this_version(connection: Any) -> int:
        sql = "SELECT value FROM meta WHERE name = 'version'"
        return int(connection.execute(sql).fetchone()[0])

    @classmethod
    def _next_version(cls, connection: Any) -> int:
        version = cls._this_version(connection) + 1
        connection.execute("UPDATE meta SET value = ? WHERE name = 'version'", [str(version)])
        return version

    # failures and runs ----------------------------------------------------------------------------

    def failures(self, root: Root | None = None) -> list[Failure]:
        """The files that could not be read (of one root), by path."""
        with self._store.reading() as connection:
            found = connection.execute(
                "SELECT roots.path, failures.path, size, mtime_ns, reason"
                " FROM failures JOIN roots ON roots.id = failures.root_id"
                " WHERE ?1 IS NULL OR root_id = ?1 ORDER BY roots.path, failures.path",
                [root.id if root else None],
            )
            return [Failure(*row) for row in found]

    @property
    def failure_count(self) -> int:
        """How many files could not be read."""
        return self._one("SELECT count(*) FROM failures")

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

    def runs(self, n: int = 20) -> list[Run]:
        """The last ``n`` runs, newest first."""
        with self._store.reading() as connection:
            found = connection.execute(
                f"SELECT id, started_at, finished_at, folders, {', '.join(RUN_COUNTS)}"
                " FROM runs ORDER BY id DESC LIMIT ?",
                [n],
            ).fetchall()
        return [
            Run(
                row[0],
                datetime.fromisoformat(row[1]),
                datetime.fromisoformat(row[2]) if row[2] else None,
                tuple(json.loads(row[3])),
                dict(zip(RUN_COUNTS, row[4:], strict=True)),
            )
            for row in found
        ]

    # images ---------------------------------------------------------------------------------------

    def images(self, ids: Iterable[int]) -> list[ImageRecord]:
        """The images in the order of ``ids``; those that are not there are left out."""
        wanted = [int(i) for i in ids]
        with self._store.snapshot() as connection:
            found = rows.records(connection, f"images.id IN {rows.LISTED}", [json.dumps(wanted)])
        return [found[i] for i in wanted if i in found]

    def image(self, id: int) -> ImageRecord | None:
        """One image, or None."""
        return next(iter(self.images([id])), None)

    def find(self, path: Path) -> ImageRecord | None:
        """The image at an absolute path, or None."""
        for root in sorted(self.roots(), key=lambda root: -len(root.path.parts)):
            if path.is_relative_to(root.path):
                folder, _, name = path.relative_to(root.path).as_posix().rpartition("/")
                with self._store.snapshot() as connection:
                    condition = "folders.root_id = ? AND folders.path = ? AND images.name = ?"
                    found = rows.records(connection, condition, [root.id, folder, name])
                if found:
                    return next(iter(found.values()))
        return None

    # vectors --------------------------------------------------------------------------------------

    def vectors(self, ids: Ids) -> Embeddings:
        """``(n, d) float32`` in the order of ``ids``; a row of NaN where there is no such image."""
        with self._store.reading() as connection:
            return stored.fetch(connection, ids, self.dimension)

    def blocks(
        self,
        size: int = 65_536,
        *,
        after_version: int | None = None,
        until_version: int | None = None,
    ) -> Iterator[tuple[Ids, Embeddings]]:
        """All vectors in blocks of at most ``size``: by id, or, with ``after_version``, what is
        newer than that by (version, id).

        ``until_version`` is this moment's unless given. The reads are short, so that writers and
        the log are not held up; an image that is encoded again or removed meanwhile is left out,
        and ``changes(until_version)`` speaks of it.
        """
        until = self.version if until_version is None else until_version
        if after_version is None:
            last = 0
            while True:
                with self._store.reading() as connection:
                    ids, vectors, last = stored.block(connection, last, size, until, self.dimension)
                if len(ids):
                    yield ids, vectors
                if not last:
                    return
        else:
            place: tuple[int, int] | None = (after_version, 1 << 62)
            while place is not None:
                with self._store.reading() as connection:
                    ids, vectors, place = stored.newer(
                        connection, place, size, until, self.dimension
                    )
                if len(ids):
                    yield ids, vectors

    def sample(self, n: int, seed: int = 0) -> tuple[Ids, Embeddings]:
        """``n`` images chosen at random, by id, and their vectors; all when there are not more."""
        with self._store.snapshot() as connection:
            ids = stored.some_ids(connection, n, seed)
            return ids, stored.fetch(connection, ids, self.dimension)

    def changes(self, after_version: int) -> Changes:
        """What makes the vectors of ``after_version`` today's. ``pending`` says how much it is."""
        with self._store.snapshot() as connection:
            version = self._this_version(connection)
            ids, vectors, _ = stored.newer(
                connection, (after_version, 1 << 62), 1 << 62, version, self.dimension
            )
            removed = ids_of(
                connection,
                "SELECT image_id AS id FROM removals WHERE version > ?",
                [after_version],
            )
        order = np.argsort(ids)
        return Changes(ids[order], vectors[order], np.sort(removed), version)

    def pending(self, after_version: int) -> int:
        """How many images are new, encoded again or removed since ``after_version``."""
        return self._one(
            "SELECT (SELECT count(*) FROM embeddings WHERE version > ?1)"
            " + (SELECT count(*) FROM removals WHERE version > ?1)",
            [after_version],
        )

    # choosing -------------------------------------------------------------------------------------

    def select(self, filters: Filters = Filters()) -> Ids:  # noqa: B008 (frozen)
        """The ids of all images that meet ``filters``, sorted."""
        with self._store.snapshot() as connection:
            condition, parameters = where(connection, filters)
            sql = f"SELECT images.id AS id FROM images WHERE {condition}"
            return np.sort(ids_of(connection, sql, parameters))

    def matching(self, filters: Filters) -> int:
        """How many images meet ``filters``."""
        if not filters:
            return self.count
        with self._store.snapshot() as connection:
            condition, parameters = where(connection, filters)
            sql = f"SELECT count(*) FROM images WHERE {condition}"
            return connection.execute(sql, parameters).fetchone()[0]

    def recent(self, n: int, offset: int = 0) -> Ids:
        """The ``n`` newest images by the date they were taken, those without one last (by the
        file's own date)."""
        with self._store.snapshot() as connection:
            return facets.newest(connection, n, offset)

    def random(self, n: int, seed: int = 0) -> Ids:
        """``n`` images chosen at random, in random order."""
        with self._store.snapshot() as connection:
            ids = stored.some_ids(connection, n, seed)
        return np.random.default_rng(seed).permutation(ids)

    def by_date(self, ids: Ids, *, descending: bool = True) -> Ids:
        """``ids`` by the date they were taken, newest first unless told otherwise; those without
        one come last (by the file's own date). Each id once; unknown ones are left out."""
        ids = np.asarray(ids, np.int64)
        if len(ids) > FEW:
            return facets.among(self._dates(), ids, descending=descending)
        with self._store.reading() as connection:
            return facets.by_date(connection, ids, descending=descending)

    def histogram(self, ids: Ids | None = None) -> Months:
        """How many pictures (of ``ids``) were taken in each month."""
        if ids is not None and len(ids) > FEW:
            return facets.months_among(self._dates(), np.asarray(ids, np.int64))
        if ids is None:
            return self._kept("months", lambda: self._read(facets.months))
        with self._store.reading() as connection:
            return facets.months_of(connection, np.asarray(ids, np.int64))

    def _dates(self) -> facets.Dates:
        def compute() -> facets.Dates:
            with self._store.snapshot() as connection:
                return facets.dates(connection)

        return self._kept("dates", compute)

    def _read(self, question: Callable[[Any], _T]) -> _T:
        with self._store.snapshot() as connection:
            return question(connection)

    # words, facets, labels ------------------------------------------------------------------------

    def search_words(self, text: str, limit: int) -> list[tuple[int, float]]:
        """``(id, bm25)`` of the images whose file or folder names, titles, captions, keywords,
        places or dates hold any word of ``text``, best (highest) first."""
        return self._read(lambda connection: words.search(connection, text, limit))

    def facets(self, kind: str) -> list[Suggestion]:
        """Every camera, lens, type, year, keyword, label or rating, most pictures first."""
        return self._kept(
            ("facets", kind), lambda: self._read(lambda connection: facets.counts(connection, kind))
        )

    def suggest(self, kind: str, prefix: str = "", limit: int = 10) -> list[Suggestion]:
        """Values of ``kind`` (a facet's, or ``folder``) of which a word starts with ``prefix``."""
        if kind == "folder":
            known = self._kept("folders", lambda: self._read(facets.folders))
            return facets.suggest_folders(known, prefix, limit)
        wanted = words.fold(prefix)
        fitting = (one for one in self.facets(kind) if facets.starts_a_word(one.text, wanted))
        return [one for one, _ in zip(fitting, range(limit), strict=False)]

    def write_labels(
        self, scores: Iterable[tuple[int, str, float]], *, replace: Iterable[str] = ()
    ) -> None:
        """Keeps ``(id, label, score)``. Labels in ``replace`` are first taken off every image.
        Images that are gone by now are passed over."""
        with self._store.writing() as connection:
            connection.executemany(
                "DELETE FROM labels WHERE folded = ?", [(words.fold(name),) for name in replace]
            )
            connection.executemany(
                "INSERT OR REPLACE INTO labels (image_id, label, folded, score)"
                " SELECT id, ?, ?, ? FROM images WHERE id = ?",
                (
                    (rows.storable(label), words.fold(rows.storable(label)), float(score), int(i))
                    for i, label, score in scores
                ),
            )

    def labels(self, ids: Iterable[int]) -> dict[int, list[tuple[str, float]]]:
        """``(label, score)`` of each of ``ids`` that has any, best first."""
        found: dict[int, list[tuple[str, float]]] = {}
        with self._store.reading() as connection:
            for image, label, score in connection.execute(
                f"SELECT image_id, label, score FROM labels WHERE image_id IN {rows.LISTED}"
                " ORDER BY image_id, score DESC, label",
                [json.dumps([int(i) for i in ids])],
            ):
                found.setdefault(image, []).append((label, score))
        return found

    # doctor ---------------------------------------------------------------------------------------

    def check(self, thumbnails: Ids | None = None) -> list[Problem]:
        """What is wrong, nothing when all is well. ``thumbnails`` are the ids that have one."""
        return checks.check(self._store, self.dimension, thumbnails)

    def repair(self) -> list[str]:
        """Puts right what ``check`` calls repairable, and says what was done."""
        return checks.repair(self._store, self.dimension)


RUN_COUNTS = (
    "found", "added", "updated", "moved", "removed", "unchanged", "failed", "interrupted",
)  # fmt: skip
"""What ``runs`` counts."""
