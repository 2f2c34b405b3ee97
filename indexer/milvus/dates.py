"""Pictures of a collection by date: Milvus sorts nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sightline.indexer.milvus.connection import Milvus
from sightline.indexer.milvus.schema import UNKNOWN_TIME, moment
from sightline.indexer.types import Ids

MOST_TIED = 200_000
"""Rows that are read at most, where very many have the date that cuts off."""


def listed(
    milvus: Milvus, collection: str, level: str, where: str, most: int, *, descending: bool
) -> Ids:
    """What meets an expression by date, the first ``most`` of it, those without a date last."""
    dated = _and(where, f"taken > {UNKNOWN_TIME}")
    found = _first(milvus, collection, level, dated, "taken", most, descending=descending)
    if len(found) < most:
        undated, room = _and(where, f"taken == {UNKNOWN_TIME}"), most - len(found)
        found += _first(milvus, collection, level, undated, "mtime_ns", room, descending=descending)
    return by_date(found, descending=descending)[:most]


def by_date(rows: Sequence[dict[str, Any]], *, descending: bool) -> Ids:
    """Ids by date, those without one last, as ``catalog_facets.by_date`` orders them."""
    ids = np.array([row["id"] for row in rows], np.int64)
    taken = np.array([row["taken"] for row in rows], np.int64)
    mtime = np.array([row["mtime_ns"] for row in rows], np.int64)
    undated = taken == UNKNOWN_TIME
    sign = -1 if descending else 1
    order = np.lexsort((sign * ids, sign * mtime, sign * taken, undated))
    return ids[order]


def month_of(taken: int) -> str:
    """``2023-06``; ``""`` where no date is known."""
    when = moment(taken)
    return f"{when:%Y-%m}" if when and when.year >= 1000 else (when.isoformat()[:7] if when else "")


def _first(
    milvus: Milvus,
    collection: str,
    level: str,
    where: str,
    field: str,
    most: int,
    *,
    descending: bool,
) -> list[dict[str, Any]]:
    """About ``most`` rows with the highest (lowest) values of ``field``, all where there are
    not more: Milvus sorts nothing, so the value that cuts off as many is looked for."""
    if milvus.count(collection, where, level=level) > most:
        low, high = -(2**62), 2**62
        if field == "taken":  # from the year 1 to the year 9999
            low, high = -62_135_596_800, 253_402_300_800
        sign = ">=" if descending else "<="
        while high - low > 1:
            middle = (low + high) // 2
            cut = _and(where, f"{field} {sign} {middle}")
            enough = milvus.count(collection, cut, level=level) >= most
            if enough == descending:
                low = middle
            else:
                high = middle
        where = _and(where, f"{field} {sign} {low if descending else high}")
    wanted = ["id", "taken", "mtime_ns"]
    found: list[dict[str, Any]] = []
    for rows in milvus.every(collection, where, wanted, level=level):
        found += rows
        if len(found) > MOST_TIED:
            break
    return found


def _and(first: str, second: str) -> str:
    return f"({first}) and ({second})" if first else second
