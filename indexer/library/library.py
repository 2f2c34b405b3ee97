"""A library: one directory that binds a catalog, thumbnails, a vector index and a model.

    <library>/
        catalog.db       SQLite: images, embeddings, failures, runs. The truth.
        thumbnails.db    WebP thumbnails
        index/           FAISS; can be built again from the catalog
        write.lock       held by whoever is writing

The vector index trails the catalog: images newer than its generation are held beside it in memory
and searched exactly, so that what one process writes another finds at its next search, and a
missing or damaged index costs time, never an answer.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from sightline.indexer.catalog.catalog import Catalog, Months, Suggestion
from sightline.indexer.catalog.thumbnails import Thumbnails
from sightline.indexer.errors import LibraryBusyError, LibraryError, ModelMismatchError, UsageError
from sightline.indexer.types import (
    Candidate,
    Embeddings,
    Failure,
    Filters,
    Ids,
    ImageRecord,
    IndexState,
    Progress,
    Root,
    no_progress,
)
from sightline.indexer.vector_index.index import (
    VectorIndex,
    build_index,
    check_search_device,
    maintain_index,
    open_index,
    orphans,
    sweep_orphans,
)

CATALOG, THUMBNAILS, INDEX, LOCK = "catalog.db", "thumbnails.db", "index", "write.lock"

SALVAGED = f"{CATALOG}.salvaged"
"""What a repair makes of a damaged catalog, until it is put in its place."""

SAMPLE = 4096
"""Images whose vectors stand for the whole library when a query's scores are judged."""

SAMPLE_DRIFT = 0.1
"""The sample is drawn again when the library has grown or shrunk by this share."""

LOCK_SECONDS = 1.0
"""How long a writer waits for the lock: ``status`` holds it for an instant when it asks whether
anybody is writing."""


def absolute(path: Path) -> Path:
    """``path`` from the root of the file system, without ``..``; links stay as they are, so that a
    library keeps the names that a person gave."""
    return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100


@contextmanager
def write_lock(directory: Path) -> Iterator[None]:
    """The right to write to the library in ``directory``, as ``Library.writing`` has it."""
    lock = FileLock(directory / LOCK, timeout=LOCK_SECONDS)
    try:
        lock.acquire(poll_interval=0.05)
    except Timeout as error:
        raise LibraryBusyError(
            f"another run is writing to the library in {directory}: wait for it to end"
        ) from error
    except OSError as error:
        raise LibraryError.unwritable(directory / LOCK, error) from error
    try:
        yield
    finally:
        lock.release()


class Library:
    """An open library. Close it, or use it in a ``with``. Any thread may ask it anything."""

    directory: Path
    model: str
    """Who made its embeddings: a hub id, ``builtin``, or a model folder's absolute path."""
    revision: str
    dimension: int
    catalog: Catalog

    def __init__(
        self, directory: Path, *, read_only: bool = False, search_device: str = "cpu"
    ) -> None:
        check_search_device(search_device)
        self.directory = directory
        self._search_device = search_device
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
        """Whether there is a library in ``directory``."""
        return (directory / CATALOG).exists()

    @classmethod
    def create(cls, directory: Path, *, model: str, revision: str, dimension: int) -> Self:
        """Makes a library, readable by its owner only, and opens it.

        LibraryError where one is already, or where the folder holds other things.
        """
        if directory.exists():
            ours = {CATALOG, THUMBNAILS, INDEX, LOCK}
            strangers = sorted(
                path.name
                for path in directory.iterdir()
                # A creation that was cut off leaves a draft, which the next one begins anew.
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
        """Opens the library in ``directory``; LibraryError when there is none or it is damaged.

        ``search_device`` is ``cpu`` or ``cuda``: where its vector index is searched, as far as it
        can be. UsageError for ``cuda`` where FAISS has no GPU.
        """
        directory = Path(directory).expanduser()
        if not cls.exists(directory):
            if (directory / SALVAGED).exists():
                raise LibraryError(
                    f"a repair of the library in {directory} was cut off before its last step: run"
                    " `sightline doctor --repair` again"
                )
            raise LibraryError(
                f"there is no library in {directory}: make one with `sightline index FOLDER`"
                " or point to another with --library"
            )
        return cls(directory, read_only=read_only, search_device=search_device)

    def close(self) -> None:
        """Lets go of every file."""
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
        """ModelMismatchError unless this model made the library: vectors of two models cannot be
        compared, not even of two versions of one."""
        if model != self.model or dimension != self.dimension:
            raise ModelMismatchError(
                f"the library in {self.directory} was made with {self.model}, not {model}: search"
                " it with that model, or index into another folder with --library"
            )
        if revision != self.revision:
            raise ModelMismatchError(
                f"the library in {self.directory} was made with revision {self.revision} of"
                f" {model}, and this is {revision}: bring that one back, or index into another"
                " folder with --library"
            )

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Held by one process at a time. LibraryBusyError when another has it."""
        with write_lock(self.directory):
            yield

    def is_being_written(self) -> bool:
        """Whether some process is writing now."""
        if not (self.directory / LOCK).exists():
            return False
        try:
            with FileLock(self.directory / LOCK, timeout=0):
                return False
        except Timeout:
            return True
        except OSError:
            return False  # a disk that cannot be written to

    # asked by the server --------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """Counts up with every change of the vectors."""
        return self.catalog.version

    @property
    def count(self) -> int:
        """How many images there are."""
        return self.catalog.count

    def refresh(self, *, wait: bool = True) -> None:
        """Takes in what has been written since the last look. Cheap when nothing has. Without
        ``wait`` a new generation of the index is opened in the background."""
        with self._lock:
            if self._opened is None:
                return
            changed = self.catalog.changed_since_last_look()
            stamp = self._index_stamp()
            if changed or stamp != self._stamp:
                self._stamp = stamp
                self._opened.refresh(wait=wait)

    def nearest(
        self,
        vectors: Embeddings,
        k: int,
        *,
        filters: Filters = Filters(),  # noqa: B008 (frozen)
        among: Ids | None = None,
    ) -> tuple[Embeddings, Ids]:
        """The ``k`` images nearest to each of ``vectors`` among those that meet ``filters``, or,
        when they are given, among the sorted ids ``among``.

        Returns ``(q, k) float32`` cosines, highest first, and ``(q, k) int64`` ids; where fewer
        images are left the ids are -1. Equal scores are in the order of their ids.
        """
        allowed = among
        if allowed is None and filters:
            allowed = self.catalog.select(filters)
        return self._index.search(vectors, k, allowed=allowed)

    def matching(self, filters: Filters) -> int:
        """How many images meet ``filters``."""
        return self.catalog.matching(filters)

    def select(self, filters: Filters = Filters()) -> Ids:  # noqa: B008 (frozen)
        """The ids of the images that meet ``filters``, ascending."""
        return self.catalog.select(filters)

    def vectors(self, ids: Ids) -> Embeddings:
        """``(n, d) float32`` in the order of ``ids``; a row of NaN where there is no such image.

        From the index's own copy where it is open and of this moment: a tenth of the time."""
        opened = self._opened
        if opened is not None and opened.version == self.catalog.version:
            return opened.vectors(ids)
        return self.catalog.vectors(ids)

    def image(self, id: int) -> ImageRecord | None:
        """One image, or None."""
        return self.catalog.image(id)

    def images(self, ids: Sequence[int]) -> list[ImageRecord]:
        """Images in the order of ``ids``; those that are gone are left out."""
        return self.catalog.images(ids)

    def thumbnail(self, id: int) -> bytes | None:
        """A WebP picture, or None."""
        return self._thumbnails.get(id) if self._thumbnails is not None else None

    def sample(self) -> Embeddings:
        """``(n <= SAMPLE, d)``: vectors that stand for the whole library. The same until the
        library has changed much."""
        count = self.count
        with self._lock:
            if (
                self._sampled is None
                or abs(count - self._sampled[0]) > SAMPLE_DRIFT * self._sampled[0]
            ):
                self._sampled = count, self.catalog.sample(SAMPLE, seed=0)[1]
            return self._sampled[1]

    def by_date(self, ids: Ids, *, descending: bool = True) -> Ids:
        """``ids`` in the order in which the pictures were taken."""
        return self.catalog.by_date(ids, descending=descending)

    def listed(self, filters: Filters, *, descending: bool = True) -> Ids:
        """What meets ``filters``, in the order in which the pictures were taken."""
        return self.by_date(self.select(filters), descending=descending)

    def random(self, k: int, seed: int = 0) -> Ids:
        """``k`` images by chance, the same for the same ``seed``."""
        return self.catalog.random(k, seed)

    def histogram(self, ids: Ids | None = None) -> Months:
        """How many of ``ids``, or of all images, were taken in each month."""
        return self.catalog.histogram(ids)

    def facets(self, kind: str, ids: Ids | None = None) -> list[Suggestion]:
        """Every value of one kind of filter with how many pictures have it, most first; with
        ``ids`` every ``keyword`` or ``label`` of those images."""
        return self.catalog.facets(kind, ids)

    def has(self, kind: str) -> bool:
        """Whether any image has a ``keyword``, a ``label`` or a ``year``; nothing is counted."""
        return self.catalog.has(kind)

    def labels(self, ids: Sequence[int]) -> dict[int, list[tuple[str, float]]]:
        """``(label, fit)`` of each of ``ids`` that has any, best first."""
        return self.catalog.labels(ids)

    def suggest(self, kind: str, prefix: str = "", limit: int = 10) -> list[Suggestion]:
        """Values of one kind of filter that begin with ``prefix``, most pictures first."""
        return self.catalog.suggest(kind, prefix, limit)

    def search_words(self, text: str, limit: int) -> list[tuple[int, float]]:
        """Images whose names, titles, captions, keywords or places hold any of the words of
        ``text``, best first, with a score that is higher for better ones."""
        return self.catalog.search_words(text, limit)

    def holding_words(self, text: str, limit: int) -> Ids:
        """The first ``limit`` images, by id, of which names, titles, captions, keywords or places
        hold every word of ``text``."""
        return self.catalog.holding_words(text, limit)

    def failures(self) -> list[Failure]:
        """The files that could not be read, and why."""
        return self.catalog.failures()

    def roots(self) -> list[dict[str, Any]]:
        """``{"path", "images", "available"}`` for each folder that was indexed."""
        counts = self.catalog.root_counts()
        return [
            {
                "path": str(root.path),
                "images": counts.get(root.id, 0),
                "available": root.path.exists(),
            }
            for root in self.catalog.roots()
        ]

    def status(self) -> dict[str, Any]:
        """What there is, as ``sightline status --json`` prints it."""
        self.refresh(wait=False)
        return {
            "library": str(self.directory),
            "model": self.model,
            "revision": self.revision,
            "dimension": self.dimension,
            "images": self.count,
            "failures": self.catalog.failure_count,
            "index": asdict(self.index_state),
            "roots": self.roots(),
            "run": self._run_under_way(),
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

    # the vector index -----------------------------------------------------------------------------

    @property
    def index_state(self) -> IndexState:
        """What the vector index is and how good it was measured to be."""
        return self._index.state

    @property
    def _index(self) -> VectorIndex:
        """Opened by the first search: indexing alone needs no FAISS."""
        with self._lock:
            if self._opened is None:
                self.catalog.changed_since_last_look()
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
        """Changes when a file of the index is put in place."""
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
        """Builds the vector index anew. Call it inside ``writing``.

        ``kind`` is ``auto``, ``exact``, ``ivf-pq`` or ``ivf-rabitq``. ``text_queries`` gives the
        vectors of everyday captions, for which the index is tuned beside those of images.
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

    def maintain_index(
        self,
        *,
        device: str = "auto",
        text_queries: Callable[[], Embeddings] | None = None,
        progress: Progress = no_progress,
    ) -> IndexState | None:
        """Builds, extends or retrains the vector index where what has changed since it was built
        warrants that; None where it does not. Call it inside ``writing``."""
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

    def index_orphans(self) -> int:
        """Files of the index that no generation needs: builds that were cut off. None while
        somebody writes: they may be of the one under way."""
        return 0 if self.is_being_written() else len(orphans(self.directory / INDEX))

    def sweep_index(self) -> int:
        """Removes those files, and counts them. Call it inside ``writing``."""
        return sweep_orphans(self.directory / INDEX)

    # roots ----------------------------------------------------------------------------------------

    def root_paths(self) -> list[Path]:
        """The folders that were indexed."""
        return [root.path for root in self.catalog.roots()]

    def ensure_root(self, path: Path) -> Root:
        """The root at ``path``, new or as it was. A new one takes over the pictures of the roots
        that lie below it, so that no picture is in the library twice."""
        below = [
            root
            for root in self.catalog.roots()
            if root.path != path and root.path.is_relative_to(path)
        ]
        owner = self.catalog.add_root(path)
        for root in below:
            prefix = root.path.relative_to(path).as_posix()
            moved = [
                (known.id, Candidate(path, f"{prefix}/{known.path}", known.size, known.mtime_ns))
                for known in self.catalog.known(root).values()
            ]
            self.catalog.write(owner, moved=moved)
            self.catalog.remove_root(root.path)
        return owner

    def move_root(self, old: Path, new: Path) -> None:
        """Says that the folder ``old`` is at ``new`` now. Nothing is encoded again."""
        target = absolute(new)
        if not target.is_dir():
            raise UsageError(f"there is no folder {new}")
        with self.writing():
            self.catalog.move_root(absolute(old), target)

    def forget_root(self, path: Path) -> None:
        """Takes a folder and its pictures out of the library. The files stay as they are."""
        with self.writing():
            # Written down as a run, so that the next one sweeps the thumbnails if this is cut off.
            run = self.catalog.start_run([str(path)])
            removed, interrupted = 0, 1
            try:
                removed = len(self.catalog.remove_root(absolute(path)))
                if self._thumbnails is not None:
                    self._thumbnails.sweep(self.catalog.select())
                interrupted = 0
            finally:
                counts = {"removed": removed, "interrupted": interrupted}
                self.catalog.finish_run(run, counts)

    # thumbnails -----------------------------------------------------------------------------------

    def remove_thumbnails(self, ids: Sequence[int]) -> None:
        """Of images that are gone."""
        if self._thumbnails is not None and len(ids):
            self._thumbnails.remove(ids)

    @property
    def thumbnails(self) -> Thumbnails:
        """The store of thumbnails; LibraryError in a library opened read-only without one."""
        if self._thumbnails is None:
            raise LibraryError(f"{self.directory / THUMBNAILS} is not there")
        return self._thumbnails
