"""Filters -> an expression of Milvus, with the meaning that ``catalog_filters`` gives them in SQL.

A condition about something that is not known is not met, so its negation is. Parts of a camera's
or a lens's name, and folders, are looked up among the collection's facts, so that the expression
compares whole values. A circle (``near:``) has no expression: the box around it is asked for, and
what lies in it is measured here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Protocol

from sightline.indexer.catalog.filters import (
    ALL_HOLD,
    EARTH_RADIUS,
    FORMATS,
    folder_pattern,
    kilometres,
)
from sightline.indexer.catalog.full_text import fold
from sightline.indexer.errors import QueryError
from sightline.indexer.milvus.connection import quoted
from sightline.indexer.milvus.words import named
from sightline.indexer.types import Condition, Filters

NEAR = 50_000
"""Pictures in the box of ``near:`` that are measured; each is a number in the expression."""

NOBODY = "id < 0"
"""What no picture meets."""


@dataclass(frozen=True)
class Folder:
    """A folder that holds pictures, as the facts know it."""

    id: int
    root: str
    path: str
    folded: str
    """``/root/path/``, folded."""
    count: int


class Facts(Protocol):
    """What filters need to know of a collection."""

    def folders(self) -> Sequence[Folder]:
        """All of them."""

    def values(self, kind: str) -> Sequence[str]:
        """Every camera or lens."""

    def located(self, box: str) -> Sequence[tuple[int, float, float]]:
        """``(id, latitude, longitude)`` of what meets an expression, at most ``NEAR + 1``."""

    def by_parts(self) -> bool:
        """Whether names are looked into by their parts."""

    def names(self, candidates: str) -> Sequence[tuple[int, str]]:
        """``(id, name)`` of what meets an expression, at most ``NEAR + 1``."""


def expression(filters: Filters, facts: Facts) -> str:
    """``""`` where there are no filters. QueryError for a condition that is none."""
    clauses: list[str] = []
    alternatives: dict[str, list[str]] = {}
    for condition in filters.conditions:
        clause = _clause(condition, facts)
        if condition.negated:
            clauses.append(f"not ({clause})")
        elif condition.name in ALL_HOLD:
            clauses.append(clause)
        else:
            alternatives.setdefault(condition.name, []).append(clause)
    clauses += [" or ".join(f"({clause})" for clause in group) for group in alternatives.values()]
    return " and ".join(f"({clause})" for clause in clauses)


def _clause(condition: Condition, facts: Facts) -> str:
    make = _CLAUSES.get(condition.name)
    if make is None:
        raise QueryError(f"a Milvus collection cannot be filtered by {condition.name}:")
    value = condition.value
    if isinstance(value, str):
        value = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    try:
        return make(value, facts)
    except (TypeError, AttributeError, ValueError) as error:
        raise QueryError(f"{condition.name}: cannot be {condition.value!r}: {error}") from error


def plain(name: str) -> str:
    """``name`` with other signs for those that mean something to LIKE: of the stores' ways to
    escape them, one (Milvus Lite's, beside a condition on a list) does not work."""
    return name.translate(_SIGNS)


_SIGNS = {ord(sign): 0xE000 + n for n, sign in enumerate("_%\\")}
"""Into Unicode's private use area."""


def _day(value: date) -> int:
    return int(datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp())


def _after(value: date, _: Facts) -> str:
    return f"taken >= {_day(value)}"


def _before(value: date, _: Facts) -> str:
    # What is not dated has a date before all others, and it is not met.
    return f"taken < {_day(value)} and taken > {-(2**59)}"


def _in(value: str, facts: Facts) -> str:
    core, pattern = folder_pattern(value)
    ids = [
        folder.id
        for folder in facts.folders()
        if not core or (core in folder.folded and pattern.search(folder.folded))
    ]
    return _among("folder", ids)


def _among(field: str, values: Sequence[int | str]) -> str:
    if not values:
        return NOBODY
    listed = ", ".join(quoted(v) if isinstance(v, str) else str(v) for v in values)
    return f"{field} in [{listed}]"


def _contained(kind: str) -> Callable[[str, Facts], str]:
    def clause(value: str, facts: Facts) -> str:
        wanted = fold(value)
        return _among(kind, [name for name in facts.values(kind) if wanted in fold(name)])

    return clause


def _type(value: str, _: Facts) -> str:
    name = fold(value).lstrip(".")
    return f"format == {quoted(FORMATS.get(name, name))}"


def _is(value: str, _: Facts) -> str:
    shapes = {
        "portrait": "height > width",
        "landscape": "width > height",
        "square": "width == height",
    }
    if value.lower() not in shapes:
        raise ValueError("portrait, landscape or square is meant")
    return shapes[value.lower()]


def _near(value: tuple[float, float, float], facts: Facts) -> str:
    latitude, longitude, radius = (float(number) for number in value)
    if not (abs(latitude) <= 90 and abs(longitude) <= 180 and 0 <= radius < math.inf):
        raise ValueError("latitude -90..90, longitude -180..180 and kilometres are meant")
    found = facts.located(_box(latitude, longitude, radius))
    if len(found) > NEAR:
        raise QueryError(
            f"near: more than {NEAR:,} pictures lie around there, which is more than a Milvus"
            " collection can be asked for: take a smaller circle"
        )
    ids = [i for i, a, b in found if kilometres(a, b, latitude, longitude) <= radius]
    return _among("id", ids)


def _box(latitude: float, longitude: float, radius: float) -> str:
    """As ``catalog_filters._box``, with a wider margin: what lies in it is measured anyway."""
    angle = radius / EARTH_RADIUS
    margin = 1e-6
    low, high = latitude - math.degrees(angle) - margin, latitude + math.degrees(angle) + margin
    inside = f"latitude >= {low:.9f} and latitude <= {min(high, 90.1):.9f}"
    if low <= -90 or high >= 90:
        return inside
    ratio = math.sin(angle) / math.cos(math.radians(latitude))
    across = math.degrees(math.asin(min(1.0, ratio))) + margin
    west, east = longitude - across, longitude + across
    spans = [(west, east)]
    if west < -180:
        spans = [(-180.0, east), (west + 360, 180.0)]
    elif east > 180:
        spans = [(west, 180.0), (-180.0, east - 360)]
    meridians = " or ".join(f"(longitude >= {a:.9f} and longitude <= {b:.9f})" for a, b in spans)
    return f"{inside} and ({meridians})"


def _listed(field: str) -> Callable[[str, Facts], str]:
    return lambda value, _: f"array_contains({field}, {quoted(fold(value))})"


def _rating(value: int, _: Facts) -> str:
    return f"rating >= {int(value)}" if int(value) >= 0 else "rating >= 0"


def _name(value: str, facts: Facts) -> str:
    wanted = fold(value)
    if not wanted:
        return "id >= 0"
    if not facts.by_parts():
        return f"name like {quoted(f'%{plain(wanted)}%')}"
    clause, sure = named(wanted)
    if sure:
        return clause
    found = facts.names(clause)
    if len(found) > NEAR:
        raise QueryError(
            f"name: more than {NEAR:,} pictures may be called so, which is more than Milvus before"
            " 2.4 can be asked for: write more of the name, or three signs of it"
        )
    return _among("id", [i for i, name in found if plain(wanted) in name])


_CLAUSES: dict[str, Callable[[Any, Facts], str]] = {
    "after": _after,
    "before": _before,
    "in": _in,
    "camera": _contained("camera"),
    "lens": _contained("lens"),
    "type": _type,
    "is": _is,
    "near": _near,
    "label": _listed("labels"),
    "keyword": _listed("keywords"),
    "rating": _rating,
    "name": _name,
}
