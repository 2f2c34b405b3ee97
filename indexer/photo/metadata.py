"""Metadata of an image file: EXIF, XMP and IPTC.

What is missing, malformed or out of range is left out; no metadata can keep an image from being
read. If sources differ, what people wrote (XMP, then IPTC) precedes what the camera wrote (EXIF),
except for the date.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar

from PIL import ExifTags, Image, ImageFile, IptcImagePlugin

from sightline.indexer.photo.xmp import Xmp, parse
from sightline.indexer.types import PhotoInfo

Base = ExifTags.Base
T = TypeVar("T")

TITLE_LENGTH, CAPTION_LENGTH, KEYWORD_LENGTH, NAME_LENGTH = 500, 5000, 100, 120
"""Characters that are kept of each kind of text."""

MAX_KEYWORDS = 200

NO_POSITION: tuple[float | None, float | None] = (None, None)

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
"""Descriptions that cameras write into every image; they are ignored."""


@dataclass(frozen=True)
class _Sources:
    """Everything that a file holds, by kind of metadata; any may be empty."""

    exif: Mapping[int, Any] = field(default_factory=dict)
    camera: Mapping[int, Any] = field(default_factory=dict)
    gps: Mapping[int, Any] = field(default_factory=dict)
    iptc: Mapping[tuple[int, int], Any] = field(default_factory=dict)
    xmp: Xmp = field(default_factory=Xmp)


def orientation(image: Image.Image) -> int:
    """The EXIF orientation of ``image``, 1 to 8; 1 if it has none."""
    value = _or_default(lambda: image.getexif().get(Base.Orientation), None)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def add_metadata(info: PhotoInfo, image: Image.Image, exif: Image.Exif | None = None) -> PhotoInfo:
    """``info`` with the metadata of ``image``; ``exif`` replaces its own EXIF (camera RAW)."""
    return _or_default(lambda: _with_fields(info, _sources(image, exif)), info)


def _or_default(get: Callable[[], T], default: T) -> T:
    """``get()``, or ``default`` if it raises: malformed metadata raises any kind of exception."""
    try:
        return get()
    except MemoryError:
        raise
    except Exception:
        return default


def _sources(image: Image.Image, exif: Image.Exif | None) -> _Sources:
    if exif is None:
        exif = _or_default(image.getexif, Image.Exif())
    return _Sources(
        exif=_or_default(lambda: dict(exif), {}),
        camera=_or_default(lambda: dict(exif.get_ifd(ExifTags.IFD.Exif)), {}),
        gps=_or_default(lambda: dict(exif.get_ifd(ExifTags.IFD.GPSInfo)), {}),
        iptc=_or_default(lambda: _iptc_records(image), {}),
        xmp=_or_default(lambda: parse(_xmp_bytes(image, exif)), Xmp()),
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


def _with_fields(info: PhotoInfo, sources: _Sources) -> PhotoInfo:
    latitude, longitude = _or_default(lambda: _position(sources), NO_POSITION)
    return replace(
        info,
        taken_at=_or_default(lambda: _taken_at(sources), None),
        camera=_or_default(lambda: _camera(sources), None),
        lens=_or_default(lambda: _lens(sources), None),
        latitude=latitude,
        longitude=longitude,
        title=_or_default(lambda: _title(sources), None),
        caption=_or_default(lambda: _caption(sources), None),
        place=_or_default(lambda: _place(sources), None),
        keywords=_or_default(lambda: _keywords(sources), ()),
        rating=_or_default(lambda: _rating(sources), None),
    )


# --- text -----------------------------------------------------------------------------------------


def text(value: Any, length: int) -> str | None:
    """``value`` as a line of at most ``length`` characters; None if nothing is left.

    EXIF text has no declared encoding: it is decoded as UTF-8 if valid, else as Latin-1.
    """
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError:
            value = value.decode("latin-1")
    elif isinstance(value, str):
        # Pillow decodes EXIF text as Latin-1.
        with suppress(UnicodeError):
            value = value.encode("latin-1").decode("utf-8")
    elif isinstance(value, (int, float)):
        value = str(value)
    else:
        return None
    value = value.split("\0")[0]
    value = value.encode("utf-8", "replace").decode("utf-8")  # lone surrogates cannot be stored
    value = " ".join("".join(c if c.isprintable() else " " for c in value).split())
    return value[:length].strip() or None


def _utf16_text(value: Any, length: int) -> str | None:
    """The text of Windows' tags: UTF-16 in bytes."""
    if isinstance(value, tuple):
        value = bytes(value)
    if not isinstance(value, bytes):
        return None
    decoded = value.decode("utf-16-le", "replace").split("\0")[0]
    return text(decoded.encode("utf-8", "replace"), length)


def _first(*values: str | None) -> str | None:
    return next((value for value in values if value), None)


def _iptc(sources: _Sources, number: int, length: int) -> list[str]:
    found = sources.iptc.get((2, number), [])
    values = found if isinstance(found, list) else [found]
    return [clean for value in values if (clean := text(value, length))]


def _title(sources: _Sources) -> str | None:
    length = TITLE_LENGTH
    return _first(
        text(sources.xmp.one("dc:title"), length),
        *_iptc(sources, 5, length),
        text(sources.xmp.one("photoshop:Headline"), length),
        *_iptc(sources, 105, length),
        _utf16_text(sources.exif.get(0x9C9B), length),
    )


def _caption(sources: _Sources) -> str | None:
    length = CAPTION_LENGTH
    description = text(sources.exif.get(Base.ImageDescription), length)
    if description and description.lower().strip(" .") in STOCK_CAPTIONS:
        description = None
    return _first(
        text(sources.xmp.one("dc:description"), length),
        *_iptc(sources, 120, length),
        description,
        _utf16_text(sources.exif.get(0x9C9C), length),
        _utf16_text(sources.exif.get(0x9C9F), length),
    )


def _place(sources: _Sources) -> str | None:
    """Location, city, state and country, without repetition."""
    length = NAME_LENGTH
    parts = (
        _first(text(sources.xmp.one("Iptc4xmpCore:Location"), length), *_iptc(sources, 92, length)),
        _first(text(sources.xmp.one("photoshop:City"), length), *_iptc(sources, 90, length)),
        _first(text(sources.xmp.one("photoshop:State"), length), *_iptc(sources, 95, length)),
        _first(text(sources.xmp.one("photoshop:Country"), length), *_iptc(sources, 101, length)),
    )
    return ", ".join(dict.fromkeys(part for part in parts if part)) or None


def _keywords(sources: _Sources) -> tuple[str, ...]:
    length = KEYWORD_LENGTH
    found: dict[str, str] = {}

    def add(words: Iterable[str | None]) -> None:
        for word in words:
            if word and len(found) < MAX_KEYWORDS:
                found.setdefault(word.casefold(), word)

    add(text(word, length) for word in sources.xmp.all("dc:subject"))
    add(_iptc(sources, 25, length))
    if not found:
        windows = _utf16_text(sources.exif.get(0x9C9E), MAX_KEYWORDS * length)
        add(text(word, length) for word in (windows or "").split(";"))
    return tuple(found.values())


def _rating(sources: _Sources) -> int | None:
    value = sources.xmp.one("xmp:Rating") or sources.exif.get(0x4746)
    if value is None:
        return None
    stars = float(value)
    return max(0, min(5, round(stars))) if math.isfinite(stars) else None


# --- camera ---------------------------------------------------------------------------------------


def _camera(sources: _Sources) -> str | None:
    """Make and model as one name, without the make twice."""
    length = NAME_LENGTH
    make = _first(
        text(sources.exif.get(Base.Make), length), text(sources.xmp.one("tiff:Make"), length)
    )
    model = _first(
        text(sources.exif.get(Base.Model), length), text(sources.xmp.one("tiff:Model"), length)
    )
    if not make or not model:
        return model or make
    if model.split()[0].casefold() == make.split()[0].casefold():
        return model
    return f"{make} {model}"


def _lens(sources: _Sources) -> str | None:
    length = NAME_LENGTH
    return _first(
        text(sources.camera.get(Base.LensModel), length),
        text(sources.xmp.one("exifEX:LensModel"), length),
        text(sources.xmp.one("aux:Lens"), length),
    )


# --- time -----------------------------------------------------------------------------------------

_EXIF_TIME = re.compile(r"(\d{4})[:/-](\d\d)[:/-](\d\d)[ T](\d\d):(\d\d)(?::(\d\d))?")
_ISO_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?)?")


def _taken_at(sources: _Sources) -> datetime | None:
    iptc_day, iptc_time = _iptc(sources, 55, 8), _iptc(sources, 60, 11)
    candidates: tuple[Callable[[], datetime | None], ...] = (
        lambda: _exif_time(sources.camera.get(0x9003), sources.camera.get(0x9291)),
        lambda: _iso_time(sources.xmp.one("exif:DateTimeOriginal")),
        lambda: _iso_time(sources.xmp.one("photoshop:DateCreated")),
        lambda: _iptc_time(iptc_day[0], iptc_time[0] if iptc_time else "") if iptc_day else None,
        lambda: _exif_time(sources.camera.get(0x9004), sources.camera.get(0x9292)),
        lambda: _iso_time(sources.xmp.one("xmp:CreateDate")),
        lambda: _exif_time(sources.exif.get(Base.DateTime), sources.camera.get(0x9290)),
    )
    for candidate in candidates:
        found = _or_default(candidate, None)
        if found is not None and found.year >= 1826:  # the year of the oldest surviving photograph
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
    """Local time; a UTC offset is ignored."""
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


# --- place ----------------------------------------------------------------------------------------


def _position(sources: _Sources) -> tuple[float | None, float | None]:
    """Latitude and longitude in degrees, or neither. (0, 0) is ignored: devices write it before
    they have a fix."""
    latitude = _or_default(lambda: _exif_degrees(sources.gps.get(2), sources.gps.get(1)), None)
    longitude = _or_default(lambda: _exif_degrees(sources.gps.get(4), sources.gps.get(3)), None)
    if latitude is None or longitude is None:
        latitude = _xmp_degrees(sources.xmp.one("exif:GPSLatitude"))
        longitude = _xmp_degrees(sources.xmp.one("exif:GPSLongitude"))
    if latitude is None or longitude is None:
        return NO_POSITION
    if not (abs(latitude) <= 90 and abs(longitude) <= 180) or latitude == longitude == 0:
        return NO_POSITION
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
    degrees, minutes, seconds, hemisphere = found.groups()
    result = int(degrees) + float(minutes) / 60 + float(seconds or 0) / 3600
    return -result if hemisphere in "SW" else result
