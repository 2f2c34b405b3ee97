"""What a picture says of itself: EXIF, XMP and IPTC.

Written by thousands of programs, so everything is doubted: what is missing, malformed or out of
range is left out, and no metadata can keep a picture from being read. Where several say the same,
what a person wrote (XMP, then IPTC) goes before what the camera wrote (EXIF); for the date the
camera's clock goes first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from PIL import ExifTags, Image, ImageFile, IptcImagePlugin

from sightline.indexer.photo.xmp import Xmp, parse

Base = ExifTags.Base
T = TypeVar("T")

LONGEST = {"title": 500, "caption": 5000, "word": 100, "name": 120}
"""Characters kept of each kind of text."""

MOST_KEYWORDS = 200

NOWHERE: tuple[float | None, float | None] = (None, None)

STOCK_CAPTIONS = (
    "olympus digital camera",
    "sony dsc",
    "digital camera",
    "default",
    "samsung",
    "kodak digital still camera",
    "konica minolta digital camera",
    "minolta digital camera",
    "exif_jpeg_picture",
    "exif jpeg",
    "jpeg",
    "picture",
    "untitled",
)
"""Descriptions that cameras write into every picture: they describe nothing."""


@dataclass(frozen=True)
class Metadata:
    """The fields of ``PhotoInfo`` that do not come from the pixels."""

    taken_at: datetime | None = None
    camera: str | None = None
    lens: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    title: str | None = None
    caption: str | None = None
    place: str | None = None
    keywords: tuple[str, ...] = ()
    rating: int | None = None


@dataclass(frozen=True)
class _Sources:
    """The three ways in which files carry metadata, as mappings that may be empty."""

    exif: Mapping[int, Any] = field(default_factory=dict)
    camera: Mapping[int, Any] = field(default_factory=dict)
    gps: Mapping[int, Any] = field(default_factory=dict)
    iptc: Mapping[tuple[int, int], Any] = field(default_factory=dict)
    xmp: Xmp = field(default_factory=Xmp)


def orientation(image: Image.Image) -> int:
    """The EXIF orientation of ``image``, 1 to 8; 1 when it says none."""
    value = _safely(lambda: image.getexif().get(Base.Orientation), None)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def read(image: Image.Image, exif: Image.Exif | None = None) -> Metadata:
    """What ``image`` says of itself; with ``exif`` where that stands elsewhere (camera RAW)."""
    return _safely(lambda: _metadata(_sources(image, exif)), Metadata())


def _safely(get: Callable[[], T], otherwise: T) -> T:
    """``get()``, or ``otherwise`` when the file makes it fail: readers of metadata raise anything,
    and a picture is worth having without."""
    try:
        return get()
    except MemoryError:
        raise
    except Exception:
        return otherwise


def _sources(image: Image.Image, given: Image.Exif | None) -> _Sources:
    exif = given if given is not None else _safely(image.getexif, Image.Exif())
    return _Sources(
        exif=_safely(lambda: dict(exif), {}),
        camera=_safely(lambda: dict(exif.get_ifd(ExifTags.IFD.Exif)), {}),
        gps=_safely(lambda: dict(exif.get_ifd(ExifTags.IFD.GPSInfo)), {}),
        iptc=_safely(lambda: _iptc_records(image), {}),
        xmp=_safely(lambda: parse(_xmp_bytes(image, exif)), Xmp()),
    )


def _iptc_records(image: Image.Image) -> dict[tuple[int, int], Any]:
    if not isinstance(image, ImageFile.ImageFile):
        return {}
    return dict(IptcImagePlugin.getiptcinfo(image) or {})


def _xmp_bytes(image: Image.Image, exif: Image.Exif) -> bytes:
    for name in ("xmp", "XML:com.adobe.xmp"):
        value = image.info.get(name)
        if value:
            return value if isinstance(value, bytes) else str(value).encode()
    value = exif.get(700)
    if isinstance(value, tuple):
        return bytes(value)
    return value if isinstance(value, bytes) else b""


def _metadata(of: _Sources) -> Metadata:
    latitude, longitude = _safely(lambda: _position(of), NOWHERE)
    return Metadata(
        taken_at=_safely(lambda: _taken_at(of), None),
        camera=_safely(lambda: _camera(of), None),
        lens=_safely(lambda: _lens(of), None),
        latitude=latitude,
        longitude=longitude,
        title=_safely(lambda: _title(of), None),
        caption=_safely(lambda: _caption(of), None),
        place=_safely(lambda: _place(of), None),
        keywords=_safely(lambda: _keywords(of), ()),
        rating=_safely(lambda: _rating(of), None),
    )


# text ---------------------------------------------------------------------------------------------


def text(value: Any, longest: int) -> str | None:
    """``value`` as a line of text of at most ``longest`` characters; None when nothing is left.

    EXIF text has no encoding; what is valid UTF-8 is that, everything else Latin-1.
    """
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError:
            value = value.decode("latin-1")
    elif isinstance(value, str):
        # Pillow hands EXIF text over as if it were Latin-1.
        with suppress(UnicodeError):
            value = value.encode("latin-1").decode("utf-8")
    elif isinstance(value, (int, float)):
        value = str(value)
    else:
        return None
    value = value.split("\0")[0]
    value = value.encode("utf-8", "replace").decode("utf-8")  # lone surrogates cannot be stored
    value = " ".join("".join(c if c.isprintable() else " " for c in value).split())
    return value[:longest].strip() or None


def _wide(value: Any, longest: int) -> str | None:
    """Windows' own tags: UTF-16, as bytes."""
    if isinstance(value, tuple):
        value = bytes(value)
    if not isinstance(value, bytes):
        return None
    decoded = value.decode("utf-16-le", "replace").split("\0")[0]
    return text(decoded.encode("utf-8", "replace"), longest)


def _first(*values: str | None) -> str | None:
    return next((value for value in values if value), None)


def _iptc(of: _Sources, number: int, longest: int) -> list[str]:
    found = of.iptc.get((2, number), [])
    values = found if isinstance(found, list) else [found]
    return [clean for value in values if (clean := text(value, longest))]


def _title(of: _Sources) -> str | None:
    longest = LONGEST["title"]
    return _first(
        text(of.xmp.one("dc:title"), longest),
        *_iptc(of, 5, longest),
        text(of.xmp.one("photoshop:Headline"), longest),
        *_iptc(of, 105, longest),
        _wide(of.exif.get(0x9C9B), longest),
    )


def _caption(of: _Sources) -> str | None:
    longest = LONGEST["caption"]
    written = text(of.exif.get(Base.ImageDescription), longest)
    if written and written.lower().strip(" .") in STOCK_CAPTIONS:
        written = None
    return _first(
        text(of.xmp.one("dc:description"), longest),
        *_iptc(of, 120, longest),
        written,
        _wide(of.exif.get(0x9C9C), longest),
        _wide(of.exif.get(0x9C9F), longest),
    )


def _place(of: _Sources) -> str | None:
    """From the spot to the country, each thing once."""
    longest = LONGEST["name"]
    parts = (
        _first(text(of.xmp.one("Iptc4xmpCore:Location"), longest), *_iptc(of, 92, longest)),
        _first(text(of.xmp.one("photoshop:City"), longest), *_iptc(of, 90, longest)),
        _first(text(of.xmp.one("photoshop:State"), longest), *_iptc(of, 95, longest)),
        _first(text(of.xmp.one("photoshop:Country"), longest), *_iptc(of, 101, longest)),
    )
    return ", ".join(dict.fromkeys(part for part in parts if part)) or None


def _keywords(of: _Sources) -> tuple[str, ...]:
    longest = LONGEST["word"]
    found: dict[str, str] = {}

    def add(words: Iterable[str | None]) -> None:
        for word in words:
            if word and len(found) < MOST_KEYWORDS:
                found.setdefault(word.casefold(), word)

    add(text(word, longest) for word in of.xmp.all("dc:subject"))
    add(_iptc(of, 25, longest))
    if not found:
        windows = _wide(of.exif.get(0x9C9E), MOST_KEYWORDS * longest)
        add(text(word, longest) for word in (windows or "").split(";"))
    return tuple(found.values())


def _rating(of: _Sources) -> int | None:
    value = of.xmp.one("xmp:Rating") or of.exif.get(0x4746)
    if value is None:
        return None
    stars = float(value)
    return max(0, min(5, round(stars))) if math.isfinite(stars) else None


# camera -------------------------------------------------------------------------------------------


def _camera(of: _Sources) -> str | None:
    """Maker and model as one name, without the maker's name twice."""
    longest = LONGEST["name"]
    make = _first(text(of.exif.get(Base.Make), longest), text(of.xmp.one("tiff:Make"), longest))
    model = _first(text(of.exif.get(Base.Model), longest), text(of.xmp.one("tiff:Model"), longest))
    if not make or not model:
        return model or make
    if model.split()[0].casefold() == make.split()[0].casefold():
        return model
    return f"{make} {model}"


def _lens(of: _Sources) -> str | None:
    longest = LONGEST["name"]
    return _first(
        text(of.camera.get(Base.LensModel), longest),
        text(of.xmp.one("exifEX:LensModel"), longest),
        text(of.xmp.one("aux:Lens"), longest),
    )


# time ---------------------------------------------------------------------------------------------

_EXIF_TIME = re.compile(r"(\d{4})[:/-](\d\d)[:/-](\d\d)[ T](\d\d):(\d\d)(?::(\d\d))?")
_ISO_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?)?")


def _taken_at(of: _Sources) -> datetime | None:
    iptc_day, iptc_time = _iptc(of, 55, 8), _iptc(of, 60, 11)
    candidates: tuple[Callable[[], datetime | None], ...] = (
        lambda: _exif_time(of.camera.get(0x9003), of.camera.get(0x9291)),
        lambda: _iso_time(of.xmp.one("exif:DateTimeOriginal")),
        lambda: _iso_time(of.xmp.one("photoshop:DateCreated")),
        lambda: _iptc_time(iptc_day[0], iptc_time[0] if iptc_time else "") if iptc_day else None,
        lambda: _exif_time(of.camera.get(0x9004), of.camera.get(0x9292)),
        lambda: _iso_time(of.xmp.one("xmp:CreateDate")),
        lambda: _exif_time(of.exif.get(Base.DateTime), of.camera.get(0x9290)),
    )
    for candidate in candidates:
        found = _safely(candidate, None)
        if found is not None and found.year >= 1826:  # the year of the oldest photograph
            return found
    return None


def _exif_time(value: Any, fraction: Any) -> datetime | None:
    found = _EXIF_TIME.match(text(value, 40) or "")
    if not found:
        return None
    digits = text(fraction, 6) or ""
    micro = int(digits.ljust(6, "0")) if digits.isdecimal() and digits.isascii() else 0
    return _datetime([*found.groups()], micro)


def _iso_time(value: str | None) -> datetime | None:
    """The clock's own time: an offset is left away, as everywhere."""
    found = _ISO_TIME.match(value or "")
    if not found:
        return None
    *parts, fraction = found.groups()
    return _datetime(parts, int((fraction or "0").ljust(6, "0")))


def _iptc_time(day: str, time: str) -> datetime | None:
    found = re.match(r"(\d{4})(\d\d)(\d\d)", day)
    if not found:
        return None
    clock = re.match(r"(\d\d)(\d\d)(\d\d)", time)
    return _datetime([*found.groups(), *(clock.groups() if clock else ())], 0)


def _datetime(parts: list[str | None], micro: int) -> datetime:
    numbers = [int(part or 0) for part in parts]
    numbers += [0] * (6 - len(numbers))
    year, month, day, hour, minute, second = numbers
    return datetime(year, month, day, hour, minute, min(second, 59), micro)


# place --------------------------------------------------------------------------------------------


def _position(of: _Sources) -> tuple[float | None, float | None]:
    """Latitude and longitude, or neither: half a position is none, and 0, 0 is what devices write
    before they know where they are."""
    latitude = _safely(lambda: _exif_degrees(of.gps.get(2), of.gps.get(1)), None)
    longitude = _safely(lambda: _exif_degrees(of.gps.get(4), of.gps.get(3)), None)
    if latitude is None or longitude is None:
        latitude = _xmp_degrees(of.xmp.one("exif:GPSLatitude"))
        longitude = _xmp_degrees(of.xmp.one("exif:GPSLongitude"))
    if latitude is None or longitude is None:
        return None, None
    if not (abs(latitude) <= 90 and abs(longitude) <= 180) or latitude == longitude == 0:
        return None, None
    return latitude, longitude


def _exif_degrees(value: Any, reference: Any) -> float | None:
    if not isinstance(value, (tuple, list)) or not 1 <= len(value) <= 3:
        return None
    parts = [float(part) for part in value] + [0.0, 0.0]
    degrees = parts[0] + parts[1] / 60 + parts[2] / 3600
    if not math.isfinite(degrees):
        return None
    return -degrees if (text(reference, 2) or "").upper() in ("S", "W") else degrees


def _xmp_degrees(value: str | None) -> float | None:
    """``50,12.34N`` or ``50,12,20N``."""
    found = re.fullmatch(
        r"(\d{1,3}),(\d{1,2}(?:\.\d+)?)(?:,(\d{1,2}(?:\.\d+)?))?([NSEW])", value or ""
    )
    if not found:
        return None
    degrees, minutes, seconds, side = found.groups()
    result = int(degrees) + float(minutes) / 60 + float(seconds or 0) / 3600
    return -result if side in "SW" else result
