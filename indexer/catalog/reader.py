"""The reading half of a catalog: everything that can be asked of it. ``Catalog`` adds the writing.

Each question borrows a connection of its own, so that any thread may ask, and sees what was
committed last; what several statements answer, they answer about one moment.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from sqlite3 import OperationalError
from typing import Any, Self, TypeVar

import numpy as np

from sightline.indexer.catalog import check as checks
from sightline.indexer.catalog import embeddings as stored
from sightline.indexer.catalog import facets
from sightline.indexer.catalog import full_text as words
from sightline.indexer.catalog import images as rows
from sightline.indexer.catalog.check import Problem
from sightline.indexer.catalog.embeddings import Changes
from sightline.indexer.catalog.facets import Months, Suggestion
from sightline.indexer.catalog.filters import where
from sightline.indexer.catalog.store import Store, ids_of
from sightline.indexer.types import Embeddings, Failure, Filters, Ids, ImageRecord, Known, Root

FEW = 5_000
"""Up to so many ids a question goes to SQLite with the ids; beyond, to arrays kept in memory."""

RUN_COUNTS = (
    "found", "added", "updated", "moved", "removed", "unchanged", "failed", "interrupted",
)  # fmt: skip
"""What ``runs`` counts."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Run:
    """One indexing run as it was written down."""

    id: int
    started_at: datetime
    """UTC, without a zone; so is ``finished_at``, None for a run that was killed or still runs."""
    finished_at: datetime | None
    folders: tuple[str, ...]
    counts: Mapping[str, int]
    total: int | None = None
    """Pictures that the run found it had to read, once it knew."""


SELECTIONS = 4
"""Filters whose images are remembered: 8 bytes an image."""


SHOWN = 4096
"""Images whose records are remembered until anything is committed, some 2 kB each: a query that is
refined shows many of them again."""


class CatalogReader:
    """What can be asked of an open catalog. ``Catalog.open`` makes one."""

    def __init__(self, store: Store) -> None:
        """Use ``Catalog.open`` or ``Catalog.create``."""
        self._store = store
        self._cache: dict[object, tuple[int, Any]] = {}
        self._selected: dict[tuple[int, Filters], Ids] = {}
        self._last_look = store.stamp()
        self._shown: tuple[object, dict[int, ImageRecord]] = (None, {})
        try:
            with store.reading() as connection:
                meta = dict(connection.execute("SELECT name, value FROM meta").fetchall())
            self.model: str = meta["model"]
            self.revision: str = meta["revision"]
            self.dimension = int(meta["dimension"])
            self.identity: str = meta["identity"]
        except (KeyError, ValueError, OperationalError) as error:
            raise store.damaged(f"meta: {error}") from error

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
        with self._store.reading() as connection:
            return self._this_version(connection)

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

    def _read(self, question: Callable[[Any], _T]) -> _T:
        with self._store.snapshot() as connection:
            return question(connection)

    def _this_version(self, connection: Any) -> int:
        row = connection.execute("SELECT value FROM meta WHERE name = 'version'").fetchone()
        try:
            return int(row[0])
        except (TypeError, ValueError):
            raise self._store.damaged("meta: no version") from None

    # roots and runs -------------------------------------------------------------------------------

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

    def runs(self, n: int = 20) -> list[Run]:
        """The last ``n`` runs, newest first."""
        with self._store.reading() as connection:
            found = connection.execute(
                f"SELECT id, started_at, finished_at, folders, total, {', '.join(RUN_COUNTS)}"
                " FROM runs ORDER BY id DESC LIMIT ?",
                [n],
            ).fetchall()
        return [
            Run(
                row[0],
                datetime.fromisoformat(row[1]),
                datetime.fromisoformat(row[2]) if row[2] else None,
                tuple(json.loads(row[3])),
                dict(zip(RUN_COUNTS, row[5:], strict=True)),
                row[4],
            )
            for row in found
        ]

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

    def unseen(self) -> Ids:
        """The ids of the images that were imported and whose files were never seen, sorted."""
        with self._store.reading() as connection:
            return np.sort(ids_of(connection, "SELECT id FROM images WHERE mtime_ns = 0"))

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

    # images ---------------------------------------------------------------------------------------

    def images(self, ids: Iterable[int]) -> list[ImageRecord]:
        """The images in the order of ``ids``; those that are not there are left out."""
        wanted = [int(i) for i in ids]
        stamp = self._store.stamp()
        if self._shown[0] != stamp or len(self._shown[1]) > SHOWN:
            self._shown = stamp, {}
        # What others put in its place meanwhile is not written to: this one is of this stamp.
        found = self._shown[1]
        if missing := [i for i in wanted if i not in found]:
            with self._store.snapshot() as connection:
                more = rows.records(
                    connection, f"images.id IN {rows.LISTED}", [json.dumps(missing)]
                )
                if self._store.stamp() != stamp:
                    # Somebody wrote: all of the answer is about the moment after it.
                    found = more = rows.records(
                        connection, f"images.id IN {rows.LISTED}", [json.dumps(wanted)]
                    )
            found.update(more)
        return [found[i] for i in wanted if i in found]

    def files(self, ids: Ids | None = None) -> rows.Files:
        """What tells files apart, of ``ids`` or of all images, by id."""
        with self._store.reading() as connection:
            return rows.files(connection, ids)

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
        """The ids of all images that meet ``filters``, sorted; not to be written to. Those of the
        last few filters are remembered: people change their words more often."""
        key = self._store.stamp(), filters
        found = self._selected.get(key)
        if found is None:
            with self._store.snapshot() as connection:
                condition, parameters = where(connection, filters)
                sql = f"SELECT images.id AS id FROM images WHERE {condition}"
                found = np.sort(ids_of(connection, sql, parameters))
            found.flags.writeable = False
            for old in [*self._selected][: 1 - SELECTIONS]:
                self._selected.pop(old, None)
            self._selected[key] = found
        return found

    def matching(self, filters: Filters) -> int:
        """How many images meet ``filters``."""
        if not filters:
            return self.count
        known = self._selected.get((self._store.stamp(), filters))
        if known is not None:
            return len(known)
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

    # words, facets, labels ------------------------------------------------------------------------

    def search_words(self, text: str, limit: int) -> list[tuple[int, float]]:
        """``(id, bm25)`` of the images whose file or folder names, titles, captions, keywords,
        places or dates hold any word of ``text``, best (highest) first."""
        return self._read(lambda connection: words.search(connection, text, limit))

    def holding_words(self, text: str, limit: int) -> Ids:
        """The first ``limit`` ids, ascending, of the images whose names, titles, captions,
        keywords, places or dates hold every word of ``text``."""
        found = self._read(lambda connection: words.holding(connection, text, limit))
        return np.array(found, np.int64)

    def facets(self, kind: str, ids: Ids | None = None) -> list[Suggestion]:
        """Every camera, lens, type, year, keyword, label or rating, most pictures first; with
        ``ids`` every keyword or label of those images."""
        if ids is not None:
            return self._read(lambda connection: facets.counts_of(connection, kind, ids))
        return self._kept(
            ("facets", kind), lambda: self._read(lambda connection: facets.counts(connection, kind))
        )

    def has(self, kind: str) -> bool:
        """Whether any picture has a ``keyword``, a ``label`` or a ``year``; nothing is counted."""
        return self._read(lambda connection: facets.has(connection, kind))

    def suggest(self, kind: str, prefix: str = "", limit: int = 10) -> list[Suggestion]:
        """Values of ``kind`` (a facet's, or ``folder``) of which a word starts with ``prefix``."""
        if kind == "folder":
            known = self._kept("folders", lambda: self._read(facets.folders))
            return facets.suggest_folders(known, prefix, limit)
        wanted = words.fold(prefix)
        fitting = (one for one in self.facets(kind) if facets.starts_a_word(one.text, wanted))
        return [one for one, _ in zip(fitting, range(limit), strict=False)]

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
