"""Saves what can be read of a damaged catalog: hours of encoding, most of them.

A file that is cut short, or of which some pages are spoilt, still holds the rows of all other
pages. They are read past the damage into a new catalog, under the ids they had, so that thumbnails
stay right; what is lost is found again, and encoded, by the next run.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sightline.indexer.catalog import full_text as words
from sightline.indexer.catalog.catalog import CATALOG, Catalog
from sightline.indexer.catalog.embeddings import STORED
from sightline.indexer.catalog.store import MAGIC, Store
from sightline.indexer.errors import LibraryError

TABLES = ("roots", "folders", "images", "embeddings", "removals", "runs")
"""Tables whose key is one integer, in an order in which each refers to earlier ones."""

LISTS = {"keywords": "image_id", "labels": "image_id", "failures": "root_id"}
"""Tables that are read by the integer that their key starts with."""

CHUNK = 200
"""Rows read together while nothing is wrong."""

SAFE_DISTANCE = 10_000_000
"""How far new ids keep from the highest that was saved, when the highest ever given is lost."""

FURTHEST = 1 << 40
"""Beyond any key."""

AWAY = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
"""What SQLite says of a file that may be whole, but cannot be read at the moment."""


@dataclass(frozen=True)
class Salvaged:
    """What was saved."""

    images: int
    damage: int
    """How many places could not be read."""


def salvage(path: Path, target: Path) -> Salvaged:
    """Makes the catalog ``target`` from what can be read of the damaged one at ``path``, which is
    only read. LibraryError when nothing can be saved, or ``target`` is there already."""
    try:
        with path.open("rb") as file:
            known = file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise LibraryError(f"{path} cannot be read: {error.strerror or error}") from error
    if not known:
        raise LibraryError(f"nothing of {path} can be saved: its beginning is lost")
    if target.exists():
        raise LibraryError(f"{target} is there already")
    copy = target.with_name(target.name + ".copy")
    try:
        source = _whole(path, copy)
        return _salvage(path, source, target)
    finally:
        for name in (copy, copy.with_name(copy.name + "-wal"), copy.with_name(copy.name + "-shm")):
            name.unlink(missing_ok=True)


def _whole(path: Path, copy: Path) -> Path:
    """``path``, or, when it is cut short, a copy with empty pages in place of those that are lost:
    SQLite reads nothing of a file that is shorter than it says."""
    with path.open("rb") as file:
        header = file.read(100).ljust(100, b"\0")
    page = int.from_bytes(header[16:18], "big")
    whole = (65536 if page == 1 else page) * int.from_bytes(header[28:32], "big")
    if path.stat().st_size >= whole:
        return path
    try:
        shutil.copyfile(path, copy)
        log = path.with_name(path.name + "-wal")
        if log.exists():
            shutil.copyfile(log, copy.with_name(copy.name + "-wal"))
        os.truncate(copy, whole)
    except OSError as error:
        raise LibraryError.unwritable(copy, error) from error
    return copy


def _salvage(path: Path, source: Path, target: Path) -> Salvaged:
    uri = f"{source.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as old:
        old.text_factory = lambda data: data.decode(errors="replace")
        try:
            meta = dict(old.execute("SELECT name, value FROM meta").fetchall())
            model, revision = meta["model"], meta["revision"]
            dimension, version = int(meta["dimension"]), int(meta["version"])
        except (sqlite3.Error, KeyError, ValueError) as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in AWAY:
                raise LibraryError(
                    f"{path} cannot be read now ({error}): is its disk unplugged or failing?"
                    " Nothing was changed; try again"
                ) from error
            raise LibraryError(
                f"nothing of {path} can be saved: its first tables are lost ({error})"
            ) from error
        Catalog.create(target, model=model, revision=revision, dimension=dimension).close()
        try:
            with closing(Store(target, CATALOG)) as store:
                with store.writing() as new:
                    saved = _copy(old, new, dimension, version)
                store.settle()
                return saved
        except BaseException:
            target.unlink(missing_ok=True)
            raise


def _copy(
    old: sqlite3.Connection, new: sqlite3.Connection, dimension: int, version: int
) -> Salvaged:
    damage = 0
    new.execute("PRAGMA defer_foreign_keys = ON")
    for table in (*TABLES, *LISTS):
        ours = [name for _, name, *_ in new.execute(f"PRAGMA table_info({table})")]
        theirs = {name for _, name, *_ in old.execute(f"PRAGMA table_info({table})")}
        columns = [name for name in ours if name in theirs]
        marks = ", ".join("?" * len(columns))
        insert = f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({marks})"
        key = LISTS.get(table, "rowid")
        if not columns:
            continue
        for rows in _readable(old, table, key, columns):
            if rows is None:
                damage += 1
                continue
            for row in rows:
                try:
                    new.execute(insert, row)
                except (sqlite3.IntegrityError, sqlite3.InterfaceError):
                    damage += 1
    _drop_incomplete(new, dimension)
    words.fill(new)
    # An index made from the damaged catalog holds what this one has lost.
    new.execute(
        "UPDATE meta SET value = 1 + max(?, (SELECT coalesce(max(version), 0) FROM embeddings))"
        " WHERE name = 'version'",
        [version],
    )
    _keep_ids_apart(old, new)
    (images,) = new.execute("SELECT count(*) FROM images").fetchone()
    return Salvaged(images, damage)


def _keep_ids_apart(old: sqlite3.Connection, new: sqlite3.Connection) -> None:
    """Ids that were given out by the damaged catalog are not given out again."""
    try:
        sql = "SELECT seq FROM sqlite_sequence WHERE name = 'images'"
        (highest,) = old.execute(sql).fetchone() or (0,)
    except sqlite3.DatabaseError:
        (known,) = new.execute("SELECT coalesce(max(id), 0) FROM images").fetchone()
        highest = known + SAFE_DISTANCE
    if new.execute("SELECT 1 FROM sqlite_sequence WHERE name = 'images'").fetchone() is None:
        new.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('images', 0)")
    new.execute(
        "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'images'", [int(highest)]
    )


def _drop_incomplete(new: sqlite3.Connection, dimension: int) -> None:
    new.execute(
        "DELETE FROM embeddings WHERE typeof(vector) <> 'blob' OR length(vector) <> ?",
        [dimension * STORED.itemsize],
    )
    new.execute("DELETE FROM folders WHERE root_id NOT IN (SELECT id FROM roots)")
    new.execute(
        "DELETE FROM images WHERE folder_id NOT IN (SELECT id FROM folders)"
        " OR id NOT IN (SELECT image_id FROM embeddings)"
    )
    new.execute("DELETE FROM failures WHERE root_id NOT IN (SELECT id FROM roots)")
    for table in ("embeddings", "keywords", "labels"):
        new.execute(f"DELETE FROM {table} WHERE image_id NOT IN (SELECT id FROM images)")


def _readable(
    old: sqlite3.Connection, table: str, key: str, columns: list[str]
) -> Iterator[list[tuple] | None]:
    """The rows of ``table`` in chunks, by ``key``; None for each gap that could not be read."""
    sql = f"SELECT {key}, {', '.join(columns)} FROM {table} WHERE {key} >= ? AND {key} < ?"

    def read(start: int, end: int) -> list[tuple] | None:
        try:
            return [row[1:] for row in old.execute(sql, [start, end])]
        except sqlite3.DatabaseError:
            return None

    def next_key(start: int) -> int | None:
        """The first key from ``start`` on; None where there is none, or damage."""
        try:
            row = old.execute(
                f"SELECT {key} FROM {table} WHERE {key} >= ? ORDER BY {key} LIMIT 1", [start]
            ).fetchone()
        except sqlite3.DatabaseError:
            return None
        return row[0] if row else FURTHEST

    place = 0
    while place < FURTHEST:
        start = next_key(place)
        if start is None:  # step over the damage, in strides that grow, then back to its end
            yield None
            stride = 1
            while stride < FURTHEST and next_key(place + stride) is None:
                stride *= 2
            low, high = place + stride // 2, place + stride
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if next_key(middle) is None else (low, middle)
            place = high
            continue
        if start >= FURTHEST:
            return
        rows = read(start, start + CHUNK)
        if rows is None:
            one = read(start, start + 1)
            yield one
            place = start + 1
        else:
            yield rows
            place = start + CHUNK
