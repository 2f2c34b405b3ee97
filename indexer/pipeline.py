"""One indexing run: discover -> photo -> encoder -> catalog -> vector index.

    look        compare the folders with the catalog             (scopes)
    recognise   files that have only moved, or are copies        (content hash, nothing encoded)
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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from indexer import photo
from indexer.decode import Decoder
from indexer.encoding import in_batches
from indexer.errors import LibraryError, PhotoError
from indexer.library import Library
from indexer.scopes import Scope, Survey, scopes_of, survey
from indexer.types import Candidate, Failure, IndexReport, NewImage, Photo

if TYPE_CHECKING:
    from indexer.encoder import Encoder

BATCH = 32
"""Pictures encoded and committed together on a CPU: what `kill -9` can cost, times the lanes."""


@dataclass(frozen=True)
class Progress:
    """Where a run is: what it does now, how far it is, and how fast."""

    phase: str
    done: int = 0
    total: int | None = None
    failed: int = 0
    rate: float | None = None
    """Pictures a second in this phase."""

    @property
    def seconds_left(self) -> float | None:
        """Time to the end of this phase at this rate, where both are known."""
        if not self.rate or self.total is None:
            return None
        return (self.total - self.done) / self.rate


Show = Callable[[Progress], None]


def run(
    library: Library,
    encoder: Encoder,
    paths: Sequence[Path] = (),
    *,
    exclude: Sequence[str] = (),
    prune: bool = False,
    workers: int | None = None,
    progress: Show = lambda progress: None,
    stop: Event | None = None,
) -> IndexReport:
    """Brings ``library`` up to date with ``paths``, or with all its roots when there are none.

    ``exclude`` are patterns in the manner of .gitignore. ``prune`` lets pictures leave even when
    more than a fifth of a folder is missing. ``workers`` is the number of decoding processes (the
    number of cores unless given). ``progress`` is called often, from this thread. Setting ``stop``
    ends the run after the pictures in hand.

    Raises UsageError for a path that is not there, LibraryBusyError when another run is writing,
    and ModelMismatchError when ``encoder`` is not the one the library was made with.
    """
    library.check_model(encoder.model, encoder.revision, encoder.dimension)
    started = time.monotonic()
    with library.writing():
        scopes = scopes_of(list(paths) or library.root_paths(), library.root_paths())
        work = _Run(library, encoder, progress, stop or Event(), [str(s.path) for s in scopes])
        with closing(work):
            surveys = work.look(scopes, exclude)
            work.recognise(surveys)
            work.read_and_encode(surveys, workers or os.cpu_count() or 1)
            work.remove(surveys, prune=prune)
            work.finish()
        return work.report(scopes, time.monotonic() - started)


def rebuild(
    library: Library, *, kind: str = "auto", device: str = "auto", progress: Show = lambda p: None
) -> None:
    """Builds the vector index of ``library`` anew from its catalog."""
    with library.writing():
        library.rebuild_index(
            kind=kind,
            device=device,
            progress=lambda phase, done, total: progress(Progress(phase, done, total)),
        )


@dataclass
class _Run:
    """The state of one run: its tallies, and the library, encoder and ears it works with."""

    library: Library
    encoder: Encoder
    show: Show
    stop: Event
    named: list[str]
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    held_back: list[str] = field(default_factory=list)
    complete: bool = True
    """Every scope was looked at whole."""

    def __post_init__(self) -> None:
        self.log = self.library.catalog.start_run(self.named)

    def close(self) -> None:
        """Writes the run's outcome to the catalog, also when an error ends it."""
        self.library.catalog.finish_run(
            self.log, {**self.counts, "interrupted": self.stop.is_set()}
        )

    # look -----------------------------------------------------------------------------------------

    def look(self, scopes: Sequence[Scope], exclude: Sequence[str]) -> list[Survey]:
        """Compares each scope with the catalog."""
        surveys = []
        for scope in scopes:
            self.show(Progress(f"looking at {scope.path}", self.counts["found"]))
            root = self.library.ensure_root(scope.root)
            catalog = self.library.catalog
            seen = survey(
                scope,
                catalog.known(root),
                catalog.failed(root),
                exclude=exclude,
                stop=self.stop,
            )
            if seen is None:
                self.complete = False
                break
            surveys.append(seen)
            self.counts["unchanged"] += seen.unchanged
            self.counts["failed"] += seen.still_failing
            self.counts["found"] += (
                len(seen.new) + len(seen.changed) + seen.unchanged + seen.still_failing
            )
        return surveys

    # recognise ------------------------------------------------------------------------------------

    def recognise(self, surveys: Sequence[Survey]) -> None:
        """Takes files whose bytes are in the library already out of the work to be done.

        Only files of a size that the catalog knows are hashed, so that a folder of new pictures
        costs nothing here. A file of which the old place is empty has moved and keeps its id; one
        of which the old place is still there is a copy and shares its embedding.
        """
        catalog = self.library.catalog
        gone = {image.id: survey for survey in surveys for image in survey.gone.values()}
        for seen in surveys:
            sizes = catalog.known_sizes({c.size for c in seen.new})
            suspects = [c for c in seen.new if c.size in sizes]
            if not suspects:
                continue
            recognised: set[str] = set()
            moves: list[tuple[int, Candidate]] = []
            copies: list[tuple[int, Candidate]] = []
            for number, candidate in enumerate(suspects):
                if self.stop.is_set():
                    break
                self.show(Progress("recognising moved files", number, len(suspects)))
                try:
                    content_hash = photo.hash_file(candidate.absolute)
                except (PhotoError, OSError):
                    continue  # it will be read, and named, with the others
                twins = catalog.with_hash(content_hash)
                if not twins:
                    continue
                recognised.add(candidate.path)
                moved = next((twin for twin in twins if twin.id in gone), None)
                if moved is not None:
                    gone.pop(moved.id).gone.pop(moved.path, None)
                    moves.append((moved.id, candidate))
                else:
                    copies.append((twins[0].id, candidate))
            catalog.write(
                self.library.ensure_root(seen.scope.root), moved=moves, copied=copies
            )
            self.counts["moved"] += len(moves)
            self.counts["added"] += len(copies)
            seen.new = [c for c in seen.new if c.path not in recognised]

    # read and encode ------------------------------------------------------------------------------

    def read_and_encode(self, surveys: Sequence[Survey], workers: int) -> None:
        """Decodes, encodes and keeps everything new or changed, batch by batch."""
        ids = {c.absolute: image for seen in surveys for image, c in seen.changed}
        todo = [c for seen in surveys for c in seen.new] + [
            c for seen in surveys for _, c in seen.changed
        ]
        for seen in surveys:
            self.keep_unreadable(seen)
        if not todo:
            return
        total, started = len(todo), time.monotonic()
        lanes = self.encoder.lanes
        size = self.encoder.batch_size or BATCH
        with Decoder(self.encoder.geometry, workers=workers) as decoder:
            readable = self.readable(decoder.photos(self.until_stopped(todo)))
            for batch in in_batches(readable, self.encoder.encode_images, size=size, lanes=lanes):
                by_root: dict[Path, list[NewImage]] = defaultdict(list)
                for candidate, picture, vector in batch:
                    image = ids.get(candidate.absolute)
                    by_root[candidate.root].append(NewImage(candidate, picture, vector, image))
                    self.counts["added" if image is None else "updated"] += 1
                for root, images in by_root.items():
                    self.library.catalog.write(self.library.ensure_root(root), images=images)
                done = self.counts["added"] + self.counts["updated"] + self.counts["newly_failed"]
                rate = done / max(time.monotonic() - started, 1e-6)
                self.show(
                    Progress("indexing", min(done, total), total, self.counts["failed"], rate)
                )
                self.library.catalog.update_run(self.log, dict(self.counts), total=total)
        self.flush_failures()

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
            if isinstance(outcome, PhotoError):
                self.failed(candidate.root, Failure(
                    str(candidate.root), candidate.path, candidate.size, candidate.mtime_ns,
                    str(outcome),
                ))
            else:
                yield candidate, outcome
