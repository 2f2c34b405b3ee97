"""Not more than the server can do: an honest 503 instead of a queue without end.

Waitress reads requests without holding a thread and queues them; the queue is bounded here. A
request whose turn comes while more than ``limit`` others wait behind it is answered at once, so
that a burst drains as fast as refusals can be written, and who is refused knows when to come back.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from werkzeug.exceptions import ServiceUnavailable

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

RETRY_AFTER = 2
"""Seconds: a full queue of searches drains in less."""


class Admission:
    """WSGI middleware that refuses requests while too many wait.

    ``waiting`` says how many do; the server sets it, and until then nobody is refused.
    """

    def __init__(self, app: WSGIApplication, *, limit: int) -> None:
        self._app = app
        self._limit = limit
        self.waiting: Callable[[], int] = lambda: 0

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """The application's answer, or 503."""
        if self.waiting() <= self._limit:
            return self._app(environ, start_response)
        body = json.dumps({"error": "too many requests at once; try again in a moment"}).encode()
        start_response(
            "503 Service Unavailable",
            [
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(body))),
                ("Retry-After", str(RETRY_AFTER)),
                ("Cache-Control", "no-store"),
            ],
        )
        return [body]


class Slots:
    """A number of things that may go on at the same time."""

    def __init__(self, count: int) -> None:
        self._free = threading.BoundedSemaphore(count)

    def take(self) -> Callable[[], None]:
        """Takes a slot; the function returned gives it back (once). Raises
        ``ServiceUnavailable`` when all are taken."""
        if not self._free.acquire(blocking=False):
            raise ServiceUnavailable(
                "too many downloads at once; try again in a moment", retry_after=10
            )
        once = threading.Lock()

        def give_back() -> None:
            if once.acquire(blocking=False):
                self._free.release()

        return give_back

    @contextmanager
    def held(self) -> Iterator[None]:
        """A slot for the time of a ``with`` block; waits for one."""
        with self._free:
            yield
