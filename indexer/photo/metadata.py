"""Metadata of an image: EXIF, XMP, IPTC and text in its file, XMP and Google Takeout beside it.

What is missing, malformed or out of range is left out; no metadata can keep an image from being
read. If sources differ, what people wrote last precedes: sidecars, then XMP and IPTC in the file,
then what the camera wrote (EXIF), except for the date. docs/metadata.md lists the order by field.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Any, BinaryIO, TypeVar

from PIL import ExifTags, Image, ImageFile, IptcImagePlugin

from sightline.indexer.files.sidecars import XMP_SUFFIX
from sightline.indexer.photo import takeout, written_text
from sightline.indexer.photo.capture_date import from_metadata, with_date
from sightline.indexer.photo.takeout import Takeout
from sightline.indexer.photo.xmp import Xmp, parse
from sightline.indexer.types import PhotoInfo

Base = ExifTags.Base
T = TypeVar("T")

TITLE_LENGTH, CAPTION_LENGTH, KEYWORD_LENGTH, NAME_LENGTH = 500, 5000, 100, 120
"""Characters that are kept of each kind of text."""

MAX_KEYWORDS = MAX_PEOPLE = 200

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
    sidecar: Xmp = field(default_factory=Xmp)
    """Of the XMP files beside the image."""
    takeout: Takeout = field(default_factory=Takeout)
    text: Mapping[str, Any] = field(default_factory=dict)
    """Text in the file that belongs to no standard, by Pillow's names."""

    def xmp_values(self, *names: str) -> list[str]:
        """Values of these properties, from the sidecars if they have any of them."""
        for xmp in (self.sidecar, self.xmp):
            if found := [value for name in names for value in xmp.all(name)]:
                return found
        return []


Sidecars = Sequence[tuple[str, bytes]]
"""Names and contents of an image's sidecars, the most important first."""


def orientation(image: Image.Image) -> int:
    """The EXIF orientation of ``image``, 1 to 8; 1 if it has none."""
    value = _or_default(lambda: image.getexif().get(Base.Orientation), None)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def add_metadata(
    info: PhotoInfo, image: Image.Image, exif: Image.Exif | None = None, *, sidecars: Sidecars = ()
) -> PhotoInfo:
    """``info`` with the metadata of ``image``; ``exif`` replaces its own EXIF (camera RAW)."""
    return _or_default(lambda: _with_fields(info, _sources(image, exif, sidecars)), info)


def _or_default(get: Callable[[], T], default: T) -> T:
    """``get()``, or ``default`` if it raises: malformed metadata raises any kind of exception."""
    try:
        return get()
    except MemoryError:
        raise
    except Exception:
        return default


def _sources(image: Image.Image, exif: Image.Exif | None, sidecars: Sidecars) -> _Sources:
    sidecar, google = Xmp(), Takeout()
    for name, data in sidecars:
        if name.lower().endswith(XMP_SUFFIX):
            sidecar = sidecar.over(_or_default(partial(parse, data), Xmp()))
        else:
            google = _or_default(partial(takeout.parse, data), Takeout())
    if exif is None:
        exif = _or_default(image.getexif, Image.Exif())
    return _Sources(
        exif=_or_default(lambda: dict(exif), {}),
        camera=_or_default(lambda: dict(exif.get_ifd(ExifTags.IFD.Exif)), {}),
        gps=_or_default(lambda: dict(exif.get_ifd(ExifTags.IFD.GPSInfo)), {}),
        iptc=_or_default(lambda: _iptc_records(image), {}),
        xmp=_or_default(lambda: parse(_xmp_bytes(image, exif)), Xmp()),
        sidecar=sidecar,
        takeout=google,
        text={str(name): value for name, value in image.info.items()},
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


_GIF_XMP = re.compile(rb"\x21\xff\x0bXMP DataXMP([^\0]*?)\x01\xff\xfe\xfd")
"""The packet is not divided into blocks; 257 bytes after it end it for those who expect them."""

MAX_GIF_BYTES = 32 * 2**20
"""In which XMP is searched."""


def gif_xmp(file: BinaryIO) -> bytes:
    """The XMP packet of a GIF, which Pillow does not read."""
    file.seek(0)
    found = _GIF_XMP.search(file.read(MAX_GIF_BYTES))
    return found[1] if found else b""


def _with_fields(info: PhotoInfo, sources: _Sources) -> PhotoInfo:
    latitude, longitude = _or_default(lambda: _position(sources), NO_POSITION)
    return replace(
        _or_default(lambda: _with_date(info, sources), info),
        camera=_or_default(lambda: _camera(sources), None),
        lens=_or_default(lambda: _lens(sources), None),
        latitude=latitude,
        longitude=longitude,
        title=_or_default(lambda: _title(sources), None),
        caption=_or_default(lambda: _caption(sources), None),
        place=_or_default(lambda: _place(sources), None),
        keywords=_or_default(lambda: _keywords(sources), ()),
        people=_or_default(lambda: _people(sources), ()),
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
    declared = sources.iptc.get((1, 90))
    return [
        clean
        for value in values
        if isinstance(value, bytes)
        and (clean := text(written_text.decode_iptc(value, declared), length))
    ]


def _title(sources: _Sources) -> str | None:
    length = TITLE_LENGTH
    return _first(
        text(sources.sidecar.one("dc:title"), length),
        text(sources.sidecar.one("photoshop:Headline"), length),
        text(sources.xmp.one("dc:title"), length),
        *_iptc(sources, 5, length),
        text(sources.xmp.one("photoshop:Headline"), length),
        *_iptc(sources, 105, length),
        _utf16_text(sources.exif.get(0x9C9B), length),
        text(sources.text.get("Title"), length),
    )


def _caption(sources: _Sources) -> str | None:
    length = CAPTION_LENGTH
    description = text(sources.exif.get(Base.ImageDescription), length)
    if description and description.lower().strip(" .") in STOCK_CAPTIONS:
        description = None
    return _first(
        text(sources.sidecar.one("dc:description"), length),
        text(sources.takeout.description, length),
        text(sources.xmp.one("dc:description"), length),
        *_iptc(sources, 120, length),
        description,
        written_text.comment(
            text(written_text.decode_user_comment(sources.camera.get(0x9286)), length)
        ),
        _utf16_text(sources.exif.get(0x9C9C), length),
        _utf16_text(sources.exif.get(0x9C9F), length),
        text(sources.text.get("Description"), length),
        *(
            written_text.comment(text(sources.text.get(name), length))
            for name in ("Comment", "comment", "parameters")
        ),
        text(written_text.workflow_prompt(sources.text.get("prompt")), length),
    )


def _place(sources: _Sources) -> str | None:
    """Location, city, state and country, without repetition."""
    parts = (
        _place_part(sources, "Iptc4xmpCore:Location", 92),
        _place_part(sources, "photoshop:City", 90),
        _place_part(sources, "photoshop:State", 95),
        _place_part(sources, "photoshop:Country", 101),
    )
    return ", ".join(dict.fromkeys(part for part in parts if part)) or None


def _place_part(sources: _Sources, name: str, number: int) -> str | None:
    length = NAME_LENGTH
    values = (text(value, length) for value in sources.xmp_values(name))
    return _first(*values, *_iptc(sources, number, length))


def _distinct(values: Iterable[str | None], most: int) -> tuple[str, ...]:
    """The first ``most`` of ``values``, each in its first spelling."""
    found: dict[str, str] = {}
    for value in values:
        if value and len(found) < most:
            found.setdefault(value.casefold(), value)
    return tuple(found.values())


def _keywords(sources: _Sources) -> tuple[str, ...]:
    """Of a hierarchical subject (``Places|Italy|Rome``) each level is a keyword."""
    length = KEYWORD_LENGTH
    for xmp in (sources.sidecar, sources.xmp):
        words = [*xmp.all("dc:subject")]
        for name, separator in HIERARCHIES.items():
            words += [word for path in xmp.all(name) for word in path.split(separator)]
        iptc = _iptc(sources, 25, length) if xmp is sources.xmp else []
        if found := _distinct(chain((text(word, length) for word in words), iptc), MAX_KEYWORDS):
            return found
    windows = _utf16_text(sources.exif.get(0x9C9E), MAX_KEYWORDS * length)
    return _distinct((text(word, length) for word in (windows or "").split(";")), MAX_KEYWORDS)


HIERARCHIES = {
    "lr:hierarchicalSubject": "|",
    "digiKam:TagsList": "/",
    "MicrosoftPhoto:LastKeywordXMP": "/",
}
"""Properties with subjects below subjects, and what separates them."""


def _people(sources: _Sources) -> tuple[str, ...]:
    """Of the regions and the persons shown in XMP, and of Google Photos."""
    names = sources.xmp_values(
        "mwg-rs:Name", "MPReg:PersonDisplayName", "Iptc4xmpExt:PersonInImage"
    )
    found = (text(name, NAME_LENGTH) for name in chain(names, sources.takeout.people))
    return _distinct(found, MAX_PEOPLE)


def _rating(sources: _Sources) -> int | None:
    """Stars; five for a favourite of Google Photos that has none."""
    value = next(iter(sources.xmp_values("xmp:Rating")), None) or sources.exif.get(0x4746)
    stars = 0.0 if value is None else float(value)
    if not stars and sources.takeout.favorite:
        return 5
    if value is None:
        return None
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


def _with_date(info: PhotoInfo, sources: _Sources) -> PhotoInfo:
    """``info`` with the date of the best source that has one (``capture_date.SOURCES``)."""
    camera, xmp = sources.camera, sources.xmp
    iptc_day, iptc_time = _iptc(sources, 55, 8), _iptc(sources, 60, 11)
    iptc = f"{iptc_day[0]}T{iptc_time[0]}" if iptc_day and iptc_time else "".join(iptc_day[:1])
    beside, uploaded = sources.sidecar, sources.takeout.taken_at
    candidates: tuple[tuple[str, Any, Any], ...] = (
        ("exif", camera.get(0x9003), camera.get(0x9291)),
        ("xmp", xmp.one("exif:DateTimeOriginal"), None),
        ("xmp", xmp.one("photoshop:DateCreated"), None),
        ("iptc", iptc, None),
        ("sidecar", beside.one("exif:DateTimeOriginal"), None),
        ("sidecar", beside.one("photoshop:DateCreated"), None),
        ("sidecar", uploaded.isoformat() if uploaded else None, None),
        ("digitized", camera.get(0x9004), camera.get(0x9292)),
        ("digitized", beside.one("xmp:CreateDate"), None),
        ("digitized", xmp.one("xmp:CreateDate"), None),
        ("modified", sources.exif.get(Base.DateTime), camera.get(0x9290)),
    )
    for source, value, fraction in candidates:
        written = text(value, 40) or ""
        found = _or_default(partial(from_metadata, written, text(fraction, 6) or ""), None)
        info = with_date(info, found, source)
    return info


# --- place ----------------------------------------------------------------------------------------


def _position(sources: _Sources) -> tuple[float | None, float | None]:
    """Latitude and longitude in degrees, or neither. (0, 0) is ignored: devices write it before
    they have a fix."""
    candidates: tuple[Callable[[], tuple[float | None, float | None]], ...] = (
        lambda: _xmp_position(sources.sidecar),
        lambda: (
            _exif_degrees(sources.gps.get(2), sources.gps.get(1)),
            _exif_degrees(sources.gps.get(4), sources.gps.get(3)),
        ),
        lambda: _xmp_position(sources.xmp),
        lambda: (sources.takeout.latitude, sources.takeout.longitude),
    )
    for candidate in candidates:
        latitude, longitude = _or_default(candidate, NO_POSITION)
        if latitude is None or longitude is None:
            continue
        if abs(latitude) <= 90 and abs(longitude) <= 180 and not latitude == longitude == 0:
            return latitude, longitude
    return NO_POSITION


def _xmp_position(xmp: Xmp) -> tuple[float | None, float | None]:
    return (
        _xmp_degrees(xmp.one("exif:GPSLatitude")),
        _xmp_degrees(xmp.one("exif:GPSLongitude")),
    )


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
