"""One indexing run: brings a library up to date with its folders.

    repair_thumbnails   after a run that was interrupted             (missing_thumbnails)
    compare             folders with the catalog                     (changes)
    recognise           moved, copied and touched files, by content hash
    describe            images whose sidecars have changed: metadata only
    decode_and_encode   what is new or changed, in batches           (decoder, image_batches);
                        an image with the same pixels keeps its embedding
    store               rows, embeddings and thumbnails, one transaction per batch
    delete_missing      what is gone, unless suspiciously much is
    locate              the names of places at images' positions
    maintain_index      the vector index

What a batch has stored survives any interruption; the next run continues.
"""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from sightline.indexer.catalog import WriteResult
from sightline.indexer.encoder import encode_photos
from sightline.indexer.errors import ModelError, PhotoError, UsageError
from sightline.indexer.files import archives, sensitive, walk
from sightline.indexer.indexing import missing_thumbnails
from sightline.indexer.indexing.changes import (
    Comparison,
    Scope,
    compare,
    scopes_of,
    without_aliases,
)
from sightline.indexer.indexing.encoders import encoder_for
from sightline.indexer.library.library import Library, absolute, position_in
from sightline.indexer.photo import Decoder
from sightline.indexer.photo.capture_date import SOURCES, from_name, rank
from sightline.indexer.types import (
    Candidate,
    Embeddings,
    Failure,
    Geometry,
    ImageRecord,
    IndexReport,
    Int8Check,
    NewImage,
    Photo,
    PhotoInfo,
    Pixels,
    Progress,
    Root,
    no_progress,
)

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder

MAINTAIN_EVERY = 100_000
"""New images after which a long run maintains the vector index: until then, searches scan them
exactly."""

DESCRIBED_BATCH = 500
"""Images whose metadata is written in one transaction."""

FAILURE_BATCH = 100
"""Failures written together if no batch of images takes them along."""

SAME_BATCH = 100
"""Images with the same pixels as before whose metadata is written together."""

PROGRESS_SECONDS = 0.2
"""Seconds between two calls of ``progress`` while files are recognised."""


def update_library(
    library: Library,
    encoder: Encoder,
    paths: Sequence[Path] = (),
    *,
    exclude: Sequence[str] = (),
    prune: bool = False,
    retry_failures: bool = False,
    reread: bool = False,
    include_nomedia: bool = False,
    workers: int | None = None,
    allow_roots: Sequence[Path] = (),
    follow_links: bool = False,
    named: bool = True,
    progress: Progress = no_progress,
    stop: Event | None = None,
) -> IndexReport:
    """Brings ``library`` up to date with ``paths``, or with all its roots if there are none.

    ``index_folders`` documents the options; ``named``: the user named ``paths``. Raises UsageError
    for a path that does not exist, LibraryBusyError while another process writes,
    ModelMismatchError if ``encoder`` did not make the library, ModelChangedError if the library
    has another model since it was opened.
    """
    library.check_model(encoder.model, encoder.revision, encoder.dimension)
    if encoder.int8_check is None and (check := library.catalog.int8_check) is not None:
        encoder.decide_int8(check)
    started = time.monotonic()
    with library.writing():
        library.catalog.require_model()  # another process may have changed it since
        roots = library.root_paths()
        wanted, notes = without_aliases([absolute(path) for path in paths], roots)
        scopes = scopes_of(wanted or roots, roots, allow_roots)
        work = _Run(
            library,
            encoder,
            progress,
            stop or Event(),
            scopes,
            notes,
            named=named and bool(paths),
            follow_links=follow_links,
            allow_roots=allow_roots,
        )
        with closing(work):
            workers = workers or os.cpu_count() or 1
            work.repair_thumbnails(workers)
            comparisons = work.compare(
                exclude,
                retry_failures=retry_failures,
                reread=reread,
                include_nomedia=include_nomedia,
            )
            work.recognise(comparisons, touched=not reread)
            if not reread:
                work.verify(comparisons, workers)
            work.describe(comparisons, workers)
            work.decode_and_encode(comparisons, workers)
            work.delete_missing(comparisons, prune=prune)
            library.locate(work.stop)
            # An interrupted run leaves the index: what it lacks is searched exactly beside it.
            if not work.stop.is_set():
                work.maintain_index()
            work.succeeded = True
        return work.report(time.monotonic() - started)


def rebuild_index(
    library: Library, *, kind: str = "auto", device: str = "auto", progress: Progress = no_progress
) -> str | None:
    """Rebuilds the vector index of ``library`` from its catalog.

    If the library's model cannot be loaded, the index is tuned for image queries only, and one line
    that says so is returned.
    """
    missed: list[str] = []

    def queries() -> Embeddings:
        try:
            return caption_vectors(encoder_for(library, device=device))
        except ModelError as error:
            missed.append(f"the index was tuned without text queries: {error}")
            return np.empty((0, library.dimension), np.float32)

    with library.writing():
        library.rebuild_index(kind=kind, device=device, text_queries=queries, progress=progress)
    return missed[0] if missed else None


def caption_vectors(encoder: Encoder) -> Embeddings:
    """Embeddings of typical text queries, for which the index is tuned as well as for images."""
    from sightline.indexer.zero_shot.captions import CAPTIONS

    return encoder.encode_texts(CAPTIONS)


def completed(info: PhotoInfo, record: ImageRecord) -> PhotoInfo:
    """``info`` of an image's file, completed from ``record`` if no run has read its metadata: it
    may come from an imported set."""
    if record.metadata_stamp:
        return info
    stored = record.info
    missing = [name for name in DESCRIPTION if getattr(info, name) in (None, ())]
    if rank(stored) < rank(info):
        missing += ["taken_at", "taken_precision", "taken_from"]
    return replace(info, **{name: getattr(stored, name) for name in missing})


def same_metadata(one: PhotoInfo, other: PhotoInfo) -> bool:
    """Whether two images have the same metadata."""
    return all(getattr(one, name) == getattr(other, name) for name in DESCRIPTION)


DESCRIPTION = (
    "taken_at", "taken_precision", "taken_from", "camera", "lens", "latitude", "longitude",
    "title", "caption", "place", "keywords", "people", "rating",
)  # fmt: skip
"""The fields of ``PhotoInfo`` that do not depend on the pixels."""


def hash_pixels(pixels: Pixels) -> str:
    """xxh3-128 of what the model is shown, in hex: its embedding depends on nothing else."""
    return xxhash.xxh3_128_hexdigest(pixels.tobytes())


def has_other_date_by_name(info: PhotoInfo, path: str) -> bool:
    """Whether the name ``path`` gives an image another date than ``info``, which was read under
    another name."""
    if rank(info) < SOURCES.index("name"):
        return False
    found = from_name(path)
    if info.taken_from == "name":
        return found != (info.taken_at, info.taken_precision)
    return found is not None


@dataclass
class _Run:
    """The state of one run."""

    library: Library
    encoder: Encoder
    progress: Progress
    stop: Event
    scopes: list[Scope]
    notes: list[str]
    """One line per folder that is, or now contains, another folder of the library."""
    named: bool = False
    """The user named the scopes, so that their files may be served."""
    follow_links: bool = False
    """Folders that links lead to are compared too, as roots that the user named."""
    allow_roots: Sequence[Path] = ()
    linked: set[Path] = field(default_factory=set)
    """The roots that links led to in this run."""
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    held_back: list[str] = field(default_factory=list)
    noted: dict[str, list[Path]] = field(default_factory=dict)
    """Images by what was ignored to read them."""
    failures: dict[Path, list[Failure]] = field(default_factory=lambda: defaultdict(list))
    """Not stored yet, by root."""
    stored: int = 0
    """Images that were decoded and written."""
    complete: bool = True
    """Every scope was compared completely and everything in it processed."""
    succeeded: bool = False
    """No error ended the run."""

    def __post_init__(self) -> None:
        self.catalog = self.library.catalog
        # Killed, stopped, or ended by an error: thumbnails and catalog may differ.
        self.last_run_interrupted = any(
            run.finished_at is None or run.counts.get("interrupted") for run in self.catalog.runs(1)
        )
        self.log = self.catalog.start_run([str(scope.path) for scope in self.scopes])
        self.roots: dict[Path, Root] = {}
        # For what is read before images are decoded: archives' listings and content hashes.
        self.reader = Decoder(self.encoder.geometry, stop=self.stop)

    def close(self) -> None:
        """Records the outcome in the catalog, also if an error ended the run."""
        self.reader.close()
        interrupted = int(self.stop.is_set() or not self.complete or not self.succeeded)
        self.catalog.finish_run(self.log, {**self.tally(), "interrupted": interrupted})

    def tally(self) -> dict[str, int]:
        """The counts that the catalog records."""
        names = ("found", "added", "updated", "moved", "removed", "unchanged", "failed")
        return {name: self.counts[name] for name in names}

    def root(self, path: Path) -> Root:
        """The catalog's root at ``path``."""
        if path not in self.roots:
            named = self.named and any(s.root == path and not s.below for s in self.scopes)
            named |= path in self.linked
            before = set(self.library.root_paths())
            self.roots[path] = self.library.ensure_root(path, named=named)
            for merged in sorted(before - set(self.library.root_paths())):
                self.notes.append(f"{merged} is part of {path}, which replaces it in the library")
        return self.roots[path]

    def repair_thumbnails(self, workers: int) -> None:
        """Makes thumbnails and catalog consistent after an interrupted run, or if thumbnails were
        deleted."""
        if self.last_run_interrupted:
            missing_thumbnails.sweep(self.library)
        if self.last_run_interrupted or not missing_thumbnails.seem_complete(self.library):
            missing_thumbnails.redraw(
                self.library, workers=workers, progress=self.progress, stop=self.stop
            )

    def compare(
        self,
        exclude: Sequence[str],
        *,
        retry_failures: bool,
        reread: bool,
        include_nomedia: bool,
    ) -> list[Comparison]:
        """Compares each scope with the catalog, and the folders that links in it lead to."""
        comparisons = []
        for scope in self.scopes:  # ``_follow`` appends to it
            self.progress(f"looking at {scope.path}", self.counts["found"], None)
            root = self.root(scope.root)
            seen = compare(
                scope,
                self.catalog.known(root),
                self.catalog.failed(root),
                exclude=exclude,
                retry_failures=retry_failures,
                reread=reread,
                include_nomedia=include_nomedia,
                decode=self.may_serve(root),
                list_archive=self.reader.list_archive,
                stop=self.stop,
            )
            if seen is None:
                self.complete = False
                break
            comparisons.append(seen)
            if seen.unstamped:
                self.catalog.stamp_files(seen.unstamped)
            self.counts["unchanged"] += seen.unchanged
            self.counts["failed"] += seen.still_failing
            self.counts["found"] += seen.found
            for failure in seen.unreadable:
                if (left := self._follow(failure)) is not None:
                    self.failed(scope.root, left)
                else:
                    seen.gone_failures.append(failure.path)
        counts: Counter[str] = Counter()
        for seen in comparisons:
            counts += seen.left_out
        self.notes += walk.left_out_notes(counts)
        return comparisons

    def _follow(self, failure: Failure) -> Failure | None:
        """None for a link whose target is in a root of the library, with ``follow_links`` also for
        one whose target becomes a root now; any other failure, with its reason."""
        if failure.reason != walk.LINK_OUT:
            return failure
        target = Path(os.path.realpath(Path(failure.root) / failure.path))
        roots = {*self.library.root_paths(), *(scope.root for scope in self.scopes)}
        if any(position_in(root, target) is not None for root in roots):
            return None
        is_root = target.is_dir() or (target.suffix.lower() == archives.SUFFIX and target.is_file())
        if not self.follow_links or not is_root:
            return failure
        if any(position_in(target, root) is not None for root in roots):
            return replace(failure, reason=f"it is a link to a folder that contains {failure.root}")
        try:
            sensitive.refuse([target], self.allow_roots)
        except UsageError as error:
            return replace(failure, reason=str(error))
        self.linked.add(target)
        self.scopes.append(Scope(target))
        return None

    def recognise(self, comparisons: Sequence[Comparison], *, touched: bool) -> None:
        """Stores files whose content is already in the library, without encoding them.

        Only files of a size in the catalog are hashed, so that a folder of new images costs nothing
        here. If the image's old file is gone, the file was moved and the image keeps its id;
        otherwise it is a copy and gets the same embedding. With ``touched``, a file with a new
        date and the old content is unchanged.
        """
        gone = {image.id: seen for seen in comparisons for image in seen.gone.values()}
        for seen in comparisons:
            sizes = self.catalog.known_sizes({c.size for c in seen.new})
            new = [c for c in seen.new if c.size in sizes]
            before = {i.id: i for i in self.catalog.images([i for i, _ in seen.changed])}
            suspects = [
                (i, c) for i, c in seen.changed if before[i].decoded and before[i].size == c.size
            ]
            done: set[str] = set()
            moves: list[tuple[int, Candidate]] = []
            copies: list[tuple[int, Candidate]] = []
            touches: list[tuple[int, Candidate]] = []
            for candidate, image in self.hashing(
                [(c, None) for c in new]
                + [(c, before[i]) for i, c in (suspects if touched else [])]
            ):
                content_hash = self.hash(candidate)
                if content_hash is None:
                    continue  # decoding will fail and report it
                if image is not None:
                    if image.content_hash == content_hash:
                        touches.append((image.id, candidate))
                        done.add(candidate.path)
                    continue
                # The hash of an image that was not decoded here may be made up.
                twins = [twin for twin in self.catalog.with_hash(content_hash) if twin.decoded]
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
                written = self.write(seen.scope.root, moved=moves, copied=copies, touched=touches)
                copied = zip(written.copied, copies, strict=True)
                self.compare_metadata(
                    seen, [*moves, *touches, *((new, c) for (new, _), (_, c) in copied)]
                )
            self.counts["moved"] += len(moves)
            self.counts["added"] += len(copies)
            self.counts["unchanged"] += len(touches)
            seen.new = [c for c in seen.new if c.path not in done]
            seen.changed = [(i, c) for i, c in seen.changed if c.path not in done]

    def verify(self, comparisons: Sequence[Comparison], workers: int) -> None:
        """Decodes imported images whose files the user has now named, and marks those that are what
        the import says. They keep their embeddings; any other one is encoded again."""
        for seen in comparisons:
            if not self.may_serve(self.root(seen.scope.root)):
                continue
            before = {i.id: i for i in self.catalog.images([i for i, _ in seen.changed])}
            imported = {
                candidate: before[i]
                for i, candidate in seen.changed
                if not before[i].decoded and before[i].size == candidate.size
            }
            if not imported:
                continue
            done: dict[str, tuple[int, Candidate]] = {}
            with Decoder(
                Geometry(), workers=min(workers, len(imported)), stop=self.stop
            ) as decoder:
                for candidate, found in decoder.photos(self.until_stopped(imported)):
                    image = imported[candidate]
                    if isinstance(found, Photo) and (found.content_hash, found.info.format) == (
                        image.content_hash,
                        image.info.format,
                    ):
                        done[candidate.path] = image.id, candidate
            ids = [i for i, _ in done.values()]
            self.write(seen.scope.root, touched=[*done.values()], decoded=ids)
            self.compare_metadata(seen, [*done.values()])
            self.counts["unchanged"] += len(done)
            seen.changed = [(i, c) for i, c in seen.changed if c.path not in done]

    def compare_metadata(self, seen: Comparison, images: Sequence[tuple[int, Candidate]]) -> None:
        """Adds those of ``images`` to ``seen.recognised`` whose sidecars differ from those that
        their metadata was read from, or whose names tell another date."""
        known = {one.id: one for one in self.catalog.images([i for i, _ in images])}
        seen.recognised += [
            (i, c)
            for i, c in images
            if known[i].metadata_stamp != c.metadata_stamp
            or has_other_date_by_name(known[i].info, c.path)
        ]

    def describe(self, comparisons: Sequence[Comparison], workers: int) -> None:
        """Reads the metadata of images whose sidecars have changed, without encoding them. An
        image that cannot be read now keeps its metadata."""
        for seen in comparisons:
            ids = {candidate: image for image, candidate in (*seen.outdated, *seen.recognised)}
            if not ids:
                continue
            counted = {candidate for _, candidate in seen.recognised}
            self.counts["unchanged"] += len(seen.outdated)
            todo = self.until_stopped(ids)
            done = 0
            with Decoder(Geometry(), workers=min(workers, len(ids)), stop=self.stop) as decoder:
                infos = decoder.infos(todo)
                while batch := list(islice(infos, DESCRIBED_BATCH)):
                    known = {one.id: one for one in self.catalog.images(ids[c] for c, _ in batch)}
                    described = [
                        (ids[candidate], candidate, completed(info, known[ids[candidate]]))
                        for candidate, info in batch
                        if isinstance(info, PhotoInfo)
                    ]
                    self.write(seen.scope.root, described=described)
                    changed = sum(
                        not same_metadata(info, known[i].info) and candidate not in counted
                        for i, candidate, info in described
                    )
                    self.counts["updated"] += changed
                    self.counts["unchanged"] -= changed
                    done += len(batch)
                    self.progress("reading metadata", done, len(ids))

    def may_serve(self, root: Root) -> bool:
        """Whether the user has named the files below ``root`` that this run reads."""
        return self.named or root.named

    def hashing(
        self, suspects: Sequence[tuple[Candidate, ImageRecord | None]]
    ) -> Iterator[tuple[Candidate, ImageRecord | None]]:
        """``suspects``, with progress, until ``stop`` is set."""
        shown = 0.0
        for number, suspect in enumerate(suspects):
            if self.stop.is_set():
                return
            if time.monotonic() - shown > PROGRESS_SECONDS:
                shown = time.monotonic()
                self.progress("recognising files", number, len(suspects))
            yield suspect

    def hash(self, candidate: Candidate) -> str | None:
        """The hash of the file's content; None if it cannot be read."""
        try:
            return self.reader.hash(candidate)
        except PhotoError:
            return None

    def decode_and_encode(self, comparisons: Sequence[Comparison], workers: int) -> None:
        """Decodes, encodes and stores everything new or changed, batch by batch."""
        ids = {c.absolute: image for seen in comparisons for image, c in seen.changed}
        todo = [c for seen in comparisons for c in seen.new] + [
            c for seen in comparisons for _, c in seen.changed
        ]
        if todo:
            self.progress("starting", 0, len(todo))
            geometry = self.encoder.geometry
            with Decoder(geometry, workers=min(workers, len(todo)), stop=self.stop) as decoder:
                # The first images are decoded while torch and the model are loaded.
                photos = self.readable(decoder.photos(self.until_stopped(todo)))
                changed = self.with_new_pixels(photos, ids, len(todo))
                batches = encode_photos(
                    self.encoder, changed, count=len(todo), on_int8_check=self.checked_int8
                )
                self.store(batches, ids, len(todo))
        self.flush_failures()

    def checked_int8(self, check: Int8Check) -> None:
        """Stores and notes how int8 compares with float32 on the first images."""
        self.catalog.set_int8_check(check, model=self.encoder.model, revision=self.encoder.revision)
        self.notes.append(check.sentence)

    def with_new_pixels(
        self, photos: Iterable[tuple[Candidate, Photo]], ids: dict[Path, int], total: int
    ) -> Iterator[tuple[Candidate, Photo]]:
        """The photos to encode. An image of which the model would be shown the same pixels again
        keeps its embedding and labels: its metadata and thumbnail are stored here."""
        known = self.catalog.pixels_hashes(ids.values())
        same: list[tuple[Candidate, Photo]] = []
        for candidate, photo in photos:
            image = ids.get(candidate.absolute)
            if image is not None and known.get(image) == hash_pixels(photo.pixels):
                same.append((candidate, photo))
                if len(same) >= SAME_BATCH:
                    self.store_metadata(same, ids, total)
                    same = []
            else:
                yield candidate, photo
        if same:
            self.store_metadata(same, ids, total)

    def store_metadata(
        self, photos: Sequence[tuple[Candidate, Photo]], ids: dict[Path, int], total: int
    ) -> None:
        """Writes photos whose images keep their embeddings, with progress."""
        before = {
            record.id: record
            for record in self.catalog.images([ids[c.absolute] for c, _ in photos])
        }
        by_root: dict[Path, list[NewImage]] = defaultdict(list)
        for candidate, photo in photos:
            image = ids[candidate.absolute]
            decoded = self.may_serve(self.root(candidate.root))
            old = before[image].info
            info = replace(completed(photo.info, before[image]), url=old.url)
            new = replace(photo, info=info)
            by_root[candidate.root].append(
                NewImage(candidate, new, None, image, decoded, hash_pixels(photo.pixels))
            )
            self.counts["unchanged" if info == old else "updated"] += 1
        for root, images in by_root.items():
            self.write(root, images=images)
        self.stored += len(photos)
        self.progress("indexing", min(total, self.stored), total)

    def store(
        self,
        batches: Iterable[Sequence[tuple[Candidate, Photo, Embeddings]]],
        ids: dict[Path, int],
        total: int,
    ) -> None:
        """Writes each batch, with progress."""
        next_maintenance = MAINTAIN_EVERY
        before = self.counts["failed"]
        for batch in batches:
            by_root: dict[Path, list[NewImage]] = defaultdict(list)
            for candidate, picture, vector in batch:
                image = ids.get(candidate.absolute)
                decoded = self.may_serve(self.root(candidate.root))
                pixels_hash = hash_pixels(picture.pixels)
                new = NewImage(candidate, picture, vector, image, decoded, pixels_hash)
                by_root[candidate.root].append(new)
                self.counts["added" if image is None else "updated"] += 1
            for root, images in by_root.items():
                self.write(root, images=images)
            self.stored += len(batch)
            done = min(total, self.stored + self.counts["failed"] - before)
            self.progress("indexing", done, total)
            self.catalog.update_run(self.log, self.tally(), total=total)
            if self.stored >= next_maintenance:
                next_maintenance += MAINTAIN_EVERY
                self.maintain_index()

    def until_stopped(self, todo: Iterable[Candidate]) -> Iterator[Candidate]:
        """``todo`` until ``stop`` is set."""
        for candidate in todo:
            if self.stop.is_set():
                self.complete = False
                return
            yield candidate

    def readable(
        self, read: Iterable[tuple[Candidate, Photo | PhotoError]]
    ) -> Iterator[tuple[Candidate, Photo]]:
        """The photos among ``read``; records the failures."""
        for candidate, outcome in read:
            if self.stop.is_set():
                # Some dozen images are decoded ahead: they are dropped, the user is waiting.
                self.complete = False
                return
            if isinstance(outcome, PhotoError):
                self.failed(
                    candidate.root,
                    Failure(
                        str(candidate.root),
                        candidate.path,
                        candidate.size,
                        None if outcome.transient else candidate.mtime_ns,
                        str(outcome),
                        candidate.ctime_ns,
                    ),
                )
            else:
                for note in outcome.notes:
                    self.noted.setdefault(note, []).append(candidate.absolute)
                yield candidate, outcome

    def write(
        self,
        root: Path,
        *,
        images: Sequence[NewImage] = (),
        moved: Sequence[tuple[int, Candidate]] = (),
        copied: Sequence[tuple[int, Candidate]] = (),
        touched: Sequence[tuple[int, Candidate]] = (),
        decoded: Sequence[int] = (),
        described: Sequence[tuple[int, Candidate, PhotoInfo]] = (),
        removed: Sequence[int] = (),
    ) -> WriteResult:
        """Writes one transaction. Its thumbnails are written before it is committed, so that no
        image lacks one. Pending failures are written with it."""

        def thumbnails(written: WriteResult) -> None:
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
            decoded=decoded,
            described=described,
            failed=self.failures.pop(root, []),
            removed=removed,
            before_commit=thumbnails if images or copied else None,
        )
        self.library.remove_thumbnails(written.removed)
        return written

    def failed(self, root: Path, failure: Failure) -> None:
        """Records a file that cannot be read, to be stored with the next batch."""
        self.counts["failed"] += 1
        self.failures[root].append(failure)
        if len(self.failures[root]) >= FAILURE_BATCH:
            self.write(root)

    def flush_failures(self) -> None:
        """Stores the pending failures."""
        for root in list(self.failures):
            self.write(root)

    def delete_missing(self, comparisons: Sequence[Comparison], *, prune: bool) -> None:
        """Deletes images whose files are gone, if every scope was compared completely and not
        suspiciously many are missing."""
        if self.stop.is_set() or not self.complete:
            return
        for seen in comparisons:
            why = None if prune else seen.why_held_back(len(seen.gone))
            if why is not None:
                self.held_back.append(why)
                continue
            if seen.gone:
                self.write(seen.scope.root, removed=[image.id for image in seen.gone.values()])
                self.counts["removed"] += len(seen.gone)
            if seen.gone_failures:
                self.catalog.forget_failures(self.root(seen.scope.root), seen.gone_failures)

    def maintain_index(self) -> None:
        """Brings the vector index up to date if enough has changed."""
        self.library.maintain_index(
            text_queries=lambda: caption_vectors(self.encoder),
            device=self.encoder.requested_device.partition(":")[0],
            progress=self.progress,
        )

    def notes_on_images(self) -> Iterator[str]:
        """One line for each note, with the number of images and the first of them."""
        for note, paths in self.noted.items():
            which = f"{paths[0]}" if len(paths) == 1 else f"{len(paths):,} images, as {paths[0]}"
            yield f"{which}: {note}"

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
            notes=(*self.notes, *self.notes_on_images()),
            interrupted=self.stop.is_set(),
            seconds=seconds,
            library=str(self.library.directory),
            model=self.library.model,
        )
