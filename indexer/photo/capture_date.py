"""When a photo was taken, as far as its metadata or its file name tell.

Sources, the best first (``SOURCES``): the date of capture in EXIF, XMP and IPTC; a sidecar file;
the file's name; the date at which it was digitised; the date at which the file was written. The
last three say something else than when the photo was taken, so ``PhotoInfo.taken_from`` names the
source. A better source counts although it knows the year only.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import PurePosixPath
from typing import NamedTuple

from sightline.indexer.dates import Precision
from sightline.indexer.types import PhotoInfo

SOURCES = ("exif", "xmp", "iptc", "sidecar", "name", "digitized", "modified")

FIRST_YEAR = 1826
"""Of the oldest surviving photograph."""

FIRST_DIGITAL_YEAR = 1990
"""Of a name that a camera or an app made."""


class CaptureDate(NamedTuple):
    """A date, as far as it is known."""

    moment: datetime
    """Local time; the start of what is known."""
    precision: Precision


def with_date(info: PhotoInfo, found: CaptureDate | None, source: str) -> PhotoInfo:
    """``info`` with the date ``found`` in ``source`` (one of ``SOURCES``), unless it has one of a
    source that is as good."""
    if found is None or (info.taken_at is not None and rank(info) <= SOURCES.index(source)):
        return info
    return replace(info, taken_at=found.moment, taken_precision=found.precision, taken_from=source)


def rank(info: PhotoInfo) -> int:
    """The position of the date's source in ``SOURCES``. Earlier versions stored no source; theirs
    was metadata."""
    if info.taken_at is None:
        return len(SOURCES)
    return SOURCES.index(info.taken_from) if info.taken_from in SOURCES else 0


# text in metadata ---------------------------------------------------------------------------------

_SEPARATED = re.compile(
    r"\s*(\d{4})(?!\d)"
    r"(?:[:/.-]\s?(\d{1,2})(?!\d)"
    r"(?:[:/.-]\s?(\d{1,2})(?!\d)"
    r"(?:[ T]+(\d{1,2}):\s?(\d{1,2})(?::\s?(\d{1,2})(?:\.(\d{1,6}))?)?)?)?)?",
    re.ASCII,
)
"""``2004:03:07 09:05:03.25`` of EXIF and ISO 8601, up to where it ends or is blank."""

_COMPACT = re.compile(r"\s*(\d{4})(\d\d)(\d\d)(?:T?(\d\d):?(\d\d):?(\d\d))?(?!\d)", re.ASCII)
"""``20040307`` of IPTC."""


def from_metadata(text: str, fraction: str = "") -> CaptureDate | None:
    """The date in a value of EXIF, XMP or IPTC. Zeros and blanks are unknown parts, a UTC offset is
    ignored; None for an invalid date. ``fraction`` are the digits of EXIF's fraction of a second.
    """
    found = _COMPACT.match(text) or _SEPARATED.match(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, *rest = found.groups()
    digits = rest[0] if rest and rest[0] else fraction
    micro = int(digits[:6].ljust(6, "0")) if digits.isdecimal() and digits.isascii() else 0
    return _capture_date(year, month, day, (hour, minute, second), micro)


def _capture_date(
    year: str,
    month: str | None,
    day: str | None,
    time: tuple[str | None, str | None, str | None] = (None, None, None),
    micro: int = 0,
) -> CaptureDate | None:
    try:
        if int(year) < FIRST_YEAR:
            return None
        if not int(month or 0):
            return CaptureDate(datetime(int(year), 1, 1), "year")
        if not int(day or 0):
            return CaptureDate(datetime(int(year), int(month or 0), 1), "month")
        moment = datetime(int(year), int(month or 0), int(day or 0))
    except ValueError:
        return None
    if time[0] is None:
        return CaptureDate(moment, "day")
    hour, minute, second = (int(part or 0) for part in time)
    try:
        # Second 60 is a leap second.
        moment = moment.replace(hour=hour, minute=minute, second=min(second, 59), microsecond=micro)
    except ValueError:
        return CaptureDate(moment, "day")
    return CaptureDate(moment, "second")


# file names ---------------------------------------------------------------------------------------

_IN_NAME = re.compile(
    r"(?<!\d)(?P<year>\d{4})(?P<gap>[-_.]?)(?P<month>\d\d)(?P=gap)(?P<day>\d\d)"
    r"(?:"
    r"(?:[-_T ]|[-_ ]?\b(?:at|um|à|a las|alle|om|kl\.?)\b )?"
    r"(?P<hour>\d\d)(?P<between>[-_.:]?)(?P<minute>\d\d)(?P=between)(?P<second>\d\d)"
    r"(?:\d{3})?(?!\d)(?:[ \u202f\xa0]?(?P<half>[ap])\.?m\b)?"
    r")?(?![0-9A-Za-z])",
    re.IGNORECASE,
)
"""``IMG_20190305_120301``, ``Screenshot 2019-03-05 at 12.03.01 PM``; milliseconds are ignored."""

_EPOCH = re.compile(r"(?:FB_IMG_|mmexport)(\d{13})(?!\d)", re.IGNORECASE)
"""Milliseconds since 1970: Facebook, WeChat."""


def from_name(path: str) -> CaptureDate | None:
    """The date in the name of the file at ``path``, as cameras, phones, messengers and screenshots
    write it, if it is plausible: not in the future, and since 1990 unless it is ``1962-08-03``.

    Names of Pixel (``PXL_``), Facebook and WeChat are in UTC, which is not corrected.
    """
    stem = PurePosixPath(path).stem
    if epoch := _EPOCH.match(stem):
        moment = datetime(1970, 1, 1) + timedelta(milliseconds=int(epoch[1]))
        return CaptureDate(moment.replace(microsecond=0), "second") if _plausible(moment) else None
    for found in _IN_NAME.finditer(stem):
        time = found["hour"], found["minute"], found["second"]
        if found["half"]:
            hour = int(found["hour"]) % 12 + (12 if found["half"].lower() == "p" else 0)
            time = f"{hour:02}", found["minute"], found["second"]
        result = _capture_date(found["year"], found["month"], found["day"], time)
        if (
            result is not None
            and result.precision in ("day", "second")
            and _plausible(result.moment)
            and (result.moment.year >= FIRST_DIGITAL_YEAR or found["gap"] == "-")
        ):
            return result
    return None


def _plausible(moment: datetime) -> bool:
    # A day of tolerance: names may be in another time zone.
    return moment.date() <= date.today() + timedelta(days=1)
