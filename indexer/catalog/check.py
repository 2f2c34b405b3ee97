"""What can be wrong with a catalog, and its repair, for ``sightline doctor``.

A corrupt row of one image is repaired by deleting the image: its file still exists, so the next run
reads and encodes it again.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from sightline.indexer.catalog import full_text, image_rows
from sightline.indexer.catalog.embeddings import STORED
from sightline.indexer.catalog.store import Store, error_code
from sightline.indexer.errors import LibraryError
from sightline.indexer.types import Ids

BLOCK = 16_384
"""Vectors checked together."""

SHOWN = 5
"""Ids named in a problem's text."""

REPAIR = "run `sightline doctor --repair`"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a library, or was until it was repaired."""

    kind: Literal["damaged", "missing", "stale", "orphaned", "wrong"]
    """``damaged``: a corrupt file; ``missing``: a row or file that should exist; ``stale``: an
    image older than its file; ``orphaned``: a row or file that belongs to nothing; ``wrong``: an
    impossible value."""
    where: str
    """``catalog.db``, ``thumbnails.db``, ``index`` or ``pictures``."""
    text: str
    """One line."""
    remedy: str = REPAIR
    """What the user does about it, or what was done."""
    repaired: bool = False
    repairable: bool = True
    """Whether ``Catalog.repair`` can repair it; False only for a corrupt catalog or full-text
    index, of which ``salvage`` copies what is readable."""
    ids: tuple[int, ...] = ()
    """The images concerned."""

    def as_dict(self) -> dict[str, Any]:
        """For ``sightline doctor --json``."""
        names = ("kind", "where", "text", "remedy", "repaired")
        return {name: value for name, value in asdict(self).items() if name in names}


def _about(ids: list[int]) -> str:
    shown = ", ".join(map(str, ids[:SHOWN]))
    return f"image{'s' if len(ids) > 1 else ''} {shown}{', ...' if len(ids) > SHOWN else ''}"


_ROWS: tuple[tuple[Literal["missing", "orphaned", "wrong"], str, str], ...] = (
    (
        "missing",
        "without a vector",
        # A file that could not be read for the library's present model has none.
        "SELECT id FROM images WHERE id NOT IN (SELECT image_id FROM embeddings)"
        " AND mtime_ns IS NOT NULL",
    ),
    (
        "orphaned",
        "have a vector and no row",
        "SELECT image_id FROM embeddings WHERE image_id NOT IN (SELECT id FROM images)",
    ),
    (
        "orphaned",
        "have keywords and no row",
        "SELECT DISTINCT image_id FROM keywords WHERE image_id NOT IN (SELECT id FROM images)",
    ),
    (
        "orphaned",
        "have people and no row",
        "SELECT DISTINCT image_id FROM people WHERE image_id NOT IN (SELECT id FROM images)",
    ),
    (
        "orphaned",
        "have text and no row",
        "SELECT image_id FROM texts WHERE image_id NOT IN (SELECT id FROM images)",
    ),
    (
        "orphaned",
        "have labels and no row",
        "SELECT DISTINCT image_id FROM labels WHERE image_id NOT IN (SELECT id FROM images)",
    ),
    (
        "orphaned",
        "are in an unknown folder",
        "SELECT images.id FROM images LEFT JOIN folders ON folders.id = folder_id"
        " LEFT JOIN roots ON roots.id = root_id WHERE roots.id IS NULL",
    ),
    (
        "wrong",
        "were deleted and still exist",
        "SELECT image_id FROM removals WHERE image_id IN (SELECT id FROM images)",
    ),
    (
        "wrong",
        "have a version above the catalog's",
        "SELECT image_id FROM embeddings"
        " WHERE version > (SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'version')",
    ),
)

_FULL_TEXT = (
    "SELECT id FROM images WHERE id NOT IN (SELECT rowid FROM words)"
    " UNION ALL SELECT rowid FROM words WHERE rowid NOT IN (SELECT id FROM images)"
)


def check(store: Store, dimension: int, thumbnails: Ids | None) -> list[Problem]:
    """Everything that is wrong; see ``Catalog.check``. Reads the whole file."""
    where = store.path.name
    with store.reading(limited=False) as connection:
        try:
            problems = _integrity(connection, where)
            if any(not problem.repairable for problem in problems):
                return problems
            problems += _rows(connection, where)
            problems += _vectors(connection, dimension, where)
            problems += _full_text(connection, where)
            if thumbnails is not None:
                problems += _thumbnails(connection, thumbnails)
        except sqlite3.DatabaseError as error:
            if error_code(error) in (
                sqlite3.SQLITE_BUSY,
                sqlite3.SQLITE_LOCKED,
                sqlite3.SQLITE_IOERR,
            ):
                raise
            text = f"{store.path} is corrupt: {error}"
            return [Problem("damaged", where, text, repairable=False)]
    return problems


def _integrity(connection: sqlite3.Connection, where: str) -> list[Problem]:
    found = [text for (text,) in connection.execute("PRAGMA integrity_check(20)")]
    if found == ["ok"]:
        return []
    # REINDEX repairs what SQLite reports with these words.
    in_index = ("missing from index", "wrong # of entries in index", "non-unique entry in index")
    return [
        Problem(
            "damaged",
            where,
            " ".join(text.split()),
            repairable=any(words in text for words in in_index),
        )
        for text in found
    ]


def _rows(connection: sqlite3.Connection, where: str) -> list[Problem]:
    problems = []
    for kind, what, sql in _ROWS:
        ids = [image for (image,) in connection.execute(sql)]
        if ids:
            text = f"{len(ids):,} {what}: {_about(ids)}"
            problems.append(Problem(kind, where, text, ids=tuple(ids)))
    return problems


def _bad_vectors(connection: sqlite3.Connection, dimension: int) -> list[int]:
    bad: list[int] = []
    last = -1
    while True:
        found = connection.execute(
            "SELECT image_id, vector FROM embeddings WHERE image_id > ? ORDER BY image_id LIMIT ?",
            [last, BLOCK],
        ).fetchall()
        if not found:
            return bad
        last = found[-1][0]
        width = dimension * STORED.itemsize
        whole = [(i, v) for i, v in found if isinstance(v, bytes) and len(v) == width]
        if len(whole) < len(found):
            bad += sorted({i for i, _ in found} - {i for i, _ in whole})
        if not whole:
            continue
        vectors = np.frombuffer(b"".join(v for _, v in whole), STORED).reshape(len(whole), -1)
        good = np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)
        bad += [whole[i][0] for i in np.flatnonzero(~good)]


def _vectors(connection: sqlite3.Connection, dimension: int, where: str) -> list[Problem]:
    bad = _bad_vectors(connection, dimension)
    if not bad:
        return []
    text = f"{len(bad):,} vectors are zero, not finite or of the wrong length: {_about(bad)}"
    return [Problem("wrong", where, text, ids=tuple(bad))]


def _full_text(connection: sqlite3.Connection, where: str) -> list[Problem]:
    try:
        full_text.search(connection, "jpg", 1)
        ids = [image for (image,) in connection.execute(_FULL_TEXT)]
    except LibraryError as error:
        return [Problem("damaged", where, str(error), repairable=False)]
    if not ids:
        return []
    text = f"the full-text index and the images differ: {_about(ids)}"
    return [Problem("wrong", where, text, ids=tuple(ids))]


def _thumbnails(connection: sqlite3.Connection, thumbnails: Ids) -> list[Problem]:
    existing = {image for (image,) in connection.execute("SELECT id FROM images")}
    # An imported image whose file was never read has no thumbnail.
    sql = "SELECT id FROM images WHERE mtime_ns IS NULL"
    unseen = {image for (image,) in connection.execute(sql)}
    have = set(thumbnails.tolist())
    problems = []
    if missing := sorted(existing - have - unseen):
        text = f"{len(missing):,} images have no thumbnail: {_about(missing)}"
        problems.append(Problem("missing", "thumbnails.db", text, ids=tuple(missing)))
    if orphans := sorted(have - existing):
        text = f"{len(orphans):,} thumbnails belong to no image: {_about(orphans)}"
        problems.append(Problem("orphaned", "thumbnails.db", text, ids=tuple(orphans)))
    return problems


def repair(store: Store, dimension: int) -> list[Problem]:
    """Repairs what ``check`` calls repairable, except thumbnails; see ``Catalog.repair``."""
    done: list[str] = []
    with store.writing() as connection:
        if _integrity(connection, store.path.name):
            connection.execute("REINDEX")
            done.append("rebuilt SQLite's indexes")
        bad: set[int] = set(_bad_vectors(connection, dimension))
        for _, _, sql in _ROWS:
            bad |= {image for (image,) in connection.execute(sql)}
        if bad:
            sql = "SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'version'"
            sql = f"SELECT max(({sql}), (SELECT coalesce(max(version), 0) FROM embeddings))"
            version = connection.execute(sql).fetchone()[0] + 1
            listed = json.dumps(sorted(bad))
            image_rows.remove(connection, listed, version)
            image_rows.sweep_folders(connection)
            for table in ("embeddings", "keywords", "people", "labels", "texts"):
                connection.execute(
                    f"DELETE FROM {table} WHERE image_id IN {image_rows.LISTED}", [listed]
                )
            connection.execute(
                "INSERT OR REPLACE INTO removals (image_id, version)"
                " SELECT value, ? FROM json_each(?)",
                [version, listed],
            )
            connection.execute("UPDATE meta SET value = ? WHERE name = 'version'", [str(version)])
            done.append(
                f"deleted {len(bad):,} images with corrupt rows: the next run reads them again"
            )
        if connection.execute(_FULL_TEXT).fetchone():
            full_text.fill(connection)
            done.append("rebuilt the full-text index")
    return [Problem("wrong", store.path.name, text, "done", repaired=True) for text in done]
