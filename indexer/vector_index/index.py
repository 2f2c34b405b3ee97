"""Nearest neighbours: what FAISS holds of a library.

    index = open_index(directory, catalog, model=.., revision=..)
    scores, ids = index.search(queries, 10, allowed=ids)
    index.refresh()                       # after the catalog has changed

A small library is searched exactly, in memory. A larger one has a *generation* on disk, quantised
(IVF-PQ) and tuned; what is newer than it, the *delta*, is held in memory and searched exactly
beside it, and what has gone since is passed over. Scores are always exact cosines of the vectors as
the catalog keeps them (float16), ties go by id.

The catalog is the truth. A generation that is damaged, of another library or of another model is
not used: the whole library is then searched exactly, and ``state.note`` says so.

    index_build        choosing, training, adding, extending
    index_tune         measuring recall, choosing how hard to look
    index_gpu          a generation searched on a GPU
    index_generation   one generation, opened
    index_files        manifest, checksums
    index_rows         vectors in memory
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.errors import LibraryError
from sightline.indexer.types import Embeddings, Ids, IndexState, Progress, no_progress
from sightline.indexer.vector_index.build import EXACT_BELOW, VectorSource, build, extend, kind_for
from sightline.indexer.vector_index.exact import Allowed, Rows, Scores, best
from sightline.indexer.vector_index.generation import Generation
from sightline.indexer.vector_index.gpu import SOME_GONE, OnGpu, check_search_device
from sightline.indexer.vector_index.manifest import (
    Manifest,
    UntrustedError,
    install,
    left_over,
    next_generation,
    read_manifest,
    sweep,
)

__all__ = [
    "VectorIndex",
    "VectorSource",
    "build_index",
    "check_search_device",
    "maintain_index",
    "open_index",
    "orphans",
    "sweep_orphans",
]

BLOCK = 65_536
"""Vectors read from the source at a time."""

EXTEND_AT, EXTEND_SHARE = 20_000, 0.05
"""A generation is extended when what is newer is more than both."""

RETRAIN_GROWTH = 2.5
"""It is trained anew when there are so many times the images it was trained on,"""

RETRAIN_GONE = 0.25
"""or when more than this share of its rows is gone."""

REMEMBERED = 4
"""Filters whose rows are remembered: people change their words more often."""

TURNS = threading.BoundedSemaphore(max(1, os.cpu_count() or 1))
"""Searches at work at once, one a core. With more, threads take time and cache from each other: on
two cores 32 threads did a sixth of the searches that two did, and do three quarters with this."""

log = logging.getLogger("sightline")

Queries = Callable[[], Embeddings]


@dataclass(frozen=True)
class _Now:
    """What is searched: replaced as a whole, so that a search that has begun is not disturbed."""

    version: int
    generation: Generation | None
    delta: Rows
    gone: NDArray[np.bool_] | None = None
    """Rows of the generation whose image was removed or encoded again since."""
    note: str | None = None
    gpu: OnGpu | None = None
    """Where ``generation`` is to be searched on one."""

    @property
    def gone_count(self) -> int:
        return 0 if self.gone is None else int(self.gone.sum())


class VectorIndex:
    """The vectors of a library, ready to be searched by any number of threads."""

    def __init__(
        self, directory: Path, source: VectorSource, model: str, revision: str, device: str
    ) -> None:
        """Use ``open_index``."""
        self._directory, self._source = directory, source
        self._model, self._revision, self._device = model, revision, device
        self._lock = threading.Lock()
        self._number: int | None = None
        self._opening: threading.Thread | None = None
        self._trouble: Exception | None = None
        self._closed = False
        self._filters: tuple[Allowed, ...] = ()
        self._now = self._open()

    # searching ------------------------------------------------------------------------------------

    def search(
        self, queries: Embeddings, k: int, *, allowed: Ids | None = None
    ) -> tuple[Scores, Ids]:
        """The ``k`` nearest of each of ``(q, d)`` unit ``queries``.

        Returns ``(q, k)`` exact cosines, falling, and image ids, padded with ``-inf`` and -1.
        ``allowed`` are the only ids that may be found, in any order; what they mean to the index is
        remembered while the same array, which cannot be written to, comes again.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        if queries.ndim != 2 or queries.shape[1] != self._source.dimension:
            raise ValueError(f"queries are {queries.shape}, not (q, {self._source.dimension})")
        now = self._now
        wanted = None if allowed is None else self._allowed(allowed)
        parts = []
        with TURNS:
            if now.delta.count:
                parts.append(now.delta.search(queries, k, wanted))
            if now.generation is not None:
                parts.append(now.generation.search(queries, k, allowed=wanted, gone=now.gone))
        scores = np.full((len(queries), k), -np.inf, np.float32)
        ids = np.full((len(queries), k), -1, np.int64)
        for n in range(len(queries)):
            if not parts:
                break
            some, of = parts[0][n]
            if len(parts) > 1:
                some = np.concatenate([part[n][0] for part in parts])
                of = np.concatenate([part[n][1] for part in parts])
            top, which = best(some, of, k)
            scores[n, : len(top)], ids[n, : len(top)] = top, which
        return scores, ids

    def _allowed(self, ids: Ids) -> Allowed:
        for known in self._filters:
            if known.ids is ids:
                return known
        made = Allowed(ids)
        if not ids.flags.writeable:
            self._filters = made, *self._filters[: REMEMBERED - 1]
        return made

    @property
    def version(self) -> int:
        """The source's version that this is of."""
        return self._now.version

    def vectors(self, ids: Ids) -> Embeddings:
        """``(n, d) float32`` in the order of ``ids``; a row of NaN where there is no such image."""
        now, ids = self._now, np.asarray(ids, np.int64)
        there, vectors = now.delta.fetch(ids)
        if now.generation is not None:
            held, some = now.generation.vectors_of(ids[~there], now.gone)
            vectors[~there] = some
            there[~there] = held
        vectors[~there] = np.nan
        return vectors

    @property
    def state(self) -> IndexState:
        """What ``status`` says of it."""
        now = self._now
        device, why = self._searched_on(now)
        if now.generation is None:
            return IndexState(
                "exact",
                now.delta.count,
                self._number or 0,
                now.delta.bytes,
                note=now.note,
                device=device,
                device_note=why,
            )
        manifest = now.generation.manifest
        return IndexState(
            manifest.kind,
            manifest.rows - manifest.gone,
            manifest.generation,
            manifest.files["index"].bytes + now.delta.bytes,
            pending=now.delta.count + now.gone_count,
            nprobe=manifest.nprobe,
            recall=dict(manifest.recall),
            note=now.note,
            device=device,
            device_note=why,
        )

    def _searched_on(self, now: _Now) -> tuple[str, str | None]:
        """``cpu`` or ``cuda``, and where that was asked for in vain, why."""
        if self._device == "cpu":
            return "cpu", None
        if now.gpu is None or now.generation is None:
            why: str | None = "a library without an index is searched exactly, on the processor"
        else:
            why = now.gpu.note
            if why is None and now.generation.many_gone(now.gone):
                why = SOME_GONE
        return "cuda" if why is None else "cpu", why

    # following the catalog ------------------------------------------------------------------------

    def refresh(self, *, wait: bool = True) -> bool:
        """Takes in what has changed in the source, and a newer generation; whether anything had.

        Without ``wait`` a newer generation is opened in the background, which takes as long as
        reading its files does, and searched once it is open; until then the one before is, which
        finds the same. What went wrong there is raised by the next ``refresh``.
        """
        opening = self._opening
        if wait and opening is not None:
            opening.join()
        with self._lock:
            trouble, self._trouble = self._trouble, None
            if trouble is not None:
                raise trouble
            newer = self._opening is None and self._newer_on_disk()
            if newer and wait:
                self._now = self._open()
                return True
            if newer:
                self._opening = threading.Thread(target=self._take_up, name="open-index")
                self._opening.start()
            if self._source.version == self._now.version:
                return False
            self._now = self._followed(self._now)
            return True

    def _take_up(self) -> None:
        """Opens what is on the disk and searches it from then on; again, where a newer one was put
        there meanwhile: nobody else would look until something else changes."""
        try:
            while True:
                opened = self._open()
                with self._lock:
                    if self._closed:
                        return
                    self._now = self._followed(opened)
                    if why := self._searched_on(self._now)[1]:
                        log.warning("searches run on the processor: %s", why)
                    if not self._newer_on_disk():
                        self._opening = None  # before a ``refresh`` may look
                        return
        except Exception as error:
            with self._lock:
                self._trouble, self._opening = error, None

    def _followed(self, now: _Now) -> _Now:
        """``now`` with what has changed in the source since."""
        changes = self._source.changes(now.version)
        return _changed(now, changes.ids, changes.vectors, changes.removed, changes.version)

    def close(self) -> None:
        """Lets go of vectors and files."""
        opening = self._opening
        if opening is not None:
            opening.join()
        with self._lock:
            self._closed = True
            self._now = _Now(self._now.version, None, Rows(self._source.dimension))

    def _newer_on_disk(self) -> bool:
        try:
            manifest = read_manifest(self._directory)
        except UntrustedError:
            return False
        return manifest is not None and manifest.generation != self._number

    def _open(self) -> _Now:
        note = None
        for _ in range(3):  # a generation may be swept away between its manifest and its files
            try:
                manifest = read_manifest(self._directory)
                if manifest is None:
                    break
                self._number = manifest.generation
                self._check(manifest)
                if manifest.kind == "exact":
                    break
                generation = Generation(self._directory, manifest)
            except UntrustedError as error:
                note = f"{error}: every search is exact until `sightline rebuild`"
                continue
            empty = Rows(self._source.dimension)
            gpu = None if self._device == "cpu" else OnGpu(generation)
            return self._followed(_Now(manifest.version, generation, empty, gpu=gpu))
        version = self._source.version
        rows = Rows.of(self._source.dimension, self._source.blocks(BLOCK, until_version=version))
        # What was encoded again while it was read is in no block, but in the changes.
        return self._followed(_Now(version, None, rows, note=note))

    def _check(self, manifest: Manifest) -> None:
        _check(manifest, self._source, self._model, self._revision)


def _changed(now: _Now, ids: Ids, vectors: Embeddings, removed: Ids, version: int) -> _Now:
    """``now`` after these changes."""
    gone = now.gone
    if now.generation is not None and (len(ids) or len(removed)):
        rows = now.generation.rows_of(Allowed(np.concatenate([ids, removed])))
        if len(rows):
            gone = np.zeros(now.generation.manifest.rows, bool) if gone is None else gone.copy()
            gone[rows] = True
    delta = now.delta.changed(ids, vectors, removed)
    return replace(now, version=version, delta=delta, gone=gone)


def _check(manifest: Manifest, source: VectorSource, model: str, revision: str) -> None:
    """UntrustedError unless ``manifest`` is of this source and model."""
    if manifest.identity != source.identity:
        raise UntrustedError("the index is of another library")
    if (manifest.model, manifest.revision) != (model, revision):
        raise UntrustedError(f"the index was made with {manifest.model}")
    if manifest.dimension != source.dimension:
        raise UntrustedError(f"the index has {manifest.dimension} dimensions")
    if manifest.version > source.version:
        raise UntrustedError("the index is newer than the catalog")


# made and looked after ----------------------------------------------------------------------------


def open_index(
    directory: Path, source: VectorSource, *, model: str, revision: str, device: str = "cpu"
) -> VectorIndex:
    """The index of ``source`` whose files are in ``directory``; never an error, and never a wrong
    answer: what cannot be trusted is not used.

    ``device`` is ``cpu`` or ``cuda``: where it is searched, as far as it can be; ``state`` says
    where it is. UsageError for ``cuda`` where there is no GPU.
    """
    check_search_device(device)
    return VectorIndex(directory, source, model, revision, device)


def build_index(
    directory: Path,
    source: VectorSource,
    *,
    model: str,
    revision: str,
    kind: str = "auto",
    text_queries: Queries | None = None,
    device: str = "auto",
    progress: Progress = no_progress,
) -> IndexState:
    """Builds the index anew, of this ``kind`` (``auto``, ``exact``, ``ivf-pq``, ``ivf-rabitq``),
    and keeps to it when it is maintained.

    ``text_queries`` gives the vectors of everyday captions, for which it is tuned beside images.
    ``device`` is ``auto``, ``cpu`` or ``cuda``: where it is trained. UsageError for what cannot be.
    """
    wanted = _blank(source, model, revision, kind)
    kind_for(kind, 0)
    with _explained(directory):
        build(
            directory, source, wanted, text_queries=text_queries, device=device, progress=progress
        )
    return open_index(directory, source, model=model, revision=revision).state


def maintain_index(
    directory: Path,
    source: VectorSource,
    *,
    model: str,
    revision: str,
    kind: str = "auto",
    text_queries: Queries | None = None,
    device: str = "auto",
    progress: Progress = no_progress,
) -> IndexState | None:
    """Builds, extends or retrains the index where its size or what has changed warrants it, or
    where its files cannot be used. None where there was nothing to do."""
    with _explained(directory):
        done = _maintained(
            directory, source, _blank(source, model, revision, kind), text_queries, device, progress
        )
    return open_index(directory, source, model=model, revision=revision).state if done else None


@contextmanager
def _explained(directory: Path) -> Iterator[None]:
    """Turns what the system or FAISS says of a build into a LibraryError. The generation that was
    in force stays so."""
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


def _maintained(
    directory: Path,
    source: VectorSource,
    blank: Manifest,
    text_queries: Queries | None,
    device: str,
    progress: Progress,
) -> bool:
    """``maintain_index``; whether there was anything to do. ``blank`` says what is wanted."""
    count, kind = source.count, blank.wanted
    try:
        manifest = read_manifest(directory)
        if manifest is not None:
            _check(manifest, source, blank.model, blank.revision)
            kind = manifest.wanted
    except UntrustedError:
        manifest = None
        if kind_for(kind, count) == "exact":
            fresh = replace(blank, generation=next_generation(directory), version=source.version)
            install(directory, fresh, {})
            return True
    due = _due(directory, manifest, source, kind_for(kind, count))
    if due == "nothing":
        # What a run left that was killed between the manifest and its sweeping.
        sweep(directory, manifest)
        return False
    if due == "extend":
        assert manifest is not None
        try:
            old = Generation(directory, manifest)
        except UntrustedError:
            due = "build"
        else:
            extend(
                directory,
                source,
                old,
                text_queries=text_queries,
                device=device,
                progress=progress,
            )
    if due == "build":
        build(
            directory,
            source,
            replace(blank, wanted=kind),
            text_queries=text_queries,
            device=device,
            progress=progress,
        )
    return True


def orphans(directory: Path) -> list[Path]:
    """Files of the index that belong to no generation in force. Where somebody is building one
    they are its own: ask inside ``writing``, or when nobody writes."""
    try:
        return left_over(directory, read_manifest(directory))
    except UntrustedError:
        return []  # the next build sweeps them away


def sweep_orphans(directory: Path) -> int:
    """Removes ``orphans``, and counts them."""
    found = orphans(directory)
    if found:
        sweep(directory, read_manifest(directory))
    return len(found)


def _due(directory: Path, manifest: Manifest | None, source: VectorSource, kind: str) -> str:
    """``nothing``, ``extend`` or ``build``."""
    count = source.count
    if manifest is None:
        return "nothing" if kind == "exact" else "build"
    if manifest.kind == "exact":
        return "nothing" if kind == "exact" or manifest.wanted == "exact" else "build"
    if manifest.wanted == "auto" and count < EXACT_BELOW // 2:
        return "build"  # which comes to exact, and takes the files away
    if any(
        not (directory / facts.name).exists()
        or (directory / facts.name).stat().st_size != facts.bytes
        for facts in manifest.files.values()
    ):
        return "build"
    pending = source.pending(manifest.version)
    if pending <= max(EXTEND_AT, EXTEND_SHARE * count):
        return "nothing"
    # What was removed counts twice here: rather too early than too late.
    gone = manifest.rows + pending - count
    if count > RETRAIN_GROWTH * manifest.trained_on or gone > RETRAIN_GONE * manifest.rows:
        return "build"
    return "extend"


def _blank(source: VectorSource, model: str, revision: str, wanted: str) -> Manifest:
    return Manifest(
        generation=0,
        kind="exact",
        wanted=wanted,
        identity=source.identity,
        model=model,
        revision=revision,
        dimension=source.dimension,
        version=0,
    )
