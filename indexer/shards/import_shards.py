"""Shards -> a local library: rows, embeddings, thumbnails, failures; nothing is encoded.

Importing again adds what is new or has changed since, so that shards may be imported while others
are still being written. Images in folders of this machine, archives included, keep these as the
library's roots, and ``sightline index`` continues from there; those in a store get a root of its
name (``/s3/bucket/photos``), which is never walked.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import numpy as np

from sightline.indexer.catalog import WriteResult
from sightline.indexer.files import sensitive
from sightline.indexer.library import Library
from sightline.indexer.shards.place import Place
from sightline.indexer.shards.shard_files import (
    Origin,
    ShardRow,
    read_origin,
    read_shard,
    whole_shards,
)
from sightline.indexer.shards.superseded import superseded
from sightline.indexer.types import (
    Candidate,
    Embeddings,
    Failure,
    FileStamp,
    Known,
    NewImage,
    Photo,
    Progress,
    no_progress,
)

BATCH = 2048
"""Images per transaction."""

NEVER = FileStamp(-1, None)
"""The stamp of a file that has not failed."""

MAINTAIN_EVERY = 100_000
"""New images after which the vector index may be updated."""


@dataclass(frozen=True)
class ShardImport:
    """What an import of shards did."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    failed: int = 0
    """Rows without an embedding: now among the library's failures."""
    shards: int = 0
    interrupted: bool = False
    seconds: float = 0.0


def create_for(directory: Path, origin: Origin) -> Library:
    """A new library for shards of ``origin``."""
    return Library.create(
        directory, model=origin.model, revision=origin.revision, dimension=origin.dimension
    )


def import_shards(
    library: Library,
    place: Place,
    *,
    allow_roots: Sequence[Path] = (),
    text_queries: Callable[[], Embeddings] | None = None,
    progress: Progress = no_progress,
    stop: Event | None = None,
) -> ShardImport:
    """Imports every shard at ``place`` into ``library``.

    Raises UsageError for images below a sensitive folder that is not among ``allow_roots``
    (``files.sensitive``), ModelMismatchError if another model made the library, LibraryError for a
    corrupt shard; what was imported before it stays.
    """
    origin = read_origin(place)
    library.check_model(origin.model, origin.revision, origin.dimension)
    with library.writing():
        return _Import(library, progress, stop or Event(), allow_roots).run(place, text_queries)


class _Import:
    """The state of one import."""

    def __init__(
        self, library: Library, progress: Progress, stop: Event, allow_roots: Sequence[Path]
    ) -> None:
        self.library = library
        self.allow_roots = allow_roots
        self.progress = progress
        self.stop = stop
        self.counts: dict[str, int] = defaultdict(int)
        self.known: dict[Path, dict[str, Known]] = {}
        self.failed: dict[Path, dict[str, FileStamp]] = {}
        """The library's failures, by root and path."""
        self.waiting: dict[Path, dict[str, ShardRow]] = defaultdict(dict)
        """Rows by root and path; of an image that was embedded twice the later one."""
        self.old: set[int] = set()
        self.resolved: dict[Path, list[str]] = defaultdict(list)
        """Paths of failures that a later shard has another row of."""

    def run(self, place: Place, text_queries: Callable[[], Embeddings] | None) -> ShardImport:
        """Imports all shards."""
        started = time.monotonic()
        shards = whole_shards(place)
        self.old = superseded(place, shards)
        next_maintenance = MAINTAIN_EVERY
        for number, name in enumerate(shards.values()):
            self.progress("importing", number, len(shards))
            for rows in read_shard(place, name):
                if self.stop.is_set():
                    break
                self.add(rows)
            if self.stop.is_set():
                break
            self.counts["shards"] += 1
            if self.counts["added"] + self.counts["updated"] >= next_maintenance:
                next_maintenance += MAINTAIN_EVERY
                self.write_all()
                self.library.maintain_index(text_queries=text_queries, progress=self.progress)
        self.write_all()
        self.library.locate(self.stop)
        if not self.stop.is_set():
            self.library.maintain_index(text_queries=text_queries, progress=self.progress)
        return ShardImport(
            **self.counts, interrupted=self.stop.is_set(), seconds=time.monotonic() - started
        )

    def add(self, rows: Sequence[ShardRow]) -> None:
        """Adds rows to those that wait, and writes full batches."""
        for row in rows:
            root, path = library_place(row)
            if row.id not in self.old:
                self.waiting[root][path] = row
            elif row.failure is not None:
                self.resolved[root].append(path)
        for root in [root for root, rows in self.waiting.items() if len(rows) >= BATCH]:
            self.write(root)

    def write_all(self) -> None:
        """Writes all rows that wait."""
        for root in {*self.waiting, *self.resolved}:
            self.write(root)

    def write(self, folder: Path) -> None:
        """Writes the rows of one root in one transaction; thumbnails just before its commit."""
        library = self.library
        sensitive.refuse([folder], self.allow_roots)
        root = library.ensure_root(folder)
        if folder not in self.known:
            self.known[folder] = library.catalog.known(root)
            self.failed[folder] = library.catalog.failed(root)
        known, failed_before = self.known[folder], self.failed[folder]
        resolved = [path for path in self.resolved.pop(folder, []) if path in failed_before]
        library.catalog.forget_failures(root, resolved)
        for path in resolved:
            failed_before.pop(path, None)
        images: list[NewImage] = []
        failures: list[Failure] = []
        for path, row in self.waiting.pop(folder, {}).items():
            before = known.get(path)
            stamp = row.size, mtime_of(row)
            if row.failure is not None or row.vector is None or row.info is None:
                mtime_ns = None if row.passing else mtime_of(row)
                if failed_before.get(path, NEVER)[:2] != (row.size, mtime_ns):
                    reason = row.failure or "it was not embedded"
                    failures.append(Failure(str(folder), path, row.size, mtime_ns, reason))
                self.counts["failed"] += 1
            elif before is not None and (before.size, before.mtime_ns) == stamp:
                self.counts["unchanged"] += 1
            else:
                self.counts["added" if before is None else "updated"] += 1
                photo = Photo(
                    info=row.info,
                    pixels=np.empty((0, 0, 3), np.uint8),  # it has been encoded
                    thumbnail=row.thumbnail or b"",
                    content_hash=row.content_hash or "",
                    phash=row.phash,
                )
                candidate = Candidate(folder, path, *stamp)
                images.append(NewImage(candidate, photo, row.vector, before.id if before else None))
        if not images and not failures:
            return

        def write_thumbnails(written: WriteResult) -> None:
            pairs = zip(written.images, images, strict=True)
            library.thumbnails.put_many(
                {id: image.photo.thumbnail for id, image in pairs if image.photo.thumbnail}
            )

        written = library.catalog.write(
            root, images=images, failed=failures, before_commit=write_thumbnails
        )
        library.remove_thumbnails(written.removed)
        for id, image in zip(written.images, images, strict=True):
            file = image.candidate
            known[file.path] = Known(id, file.path, file.size, file.mtime_ns)


def library_place(row: ShardRow) -> tuple[Path, str]:
    """The root of a library that a row's image belongs to, and its path there."""
    if "://" in row.source:
        kind, _, rest = row.source.partition("://")
        return Path("/", kind, rest.strip("/")), row.path
    return Path(row.source), row.path


def mtime_of(row: ShardRow) -> int | None:
    """The file's mtime; None for an image in a store, which was never read as a file."""
    return None if "://" in row.source else row.mtime_ns
