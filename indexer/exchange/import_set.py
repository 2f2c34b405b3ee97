"""Imports a set of embeddings into a library; nothing is encoded.

    import_set(library, open_set(Path("set")))        # a LAION-style set becomes a library

An image file need not exist. Without it the row comes from the set alone: no thumbnail,
``mtime_ns`` None; ``sightline index`` does not count it as missing, and reads the file once it
appears. A file that exists is read for metadata and thumbnail, as ``sightline index`` reads it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from threading import Event
from typing import Any
from urllib.parse import unquote

import numpy as np

from sightline.indexer.catalog import WriteResult
from sightline.indexer.catalog.image_rows import COLOR
from sightline.indexer.dates import PRECISIONS, from_text
from sightline.indexer.errors import PhotoError, UsageError
from sightline.indexer.exchange.formats import EmbeddingSet, Row, Vectors
from sightline.indexer.files import sensitive
from sightline.indexer.files.beneath import ctime_and_inode, mtime_of
from sightline.indexer.library.library import Library, absolute
from sightline.indexer.photo import Decoder
from sightline.indexer.photo.capture_date import SOURCES, CaptureDate, rank, with_date
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
"""Columns with the path of an image, the most likely first."""

_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_ -]*(\.[A-Za-z0-9_]+)?")
"""A bare file name."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)

MAX_PATH = 4096
"""Characters of an image's path; the row of a longer one gets a number as its name."""

MAX_TEXT, MAX_KEYWORD, MAX_KEYWORDS = 100_000, 1_000, 1_000
"""Characters of a text and of a keyword, and keywords of an image; the rest is cut off."""

MAX_SIDE = 2**31 - 1
"""Pixels of an image's width or height."""

FORMAT = re.compile(r"[a-z0-9]{1,8}")
HASH = re.compile(r"[0-9a-f]{1,64}")

BATCH = 1_000
"""Images per transaction."""

ROUNDING = 2e-3
"""Difference of a unit vector's length from 1 that float16 may cause."""

MAX_PROBLEMS = 100
"""Skipped rows that a report names."""

NO_PIXELS: Pixels = np.empty((0, 0, 3), np.uint8)
"""Of an image that is not encoded."""


@dataclass
class ImportReport:
    """What an import did. ``found`` = ``imported`` + ``skipped``."""

    found: int = 0
    imported: int = 0
    read: int = 0
    """Of ``imported``: images whose files exist and were read."""
    skipped: int = 0
    problems: list[str] = field(default_factory=list)
    """One line for each of the first ``MAX_PROBLEMS`` rows that were skipped."""
    interrupted: bool = False

    def skip(self, problem: str) -> None:
        """Counts a row that cannot be imported."""
        self.skipped += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)


def import_set(
    library: Library,
    source: EmbeddingSet,
    *,
    pictures: Path | None = None,
    workers: int | None = None,
    allow_roots: Sequence[Path] = (),
    text_queries: Callable[[], Embeddings] | None = None,
    progress: Progress = no_progress,
    stop: Event | None = None,
) -> ImportReport:
    """Imports every row of ``source`` into ``library``; an image that is there keeps its id.

    ``pictures`` is the folder that the set's paths are relative to (None: the folder that absolute
    paths have in common, or the set's own; never a sensitive one, see ``allow_roots`` of
    ``index_folders``). Originals are served of images whose files were read below ``pictures`` or
    a root that the user named. ``workers`` is the number of processes that read image
    files. ``text_queries`` is passed on to the vector index. Vectors that are zero or not finite,
    and second rows for a path, are skipped and reported. Raises UsageError for a set of another
    dimension, LibraryBusyError if another run is writing.
    """
    if source.dimension != library.dimension:
        raise UsageError(
            f"the vectors of {source.path} have {source.dimension} dimensions, and those of the"
            f" library's model, {library.model}, {library.dimension}: name the model that made"
            " them with --model"
        )
    with (
        library.writing(),
        closing(_Import(library, source, pictures, stop or Event(), allow_roots)) as work,
    ):
        with Decoder(Geometry(), workers=workers or os.cpu_count() or 1, stop=work.stop) as decoder:
            for rows, vectors in source.batches():
                work.add(rows, vectors, decoder)
                progress("importing", work.report.found, source.count)
                if work.stop.is_set():
                    work.report.interrupted = True
                    break
        library.locate(work.stop)
        if not work.report.interrupted:
            library.maintain_index(text_queries=text_queries, progress=progress)
    return work.report


class _Import:
    """The state of one import."""

    def __init__(
        self,
        library: Library,
        source: EmbeddingSet,
        pictures: Path | None,
        stop: Event,
        allow_roots: Sequence[Path],
    ) -> None:
        self.library = library
        self.stop = stop
        self.report = ImportReport()
        self.base = absolute(pictures) if pictures else None
        self.fallback = self.base or _common_folder(source)
        sensitive.refuse([self.fallback], allow_roots)
        self.seen: set[int] = set()
        self.roots: dict[Path, tuple[Root, str]] = {}
        self.log = library.catalog.start_run([str(absolute(source.path))])

    def close(self) -> None:
        """Logs the run in the catalog."""
        counts = {"found": self.report.found, "added": self.report.imported}
        interrupted = int(self.report.interrupted)
        self.library.catalog.finish_run(
            self.log, {**counts, "failed": self.report.skipped, "interrupted": interrupted}
        )

    def add(self, rows: Sequence[Row], vectors: Vectors, decoder: Decoder) -> None:
        """Imports one batch of the set."""
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        good = np.isfinite(lengths) & (lengths > 0)
        # Vectors of unit length, up to rounding, stay bit for bit.
        scale = np.where(np.abs(lengths - 1) > ROUNDING, lengths, 1.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            unit = (vectors / scale[:, None]).astype(np.float32)
        existing: dict[Candidate, tuple[Root, Row, Any]] = {}
        ready: list[tuple[Root, NewImage]] = []
        for row, vector, usable in zip(rows, unit, good, strict=True):
            number = self.report.found
            self.report.found += 1
            if not usable:
                self.report.skip(f"row {number}: its vector is missing, zero or not finite")
                continue
            folder, path = self._place(row, number)
            key = hash((folder, path))
            if key in self.seen:
                self.report.skip(f"row {number}: {path} is in an earlier row")
                continue
            self.seen.add(key)
            root, prefix = self._root(folder)
            candidate = _candidate(root.path, prefix + path, decoder)
            if candidate.mtime_ns is not None:
                existing[candidate] = (root, row, vector)
            else:
                ready.append((root, NewImage(*_from_row(candidate, row), vector)))
        self._write(ready)
        for candidate, photo in decoder.photos(existing):
            root, row, vector = existing[candidate]
            if isinstance(photo, Photo):
                photo = replace(photo, info=_filled(photo.info, row), pixels=NO_PIXELS)
                decoded = root.named or self.base is not None
                image = NewImage(candidate, photo, vector, decoded=decoded)
                self.report.read += 1
            elif self.stop.is_set():
                continue  # perhaps it was not read to its end: the next import reads it
            else:  # an unreadable file keeps the vector of the set
                unread = replace(candidate, mtime_ns=None)
                image = NewImage(*_from_row(unread, row), vector)
            ready.append((root, image))
            if len(ready) >= BATCH:
                self._write(ready)
        self._write(ready)

    def _place(self, row: Row, number: int) -> tuple[Path, str]:
        """The folder that becomes a root, and the path relative to it."""
        text = next((str(row[name]) for name in PATHS if row.get(name) not in (None, "")), "")
        text = text.replace("\\", "/") if len(text) <= MAX_PATH else ""
        text = _local_path(text)
        if _FILE_NAME.fullmatch(text):  # nearly all of them, and pathlib is slow
            return self.fallback, text
        path = PurePosixPath(text)
        its_root = row.get("root")
        if (
            path.is_absolute()
            and its_root
            and path.is_relative_to(str(its_root))
            and not (self.base is None and sensitive.is_sensitive(Path(str(its_root))))
        ):
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
        """The library's root that contains ``folder``, and the prefix of its paths there."""
        if folder not in self.roots:
            owner = max(
                (root for root in self.library.catalog.roots() if folder.is_relative_to(root.path)),
                key=lambda root: len(root.path.parts),
                default=None,
            )
            if owner is None:
                owner = self.library.ensure_root(folder, named=self.base is not None)
            below = folder.relative_to(owner.path).as_posix()
            self.roots[folder] = owner, "" if below == "." else f"{below}/"
        return self.roots[folder]

    def _write(self, images: list[tuple[Root, NewImage]]) -> None:
        """Writes ``images`` and empties the list."""
        by_root: dict[Root, list[NewImage]] = {}
        for root, image in images:
            by_root.setdefault(root, []).append(image)
        for root, of_root in by_root.items():
            for start in range(0, len(of_root), BATCH):
                self._write_batch(root, of_root[start : start + BATCH])
        self.report.imported += len(images)
        images.clear()

    def _write_batch(self, root: Root, images: Sequence[NewImage]) -> None:
        def write_thumbnails(written: WriteResult) -> None:
            thumbnails = {
                id: image.photo.thumbnail
                for id, image in zip(written.images, images, strict=True)
                if image.photo.thumbnail
            }
            if thumbnails:
                self.library.thumbnails.put_many(thumbnails)

        self.library.catalog.write(root, images=images, before_commit=write_thumbnails)


def _common_folder(source: EmbeddingSet) -> Path:
    """The deepest folder that contains all absolute paths of ``source``, or the set's own folder.
    Rows that name their root are ignored."""
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
    # The root of the file system is not a folder of images, nor is the home folder.
    return Path(common) if common and not sensitive.is_sensitive(Path(common)) else own


def _candidate(root: Path, path: str, decoder: Decoder) -> Candidate:
    """The file at ``path``; ``mtime_ns`` is None if there is none."""
    try:
        found = os.stat(os.path.join(root, path))  # noqa: PTH116, PTH118 (pathlib is slow)
        if stat.S_ISREG(found.st_mode):
            ctime_ns, inode = ctime_and_inode(found)
            size, mtime_ns = found.st_size, mtime_of(found)
            return Candidate(root, path, size, mtime_ns, ctime_ns=ctime_ns, inode=inode)
    except NotADirectoryError:
        with suppress(OSError, PhotoError):  # the archive does not contain it
            return Candidate(root, path, *decoder.size_and_mtime(Candidate(root, path, 0, None)))
    except (OSError, ValueError):
        pass  # missing, or not a valid file name on this system
    return Candidate(root, path, 0, None)


def _from_row(candidate: Candidate, row: Row) -> tuple[Candidate, Photo]:
    """The candidate and photo of an image of which only the row is known."""
    url = _text(row, "url") or ""
    format = _text(row, "format") or _extension(candidate.path) or _extension(url)
    format = {"jpg": "jpeg", "tif": "tiff", "heic": "heif"}.get(format, format)
    color = _text(row, "color")
    content_hash = _text(row, "content_hash") or ""
    info = PhotoInfo(
        width=_whole(row, "width", "original_width", most=MAX_SIDE) or 0,
        height=_whole(row, "height", "original_height", most=MAX_SIDE) or 0,
        format=format if FORMAT.fullmatch(format) else "",
        orientation=_whole(row, "orientation", least=1, most=8) or 1,
        color=color if color and COLOR.fullmatch(color) else None,
    )
    photo = Photo(
        info=_filled(info, row),
        pixels=NO_PIXELS,
        thumbnail=b"",
        content_hash=content_hash if HASH.fullmatch(content_hash) else "",
        phash=_whole(row, "phash", least=-(2**63)),
    )
    return replace(candidate, size=_whole(row, "size") or 0), photo


def _address(row: Row) -> str | None:
    """The URL of an image, in its own column or in the place of the path; None for a file."""
    path = next((row[name] for name in PATHS if row.get(name) not in (None, "")), None)
    found = isinstance(path, str) and _URL.match(path)
    in_path = _text(row, *PATHS) if found and found[1].lower() != "file" else None
    return _text(row, "url") or in_path


def _local_path(text: str) -> str:
    """The path in a ``file:`` URL. For another URL a relative path of its host and path, where no
    file of this machine is expected."""
    found = _URL.match(text)
    if not found:
        return text
    rest = unquote(re.split("[?#]", found[2])[0])
    if found[1].lower() == "file":
        return rest[rest.find("/") :] if "/" in rest else ""
    return rest.strip("/")


def _extension(path: str) -> str:
    """``jpg`` of ``a/b.JPG?x=1``."""
    found = re.search(r"\.([A-Za-z0-9]{2,5})(?:[?#].*)?$", path)
    return found[1].lower() if found else ""


def _filled(info: PhotoInfo, row: Row) -> PhotoInfo:
    """``info``, completed from the set."""
    rating = _whole(row, "rating", most=5)
    taken = _date(row)
    source = row.get("taken_from")
    if taken is not None and rank(info) > SOURCES.index("sidecar"):
        info = with_date(info, taken, "sidecar")
        if source in SOURCES:
            info = replace(info, taken_from=source)
    return replace(
        info,
        camera=info.camera or _text(row, "camera"),
        lens=info.lens or _text(row, "lens"),
        latitude=info.latitude if info.latitude is not None else _number(row, "latitude", 90),
        longitude=info.longitude if info.longitude is not None else _number(row, "longitude", 180),
        title=info.title or _text(row, "title"),
        caption=info.caption or _text(row, "caption", "text"),
        place=info.place or _text(row, "place"),
        keywords=info.keywords or _listed(row.get("keywords")),
        people=info.people or _listed(row.get("people")),
        rating=info.rating if info.rating is not None else rating,
        url=_address(row),
    )


def _listed(values: object) -> tuple[str, ...]:
    """Keywords or people, as a list or separated by commas."""
    if isinstance(values, str):
        values = [word.strip() for word in values.split(",")]
    if not isinstance(values, list):
        return ()
    words = [word[:MAX_KEYWORD] for word in values if isinstance(word, str) and word]
    return tuple(words[:MAX_KEYWORDS])


def _text(row: Row, *names: str) -> str | None:
    for name in names:
        value = row.get(name)
        if isinstance(value, str) and value.strip():
            return value[:MAX_TEXT]
    return None


def _whole(row: Row, *names: str, least: int = 0, most: int = 2**63 - 1) -> int | None:
    """The first whole number of ``names`` that is in that range."""
    for name in names:
        value = row.get(name)
        if isinstance(value, int) or (isinstance(value, float) and np.isfinite(value)):
            number = int(value)
            if least <= number <= most:
                return number
    return None


def _number(row: Row, name: str, most: float) -> float | None:
    value = row.get(name)
    return float(value) if isinstance(value, int | float) and abs(value) <= most else None


def _date(row: Row) -> CaptureDate | None:
    value, precision = row.get("taken_at"), row.get("taken_precision")
    if not isinstance(value, datetime):
        try:
            value, written = from_text(value) if isinstance(value, str) else (None, None)
        except ValueError:
            return None
        precision = precision if precision in PRECISIONS else written
    if value is None:
        return None
    known = [one for one in PRECISIONS if one == precision]
    return CaptureDate(value.replace(tzinfo=None), known[0] if known else "second")
