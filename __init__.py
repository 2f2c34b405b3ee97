"""Sightline: text-to-image retrieval over your own photos.

    from sightline import Library, SearchEngine, index_folders

    index_folders("photos.library", ["~/Pictures"])
    SearchEngine(Library.open("photos.library")).search("dog on a beach")

``index_folders`` creates the library if it does not exist and returns an ``IndexReport``. Importing
this package loads nothing heavy: torch, faiss and SQLite are imported on first use.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sightline.indexer.indexing.index_folders import index_folders as index_folders
    from sightline.indexer.indexing.library import Library as Library
    from sightline.server.search import SearchEngine as SearchEngine

__version__ = "0.1.0"

# OpenMP threads that wait for work sleep instead of spinning, which would take the cores from the
# decoding processes (k-means on two busy cores took five times as long). Read when torch or faiss
# are first imported, so it is set here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_EXPORTS = {
    "Library": "sightline.indexer.indexing.library",
    "index_folders": "sightline.indexer.indexing.index_folders",
    "SearchEngine": "sightline.server.search",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
