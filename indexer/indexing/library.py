"""``sightline.Library``: a library that can index, for Python users."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sightline.indexer.indexing.index_folders import index_folders
from sightline.indexer.library.library import Library as StoredLibrary
from sightline.indexer.types import IndexReport


class Library(StoredLibrary):
    """An open library in a directory; see ``indexer.library.Library``."""

    def add(self, paths: Path | str | Iterable[Path | str] = (), **options: Any) -> IndexReport:
        """Indexes the images below ``paths``, or compares every folder indexed before; returns the
        report of the run. ``options`` are those of ``index_folders``, whose errors it raises."""
        return index_folders(self, paths, **options)
