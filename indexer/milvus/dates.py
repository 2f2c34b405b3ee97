"""The images of a collection by date: Milvus itself sorts nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sightline.indexer.dates import Precision, to_text
from sightline.indexer.milvus.connection import Milvus, all_of
from sightline.indexer.milvus.schema import UNKNOWN_MTIME, UNKNOWN_TIME, to_moment
from sightline.indexer.types import Ids

MAX_TIED = 200_000
"""Rows fetched at most when very many have the date at which the list is cut."""

_YEARS_1_TO_9999 = -62_135_596_800, 253_402_300_800
"""Seconds since 1970."""


def list_by_date(
    milvus: Milvus, collection: str, where: str, limit: int, *, descending: bool, level: str
) -> Ids:
    """The first ``limit`` ids of the rows that match ``where``, by date, undated ones last."""

    def first(condition: str, field: str, limit: int, bounds: tuple[int, int]) -> list[Any]:
        """About ``limit`` rows with the highest (lowest) values of ``field``: a binary search for
        the value that cuts off as many, and the rows on its side."""
        clause = all_of(where, condition)
        if milvus.count(collection, clause, level=level) > limit:
            low, high = bounds
            sign = ">=" if descending else "<="
            while high - low > 1:
                middle = (low + high) // 2
                count = milvus.count(
                    collection, all_of(clause, f"{field} {sign} {middle}"), level=level
                )
                if (count >= limit) == descending:
                    low = middle
                else:
                    high = middle
            clause = all_of(clause, f"{field} {sign} {low if descending else high}")
        columns = ["id", "taken", "mtime_ns"]
        return milvus.at_most(collection, clause, columns, MAX_TIED, level=level)

    found = first(f"taken > {UNKNOWN_TIME}", "taken", limit, _YEARS_1_TO_9999)
    if len(found) < limit:
        undated = f"taken == {UNKNOWN_TIME}"
        found += first(undated, "mtime_ns", limit - len(found), (UNKNOWN_MTIME, 2**62))
    return sort_by_date(found, descending=descending)[:limit]


def sort_by_date(rows: Sequence[dict[str, Any]], *, descending: bool) -> Ids:
    """Ids by date, undated ones last, in the order of ``catalog.facets.by_date``. ``rows`` have
    ``id``, ``taken`` and ``mtime_ns``."""
    ids, taken, mtime = (
        np.array([row[name] for row in rows], np.int64) for name in ("id", "taken", "mtime_ns")
    )
    sign = -1 if descending else 1
    return ids[np.lexsort((sign * ids, sign * mtime, sign * taken, taken == UNKNOWN_TIME))]


def may_be_year(taken: int) -> bool:
    """Whether it is the start of a year, so that perhaps only the year is known."""
    when = to_moment(taken)
    return when is not None and (when.month, when.day, when.hour, when.minute) == (1, 1, 0, 0)


def month_of(taken: int, precision: Precision = "second") -> str:
    """``2023-06``; ``2023`` if only the year is known, ``""`` for an unknown date."""
    when = to_moment(taken)
    return to_text(when, precision)[:7] if when else ""
