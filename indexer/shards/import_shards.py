"""Shards -> a library of this machine: rows, embeddings, thumbnails, failures; nothing is encoded.

    shards.py               what the files hold
    shards_to_library.py    this

Importing again takes in what is new or has changed since, so that shards may be imported while
others are still being made. Where the pictures lie in folders of this machine, in archives too,
these are the library's roots, and `sightline index` goes on from there; what lies in a store has a
place of its name (``/s3/bucket/photos``) and is never looked for.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import numpy as np

from sightline.indexer.catalog.catalog import Written
from sightline.indexer.library.library import Library
from sightline.indexer.shards.shard_files import (
    Origin,
    Place,
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
    Known,
    NewImage,
    Photo,
    Progress,
    no_progress,
)

BATCH = 2048
"""Pictures a transaction."""

MAINTAIN_EVERY = 100_000
"""As in ``pipeline``: new pictures after which the vector index may be brought up to date."""


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
    text_queries: Callable[[], Embeddings] | None = None,
    progress: Progress = no_progress,
    stop: Event | None = None,
) -> ShardImport:
    """Takes every shard at ``place`` into ``library``.

    Raises ModelMismatchError when another model made the library, LibraryError for a damaged
    shard; what was imported before it stays.
    """
    origin = read_origin(place)
    library.check_model(origin.model, origin.revision, origin.dimension)
    with library.writing():
        work = _Import(library, progress, stop or Event())
        return work.run(place, text_queries)


class _Import:
    """The state of one import."""

    def __init__(self, library: Library, progress: Progress, stop: Event) -> None:
        self.library = library
        self.progress = progress
        self.stop = stop
        self.counts: dict[str, int] = defaultdict(int)
        self.known: dict[Path, dict[str, Known]] = {}
        self.failed: dict[Path, dict[str, tuple[int, int]]] = {}
        self.waiting: dict[Path, dict[str, ShardRow]] = defaultdict(dict)
        self.old: set[int] = set()
        self.mended: dict[Path, list[str]] = defaultdict(list)
        """Paths of failures that a later shard has another row of."""

    def run(self, place: Place, text_queries: Callable[[], Embeddings] | None) -> ShardImport:
        """All shards, and of a picture that was embedded twice the later row."""
        started = time.monotonic()
        shards = whole_shards(place)
        self.old = superseded(place, shards)
        next_look = MAINTAIN_EVERY
        for number, name in enumerate(shards.values()):
            self.progress("importing", number, len(shards))
            for rows in read_shard(place, name):
                if self.stop.is_set():
                    break
                self.take(rows)
            if self.stop.is_set():
                break
            self.counts["shards"] += 1
            if self.counts["added"] + self.counts["updated"] >= next_look:
                next_look += MAINTAIN_EVERY
                self.write_all()
                self.library.maintain_index(text_queries=text_queries, progress=self.progress)
        self.write_all()
        if not self.stop.is_set():
            self.library.maintain_index(text_queries=text_queries, progress=self.progress)
        return ShardImport(
            **self.counts, interrupted=self.stop.is_set(), seconds=time.monotonic() - started
        )

    def take(self, rows: Sequence[ShardRow]) -> None:
        """Puts rows beside those that wait, and writes where enough do."""
        for row in rows:
            root, path = where(row)
            if row.id not in self.old:
                self.waiting[root][path] = row
            elif row.failure is not None:
                self.mended[root].append(path)
        for root in [root for root, rows in self.waiting.items() if len(rows) >= BATCH]:
            self.write(root)

    def write_all(self) -> None:
        """Writes what waits."""
        for root in {*self.waiting, *self.mended}:
            self.write(root)

    def write(self, folder: Path) -> None:
        """One transaction, its thumbnails just before it is committed."""
        library = self.library
        root = library.ensure_root(folder)
        if folder not in self.known:
            self.known[folder] = library.catalog.known(root)
            self.failed[folder] = library.catalog.failed(root)
        known, failed_before = self.known[folder], self.failed[folder]
        mended = self.mended.pop(folder, [])
        library.catalog.forget_failures(root, [path for path in mended if path in failed_before])
        for path in mended:
            failed_before.pop(path, None)
        images: list[NewImage] = []
        failures: list[Failure] = []
        for path, row in self.waiting.pop(folder, {}).items():
            before = known.get(path)
            stamp = row.size, date_of(row)
            if row.failure is not None or row.vector is None or row.info is None:
                date = 0 if row.passing else date_of(row)
                if failed_before.get(path) != (row.size, date):
                    reason = row.failure or "it was not embedded"
                    failures.append(Failure(str(folder), path, row.size, date, reason))
                self.counts["failed"] += 1
            elif before is not None and (before.size, before.mtime_ns) == stamp:
                self.counts["unchanged"] += 1
            else:
                self.counts["added" if before is None else "updated"] += 1
                candidate = Candidate(folder, path, *stamp)
                images.append(_image(row, candidate, before.id if before else None))
        if not images and not failures:
            return

        def thumbnails(written: Written) -> None:
            pairs = zip(written.images, images, strict=True)
            library.thumbnails.put_many(
                {id: image.photo.thumbnail for id, image in pairs if image.photo.thumbnail}
            )

        written = library.catalog.write(
            root, images=images, failed=failures, before_commit=thumbnails
        )
        library.remove_thumbnails(written.removed)
        for id, image in zip(written.images, images, strict=True):
            file = image.candidate
            known[file.path] = Known(id, file.path, file.size, file.mtime_ns)


def _image(row: ShardRow, candidate: Candidate, before: int | None) -> NewImage:
    assert row.info is not None
    assert row.vector is not None
    photo = Photo(
        info=row.info,
        pixels=np.empty((0, 0, 3), np.uint8),  # it has been encoded
        thumbnail=row.thumbnail or b"",
        content_hash=row.content_hash or "",
        phash=row.phash,
    )
    return NewImage(candidate, photo, row.vector, before)


def where(row: ShardRow) -> tuple[Path, str]:
    """The root of a library that a row's picture belongs to, and its path there."""
    source = row.source
    if "://" in source:
        kind, _, rest = source.partition("://")
        return Path("/", kind, rest.strip("/")), row.path
    return Path(source), row.path


def date_of(row: ShardRow) -> int:
    """The file's date; 0, "never seen as a file", for what lies in a store."""
    return 0 if "://" in row.source else row.mtime_ns
