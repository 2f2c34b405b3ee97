"""Gives a library another model while searches and indexing runs go on with the old one.

    collect     embeddings by the new model, in a file beside the catalog   (NewEmbeddings)
    catch up    with what indexing runs have changed meanwhile, under the write lock
    swap        the vector index is built, then one transaction replaces all embeddings
                                                                (Library.replace_embeddings)

Killed at any moment, the library has either model, whole: the next call continues with what was
collected. An index of the other model is never used (``vector_index.index``), so it does not matter
that the index becomes current just after the transaction.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Literal

import numpy as np

from sightline.indexer.catalog import NewEmbedding, NewEmbeddings
from sightline.indexer.encoder import Encoder, encode_photos
from sightline.indexer.errors import LibraryBusyError, LibraryError, PhotoError, UsageError
from sightline.indexer.files import sensitive
from sightline.indexer.indexing.changes import MAX_MISSING
from sightline.indexer.indexing.encoders import load_encoder
from sightline.indexer.indexing.run import caption_vectors, hash_pixels
from sightline.indexer.library.library import REENCODING, Library, reencoding_lock
from sightline.indexer.photo import Decoder
from sightline.indexer.types import Candidate, Ids, Int8Check, Photo, Progress, no_progress

if TYPE_CHECKING:
    from sightline.indexer.photo.decoder import Source

PixelSource = Literal["originals", "thumbnails"]
"""Where the pixels that are encoded are from."""

RECORDS = 500
"""Images looked up together."""

BUSY_SECONDS = 1.0
"""Between attempts to write while another process writes to the library."""

ROW_OVERHEAD = 64
"""Bytes of an embedding's row beside its vector."""

IMAGE_ROW = 1024
"""Bytes of an image's row, which the swap writes to the log."""

VECTOR_COPIES = 3
"""Copies of all vectors that the swap writes: in the catalog's log, in the catalog if the dimension
grows, and in the vector index."""


OLD_LABELS = "the stored labels are the old model's: `sightline label --keep` makes new ones"


@dataclass(frozen=True)
class ReencodeReport:
    """What one call did."""

    library: str
    previous: str
    """The library's model before."""
    model: str
    """The new one. The library has it if the call was not interrupted."""
    images: int = 0
    """Images of the library."""
    from_originals: int = 0
    """Images that this call encoded from their files,"""
    from_thumbnails: int = 0
    """and from their thumbnails."""
    unreadable: tuple[tuple[str, str], ...] = ()
    """Path and reason of each image that has no embedding now: it has neither a file that can be
    read nor a thumbnail."""
    notes: tuple[str, ...] = ()
    interrupted: bool = False
    seconds: float = 0.0

    @property
    def images_per_second(self) -> float:
        """Images encoded per second."""
        encoded = self.from_originals + self.from_thumbnails
        return encoded / self.seconds if self.seconds > 0 else 0.0


def reencode(
    directory: Path | str,
    *,
    model: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    encoder: Encoder | None = None,
    pixels: PixelSource = "originals",
    workers: int | None = None,
    allow_roots: Sequence[Path] = (),
    on_note: Callable[[str], None] = lambda note: None,
    progress: Progress = no_progress,
    stop: Event | None = None,
) -> ReencodeReport:
    """Gives the library in ``directory`` the model ``model``, or ``encoder``; without either, the
    one of the call that was interrupted.

    With ``pixels="thumbnails"``, and for images whose files are not there, have changed or cannot
    be read, the stored thumbnails are encoded; files where there is no thumbnail. Ids, labels,
    collections, metadata, text and thumbnails stay. Processes that have the library open go on with
    the old model until they open it again. ``on_note`` receives what the user should know, a line
    each, as soon as it is known. ``stop``: setting it ends the call after the batch in flight; the
    next call continues.

    Raises UsageError without a model, ModelError if it cannot be loaded, LibraryBusyError while
    another process re-encodes, and LibraryError if another change is unfinished, the disk has too
    little space, or more than a fifth of the images could not be encoded.
    """
    directory = Path(directory).expanduser()
    started = time.monotonic()
    stop = stop or Event()
    with Library.open(directory) as library, reencoding_lock(directory):
        sensitive.refuse(library.root_paths(), allow_roots)
        encoder = encoder or _encoder(library, model, device, dtype)
        previous, path = library.model, directory / REENCODING
        if (encoder.model, encoder.revision) == (library.model, library.revision):
            _complete(library, encoder, progress)
            notes = (f"the library has the model {encoder.model} already",)
            return ReencodeReport(
                str(directory), previous, encoder.model, library.count, notes=notes
            )
        with _collected(library, encoder) as new:
            _require_space(library, new)
            work = _Reencoding(library, encoder, new, pixels, workers, on_note, progress, stop)
            work.encode_pending()
            work.note_replaced()
            finished = not stop.is_set() and work.swap()
        if finished:
            # An open file cannot be deleted on Windows; the next call deletes it.
            with suppress(LibraryError):
                NewEmbeddings.delete(path)
        return ReencodeReport(
            str(directory),
            previous,
            encoder.model,
            work.total,
            work.counts["originals"],
            work.counts["thumbnails"],
            work.lost,
            tuple(work.notes),
            interrupted=not finished,
            seconds=time.monotonic() - started,
        )


def discard(directory: Path | str) -> bool:
    """Drops what an interrupted ``reencode`` has collected; whether there was any."""
    directory = Path(directory).expanduser()
    Library.open(directory, read_only=True).close()  # refuses what is no library
    with reencoding_lock(directory):
        there = (directory / REENCODING).exists()
        NewEmbeddings.delete(directory / REENCODING)
    return there


def _encoder(library: Library, model: str | None, device: str, dtype: str) -> Encoder:
    """The encoder of ``model``, which the user named, or of the unfinished change."""
    if model is not None:
        return load_encoder(model, device=device, dtype=dtype)
    path = library.directory / REENCODING
    if not path.exists():
        raise UsageError(
            "name the new model: sightline reencode --model NAME (`sightline models` lists them)"
        )
    with NewEmbeddings.open(path) as new:
        wanted, revision = new.model, new.revision
    return Encoder.load(wanted, device=device, dtype=dtype, revision=revision, download="named")


def _complete(library: Library, encoder: Encoder, progress: Progress) -> None:
    """Completes a swap to the library's model that was interrupted after its transaction."""
    path = library.directory / REENCODING
    if not path.exists():
        return
    with NewEmbeddings.open(path) as new:
        if (new.model, new.revision) != (library.model, library.revision):
            return
    with library.writing():
        library.maintain_index(text_queries=lambda: caption_vectors(encoder), progress=progress)
        NewEmbeddings.delete(path)


def _collected(library: Library, encoder: Encoder) -> NewEmbeddings:
    """The file of new embeddings, created if there is none. LibraryError if it is of another
    model."""
    path = library.directory / REENCODING
    identity = library.catalog.identity
    if path.exists():
        new = NewEmbeddings.open(path)
        found = new.model, new.revision
        ours = new.identity == identity
        if ours and found == (encoder.model, encoder.revision):
            return new
        done, total = new.progress
        new.close()
        if ours and found != (library.model, library.revision):
            raise LibraryError(
                f"a change of the library in {library.directory} to {new.model} is unfinished"
                f" ({done:,} of {total:,} images): `sightline reencode` continues it, and"
                " `sightline reencode --discard` drops it"
            )
        NewEmbeddings.delete(path)  # of another library, or of a swap that was not cleared up
    return NewEmbeddings.create(
        path,
        model=encoder.model,
        revision=encoder.revision,
        dimension=encoder.dimension,
        identity=identity,
    )


def _require_space(library: Library, new: NewEmbeddings) -> None:
    """LibraryError unless the disk has room for what is collected and for the swap."""
    row = 2 * new.dimension + ROW_OVERHEAD
    to_collect = max(0, library.count - new.progress[0]) * row
    needed = to_collect + library.count * (VECTOR_COPIES * row + IMAGE_ROW)
    free = shutil.disk_usage(library.directory).free
    if free < needed:
        raise LibraryError(
            f"re-encoding needs some {needed / 1e9:,.1f} GB on the disk of {library.directory}, and"
            f" {free / 1e9:,.1f} GB are free: free some and run it again"
        )


@dataclass(frozen=True)
class _Image:
    """One image to encode."""

    id: int
    version: int
    absolute: Path | None = None
    """Its file, if that is read and not its thumbnail,"""
    content_hash: str | None = None
    """and the hash of the file that was indexed."""


@dataclass
class _Reencoding:
    """The state of one call."""

    library: Library
    encoder: Encoder
    new: NewEmbeddings
    pixels: PixelSource
    workers: int | None
    on_note: Callable[[str], None]
    progress: Progress
    stop: Event
    done: int = 0
    total: int = 0
    counts: dict[PixelSource, int] = field(
        default_factory=lambda: {"originals": 0, "thumbnails": 0}
    )
    notes: list[str] = field(default_factory=list)
    unreadable: dict[int, tuple[int, str]] = field(default_factory=dict)
    """Version of an image's present embedding, and why there is no new one."""
    replaced: list[_Image] = field(default_factory=list)
    """Images whose files could not be read, and of which the thumbnail is encoded."""
    lost: tuple[tuple[str, str], ...] = ()
    """Path and reason of each image that has no embedding after the swap."""

    def pending(self) -> Ids:
        """``(n, 2)``: id and version of each image without an embedding of its present version."""
        wanted, have = self.library.catalog.versions(), self.new.versions()
        at = np.minimum(np.searchsorted(have[:, 0], wanted[:, 0]), max(len(have) - 1, 0))
        done = (have[at] == wanted).all(axis=1) if len(have) else np.zeros(len(wanted), bool)
        self.total, self.done = len(wanted), int(done.sum())
        return wanted[~done]

    def encode_pending(self) -> None:
        """Encodes until every image of the library has a new embedding or is unreadable."""
        while not self.stop.is_set():
            todo = [
                (image, version)
                for image, version in self.pending().tolist()
                if self.unreadable.get(image, (None, ""))[0] != version
            ]
            if not todo:
                return
            other: PixelSource = "thumbnails" if self.pixels == "originals" else "originals"
            self.encode(self.encode(todo, self.pixels), other)

    def encode(self, todo: Sequence[tuple[int, int]], pixels: PixelSource) -> list[tuple[int, int]]:
        """Encodes images from their originals or their thumbnails; returns those of which there is
        none that can be read."""
        failed: list[tuple[int, int]] = []
        if not todo or self.stop.is_set():
            return failed
        self.progress("re-encoding", self.done, self.total)
        workers = min(self.workers or os.cpu_count() or 1, len(todo))
        with Decoder(
            self.encoder.geometry, workers=workers, details=False, stop=self.stop
        ) as decoder:
            if pixels == "originals":
                sources = self.originals(todo, failed)
            else:
                sources = self.thumbnails(todo)
            photos = self.readable(decoder.each(sources), failed)
            batches = encode_photos(
                self.encoder, photos, count=len(todo), on_int8_check=self.checked_int8
            )
            for batch in batches:
                self.done += len(batch)
                self.counts[pixels] += len(batch)
                encoded = [
                    NewEmbedding(
                        image.id,
                        image.version,
                        vector,
                        hash_pixels(photo.pixels) if pixels == "originals" else None,
                    )
                    for image, photo, vector in batch
                ]
                self.new.put(encoded, done=self.done, total=self.total)
                self.progress("re-encoding", self.done, self.total)
        return failed

    def checked_int8(self, check: Int8Check) -> None:
        """Notes how int8 compares with float32 on the first images."""
        self.note(check.sentence)

    def originals(
        self, todo: Sequence[tuple[int, int]], failed: list[tuple[int, int]]
    ) -> Iterator[tuple[_Image, Source]]:
        """Each image with its file; those of folders that are not there are added to ``failed``."""
        away = {Path(root["path"]) for root in self.library.roots() if not root["available"]}
        for root in sorted(away):
            if self.pixels == "originals":
                self.note(f"{root} is not there: its images are encoded from their thumbnails")
        for first in range(0, len(todo), RECORDS):
            versions = dict(todo[first : first + RECORDS])
            for record in self.library.images([*versions]):
                root, version = Path(record.root), versions[record.id]
                if root in away:
                    self.unreadable[record.id] = version, f"{root} is not there"
                    failed.append((record.id, version))
                elif not record.content_hash:
                    self.unreadable[record.id] = (
                        version,
                        "its file was never read: index its folder",
                    )
                    failed.append((record.id, version))
                else:
                    file = Candidate(root, record.path, record.size, record.mtime_ns)
                    yield _Image(record.id, version, record.absolute, record.content_hash), file

    def thumbnails(self, todo: Sequence[tuple[int, int]]) -> Iterator[tuple[_Image, Source]]:
        """Each image with its thumbnail."""
        for image, version in todo:
            source = self.library.thumbnail(image) or PhotoError("it has no thumbnail")
            yield _Image(image, version), source

    def readable(
        self, read: Iterable[tuple[_Image, Photo | PhotoError]], failed: list[tuple[int, int]]
    ) -> Iterator[tuple[_Image, Photo]]:
        """The photos among ``read``; the other images are added to ``failed``."""
        for image, outcome in read:
            if self.stop.is_set():
                return
            if isinstance(outcome, Photo):
                if image.content_hash in (None, outcome.content_hash):
                    yield image, outcome
                    continue
                outcome = PhotoError("it has changed since it was indexed")
            if image.absolute is not None:
                self.unreadable[image.id] = image.version, str(outcome)
                if self.pixels == "originals":
                    self.replaced.append(image)
            elif self.unreadable.get(image.id, (None, ""))[0] != image.version:
                self.unreadable[image.id] = image.version, str(outcome)
            failed.append((image.id, image.version))

    def note(self, text: str) -> None:
        """Notes a line, once."""
        if text not in self.notes:
            self.notes.append(text)
            self.on_note(text)

    def note_replaced(self) -> None:
        """Notes how many files could not be read, and the first."""
        if self.replaced:
            first = self.replaced[0]
            self.note(
                f"{len(self.replaced):,} files could not be read, as {first.absolute}"
                f" ({self.unreadable[first.id][1]}): their thumbnails were encoded"
            )

    def swap(self) -> bool:
        """Encodes what has changed meanwhile, and replaces the embeddings; False if it was stopped
        before."""
        with ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(self.library.writing())
                    break
                except LibraryBusyError:
                    self.progress("waiting for another run to end", 0, None)
                    version = self.library.version
                    if self.stop.wait(BUSY_SECONDS):
                        return False
                    if self.library.version != version:
                        self.encode_pending()
            self.encode_pending()
            left = [image for image, _ in self.pending().tolist()]
            if self.stop.is_set():
                return False
            self.lost = tuple(
                (str(record.absolute), self.unreadable[record.id][1])
                for record in self.library.images(left)
            )
            if len(left) > MAX_MISSING * self.total:
                path, reason = self.lost[0]
                raise LibraryError(
                    f"{len(left):,} of {self.total:,} images have neither a file that can be read"
                    f" nor a thumbnail ({path}: {reason}): the library stays as it is; make its"
                    " folders available, or index them first, and run it again"
                )
            if self.library.has("label"):
                self.note(OLD_LABELS)
            known = set(self.new.versions()[:, 0].tolist())
            present = set(self.library.select().tolist()) - set(left)
            self.new.prepare(known - present, version=self.library.version + 1)
            self.library.replace_embeddings(
                self.new,
                unreadable={image: self.unreadable[image][1] for image in left},
                text_queries=lambda: caption_vectors(self.encoder),
                device=self.encoder.requested_device.partition(":")[0],
                progress=self.progress,
            )
            if (check := self.encoder.int8_check) is not None:
                self.library.catalog.set_int8_check(
                    check, model=self.encoder.model, revision=self.encoder.revision
                )
        return True
