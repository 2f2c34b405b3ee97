"""The plan of an output: folders, archives and object storage, divided into shards.

A source is a folder (walked by the rules of ``files.walk``), an image, a WebDataset archive
(``.tar``), or the address of any of these that fsspec or pyarrow can open
(``s3://bucket/photos``). Which image is in which shard is written once (``plan-*.parquet``): a run
that was interrupted resumes with the same shards, and new or changed images get new ones.
"""

from __future__ import annotations

import calendar
import os
import tarfile
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Self

from sightline.indexer.errors import PhotoError, UsageError
from sightline.indexer.files import archives, walk
from sightline.indexer.files.beneath import mtime_of
from sightline.indexer.files.sidecars import Sidecars
from sightline.indexer.photo.decoder import File
from sightline.indexer.shards.place import Place
from sightline.indexer.shards.shard_files import pyarrow
from sightline.indexer.types import Candidate, Failure

ARCHIVE = archives.SUFFIX

PARALLEL_FETCHES = 16
"""Images fetched from a store at the same time: a request takes about 50 ms, decoding 10 to 60."""

UNREADABLE_END = "the archive cannot be read to its end: "

MAX_HEADER_BYTES = 2**20
"""Of a header of an archive in a store, such as a long name; they are read into memory."""


class Item(NamedTuple):
    """A file that may be an image, or an archive of images."""

    path: str
    """Relative to its source, with forward slashes."""
    size: int
    mtime_ns: int
    failure: str | None = None
    """Why it cannot be opened at all."""

    @property
    def is_archive(self) -> bool:
        """Whether it is a WebDataset archive."""
        return self.path.endswith(ARCHIVE)


@dataclass(frozen=True)
class Shard:
    """Images of one source that one task embeds: files, or one archive."""

    number: int
    source: str
    items: tuple[Item, ...]


class ShardImage(NamedTuple):
    """An image of a shard before it is read."""

    row: int
    path: str
    size: int
    mtime_ns: int
    caption: str | None = None
    """From the file beside it in its archive."""
    url: str | None = None


# finding ------------------------------------------------------------------------------------------


def find_items(
    source: str,
    *,
    exclude: Sequence[str] = (),
    include_nomedia: bool = False,
    on_left_out: Callable[[str], None] | None = None,
) -> Iterator[tuple[str, Item]]:
    """Everything in ``source`` that may be an image or an archive: ``(its folder, item)``.

    ``include_nomedia`` and ``on_left_out`` are those of ``walk.scan``, for folders on this machine.

    Raises UsageError if there is nothing, or a file that is neither by its name.
    """
    place = Place.at(source)
    if place.local:
        yield from _find_local(Path(place.path), exclude, include_nomedia, on_left_out)
    else:
        yield from _find_in_store(place, exclude)


def _find_local(
    path: Path,
    exclude: Sequence[str],
    include_nomedia: bool,
    on_left_out: Callable[[str], None] | None,
) -> Iterator[tuple[str, Item]]:
    if path.is_file():
        status = path.stat()
        yield str(path.parent), _checked(Item(path.name, status.st_size, mtime_of(status)))
        return
    if not path.is_dir():
        raise UsageError(f"there is no folder and no file {path}")
    failures: list[Failure] = []
    for found in walk.scan(
        path,
        exclude=exclude,
        on_error=failures.append,
        include_nomedia=include_nomedia,
        on_left_out=on_left_out,
    ):
        yield str(path), Item(found.path, found.size, found.mtime_ns or 0)
    for failure in failures:
        yield str(path), Item(failure.path, failure.size, failure.mtime_ns or 0, failure.reason)
    for archive in sorted(path.rglob(f"*{ARCHIVE}")):
        relative = archive.relative_to(path)
        if archive.is_file() and not any(part.startswith(".") for part in relative.parts):
            status = archive.stat()
            yield str(path), Item(relative.as_posix(), status.st_size, mtime_of(status))


def _find_in_store(place: Place, exclude: Sequence[str]) -> Iterator[tuple[str, Item]]:
    from pathspec import GitIgnoreSpec

    spec = GitIgnoreSpec.from_lines(exclude)
    with place.store_errors():
        if place.fs.isfile(place.path):
            folder = place.url.rpartition("/")[0]
            yield folder, _checked(_item(place.url[len(folder) + 1 :], place.fs.info(place.path)))
            return
        found = _list_store(place)
    if not found:
        raise UsageError(f"there is nothing at {place.url}")
    for path, info in sorted(found.items()):
        relative = path[len(place.path) :].lstrip("/")
        parts = PurePosixPath(relative).parts
        if any(part.startswith(".") or part.lower() in walk.SYSTEM_FOLDERS for part in parts):
            continue
        if (is_image(relative) or relative.endswith(ARCHIVE)) and not spec.match_file(relative):
            yield place.url, _item(relative, info)


def _list_store(place: Place) -> dict[str, dict[str, Any]]:
    """Every file below an address: by the driver's own recursive listing if it has one, otherwise
    folder by folder (fsspec's walk silently leaves out what it cannot list)."""
    from fsspec.asyn import AsyncFileSystem
    from fsspec.spec import AbstractFileSystem

    fs, kind = place.fs, type(place.fs)
    if issubclass(kind, AsyncFileSystem):
        own_listing = kind._find is not AsyncFileSystem._find
    else:
        own_listing = kind.find is not AbstractFileSystem.find
    found: dict[str, dict[str, Any]] = {}
    try:
        if own_listing:
            return dict(fs.find(place.path, detail=True))
        folders = [place.path]
        while folders:
            folder = folders.pop()
            for info in fs.ls(folder, detail=True):
                name = info["name"].rstrip("/")
                if info["type"] != "directory":
                    found[name] = info
                elif name != folder:
                    folders.append(name)
    except FileNotFoundError:
        if found:
            raise
    return found


def _checked(item: Item) -> Item:
    if not (item.is_archive or is_image(item.path)):
        raise UsageError(f"{item.path} is neither an image nor a {ARCHIVE} archive")
    return item


def is_image(name: str) -> bool:
    """Whether a file name has the extension of an image."""
    return walk.suffix_of(PurePosixPath(name).name) in walk.image_suffixes()


def _item(path: str, info: dict[str, Any]) -> Item:
    moment = next((info[key] for key in ("mtime", "LastModified", "updated") if info.get(key)), 0)
    if isinstance(moment, datetime):
        moment = calendar.timegm(moment.utctimetuple())
    elif not isinstance(moment, (int, float)):
        moment = 0
    return Item(path, int(info.get("size") or 0), int(moment * 1_000_000_000))


# planning -----------------------------------------------------------------------------------------


def plan(
    place: Place, found: Iterable[tuple[str, Item]], *, size: int
) -> tuple[list[Shard], list[Shard]]:
    """Brings the plan at ``place`` up to date: ``(all shards, new shards)``.

    Files that are in the plan already, by name, size and date, keep their shard. Each archive is
    one shard; files are put together, at most ``size`` to a shard.
    """
    before = read_plan(place)
    known = {(shard.source, item[:3]) for shard in before for item in shard.items}
    last = max((shard.number for shard in before), default=0)
    new: list[Shard] = []
    batch: list[Item] = []

    def close(source: str) -> None:
        if batch:
            new.append(Shard(last + len(new) + 1, source, tuple(batch)))
            batch.clear()

    for source, items in groupby(found, key=lambda one: one[0]):
        for _, item in items:
            if (source, item[:3]) in known:
                continue
            known.add((source, item[:3]))
            if item.is_archive and item.failure is None:
                close(source)
                batch.append(item)
                close(source)
            else:
                batch.append(item)
                if len(batch) >= size:
                    close(source)
        close(source)
    if new:
        _write_plan(place, new)
    return before + new, new


def read_plan(place: Place) -> list[Shard]:
    """The shards that were planned so far."""
    pa = pyarrow()
    shards: dict[int, Shard] = {}
    for name in sorted(place.names()):
        if not (name.startswith("plan-") and name.endswith(".parquet")):
            continue
        with place.fs.open(place.join(name), "rb") as file:
            rows = pa.parquet.read_table(file).to_pylist()
        for number, group in groupby(rows, key=lambda row: row["shard"]):
            items = list(group)
            shards[number] = Shard(
                number,
                items[0]["source"],
                tuple(Item(i["path"], i["size"], i["mtime_ns"], i["failure"]) for i in items),
            )
    return [shards[number] for number in sorted(shards)]


def _write_plan(place: Place, shards: Sequence[Shard]) -> None:
    pa = pyarrow()
    rows = [(shard.number, shard.source, item) for shard in shards for item in shard.items]
    table = pa.table(
        {
            "shard": pa.array([number for number, _, _ in rows], pa.int64()),
            "source": pa.array([source for _, source, _ in rows]).dictionary_encode(),
            "path": pa.array([item.path for _, _, item in rows], pa.string()),
            "size": pa.array([item.size for _, _, item in rows], pa.int64()),
            "mtime_ns": pa.array([item.mtime_ns for _, _, item in rows], pa.int64()),
            "failure": pa.array([item.failure for _, _, item in rows], pa.string()),
        }
    )
    number = sum(name.startswith("plan-") for name in place.names()) + 1
    with place.store_errors(), place.writing(f"plan-{number:05}.parquet") as file:
        pa.parquet.write_table(table, file)


# reading ------------------------------------------------------------------------------------------

Source = File | bytes | PhotoError
"""An image's file or its bytes, or why neither can be had."""


def images(
    shard: Shard, *, list_archive: walk.ListArchive, but: Container[int] = ()
) -> Iterator[tuple[ShardImage, Source]]:
    """The images of a shard, without the rows ``but``: files on this machine with the names of
    their sidecars, all others as bytes. ``list_archive`` lists an archive on this machine, in a
    worker process."""
    place = Place.at(shard.source)
    if len(shard.items) == 1 and shard.items[0].is_archive:
        if place.local:
            yield from _in_archive(place, shard.items[0], but, list_archive)
        else:
            yield from _in_archive_of_store(place, shard.items[0], but)
        return
    wanted = (
        (ShardImage(row, *item[:3]), item) for row, item in enumerate(shard.items) if row not in but
    )
    if place.local:
        root, sidecars_in = Path(place.path), lru_cache(maxsize=64)(_sidecars_in)
        for image, item in wanted:
            folder, _, name = item.path.rpartition("/")
            beside = sidecars_in(root / folder).of(name)
            failure = PhotoError(item.failure, transient=True) if item.failure else None
            yield image, failure or Candidate(root, *item[:3], *beside)
    else:
        yield from _prefetched(wanted, lambda item: _fetch(place, item))


def _sidecars_in(folder: Path) -> Sidecars:
    try:
        with os.scandir(folder) as entries:
            return Sidecars(list(entries))
    except OSError:  # reading the image says why
        return Sidecars(())


def _fetch(place: Place, item: Item) -> bytes | PhotoError:
    if PurePosixPath(item.path).suffix.lower() in walk.RAW_SUFFIXES:
        return PhotoError("camera RAW is read from folders only, not from a store: copy it here")
    if item.size > archives.MAX_MEMBER_BYTES:
        return PhotoError(f"it is too large: {item.size:,} bytes")
    try:
        data: bytes = place.fs.cat_file(place.join(item.path))
    except FileNotFoundError:
        return PhotoError("the file no longer exists", transient=True)
    except OSError as error:
        return PhotoError(f"the store could not return it: {error}", transient=True)
    return data


def _prefetched(
    wanted: Iterable[tuple[ShardImage, Item]], fetch: Callable[[Item], bytes | PhotoError]
) -> Iterator[tuple[ShardImage, Source]]:
    """Fetches ``PARALLEL_FETCHES`` images at the same time, and yields them in order."""
    with ThreadPoolExecutor(PARALLEL_FETCHES, thread_name_prefix="fetch") as pool:
        waiting: deque[tuple[ShardImage, Future[bytes | PhotoError]]] = deque()
        for image, item in wanted:
            waiting.append((image, pool.submit(fetch, item)))
            if len(waiting) >= PARALLEL_FETCHES:
                image, future = waiting.popleft()
                yield image, future.result()
        for image, future in waiting:
            yield image, future.result()


def _in_archive(
    place: Place, archive: Item, but: Container[int], list_archive: walk.ListArchive
) -> Iterator[tuple[ShardImage, Source]]:
    """The images of a WebDataset archive on this machine.

    A truncated archive yields what it holds, and then a separate failure.
    """
    root, row = Path(place.path), 0
    try:
        listing = list_archive(Candidate(root, *archive[:3]))
        problem = listing.problem and UNREADABLE_END + listing.problem.removeprefix(UNREADABLE_END)
    except PhotoError as error:
        listing, problem = archives.Listing(), f"the archive cannot be read: {error}"
    for name, member in listing.members.items():
        if is_image(name):
            # An image in an archive has the archive's date, as in ``files.archives``.
            image = ShardImage(row, f"{archive.path}/{name}", member.size, archive.mtime_ns)
            row += 1
            if image.row not in but:
                yield image, Candidate(root, *image[1:4])
    if problem is not None:
        yield ShardImage(row, *archive[:3]), PhotoError(problem, transient=True)


class _BoundedMember(tarfile.TarInfo):
    """Refuses headers with which ``tarfile`` would loop, or allocate, without end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """The member whose header is ``buf``. Raises ``tarfile.ReadError``."""
        member = super().frombuf(buf, encoding, errors)
        if member.size < 0 or (not member.isfile() and member.size > MAX_HEADER_BYTES):
            raise tarfile.ReadError("a header is corrupt")
        return member


def _in_archive_of_store(
    place: Place, archive: Item, but: Container[int]
) -> Iterator[tuple[ShardImage, Source]]:
    """The images of a WebDataset archive in a store, which is streamed: the files of a sample are
    adjacent and share their name up to the first dot; a ``.txt``, or ``caption`` in a ``.json``, is
    the image's caption.

    A truncated archive yields what it holds, and then a separate failure.
    """
    sample: list[tuple[ShardImage, Source]] = []
    sidecars: dict[str, str] = {}
    key: str | None = None
    row = 0

    def whole_sample() -> Iterator[tuple[ShardImage, Source]]:
        for image, data in sample:
            yield image._replace(caption=sidecars.get("caption"), url=sidecars.get("url")), data

    try:
        with (
            place.fs.open(place.join(archive.path), "rb") as file,
            tarfile.open(fileobj=file, mode="r|", tarinfo=_BoundedMember) as tar,
        ):
            for number, member in enumerate(tar):
                if member.size < 0 or number >= archives.MAX_MEMBERS:
                    raise tarfile.ReadError("the archive is corrupt")
                name = member.name.removeprefix("./")
                folder, _, base = name.rpartition("/")
                if not member.isreg() or member.issparse() or base.startswith("."):
                    continue
                this = f"{folder}/{base.partition('.')[0]}"
                if this != key:
                    yield from whole_sample()
                    sample, sidecars, key = [], {}, this
                if is_image(base):
                    image = ShardImage(row, f"{archive.path}/{name}", member.size, 0)
                    row += 1
                    if image.row not in but:
                        sample.append((image, _member(tar, member)))
                elif (
                    base.lower().endswith(archives.SIDECAR_SUFFIXES)
                    and member.size <= archives.MAX_SIDECAR_BYTES
                ):
                    found = archives.parse_sidecar(base.lower(), _member_bytes(tar, member))
                    # The JSON takes precedence over the text, whichever comes first.
                    if base.lower().endswith(".json"):
                        sidecars |= found
                    else:
                        sidecars = found | sidecars
    except (OSError, tarfile.TarError, EOFError, ValueError, RecursionError) as error:
        yield from whole_sample()
        failure = PhotoError(f"{UNREADABLE_END}{error}", transient=True)
        yield ShardImage(row, *archive[:3]), failure
        return
    yield from whole_sample()


def _member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | PhotoError:
    if PurePosixPath(member.name).suffix.lower() in walk.RAW_SUFFIXES:
        return PhotoError("camera RAW is read from folders only, not from an archive")
    if member.size > archives.MAX_MEMBER_BYTES:
        return PhotoError(f"it is too large: {member.size:,} bytes")
    return _member_bytes(tar, member)


def _member_bytes(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None  # it is a regular file
    return file.read()
