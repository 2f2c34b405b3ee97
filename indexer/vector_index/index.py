"""The vector index of a library: nearest neighbours by cosine, with FAISS.

    index = open_index(directory, catalog, model=.., revision=..)
    scores, ids = index.search(queries, 10, allowed=ids)
    index.refresh()                       # after the catalog has changed

A small library is searched exactly, in memory. A larger one has a *generation* on disk: a quantised
index (IVF-PQ) with measured parameters. The *delta*, vectors newer than the generation, is searched
exactly in memory, and rows deleted since are skipped. Scores are always exact cosines of the
float16 vectors of the catalog; ties are in the order of ids.

The catalog is the truth. A generation that is corrupt, or built from another library or model, is
not used: the library is then searched exactly, and ``state.note`` is the reason.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from sightline.indexer.errors import LibraryError
from sightline.indexer.types import Embeddings, Ids, IndexState, Progress, no_progress
from sightline.indexer.vector_index.build import EXACT_BELOW, VectorSource, build, extend, kind_for
from sightline.indexer.vector_index.exact import (
    BLOCK,
    ExactIndex,
    IdFilter,
    Mask,
    Scores,
    merged,
    top_k,
)
from sightline.indexer.vector_index.generation import Generation
from sightline.indexer.vector_index.gpu import MANY_DELETED_NOTE, GpuCopy, check_search_device
from sightline.indexer.vector_index.manifest import (
    Manifest,
    UntrustedError,
    install,
    read_manifest,
    remove_stale,
    stale_files,
)

EXTEND_ROWS, EXTEND_FRACTION = 20_000, 0.05
"""A generation is extended if the delta is larger than both: rows, and fraction of the library."""

RETRAIN_GROWTH = 2.5
"""It is trained again if the library has grown by this factor since training,"""

RETRAIN_DELETED = 0.25
"""or if more than this fraction of its rows is deleted."""

CACHED_FILTERS = 4
"""Filters whose rows are cached: a filter often stays the same while the query text changes."""

CONCURRENT_SEARCHES = threading.BoundedSemaphore(os.cpu_count() or 1)
"""One search per core: FAISS's OpenMP threads of more searches wait for each other actively. On two
cores 32 threads complete 135 instead of 72 searches per second, in a ninth of the CPU time."""

IDLE_SECONDS = 60.0
"""Seconds without a search after which the pages of the mapped vectors are released: searches of a
million images map all of them, a gigabyte that counts as the process's memory."""

RELEASED_FROM = 2**26
"""Bytes of vectors from which they are."""

log = logging.getLogger("sightline")

TextQueries = Callable[[], Embeddings]


@dataclass(frozen=True)
class _Snapshot:
    """What is searched. Replaced as a whole, so that searches in progress are not affected."""

    version: int
    """Version of the source."""
    generation: Generation | None
    delta: ExactIndex
    deleted: Mask | None = None
    """Rows of the generation whose image was deleted or encoded again since."""
    note: str | None = None
    gpu: GpuCopy | None = None
    """The copy of ``generation`` on a GPU, if it is to be searched there."""

    @property
    def deleted_count(self) -> int:
        return 0 if self.deleted is None else int(self.deleted.sum())

    def with_changes_of(self, source: VectorSource) -> _Snapshot:
        """This brought up to date with ``source``."""
        changes = source.changes(self.version)
        deleted = self.deleted
        if self.generation is not None and (len(changes.ids) or len(changes.removed)):
            stale = IdFilter(np.concatenate([changes.ids, changes.removed]))
            rows = self.generation.rows_of(stale)
            if len(rows):
                count = self.generation.manifest.rows
                deleted = np.zeros(count, bool) if deleted is None else deleted.copy()
                deleted[rows] = True
        delta = self.delta.updated(changes.ids, changes.vectors, changes.removed)
        return replace(self, version=changes.version, delta=delta, deleted=deleted)


class VectorIndex:
    """The vectors of a library. Any number of threads may search it."""

    def __init__(
        self, directory: Path, source: VectorSource, model: str, revision: str, device: str
    ) -> None:
        """Use ``open_index``."""
        self._directory, self._source = directory, source
        self._model, self._revision, self._device = model, revision, device
        self._lock = threading.Lock()
        self._generation: int | None = None
        """Number of the newest generation that was opened or rejected."""
        self._opening: threading.Thread | None = None
        self._error: Exception | None = None
        self._closed = False
        self._searched_at = 0.0
        self._releasing: threading.Thread | None = None
        """Waits until there was no search for ``IDLE_SECONDS``."""
        self._filters: tuple[tuple[Ids, IdFilter], ...] = ()
        self._snapshot = self._open()

    # searching ------------------------------------------------------------------------------------

    def search(
        self, queries: Embeddings, k: int, *, allowed: Ids | None = None
    ) -> tuple[Scores, Ids]:
        """The ``k`` nearest of each of ``(q, d)`` unit-norm ``queries``.

        Returns ``(q, k)`` exact cosines, descending, and image ids, padded with ``-inf`` and -1.
        ``allowed`` are the only ids to return, in any order; if the array is read-only, what the
        index computes from it is cached for later searches with the same array.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        if queries.ndim != 2 or queries.shape[1] != self._source.dimension:
            raise ValueError(f"queries are {queries.shape}, not (q, {self._source.dimension})")
        now = self._snapshot
        wanted = None if allowed is None else self._filter(allowed)
        parts = []
        with CONCURRENT_SEARCHES:
            if now.delta.count:
                parts.append(now.delta.search(queries, k, wanted))
            if now.generation is not None:
                parts.append(now.generation.search(queries, k, allowed=wanted, deleted=now.deleted))
        self._searched_at = time.monotonic()
        if (
            self._releasing is None
            and now.generation is not None
            and now.generation.vectors.nbytes >= RELEASED_FROM
        ):
            self._start_releasing()
        scores = np.full((len(queries), k), -np.inf, np.float32)
        ids = np.full((len(queries), k), -1, np.int64)
        for n, found in enumerate(merged(parts, len(queries))):
            best, best_ids = top_k(*found, k)
            scores[n, : len(best)], ids[n, : len(best)] = best, best_ids
        return scores, ids

    def _filter(self, ids: Ids) -> IdFilter:
        for known, cached in self._filters:
            if known is ids:
                return cached
        made = IdFilter(ids)
        if not ids.flags.writeable:
            self._filters = (ids, made), *self._filters[: CACHED_FILTERS - 1]
        return made

    def _start_releasing(self) -> None:
        with self._lock:
            if self._releasing is None and not self._closed:
                self._releasing = threading.Thread(
                    target=_release_when_idle,
                    args=(weakref.ref(self),),
                    name="release-index",
                    daemon=True,
                )
                self._releasing.start()

    def _released(self) -> bool:
        """Releases the memory of the generation if the index is idle; False if it is not."""
        with self._lock:
            if time.monotonic() < self._searched_at + IDLE_SECONDS:
                return False
            if self._snapshot.generation is not None:
                self._snapshot.generation.release_memory()
            self._releasing = None
            return True

    @property
    def version(self) -> int:
        """The version of the source that is searched."""
        return self._snapshot.version

    def vectors(self, ids: Ids) -> Embeddings:
        """``(n, d) float32`` in the order of ``ids``; a row of NaN if there is no such image."""
        now, ids = self._snapshot, np.asarray(ids, np.int64)
        if now.generation is None:
            present, vectors = now.delta.fetch(ids)
        else:
            present, vectors = now.generation.vectors_of(ids, now.deleted)
            if now.delta.count:
                newer, some = now.delta.fetch(ids)
                vectors[newer] = some[newer]
                present |= newer
        vectors[~present] = np.nan
        return vectors

    @property
    def state(self) -> IndexState:
        """What ``status`` reports."""
        now = self._snapshot
        cpu_reason = self._cpu_reason(now)
        on_gpu = self._device == "cuda" and cpu_reason is None
        state = IndexState(
            "exact",
            now.delta.count,
            self._generation or 0,
            now.delta.bytes,
            note=now.note,
            device="cuda" if on_gpu else "cpu",
            device_note=cpu_reason,
        )
        if now.generation is None:
            return state
        manifest = now.generation.manifest
        return replace(
            state,
            type=manifest.kind,
            count=manifest.rows - manifest.deleted,
            generation=manifest.generation,
            bytes=manifest.files["index"].bytes + now.delta.bytes,
            pending=now.delta.count + now.deleted_count,
            nprobe=manifest.nprobe,
            recall=dict(manifest.recall),
        )

    def _cpu_reason(self, now: _Snapshot) -> str | None:
        """Why the CPU searches although a GPU was requested."""
        if self._device == "cpu":
            return None
        if now.gpu is None or now.generation is None:
            return "a library without an index is searched exactly, on the CPU"
        if now.gpu.note is None and now.generation.many_deleted(now.deleted):
            return MANY_DELETED_NOTE
        return now.gpu.note

    # following the catalog ------------------------------------------------------------------------

    def refresh(self, *, wait: bool = True) -> bool:
        """Applies the changes of the source, and opens a newer generation; whether there were any.

        Without ``wait`` a newer generation is opened by a background thread, which takes as long as
        reading its files; until then searches use the previous one, with the same results. An
        error in that thread is raised by the next ``refresh``.
        """
        opening = self._opening
        if wait and opening is not None:
            opening.join()
        with self._lock:
            error, self._error = self._error, None
            if error is not None:
                raise error
            newer = self._opening is None and self._newer_on_disk()
            if newer and wait:
                self._snapshot = self._open()
                return True
            if newer:
                self._opening = threading.Thread(target=self._open_newest, name="open-index")
                self._opening.start()
            if self._source.version == self._snapshot.version:
                return False
            self._snapshot = self._snapshot.with_changes_of(self._source)
            return True

    def _open_newest(self) -> None:
        """Opens the generation on disk, and any that replaces it meanwhile."""
        try:
            while True:
                opened = self._open()
                with self._lock:
                    if self._closed:
                        return
                    self._snapshot = opened.with_changes_of(self._source)
                    if reason := self._cpu_reason(self._snapshot):
                        log.warning("searches run on the CPU: %s", reason)
                    if not self._newer_on_disk():
                        self._opening = None
                        return
        except Exception as error:
            with self._lock:
                self._error, self._opening = error, None

    def close(self) -> None:
        """Releases vectors and files."""
        opening = self._opening
        if opening is not None:
            opening.join()
        with self._lock:
            self._closed = True
            empty = ExactIndex(self._source.dimension)
            self._snapshot = _Snapshot(self._snapshot.version, None, empty)

    def _newer_on_disk(self) -> bool:
        try:
            manifest = read_manifest(self._directory)
        except UntrustedError:
            return False
        return manifest is not None and manifest.generation != self._generation

    def _open(self) -> _Snapshot:
        note = None
        empty = ExactIndex(self._source.dimension)
        for _ in range(3):  # a build may remove the files after the manifest was read
            try:
                manifest = read_manifest(self._directory)
                if manifest is None:
                    break
                self._generation = manifest.generation
                _check(manifest, self._source, self._model, self._revision)
                if manifest.kind == "exact":
                    break
                generation = Generation(self._directory, manifest)
            except UntrustedError as error:
                note = f"{error}: every search is exact until `sightline rebuild`"
                continue
            gpu = None if self._device == "cpu" else GpuCopy(generation)
            opened = _Snapshot(manifest.version, generation, empty, gpu=gpu)
            return opened.with_changes_of(self._source)
        version = self._source.version
        blocks = self._source.blocks(BLOCK, until_version=version)
        vectors = ExactIndex.of(self._source.dimension, blocks)
        # Images encoded again during the reading are in no block, but in the changes.
        return _Snapshot(version, None, vectors, note=note).with_changes_of(self._source)


def _release_when_idle(weak: weakref.ref[VectorIndex]) -> None:
    """Runs in a thread until ``VectorIndex._released``, or until nobody has the index any more."""
    while (index := weak()) is not None and not index._released():
        del index  # while this sleeps
        time.sleep(IDLE_SECONDS / 4)


def _check(manifest: Manifest, source: VectorSource, model: str, revision: str) -> None:
    """UntrustedError unless ``manifest`` belongs to this source and model."""
    if manifest.identity != source.identity:
        raise UntrustedError("the index is of another library")
    if (manifest.model, manifest.revision) != (model, revision):
        raise UntrustedError(f"the index was made with {manifest.model}")
    if manifest.dimension != source.dimension:
        raise UntrustedError(f"the index has {manifest.dimension} dimensions")
    if manifest.version > source.version:
        raise UntrustedError("the index is newer than the catalog")


def open_index(
    directory: Path, source: VectorSource, *, model: str, revision: str, device: str = "cpu"
) -> VectorIndex:
    """The index of ``source`` with its files in ``directory``. Files that cannot be trusted are no
    error; they are not used.

    ``device``, ``cpu`` or ``cuda``, is where searches run if possible; ``state`` reports where they
    do. UsageError for ``cuda`` without a GPU.
    """
    check_search_device(device)
    return VectorIndex(directory, source, model, revision, device)


# building and maintenance -------------------------------------------------------------------------


def build_index(
    directory: Path,
    source: VectorSource,
    *,
    model: str,
    revision: str,
    kind: str = "auto",
    text_queries: TextQueries | None = None,
    device: str = "auto",
    progress: Progress = no_progress,
    before_install: Callable[[], None] | None = None,
) -> IndexState:
    """Builds a new generation of ``kind`` (``auto``, ``exact``, ``ivf-pq``, ``ivf-rabitq``), which
    ``maintain_index`` then keeps to.

    ``text_queries`` returns the vectors of captions, for which the index is tuned as well as for
    images. ``device`` is where it is trained: ``auto``, ``cpu`` or ``cuda``. ``before_install`` is
    called when all files are written, just before they become current. UsageError for an
    unknown kind or a missing GPU.
    """
    kind_for(kind, 0)
    manifest = _new_manifest(source, model, revision, kind)
    with _build_errors(directory):
        manifest = build(
            directory, source, manifest, text_queries=text_queries, device=device, progress=progress
        )
        if before_install is not None:
            before_install()
        install(directory, manifest)
    return open_index(directory, source, model=model, revision=revision).state


def maintain_index(
    directory: Path,
    source: VectorSource,
    *,
    model: str,
    revision: str,
    kind: str = "auto",
    text_queries: TextQueries | None = None,
    device: str = "auto",
    progress: Progress = no_progress,
) -> IndexState | None:
    """Builds, extends or retrains the index if its size or the changes since require it, or if its
    files cannot be used. None if there was nothing to do."""
    with _build_errors(directory):
        try:
            manifest = read_manifest(directory)
            if manifest is not None:
                if manifest.identity == source.identity:
                    kind = manifest.requested  # also if it is of another model
                _check(manifest, source, model, revision)
            action = _due(directory, manifest, source, kind_for(kind, source.count))
            if action == "nothing":
                remove_stale(directory, manifest)  # of a run killed before it could
                return None
            old = None
            if action == "extend" and manifest is not None:
                old = Generation(directory, manifest)
        except UntrustedError:
            old = None
        if old is not None:
            manifest = extend(
                directory, source, old, text_queries=text_queries, device=device, progress=progress
            )
        else:
            manifest = build(
                directory,
                source,
                _new_manifest(source, model, revision, kind),
                text_queries=text_queries,
                device=device,
                progress=progress,
            )
        install(directory, manifest)
    return open_index(directory, source, model=model, revision=revision).state


def _due(
    directory: Path, manifest: Manifest | None, source: VectorSource, kind: str
) -> Literal["nothing", "extend", "build"]:
    """What maintenance must do; ``kind`` is the kind for the present size of the library."""
    count = source.count
    if manifest is None or manifest.kind == "exact":
        return "nothing" if kind == "exact" else "build"
    if manifest.requested == "auto" and count < EXACT_BELOW // 2:
        return "build"  # an exact index, which has no files
    for facts in manifest.files.values():
        path = directory / facts.name
        if not path.exists() or path.stat().st_size != facts.bytes:
            return "build"
    pending = source.pending(manifest.version)
    if pending <= max(EXTEND_ROWS, EXTEND_FRACTION * count):
        return "nothing"
    # An upper bound: removed images are also part of ``pending``.
    deleted = manifest.rows + pending - count
    if count > RETRAIN_GROWTH * manifest.trained_on or deleted > RETRAIN_DELETED * manifest.rows:
        return "build"
    return "extend"


@contextmanager
def _build_errors(directory: Path) -> Iterator[None]:
    """Turns errors of the system and of FAISS into LibraryError. The previous generation stays
    current."""
    try:
        yield
    except OSError as error:
        raise LibraryError.unwritable(directory, error) from error
    except (RuntimeError, MemoryError, UntrustedError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise LibraryError(
            f"the vector index in {directory} cannot be built ({reason}): searches go on without"
            " it; try again with `sightline rebuild`"
        ) from error


def _new_manifest(source: VectorSource, model: str, revision: str, requested: str) -> Manifest:
    return Manifest(
        generation=0,
        kind="exact",
        requested=requested,
        identity=source.identity,
        model=model,
        revision=revision,
        dimension=source.dimension,
        version=0,
    )


def requested_kind(directory: Path) -> str:
    """The kind of index that was requested for the current generation, or ``auto``."""
    try:
        manifest = read_manifest(directory)
    except UntrustedError:
        return "auto"
    return "auto" if manifest is None else manifest.requested


def orphans(directory: Path) -> list[Path]:
    """Files that do not belong to the current generation. Those of a build in progress are among
    them: call this with the write lock held, or when nobody holds it."""
    try:
        return stale_files(directory, read_manifest(directory))
    except UntrustedError:
        return []  # the next build removes them


def remove_orphans(directory: Path) -> int:
    """Deletes ``orphans`` and returns their number."""
    found = orphans(directory)
    if found:
        remove_stale(directory, read_manifest(directory))
    return len(found)
