"""Which files below a folder may be pictures. Nothing is opened: names and dates are enough.

Left out: hidden files and folders, what systems and programs keep for themselves, what patterns
exclude, and camera RAW files with their JPEG or HEIC beside them. Whatever should have been looked
at and could not be is reported, never passed over in silence.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol

from sightline.indexer.files import archives
from sightline.indexer.types import Candidate, Failure

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

ORDINARY = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"}
    | {".avif", ".heic", ".heif", ".hif"}
)
"""Suffixes of pictures that can always be read."""

RAW = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".fff", ".iiq", ".kdc", ".mef", ".mos"}
    | {".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf"}
    | {".srw", ".x3f"}
)
"""Suffixes of camera RAW."""

EXTENSIONS = ORDINARY | RAW
"""Suffixes that are looked at, lower-case."""

TWINS = (".jpg", ".jpeg", ".jpe", ".heic", ".heif", ".hif")
"""What a camera writes beside its RAW file when told to write both."""

IGNORE_FILE = ".sightlineignore"
"""A file of patterns in the manner of .gitignore, for the folder it lies in and all below."""

SYSTEM_FOLDERS = frozenset(
    {"@eadir", "#recycle", "#snapshot", "$recycle.bin", "recycler", "system volume information"}
    | {"lost+found", "node_modules", "__pycache__", "__macosx"}
)
"""Folders of operating systems, storage boxes and programs, lower-case: thumbnails, bins, parts."""

SYSTEM_SUFFIXES = (".lrdata", ".photoslibrary/resources", ".photoslibrary/database")
"""Ends of folders' paths, lower-case: what Lightroom and Apple Photos make for themselves. The
originals of a Photos library are looked at."""


class Stop(Protocol):
    """What says that a run is to end: a ``threading.Event``."""

    def is_set(self) -> bool:
        """Whether it is."""


Report = Callable[[Failure], None]


def scan(
    root: Path,
    *,
    below: str = "",
    exclude: Sequence[str] = (),
    on_error: Report | None = None,
    packed: bool = False,
) -> Iterator[Candidate]:
    """The files in ``root`` that may be pictures, folder by folder, sorted by name in each.

    ``below`` is a folder or a file of ``root`` (relative, with slashes) to look at instead of all
    of it; patterns and skipped folders hold as if all were looked at. ``exclude`` are patterns in
    the manner of .gitignore, relative to ``root``; they go before those of ``.sightlineignore``
    files.

    Links are followed. A folder that can be reached in several ways is looked at once: under its
    own name if it has one in here, however links lead round in circles.

    ``packed`` looks into WebDataset archives too (``archives``); ``root`` may then be one.

    ``on_error`` is given a ``Failure`` for a folder that cannot be listed, for a name that is not
    text, for a link to nothing, and for something with a picture's name that is no file.
    """
    work = _Scan(root, on_error or _ignored, packed=packed)
    yield from work.run(PurePosixPath(below), _specs(exclude))


def _ignored(failure: Failure) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True)
class _Patterns:
    """Lines of one ignore file, or of the command line, and the folder that they speak of."""

    folder: str
    """Relative to the root, with a slash at its end unless empty."""
    spec: GitIgnoreSpec

    def says(self, path: str) -> bool | None:
        """Whether ``path`` (a folder's ends with a slash) is left out; None: nothing is said."""
        return self.spec.check_file(path[len(self.folder) :]).include


def _specs(lines: Iterable[str], folder: str = "") -> tuple[_Patterns, ...]:
    from pathspec import GitIgnoreSpec

    lines = list(lines)
    return (_Patterns(folder, GitIgnoreSpec.from_lines(lines)),) if lines else ()


@dataclass
class _Folder:
    """A folder to be listed."""

    path: str
    """Relative to the root, with a slash at its end unless it is the root."""
    place: str
    """Where it is on the disk."""
    patterns: tuple[_Patterns, ...] = ()
    """The nearest last."""


@dataclass
class _Scan:
    root: Path
    report: Report
    seen: set[tuple[int, int]] = field(default_factory=set)
    """(device, inode) of the folders that were listed."""
    linked: deque[_Folder] = field(default_factory=deque)
    """Links to folders: they wait until everything has been seen under its own name."""
    excluded: tuple[_Patterns, ...] = ()
    packed: bool = False

    def run(self, below: PurePosixPath, excluded: tuple[_Patterns, ...]) -> Iterator[Candidate]:
        self.excluded = excluded
        wanted = str(below) if below.parts else ""
        if self.packed and self.root.suffix.lower() == archives.SUFFIX and self.root.is_file():
            for candidate in self.unpack(_Folder("", os.fspath(self.root)), self.root, ""):
                if not wanted or candidate.path == wanted:
                    yield candidate
            return
        start = _Folder("", os.fspath(self.root))
        only: str | None = None
        for part in below.parts:
            place = os.path.join(start.place, part)  # noqa: PTH118
            is_folder = os.path.isdir(place)  # noqa: PTH112
            path = start.path + part
            start = self.with_ignore_file(start)
            if self.skipped(part, path, is_folder) or self.left_out(path, is_folder, start):
                self.failed(path, "it is in a hidden, system or excluded folder, or is one")
                return
            if not is_folder:
                only = part
                break
            start = _Folder(path + "/", place, start.patterns)
        if only is not None:
            for candidate in self.list(start, only=only):
                if candidate.path == wanted or f"{candidate.path}/".startswith(f"{wanted}/"):
                    yield candidate
            return
        yield from self.walk(start)
        while self.linked:
            yield from self.walk(self.linked.popleft())

    def walk(self, start: _Folder) -> Iterator[Candidate]:
        """Everything below ``start``, without recursion: folders may lie thousands deep."""
        stack = [start]
        while stack:
            folder = stack.pop()
            try:
                status = os.stat(folder.place)  # noqa: PTH116
            except OSError as error:
                self.failed(folder.path.rstrip("/"), _why(error, "folder"))
                continue
            # Windows gives no inodes on some disks: then every folder is new, and links are none.
            key = status.st_dev, status.st_ino
            if status.st_ino and key in self.seen:
                continue
            self.seen.add(key)
            below: list[_Folder] = []
            yield from self.list(folder, folders=below)
            stack.extend(reversed(below))

    def list(
        self, folder: _Folder, *, folders: list[_Folder] | None = None, only: str | None = None
    ) -> Iterator[Candidate]:
        """The candidates in one folder; its folders are put into ``folders``."""
        try:
            with os.scandir(folder.place) as listing:
                entries = sorted(listing, key=_name)
        except OSError as error:
            self.failed(folder.path.rstrip("/"), _why(error, "folder"))
            return
        if only is None:
            folder = self.with_ignore_file(folder, entries)
        names: set[str] | None = None
        ruled = bool(folder.patterns or self.excluded)
        root, prefix = self.root, folder.path
        for entry in entries:
            name = entry.name
            if only is not None and name != only:
                continue
            if name[0] == ".":
                continue
            dot = name.rfind(".")
            suffix = name[dot:].lower() if dot > 0 else ""
            is_picture = suffix in EXTENSIONS
            try:
                if is_picture and entry.is_file():
                    path = prefix + name
                    if ruled and self.left_out(path, False, folder):
                        continue
                    if suffix in RAW:
                        if names is None:
                            names = {other.name.lower() for other in entries}
                        stem = name[:dot].lower()
                        if any(stem + twin in names for twin in TWINS):
                            continue
                    if not name.isascii() and not _is_text(name):
                        self.failed(path, "its name is not text in UTF-8: rename it")
                        continue
                    status = entry.stat()
                    yield Candidate(root, path, status.st_size, status.st_mtime_ns)
                elif entry.is_dir():
                    path = prefix + name
                    if (
                        folders is None
                        or self.skipped(name, path, True)
                        or (ruled and self.left_out(path, True, folder))
                    ):
                        continue
                    if not name.isascii() and not _is_text(name):
                        self.failed(path, "the folder's name is not text in UTF-8: rename it")
                        continue
                    found = _Folder(path + "/", entry.path, folder.patterns)
                    (self.linked if entry.is_symlink() else folders).append(found)
                elif self.packed and suffix == archives.SUFFIX and entry.is_file():
                    path = prefix + name
                    if not (ruled and self.left_out(path, False, folder)):
                        yield from self.unpack(folder, Path(entry.path), path)
                elif is_picture:
                    path = prefix + name
                    if not (ruled and self.left_out(path, False, folder)):
                        self.failed(path, _no_file(entry))
            except FileNotFoundError:
                continue  # gone since the folder was listed
            except OSError as error:
                self.failed(prefix + name, _why(error, "file"))

    def unpack(self, folder: _Folder, archive: Path, path: str) -> Iterator[Candidate]:
        """The candidates in an archive that lies at ``path`` (empty: it is the root)."""
        try:
            found = archives.contents(archive)
            mtime_ns = archive.stat().st_mtime_ns
        except OSError as error:
            self.failed(path, _why(error, "archive"))
            return
        prefix = f"{path}/" if path else ""
        for name, member in found.members.items():
            if os.path.splitext(name)[1].lower() in EXTENSIONS and not self.left_out(  # noqa: PTH122
                prefix + name, False, folder
            ):
                yield Candidate(self.root, prefix + name, member.size, mtime_ns)
        if found.problem is not None:
            self.failed(path, found.problem)

    def skipped(self, name: str, path: str, is_folder: bool) -> bool:
        """Whether it is hidden, or a folder that is nobody's pictures."""
        if name[0] == ".":
            return True
        if not is_folder:
            return False
        return name.lower() in SYSTEM_FOLDERS or path.lower().endswith(SYSTEM_SUFFIXES)

    def left_out(self, path: str, is_folder: bool, folder: _Folder) -> bool:
        """Whether patterns exclude ``path``: the command line's first, then the nearest file's."""
        path = path + "/" if is_folder else path
        for patterns in (*self.excluded, *reversed(folder.patterns)):
            said = patterns.says(path)
            if said is not None:
                return said
        return False

    def with_ignore_file(
        self, folder: _Folder, entries: Sequence[os.DirEntry[str]] | None = None
    ) -> _Folder:
        """``folder`` with the patterns of the ignore file in it, if there is one."""
        if entries is not None and not any(entry.name == IGNORE_FILE for entry in entries):
            return folder
        place = Path(folder.place, IGNORE_FILE)
        try:
            lines = place.read_text(encoding="utf-8-sig").splitlines()
            found = _specs(lines, folder.path)
        except FileNotFoundError:
            return folder
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            self.failed(folder.path + IGNORE_FILE, f"these patterns cannot be read: {why}")
            return folder
        return _Folder(folder.path, folder.place, folder.patterns + found)

    def failed(self, path: str, reason: str) -> None:
        """Reports ``path``, made storable where its name is not text, with its size and date."""
        try:
            status = os.stat(os.path.join(self.root, path))  # noqa: PTH116, PTH118
            size, mtime_ns = status.st_size, status.st_mtime_ns
        except (OSError, ValueError):
            size, mtime_ns = 0, 0
        self.report(Failure(_storable(str(self.root)), _storable(path), size, mtime_ns, reason))


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _storable(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _why(error: OSError, what: str) -> str:
    if isinstance(error, PermissionError):
        return f"no permission to look at this {what}"
    if isinstance(error, FileNotFoundError):
        return f"this {what} is not there any more"
    return f"this {what} cannot be looked at: {error.strerror or error}"


def _no_file(entry: os.DirEntry[str]) -> str:
    """Why something with a picture's name is none."""
    if entry.is_symlink():
        return "it is a link to nothing"
    mode = entry.stat().st_mode
    kind = "a pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
    return f"it is {kind}, not a file"
