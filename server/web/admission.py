"""Not more than the server can do: an honest 503 instead of a queue without end.

Waitress reads requests without holding a thread and queues them; the queue is bounded here. A
request whose turn comes while more than ``limit`` others wait behind it is answered at once, so
that a burst drains as fast as refusals can be written, and who is refused knows when to come back.

Most requests compute, and computing more of them at once than there are cores makes none of them
sooner. So one a core is at work, a few wait for their turn, and more are refused: what is accepted
is answered within some times of what it takes alone. What costs next to nothing (thumbnails, the
page's own files) waits for nobody. A search for many hits at once takes as long as several others,
and gets half of the turns at most, so that those pass it by. Whoever needs the model, which takes
as long as well, lets others have the turn meanwhile (``turns.aside``). Whoever has gone before the
turn came is not answered at all.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from werkzeug.exceptions import ServiceUnavailable

from sightline.server.web.turns import Lane, holding

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

RETRY_AFTER = 2
"""Seconds: a full queue of searches drains in less."""

LIGHT = re.compile(r"/(thumbnails/|static/|healthz$|favicon\.ico$|metrics$|api/images/\d+$)")
"""Paths that are read and sent and not computed."""

SPARE = 2
"""Threads that are left for those."""

LARGE = 200
"""Hits from which a search is large. A thousand take ten times as long to write down as the search
itself does, and all of that in Python, which one thread does at a time."""

_HITS = re.compile(r"(?:^|&)k=0*(\d{1,9})(?:&|$)", re.ASCII)


class Admission:
    """WSGI middleware that refuses requests while too many wait.

    ``waiting`` says how many do; the server sets it, and until then nobody is refused for that.
    ``threads`` is how many requests the server works on at once.
    """

    def __init__(
        self, app: WSGIApplication, *, limit: int, threads: int = 40, cores: int | None = None
    ) -> None:
        self._app = app
        self._limit = limit
        self.waiting: Callable[[], int] = lambda: 0
        at_work = max(1, min(cores or os.cpu_count() or 1, threads - SPARE))
        patient = max(1, min(threads // 2, threads - at_work - SPARE))
        self._all = Lane(at_work, patient)
        self._large = Lane(max(1, at_work // 2), max(1, patient // 4))
        self._aside = threading.Semaphore(max(0, threads - at_work - patient - SPARE))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """The application's answer, or 503."""
        if _has_gone(environ):
            return _nothing(start_response)
        if self.waiting() > self._limit:
            return _refusal(start_response)
        if LIGHT.match(environ.get("PATH_INFO", "")):
            return self._app(environ, start_response)
        # A large one waits among its own kind first, and then as all do.
        lanes = [self._large, self._all] if _is_large(environ) else [self._all]
        with ExitStack() as taken:
            for lane in lanes:
                if not lane.enter():
                    return _refusal(start_response)
                taken.callback(lane.leave)
                if _has_gone(environ):
                    return _nothing(start_response)
            with holding(lanes, self._aside):
                return self._app(environ, start_response)


def _is_large(environ: WSGIEnvironment) -> bool:
    """Whether this takes as long as several searches, by how many hits are to be told of."""
    found = _HITS.search(environ.get("QUERY_STRING", ""))
    return found is not None and int(found[1]) > LARGE


def _has_gone(environ: WSGIEnvironment) -> bool:
    """Whether nobody waits for the answer any more, where the server can tell."""
    has_gone = environ.get("waitress.client_disconnected")
    return has_gone is not None and bool(has_gone())


def _nothing(start_response: StartResponse) -> Iterable[bytes]:
    """For someone who has gone."""
    start_response("503 Service Unavailable", [("Content-Length", "0")])
    return []


def _refusal(start_response: StartResponse) -> Iterable[bytes]:
    """The answer to one too many."""
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
