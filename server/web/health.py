"""Health checks, which need no token: ``/livez`` for the process, ``/healthz`` for searching."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from flask import Blueprint, Response, current_app, jsonify

from sightline.server.search.current_engine import CurrentEngine
from sightline.server.web.openapi import STRING, obj
from sightline.server.web.parameters import Operation, operation

log = logging.getLogger("sightline")

health = Blueprint("health", __name__)

SECONDS = 1.0
"""A search must succeed within this; its outcome is also reported for as long, so that health
checks cost at most one search per second."""


class Health:
    """Searches for one of the library's images. ``searching(seconds)`` takes the place of a
    search, so that requests which hang make the check fail."""

    def __init__(
        self, engines: CurrentEngine, searching: Callable[[float], AbstractContextManager[None]]
    ) -> None:
        self._engines = engines
        self._searching = searching
        self._lock = threading.Lock()
        self._probe: _Probe | None = None

    def is_good(self) -> bool:
        """Whether a search has succeeded within ``SECONDS``; waits for it that long at most."""
        with self._lock:
            probe = self._probe
            if probe is None or (probe.ended.is_set() and probe.age() > SECONDS):
                probe = self._probe = _Probe(self._search)
        return probe.ended.wait(max(0.0, SECONDS - probe.age())) and probe.succeeded

    def _search(self) -> None:
        with self._searching(SECONDS), self._engines.lease() as engine:
            library = engine.library
            library.refresh(wait=False)
            found = library.nearest(library.sample()[:1], 1)[1] if library.count else None
            if found is not None and not library.images(found[0].tolist()):
                raise LookupError("a search for an image of the library found nothing")


class _Probe:
    """One search in a thread, which may hang."""

    def __init__(self, search: Callable[[], None]) -> None:
        self.ended = threading.Event()
        self.succeeded = False
        self._search = search
        self._started = time.monotonic()
        threading.Thread(target=self._run, name="health", daemon=True).start()

    def age(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self._started

    def _run(self) -> None:
        try:
            self._search()
            self.succeeded = True
        except Exception as error:  # whatever it is, searching does not work
            log.error("the health check's search failed: %s", " ".join(str(error).split()))
        finally:
            self.ended.set()


@health.get("/livez")
@operation(Operation("Whether the process answers", answer=obj({"status": STRING}), refuses=False))
def livez() -> Response:
    """For supervisors that restart the server."""
    return jsonify(status="ok")


@health.get("/healthz")
@operation(
    Operation(
        "Whether searches succeed: 503 if one takes more than a second",
        answer=obj({"status": STRING}),
        refuses=False,
    )
)
def healthz() -> tuple[Response, int]:
    """For load balancers and monitoring."""
    checked: Health = current_app.extensions["sightline_health"]
    if checked.is_good():
        return jsonify(status="ok"), 200
    return jsonify(error="searches fail or take longer than a second"), 503
