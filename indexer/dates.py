"""Dates of which only a part is known: a year, a month, a day.

A date is a ``datetime`` at the start of what is known, and its precision. As text it is as much of
ISO 8601 as is known: ``1943``, ``1962-08``, ``2004-03-07``, ``2004-03-07T09:05:03``. Texts sort
like the dates, a partial one before those within it.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Literal, get_args

Precision = Literal["year", "month", "day", "second"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_LENGTH = {"year": 4, "month": 7, "day": 10}


def to_text(moment: datetime, precision: Precision) -> str:
    """The known part of ``moment``, without a time zone."""
    return moment.replace(tzinfo=None).isoformat()[: _LENGTH.get(precision)]


def from_text(text: str) -> tuple[datetime, Precision]:
    """The inverse of ``to_text``. Raises ``ValueError`` for anything else."""
    for precision in PRECISIONS[:-1]:
        if len(text) == _LENGTH[precision]:
            return datetime.fromisoformat((text + "-01-01")[:10]), precision
    return datetime.fromisoformat(text), "second"


def shortest(day: date) -> str:
    """The shortest text of ``day``: ``2012`` for the first of January, ``2012-06`` for the first of
    June. Texts of dates on that day or later are not below it; of earlier ones, they are."""
    if day.day > 1:
        return date(day.year, day.month, day.day).isoformat()
    return to_text(datetime(day.year, day.month, 1), "month" if day.month > 1 else "year")


def end_of(day: date, precision: Precision) -> date:
    """The day after the period that starts on ``day``; the last day of all for one in 9999."""
    try:
        if precision == "year":
            return date(day.year + 1, 1, 1)
        if precision == "month":
            return date(day.year + day.month // 12, day.month % 12 + 1, 1)
        return day + timedelta(days=1)
    except (ValueError, OverflowError):
        return date.max
