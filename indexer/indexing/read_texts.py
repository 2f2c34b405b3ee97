"""Reads the text in images that was not read yet, beside searches and indexing runs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from sightline.indexer.errors import LibraryBusyError, PhotoError
from sightline.indexer.library import Library
from sightline.indexer.photo import Decoder
from sightline.indexer.photo.ocr import engine_name
from sightline.indexer.types import (
    Candidate,
    Geometry,
    Ids,
    Progress,
    TextLine,
    no_progress,
)

BATCH = 32
"""Images whose text is written in one transaction: a killed process loses at most so many."""

TIMEOUT = 300.0
"""Seconds per image, of a process of low priority."""

RECORDS = 500
"""Images looked up together."""

BUSY_SECONDS = 1.0
"""Between attempts to write while another process writes to the library."""


@dataclass(frozen=True)
class TextReport:
    """What one call read."""

    read: int = 0
    with_text: int = 0
    failed: int = 0
    """Images that could not be read; they are not read again until they change."""
    skipped: int = 0
    """Images whose file has changed or is not there: the next indexing run sees them first."""
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def images_per_second(self) -> float:
        """Images read per second."""
        return self.read / self.seconds if self.seconds > 0 else 0.0


def read_texts(
    library: Library,
    ids: Ids | None = None,
    *,
    workers: int | None = None,
    progress: Progress = no_progress,
    stop: Event | None = None,
) -> TextReport:
    """Reads the text in images (in those of ``ids``) whose text was not read yet.

    What is read is stored every ``BATCH`` images; ``stop`` ends it, and the next call continues.
    Raises UsageError without the ``ocr`` extra.
    """
    engine = engine_name()
    stop = stop or Event()
    started = time.monotonic()
    todo = [int(i) for i in library.catalog.unread()]
    if ids is not None:
        wanted = set(ids.tolist())
        todo = [i for i in todo if i in wanted]
    read = with_text = failed = 0
    numbers: dict[Candidate, int] = {}
    batch: list[tuple[int, Sequence[TextLine]]] = []

    def write() -> None:
        while batch:
            try:
                with library.writing():
                    library.catalog.write_texts(batch, engine=engine)
            except LibraryBusyError:
                if stop.wait(BUSY_SECONDS):
                    return
            else:
                batch.clear()

    def candidates(decoder: Decoder) -> Iterator[Candidate]:
        for first in range(0, len(todo), RECORDS):
            for record in library.images(todo[first : first + RECORDS]):
                if stop.is_set():
                    return
                root = Path(record.root)
                candidate = Candidate(root, record.path, record.size, record.mtime_ns)
                if _is_unchanged(decoder, candidate):
                    numbers[candidate] = record.id
                    yield candidate

    if todo:
        progress("starting", 0, len(todo))
        workers = min(workers or os.cpu_count() or 1, len(todo))
        with Decoder(
            Geometry(), workers=workers, timeout=TIMEOUT, reads_text=True, stop=stop
        ) as decoder:
            for candidate, lines in decoder.texts(candidates(decoder)):
                if stop.is_set():
                    break
                number = numbers.pop(candidate)
                if isinstance(lines, PhotoError):
                    failed += 1
                    if lines.transient:
                        continue
                    lines = []
                read += 1
                with_text += bool(lines)
                batch.append((number, lines))
                if len(batch) >= BATCH:
                    write()
                progress("reading text", read, len(todo))
        write()
    seconds = time.monotonic() - started
    skipped = 0 if stop.is_set() else len(todo) - read
    return TextReport(read, with_text, failed, skipped, seconds, stop.is_set())


def _is_unchanged(decoder: Decoder, candidate: Candidate) -> bool:
    try:
        return decoder.size_and_mtime(candidate) == (candidate.size, candidate.mtime_ns)
    except (OSError, PhotoError):
        return False
