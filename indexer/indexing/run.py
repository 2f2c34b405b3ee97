"""One indexing run: discover -> photo -> encoder -> catalog -> vector index.

    mend        thumbnails, after a crash                        (redraw)
    look        compare the folders with the catalog             (scopes)
    recognise   files that have moved, are copies, or were only touched (content hash)
    read        decode what is new or changed                    (decode: worker processes)
    encode      batches of it                                    (encoding)
    keep        rows, embeddings and thumbnails, a batch a transaction
    remove      what has gone, unless suspiciously much has
    finish      bring the vector index up to date

Whatever interrupts a run, what was kept stays kept, and the next run goes on from there.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import numpy as np

from sightline.indexer.catalog.catalog import Written
from sightline.indexer.encoder import encode_photos, registry
from sightline.indexer.errors import ModelError, PhotoError
from sightline.indexer.indexing import missing_thumbnails
from sightline.indexer.indexing.changes import Scope, Survey, scopes_of, survey
from sightline.indexer.library.library import Library, absolute
from sightline.indexer.photo import Decoder, photo
from sightline.indexer.types import (
    Candidate,
    Embeddings,
    Failure,
    ImageRecord,
    IndexReport,
    NewImage,
    Photo,
    Progress,
    Root,
    no_progress,
)

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder

MAINTAIN_EVERY = 100_000
"""New pictures after which a long run looks whether the vector index should be brought up to date,
so that a search beside it need not go through all of them one by one."""

FAILURES_KEPT_TOGETHER = 100
"""Failures are written with the next batch; where nothing can be read, after so many of them."""

SHOWN_EVERY = 0.2
"""Seconds between two calls of ``progress`` while files are recognised."""


def load_encoder(model: str | None = None, *, device: str = "auto") -> Encoder:
    """The model of a new library: a name of the registry, a hub id, a folder, or the default.
    ModelError, in one line, when it cannot be had."""
    from sightline.indexer.encoder import Encoder

    return Encoder.load(model or registry.DEFAULT, device=device)


def encoder_for(library: Library, *, device: str = "auto") -> Encoder:
    """The model that ``library`` was made with, in the very revision it was made with."""
    from sightline.indexer.encoder import Encoder

    encoder = Encoder.load(library.model, device=device, revision=library.revision)
    library.check_model(encoder.model, encoder.revision, encoder.dimension)
    return encoder


def update_library(
    library: Library,
    encoder: Encoder,
    paths: Sequence[Path] = (),
    *,
    exclude: Sequence[str] = (),
    prune: bool = False,
    retry_failures: bool = False,
    workers: int | None = None,
    progress: Progress = no_progress,
    stop: Event | None = None,
) -> IndexReport:
    """Brings ``library`` up to date with ``paths``, or with all its roots when there are none.

    ``exclude`` are patterns in the manner of .gitignore. ``prune`` lets pictures leave even when
    more than a fifth of a folder is missing. ``retry_failures`` reads again what could not be read
    before. ``workers`` is the number of decoding processes (the number of cores unless given).
    ``progress`` is called often, from this thread. Setting ``stop`` ends the run after the pictures
    in hand.

    Raises UsageError for a path that is not there, LibraryBusyError when another run is writing,
    and ModelMismatchError when ``encoder`` is not the one the library was made with.
    """
    library.check_model(encoder.model, encoder.revision, encoder.dimension)
    started = time.monotonic()
    with library.writing():
        wanted = [absolute(path) for path in paths] or library.root_paths()
        scopes = scopes_of(wanted, library.root_paths())
        work = _Run(library, encoder, progress, stop or Event(), scopes)
        with closing(work):
            work.mend(workers or os.cpu_count() or 1)
            surveys = work.look(exclude, retry_failures=retry_failures)
            work.recognise(surveys)
            work.read_and_encode(surveys, workers or os.cpu_count() or 1)
            work.remove(surveys, prune=prune)
            work.finish()
            work.ended = True
        return work.report(time.monotonic() - started)


def rebuild_index(
    library: Library, *, kind: str = "auto", device: str = "auto", progress: Progress = no_progress
) -> str | None:
    """Builds the vector index of ``library`` anew from its catalog.

    Where the library's model cannot be loaded, the index is tuned by pictures alone; what is
    returned then says so, in one line.
    """
    missed: list[str] = []

    def queries() -> Embeddings:
        try:
            return _caption_vectors(encoder_for(library, device=device))
        except ModelError as error:
            missed.append(f"the index was tuned without text queries: {error}")
            return np.empty((0, library.dimension), np.float32)

    with library.writing():
        library.rebuild_index(kind=kind, device=device, text_queries=queries, progress=progress)
    return missed[0] if missed else None


def _caption_vectors(encoder: Encoder) -> Embeddings:
    """What people might type: the index is tuned for it as well as for pictures."""
    from sightline.indexer.zero_shot.captions import CAPTIONS

    return encoder.encode_texts(CAPTIONS)


@dataclass
class _Run:
    """The state of one run: its tallies, and the library, encoder and ears it works with."""

    library: Library
    encoder: Encoder
    progress: Progress
    stop: Event
    scopes: Sequence[Scope]
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    held_back: list[str] = field(default_factory=list)
    failures: dict[Path, list[Failure]] = field(default_factory=lambda: defaultdict(list))
    """Not written yet, by root."""
    complete: bool = True
    """Every scope was looked at whole and everything in it dealt with."""
    ended: bool = False
    """No error has ended it."""

    def __post_init__(self) -> None:
        self.catalog = self.library.catalog
        # Killed, stopped, or ended by an error: thumbnails and catalog may differ.
        self.after_a_crash = any(
            run.finished_at is None or run.counts.get("interrupted") for run in self.catalog.runs(1)
        )
        self.log = self.catalog.start_run([str(scope.path) for scope in self.scopes])
        self.roots: dict[Path, Root] = {}

    def close(self) -> None:
        """Writes the run's outcome to the catalog, also when an error ends it."""
        interrupted = int(self.stop.is_set() or not self.complete or not self.ended)
        self.catalog.finish_run(self.log, {**self.tally(), "interrupted": interrupted})

    def tally(self) -> dict[str, int]:
        """The counts as the catalog keeps them."""
        names = ("found", "added", "updated", "moved", "removed", "unchanged", "failed")
        return {name: self.counts[name] for name in names}

    def root(self, path: Path) -> Root:
        """The catalog's root at ``path``."""
        if path not in self.roots:
            self.roots[path] = self.library.ensure_root(path)
        return self.roots[path]

    # mend -----------------------------------------------------------------------------------------

    def mend(self, workers: int) -> None:
        """Makes thumbnails and catalog agree again, after a run that did not end by itself or
        where somebody deleted thumbnails."""
        if self.after_a_crash:
            missing_thumbnails.sweep(self.library)
        if self.after_a_crash or not missing_thumbnails.seem_whole(self.library):
            missing_thumbnails.redraw(
                self.library, workers=workers, progress=self.progress, stop=self.stop
            )

    # look -----------------------------------------------------------------------------------------

    def look(self, exclude: Sequence[str], *, retry_failures: bool) -> list[Survey]:
        """Compares each scope with the catalog."""
        surveys = []
        for scope in self.scopes:
            self.progress(f"looking at {scope.path}", self.counts["found"], None)
            root = self.root(scope.root)
            seen = survey(
                scope,
                self.catalog.known(root),
                self.catalog.failed(root),
                exclude=exclude,
                retry_failures=retry_failures,
                stop=self.stop,
            )
            if seen is None:
                self.complete = False
                break
            surveys.append(seen)
            self.counts["unchanged"] += seen.unchanged
            self.counts["failed"] += seen.still_failing
            self.counts["found"] += seen.found
            for failure in seen.unreadable:
                self.failed(scope.root, failure)
        return surveys

    # recognise ------------------------------------------------------------------------------------

    def recognise(self, surveys: Sequence[Survey]) -> None:
        """Takes files whose bytes are in the library already out of the work to be done.

        Only files of a size that the catalog knows are hashed, so that a folder of new pictures
        costs nothing here. A file of which the old place is empty has moved and keeps its id; one
        of which the old place is still there is a copy and shares its embedding; one with a new
        date and the old bytes is as it was.
        """
        gone = {image.id: seen for seen in surveys for image in seen.gone.values()}
        for seen in surveys:
            sizes = self.catalog.known_sizes({c.size for c in seen.new})
            new = [c for c in seen.new if c.size in sizes]
            before = {i.id: i for i in self.catalog.images([i for i, _ in seen.changed])}
            touched = [(i, c) for i, c in seen.changed if before[i].size == c.size]
            done: set[str] = set()
            moves: list[tuple[int, Candidate]] = []
            copies: list[tuple[int, Candidate]] = []
            touches: list[tuple[int, Candidate]] = []
            for candidate, image in self.hashing(
                [(c, None) for c in new] + [(c, before[i]) for i, c in touched]
            ):
                content_hash = _hash(candidate)
                if content_hash is None:
                    continue  # it will be read, and named, with the others
                if image is not None:
                    if image.content_hash == content_hash:
                        touches.append((image.id, candidate))
                        done.add(candidate.path)
                    continue
                twins = self.catalog.with_hash(content_hash)
                if not twins:
                    continue
                done.add(candidate.path)
                moved = next((twin for twin in twins if twin.id in gone), None)
                if moved is not None:
                    gone.pop(moved.id).gone.pop(moved.path, None)
                    moves.append((moved.id, candidate))
                else:
                    copies.append((twins[0].id, candidate))
            if done:
                self.write(seen.scope.root, moved=moves, copied=copies, touched=touches)
            self.counts["moved"] += len(moves)
            self.counts["added"] += len(copies)
            self.counts["unchanged"] += len(touches)
            seen.new = [c for c in seen.new if c.path not in done]
            seen.changed = [(i, c) for i, c in seen.changed if c.path not in done]

    def hashing(
        self, suspects: Sequence[tuple[Candidate, ImageRecord | None]]
    ) -> Iterator[tuple[Candidate, ImageRecord | None]]:
        """``suspects``, with progress, until a person wants the run to end."""
        shown = 0.0
        for number, suspect in enumerate(suspects):
            if self.stop.is_set():
                return
            if time.monotonic() - shown > SHOWN_EVERY:
                shown = time.monotonic()
                self.progress("recognising files", number, len(suspects))
            yield suspect

    # read and encode ------------------------------------------------------------------------------

    def read_and_encode(self, surveys: Sequence[Survey], workers: int) -> None:
        """Decodes, encodes and keeps everything new or changed, batch by batch."""
        ids = {c.absolute: image for seen in surveys for image, c in seen.changed}
        todo = [c for seen in surveys for c in seen.new] + [
            c for seen in surveys for _, c in seen.changed
        ]
        if todo:
            self.progress("starting", 0, len(todo))
            geometry = self.encoder.geometry
            with Decoder(geometry, workers=min(workers, len(todo))) as decoder:
                # The first pictures are read while torch and the image tower are loaded.
                photos = self.readable(decoder.photos(self.until_stopped(todo)))
                self.keep(encode_photos(self.encoder, photos), ids, len(todo))
        self.flush_failures()

    def keep(
        self,
        batches: Iterable[Sequence[tuple[Candidate, Photo, Embeddings]]],
        ids: dict[Path, int],
        total: int,
    ) -> None:
        """Writes each batch, and says how far the run is."""
        next_look = MAINTAIN_EVERY
        before = self.counts["failed"]
        kept = 0
        for batch in batches:
            by_root: dict[Path, list[NewImage]] = defaultdict(list)
            for candidate, picture, vector in batch:
                image = ids.get(candidate.absolute)
                by_root[candidate.root].append(NewImage(candidate, picture, vector, image))
                self.counts["added" if image is None else "updated"] += 1
            for root, images in by_root.items():
                self.write(root, images=images)
            kept += len(batch)
            done = min(total, kept + self.counts["failed"] - before)
            self.progress("indexing", done, total)
            self.catalog.update_run(self.log, self.tally(), total=total)
            if kept >= next_look:
                next_look += MAINTAIN_EVERY
                self.maintain()

    def until_stopped(self, todo: Iterable[Candidate]) -> Iterator[Candidate]:
        """``todo`` until a person wants the run to end."""
        for candidate in todo:
            if self.stop.is_set():
                self.complete = False
                return
            yield candidate

    def readable(
        self, read: Iterable[tuple[Candidate, Photo | PhotoError]]
    ) -> Iterator[tuple[Candidate, Photo]]:
        """The photos among ``read``; the failures are kept with their reasons on the way."""
        for candidate, outcome in read:
            if self.stop.is_set():
                # Some dozen pictures are read ahead: the next run reads them, a person is waiting.
                self.complete = False
                return
            if isinstance(outcome, PhotoError):
                self.failed(
                    candidate.root,
                    Failure(
                        str(candidate.root),
                        candidate.path,
                        candidate.size,
                        # A date that no file has: the next run takes it for changed.
                        0 if outcome.transient else candidate.mtime_ns,
                        str(outcome),
                    ),
                )
            else:
                yield candidate, outcome

    # keep -----------------------------------------------------------------------------------------

    def write(
        self,
        root: Path,
        *,
        images: Sequence[NewImage] = (),
        moved: Sequence[tuple[int, Candidate]] = (),
        copied: Sequence[tuple[int, Candidate]] = (),
        touched: Sequence[tuple[int, Candidate]] = (),
        removed: Sequence[int] = (),
    ) -> None:
        """One transaction; its thumbnails are written before it is committed, so that there is
        never an image without one. Failures that wait go with it."""

        def thumbnails(written: Written) -> None:
            store = self.library.thumbnails
            store.put_many(
                {
                    id: image.photo.thumbnail
                    for id, image in zip(written.images, images, strict=True)
                }
            )
            store.copy(written.copied)

        written = self.catalog.write(
            self.root(root),
            images=images,
            moved=moved,
            copied=copied,
            touched=touched,
            failed=self.failures.pop(root, []),
            removed=removed,
            before_commit=thumbnails if images or copied else None,
        )
        self.library.remove_thumbnails(written.removed)

    def failed(self, root: Path, failure: Failure) -> None:
        """Counts a file that cannot be read, to be written with the next batch."""
        self.counts["failed"] += 1
        self.failures[root].append(failure)
        if len(self.failures[root]) >= FAILURES_KEPT_TOGETHER:
            self.write(root)

    def flush_failures(self) -> None:
        """Writes the failures that wait."""
        for root in list(self.failures):
            self.write(root)

    # remove and finish ----------------------------------------------------------------------------

    def remove(self, surveys: Sequence[Survey], *, prune: bool) -> None:
        """Takes out what is gone, where all was looked at and not suspiciously much is missing."""
        if self.stop.is_set() or not self.complete:
            return
        for seen in surveys:
            why = None if prune else seen.why_held_back(len(seen.gone))
            if why is not None:
                self.held_back.append(why)
                continue
            if seen.gone:
                self.write(seen.scope.root, removed=[image.id for image in seen.gone.values()])
                self.counts["removed"] += len(seen.gone)
            if seen.gone_failures:
                self.catalog.forget_failures(self.root(seen.scope.root), seen.gone_failures)

    def maintain(self) -> None:
        """Brings the vector index up to date where that is worth it."""
        self.library.maintain_index(
            text_queries=lambda: _caption_vectors(self.encoder),
            device=self.encoder.requested_device.partition(":")[0],
            progress=self.progress,
        )

    def finish(self) -> None:
        """The vector index; not when a person is waiting for the run to end: what it lacks is
        searched exactly beside it."""
        if not self.stop.is_set():
            self.maintain()

    def report(self, seconds: float) -> IndexReport:
        """What the run did."""
        failures = [
            failure
            for path in dict.fromkeys(scope.root for scope in self.scopes)
            for failure in self.catalog.failures(self.root(path))
            if any(s.root == path and s.holds(failure.path) for s in self.scopes)
        ]
        return IndexReport(
            **self.tally(),
            failures=tuple(failures),
            held_back=tuple(self.held_back),
            interrupted=self.stop.is_set(),
            seconds=seconds,
            library=str(self.library.directory),
            model=self.library.model,
        )


def _hash(candidate: Candidate) -> str | None:
    """Of the file's bytes; None where it cannot be read."""
    try:
        return photo.hash_file(candidate.absolute)
    except (PhotoError, OSError):
        return None
