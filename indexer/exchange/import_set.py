"""Libraries and sets of embeddings: out of the one into the other, nothing encoded.

    write_set(library, Path("set"), format="npy")     # clip-retrieval's layout
    import_set(library, open_set(Path("set")))        # a LAION-style set becomes a library

An imported picture need not be present. Where its file is not there, its row comes from the set
alone: no thumbnail, ``mtime_ns`` 0; a run over its folder does not miss it, and reads it when it
turns up. Where the file is there, it is read as a run reads it, and not encoded.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from threading import Event
from typing import Any

import numpy as np

from sightline.indexer.catalog.catalog import Written
from sightline.indexer.errors import UsageError
from sightline.indexer.exchange.formats import EmbeddingSet, Row, Vectors
from sightline.indexer.files import archives
from sightline.indexer.library.library import Library, absolute
from sightline.indexer.photo.decoder import Decoder
from sightline.indexer.types import (
    Candidate,
    Embeddings,
    Geometry,
    NewImage,
    Photo,
    PhotoInfo,
    Pixels,
    Progress,
    Root,
    no_progress,
)

PATHS = ("image_path", "path", "filename", "file_name", "filepath", "key")
"""Columns in which a set says where a picture is, the likeliest first."""

_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_ -]*(\.[A-Za-z0-9_]+)?")
"""A file's name and no more."""

KEPT = 1_000
"""Pictures in one transaction."""

ROUNDING = 2e-3
"""Difference from 1 of a length that float16 may make."""

SHOWN_PROBLEMS = 100

NOTHING: Pixels = np.empty((0, 0, 3), np.uint8)
"""Pixels of a picture that is not encoded."""


@dataclass
class ImportReport:
    """What an import did. ``found`` = imported + skipped."""

    found: int = 0
    imported: int = 0
    read: int = 0
    """Of ``imported``: pictures whose files are there and were read."""
    skipped: int = 0
    problems: list[str] = field(default_factory=list)
    """One line for each of the first rows that were skipped."""
    interrupted: bool = False

    def skip(self, problem: str) -> None:
        """Counts a row that cannot be taken in."""
        self.skipped += 1
        if len(self.problems) < SHOWN_PROBLEMS:
            self.problems.append(problem)


def import_set(
    library: Library,
    source: EmbeddingSet,
    *,
    pictures: Path | None = None,
    workers: int | None = None,
    text_queries: Callable[[], Embeddings] | None = None,
    progress: Progress = no_progress,
    stop: Event | None = None,
) -> ImportReport:
    """Takes every row of ``source`` into ``library``; a picture that is there already keeps its id.

    ``pictures`` is the folder in which the set's paths lie; without it that is the folder that the
    paths themselves have in common, or the set's own. ``workers`` read the pictures that are there.
    ``text_queries`` is passed on to the vector index. Vectors that are zero or not finite, and
    second rows for one path, are skipped and named. Raises UsageError for a set of another
    dimension, and LibraryBusyError when a run is writing.
    """
    if source.dimension != library.dimension:
        raise UsageError(
            f"the vectors of {source.path} have {source.dimension} dimensions, and those of the"
            f" library's model, {library.model}, {library.dimension}: name the model that made"
            " them with --model"
        )
    with library.writing(), closing(_Import(library, source, pictures, stop or Event())) as work:
        with Decoder(Geometry(), workers=workers or os.cpu_count() or 1) as decoder:
            for rows, vectors in source.batches():
                work.take(rows, vectors, decoder)
                progress("importing", work.report.found, source.count)
                if work.stop.is_set():
                    work.report.interrupted = True
                    break
        if not work.report.interrupted:
            library.maintain_index(text_queries=text_queries, progress=progress)
    return work.report


class _Import:
    """The state of one import."""

    def __init__(
        self, library: Library, source: EmbeddingSet, pictures: Path | None, stop: Event
    ) -> None:
        self.library = library
        self.stop = stop
        self.report = ImportReport()
        self.base = absolute(pictures) if pictures else None
        self.fallback = self.base or _common_folder(source)
        self.seen: set[int] = set()
        self.roots: dict[Path, tuple[Root, str]] = {}
        self.log = library.catalog.start_run([str(absolute(source.path))])

    def close(self) -> None:
        """Writes into the catalog how it ended."""
        counts = {"found": self.report.found, "added": self.report.imported}
        interrupted = int(self.report.interrupted)
        self.library.catalog.finish_run(
            self.log, {**counts, "failed": self.report.skipped, "interrupted": interrupted}
        )

    def take(self, rows: Sequence[Row], vectors: Vectors, decoder: Decoder) -> None:
        """Takes one batch of the set in."""
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        good = np.isfinite(lengths) & (lengths > 0)
        # What is of unit length but for the rounding of float16 stays bit for bit.
        scale = np.where(np.abs(lengths - 1) > ROUNDING, lengths, 1.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            unit = (vectors / scale[:, None]).astype(np.float32)
        here: dict[Candidate, tuple[Root, Row, Any]] = {}
        away: list[tuple[Root, NewImage]] = []
        for row, vector, usable in zip(rows, unit, good, strict=True):
            number = self.report.found
            self.report.found += 1
            if not usable:
                self.report.skip(f"row {number}: its vector is zero or not finite")
                continue
            folder, path = self._place(row, number)
            mark = hash((folder, path))
            if mark in self.seen:
                self.report.skip(f"row {number}: {path} was there before")
                continue
            self.seen.add(mark)
            root, prefix = self._root(folder)
            candidate = _candidate(root.path, prefix + path)
            if candidate.mtime_ns:
                here[candidate] = (root, row, vector)
            else:
                away.append((root, NewImage(*_unseen(candidate, row), vector)))
        self._write(away)
        for candidate, photo in decoder.photos(here):
            root, row, vector = here[candidate]
            if isinstance(photo, Photo):
                info = _filled(photo.info, row)
                image = NewImage(candidate, replace(photo, info=info, pixels=NOTHING), vector)
                self.report.read += 1
            else:  # a file that cannot be read has the set's vector all the same
                unread = replace(candidate, mtime_ns=0)
                image = NewImage(*_unseen(unread, row), vector)
            away.append((root, image))
            if len(away) >= KEPT:
                self._write(away)
        self._write(away)

    def _place(self, row: Row, number: int) -> tuple[Path, str]:
        """The folder that becomes a root, and the path below it."""
        text = next((str(row[name]) for name in PATHS if row.get(name) not in (None, "")), "")
        text = text.replace("\\", "/")
        if _PLAIN.fullmatch(text):  # nearly all of them, and pathlib takes its time
            return self.fallback, text
        path = PurePosixPath(text)
        its_root = row.get("root")
        if path.is_absolute() and its_root and path.is_relative_to(str(its_root)):
            below = path.relative_to(str(its_root))
            return self.base or Path(str(its_root)), str(below)
        if path.is_absolute() and path.is_relative_to(self.fallback):
            return self.fallback, str(path.relative_to(self.fallback))
        relative = path.relative_to(path.anchor)
        if not text or ".." in relative.parts or "\0" in text or str(relative) == ".":
            return self.fallback, f"{number:09d}"
        try:
            text.encode()
        except UnicodeEncodeError:
            return self.fallback, f"{number:09d}"
        return self.fallback, str(relative)

    def _root(self, folder: Path) -> tuple[Root, str]:
        """The library's root for ``folder``, and what comes before its paths there."""
        if folder not in self.roots:
            owner = max(
                (root for root in self.library.catalog.roots() if folder.is_relative_to(root.path)),
                key=lambda root: len(root.path.parts),
                default=None,
            )
            if owner is None:
                owner = self.library.ensure_root(folder)
            below = folder.relative_to(owner.path).as_posix()
            self.roots[folder] = owner, "" if below == "." else f"{below}/"
        return self.roots[folder]

    def _write(self, images: list[tuple[Root, NewImage]]) -> None:
        """Writes ``images`` and empties the list."""
        by_root: dict[Root, list[NewImage]] = {}
        for root, image in images:
            by_root.setdefault(root, []).append(image)
        for root, all_of_it in by_root.items():
            for start in range(0, len(all_of_it), KEPT):
                self._write_some(root, all_of_it[start : start + KEPT])
        self.report.imported += len(images)
        images.clear()

    def _write_some(self, root: Root, images: Sequence[NewImage]) -> None:
        def thumbnails(written: Written) -> None:
            drawn = {
                id: image.photo.thumbnail
                for id, image in zip(written.images, images, strict=True)
                if image.photo.thumbnail
            }
            if drawn:
                self.library.thumbnails.put_many(drawn)

        self.library.catalog.write(root, images=images, before_commit=thumbnails)


def _common_folder(source: EmbeddingSet) -> Path:
    """The deepest folder that holds all absolute paths of ``source``, or the set's own folder.

    Paths of a set that names roots itself are left out: they are taken at their word.
    """
    common: str | None = None
    for row in source.rows((*PATHS, "root")):
        path = next((row[name] for name in PATHS if row.get(name)), None)
        if not isinstance(path, str) or not path.startswith("/") or row.get("root"):
            continue
        folder = str(PurePosixPath(path).parent)
        common = folder if common is None else os.path.commonpath([common, folder])
        if common == "/":
            break
    own = absolute(source.path)
    own = own if own.is_dir() else own.with_suffix("")
    # The root of the file system becomes nobody's folder of pictures.
    return Path(common) if common and common != "/" else own


def _candidate(root: Path, path: str) -> Candidate:
    """The file at ``path``; ``mtime_ns`` is 0 when there is none."""
    try:
        found = os.stat(os.path.join(root, path))  # noqa: PTH116, PTH118 (pathlib takes its time)
        if stat.S_ISREG(found.st_mode):
            return Candidate(root, path, found.st_size, found.st_mtime_ns)
    except NotADirectoryError:
        try:
            return Candidate(root, path, *archives.status(root / path))
        except OSError:
            pass  # an archive without it
    except (OSError, ValueError):
        pass  # not there, or no name for a file of this system: the set's own words will do
    return Candidate(root, path, 0, 0)


def _unseen(candidate: Candidate, row: Row) -> tuple[Candidate, Photo]:
    """A picture of which nothing is known but its row."""
    format = str(row.get("format") or _ending(candidate.path) or _ending(str(row.get("url"))))
    info = PhotoInfo(
        width=_whole(row, "width", "original_width") or 0,
        height=_whole(row, "height", "original_height") or 0,
        format={"jpg": "jpeg", "tif": "tiff", "heic": "heif"}.get(format, format)[:8],
        orientation=_whole(row, "orientation") or 1,
        color=_text(row, "color"),
    )
    photo = Photo(
        info=_filled(info, row),
        pixels=NOTHING,
        thumbnail=b"",
        content_hash=_text(row, "content_hash") or "",
        phash=_whole(row, "phash"),
    )
    return replace(candidate, size=_whole(row, "size") or 0), photo


def _ending(path: str) -> str:
    """``jpg`` of ``a/b.JPG?x=1``."""
    found = re.search(r"\.([A-Za-z0-9]{2,5})(?:[?#].*)?$", path)
    return found[1].lower() if found else ""


def _filled(info: PhotoInfo, row: Row) -> PhotoInfo:
    """``info`` with what only the set knows."""
    keywords = row.get("keywords") or ()
    if isinstance(keywords, str):
        keywords = [word.strip() for word in keywords.split(",")]
    rating = _whole(row, "rating")
    return replace(
        info,
        taken_at=info.taken_at or _time(row.get("taken_at")),
        camera=info.camera or _text(row, "camera"),
        lens=info.lens or _text(row, "lens"),
        latitude=info.latitude if info.latitude is not None else _number(row, "latitude", 90),
        longitude=info.longitude if info.longitude is not None else _number(row, "longitude", 180),
        title=info.title or _text(row, "title"),
        caption=info.caption or _text(row, "caption", "text"),
        place=info.place or _text(row, "place"),
        keywords=info.keywords or tuple(str(word) for word in keywords if word),
        rating=info.rating if info.rating is not None or rating not in range(6) else rating,
        url=_text(row, "url"),
    )


def _text(row: Row, *names: str) -> str | None:
    for name in names:
        value = row.get(name)
        if isinstance(value, str) and value.strip():
            return value
    return None


def _whole(row: Row, *names: str) -> int | None:
    for name in names:
        value = row.get(name)
        if isinstance(value, int) or (isinstance(value, float) and np.isfinite(value)):
            return int(value)
    return None


def _number(row: Row, name: str, most: float) -> float | None:
    value = row.get(name)
    return float(value) if isinstance(value, int | float) and abs(value) <= most else None


def _time(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return value.replace(tzinfo=None)
    try:
        return datetime.fromisoformat(value).replace(tzinfo=None) if value else None  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return None


def records(library: Library, ids: Sequence[int]) -> Iterator[Row]:
    """What a library knows of images, a row each, as sets of embeddings name things."""
    for image in library.images(ids):
        info = image.info
        yield {
            "id": image.id,
            "image_path": str(image.absolute),
            "root": image.root,
            "url": info.url,
            "title": info.title,
            "caption": info.caption,
            "keywords": list(info.keywords),
            "place": info.place,
            "rating": info.rating,
            "width": info.width,
            "height": info.height,
            "format": info.format,
            "orientation": info.orientation,
            "taken_at": info.taken_at,
            "camera": info.camera,
            "lens": info.lens,
            "latitude": info.latitude,
            "longitude": info.longitude,
            "size": image.size,
            "content_hash": image.content_hash,
            "color": info.color,
            "phash": image.phash,
        }
