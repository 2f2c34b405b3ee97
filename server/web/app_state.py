"""What the views of one application share, and how they get at it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from flask import current_app

from sightline.server.search.duplicate_groups import Group
from sightline.server.search.engine import SearchEngine
from sightline.server.search.lru_cache import LruCache
from sightline.server.web.admission import Slots

RESIZED = 4096
"""Smaller thumbnails kept: 8 kB each."""
GROUPINGS = 4
"""Ways of grouping equal pictures that are kept: 100 bytes a group."""
PREVIEWS = 64
"""Previews kept: 200 kB each, a few when someone leafs through large pictures."""


@dataclass
class State:
    """Of one application."""

    engine: SearchEngine
    templates: Path
    zips: Slots
    grouping: Slots = field(default_factory=lambda: Slots(1))
    groups: LruCache[list[Group]] = field(default_factory=lambda: LruCache(GROUPINGS))
    previewing: Slots = field(default_factory=lambda: Slots(2))
    resized: LruCache[bytes] = field(default_factory=lambda: LruCache(RESIZED))
    previews: LruCache[bytes] = field(default_factory=lambda: LruCache(PREVIEWS))


def state() -> State:
    """Of the application that answers this request."""
    found: State = current_app.extensions["sightline"]
    return found


def engine() -> SearchEngine:
    """The search engine of the application that answers this request."""
    return state().engine
