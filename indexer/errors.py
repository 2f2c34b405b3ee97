"""Every error that Sightline raises on purpose.

Each has a message of one line: what happened, to what, and the remedy. The command line prints it
and sets an exit status, the server returns it with a status code, and an indexing run stores it in
``failures``.

    SightlineError
    ├── UsageError            the request itself is wrong (exit status 2, HTTP 400)
    │   └── QueryError        an invalid search query
    ├── NotFoundError         no image with that id, no such file (HTTP 404)
    ├── ModelError            a model cannot be found, loaded or used
    │   └── ModelMismatchError   a library was made with another model
    ├── PhotoError            one image cannot be read; becomes a row in ``failures``
    ├── FilesAwayError        the disk that holds a user's file does not answer (HTTP 503)
    └── LibraryError          a library cannot be opened, read or written
        ├── CorruptError      a file of it is corrupt or truncated: `sightline doctor`
        ├── LibraryBusyError  another run is writing to it (HTTP 503)
        ├── ModelChangedError it has another model since it was opened (HTTP 503)
        └── LibraryAwayError  the store that holds it cannot be reached (HTTP 503)
"""

from __future__ import annotations

import errno
from pathlib import Path

FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
"""Error numbers of a full disk, a file size limit and an exhausted quota."""


class SightlineError(Exception):
    """Base of all errors with an actionable message."""


class UsageError(SightlineError):
    """The request itself is wrong: a bad argument, an impossible combination."""


class QueryError(UsageError):
    """An invalid search query; the message names the invalid part."""


class NotFoundError(SightlineError):
    """The requested thing does not exist."""


class ModelError(SightlineError):
    """A model cannot be found, loaded or used."""


class ModelMismatchError(ModelError):
    """A library was made with another model than the one asked for."""


class PhotoError(SightlineError):
    """One image cannot be read. The message is the reason shown in ``failures``.

    ``transient`` is True if the file itself may be intact (no permission, a disk that is offline, a
    file that is being written): it is read again although it has not changed.
    """

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class FilesAwayError(SightlineError):
    """The disk that holds a user's file does not answer."""

    def __init__(self) -> None:
        super().__init__("the disk with this file does not answer; try again in a moment")


class LibraryError(SightlineError):
    """A library cannot be opened, read or written."""

    @classmethod
    def unwritable(cls, path: Path, error: OSError) -> LibraryError:
        """The error for an OSError while writing ``path``."""
        if error.errno in FULL:
            return cls(
                f"no space left on the disk for {path}: free some and run again; what was written"
                " before is kept"
            )
        return cls(
            f"{path} cannot be written ({error.strerror or error}): is its disk full, unplugged or"
            " read-only?"
        )


class CorruptError(LibraryError):
    """A file of this library, ``path``, is corrupt or truncated. It was left unchanged."""

    def __init__(self, message: str, path: Path | None = None) -> None:
        super().__init__(message)
        self.path = path


class LibraryBusyError(LibraryError):
    """Another process is writing to this library."""


class ModelChangedError(LibraryError):
    """A library has been given another model since it was opened: open it again."""


class LibraryAwayError(LibraryError):
    """The store that holds this library cannot be reached, or does not answer."""
