"""Admission control: each kind of work has a limit, and requests above it get 503 at once.

Most requests compute, and running more of them than there are cores only slows all of them down.
So one search per core runs, a bounded number waits, and the others are told when to retry. Searches
for many hits, which take as long as several others, and requests with a body, most of which decode
and encode an image, have limits of their own, so that other searches do not wait for them.
Thumbnails, originals and static files cost almost nothing and have no limit.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from werkzeug.exceptions import ServiceUnavailable
from werkzeug.wrappers import Request

from sightline.server.web.strings import language_of, languages

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

RETRY_AFTER = 2
"""Seconds in the ``Retry-After`` header; a full queue of searches drains in less."""

BUSY = "too many requests at once; try again in a moment"

UNLIMITED = re.compile(
    r"/(thumbnails/|static/|healthz$|livez$|favicon\.ico$|metrics$|(api/)?images/\d+$)"
)
"""Paths of requests that read and send, and do not search. Decoding a preview has its own limit."""

SPARE_THREADS = 2
"""Threads left for those."""

LARGE = 200
"""A search for more hits than this is large."""

_HITS = re.compile(r"(?:^|&)k=0*(\d{1,9})(?:&|$)", re.ASCII)


class Limit:
    """A context manager that at most ``running`` threads are inside of, while at most ``waiting``
    others wait to enter. Raises ``ServiceUnavailable`` when that many wait already."""

    def __init__(self, running: int, *, waiting: int = 0) -> None:
        self._admitted = threading.BoundedSemaphore(running + waiting)
        self._running = threading.BoundedSemaphore(running)

    def acquire(self) -> None:
        """Enters; any thread may call ``release``."""
        if not self._admitted.acquire(blocking=False):
            raise ServiceUnavailable(BUSY, retry_after=RETRY_AFTER)
        self._running.acquire()

    def release(self) -> None:
        """Leaves."""
        self._running.release()
        self._admitted.release()

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Enters, even if many wait, within ``seconds``. Raises ``ServiceUnavailable`` after
        that."""
        if not self._running.acquire(timeout=seconds):
            raise ServiceUnavailable(BUSY, retry_after=RETRY_AFTER)
        try:
            yield
        finally:
            self._running.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


class Admission:
    """WSGI middleware that limits how many requests compute and wait.

    ``threads`` is the number of the server's threads, ``max_waiting`` how many requests may wait
    for one. The server sets ``waiting``, which returns how many do.
    """

    def __init__(
        self, app: WSGIApplication, *, max_waiting: int, threads: int = 40, cores: int | None = None
    ) -> None:
        self._app = app
        self._max_waiting = max_waiting
        self.waiting: Callable[[], int] = lambda: 0
        running = max(1, min(cores or os.cpu_count() or 1, threads - SPARE_THREADS))
        # With 40 threads and two cores 20 search, 6 search for many hits and 12 have a body.
        waiting = max(1, min(threads // 2 - threads // 20, threads - running - SPARE_THREADS))
        self._searches = Limit(running, waiting=waiting)
        self._large = Limit(max(1, running // 2), waiting=max(1, threads // 8))
        self._bodies = Limit(max(2, running // 2), waiting=max(1, threads // 4))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """The application's response, or 503."""
        if self.waiting() > self._max_waiting:
            return _refuse(environ, start_response)
        if UNLIMITED.match(environ.get("PATH_INFO", "")):
            return self._app(environ, start_response)
        try:
            with self._limit(environ):
                if _is_disconnected(environ):
                    return _refuse(environ, start_response)
                return self._app(environ, start_response)
        except ServiceUnavailable:
            return _refuse(environ, start_response)

    def searching(self, seconds: float) -> AbstractContextManager[None]:
        """Takes the place of one search, waiting for up to ``seconds``."""
        return self._searches.within(seconds)

    def _limit(self, environ: WSGIEnvironment) -> Limit:
        """The limit that a request is subject to."""
        if environ.get("REQUEST_METHOD") == "POST":
            return self._bodies
        return self._large if _is_large(environ) else self._searches


def _is_large(environ: WSGIEnvironment) -> bool:
    """Whether the request is for more than ``LARGE`` hits."""
    found = _HITS.search(environ.get("QUERY_STRING", ""))
    return found is not None and int(found[1]) > LARGE


def _is_disconnected(environ: WSGIEnvironment) -> bool:
    """Whether the client has closed the connection, as far as the server knows."""
    disconnected = environ.get("waitress.client_disconnected")
    return disconnected is not None and bool(disconnected())


def _refuse(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The 503 response."""
    message = BUSY
    if "HTTP_SIGHTLINE_ERRORS" in environ:
        message = languages()[language_of(Request(environ))].message(BUSY)
    body = json.dumps({"error": message}).encode()
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
