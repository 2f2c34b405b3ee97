"""StoredTextVectors: vectors of texts that were searched for, in a file of the library.

A search from a shell that was asked before needs no model. The file is a cache: it may be deleted,
and where it cannot be read or written the text is encoded again.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FILE = "text-vectors.db"
MAX_TEXTS = 10_000
"""Texts that are kept, the newest: 20 MB at 512 dimensions."""
BUSY_TIMEOUT = 0.5
"""Seconds to wait for another process; encoding the text again takes no longer."""

log = logging.getLogger("sightline")


class StoredTextVectors:
    """The vectors of one model."""

    def __init__(self, directory: Path, *, model: str, revision: str, dimension: int) -> None:
        self._path = directory / FILE
        self._model = f"{model}@{revision}"
        self._dimension = dimension

    def get(self, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """The unit vectors of those ``texts`` that are stored."""
        found = {}
        try:
            if not self._path.is_file():
                return {}
            with closing(self._connect("ro")) as connection:
                for text in texts:
                    row = connection.execute(
                        "SELECT vector FROM text_vectors WHERE model = ? AND text = ?",
                        (self._model, text),
                    ).fetchone()
                    if row and (vector := self._vector(row[0])) is not None:
                        found[text] = vector
        except (sqlite3.Error, OSError) as error:
            log.debug("%s is not used: %s", self._path, error)
        return found

    def add(self, vectors: Mapping[str, NDArray[np.float32]]) -> None:
        """Stores the vectors of texts."""
        try:
            # Others must not read what was searched for.
            os.close(os.open(self._path, os.O_CREAT | os.O_WRONLY, 0o600))
            with closing(self._connect("rw")) as connection, connection:
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS text_vectors"
                    " (id INTEGER PRIMARY KEY, model TEXT, text TEXT, vector BLOB,"
                    " UNIQUE (model, text) ON CONFLICT REPLACE)"
                )
                connection.executemany(
                    "INSERT INTO text_vectors (model, text, vector) VALUES (?, ?, ?)",
                    [
                        (self._model, text, np.asarray(vector, "<f4").tobytes())
                        for text, vector in vectors.items()
                    ],
                )
                connection.execute(
                    "DELETE FROM text_vectors WHERE id <= (SELECT max(id) FROM text_vectors) - ?",
                    (MAX_TEXTS,),
                )
        except (sqlite3.Error, OSError) as error:
            log.debug("%s is not written: %s", self._path, error)

    def _connect(self, mode: str) -> sqlite3.Connection:
        address = f"{self._path.absolute().as_uri()}?mode={mode}"
        return sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT)

    def _vector(self, stored: object) -> NDArray[np.float32] | None:
        """None for what this program has not written."""
        if not isinstance(stored, bytes) or len(stored) != 4 * self._dimension:
            return None
        vector = np.frombuffer(stored, "<f4").astype(np.float32)
        return vector if abs(float(vector @ vector) - 1) < 1e-3 else None
