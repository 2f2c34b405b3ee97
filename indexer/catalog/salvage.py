"""Copies what is readable of a corrupt catalog into a new one: it saves hours of encoding.

A truncated file, or one with some corrupt pages, still holds the rows of all other pages. They keep
their ids, so that thumbnails stay right; the next run finds and encodes what is lost.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sightline.indexer.catalog import full_text
from sightline.indexer.catalog.catalog import CATALOG, Catalog
from sightline.indexer.catalog.embeddings import STORED
from sightline.indexer.catalog.store import MAGIC, Store, error_code, log_of, sized_by_header
from sightline.indexer.errors import LibraryError

TABLES = {
    "roots": "rowid", "folders": "rowid", "images": "rowid", "embeddings": "rowid",
    "removals": "rowid", "runs": "rowid", "keywords": "image_id", "people": "image_id",
    "locations": "rowid", "texts": "rowid", "labels": "image_id", "failures": "root_id",
    "saved_searches": "rowid", "collections": "rowid", "collection_images": "collection_id",
}  # fmt: skip
"""Tables, each after those it refers to, with the integer that its key is or starts with."""

CHUNK = 200
"""Keys read together."""

ID_MARGIN = 10_000_000
"""Added to the highest id that was read if the highest id ever assigned is unreadable."""

END = 1 << 40
"""Above any key."""

_VIEWS = f"type = 'view' AND lower(name) IN ({', '.join(repr(t) for t in ('meta', *TABLES))})"
"""Views in the place of tables, whose statements could run for ever."""

UNAVAILABLE = (
    sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED,
)  # fmt: skip
"""Result codes for a file that may be intact but cannot be read now."""


@dataclass(frozen=True)
class Salvaged:
    """What was copied."""

    images: int
    gaps: int
    """Rows and ranges of rows that could not be read."""


def salvage(path: Path, target: Path) -> Salvaged:
    """Creates the catalog ``target`` from what is readable of the corrupt one at ``path``, which is
    not changed. LibraryError if nothing is readable, or ``target`` exists."""
    try:
        with path.open("rb") as file:
            is_sqlite = file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise LibraryError(f"{path} cannot be read: {error.strerror or error}") from error
    if not is_sqlite:
        raise LibraryError(f"nothing of {path} can be saved: its beginning is lost")
    if target.exists():
        raise LibraryError(f"{target} is there already")
    copy = target.with_name(target.name + ".copy")
    try:
        return _salvage(path, _untruncated(path, copy), target)
    finally:
        for name in (copy, log_of(copy), copy.with_name(copy.name + "-shm")):
            name.unlink(missing_ok=True)


def _untruncated(path: Path, copy: Path) -> Path:
    """``path``, or, if it is truncated, a copy extended with empty pages: SQLite reads nothing of a
    file that is shorter than its header claims."""
    with path.open("rb") as file:
        whole = sized_by_header(file.read(100).ljust(100, b"\0"))
    if path.stat().st_size >= whole:
        return path
    try:
        shutil.copyfile(path, copy)
        if log_of(path).exists():
            shutil.copyfile(log_of(path), log_of(copy))
        os.truncate(copy, whole)
    except OSError as error:
        raise LibraryError.unwritable(copy, error) from error
    return copy


def _salvage(path: Path, source: Path, target: Path) -> Salvaged:
    uri = f"{source.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as old:
        old.text_factory = lambda data: data.decode(errors="replace")
        old.execute("PRAGMA trusted_schema = OFF")
        try:
            views = [
                name for (name,) in old.execute(f"SELECT name FROM sqlite_master WHERE {_VIEWS}")
            ]
            if views:
                raise LibraryError(
                    f"nothing of {path} can be saved: {views[0]} is a view, not a table"
                )
            meta = dict(old.execute("SELECT name, value FROM meta").fetchall())
            model, revision = meta["model"], meta["revision"]
            dimension, version = int(meta["dimension"]), int(meta["version"])
        except (sqlite3.Error, KeyError, ValueError) as error:
            if error_code(error) in UNAVAILABLE:
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
                store.checkpoint()
                return saved
        except BaseException:
            target.unlink(missing_ok=True)
            raise


def _copy(
    old: sqlite3.Connection, new: sqlite3.Connection, dimension: int, version: int
) -> Salvaged:
    gaps = 0
    new.execute("PRAGMA defer_foreign_keys = ON")
    for table, key in TABLES.items():
        ours = [name for _, name, *_ in new.execute(f"PRAGMA table_info({table})")]
        theirs = {name for _, name, *_ in old.execute(f"PRAGMA table_info({table})")}
        columns = [name for name in ours if name in theirs]
        marks = ", ".join("?" * len(columns))
        insert = f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({marks})"
        if not columns:
            continue
        for rows in _readable(old, table, key, columns):
            if rows is None:
                gaps += 1
                continue
            for row in rows:
                try:
                    new.execute(insert, row)
                except (sqlite3.IntegrityError, sqlite3.InterfaceError):
                    gaps += 1
    _drop_incomplete(new, dimension)
    full_text.fill(new)
    # Higher than before: a vector index of the corrupt catalog contains what is lost now.
    new.execute(
        "UPDATE meta SET value = 1 + max(?, (SELECT coalesce(max(version), 0) FROM embeddings))"
        " WHERE name = 'version'",
        [version],
    )
    _reserve_ids(old, new)
    (images,) = new.execute("SELECT count(*) FROM images").fetchone()
    return Salvaged(images, gaps)


def _reserve_ids(old: sqlite3.Connection, new: sqlite3.Connection) -> None:
    """Makes new ids start above every id that the corrupt catalog assigned."""
    try:
        sql = "SELECT seq FROM sqlite_sequence WHERE name = 'images'"
        (highest,) = old.execute(sql).fetchone() or (0,)
    except sqlite3.DatabaseError:
        (known,) = new.execute("SELECT coalesce(max(id), 0) FROM images").fetchone()
        highest = known + ID_MARGIN
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
    for table in ("embeddings", "keywords", "people", "labels", "texts"):
        new.execute(f"DELETE FROM {table} WHERE image_id NOT IN (SELECT id FROM images)")


def _readable(
    old: sqlite3.Connection, table: str, key: str, columns: list[str]
) -> Iterator[list[tuple] | None]:
    """The rows of ``table`` in chunks, by ``key``; None for each unreadable range."""
    sql = f"SELECT {key}, {', '.join(columns)} FROM {table} WHERE {key} >= ? AND {key} < ?"

    def read(start: int, end: int) -> list[tuple] | None:
        try:
            return [row[1:] for row in old.execute(sql, [start, end])]
        except sqlite3.DatabaseError:
            return None

    def next_key(start: int) -> int | None:
        """The first key from ``start`` on, ``END`` after the last; None if it is unreadable."""
        try:
            row = old.execute(
                f"SELECT {key} FROM {table} WHERE {key} >= ? ORDER BY {key} LIMIT 1", [start]
            ).fetchone()
        except sqlite3.DatabaseError:
            return None
        return row[0] if row else END

    position = 0
    while position < END:
        start = next_key(position)
        if start is None:  # skip the corrupt range: double the stride, then bisect for its end
            yield None
            stride = 1
            while stride < END and next_key(position + stride) is None:
                stride *= 2
            low, high = position + stride // 2, position + stride
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if next_key(middle) is None else (low, middle)
            position = high
            continue
        if start >= END:
            return
        rows = read(start, start + CHUNK)
        if rows is None:
            yield read(start, start + 1)
            position = start + 1
        else:
            yield rows
            position = start + CHUNK
