"""Draws missing thumbnails from the image files, without encoding.

``thumbnails.db`` is written just before the catalog, so that a crash leaves at most thumbnails
without an image. But users may delete the file, and after a power loss the disk may have one
file's writes and not the other's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event

from sightline.indexer.library import Library
from sightline.indexer.photo import Decoder
from sightline.indexer.types import Candidate, Geometry, ImageRecord, Photo, Progress

SAMPLE = 64
"""Random images that ``seem_complete`` checks."""

BATCH = 100
"""Thumbnails written in one transaction."""


def seem_complete(library: Library) -> bool:
    """Whether a random sample of images all have a thumbnail. Cheap enough for every run."""
    some = library.images(library.random(SAMPLE, seed=library.version).tolist())
    read = [image for image in some if image.mtime_ns is not None]
    return all(library.thumbnail(image.id) is not None for image in read)


def sweep(library: Library) -> int:
    """Deletes the thumbnails of images that are not in the library; returns their number."""
    return library.thumbnails.sweep(library.select())


def redraw(
    library: Library, *, workers: int = 1, progress: Progress, stop: Event | None = None
) -> tuple[int, int]:
    """Draws missing thumbnails. Returns how many were missing, and how many still are: those of
    images whose files are unavailable or have changed. The next run over them draws these."""
    present = {*library.thumbnails.ids().tolist(), *library.catalog.unseen().tolist()}
    lacking = [id for id in library.select().tolist() if id not in present]
    if not lacking:
        return 0, 0
    lacks: dict[Candidate, ImageRecord] = {}

    def candidates() -> Iterator[Candidate]:
        for record in library.images(lacking):
            if stop is not None and stop.is_set():
                return
            candidate = Candidate(Path(record.root), record.path, record.size, record.mtime_ns)
            lacks[candidate] = record
            yield candidate

    drawn: dict[int, bytes] = {}
    done = 0
    with Decoder(Geometry(), workers=workers, stop=stop) as decoder:
        for number, (candidate, photo) in enumerate(decoder.photos(candidates()), 1):
            record = lacks.pop(candidate)
            # A file with other content is not the image that was encoded.
            if isinstance(photo, Photo) and photo.content_hash == record.content_hash:
                drawn[record.id] = photo.thumbnail
                done += 1
            if len(drawn) >= BATCH:
                library.thumbnails.put_many(drawn)
                drawn.clear()
                progress("drawing thumbnails", number, len(lacking))
    library.thumbnails.put_many(drawn)
    return len(lacking), len(lacking) - done
