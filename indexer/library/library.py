"""A library: one directory with a catalog, thumbnails and a vector index, bound to one model.

    <library>/
        catalog.db       SQLite: images, embeddings, failures, runs. The source of truth.
        thumbnails.db    WebP thumbnails
        index/           FAISS; can be rebuilt from the catalog
        write.lock       held by the process that writes
        reencoding.db    embeddings by another model, until they replace those in the catalog
        reencoding.lock  held by the process that makes them

Images newer than the vector index's generation are held in memory beside it and searched exactly:
every search finds what any process has written, and a missing or corrupt index costs time, never a
result.
"""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from sightline.indexer.catalog import Catalog, Changes, Kept, NewEmbeddings, Thumbnails
from sightline.indexer.errors import (
    FilesAwayError,
    LibraryBusyError,
    LibraryError,
    ModelChangedError,
    ModelMismatchError,
    UsageError,
)
from sightline.indexer.files import deadline
from sightline.indexer.types import (
    Candidate,
    Embeddings,
    Filters,
    Ids,
    IndexState,
    Progress,
    Root,
    no_progress,
)
from sightline.indexer.vector_index import (
    VectorIndex,
    build_index,
    check_search_device,
    maintain_index,
    open_index,
    orphans,
    remove_orphans,
    requested_kind,
)

CATALOG, THUMBNAILS, INDEX, LOCK = "catalog.db", "thumbnails.db", "index", "write.lock"
REENCODING, REENCODING_LOCK = "reencoding.db", "reencoding.lock"

LOCATED_BATCH = 2000
"""Images whose places are written in one transaction."""

SALVAGED = f"{CATALOG}.salvaged"
"""What a repair makes of a corrupt catalog, until it replaces it."""

SAMPLE = 4096
"""Vectors in ``sample``."""

SAMPLE_DRIFT = 0.1
"""Relative change of the number of images after which the sample is drawn again."""

MAX_CHANGES = 500
"""Embeddings that ``changes`` returns: more cost as much as a new search."""

BUILTIN_MODEL = "builtin"
"""``Library.model`` of the built-in model, whose revision changes with releases."""

LOCK_SECONDS = 1.0
"""Seconds that a writer waits for the lock, which ``is_being_written`` holds for an instant."""


def _exists(folder: Path) -> bool:
    """Whether ``folder`` is there, on a disk that answers."""
    try:
        return deadline.call(folder.exists)
    except FilesAwayError:
        return False


def absolute(path: Path) -> Path:
    """``path`` made absolute, without ``..``. Links are not resolved, so that a library stores
    paths as the user knows them."""
    return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100


def position_in(folder: Path, path: Path) -> str | None:
    """The position of ``path`` relative to ``folder``, with forward slashes: ``""`` for the folder
    itself, None if it is not inside. Both are absolute; different paths of one folder are equal."""
    if path.is_relative_to(folder):
        below = path.relative_to(folder).as_posix()
        return "" if below == "." else below
    try:
        real = path.resolve(strict=True)
        for parent in (real, *real.parents):
            if parent.samefile(folder):
                below = real.relative_to(parent).as_posix()
                return "" if below == "." else below
    except (OSError, RuntimeError, ValueError):
        pass  # a path that does not exist is inside no folder
    return None


@contextmanager
def write_lock(directory: Path) -> Iterator[None]:
    """Holds the write lock of the library in ``directory``. LibraryBusyError if another process
    holds it."""
    with _held(directory / LOCK, "another run is writing to"):
        yield


@contextmanager
def reencoding_lock(directory: Path) -> Iterator[None]:
    """The same, of the lock of the process that makes embeddings by another model."""
    with _held(directory / REENCODING_LOCK, "another process is re-encoding"):
        yield


@contextmanager
def _held(path: Path, reason: str) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=LOCK_SECONDS)
    try:
        lock.acquire(poll_interval=0.05)
    except Timeout as error:
        raise LibraryBusyError(
            f"{reason} the library in {path.parent}: wait for it to end"
        ) from error
    except OSError as error:
        raise LibraryError.unwritable(path, error) from error
    try:
        yield
    finally:
        lock.release()


def _is_held(path: Path) -> bool:
    """Whether any process holds the lock at ``path``."""
    if not path.exists():
        return False
    from filelock import FileLock, Timeout

    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False  # a read-only disk


class Library:
    """An open library in a directory; implements ``AnyLibrary``, which documents the queries.

    Close it, or use it in a ``with``. Thread-safe. ``catalog`` has further queries, and writes.
    """

    directory: Path
    model: str
    revision: str
    dimension: int
    catalog: Catalog

    def __init__(
        self, directory: Path, *, read_only: bool = False, search_device: str = "cpu"
    ) -> None:
        check_search_device(search_device)
        self.directory = directory
        self._search_device = search_device
        self._writable = not read_only
        self.catalog = Catalog.open(directory / CATALOG, read_only=read_only)
        self._thumbnails: Thumbnails | None = None
        try:
            self._thumbnails = self._open_thumbnails(read_only)
            self.model = self.catalog.model
            self.revision = self.catalog.revision
            self.dimension = self.catalog.dimension
        except BaseException:
            self.close()
            raise
        # The queries that the catalog answers alone.
        self.matching = self.catalog.matching
        self.select = self.catalog.select
        self.by_date = self.catalog.by_date
        self.random = self.catalog.random
        self.image = self.catalog.image
        self.images = self.catalog.images
        self.labels = self.catalog.labels
        self.texts = self.catalog.texts
        self.similar_words = self.catalog.similar_words
        self.misread = self.catalog.misread
        self.full_text_search = self.catalog.full_text_search
        self.histogram = self.catalog.histogram
        self.facets = self.catalog.facets
        self.has = self.catalog.has
        self.suggest = self.catalog.suggest
        self.value_texts = self.catalog.value_texts
        self.failures = self.catalog.failures
        self._opened: VectorIndex | None = None
        self._stamp = 0
        self._sampled: tuple[int, Embeddings] | None = None
        self._lock = threading.RLock()

    def _open_thumbnails(self, read_only: bool) -> Thumbnails | None:
        path = self.directory / THUMBNAILS
        if not read_only:
            return Thumbnails.open_or_create(path)
        return Thumbnails.open(path, read_only=True) if path.exists() else None

    # open and close -------------------------------------------------------------------------------

    @staticmethod
    def exists(directory: Path) -> bool:
        """Whether ``directory`` contains a library."""
        return (directory / CATALOG).exists()

    @classmethod
    def create(cls, directory: Path, *, model: str, revision: str, dimension: int) -> Self:
        """Creates a library, readable by its owner only, and opens it.

        LibraryError if there is one already, or the directory contains other files.
        """
        if directory.exists():
            ours = {CATALOG, THUMBNAILS, INDEX, LOCK}
            strangers = sorted(
                path.name
                for path in directory.iterdir()
                # An interrupted creation leaves a draft, which the next one replaces.
                if path.name not in ours and not path.name.startswith(f"{CATALOG}.new")
            )
            if strangers and not cls.exists(directory):
                raise LibraryError(
                    f"{directory} holds other things ({strangers[0]}) and no library: choose an"
                    " empty or new folder with --library"
                )
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.chmod(0o700)
        except OSError as error:
            raise LibraryError.unwritable(directory, error) from error
        Catalog.create(
            directory / CATALOG, model=model, revision=revision, dimension=dimension
        ).close()
        return cls(directory)

    @classmethod
    def open(
        cls, directory: Path | str, *, read_only: bool = False, search_device: str = "cpu"
    ) -> Self:
        """Opens the library in ``directory``; LibraryError if there is none or it is corrupt.

        ``search_device`` is ``cpu`` or ``cuda``: where the vector index is searched if possible.
        UsageError for ``cuda`` without FAISS's GPU support.
        """
        directory = Path(directory).expanduser()
        if not cls.exists(directory):
            if (directory / SALVAGED).exists():
                raise LibraryError(
                    f"a repair of the library in {directory} was interrupted: run `sightline doctor"
                    " --repair` again"
                )
            raise LibraryError(
                f"there is no library in {directory}: make one with `sightline index FOLDER`"
                " or point to another with --library"
            )
        return cls(directory, read_only=read_only, search_device=search_device)

    def close(self) -> None:
        """Closes every file."""
        if getattr(self, "_opened", None) is not None:
            self._index.close()
        if self._thumbnails is not None:
            self._thumbnails.close()
        self.catalog.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def check_model(self, model: str, revision: str, dimension: int) -> None:
        """ModelMismatchError unless this model made the library."""
        if model == self.model == BUILTIN_MODEL and revision != self.revision:
            raise ModelMismatchError(
                f"the built-in model has changed since the library in {self.directory} was made:"
                f" run `sightline reencode --model {model} --library"
                f" {shlex.quote(str(self.directory))}` to encode its images again"
            )
        if model != self.model or dimension != self.dimension:
            raise ModelMismatchError(
                f"the library in {self.directory} was made with {self.model}, not {model}: search"
                " it with that model, change it with `sightline reencode --model`, or index into"
                " another folder with --library"
            )
        if revision != self.revision:
            raise ModelMismatchError(
                f"the library in {self.directory} was made with revision {self.revision} of"
                f" {model}, and this is {revision}: bring that one back, or run `sightline reencode"
                f" --model {shlex.quote(model)}`"
            )

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the write lock. LibraryBusyError if another process holds it."""
        with write_lock(self.directory):
            yield

    def is_being_written(self) -> bool:
        """Whether any process holds the write lock."""
        return _is_held(self.directory / LOCK)

    @property
    def model_changed(self) -> bool:
        """Whether the library has another model since it was opened. Searches go on with what was
        in memory."""
        return self.catalog.model_changed

    # queries --------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """Grows with every commit that changes embeddings."""
        return self.catalog.version

    @property
    def stamp(self) -> int:
        """Changes with every commit of any process."""
        return self.catalog.stamp

    @property
    def count(self) -> int:
        """The number of images."""
        return self.catalog.count

    def refresh(self, *, wait: bool = True) -> None:
        """Loads what has been written since the last call; cheap if nothing has. Without ``wait``,
        a new generation of the index is opened in the background."""
        with self._lock:
            if self._opened is None:
                return
            changed = self.catalog.changed_since_last_call()
            stamp = self._index_stamp()
            if changed or stamp != self._stamp:
                self._stamp = stamp
                with suppress(ModelChangedError):
                    if not self.model_changed:
                        self._opened.refresh(wait=wait)

    def changes(self, after_version: int) -> Changes | None:
        """The changes of embeddings since ``after_version``; None if there are more than
        ``MAX_CHANGES``, or if the library has another model."""
        try:
            if self.catalog.pending(after_version) > MAX_CHANGES:
                return None
            return self.catalog.changes(after_version)
        except ModelChangedError:
            return None

    def nearest(
        self,
        vectors: Embeddings,
        k: int,
        *,
        filters: Filters = Filters(),  # noqa: B008 (frozen)
        among: Ids | None = None,
    ) -> tuple[Embeddings, Ids]:
        """The ``k`` nearest images to each of ``vectors`` ``(q, d) float32, unit norm``, among
        those that meet ``filters`` or, if given, the ascending ids ``among``.

        Returns ``(q, k) float32`` cosines, highest first, and ``(q, k) int64`` ids; -1 where fewer
        images qualify. Equal scores are ordered by id.
        """
        allowed = among
        if allowed is None and filters:
            allowed = self.catalog.select(filters)
        return self._index.search(vectors, k, allowed=allowed)

    def vectors(self, ids: Ids) -> Embeddings:
        """``(n, d) float32`` in the order of ``ids``; a row of NaN for an unknown id. Read from the
        vector index if it is open and current, in a tenth of the time."""
        opened = self._opened
        if opened is not None and opened.version == self.catalog.version:
            return opened.vectors(ids)
        try:
            return self.catalog.vectors(ids)
        except ModelChangedError:
            if opened is None:
                raise
            return opened.vectors(ids)

    def thumbnail(self, id: int) -> bytes | None:
        """The thumbnail of one image as WebP, or None."""
        return self._thumbnails.get(id) if self._thumbnails is not None else None

    def sample(self) -> Embeddings:
        """``(n <= SAMPLE, d) float32``: vectors of random images that represent the library in
        statistics of scores. Unchanged until the library has changed by ``SAMPLE_DRIFT``."""
        count = self.count
        with self._lock:
            if (
                self._sampled is None
                or abs(count - self._sampled[0]) > SAMPLE_DRIFT * self._sampled[0]
            ):
                self._sampled = count, self._draw_sample()
            return self._sampled[1]

    def _draw_sample(self) -> Embeddings:
        # The search that needs the sample opens the index too, where vectors are read faster.
        _ = self._index
        found = self.vectors(np.sort(self.catalog.random(SAMPLE)))
        # Images of a commit that is not searchable yet are absent if the model has changed.
        return found[np.isfinite(found[:, 0])]

    def listed(self, filters: Filters, *, descending: bool | None = None) -> Ids:
        """``select(filters)`` ordered ``by_date``. Without ``descending``: in the order of the
        collection if the filters name one, otherwise newest first."""
        found = self.select(filters)
        names = [one.value for one in filters.conditions if one.name == "collection"]
        positive = not any(one.negated for one in filters.conditions if one.name == "collection")
        if descending is None and len(names) == 1 and positive and len(found):
            ids = self.kept.images(self.kept.collection_named(str(names[0])).id)
            return ids[np.isin(ids, found)]
        return self.by_date(found, descending=descending is not False)

    def roots(self) -> list[dict[str, Any]]:
        """``{"path", "images", "available"}`` of each folder that was indexed."""
        counts = self.catalog.root_counts()
        return [
            {
                "path": str(root.path),
                "images": counts.get(root.id, 0),
                "available": _exists(root.path),
            }
            for root in self.catalog.roots()
        ]

    def status(self) -> dict[str, Any]:
        """The document that ``sightline status --json`` prints."""
        self.refresh(wait=False)
        reencoding = self._reencoding()
        check = self.catalog.int8_check
        return {
            "library": str(self.directory),
            "model": self.model,
            "revision": self.revision,
            "dimension": self.dimension,
            "images": self.count,
            "failures": self.catalog.failure_count,
            "reads_text": self.catalog.reads_text,
            "with_text": self.catalog.text_count,
            "int8_check": None if check is None else asdict(check),
            "index": asdict(self.index_state),
            "roots": self.roots(),
            "run": self._run_under_way()
            or (reencoding if reencoding is not None and reencoding["running"] else None),
            "reencoding": reencoding,
            "note": self.catalog.note,
        }

    def _run_under_way(self) -> dict[str, Any] | None:
        newest = next(iter(self.catalog.runs(1)), None)
        if newest is None or newest.finished_at is not None or not self.is_being_written():
            return None
        counts = newest.counts
        done = (counts.get("added") or 0) + (counts.get("updated") or 0)
        return {
            "done": done + (counts.get("failed") or 0),
            "total": newest.total,
            "added": counts.get("added") or 0,
            "failed": counts.get("failed") or 0,
        }

    def _reencoding(self) -> dict[str, Any] | None:
        path = self.directory / REENCODING
        if not path.exists():
            return None
        running = _is_held(self.directory / REENCODING_LOCK)
        try:
            with NewEmbeddings.open(path, read_only=True) as new:
                done, total = new.progress
                return {"model": new.model, "done": done, "total": total, "running": running}
        except LibraryError:
            return None  # it is being made or deleted

    # the vector index -----------------------------------------------------------------------------

    @property
    def index_state(self) -> IndexState:
        """What the vector index is, and its measured recall."""
        return self._index.state

    @property
    def _index(self) -> VectorIndex:
        """Opened by the first search, so that indexing does not load FAISS."""
        with self._lock:
            if self._opened is None:
                self.catalog.changed_since_last_call()
                self._stamp = self._index_stamp()
                self._opened = open_index(
                    self.directory / INDEX,
                    self.catalog,
                    model=self.model,
                    revision=self.revision,
                    device=self._search_device,
                )
            return self._opened

    def _index_stamp(self) -> int:
        """Changes when a file of the index is replaced."""
        try:
            return (self.directory / INDEX).stat().st_mtime_ns
        except OSError:
            return 0

    def rebuild_index(
        self,
        *,
        kind: str = "auto",
        device: str = "auto",
        text_queries: Callable[[], Embeddings] | None = None,
        progress: Progress = no_progress,
    ) -> IndexState:
        """Rebuilds the vector index. Call it inside ``writing``.

        ``kind`` is ``auto``, ``exact``, ``ivf-pq`` or ``ivf-rabitq``. ``text_queries`` returns
        embeddings of everyday captions: the index is tuned for them as well as for images.
        """
        state = build_index(
            self.directory / INDEX,
            self.catalog,
            model=self.model,
            revision=self.revision,
            kind=kind,
            text_queries=text_queries,
            device=device,
            progress=progress,
        )
        self.refresh()
        return state

    def locate(self, stop: threading.Event) -> None:
        """Looks up the places of images that have a position, until ``stop``; does nothing without
        the ``places`` extra."""
        from sightline.indexer.places import Gazetteer

        rows = self.catalog.unlocated(LOCATED_BATCH)
        gazetteer = Gazetteer.load() if rows else None
        while rows and gazetteer is not None and not stop.is_set():
            found = gazetteer.locate([(latitude, longitude) for _, latitude, longitude in rows])
            self.catalog.write_locations(
                [(image, place) for (image, *_), place in zip(rows, found, strict=True)]
            )
            rows = self.catalog.unlocated(LOCATED_BATCH)

    def maintain_index(
        self,
        *,
        device: str = "auto",
        text_queries: Callable[[], Embeddings] | None = None,
        progress: Progress = no_progress,
    ) -> IndexState | None:
        """Builds, extends or retrains the vector index if enough has changed since it was built;
        otherwise returns None. Call it inside ``writing``."""
        state = maintain_index(
            self.directory / INDEX,
            self.catalog,
            model=self.model,
            revision=self.revision,
            text_queries=text_queries,
            device=device,
            progress=progress,
        )
        self.refresh()
        return state

    def replace_embeddings(
        self,
        new: NewEmbeddings,
        *,
        unreadable: Mapping[int, str],
        device: str = "auto",
        text_queries: Callable[[], Embeddings] | None = None,
        progress: Progress = no_progress,
    ) -> None:
        """Gives the library the model and the embeddings of ``new``, which is prepared; see
        ``Catalog.replace_embeddings``. Call it inside ``writing``, and close the library then.

        The vector index is built first and becomes current just after the transaction: until then
        the library is searched exactly.
        """

        def replace() -> None:
            count = new.count
            self.catalog.replace_embeddings(
                new,
                unreadable=unreadable,
                progress=lambda done: progress("replacing the embeddings", done, count),
            )
            progress("replaced the embeddings", count, count)

        build_index(
            self.directory / INDEX,
            new,
            model=new.model,
            revision=new.revision,
            kind=requested_kind(self.directory / INDEX),
            text_queries=text_queries,
            device=device,
            progress=progress,
            before_install=replace,
        )

    def index_orphans(self) -> int:
        """The number of index files left over from interrupted builds; 0 while a process writes,
        because they may belong to its build."""
        return 0 if self.is_being_written() else len(orphans(self.directory / INDEX))

    def sweep_index(self) -> int:
        """Deletes those files and returns their number. Call it inside ``writing``."""
        return remove_orphans(self.directory / INDEX)

    # what the user keeps --------------------------------------------------------------------------

    @property
    def kept(self) -> Kept:
        """The saved searches, the favourites and collections, for reading."""
        return self.catalog.kept

    @contextmanager
    def keeping(self) -> Iterator[Kept]:
        """The same for writing: short transactions beside a running indexer, without the write
        lock. A library that was opened read-only opens its catalog once more meanwhile.

        UsageError on a read-only disk.
        """
        if self._writable:
            yield self.catalog.kept
            return
        path = self.directory / CATALOG
        if not os.access(path, os.W_OK) or not os.access(self.directory, os.W_OK):
            raise UsageError("this library is read-only here: nothing can be saved in it")
        with Catalog.open(path) as catalog:
            yield catalog.kept

    # roots ----------------------------------------------------------------------------------------

    def root_paths(self) -> list[Path]:
        """The folders that were indexed."""
        return [root.path for root in self.catalog.roots()]

    def ensure_root(self, path: Path, *, named: bool = False) -> Root:
        """The root at ``path``; added if it is new. A new root takes over the images of existing
        roots inside it, also of those under another path, so that no image is in the library
        twice. ``named``: the user named it."""
        owner = self.catalog.add_root(path, named=named)
        for root in self.catalog.roots():
            prefix = position_in(path, root.path)
            if not prefix:  # elsewhere, or the folder itself
                continue
            moved = [
                (
                    known.id,
                    Candidate(
                        path,
                        f"{prefix}/{known.path}",
                        known.size,
                        known.mtime_ns,
                        ctime_ns=known.ctime_ns,
                        inode=known.inode,
                    ),
                )
                for known in self.catalog.known(root).values()
            ]
            written = self.catalog.write(owner, moved=moved)
            self.catalog.remove_root(root.path)
            self.remove_thumbnails(written.removed)
        return owner

    def move_root(self, old: Path, new: Path) -> None:
        """Changes the path of the root ``old`` to ``new``. Nothing is encoded again. UsageError
        unless ``new`` is a folder."""
        target = absolute(new)
        if not target.is_dir():
            raise UsageError(f"there is no folder {new}")
        with self.writing():
            self.catalog.move_root(self._named_root(old), target)

    def _named_root(self, path: Path) -> Path:
        """The root that a user names: as it is listed, which may be a path of another system
        (``C:\\Pictures``), or relative to the current folder."""
        return path if path in self.root_paths() else absolute(path)

    def forget_root(self, path: Path) -> None:
        """Deletes a root and its images from the library. The files stay."""
        with self.writing():
            # Recorded as a run, so that the next one sweeps the thumbnails if this is interrupted.
            run = self.catalog.start_run([str(path)])
            removed, interrupted = 0, 1
            try:
                removed = len(self.catalog.remove_root(self._named_root(path)))
                if self._thumbnails is not None:
                    self._thumbnails.sweep(self.catalog.select())
                interrupted = 0
            finally:
                counts = {"removed": removed, "interrupted": interrupted}
                self.catalog.finish_run(run, counts)

    # thumbnails -----------------------------------------------------------------------------------

    def remove_thumbnails(self, ids: Sequence[int]) -> None:
        """Deletes the thumbnails of deleted images."""
        if self._thumbnails is not None and len(ids):
            self._thumbnails.remove(ids)

    @property
    def has_thumbnails(self) -> bool:
        """Whether there are thumbnails; a library that was opened read-only may have none."""
        return self._thumbnails is not None

    @property
    def thumbnails(self) -> Thumbnails:
        """The thumbnails; LibraryError in a library that was opened read-only without them."""
        if self._thumbnails is None:
            raise LibraryError(f"{self.directory / THUMBNAILS} is not there")
        return self._thumbnails
