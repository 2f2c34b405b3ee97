"""Facets: values of filters with their counts, images per month, order by date.

Functions on a connection, called by ``Catalog``, which caches their results until the next commit.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np

from sightline.indexer.catalog.filters import folder_pattern
from sightline.indexer.catalog.full_text import fold
from sightline.indexer.catalog.image_rows import LISTED
from sightline.indexer.types import Ids

KINDS = (
    "folder", "camera", "lens", "type", "year", "keyword", "person", "country", "place", "label",
    "rating",
)  # fmt: skip


@dataclass(frozen=True)
class Suggestion:
    """A value of a filter, and how many images match it."""

    kind: str
    """One of ``KINDS``."""
    text: str
    count: int


@dataclass(frozen=True)
class FolderCount:
    """A folder, and how many images it contains directly."""

    root: str
    path: str
    """Relative to the root; ``""`` is the root itself."""
    folded: str
    """``/root/path/``, folded."""
    count: int


@dataclass(frozen=True)
class Months:
    """Images per month in which they were taken."""

    months: tuple[tuple[str, int], ...]
    """``("2023-06", 12)``, oldest first, without empty months; ``("1943", 1)`` for images of which
    only the year is known, before its months."""
    undated: int


@dataclass(frozen=True)
class Dates:
    """All images by date."""

    dated: Ids
    """By (taken_at, mtime, id), oldest first."""
    undated: Ids
    """By (mtime, id), oldest first."""
    months: Months


_LOCATED = "FROM images JOIN locations ON locations.id = images.location_id"


def counts(connection: sqlite3.Connection, kind: str) -> list[Suggestion]:
    """Every value of ``kind`` (not ``folder``), most frequent first."""
    sql = {
        "camera": "SELECT camera, count(*) FROM images WHERE camera IS NOT NULL GROUP BY camera",
        "lens": "SELECT lens, count(*) FROM images WHERE lens IS NOT NULL GROUP BY lens",
        "type": "SELECT format, count(*) FROM images GROUP BY format",
        "keyword": "SELECT min(keyword), count(DISTINCT image_id) FROM keywords GROUP BY folded",
        "country": f"SELECT country, count(*) {_LOCATED} GROUP BY country",
        "place": f"SELECT city, count(*) {_LOCATED} GROUP BY city",
        "person": "SELECT min(person), count(DISTINCT image_id) FROM people GROUP BY folded",
        "label": "SELECT min(label), count(DISTINCT image_id) FROM labels GROUP BY folded",
        "rating": "SELECT rating, count(*) FROM images WHERE rating IS NOT NULL GROUP BY rating",
    }
    if kind == "year":
        years: Counter[str] = Counter()
        for month, count in months(connection).months:
            years[month[:4]] += count
        rows: Iterable = years.items()
    elif kind in sql:
        rows = connection.execute(sql[kind]).fetchall()
    else:
        raise ValueError(f"there is no kind {kind!r}; there are {', '.join(KINDS)}")
    return _by_count(kind, rows)


def _by_count(kind: str, rows: Iterable[tuple]) -> list[Suggestion]:
    found = [Suggestion(kind, str(text), count) for text, count in rows]
    return sorted(found, key=lambda one: (-one.count, fold(one.text)))


def value_texts(connection: sqlite3.Connection) -> set[str]:
    """Every value that holds words, without counts: takes time per value, not per image."""
    queries = [
        "SELECT path FROM folders",
        "SELECT name FROM collections",
        "SELECT city, country FROM locations"
        " WHERE EXISTS (SELECT 1 FROM images WHERE location_id = locations.id)",
        *(
            # One step through an index per value.
            f"""WITH RECURSIVE found (value) AS (
                SELECT min({column}) FROM {table}
                UNION ALL
                SELECT (SELECT min({column}) FROM {table} WHERE {column} > value)
                FROM found WHERE value IS NOT NULL
            )
            SELECT (SELECT {text} FROM {table} WHERE {column} = value LIMIT 1)
            FROM found WHERE value IS NOT NULL"""
            for table, column, text in (
                ("images", "camera", "camera"),
                ("images", "lens", "lens"),
                ("keywords", "folded", "keyword"),
                ("people", "folded", "person"),
                ("labels", "folded", "label"),
            )
        ),
    ]
    found = {text for sql in queries for row in connection.execute(sql) for text in row}
    return found | {root_name(path) for (path,) in connection.execute("SELECT path FROM roots")}


def root_name(path: str) -> str:
    """The last part of a root's path, of any system."""
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]


def has(connection: sqlite3.Connection, kind: str) -> bool:
    """Whether any image has one: ``keyword``, ``person``, ``place``, ``label``, ``year``."""
    sql = {
        "keyword": "SELECT EXISTS (SELECT 1 FROM keywords)",
        "person": "SELECT EXISTS (SELECT 1 FROM people)",
        "country": "SELECT EXISTS (SELECT 1 FROM images WHERE location_id > 0)",
        "place": "SELECT EXISTS (SELECT 1 FROM images WHERE location_id > 0)",
        "label": "SELECT EXISTS (SELECT 1 FROM labels)",
        "year": "SELECT EXISTS (SELECT 1 FROM images WHERE taken_at IS NOT NULL)",
    }
    return bool(connection.execute(sql[kind]).fetchone()[0])


def counts_of(connection: sqlite3.Connection, kind: str, ids: Ids) -> list[Suggestion]:
    """Every ``keyword``, ``person``, ``label``, ``country`` or ``place`` (city) of the images
    ``ids``, most frequent first."""
    table = {"keyword": "keywords", "person": "people", "label": "labels"}.get(kind)
    if kind in ("country", "place"):
        column = "country" if kind == "country" else "city"
        located = connection.execute(
            f"SELECT {column}, count(*) {_LOCATED} WHERE images.id IN {LISTED} GROUP BY {column}",
            [json.dumps(ids.tolist())],
        )
        return _by_count(kind, located.fetchall())
    if table is None:
        raise ValueError(f"{kind!r} is counted over the whole catalog only")
    rows = connection.execute(
        f"SELECT min({kind}), count(DISTINCT image_id) FROM {table} WHERE image_id IN {LISTED}"
        " GROUP BY folded",
        [json.dumps(ids.tolist())],
    ).fetchall()
    return _by_count(kind, rows)


def folders(connection: sqlite3.Connection) -> list[FolderCount]:
    """Every folder that contains images."""
    rows = connection.execute(
        """SELECT roots.path, folders.path, folders.folded, count(images.id)
        FROM folders
        JOIN roots ON roots.id = folders.root_id
        JOIN images ON images.folder_id = folders.id
        GROUP BY folders.id ORDER BY roots.path, folders.path"""
    ).fetchall()
    bases = {root: "/" + fold(root).replace("\\", "/").strip("/") + "/" for root, *_ in rows}
    return [
        FolderCount(root, path, f"{bases[root]}{folded}/", count)
        for root, path, folded, count in rows
    ]


def suggest_folders(known: list[FolderCount], prefix: str, limit: int) -> list[Suggestion]:
    """Folder names in which a word starts with ``prefix``, with the number of images that ``in:``
    matches. With a slash, ``prefix`` matches two nested folders, and so on. Folders above the roots
    are not suggested."""
    wanted = fold(prefix.lstrip("/"))
    size = wanted.count("/") + 1
    rough: Counter[str] = Counter()
    for folder in known:
        parts = [part for part in (root_name(folder.root), *folder.path.split("/")) if part]
        windows = {"/".join(parts[i : i + size]) for i in range(len(parts) - size + 1)}
        for window in windows:
            rough[window] += folder.count
    fitting = [(text, count) for text, count in rough.items() if starts_a_word(text, wanted)]
    fitting.sort(key=lambda one: (-one[1], one[0]))
    exact = [Suggestion("folder", text, _below(known, text)) for text, _ in fitting[:limit]]
    return sorted(exact, key=lambda one: (-one.count, fold(one.text)))


def _below(known: list[FolderCount], value: str) -> int:
    core, pattern = folder_pattern(value)
    return sum(
        folder.count for folder in known if core in folder.folded and pattern.search(folder.folded)
    )


def starts_a_word(text: str, folded_prefix: str) -> bool:
    """Whether a word of ``text`` starts with the prefix, ignoring case."""
    folded = fold(text)
    position = folded.find(folded_prefix)
    while position > 0 and folded[position - 1].isalnum():
        position = folded.find(folded_prefix, position + 1)
    return position >= 0


def months(connection: sqlite3.Connection) -> Months:
    """Images per month in the whole catalog."""
    rows = connection.execute(
        "SELECT substr(taken_at, 1, 7) AS month, count(*) FROM images"
        " WHERE taken_at IS NOT NULL GROUP BY month ORDER BY month"
    ).fetchall()
    (undated,) = connection.execute("SELECT count(*) FROM images WHERE taken_at IS NULL").fetchone()
    return Months(tuple(rows), undated)


def months_of(connection: sqlite3.Connection, ids: Ids) -> Months:
    """Images per month among a few ``ids``."""
    rows = connection.execute(
        f"SELECT substr(taken_at, 1, 7) AS month, count(*) FROM images WHERE id IN {LISTED}"
        " GROUP BY month ORDER BY month",
        [json.dumps(ids.tolist())],
    ).fetchall()
    return Months(
        tuple((month, count) for month, count in rows if month is not None),
        sum(count for month, count in rows if month is None),
    )


def months_among(dates: Dates, ids: Ids) -> Months:
    """Images per month among many ``ids``."""
    chosen = np.isin(dates.dated, ids)
    ends = np.cumsum([count for _, count in dates.months.months], dtype=np.int64)
    before = np.concatenate([[0], np.cumsum(chosen)])
    found = np.diff(before[np.concatenate([[0], ends])])
    return Months(
        tuple(
            (month, int(count))
            for (month, _), count in zip(dates.months.months, found, strict=True)
            if count
        ),
        int(np.isin(dates.undated, ids).sum()),
    )


def dates(connection: sqlite3.Connection) -> Dates:
    """The order of all images by date, and their months; of one moment."""

    def ordered(sql: str) -> Ids:
        return np.fromiter(chain.from_iterable(connection.execute(sql)), np.int64)

    return Dates(
        ordered("SELECT id FROM images WHERE taken_at IS NOT NULL ORDER BY taken_at, mtime_ns, id"),
        ordered("SELECT id FROM images WHERE taken_at IS NULL ORDER BY mtime_ns, id"),
        months(connection),
    )


def by_date(connection: sqlite3.Connection, ids: Ids, *, descending: bool) -> Ids:
    """A few ``ids`` by date, undated ones last."""
    way = "DESC" if descending else "ASC"
    rows = connection.execute(
        f"SELECT id FROM images WHERE id IN {LISTED}"
        f" ORDER BY taken_at IS NULL, taken_at {way}, mtime_ns {way}, id {way}",
        [json.dumps(ids.tolist())],
    )
    return np.fromiter(chain.from_iterable(rows), np.int64)


def among(dates: Dates, ids: Ids, *, descending: bool) -> Ids:
    """Many ``ids`` by date, undated ones last."""
    parts = [part[np.isin(part, ids)] for part in (dates.dated, dates.undated)]
    return np.concatenate([part[::-1] for part in parts] if descending else parts)
