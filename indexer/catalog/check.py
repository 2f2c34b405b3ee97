"""What can be wrong with a catalog, and what of it can be put right: ``sightline doctor``.

Whatever is wrong with one image's row is put right by removing the image: its file is still there,
so the next run reads and encodes it anew.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sightline.indexer.catalog import full_text as words
from sightline.indexer.catalog import images as rows
from sightline.indexer.catalog.embeddings import STORED
from sightline.indexer.catalog.store import Store
from sightline.indexer.errors import LibraryError
from sightline.indexer.types import Ids

Kind = Literal["damaged", "orphaned", "missing", "wrong"]

BLOCK = 16_384
"""Vectors looked at together."""

SHOWN = 5
"""Ids named in a problem."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong."""

    kind: Kind
    """``damaged``: the file itself; ``orphaned``: a row without the one it belongs to; ``missing``:
    a row that should be there; ``wrong``: a value that cannot be."""
    text: str
    """One line."""
    repairable: bool
    """Whether ``repair`` puts it right without losing what cannot be made again."""
    ids: tuple[int, ...] = ()
    """The images it is about."""


def _about(ids: list[int]) -> str:
    shown = ", ".join(map(str, ids[:SHOWN]))
    return f"image{'s' if len(ids) > 1 else ''} {shown}{', ...' if len(ids) > SHOWN else ''}"


_ROWS: tuple[tuple[Kind, str, str], ...] = (
    (
        "missing",
        "without a vector",
        "SELECT id FROM images WHERE id NOT IN (SELECT image_id FROM embeddings)",
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
        "have labels and no row",
        "SELECT DISTINCT image_id FROM labels WHERE image_id NOT IN (SELECT id FROM images)",
    ),
    (
        "orphaned",
        "lie in a folder that is not known",
        "SELECT images.id FROM images LEFT JOIN folders ON folders.id = folder_id"
        " LEFT JOIN roots ON roots.id = root_id WHERE roots.id IS NULL",
    ),
    (
        "wrong",
        "were removed and are there",
        "SELECT image_id FROM removals WHERE image_id IN (SELECT id FROM images)",
    ),
    (
        "wrong",
        "are of a version that has not been",
        "SELECT image_id FROM embeddings"
        " WHERE version > (SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'version')",
    ),
)

_WORDS = (
    "SELECT id FROM images WHERE id NOT IN (SELECT rowid FROM words)"
    " UNION ALL SELECT rowid FROM words WHERE rowid NOT IN (SELECT id FROM images)"
)


def check(store: Store, dimension: int, thumbnails: Ids | None) -> list[Problem]:
    """Everything that is wrong; see ``Catalog.check``. Reads the whole file."""
    with store.reading() as connection:
        try:
            problems = _integrity(connection)
            if any(problem.kind == "damaged" and not problem.repairable for problem in problems):
                return problems
            problems += _rows(connection)
            problems += _vectors(connection, dimension)
            problems += _words(connection)
            if thumbnails is not None:
                problems += _thumbnails(connection, thumbnails)
        except sqlite3.DatabaseError as error:
            passing = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR)
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in passing:
                raise
            return [Problem("damaged", f"{store.path} is damaged: {error}", False)]
    return problems


def _integrity(connection: sqlite3.Connection) -> list[Problem]:
    found = [text for (text,) in connection.execute("PRAGMA integrity_check(20)")]
    if found == ["ok"]:
        return []
    in_index = ("missing from index", "wrong # of entries in index", "non-unique entry in index")
    return [
        Problem("damaged", f"{' '.join(text.split())}", any(words in text for words in in_index))
        for text in found
    ]


def _rows(connection: sqlite3.Connection) -> list[Problem]:
    problems = []
    for kind, what, sql in _ROWS:
        ids = [image for (image,) in connection.execute(sql)]
        if ids:
            problems.append(Problem(kind, f"{len(ids):,} {what}: {_about(ids)}", True, tuple(ids)))
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


def _vectors(connection: sqlite3.Connection, dimension: int) -> list[Problem]:
    bad = _bad_vectors(connection, dimension)
    if not bad:
        return []
    text = f"{len(bad):,} vectors are zero, not finite or of a wrong length: {_about(bad)}"
    return [Problem("wrong", text, True, tuple(bad))]


def _words(connection: sqlite3.Connection) -> list[Problem]:
    try:
        words.search(connection, "jpg", 1)
        ids = [image for (image,) in connection.execute(_WORDS)]
    except LibraryError as error:
        return [Problem("damaged", str(error), False)]
    if not ids:
        return []
    text = f"the full-text index and the images differ: {_about(ids)}"
    return [Problem("wrong", text, True, tuple(ids))]


def _thumbnails(connection: sqlite3.Connection, thumbnails: Ids) -> list[Problem]:
    images = {image for (image,) in connection.execute("SELECT id FROM images")}
    # What was imported, and was never seen as a file, has nothing to make a thumbnail of.
    unseen = {image for (image,) in connection.execute("SELECT id FROM images WHERE mtime_ns = 0")}
    have = set(thumbnails.tolist())
    problems = []
    if missing := sorted(images - have - unseen):
        text = f"{len(missing):,} images have no thumbnail: {_about(missing)}"
        problems.append(Problem("missing", text, True, tuple(missing)))
    if orphans := sorted(have - images):
        text = f"{len(orphans):,} thumbnails belong to no image: {_about(orphans)}"
        problems.append(Problem("orphaned", text, True, tuple(orphans)))
    return problems


def repair(store: Store, dimension: int) -> list[str]:
    """Puts right what can be; see ``Catalog.repair``. Thumbnails are their owner's business."""
    done: list[str] = []
    with store.writing() as connection:
        if _integrity(connection):
            connection.execute("REINDEX")
            done.append("made the indexes anew")
        bad: set[int] = set(_bad_vectors(connection, dimension))
        for _, _, sql in _ROWS:
            bad |= {image for (image,) in connection.execute(sql)}
        if bad:
            sql = "SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'version'"
            sql = f"SELECT max(({sql}), (SELECT coalesce(max(version), 0) FROM embeddings))"
            version = connection.execute(sql).fetchone()[0] + 1
            listed = json.dumps(sorted(bad))
            rows.remove(connection, listed, version)
            rows.sweep_folders(connection)
            for table in ("embeddings", "keywords", "labels"):
                connection.execute(f"DELETE FROM {table} WHERE image_id IN {rows.LISTED}", [listed])
            connection.execute(
                "INSERT OR REPLACE INTO removals (image_id, version)"
                " SELECT value, ? FROM json_each(?)",
                [version, listed],
            )
            connection.execute("UPDATE meta SET value = ? WHERE name = 'version'", [str(version)])
            done.append(
                f"removed {len(bad):,} images with broken rows: the next run reads them anew"
            )
        if connection.execute(_WORDS).fetchone():
            words.fill(connection)
            done.append("made the full-text index anew")
    return done
