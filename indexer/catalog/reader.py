"""Every query of a catalog. ``Catalog`` adds the changes.

Each query borrows a connection, so that any thread may call it, and sees the last commit; queries
of several statements see one commit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from sqlite3 import OperationalError
from typing import Any, Self, TypeVar

import numpy as np

from sightline.indexer.catalog import (
    check,
    embeddings,
    facets,
    full_text,
    image_rows,
    spellings,
)
from sightline.indexer.catalog.check import Problem
from sightline.indexer.catalog.embeddings import Changes
from sightline.indexer.catalog.facets import Months, Suggestion
from sightline.indexer.catalog.filters import where
from sightline.indexer.catalog.kept import Kept
from sightline.indexer.catalog.store import Store, ids_of, pairs_of
from sightline.indexer.errors import ModelChangedError
from sightline.indexer.types import (
    Embeddings,
    Failure,
    FileStamp,
    Filters,
    Ids,
    ImageRecord,
    Int8Check,
    Known,
    Root,
    TextLine,
)

FEW = 5_000
"""Ids up to which a query passes them to SQLite; more are looked up in cached arrays."""

RUN_COUNTS = (
    "found", "added", "updated", "moved", "removed", "unchanged", "failed", "interrupted",
)  # fmt: skip
"""The counts in ``runs``."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Run:
    """One recorded indexing run."""

    id: int
    started_at: datetime
    """UTC, without a zone, like ``finished_at``, which is None while a run is running or if it was
    killed."""
    finished_at: datetime | None
    folders: tuple[str, ...]
    counts: Mapping[str, int]
    total: int | None = None
    """Images that the run has to read, once known."""


SELECTIONS = 4
"""Filters whose ids are cached, at 8 bytes per id."""

RECORDS = 4096
"""Image records cached until the next commit, some 2 kB each: refined queries show many again."""


class CatalogReader:
    """The queries of an open catalog. Use ``Catalog.open`` or ``Catalog.create``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.kept = Kept(store)
        """Saved searches, the favourites and collections."""
        self.frozen = store.frozen
        self._cache: dict[object, tuple[int, Any]] = {}
        self._selected: dict[tuple[int, Filters], Ids] = {}
        self._last_data_version = store.data_version()
        self._records: tuple[object, dict[int, ImageRecord]] = (None, {})
        try:
            with store.reading() as connection:
                meta = dict(connection.execute("SELECT name, value FROM meta").fetchall())
            self.model: str = meta["model"]
            self.revision: str = meta["revision"]
            self.dimension = int(meta["dimension"])
            self.identity: str = meta["identity"]
        except (KeyError, ValueError, OperationalError) as error:
            raise store.corrupt(f"meta: {error}") from error

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
        """What the user should know about how it was opened (on a read-only disk), or None."""
        return self._store.note

    @property
    def version(self) -> int:
        """The number of commits that changed embeddings. Takes some ten microseconds."""

        def compute() -> int:
            with self._store.reading() as connection:
                return self._this_version(connection)

        return self._cached("version", compute)

    @property
    def stamp(self) -> int:
        """Changes with every commit of any process. Takes some microseconds."""
        return self._store.data_version()

    @property
    def count(self) -> int:
        """The number of images."""
        return self._cached("count", lambda: self._one("SELECT count(*) FROM images"))

    def changed_since_last_call(self) -> bool:
        """Whether any process has committed since the last call (or since opening)."""
        stamp = self._store.data_version()
        changed, self._last_data_version = stamp != self._last_data_version, stamp
        return changed

    def _one(self, sql: str, parameters: Sequence = ()) -> Any:
        with self._store.reading() as connection:
            row = connection.execute(sql, parameters).fetchone()
        return row[0] if row else None

    def _cached(self, key: object, compute: Callable[[], _T]) -> _T:
        """``compute()``, cached until the next commit."""
        stamp = self._store.data_version()
        kept = self._cache.get(key)
        if kept is None or kept[0] != stamp:
            kept = self._cache[key] = (stamp, compute())
        return kept[1]

    @property
    def model_changed(self) -> bool:
        """Whether the catalog has the embeddings of another model than when it was opened."""

        def compute() -> bool:
            with self._store.reading() as connection:
                return self._stored_model(connection) != (self.model, self.revision)

        return self._cached("model", compute)

    @staticmethod
    def _stored_model(connection: Any) -> tuple[str, str]:
        rows = dict(connection.execute("SELECT name, value FROM meta").fetchall())
        return rows.get("model", ""), rows.get("revision", "")

    def _require_model(self, connection: Any) -> None:
        """ModelChangedError if the catalog has the embeddings of another model by now."""
        model, revision = self._stored_model(connection)
        if (model, revision) != (self.model, self.revision):
            raise ModelChangedError(
                f"the library in {self.path.parent} has the model {model} now: run the command"
                " again, or restart the program"
            )

    @contextmanager
    def _reading_vectors(self) -> Iterator[Any]:
        """A connection that sees one commit, whose embeddings are those of ``model``."""
        with self._store.snapshot() as connection:
            self._require_model(connection)
            yield connection

    def require_model(self) -> None:
        """ModelChangedError if ``model_changed``."""
        with self._reading_vectors():
            pass

    def _read(self, question: Callable[[Any], _T]) -> _T:
        with self._store.snapshot() as connection:
            return question(connection)

    def _this_version(self, connection: Any) -> int:
        row = connection.execute("SELECT value FROM meta WHERE name = 'version'").fetchone()
        try:
            return int(row[0])
        except (TypeError, ValueError):
            raise self._store.corrupt("meta: no version") from None

    # roots and runs -------------------------------------------------------------------------------

    def roots(self) -> list[Root]:
        """The folders that were indexed, sorted by path."""
        with self._store.reading() as connection:
            sql = "SELECT id, path, named FROM roots ORDER BY path"
            found = connection.execute(sql).fetchall()
        return [Root(root, Path(path), named == 1) for root, path, named in found]

    def root_counts(self) -> dict[int, int]:
        """The number of images of each root, by root id."""

        def compute() -> dict[int, int]:
            with self._store.reading() as connection:
                sql = (
                    "SELECT roots.id, count(images.id) FROM roots"
                    " LEFT JOIN folders ON folders.root_id = roots.id"
                    " LEFT JOIN images ON images.folder_id = folders.id GROUP BY roots.id"
                )
                return dict(connection.execute(sql).fetchall())

        return self._cached("root_counts", compute)

    def failures(self, root: Root | None = None) -> list[Failure]:
        """The files that could not be read (of one root), by path."""
        with self._store.reading() as connection:
            found = connection.execute(
                "SELECT roots.path, failures.path, size, mtime_ns, reason, ctime_ns"
                " FROM failures JOIN roots ON roots.id = failures.root_id"
                " WHERE ?1 IS NULL OR root_id = ?1 ORDER BY roots.path, failures.path",
                [root.id if root else None],
            )
            return [Failure(*row) for row in found]

    @property
    def failure_count(self) -> int:
        """The number of files that could not be read."""
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

    # for indexing runs ----------------------------------------------------------------------------

    def known(self, root: Root) -> dict[str, Known]:
        """Every image of ``root``, by path."""
        with self._store.snapshot() as connection:
            folders = connection.execute(
                "SELECT id, iif(path = '', '', path || '/') FROM folders WHERE root_id = ?",
                [root.id],
            ).fetchall()
            prefix = dict(folders)
            images = connection.execute(
                "SELECT id, folder_id, name, size, mtime_ns, decoded, metadata_stamp, ctime_ns,"
                f" inode FROM images WHERE folder_id IN {image_rows.LISTED}",
                [json.dumps(list(prefix))],
            )
            known = {}
            for image, folder, name, size, mtime_ns, decoded, *stamps in images:
                path = prefix[folder] + name
                known[path] = Known(image, path, size, mtime_ns, decoded == 1, *stamps)
        return known

    def failed(self, root: Root) -> dict[str, FileStamp]:
        """The files of ``root`` that could not be read, by path, as they were then."""
        with self._store.reading() as connection:
            found = connection.execute(
                "SELECT path, size, mtime_ns, ctime_ns FROM failures WHERE root_id = ?", [root.id]
            )
            return {path: FileStamp(*stamp) for path, *stamp in found}

    def pixels_hashes(self, ids: Iterable[int]) -> dict[int, str]:
        """The hash of the pixels that the model was shown, for each of ``ids`` that has one."""
        with self._store.reading() as connection:
            found = connection.execute(
                "SELECT id, pixels_hash FROM images WHERE pixels_hash IS NOT NULL AND id IN"
                f" {image_rows.LISTED}",
                [json.dumps([int(i) for i in ids])],
            )
            return dict(found.fetchall())

    def unseen(self) -> Ids:
        """The ids of imported images whose files were never read, ascending."""
        with self._store.reading() as connection:
            return np.sort(ids_of(connection, "SELECT id FROM images WHERE mtime_ns IS NULL"))

    @property
    def reads_text(self) -> bool:
        """Whether indexing runs read the text in images."""
        return self._one("SELECT value FROM meta WHERE name = 'reads_text'") == "1"

    @property
    def int8_check(self) -> Int8Check | None:
        """How the model in int8 compares with float32 on the library's images; None if that was not
        tried."""
        text = self._one("SELECT value FROM meta WHERE name = 'int8_check'")
        found = json.loads(text) if text else {}
        if (found.pop("model", None), found.pop("revision", None)) != (self.model, self.revision):
            return None
        return Int8Check(**found)

    def unread(self) -> Ids:
        """The ids of decoded images whose text was not read, ascending."""
        with self._store.reading() as connection:
            sql = (
                "SELECT id FROM images WHERE decoded = 1"
                " AND NOT EXISTS (SELECT 1 FROM texts WHERE image_id = images.id)"
            )
            return np.sort(ids_of(connection, sql))

    @property
    def text_count(self) -> int:
        """The number of images in which text was read."""
        sql = "SELECT count(*) FROM texts WHERE text <> ''"
        return self._cached("text_count", lambda: self._one(sql))

    def texts(self, ids: Sequence[int]) -> dict[int, list[TextLine]]:
        """The lines of text in each of ``ids`` that has any. Costs nothing if no image has."""
        if not self.text_count:
            return {}
        with self._store.reading() as connection:
            return image_rows.texts(connection, ids)

    def similar_words(self, word: str) -> list[str]:
        """The words in images that are one reading error from ``word``, the most frequent first;
        see ``spellings``."""
        if not self.text_count:
            return []
        folded = full_text.fold_word(word)
        return self._read(lambda connection: spellings.similar(connection, folded))

    def misread(self, word: str, limit: int) -> Ids:
        """The first ``limit`` ids, ascending, of images in which one of ``similar_words(word)`` is
        written."""
        if not self.text_count:
            return np.empty(0, np.int64)
        found = self._read(lambda connection: full_text.misread(connection, word, limit))
        return np.array(found, np.int64)

    def unlocated(self, limit: int) -> list[tuple[int, float, float]]:
        """``(id, latitude, longitude)`` of up to ``limit`` images whose place was not looked up."""
        with self._store.reading() as connection:
            return connection.execute(
                "SELECT id, latitude, longitude FROM images"
                " WHERE latitude IS NOT NULL AND location_id IS NULL LIMIT ?",
                [limit],
            ).fetchall()

    def known_sizes(self, sizes: Collection[int]) -> set[int]:
        """Those of ``sizes`` (bytes) that some image's file has."""

        def compute() -> set[int]:
            with self._store.reading() as connection:
                return {size for (size,) in connection.execute("SELECT DISTINCT size FROM images")}

        return self._cached("sizes", compute).intersection(sizes)

    def with_hash(self, content_hash: str) -> list[ImageRecord]:
        """The images with this content, by id."""
        with self._store.reading() as connection:
            return list(image_rows.records(connection, "content_hash = ?", [content_hash]).values())

    # images ---------------------------------------------------------------------------------------

    def images(self, ids: Iterable[int]) -> list[ImageRecord]:
        """The images in the order of ``ids``; unknown ids are skipped."""
        wanted = [int(i) for i in ids]
        stamp = self._store.data_version()
        if self._records[0] != stamp or len(self._records[1]) > RECORDS:
            self._records = stamp, {}
        # Another thread may replace the cache meanwhile; this dictionary belongs to this commit.
        found = self._records[1]
        if missing := [i for i in wanted if i not in found]:
            with self._store.snapshot() as connection:
                more = image_rows.records(
                    connection, f"images.id IN {image_rows.LISTED}", [json.dumps(missing)]
                )
                if self._store.data_version() != stamp:
                    # A commit came between: read everything from the snapshot.
                    found = more = image_rows.records(
                        connection, f"images.id IN {image_rows.LISTED}", [json.dumps(wanted)]
                    )
            found.update(more)
        return [found[i] for i in wanted if i in found]

    def files(self, ids: Ids | None = None) -> image_rows.Files:
        """What distinguishes the files of ``ids``, or of all images, by id."""
        with self._store.reading() as connection:
            return image_rows.files(connection, ids)

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
                    found = image_rows.records(connection, condition, [root.id, folder, name])
                if found:
                    return next(iter(found.values()))
        return None

    # vectors --------------------------------------------------------------------------------------
    # All of them raise ModelChangedError rather than return vectors of another model.

    def vectors(self, ids: Ids) -> Embeddings:
        """``(n, d) float32`` in the order of ``ids``; a row of NaN for an unknown id."""
        with self._reading_vectors() as connection:
            return embeddings.fetch(connection, ids, self.dimension)

    def blocks(
        self,
        size: int = 65_536,
        *,
        after_version: int | None = None,
        until_version: int | None = None,
    ) -> Iterator[tuple[Ids, Embeddings]]:
        """All embeddings in blocks of up to ``size``, by id; with ``after_version`` only newer
        ones, by (version, id).

        ``until_version`` defaults to the current one. Reads are short, so that writers and the log
        are not blocked; an image that is encoded again or deleted meanwhile is skipped, and part
        of ``changes(until_version)``.
        """
        until = self.version if until_version is None else until_version
        if after_version is None:
            last = 0
            while True:
                with self._reading_vectors() as connection:
                    ids, vectors, last = embeddings.block(
                        connection, last, size, until, self.dimension
                    )
                if len(ids):
                    yield ids, vectors
                if not last:
                    return
        else:
            position: tuple[int, int] | None = (after_version, 1 << 62)
            while position is not None:
                with self._reading_vectors() as connection:
                    ids, vectors, position = embeddings.newer(
                        connection, position, size, until, self.dimension
                    )
                if len(ids):
                    yield ids, vectors

    def changes(self, after_version: int) -> Changes:
        """The changes of embeddings since ``after_version``; ``pending`` returns their number."""
        with self._reading_vectors() as connection:
            version = self._this_version(connection)
            ids, vectors, _ = embeddings.newer(
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
        """The number of images added, encoded again or deleted since ``after_version``."""
        return self._one(
            "SELECT (SELECT count(*) FROM embeddings WHERE version > ?1)"
            " + (SELECT count(*) FROM removals WHERE version > ?1)",
            [after_version],
        )

    def versions(self) -> Ids:
        """``(n, 2) int64``: the id of each image and the version of its embedding, -1 if it has
        none, by id."""
        with self._store.snapshot() as connection:
            table = "embeddings INDEXED BY embeddings_version"
            pairs = pairs_of(connection, "image_id", "version", table)
            images = np.sort(ids_of(connection, "SELECT id FROM images"))
        versions = np.full(len(images), -1, np.int64)
        versions[np.searchsorted(images, pairs[:, 0])] = pairs[:, 1]
        return np.stack([images, versions], axis=1)

    # choosing -------------------------------------------------------------------------------------

    def select(self, filters: Filters = Filters()) -> Ids:  # noqa: B008 (frozen)
        """The ids of all images that meet ``filters``, ascending. Read-only: the last few results
        are cached, because queries change more often than filters."""
        key = self._store.data_version(), filters
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
        """The number of images that meet ``filters``."""
        return len(self.select(filters)) if filters else self.count

    def random(self, n: int, seed: int = 0) -> Ids:
        """``n`` random ids in random order, determined by ``seed`` and the images."""
        with self._store.snapshot() as connection:
            ids = embeddings.random_ids(connection, n, seed)
        return np.random.default_rng(seed).permutation(ids)

    def by_date(self, ids: Ids, *, descending: bool = True) -> Ids:
        """``ids`` by the date the images were taken, newest first by default; undated ones last, by
        the file's modification time. Each id once; unknown ids are skipped."""
        ids = np.asarray(ids, np.int64)
        if len(ids) > FEW:
            return facets.among(self._dates(), ids, descending=descending)
        with self._store.reading() as connection:
            return facets.by_date(connection, ids, descending=descending)

    def histogram(self, ids: Ids | None = None) -> Months:
        """The number of images (of ``ids``) per month."""
        if ids is not None and len(ids) > FEW:
            return facets.months_among(self._dates(), np.asarray(ids, np.int64))
        if ids is None:
            return self._cached("months", lambda: self._read(facets.months))
        with self._store.reading() as connection:
            return facets.months_of(connection, np.asarray(ids, np.int64))

    def _dates(self) -> facets.Dates:
        def compute() -> facets.Dates:
            with self._store.snapshot() as connection:
                return facets.dates(connection)

        return self._cached("dates", compute)

    # full text, facets, labels --------------------------------------------------------------------

    def full_text_search(self, text: str, limit: int, *, names: bool = True) -> Ids:
        """The first ``limit`` ids, ascending, of the images whose full text (names, title, caption,
        keywords, people, place, date, text in the image) contains every word of ``text``. File,
        folder and place names count only with ``names``."""
        with self._store.reading() as connection:
            found = full_text.search(connection, text, limit, names=names)
        return np.array(found, np.int64)

    def facets(self, kind: str, ids: Ids | None = None) -> list[Suggestion]:
        """Every value of one of ``facets.KINDS`` (not ``folder``) with its number of images, most
        frequent first; with ``ids``, every ``keyword``, ``person``, ``label``, ``country`` or
        ``place`` (city) of those images."""
        if ids is not None:
            return self._read(lambda connection: facets.counts_of(connection, kind, ids))
        return self._cached(
            ("facets", kind), lambda: self._read(lambda connection: facets.counts(connection, kind))
        )

    def has(self, kind: str) -> bool:
        """Whether any image has one: ``keyword``, ``person``, ``place``, ``label``, ``year``.
        Faster than ``facets``."""
        return self._cached(
            ("has", kind), lambda: self._read(lambda connection: facets.has(connection, kind))
        )

    def suggest(self, kind: str, prefix: str = "", limit: int = 10) -> list[Suggestion]:
        """Values of ``kind`` (as in ``facets``, or ``folder`` or ``collection``) in which a word
        starts with ``prefix``, most frequent first; collections by name."""
        if kind == "folder":
            known = self._cached("folders", lambda: self._read(facets.folders))
            return facets.suggest_folders(known, prefix, limit)
        wanted = full_text.fold(prefix)
        if kind == "collection":
            return [
                Suggestion("collection", one.name, one.count)
                for one in self.kept.collections()
                if facets.starts_a_word(one.name, wanted)
            ][:limit]
        fitting = (one for one in self.facets(kind) if facets.starts_a_word(one.text, wanted))
        return [one for one, _ in zip(fitting, range(limit), strict=False)]

    def value_texts(self) -> set[str]:
        """Every folder (relative to its root), root, camera, lens, keyword, person, place, country,
        label and collection."""
        return self._cached("value_texts", lambda: self._read(facets.value_texts))

    def labels(self, ids: Iterable[int]) -> dict[int, list[tuple[str, float]]]:
        """``(label, score)`` of each of ``ids`` that has labels, best first. Costs nothing if no
        image has."""
        found: dict[int, list[tuple[str, float]]] = {}
        if not self.has("label"):
            return found
        with self._store.reading() as connection:
            for image, label, score in connection.execute(
                f"SELECT image_id, label, score FROM labels WHERE image_id IN {image_rows.LISTED}"
                " ORDER BY image_id, score DESC, label",
                [json.dumps([int(i) for i in ids])],
            ):
                found.setdefault(image, []).append((label, score))
        return found

    # doctor ---------------------------------------------------------------------------------------

    def check(self, thumbnails: Ids | None = None) -> list[Problem]:
        """Everything that is wrong. ``thumbnails`` are the ids that have one; None skips them."""
        return check.check(self._store, self.dimension, thumbnails)
