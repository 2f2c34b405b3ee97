"""CurrentEngine: the engine of a library that a long-lived process serves.

``sightline reencode`` gives a library another model. The engine that was opened before goes on with
the old one, whose vectors it has in memory, until this has opened the library again beside it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from sightline.indexer.errors import SightlineError
from sightline.server.search.engine import SearchEngine

RETRY_SECONDS = 60.0
"""Seconds until a library that could not be opened again is tried once more."""

log = logging.getLogger("sightline")


class CurrentEngine:
    """An engine that is replaced when its library has another model. Thread-safe.

    A request that began with an engine ends with it: an engine that was replaced is closed, with
    its library, when the last ``lease`` of it ends.
    """

    def __init__(
        self, engine: SearchEngine, reopen: Callable[[], SearchEngine] | None = None
    ) -> None:
        """``reopen`` opens the library again, with its encoder; without it the engine stays."""
        self._engine = engine
        self._reopen = reopen
        self._leases: dict[SearchEngine, int] = {}
        self._lock = threading.Lock()
        self._opening: threading.Thread | None = None
        self._retry_at = 0.0
        self._closed = False

    @classmethod
    def of(cls, engine: SearchEngine | CurrentEngine) -> CurrentEngine:
        """``engine`` itself, or one that stays ``engine``."""
        return engine if isinstance(engine, CurrentEngine) else cls(engine)

    @property
    def latest(self) -> SearchEngine:
        """The engine of this moment, for a thread that holds a lease."""
        return self._engine

    def acquire(self) -> SearchEngine:
        """The engine for one request; ``release`` it."""
        with self._lock:
            engine = self._engine
            self._leases[engine] = self._leases.get(engine, 0) + 1
        try:
            self._follow(engine)
        except BaseException:
            self.release(engine)
            raise
        return engine

    def release(self, engine: SearchEngine) -> None:
        """Ends the use of ``engine``."""
        with self._lock:
            self._leases[engine] -= 1
            if self._leases[engine]:
                return
            del self._leases[engine]
            if engine is self._engine:
                return
        _close(engine)

    @contextmanager
    def lease(self) -> Iterator[SearchEngine]:
        """The engine during the block."""
        engine = self.acquire()
        try:
            yield engine
        finally:
            self.release(engine)

    def close(self) -> None:
        """Closes the engine and its library."""
        with self._lock:
            self._closed = True
            opening = self._opening
        if opening is not None:
            opening.join()
        _close(self._engine)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _follow(self, engine: SearchEngine) -> None:
        """Starts to open the library again if it has another model. Takes some microseconds."""
        if self._reopen is None or not engine.library.model_changed:
            return
        with self._lock:
            waits = self._opening is not None or time.monotonic() < self._retry_at
            if self._closed or waits or engine is not self._engine:
                return
            # Not a daemon: torch aborts the process when Python exits under one of its threads.
            self._opening = threading.Thread(target=self._replace, name="reopen")
            self._opening.start()

    def _replace(self) -> None:
        assert self._reopen is not None
        try:
            new: SearchEngine | None = self._reopen()
        except SightlineError as error:
            new = None
            log.warning("the library has another model, which cannot be opened: %s", error)
        with self._lock:
            self._opening = None
            if new is None:
                self._retry_at = time.monotonic() + RETRY_SECONDS
                return
            old, self._engine = self._engine, new
            if old in self._leases:
                return
        _close(old)


def _close(engine: SearchEngine) -> None:
    engine.close()
    engine.library.close()
