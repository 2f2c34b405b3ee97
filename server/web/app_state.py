"""What the views of one application share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from flask import Response, after_this_request, current_app, g

from sightline.server.search import SearchEngine
from sightline.server.search.current_engine import CurrentEngine
from sightline.server.search.lru_cache import LruCache
from sightline.server.web.admission import Limit
from sightline.server.web.config import ServerConfig

THUMBNAILS = 32 * 2**20
"""Bytes of cached resized thumbnails, 8 kB each."""
PREVIEWS = 16 * 2**20
"""Bytes of cached previews, 200 kB each."""


@dataclass
class State:
    """The shared objects of one application."""

    engines: CurrentEngine
    config: ServerConfig
    templates: Path
    static_version: str
    """Hash of the static files; part of their URLs."""
    zips: Limit
    """Downloads in progress."""
    duplicate_searches: Limit = field(default_factory=lambda: Limit(1, waiting=8))
    decodes: Limit = field(default_factory=lambda: Limit(2, waiting=8))
    """Originals being checked and previews being decoded: bounds the memory."""
    thumbnails: LruCache[bytes] = field(default_factory=lambda: LruCache(THUMBNAILS, size_of=len))
    previews: LruCache[bytes] = field(default_factory=lambda: LruCache(PREVIEWS, size_of=len))


def state() -> State:
    """The state of the application that handles this request."""
    found: State = current_app.extensions["sightline"]
    return found


def engine() -> SearchEngine:
    """The search engine of the application, the same until the response is sent."""
    if "engine" not in g:
        engines = state().engines
        g.engine = leased = engines.acquire()

        @after_this_request
        def end_lease(response: Response) -> Response:
            response.call_on_close(lambda: engines.release(leased))
            return response

    found: SearchEngine = g.engine
    return found
