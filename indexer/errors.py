"""Every error that Sightline raises on purpose.

Each carries one line that says what happened, to which thing, and what to do about it. They are
caught at the edges: the command line turns them into that line and an exit status, the server into
a JSON reason and a status code, an indexing run into a row of ``failures``.

    SightlineError
    ├── UsageError            the request itself is wrong (exit status 2, HTTP 400)
    │   └── QueryError        a search that cannot be understood
    ├── NotFoundError         no picture with that id, no such file (HTTP 404)
    ├── ModelError            a model cannot be found, loaded or used
    │   └── ModelMismatchError   a library was made with another model
    ├── PhotoError            one image cannot be read; becomes a row in ``failures``
    └── LibraryError          a library cannot be opened, read or written
        ├── CorruptError      a file of it is corrupt or truncated: `sightline doctor`
        ├── LibraryBusyError  another run is writing to it (HTTP 503)
        └── LibraryAwayError  the store that holds it cannot be reached (HTTP 503)
"""

from __future__ import annotations

import errno
from pathlib import Path

FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
"""What the system says of a full disk, a limit on a file's size, a quota that is used up."""


class SightlineError(Exception):
    """Base of all errors with a message that a person can act on."""


class UsageError(SightlineError):
    """The request itself is wrong: a bad argument, an impossible combination."""


class QueryError(UsageError):
    """A search that cannot be understood, with the part that is at fault in the message."""


class NotFoundError(SightlineError):
    """The thing asked for is not there."""


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


class LibraryError(SightlineError):
    """A library cannot be opened, read or written."""

    @classmethod
    def unwritable(cls, path: Path, error: OSError) -> LibraryError:
        """The error for what the system said when ``path`` was to be written."""
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


class LibraryAwayError(LibraryError):
    """The store that holds this library cannot be reached, or does not answer."""
