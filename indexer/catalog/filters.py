"""Filters -> SQL: which images meet a search's conditions, exactly.

A condition on a fact that is unknown of an image (its date, its location) is false, so its negation
is true. ``types.Condition`` documents every condition; two need more detail:

``in:`` matches whole words anywhere in root/folder, ignoring case: ``in:italy`` matches
``2023-07 Italy/Rome`` and everything below it, but not ``Italyna``; ``in:2023/Italy`` requires one
folder below the other. A slash at either end anchors that end to a whole folder name:
``in:/Italy/`` matches only folders with exactly that name. File names are ignored.

``near:`` is the great-circle distance on a sphere of 6,371.0088 km (the IUGG mean radius), within
0.6% of the ellipsoid.
"""

from __future__ import annotations

import json
import math
import re
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from typing import Any

from sightline.indexer.catalog.full_text import fold, plain, written
from sightline.indexer.catalog.kept import FAVOURITES, MEMBERS
from sightline.indexer.dates import shortest
from sightline.indexer.errors import QueryError
from sightline.indexer.types import EXACT_TEXT, Condition, Filters

EARTH_RADIUS = 6371.0088
"""Kilometres."""

FORMATS = {
    "jpg": "jpeg", "jpe": "jpeg", "jfif": "jpeg", "tif": "tiff", "heic": "heif", "hif": "heif",
    "heics": "heif", "heifs": "heif", "dib": "bmp", "apng": "png", "avifs": "avif",
    "dng": "raw", "cr2": "raw", "cr3": "raw", "nef": "raw", "arw": "raw", "orf": "raw",
    "raf": "raw", "rw2": "raw", "pef": "raw",
}  # fmt: skip
"""Other names of formats, mostly file extensions."""

ALL_HOLD = frozenset(
    {"after", "before", "rating", "label", "keyword", "person", "text", EXACT_TEXT, "collection"}
)
"""Names whose positive conditions must all hold; of other names, one must."""

FAVOURITE = "favourite"
"""The value of ``is:`` for the favourites."""

Clause = tuple[str, list]
"""An SQL expression over ``images`` (true, false or null) and its parameters."""


def prepare(connection: sqlite3.Connection) -> None:
    """Registers the SQL functions that the conditions use."""
    connection.create_function("kilometres", 4, kilometres, deterministic=True)


def kilometres(latitude: float, longitude: float, other: float, elsewhere: float) -> float:
    """The great-circle distance of two points in degrees (haversine)."""
    a, b = math.radians(latitude), math.radians(other)
    across = math.radians(elsewhere - longitude)
    h = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(across / 2) ** 2
    return 2 * EARTH_RADIUS * math.asin(min(1.0, math.sqrt(h)))


def where(connection: sqlite3.Connection, filters: Filters) -> Clause:
    """The SQL expression for ``filters``. Matching folder, camera and lens names are looked up
    here, so that the query over images uses an index. Raises QueryError for an invalid
    condition."""
    clauses: list[Clause] = []
    alternatives: dict[str, list[Clause]] = {}
    for condition in filters.conditions:
        if condition.negated and condition.name == "text":
            condition = replace(condition, name=EXACT_TEXT)
        sql, parameters = _clause(connection, condition)
        if condition.negated:
            clauses.append((f"({sql}) IS NOT TRUE", parameters))
        elif condition.name in ALL_HOLD:
            clauses.append((sql, parameters))
        else:
            # A shape and the favourites are no alternatives: is:portrait is:favourite.
            group = "favourite" if condition.value == FAVOURITE else condition.name
            alternatives.setdefault(group, []).append((sql, parameters))
    clauses += [_joined(group, " OR ") for group in alternatives.values()]
    return _joined(clauses, " AND ") if clauses else ("TRUE", [])


def _joined(clauses: Sequence[Clause], word: str) -> Clause:
    sql = word.join(f"({sql})" for sql, _ in clauses)
    return sql, [parameter for _, parameters in clauses for parameter in parameters]


def _clause(connection: sqlite3.Connection, condition: Condition) -> Clause:
    make = _CLAUSES.get(condition.name)
    if make is None:
        raise QueryError(f"there is no filter named {condition.name!r}")
    value = condition.value
    if isinstance(value, str):  # SQLite rejects half of a surrogate pair; no name contains one
        value = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    try:
        return make(connection, value)
    except (TypeError, AttributeError, ValueError) as error:
        raise QueryError(f"{condition.name}: cannot be {condition.value!r}: {error}") from error


def _after(_: sqlite3.Connection, value: date) -> Clause:
    return "images.taken_at >= ?", [shortest(_day(value))]


def _before(_: sqlite3.Connection, value: date) -> Clause:
    # A year and a month that end after the day, but start before it.
    day = _day(value)
    limit = shortest(day)
    around = [limit[:length] for length in (4, 7) if length < len(limit)]
    return f"images.taken_at < ? AND images.taken_at NOT IN ({_marks(around)})", [limit, *around]


def _date(connection: sqlite3.Connection, value: tuple[date, date]) -> Clause:
    first, end = value
    return _joined([_after(connection, first), _before(connection, end)], " AND ")


def _day(value: date) -> date:
    return date(value.year, value.month, value.day)


def _marks(values: Sequence) -> str:
    return ", ".join("?" * len(values))


def _in(connection: sqlite3.Connection, value: str) -> Clause:
    folders = folders_named(connection, value)
    return "images.folder_id IN (SELECT value FROM json_each(?))", [json.dumps(folders)]


def folder_pattern(value: str) -> tuple[str, re.Pattern[str]]:
    """``(text, pattern)``: ``in:value`` matches a folded path ``/root/folder/`` that contains the
    text and the pattern."""
    folded = fold(value.strip()).replace("\\", "/")
    core = folded.strip("/")
    start = "(?<=/)" if folded.startswith("/") else r"(?<![^\W_])"
    end = "(?=/)" if folded.endswith("/") else r"(?![^\W_])"
    return core, re.compile(start + re.escape(core) + end)


def folders_named(connection: sqlite3.Connection, value: str) -> list[int]:
    """Ids of the folders that ``in:value`` matches, including those below."""
    core, pattern = folder_pattern(value)
    if not core:
        return [folder for (folder,) in connection.execute("SELECT id FROM folders")]
    found: list[int] = []
    for root, path in connection.execute("SELECT id, path FROM roots").fetchall():
        base = "/" + fold(path).replace("\\", "/").strip("/") + "/"
        rows = connection.execute(
            "SELECT id, folded FROM folders WHERE root_id = ? AND instr(? || folded, ?)",
            [root, base, core],
        )
        found += [folder for folder, folded in rows if pattern.search(f"{base}{folded}/")]
    return found


def _contained(column: str) -> Callable[[sqlite3.Connection, str], Clause]:
    def clause(connection: sqlite3.Connection, value: str) -> Clause:
        wanted = fold(value)
        names = [name for name in distinct(connection, column) if wanted in fold(name)]
        return f"images.{column} IN ({_marks(names)})", names

    return clause


def distinct(connection: sqlite3.Connection, column: str, table: str = "images") -> list[str]:
    """The distinct values of an indexed column: one index lookup per value, where
    DISTINCT scans every row."""
    rows = connection.execute(
        f"""WITH RECURSIVE each (value) AS (
            SELECT min({column}) FROM {table}
            UNION ALL
            SELECT (SELECT min({column}) FROM {table} WHERE {column} > value) FROM each
            WHERE value IS NOT NULL
        ) SELECT value FROM each WHERE value IS NOT NULL"""
    )
    return [value for (value,) in rows if isinstance(value, str)]


def _type(_: sqlite3.Connection, value: str) -> Clause:
    name = fold(value).lstrip(".")
    return "images.format = ?", [FORMATS.get(name, name)]


def _is(_: sqlite3.Connection, value: str) -> Clause:
    if value.lower() == FAVOURITE:
        return _in_collection(FAVOURITES)
    shapes = {
        "portrait": "images.height > images.width",
        "landscape": "images.width > images.height",
        "square": "images.width = images.height AND images.width > 0",
    }
    if value.lower() not in shapes:
        raise ValueError("portrait, landscape, square or favourite is meant")
    return shapes[value.lower()], []


def _collection(connection: sqlite3.Connection, value: str) -> Clause:
    sql = "SELECT id FROM collections WHERE folded = ?"
    row = connection.execute(sql, [fold(" ".join(value.split()))]).fetchone()
    return ("FALSE", []) if row is None else _in_collection(row[0])


def _in_collection(id: int) -> Clause:
    return f"images.id IN (SELECT id FROM ({MEMBERS.replace('?1', '?')}))", [id, id]


def _near(_: sqlite3.Connection, value: tuple[float, float, float]) -> Clause:
    latitude, longitude, radius = (float(number) for number in value)
    if not (abs(latitude) <= 90 and abs(longitude) <= 180 and 0 <= radius < math.inf):
        raise ValueError("latitude -90..90, longitude -180..180 and kilometres are meant")
    (low, high), spans = bounding_box(latitude, longitude, radius)
    sql = "images.latitude IS NOT NULL AND images.latitude BETWEEN ? AND ?"
    if spans:
        sql += f" AND ({' OR '.join('images.longitude BETWEEN ? AND ?' for _ in spans)})"
    sql += " AND kilometres(images.latitude, images.longitude, ?, ?) <= ?"
    degrees = [degree for span in spans for degree in span]
    return sql, [low, high, *degrees, latitude, longitude, radius]


Span = tuple[float, float]


def bounding_box(latitude: float, longitude: float, radius: float) -> tuple[Span, list[Span]]:
    """The latitudes of a circle of ``radius`` kilometres, and its one or two spans of longitudes
    (two across the date line; none over a pole, where every longitude counts), in degrees.

    The meridians that touch a circle of angular radius r about latitude p lie asin(sin r / cos p)
    away (J. P. Matuschek, "Finding points within a distance of a latitude/longitude").
    """
    angle = radius / EARTH_RADIUS
    margin = 1e-9  # degrees (0.1 mm), for rounding errors
    low = latitude - math.degrees(angle) - margin
    high = latitude + math.degrees(angle) + margin
    if low <= -90 or high >= 90:
        return (low, high), []
    ratio = math.sin(angle) / math.cos(math.radians(latitude))
    across = math.degrees(math.asin(min(1.0, ratio))) * (1 + 1e-9) + margin
    west, east = longitude - across, longitude + across
    spans = [(west, east)]
    if west < -180:
        spans = [(-180.0, east), (west + 360, 180.0)]
    elif east > 180:
        spans = [(west, 180.0), (-180.0, east - 360)]
    return (low, high), spans


def _listed(table: str) -> Callable[[sqlite3.Connection, str], Clause]:
    def clause(_: sqlite3.Connection, value: str) -> Clause:
        return f"images.id IN (SELECT image_id FROM {table} WHERE folded = ?)", [fold(value)]

    return clause


def _person(connection: sqlite3.Connection, value: str) -> Clause:
    pattern = whole_words(value)
    names = [name for name in distinct(connection, "folded", "people") if pattern.search(name)]
    sql = (
        "images.id IN (SELECT image_id FROM people"
        " WHERE folded IN (SELECT value FROM json_each(?)))"
    )
    return sql, [json.dumps(names)]


def _place(connection: sqlite3.Connection, value: str) -> Clause:
    pattern = whole_words(plain(value))
    sql = "SELECT id, district, city, region, country FROM locations"
    locations = [
        location
        for location, *names in connection.execute(sql)
        if any(pattern.search(plain(name)) for name in names)
    ]
    places = [place for place in distinct(connection, "place") if pattern.search(plain(place))]
    listed = "(SELECT value FROM json_each(?))"
    return (
        f"images.location_id IN {listed} OR images.place IN {listed}",
        [json.dumps(locations), json.dumps(places)],
    )


def _country(connection: sqlite3.Connection, value: str) -> Clause:
    locations = [
        location
        for location, code, name in connection.execute(
            "SELECT id, country_code, country FROM locations"
        )
        if is_country(value, plain(code)) or is_country(value, plain(name))
    ]
    return "images.location_id IN (SELECT value FROM json_each(?))", [json.dumps(locations)]


def _text(connection: sqlite3.Connection, value: str, *, exact: bool = False) -> Clause:
    match = written(connection, value, exact=exact)
    if match is None:
        raise ValueError("there is no word in it")
    return "images.id IN (SELECT rowid FROM words WHERE words MATCH ?)", [match]


def is_country(value: str, name: str) -> bool:
    """Whether ``value`` is the code ``name``, or words of the country's ``name``."""
    wanted = plain(value.strip())
    return wanted == name if len(name) == 2 else whole_words(wanted).search(name) is not None


def whole_words(value: str) -> re.Pattern[str]:
    """Matches folded text that contains ``value`` as whole words."""
    return re.compile(rf"(?<![^\W_]){re.escape(fold(value.strip()))}(?![^\W_])")


def _rating(_: sqlite3.Connection, value: int) -> Clause:
    return "images.rating >= ?", [int(value)]


def _name(_: sqlite3.Connection, value: str) -> Clause:
    return "instr(images.folded, ?)", [fold(value)]


_CLAUSES: dict[str, Callable[[sqlite3.Connection, Any], Clause]] = {
    "after": _after,
    "before": _before,
    "date": _date,
    "in": _in,
    "camera": _contained("camera"),
    "lens": _contained("lens"),
    "type": _type,
    "is": _is,
    "collection": _collection,
    "near": _near,
    "label": _listed("labels"),
    "keyword": _listed("keywords"),
    "person": _person,
    "text": _text,
    EXACT_TEXT: partial(_text, exact=True),
    "place": _place,
    "country": _country,
    "rating": _rating,
    "name": _name,
}
