"""Filters -> an expression of Milvus, with the meaning that ``catalog.filters`` gives them in SQL.

A condition on an unknown value is not met, so its negation is. Folders, and parts of camera and
lens names, are looked up among the collection's facts, so that the expression compares whole
values. Milvus cannot compute distances: for ``near:`` the rows in the bounding box are fetched and
measured here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import partial
from typing import Any, Protocol

from sightline.indexer.catalog.filters import (
    ALL_HOLD,
    FAVOURITE,
    FORMATS,
    bounding_box,
    folder_pattern,
    is_country,
    kilometres,
    whole_words,
)
from sightline.indexer.catalog.full_text import fold, misspelled, plain, words_in
from sightline.indexer.errors import QueryError
from sightline.indexer.milvus.connection import all_of, is_among, quoted
from sightline.indexer.milvus.schema import from_json
from sightline.indexer.milvus.tokens import name_contains, without_wildcards
from sightline.indexer.types import EXACT_TEXT, Condition, Filters

MAX_CANDIDATES = 50_000
"""Rows that ``near:`` and ``name:`` fetch to check here; each match is an id in the expression."""

NO_IMAGE = "id < 0"
"""An expression that no row matches."""


@dataclass(frozen=True)
class Folder:
    """A folder that holds images, as the facts of a collection list it."""

    id: int
    root: str
    path: str
    folded: str
    """``/root/path/``, case-folded."""
    count: int


class Collection(Protocol):
    """What filters read from a collection."""

    def folders(self) -> Sequence[Folder]:
        """All of them."""

    def values(self, kind: str) -> Sequence[str]:
        """Every ``camera``, ``lens``, ``person``, name of a place, or word in an image."""

    @property
    def finds_names_by_ngrams(self) -> bool:
        """Whether the server has no infix LIKE, and the rows hold the n-grams of names instead."""

    def lists(self, kind: str) -> bool:
        """Whether the collection lists all values of ``kind``."""

    def similar_words(self, word: str) -> list[str]:
        """The words in images that are one reading error from ``word``."""

    def candidates(self, expression: str, fields: Sequence[str]) -> list[dict[str, Any]]:
        """The rows that match, at most ``MAX_CANDIDATES + 1``."""


def expression(filters: Filters, collection: Collection) -> str:
    """``""`` for no filters. Raises QueryError for a condition that cannot be expressed."""
    clauses: list[str] = []
    alternatives: dict[str, list[str]] = {}
    for condition in filters.conditions:
        if condition.name == "text" and condition.negated:
            condition = replace(condition, name=EXACT_TEXT)
        clause = _clause(condition, collection)
        if condition.negated:
            clauses.append(f"not ({clause})")
        elif condition.name in ALL_HOLD:
            clauses.append(clause)
        else:
            alternatives.setdefault(condition.name, []).append(clause)
    clauses += [" or ".join(f"({clause})" for clause in group) for group in alternatives.values()]
    return all_of(*clauses)


def _clause(condition: Condition, collection: Collection) -> str:
    make = _CLAUSES.get(condition.name)
    if make is None:
        raise QueryError(f"a Milvus collection cannot be filtered by {condition.name}:")
    value = condition.value
    if isinstance(value, str):
        value = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    try:
        return make(value, collection)
    except (TypeError, AttributeError, ValueError) as error:
        raise QueryError(f"{condition.name}: cannot be {condition.value!r}: {error}") from error


def _seconds(value: date) -> int:
    return int(datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp())


def _after(value: date, _: Collection) -> str:
    return f"taken >= {_seconds(value)}"


def _before(value: date, _: Collection) -> str:
    # An unknown date is stored as one before all others, and must not match.
    clause = f"taken < {_seconds(value)} and taken > {-(2**59)}"
    # A year and a month that end after the day, but start before it.
    around = {"year": value.replace(month=1, day=1), "month": value.replace(day=1)}
    for precision, start in around.items():
        if start < value:
            known = f'record["taken_precision"] == "{precision}"'
            clause += f" and not (taken == {_seconds(start)} and {known})"
    return clause


def _date(value: tuple[date, date], collection: Collection) -> str:
    first, end = value
    return all_of(_after(first, collection), _before(end, collection))


def _in(value: str, collection: Collection) -> str:
    core, pattern = folder_pattern(value)
    return _any_of(
        "folder",
        [
            folder.id
            for folder in collection.folders()
            if not core or (core in folder.folded and pattern.search(folder.folded))
        ],
    )


def _any_of(field: str, values: Sequence[int | str]) -> str:
    return is_among(field, values) if values else NO_IMAGE


def _contained(kind: str) -> Callable[[str, Collection], str]:
    def clause(value: str, collection: Collection) -> str:
        wanted = fold(value)
        return _any_of(kind, [name for name in collection.values(kind) if wanted in fold(name)])

    return clause


def _type(value: str, _: Collection) -> str:
    name = fold(value).lstrip(".")
    return f"format == {quoted(FORMATS.get(name, name))}"


def _is(value: str, _: Collection) -> str:
    shapes = {
        "portrait": "height > width",
        "landscape": "width > height",
        "square": "width == height",
    }
    if value.lower() == FAVOURITE:
        raise ValueError("a Milvus collection has no favourites")
    if value.lower() not in shapes:
        raise ValueError("use portrait, landscape or square")
    return shapes[value.lower()]


def _near(value: tuple[float, float, float], collection: Collection) -> str:
    latitude, longitude, radius = (float(number) for number in value)
    if not (abs(latitude) <= 90 and abs(longitude) <= 180 and 0 <= radius < math.inf):
        raise ValueError("use latitude -90..90, longitude -180..180 and kilometres")
    (low, high), spans = bounding_box(latitude, longitude, radius)
    # An unknown latitude is stored as a number above 90.
    box = f"latitude >= {low:.12f} and latitude <= {min(high, 90.1):.12f}"
    if spans:
        within = [f"(longitude >= {a:.12f} and longitude <= {b:.12f})" for a, b in spans]
        box += f" and ({' or '.join(within)})"
    found = collection.candidates(box, ["id", "latitude", "longitude"])
    if len(found) > MAX_CANDIDATES:
        raise QueryError(
            f"near: more than {MAX_CANDIDATES:,} images are around there, more than a Milvus"
            " collection can check: use a smaller radius"
        )
    return _any_of(
        "id",
        [
            row["id"]
            for row in found
            if kilometres(row["latitude"], row["longitude"], latitude, longitude) <= radius
        ],
    )


def _listed(field: str) -> Callable[[str, Collection], str]:
    return lambda value, _: f"array_contains({field}, {quoted(fold(value))})"


def _person(value: str, collection: Collection) -> str:
    pattern = whole_words(value)
    names = [name for name in map(fold, collection.values("person")) if pattern.search(name)]
    return _in_record("people_folded", names)


def _place(value: str, collection: Collection) -> str:
    pattern = whole_words(plain(value))
    return _in_record("places", [one for one in collection.values("places") if pattern.search(one)])


def _country(value: str, collection: Collection) -> str:
    names = collection.values("countries")
    return _in_record("countries", [one for one in names if is_country(value, one)])


def _text(value: str, collection: Collection, *, exact: bool = False) -> str:
    words = words_in(value)
    if not words:
        raise ValueError("there is no word in it")
    is_prefix = value.rstrip().endswith("*")
    if is_prefix and not collection.lists("written"):
        raise QueryError(
            "text: an earlier version filled this collection: import into it again to search"
            " for the beginnings of words"
        )
    wanted = [words]
    if not exact:
        wanted += misspelled(words, collection.similar_words, is_prefix=is_prefix)
    return any_written(wanted, collection, is_prefix=is_prefix)


def any_written(
    wanted: Sequence[Sequence[str]], collection: Collection, *, is_prefix: bool = False
) -> str:
    """Images in which the words of one of ``wanted`` are written one after the other, the last one
    as a prefix if ``is_prefix``."""
    alone = [word for word, *others in wanted if not others]
    phrases = [words for words in wanted if len(words) > 1]
    if alone and is_prefix:
        alone = _started(alone[0], collection)
    clauses = [_in_record("written", alone)] if alone else []
    if phrases:
        clauses.append(_any_of("id", _with_phrase(phrases, collection, is_prefix=is_prefix)))
    return " or ".join(f"({clause})" for clause in clauses) or NO_IMAGE


def _started(prefix: str, collection: Collection) -> list[str]:
    return [one for one in collection.values("written") if one.startswith(prefix)]


def _with_phrase(
    phrases: Sequence[Sequence[str]], collection: Collection, *, is_prefix: bool
) -> list[int]:
    """The ids of images in which one of ``phrases`` is written."""
    clauses = []
    for words in phrases:
        whole = words[:-1] if is_prefix else words
        clause = f'json_contains_all(record["written"], [{", ".join(map(quoted, whole))}])'
        if is_prefix:
            clause = all_of(clause, _in_record("written", _started(words[-1], collection)))
        clauses.append(f"({clause})")
    found = collection.candidates(" or ".join(clauses), ["id", "record"])
    if len(found) > MAX_CANDIDATES:
        raise QueryError(
            f"text: more than {MAX_CANDIDATES:,} images hold these words, more than can be"
            " searched for a phrase: use fewer words"
        )
    wanted = [f" {' '.join(words)}" + ("" if is_prefix else " ") for words in phrases]
    return [row["id"] for row in found if any(one in _text_of(row) for one in wanted)]


def _text_of(row: dict[str, Any]) -> str:
    """The words in an image, in order, each between two spaces."""
    lines = from_json(row["record"]).get("lines") or []
    return f" {' '.join(word for text, *_ in lines for word in words_in(text))} "


def _in_record(name: str, values: Sequence[str]) -> str:
    """A list in the record that has one of ``values``."""
    listed = ", ".join(map(quoted, values))
    return f'json_contains_any(record["{name}"], [{listed}])' if values else NO_IMAGE


def _rating(value: int, _: Collection) -> str:
    return f"rating >= {max(int(value), 0)}"


def _name(value: str, collection: Collection) -> str:
    wanted = fold(value)
    if not wanted:
        return "id >= 0"
    stored = without_wildcards(wanted)
    if not collection.finds_names_by_ngrams:
        return f"name like {quoted(f'%{stored}%')}"
    clause, exact = name_contains(wanted)
    if exact:
        return clause
    found = collection.candidates(clause, ["id", "name"])
    if len(found) > MAX_CANDIDATES:
        raise QueryError(
            f"name: more than {MAX_CANDIDATES:,} names may match, more than Milvus before 2.4 can"
            " check: write more of the name, or three characters of it"
        )
    return _any_of("id", [row["id"] for row in found if stored in row["name"]])


_CLAUSES: dict[str, Callable[[Any, Collection], str]] = {
    "after": _after,
    "before": _before,
    "date": _date,
    "in": _in,
    "camera": _contained("camera"),
    "lens": _contained("lens"),
    "type": _type,
    "is": _is,
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
