"""A folder on this machine or in a store (``s3://bucket/shards``), opened by fsspec.

fsspec's own drivers come first; where one is not installed, pyarrow's (S3, Google Cloud Storage,
HDFS). Both are imported on first use; the ``ray`` extra installs them.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self
from urllib.parse import urlsplit

from sightline.indexer.errors import LibraryError, SightlineError, UsageError
from sightline.indexer.installation import install_command

BUCKET_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"}
"""Stores without folders, whose ``makedirs`` would create a bucket: one with a mistyped name."""


@dataclass(frozen=True)
class Place:
    """A folder. Thread-safe."""

    url: str
    """As given; an absolute path for a folder of this machine."""
    fs: Any
    """The fsspec file system."""
    path: str
    """Of the folder in ``fs``."""

    @classmethod
    def at(cls, url: str) -> Self:
        """The folder at a path or an address. Raises UsageError for an unknown kind of address, and
        for one with a password in it."""
        fs, path = _open_file_system(url)
        place = cls(url.rstrip("/"), fs, path.rstrip("/") or "/")
        return cls(path, fs, place.path) if place.local else place

    @property
    def local(self) -> bool:
        """Whether it is a folder of this machine."""
        protocol = self.fs.protocol
        return "file" in (protocol if isinstance(protocol, (tuple, list)) else (protocol,))

    def join(self, name: str) -> str:
        """The path of ``name`` in ``fs``."""
        return f"{self.path.rstrip('/')}/{name}" if name else self.path

    @contextmanager
    def store_errors(self) -> Iterator[None]:
        """Turns whatever a store's driver raises into a LibraryError with the address in it. A
        missing file, and errors of this machine's disk, stay as they are."""
        try:
            yield
        except (SightlineError, FileNotFoundError, NotADirectoryError):
            raise
        except Exception as error:
            if self.local:
                raise
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise LibraryError(f"{self.url} cannot be reached: {reason}") from error

    def names(self) -> set[str]:
        """The names in the folder; empty if there is none. Raises LibraryError if a store does not
        answer."""
        return {_base(path) for path in self._list(detail=False)}

    def sizes(self) -> dict[str, int]:
        """Bytes of each file in the folder; otherwise like ``names``."""
        return {_base(one["name"]): int(one["size"] or 0) for one in self._list(detail=True)}

    def _list(self, *, detail: bool) -> list[Any]:
        try:
            with self.store_errors():
                try:
                    # Some drivers cache listings.
                    found = self.fs.ls(self.path, detail=detail, refresh=True)
                except TypeError:
                    found = self.fs.ls(self.path, detail=detail)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return list(found)

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """A new file, written under a hidden name and renamed when it is complete and on disk."""
        if self.url.partition("://")[0] not in BUCKET_STORES:
            self.fs.makedirs(self.path, exist_ok=True)
        hidden = self.join(f".{name}.{uuid.uuid4().hex}")
        try:
            with self.fs.open(hidden, "wb") as file:
                yield file
                if self.local:
                    file.flush()
                    os.fsync(file.fileno())
            if self.local:
                Path(hidden).replace(self.join(name))
            else:
                self.fs.mv(hidden, self.join(name))
        except BaseException:
            with suppress(Exception):
                self.fs.rm(hidden)
            raise

    def sweep(self, names: Sequence[str]) -> None:
        """Deletes hidden files that killed attempts to write ``names`` left."""
        for name in sorted(self.names()):
            if name.startswith(".") and name[1:].rpartition(".")[0] in names:
                with suppress(FileNotFoundError):
                    self.fs.rm(self.join(name))


def _base(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _open_file_system(url: str) -> tuple[Any, str]:
    """``(fsspec file system, path in it)``."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise UsageError(f"shards need fsspec: {install_command('ray')}") from error
    if "://" in url and ":" in urlsplit(url).netloc.rpartition("@")[0]:
        raise UsageError(
            "an address with a password in it would be written into every shard: put the password"
            " where the store's driver looks for it (environment, its configuration file)"
        )
    try:
        fs, path = url_to_fs(str(Path(url).expanduser()) if "://" not in url else url)
    except ImportError as missing:
        from fsspec.implementations.arrow import ArrowFSWrapper
        from pyarrow import ArrowInvalid
        from pyarrow.fs import FileSystem

        try:
            inner, path = FileSystem.from_uri(url)
        except ArrowInvalid:
            raise UsageError(f"{url} cannot be opened: {missing}") from missing
        return ArrowFSWrapper(inner), path
    except ValueError as error:
        raise UsageError(f"{url} cannot be opened: {error}") from error
    return fs, path
