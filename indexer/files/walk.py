"""Finds the files below a folder that may be images, by name and date, without opening them.

Hidden files and folders, folders of systems and programs, excluded patterns, and camera RAW files
with a JPEG or HEIC beside them are skipped. What cannot be read is reported.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol

from sightline.indexer.errors import PhotoError
from sightline.indexer.files import archives
from sightline.indexer.files.beneath import (
    OUTSIDE,
    ctime_and_inode,
    is_beneath,
    mtime_of,
    open_beneath,
)
from sightline.indexer.files.sidecars import NO_SIDECARS, Sidecars
from sightline.indexer.installation import install_command
from sightline.indexer.types import Candidate, Failure

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

RAW_SUFFIXES = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".fff", ".iiq", ".kdc", ".mef", ".mos"}
    | {".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf"}
    | {".srw", ".x3f"}
)
"""Of camera RAW files, lower-case."""

IMAGE_SUFFIXES = RAW_SUFFIXES | {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
    *(".avif", ".heic", ".heif", ".hif", ".mpo", ".insp", ".pjpeg", ".pjp", ".apng"),
}
"""Of files that may be images, lower-case."""

JPEG_XL = ".jxl"
"""Of images that are read with the ``jxl`` extra."""

UNSUPPORTED_SUFFIXES = frozenset(
    {JPEG_XL, ".jp2", ".j2k", ".jpf", ".jpx", ".jpm", ".jxr", ".wdp", ".hdp", ".psd", ".psb"}
    | {".svg", ".svgz", ".ai", ".eps", ".xcf", ".kra", ".ora", ".exr", ".hdr", ".tga", ".pcx"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".qoi", ".bpg", ".flif", ".ico", ".icns", ".dds", ".wmf"}
    | {".emf", ".tgz", ".tar.gz"}
)
"""Of images and archives that are not read: a run reports their number."""

SNIFFED_SUFFIXES = UNSUPPORTED_SUFFIXES | {"", ".img"}
"""Of files that are images if their content is of a format that is read, lower-case."""

SIZE_SUFFIX = re.compile(r"\.(jpe?g|png|webp|gif)[_:!](?!original$).+")
"""Suffixes of downloads, ``.jpg_large`` and ``.jpg:orig``, which are sniffed too. Not ExifTool's
``.jpg_original``, the file before an edit."""

SIGNATURE = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP|II\*\0|MM\0\*"
    rb"|....ftyp(?:hei[cx]|hev[cx]|mif1|msf1|avi[fs])",
    re.DOTALL,
)
"""First bytes of the formats that are read."""

RAW_COMPANION_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".heic", ".heif", ".hif")
"""Of the file that a camera writes beside its RAW file."""

IGNORE_FILE = ".sightlineignore"
"""A file of patterns in .gitignore's syntax, for its folder and everything below."""

NO_MEDIA = ".nomedia"
"""A file that excludes its folder and everything below, as Android's gallery reads it."""

MAX_IGNORE_BYTES, MAX_PATTERN = 64 * 2**10, 1000
"""Bytes of an ignore file, and characters of a pattern: 1,000 asterisks compile in 1 ms."""

SYSTEM_FOLDERS = frozenset(
    {"@eadir", "#recycle", "#snapshot", "$recycle.bin", "recycler", "system volume information"}
    | {"lost+found", "node_modules", "__pycache__", "__macosx"}
)
"""Names of folders with thumbnails, deleted files and program data, lower-case."""

SYSTEM_SUFFIXES = (".lrdata", ".photoslibrary/resources", ".photoslibrary/database")
"""Ends of folder paths, lower-case: data of Lightroom and Apple Photos beside the originals."""


class Stop(Protocol):
    """A ``threading.Event`` that ends a run."""

    def is_set(self) -> bool:
        """Whether to stop."""


LINK_OUT = f"{OUTSIDE}: index the folder that it leads to, or use --follow-links"

Report = Callable[[Failure], None]

ListArchive = Callable[[Candidate], archives.Listing]
"""Raises ``PhotoError``. A run lists archives in a worker process: parsing one may never end."""


def scan(
    root: Path,
    *,
    below: str = "",
    exclude: Sequence[str] = (),
    on_error: Report | None = None,
    list_archive: ListArchive | None = None,
    include_nomedia: bool = False,
    on_left_out: Callable[[str], None] | None = None,
) -> Iterator[Candidate]:
    """The files in ``root`` that may be images, folder by folder, sorted by name in each.

    ``below`` limits the scan to a folder or file of ``root`` (relative, with slashes); ignore files
    above it apply. ``exclude`` are patterns in .gitignore's syntax, relative to ``root``, which
    precede those of ``.sightlineignore`` files. With ``list_archive`` the members of WebDataset
    archives are found too (``archives``), and ``root`` may be one.

    Symbolic links are followed inside ``root``; a link out of it is reported. A folder with several
    paths is listed once, under its real path, so cycles end. ``root`` itself may be a link.

    ``on_error`` receives a ``Failure`` for a folder that cannot be listed, a name that is not
    UTF-8, a broken link, and a pipe, socket or device with an image's suffix. ``on_left_out``
    receives the suffix of each file in ``UNSUPPORTED_SUFFIXES``, and ``NO_MEDIA`` for each folder
    that is left out for such a file; with ``include_nomedia`` there is none.
    """
    report = on_error or (lambda failure: None)
    left_out = on_left_out or (lambda name: None)
    work = _Scan(root, report, left_out, _patterns(exclude), list_archive, include_nomedia)
    yield from work.run(PurePosixPath(below))


def image_suffixes() -> frozenset[str]:
    """``IMAGE_SUFFIXES``, and those of the extras that are installed."""
    return IMAGE_SUFFIXES | {JPEG_XL} if find_spec("pillow_jxl") else IMAGE_SUFFIXES


def left_out_notes(counts: Counter[str]) -> list[str]:
    """One line for each name that ``on_left_out`` received."""
    notes = []
    for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if name == NO_MEDIA:
            notes.append(f"folders left out for a {NO_MEDIA} file: {count:,} (--include-nomedia)")
        elif name == JPEG_XL:
            notes.append(f"{count:,} {name}: not supported without `{install_command('jxl')}`")
        elif name in (".tgz", ".tar.gz"):
            notes.append(f"{count:,} {name}: not supported (decompress the archive to .tar)")
        else:
            notes.append(f"{count:,} {name}: not supported")
    return notes


def is_sniffed(suffix: str) -> bool:
    """Whether files of a suffix (lower-case) are images only if their content is."""
    return suffix in SNIFFED_SUFFIXES or SIZE_SUFFIX.fullmatch(suffix) is not None


def suffix_of(name: str) -> str:
    """The suffix of a file name, lower-case: ``.jpg``, ``.tar.gz``, or nothing."""
    dot = name.rfind(".")
    suffix = name[dot:].lower() if dot > 0 else ""
    return ".tar.gz" if suffix == ".gz" and name.lower().endswith(".tar.gz") else suffix


@dataclass(frozen=True)
class _Patterns:
    """The patterns of one ignore file, or of ``exclude``."""

    folder: str
    """That they are relative to: relative to the root, with a final slash unless empty."""
    spec: GitIgnoreSpec

    def decision(self, path: str) -> bool | None:
        """Whether ``path`` (with a final slash if a folder) is excluded; None if none matches."""
        path = path[len(self.folder) :]
        return self.spec.check_file(path if _is_utf8(path) else _escaped(path)).include


def _patterns(lines: Iterable[str], folder: str = "") -> tuple[_Patterns, ...]:
    """Raises ``ValueError`` for an invalid pattern."""
    lines = list(lines)
    if not lines:
        return ()
    import re2
    from pathspec import GitIgnoreSpec

    if long := next((line for line in lines if len(line) > MAX_PATTERN), None):
        raise ValueError(f"{long[:20]}... is longer than {MAX_PATTERN:,} characters")
    try:
        # RE2 matches in linear time: with Python's engine a pattern of 30 asterisks never ends.
        return (_Patterns(folder, GitIgnoreSpec.from_lines(lines, backend="re2")),)
    except re.error as error:
        raise ValueError(f"invalid pattern: {error}") from error
    except re2.error as error:
        raise ValueError("there are too many, or too complex ones") from error


@dataclass(frozen=True)
class _Folder:
    path: str
    """Relative to the root, with a final slash unless it is the root."""
    absolute: str
    patterns: tuple[_Patterns, ...] = ()
    """Of the ignore files above it, the nearest last."""


@dataclass
class _Scan:
    root: Path
    report: Report
    left_out: Callable[[str], None]
    exclude: tuple[_Patterns, ...]
    list_archive: ListArchive | None
    include_nomedia: bool = False
    suffixes: frozenset[str] = field(default_factory=image_suffixes)
    seen: set[tuple[int, int]] = field(default_factory=set)
    """(device, inode) of the folders that were listed."""
    linked: deque[_Folder] = field(default_factory=deque)
    """Links to folders, which are listed after everything else."""

    def run(self, below: PurePosixPath) -> Iterator[Candidate]:
        """The candidates in ``below``, or in the root if it is empty."""
        wanted = str(below) if below.parts else ""
        folder = _Folder("", os.fspath(self.root))
        if self.list_archive is not None and self._is_archive(self.root):
            for candidate in self._members(folder, ""):
                if not wanted or candidate.path == wanted:
                    yield candidate
            return
        for part in below.parts:
            absolute = os.path.join(folder.absolute, part)  # noqa: PTH118
            is_folder = os.path.isdir(absolute)  # noqa: PTH112
            path = folder.path + part
            folder = self._with_ignore_file(folder)
            if _is_skipped(part, path, is_folder) or self._is_excluded(path, is_folder, folder):
                self._fail(path, "it is in a hidden, system or excluded folder, or is one")
                return
            if not is_folder:  # a file, or an archive and the rest of the path is in there
                for candidate in self._list(folder, only=part):
                    if candidate.path == wanted or f"{candidate.path}/".startswith(f"{wanted}/"):
                        yield candidate
                return
            folder = _Folder(path + "/", absolute, folder.patterns)
        if not is_beneath(self.root, folder.absolute):
            self._fail(folder.path.rstrip("/"), LINK_OUT)
            return
        yield from self._walk(folder)
        while self.linked:
            yield from self._walk(self.linked.popleft())

    def _walk(self, start: _Folder) -> Iterator[Candidate]:
        """Everything below ``start``; not recursive, because folders may be thousands deep."""
        stack = [start]
        while stack:
            folder = stack.pop()
            try:
                status = os.stat(folder.absolute)  # noqa: PTH116
            except OSError as error:
                self._fail(folder.path.rstrip("/"), _reason(error, "folder"))
                continue
            # Some disks on Windows have no inodes: folders there are not deduplicated.
            key = status.st_dev, status.st_ino
            if status.st_ino and key in self.seen:
                continue
            self.seen.add(key)
            folders: list[_Folder] = []
            yield from self._list(folder, folders=folders)
            stack.extend(reversed(folders))

    def _list(
        self, folder: _Folder, *, folders: list[_Folder] | None = None, only: str | None = None
    ) -> Iterator[Candidate]:
        """The candidates in a folder or in its entry ``only``; appends folders to ``folders``."""
        try:
            with os.scandir(folder.absolute) as listing:
                entries = sorted(listing, key=attrgetter("name"))
        except OSError as error:
            self._fail(folder.path.rstrip("/"), _reason(error, "folder"))
            return
        if only is None and any(entry.name in (IGNORE_FILE, NO_MEDIA) for entry in entries):
            folder = self._with_ignore_file(folder)
        names: set[str] | None = None
        sidecars = Sidecars(entries)
        has_patterns = bool(folder.patterns or self.exclude)
        for entry in entries:
            name = entry.name
            if name[0] == "." or (only is not None and name != only):
                continue
            path = folder.path + name
            suffix = suffix_of(name)
            is_image = suffix in self.suffixes
            try:
                if not is_image and is_sniffed(suffix) and entry.is_file():
                    if has_patterns and self._is_excluded(path, False, folder):
                        continue
                    is_image = self._has_signature(path)
                    if not is_image and suffix in UNSUPPORTED_SUFFIXES:
                        self.left_out(suffix)
                    if not is_image:
                        continue
                if (is_image or entry.is_dir()) and self._leads_out(entry):
                    if not (has_patterns and self._is_excluded(path, entry.is_dir(), folder)):
                        self._fail(path, LINK_OUT)
                elif is_image and entry.is_file():
                    if has_patterns and self._is_excluded(path, False, folder):
                        continue
                    if suffix in RAW_SUFFIXES:
                        if names is None:
                            names = {other.name.lower() for other in entries}
                        stem = name[: -len(suffix)].lower()
                        if any(stem + companion in names for companion in RAW_COMPANION_SUFFIXES):
                            continue
                    if not _is_utf8(name):
                        self._fail(path, "its name is not text in UTF-8: rename it")
                        continue
                    status = entry.stat()
                    size, stamps = status.st_size, ctime_and_inode(status)
                    beside = sidecars.of(name)
                    yield Candidate(self.root, path, size, mtime_of(status), *beside, *stamps)
                elif entry.is_dir():
                    if (
                        folders is None
                        or _is_skipped(name, path, True)
                        or (has_patterns and self._is_excluded(path, True, folder))
                    ):
                        continue
                    if not _is_utf8(name):
                        self._fail(path, "the folder's name is not text in UTF-8: rename it")
                        continue
                    found = _Folder(path + "/", entry.path, folder.patterns)
                    (self.linked if entry.is_symlink() else folders).append(found)
                elif self.list_archive and suffix == archives.SUFFIX and entry.is_file():
                    if not (has_patterns and self._is_excluded(path, False, folder)):
                        yield from self._members(folder, path)
                elif is_image and not (has_patterns and self._is_excluded(path, False, folder)):
                    self._fail(path, _not_a_file_reason(entry))
            except FileNotFoundError:
                continue  # deleted since the folder was listed
            except OSError as error:
                self._fail(path, _reason(error, "file"))

    def _members(self, folder: _Folder, path: str) -> Iterator[Candidate]:
        """The candidates in an archive at ``path`` in ``folder``; path is empty for the root."""
        assert self.list_archive is not None
        archive = Candidate(self.root, path, 0, None)
        try:
            # Before it is read, so that a change meanwhile shows.
            changed = ctime_and_inode(archive.absolute.stat())
            listing = self.list_archive(archive)
        except (PhotoError, OSError) as error:
            self._fail(path, f"this archive cannot be read: {error}")
            return
        prefix = f"{path}/" if path else ""
        for name, member in listing.members.items():
            suffix = suffix_of(name.rpartition("/")[2])
            is_image = suffix in self.suffixes or SIZE_SUFFIX.fullmatch(suffix) is not None
            if not is_image and suffix in UNSUPPORTED_SUFFIXES:
                self.left_out(suffix)
            if is_image and not self._is_excluded(prefix + name, False, folder):
                inside, mtime_ns = prefix + name, listing.mtime_ns
                yield Candidate(self.root, inside, member.size, mtime_ns, *NO_SIDECARS, *changed)
        if listing.problem is not None:
            self._fail(path, listing.problem)

    def _has_signature(self, path: str) -> bool:
        """Whether a file begins like an image of a format that is read."""
        try:
            file, member = open_beneath(self.root, path)
            with file:
                return member is None and SIGNATURE.match(file.read(16)) is not None
        except (OSError, PhotoError):
            return False

    def _leads_out(self, entry: os.DirEntry[str]) -> bool:
        """Whether it is a link to a file or folder outside the root."""
        if not entry.is_symlink() or is_beneath(self.root, entry.path):
            return False
        return os.path.exists(entry)  # noqa: PTH110

    @staticmethod
    def _is_archive(path: Path) -> bool:
        return path.suffix.lower() == archives.SUFFIX and path.is_file()

    def _is_excluded(self, path: str, is_folder: bool, folder: _Folder) -> bool:
        """By ``exclude``, else by the nearest ignore file that has a matching pattern."""
        path = path + "/" if is_folder else path
        for patterns in (*self.exclude, *reversed(folder.patterns)):
            excluded = patterns.decision(path)
            if excluded is not None:
                return excluded
        return False

    def _with_ignore_file(self, folder: _Folder) -> _Folder:
        """``folder`` with the patterns of its own ignore files added, if there are any."""
        nomedia = os.path.join(folder.absolute, NO_MEDIA)  # noqa: PTH118
        if not self.include_nomedia and os.path.exists(nomedia):  # noqa: PTH110
            self.left_out(NO_MEDIA)
            folder = replace(folder, patterns=folder.patterns + _patterns(["*"], folder.path))
        try:
            file, _ = open_beneath(self.root, folder.path + IGNORE_FILE)
            with file:
                data = file.read(MAX_IGNORE_BYTES + 1)
            if len(data) > MAX_IGNORE_BYTES:
                raise PhotoError(f"the file is larger than {MAX_IGNORE_BYTES:,} bytes")
            found = _patterns(data.decode("utf-8-sig").splitlines(), folder.path)
        except FileNotFoundError:
            return folder
        except (OSError, ValueError, PhotoError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self._fail(folder.path + IGNORE_FILE, f"these patterns cannot be read: {reason}")
            return folder
        return replace(folder, patterns=folder.patterns + found)

    def _fail(self, path: str, reason: str) -> None:
        """Reports a failure with the size and mtime of ``path``; bytes that are not UTF-8 are
        escaped."""
        try:
            status = os.stat(os.path.join(self.root, path))  # noqa: PTH116, PTH118
            size, mtime_ns = status.st_size, mtime_of(status)
        except (OSError, ValueError):
            size, mtime_ns = 0, None
        self.report(Failure(_escaped(str(self.root)), _escaped(path), size, mtime_ns, reason))


def _is_skipped(name: str, path: str, is_folder: bool) -> bool:
    """Whether it is hidden, or a folder of a system or program."""
    if name[0] == ".":
        return True
    return is_folder and (name.lower() in SYSTEM_FOLDERS or path.lower().endswith(SYSTEM_SUFFIXES))


def _is_utf8(name: str) -> bool:
    return name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name)


def _escaped(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _reason(error: OSError, kind: str) -> str:
    if isinstance(error, PermissionError):
        return f"no permission to read this {kind}"
    if isinstance(error, FileNotFoundError):
        return f"this {kind} no longer exists"
    return f"this {kind} cannot be read: {error.strerror or error}"


def _not_a_file_reason(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return "it is a broken link"
    mode = entry.stat().st_mode
    kind = "a pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
    return f"it is {kind}, not a file"
