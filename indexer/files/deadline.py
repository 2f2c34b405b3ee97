"""Reads users' files within a deadline, in threads that are given up.

A read of a network drive that has stopped responding cannot be cancelled, not even by a signal. The
thread that waits for it is left behind, and does not keep the process from ending.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from sightline.indexer.errors import FilesAwayError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

T = TypeVar("T")

SECONDS = 10.0
"""For opening a file, and for each ``CHUNK`` of it; a sleeping disk starts in 5 to 8."""

CHUNK = 2**18
"""Bytes read at a time."""

MAX_THREADS = 64
"""Reads in progress, with those that were given up."""

_free = threading.BoundedSemaphore(MAX_THREADS)


def start(work: Callable[[], None], *, wait: float = 0.0) -> bool:
    """Runs ``work`` in a thread; returns False if ``MAX_THREADS`` are busy for ``wait`` seconds."""
    if not (_free.acquire(timeout=wait) if wait else _free.acquire(blocking=False)):
        return False

    def run() -> None:
        try:
            work()
        finally:
            _free.release()

    try:
        threading.Thread(target=run, name="read", daemon=True).start()
    except RuntimeError:  # the system has no room for another thread
        _free.release()
        return False
    return True


def call(
    function: Callable[..., T], *arguments: Any, discard: Callable[[T | None], object] | None = None
) -> T:
    """``function(*arguments)``, within ``SECONDS``. Raises ``FilesAwayError`` after that, and what
    ``function`` raises. ``discard`` is called with a result that comes later, or None."""
    outcome: Future[T] = Future()

    def work() -> None:
        result: T | None = None
        try:
            try:
                result = function(*arguments)
            except BaseException as error:  # raised again by the caller
                outcome.set_exception(error)
            else:
                outcome.set_result(result)
        except InvalidStateError:
            if discard is not None:
                discard(result)

    if not start(work, wait=SECONDS):
        raise FilesAwayError
    try:
        return outcome.result(SECONDS)
    except FutureTimeoutError:
        # The function itself may raise TimeoutError.
        if outcome.cancel():
            raise FilesAwayError from None
        return outcome.result()


class TimedFile(io.RawIOBase):
    """``size`` bytes of ``file`` from ``offset`` on, as a file whose reads have a deadline. Closes
    ``file`` with itself."""

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        self._file, self._offset, self._size = file, offset, size
        self._position = 0
        self._given_up = False

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position, from 0."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Sets the position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Reads into ``buffer``; returns the number of bytes. Raises ``FilesAwayError``."""
        view = memoryview(buffer).cast("B")
        try:
            data = call(
                self.read_at, self._position, len(view), discard=lambda _: self._file.close()
            )
        except FilesAwayError:
            self._given_up = True
            raise
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def read_at(self, position: int, count: int) -> bytes:
        """Up to ``count`` bytes from ``position`` on, without a deadline."""
        self._file.seek(self._offset + position)
        return self._file.read(max(0, min(count, self._size - position)))

    def close(self) -> None:
        """Closes the file; after a read was given up, the thread that still reads does."""
        if not self._given_up:
            self._file.close()
        super().close()
