"""The JSON file that Google Takeout writes beside each photo."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import unescape
from typing import Any

EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True)
class Takeout:
    """What people wrote and chose in Google Photos; empty without such a file."""

    description: str | None = None
    taken_at: datetime | None = None
    """UTC, without a zone: the file does not contain the local time."""
    latitude: float | None = None
    longitude: float | None = None
    people: tuple[str, ...] = ()
    favorite: bool = False


def parse(data: bytes) -> Takeout:
    """Parses the file; any other JSON gives an empty ``Takeout``. Raises ``ValueError`` for what is
    not JSON, ``RecursionError`` for JSON nested too deep."""
    fields = json.loads(data)
    if not isinstance(fields, dict) or not isinstance(fields.get("photoTakenTime"), dict):
        return Takeout()
    latitude, longitude = (
        _position(fields.get("geoData")) or _position(fields.get("geoDataExif")) or (None, None)
    )
    people = fields.get("people")
    return Takeout(
        description=_text(fields.get("description")),
        taken_at=_moment(fields["photoTakenTime"].get("timestamp")),
        latitude=latitude,
        longitude=longitude,
        people=tuple(
            name
            for person in (people if isinstance(people, list) else ())
            if isinstance(person, dict) and (name := _text(person.get("name")))
        ),
        favorite=fields.get("favorited") is True,
    )


def _text(value: Any) -> str | None:
    return unescape(value) if isinstance(value, str) and value.strip() else None


def _moment(seconds: Any) -> datetime | None:
    """The moment of seconds since 1970, which may be before it; 0 stands for an unknown one."""
    try:
        number = int(seconds)
        return EPOCH + timedelta(seconds=number) if number else None
    except (TypeError, ValueError, OverflowError):
        return None


def _position(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, dict):
        return None
    latitude, longitude = value.get("latitude"), value.get("longitude")
    if not isinstance(latitude, int | float) or not isinstance(longitude, int | float):
        return None
    return None if latitude == longitude == 0 else (float(latitude), float(longitude))
