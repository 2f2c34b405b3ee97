"""Embeddings in the catalog: one float16 little-endian blob per image, to and from NumPy.

Functions on a connection, called by ``Catalog``.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.catalog.store import ids_of
from sightline.indexer.errors import LibraryError
from sightline.indexer.types import Embeddings, Ids

STORED = np.dtype("<f2")


@dataclass(frozen=True)
class Changes:
    """The difference between the vectors of an earlier version and of ``version``: delete
    ``removed`` and ``ids`` from the earlier set, then add ``ids``."""

    ids: Ids
    """Images that are new or were encoded again, ascending."""
    vectors: Embeddings
    """``(n, d) float32``, a row for each of ``ids``."""
    removed: Ids
    """Deleted images; they may never have been in the earlier set."""
    version: int
    """The version that applying this leads to."""

    def __len__(self) -> int:
        return len(self.ids) + len(self.removed)


def to_blobs(vectors: Sequence[NDArray[np.floating]], dimension: int) -> list[bytes]:
    """The blobs to store for ``vectors``. Raises LibraryError for one that has another length, is
    not finite or is zero: it has no cosine, and FAISS drops it silently."""
    if not vectors:
        return []
    for vector in vectors:
        if np.shape(vector) != (dimension,):
            raise LibraryError(
                f"a vector of shape {np.shape(vector)} cannot be stored in a library of"
                f" {dimension} dimensions: was it made by another model?"
            )
    with np.errstate(over="ignore"):
        stored = np.stack(vectors).astype(STORED)
    good = np.isfinite(stored).all(axis=1) & stored.any(axis=1)
    if not good.all():
        raise LibraryError(
            f"vector {int(np.argmin(good))} of {len(stored)} is not finite or is zero: nothing of"
            " this batch was stored. Is the model's file whole, and its precision right?"
        )
    return [row.tobytes() for row in stored]


def from_blobs(blobs: Sequence[bytes], dimension: int) -> Embeddings:
    """``(n, d) float32`` of stored ``blobs``."""
    try:
        stored = np.frombuffer(b"".join(blobs), STORED).reshape(len(blobs), dimension)
    except (ValueError, TypeError):
        raise LibraryError(
            "a stored vector has the wrong length: `sightline doctor` says which"
        ) from None
    return stored.astype(np.float32)


def fetch(connection: sqlite3.Connection, ids: Ids, dimension: int) -> Embeddings:
    """``(n, d) float32`` in the order of ``ids``; a row of NaN for an unknown id."""
    ids = np.asarray(ids, np.int64)
    vectors = np.full((len(ids), dimension), np.nan, np.float32)
    if not len(ids):
        return vectors
    rows = connection.execute(
        "SELECT image_id, vector FROM embeddings"
        " WHERE image_id IN (SELECT value FROM json_each(?)) ORDER BY image_id",
        [json.dumps(ids.tolist())],
    ).fetchall()
    if rows:
        found = np.fromiter((row[0] for row in rows), np.int64, len(rows))
        values = from_blobs([row[1] for row in rows], dimension)
        position = np.minimum(np.searchsorted(found, ids), len(found) - 1)
        there = found[position] == ids
        vectors[there] = values[position[there]]
    return vectors


def block(
    connection: sqlite3.Connection, after: int, size: int, until: int, dimension: int
) -> tuple[Ids, Embeddings, int]:
    """Up to ``size`` images after id ``after`` with versions up to ``until``, and the last id
    read; 0 at the end."""
    rows = connection.execute(
        "SELECT image_id, vector, version FROM embeddings WHERE image_id > ?"
        " ORDER BY image_id LIMIT ?",
        [after, size],
    ).fetchall()
    last = rows[-1][0] if len(rows) == size else 0
    kept = [row for row in rows if row[2] <= until]
    ids = np.fromiter((row[0] for row in kept), np.int64, len(kept))
    return ids, from_blobs([row[1] for row in kept], dimension), last


def newer(
    connection: sqlite3.Connection, after: tuple[int, int], size: int, until: int, dimension: int
) -> tuple[Ids, Embeddings, tuple[int, int] | None]:
    """Up to ``size`` images after ``after`` in the order of (version, id), and the last (version,
    id) read; None at the end."""
    rows = connection.execute(
        "SELECT image_id, vector, version FROM embeddings"
        " WHERE (version, image_id) > (?, ?) AND version <= ?"
        " ORDER BY version, image_id LIMIT ?",
        [*after, until, size],
    ).fetchall()
    last = (rows[-1][2], rows[-1][0]) if len(rows) == size else None
    ids = np.fromiter((row[0] for row in rows), np.int64, len(rows))
    return ids, from_blobs([row[1] for row in rows], dimension), last


def random_ids(connection: sqlite3.Connection, n: int, seed: int) -> Ids:
    """``n`` distinct image ids drawn uniformly, sorted; all of them if there are fewer. Determined
    by ``seed`` and the images.

    Ids are drawn from their range and dropped if unused. If over nine in ten are unused, all ids
    are read instead, from an index that holds no vectors; if none is, nothing is read.
    """
    (count,) = connection.execute("SELECT count(*) FROM embeddings").fetchone()
    listed = "SELECT image_id AS id FROM embeddings INDEXED BY embeddings_version"
    if count <= n:
        return np.sort(ids_of(connection, listed))
    # In one SELECT, min and max would read all rows.
    (low,) = connection.execute("SELECT min(image_id) FROM embeddings").fetchone()
    (high,) = connection.execute("SELECT max(image_id) FROM embeddings").fetchone()
    random = np.random.default_rng(seed)
    if count < 10 * n or count < (high - low + 1) / 10:
        return np.sort(random.choice(np.sort(ids_of(connection, listed)), n, replace=False))
    chosen: list[int] = []
    seen: set[int] = set()
    while len(chosen) < n:
        wanted = random.integers(low, high + 1, 2 * n).tolist()
        there = set(wanted)
        if count <= high - low:
            rows = connection.execute(
                "SELECT image_id FROM embeddings"
                " WHERE image_id IN (SELECT value FROM json_each(?))",
                [json.dumps(wanted)],
            )
            there = {image for (image,) in rows}
        for image in wanted:
            if image in there and image not in seen:
                seen.add(image)
                chosen.append(image)
    return np.sort(np.array(chosen[:n], np.int64))
