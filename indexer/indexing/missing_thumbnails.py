"""Thumbnails that are missing, drawn anew from the pictures; nothing is encoded.

``thumbnails.db`` is written just before the catalog, so that a crash leaves at most thumbnails of
no picture. A person may delete it, though, and after a loss of power the disk may have kept the one
file and not the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event

from sightline.indexer.library.library import Library
from sightline.indexer.photo import Decoder
from sightline.indexer.types import Candidate, Geometry, ImageRecord, Photo, Progress

LOOKED_AT = 64
"""Pictures of which ``seem_whole`` asks for the thumbnail."""

KEPT_TOGETHER = 100
"""Thumbnails written in one transaction."""


def seem_whole(library: Library) -> bool:
    """Whether some pictures taken at random all have a thumbnail: cheap, for every run."""
    some = library.images(library.random(LOOKED_AT, seed=library.version).tolist())
    return all(library.thumbnail(image.id) is not None for image in some if image.mtime_ns)


def sweep(library: Library) -> int:
    """Removes the thumbnails of pictures that are not in the library, and counts them."""
    return library.thumbnails.sweep(library.select())


def redraw(
    library: Library, *, workers: int = 1, progress: Progress, stop: Event | None = None
) -> tuple[int, int]:
    """Draws what is missing. Returns how many thumbnails were missing, and how many still are:
    those of pictures that are away or have changed, which the next run over them draws."""
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
    with Decoder(Geometry(), workers=workers) as decoder:
        for number, (candidate, photo) in enumerate(decoder.photos(candidates()), 1):
            record = lacks.pop(candidate)
            # A file with other bytes by now is not the picture that was encoded.
            if isinstance(photo, Photo) and photo.content_hash == record.content_hash:
                drawn[record.id] = photo.thumbnail
                done += 1
            if len(drawn) >= KEPT_TOGETHER:
                library.thumbnails.put_many(drawn)
                drawn.clear()
                progress("drawing thumbnails", number, len(lacking))
    library.thumbnails.put_many(drawn)
    return len(lacking), len(lacking) - done
