"""Nearest neighbours: what FAISS holds of a library.

    index = open_index(directory, catalog, model=.., revision=..)
    scores, ids = index.search(queries, 10, allowed=ids)

Ranking is by the exact cosine of the vectors as the catalog keeps them (float16), ties by id.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from indexer.index_rows import Allowed, Rows, Scores, best
from indexer.types import Embeddings, Ids, IndexState

BLOCK = 65_536
"""Vectors read from the source together."""

Show = Callable[[str, int, int | None], None]


class VectorSource(Protocol):
    """Where vectors come from: a catalog."""

    dimension: int

    @property
    def version(self) -> int: ...

    @property
    def count(self) -> int: ...

    def blocks(
        self, size: int, *, after_version: int | None = None, until_version: int | None = None
    ) -> Iterator[tuple[Ids, Embeddings]]: ...

    def changes(self, after_version: int) -> Any: ...


class VectorIndex:
    """The vectors of a library, ready to be searched by any number of threads."""

    def __init__(self, source: VectorSource) -> None:
        """Use ``open_index``."""
        self._source = source
        self._lock = threading.Lock()
        version = source.version
        rows = Rows.of(source.dimension, source.blocks(BLOCK, until_version=version))
        self._now = (version, rows)
        self.refresh()

    def refresh(self) -> bool:
        """Takes in what has changed in the source; whether anything had."""
        with self._lock:
            version, rows = self._now
            if self._source.version == version:
                return False
            changes = self._source.changes(version)
            self._now = (
                changes.version,
                rows.changed(changes.ids, changes.vectors, changes.removed),
            )
            return True

    def search(
        self, queries: Embeddings, k: int, *, allowed: Ids | None = None
    ) -> tuple[Scores, Ids]:
        """The ``k`` nearest of each of ``(q, d)`` unit ``queries``: ``(q, k)`` cosines and ids,
        padded with ``-inf`` and -1. ``allowed`` are the only ids that may be found."""
        queries = np.ascontiguousarray(queries, np.float32)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        ids = np.full((len(queries), k), -1, np.int64)
        _, rows = self._now
        filter = None if allowed is None else Allowed(allowed)
        for n, (some, of) in enumerate(rows.search(queries, k, filter)):
            top, which = best(some, of, k)
            scores[n, : len(top)], ids[n, : len(top)] = top, which
        return scores, ids

    @property
    def state(self) -> IndexState:
        """What ``status`` says of it."""
        _, rows = self._now
        return IndexState("exact", rows.count, 0, rows.bytes)

    def close(self) -> None:
        """Lets go of the vectors."""
        self._now = (-1, Rows(self._source.dimension))


def open_index(directory: Path, source: VectorSource, *, model: str, revision: str) -> VectorIndex:
    """The index of ``source`` whose files are in ``directory``."""
    return VectorIndex(source)


def build_index(
    directory: Path, source: VectorSource, *, model: str, revision: str, **options: Any
) -> IndexState:
    """Builds the index anew."""
    return VectorIndex(source).state


def maintain_index(
    directory: Path, source: VectorSource, *, model: str, revision: str, **options: Any
) -> IndexState | None:
    """Builds the index where that is worth it."""
    return None
