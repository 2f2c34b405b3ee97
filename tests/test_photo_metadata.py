"""EXIF, XMP and IPTC metadata is read, and invalid values are ignored."""

from __future__ import annotations

import json
import struct
from datetime import datetime

import helpers_photos as files
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sightline.indexer.photo import photo
from sightline.indexer.types import Geometry, PhotoInfo

SMALL = Geometry(32, 32, 32)

PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:exif="http://ns.adobe.com/exif/1.0/"
    xmlns:aux="http://ns.adobe.com/exif/1.0/aux/"
    xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
    xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"
    xmlns:Iptc4xmpCore="http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/"
    {attributes}>{elements}</rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""


def packet(attributes: str = "", elements: str = "") -> bytes:
    """An XMP packet as programs write them."""
    return PACKET.format(attributes=attributes, elements=elements).encode()


def read(format: str = "JPEG", **options: object) -> PhotoInfo:
    """The metadata of an image saved with ``options``."""
    return photo.read_bytes(files.saved(files.scene(), format, **options), SMALL).info


def exif(
    main: dict[int, object] | None = None,
    camera: dict[int, object] | None = None,
    gps: dict[int, object] | None = None,
) -> bytes:
    """EXIF of the three directories."""
    found = Image.Exif()
    found.update(main or {})
    found.get_ifd(0x8769).update(camera or {})
    found.get_ifd(0x8825).update(gps or {})
    return found.tobytes()


def iptc(*records: tuple[int, bytes], before: bytes = b"") -> bytes:
    """A JPEG whose Photoshop segment holds IPTC ``records`` (dataset, value)."""
    body = before + b"".join(
        struct.pack(">BBBH", 0x1C, 2, n, len(value)) + value for n, value in records
    )
    block = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(body)) + body + bytes(len(body) % 2)
    segment = b"Photoshop 3.0\0" + block
    jpeg = files.saved(files.scene())
    return jpeg[:2] + b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


# --- the camera ----------------------------------------------------------------------------------

CAMERA = exif(
    {0x010F: "Canon", 0x0110: "Canon EOS R5", 0x010E: "A house"},
    {
        0x9003: "2023:06:14 18:30:05",
        0x9291: "25",
        0x9011: "+02:00",
        0xA434: "RF24-105mm F4 L IS USM",
    },
    {1: "N", 2: (50.0, 14.0, 24.0), 3: "W", 4: (7.0, 21.0, 0.0)},
)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_exif_fields_of_the_camera_are_read(format: str) -> None:
    info = read(format, exif=CAMERA)
    assert info.taken_at == datetime(2023, 6, 14, 18, 30, 5, 250_000)
    assert (info.camera, info.lens) == ("Canon EOS R5", "RF24-105mm F4 L IS USM")
    assert info.latitude == pytest.approx(50.24)
    assert info.longitude == pytest.approx(-7.35)
    assert info.caption == "A house"


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Apple", "iPhone 15 Pro", "Apple iPhone 15 Pro"),
        ("NIKON CORPORATION", "NIKON D750", "NIKON D750"),
        ("SONY", None, "SONY"),
        (None, "DSC-RX100", "DSC-RX100"),
        ("  FUJIFILM \0\0", "X-T4\0garbage", "FUJIFILM X-T4"),
        ("", "", None),
    ],
)
def test_the_camera_name_has_the_make_once(
    make: str | None, model: str | None, camera: str | None
) -> None:
    tags = {tag: value for tag, value in ((0x010F, make), (0x0110, model)) if value is not None}
    assert read(exif=exif(tags)).camera == camera


@pytest.mark.parametrize(
    ("main", "camera", "expected"),
    [
        ({}, {0x9003: "2020:02:29 23:59:59"}, datetime(2020, 2, 29, 23, 59, 59)),
        ({}, {0x9003: "2020-02-29T23:59:59+09:00"}, datetime(2020, 2, 29, 23, 59, 59)),
        ({}, {0x9003: "2020:02:29 23:59"}, datetime(2020, 2, 29, 23, 59)),
        ({}, {0x9003: "2016:12:31 23:59:60"}, datetime(2016, 12, 31, 23, 59, 59)),
        ({}, {0x9004: "2019:05:05 05:05:05"}, datetime(2019, 5, 5, 5, 5, 5)),
        ({0x0132: "2018:01:01 00:00:00"}, {}, datetime(2018, 1, 1)),
        ({0x0132: "2018:01:01 00:00:00"}, {0x9003: "0000:00:00 00:00:00"}, datetime(2018, 1, 1)),
        ({}, {0x9003: "    :  :     :  :  "}, None),
        ({}, {0x9003: "2021:02:30 12:00:00"}, None),
        ({}, {0x9003: "0001:01:01 00:00:00"}, None),
        ({}, {0x9003: "yesterday"}, None),
    ],
)
def test_the_date_is_local_time_and_invalid_dates_are_ignored(
    main: dict[int, object], camera: dict[int, object], expected: datetime | None
) -> None:
    assert read(exif=exif(main, camera)).taken_at == expected


@pytest.mark.parametrize(
    "gps",
    [
        {1: "N", 2: (50.0, 0.0, 0.0)},
        {1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)},
        {1: "N", 2: (91.0, 0.0, 0.0), 3: "E", 4: (8.0, 0.0, 0.0)},
        {1: "N", 2: (50.0, 0.0, 0.0), 3: "E", 4: (181.0, 0.0, 0.0)},
    ],
    ids=["half", "null island", "beyond the pole", "round the world"],
)
def test_invalid_positions_are_ignored(gps: dict[int, object]) -> None:
    info = read(exif=exif(gps=gps))
    assert (info.latitude, info.longitude) == (None, None)


def test_stock_captions_of_cameras_are_ignored() -> None:
    assert read(exif=exif({0x010E: "OLYMPUS DIGITAL CAMERA         "})).caption is None
    assert read(exif=exif({0x010E: "Grüße aus Köln".encode()})).caption == "Grüße aus Köln"
    assert read(exif=exif({0x010E: "Grüße".encode("latin-1")})).caption == "Grüße"


# --- people --------------------------------------------------------------------------------------

WRITTEN = packet(
    'xmp:Rating="4" photoshop:City="Wierschem" photoshop:Country="Germany"'
    ' Iptc4xmpCore:Location="Burg Eltz" aux:Lens="50mm f/1.8"',
    """<dc:title><rdf:Alt><rdf:li xml:lang="de">Die Burg</rdf:li>
        <rdf:li xml:lang="x-default">The castle</rdf:li></rdf:Alt></dc:title>
       <dc:description><rdf:Alt><rdf:li xml:lang="x-default">Up on its rock
        in the morning</rdf:li></rdf:Alt></dc:description>
       <dc:subject><rdf:Bag><rdf:li>castle</rdf:li><rdf:li>Eltz &amp; Mosel</rdf:li>
        <rdf:li>Castle</rdf:li><rdf:li> </rdf:li></rdf:Bag></dc:subject>
       <tiff:Model>Leica M6</tiff:Model>
       <exif:DateTimeOriginal>1998-10-03T08:15:30.5+01:00</exif:DateTimeOriginal>
       <exif:GPSLatitude>50,12.3N</exif:GPSLatitude>
       <exif:GPSLongitude>7,20,24E</exif:GPSLongitude>""",
)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_xmp_fields_are_read(format: str) -> None:
    if format == "PNG":
        from PIL.PngImagePlugin import PngInfo

        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", WRITTEN.decode())
        info = read("PNG", pnginfo=text)
    elif format == "TIFF":
        info = read("TIFF", tiffinfo={700: WRITTEN})
    else:
        info = read(format, xmp=WRITTEN)
    assert info.title == "The castle"
    assert info.caption == "Up on its rock in the morning"
    assert info.keywords == ("castle", "Eltz & Mosel")
    assert info.place == "Burg Eltz, Wierschem, Germany"
    assert info.rating == 4
    assert (info.camera, info.lens) == ("Leica M6", "50mm f/1.8")
    assert info.taken_at == datetime(1998, 10, 3, 8, 15, 30, 500_000)
    assert info.latitude == pytest.approx(50.205)
    assert info.longitude == pytest.approx(7.34)


def test_iptc_fields_are_read() -> None:
    data = iptc(
        (5, b"A title"),
        (120, "Ein Bild aus Köln".encode()),
        (25, b"river"),
        (25, b"cathedral"),
        (90, "Köln".encode("latin-1")),
        (101, b"Germany"),
        (55, b"20010203"),
        (60, b"101112+0100"),
    )
    info = photo.read_bytes(data, SMALL).info
    assert (info.title, info.caption) == ("A title", "Ein Bild aus Köln")
    assert info.keywords == ("river", "cathedral")
    assert info.place == "Köln, Germany"
    assert info.taken_at == datetime(2001, 2, 3, 10, 11, 12)


def test_the_utf16_tags_of_windows_are_read() -> None:
    def wide(text: str) -> bytes:
        return (text + "\0").encode("utf-16-le")

    info = read(
        exif=exif(
            {0x9C9B: wide("Ein Titel"), 0x9C9C: wide("Grüße"), 0x9C9E: wide("a;b c"), 0x4746: 3}
        )
    )
    assert (info.title, info.caption, info.keywords) == ("Ein Titel", "Grüße", ("a", "b c"))
    assert info.rating == 3


@pytest.mark.parametrize(
    ("rating", "stars"), [("5", 5), ("-1", 0), ("9", 5), ("3.0", 3), ("nan", None), ("many", None)]
)
def test_ratings_are_limited_to_0_to_5(rating: str, stars: int | None) -> None:
    assert read(xmp=packet(f'xmp:Rating="{rating}"')).rating == stars


# --- nonsense ------------------------------------------------------------------------------------

BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9))
    + b"]>"
    + packet('photoshop:City="&j;"')
)


@pytest.mark.parametrize(
    "xmp",
    [b"", b"<x", b"\0\xff\0", packet('photoshop:City="&undefined;"'), BOMB, bytes(5_000_000)],
    ids=["empty", "truncated", "bytes", "unknown entity", "entity bomb", "five million zeros"],
)
def test_a_corrupt_or_malicious_xmp_packet_is_ignored(xmp: bytes) -> None:
    info = read("PNG", exif=exif({0x0110: "X-T4"}))
    assert read("WEBP", xmp=xmp, exif=exif({0x0110: "X-T4"})).camera == info.camera
    assert read("WEBP", xmp=xmp).place is None


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_image_with_corrupt_exif_is_read() -> None:
    good = bytearray(files.saved(files.scene(), exif=CAMERA))
    start = good.index(b"Exif\0\0") + 6
    for at in range(start, start + 200, 3):
        data = bytearray(good)
        data[at] ^= 0xFF
        info = photo.read_bytes(bytes(data), SMALL).info
        assert (info.width, info.height) in (files.SIZE, files.SIZE[::-1])


def test_metadata_text_is_limited_in_length_and_valid_utf8() -> None:
    words = "".join(f"<rdf:li>word {n} {'x' * 300}</rdf:li>" for n in range(1000))
    info = read(
        "WEBP",
        xmp=packet(
            f'photoshop:City="{"long " * 1000}" photoshop:Headline="a&#10;b&#9;c&#x7F;"',
            f"<dc:subject><rdf:Bag>{words}</rdf:Bag></dc:subject>"
            f"<dc:description>{'y' * 100_000}</dc:description>",
        ),
    )
    assert info.place is not None
    assert len(info.place) <= 120
    assert info.title == "a b c"
    assert len(info.caption or "") == 5000
    assert len(info.keywords) == 200
    assert max(map(len, info.keywords)) == 100


# --- people and hierarchies ----------------------------------------------------------------------

REGIONS = (
    'xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/"'
    ' xmlns:MP="http://ns.microsoft.com/photo/1.2/"'
    ' xmlns:MPRI="http://ns.microsoft.com/photo/1.2/t/RegionInfo#"'
    ' xmlns:MPReg="http://ns.microsoft.com/photo/1.2/t/Region#"'
    ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    ' xmlns:lr="http://ns.adobe.com/lightroom/1.0/"'
    ' xmlns:digiKam="http://www.digikam.org/ns/1.0/"'
)


def bag(name: str, *items: str) -> str:
    """A property with a list of values."""
    return f"<{name}><rdf:Bag>{''.join(items)}</rdf:Bag></{name}>"


def li(text: str) -> str:
    return f"<rdf:li>{text}</rdf:li>"


def region(fields: str) -> str:
    return f'<rdf:li rdf:parseType="Resource">{fields}</rdf:li>'


def test_people_are_read_from_the_regions_of_every_program() -> None:
    working_group = (
        '<mwg-rs:Regions rdf:parseType="Resource">'
        + bag(
            "mwg-rs:RegionList",
            region("<mwg-rs:Name>Ada</mwg-rs:Name><mwg-rs:Type>Face</mwg-rs:Type>"),
            "<rdf:li><rdf:Description mwg-rs:Name='Rex' mwg-rs:Type='Pet'/></rdf:li>",
            region("<mwg-rs:Name>centre</mwg-rs:Name><mwg-rs:Type>Focus</mwg-rs:Type>"),
        )
        + "</mwg-rs:Regions>"
    )
    microsoft = (
        "<MP:RegionInfo><rdf:Description>"
        + bag(
            "MPRI:Regions",
            "<rdf:li MPReg:Rectangle='0.1, 0.1, 0.2, 0.2' MPReg:PersonDisplayName='Grace'/>",
            region("<MPReg:PersonDisplayName>ADA</MPReg:PersonDisplayName>"),
        )
        + "</rdf:Description></MP:RegionInfo>"
    )
    shown = bag("Iptc4xmpExt:PersonInImage", li("Mary"))
    info = read(xmp=packet(REGIONS, working_group + microsoft + shown))
    assert info.people == ("Ada", "Rex", "Grace", "Mary")


@pytest.mark.parametrize(
    "subjects",
    [
        bag("lr:hierarchicalSubject", li("Places|Italy|Rome"), li("Places|Italy")),
        bag("digiKam:TagsList", li("Places/Italy/Rome")),
    ],
    ids=["Lightroom", "digiKam"],
)
def test_each_level_of_a_hierarchical_subject_is_a_keyword(subjects: str) -> None:
    info = read(xmp=packet(REGIONS, bag("dc:subject", li("rome"), li("forum")) + subjects))
    assert info.keywords == ("rome", "forum", "Places", "Italy")


# --- text without a standard ---------------------------------------------------------------------


def png(**texts: str) -> PhotoInfo:
    """The metadata of a PNG with text chunks."""
    chunks = PngInfo()
    for name, value in texts.items():
        chunks.add_itxt(name, value)
    return read("PNG", pnginfo=chunks)


PARAMETERS = "a castle in the fog, oil painting\nNegative prompt: people\nSteps: 20, Sampler: Euler"


def test_text_of_png_files_is_read() -> None:
    info = png(Title="Schloß", Description="über dem Fluß", Comment="unused")
    assert (info.title, info.caption) == ("Schloß", "über dem Fluß")
    assert png(Comment="from a person").caption == "from a person"


def test_of_a_generators_parameters_the_prompt_is_the_caption() -> None:
    wanted = "a castle in the fog, oil painting"
    assert png(parameters=PARAMETERS).caption == wanted
    comment = b"UNICODE\0" + PARAMETERS.encode("utf-16-be")
    assert read(exif=exif(camera={0x9286: comment})).caption == wanted
    nodes = {
        "3": {"class_type": "KSampler", "inputs": {"positive": ["6", 0], "negative": ["7", 0]}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": wanted}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "people"}},
    }
    assert png(prompt=json.dumps(nodes)).caption == wanted


@pytest.mark.parametrize(
    ("comment", "caption"),
    [
        (b"ASCII\0\0\0At the lake", "At the lake"),
        (b"\0" * 8 + "Grüße".encode(), "Grüße"),
        (b"UNICODE\0" + "Привет мир".encode("utf-16-le"), "Привет мир"),
        (b"JIS\0\0\0\0\0" + "湖".encode("iso2022_jp"), "湖"),
        (b"ASCII\0\0\0" + b" " * 100, None),
        (b"\0" * 264, None),
        (b"\0" * 8 + b"\xff\xfe\x01\x80", None),
        (b"short", None),
    ],
)
def test_user_comments_are_decoded(comment: bytes, caption: str | None) -> None:
    assert read(exif=exif(camera={0x9286: comment})).caption == caption


@pytest.mark.parametrize("format", ["JPEG", "GIF"])
def test_comments_of_people_are_captions_and_those_of_programs_are_not(format: str) -> None:
    assert read(format, comment=b"Grandma's garden").caption == "Grandma's garden"
    for noise in (
        b"Created with GIMP",
        b"CREATOR: gd-jpeg v1.0 (using IJG JPEG v62), quality = 90",
    ):
        assert read(format, comment=noise).caption is None


def test_xmp_is_read_in_gif_and_webp() -> None:
    xmp = packet('xmp:Rating="4"')
    assert read("WEBP", xmp=xmp).rating == 4
    gif = files.saved(files.scene(), "GIF")
    trailer = bytes([1, *range(255, -1, -1), 0])
    block = b"\x21\xff\x0bXMP DataXMP" + xmp + trailer
    assert photo.read_bytes(gif[:-1] + block + b";", SMALL).info.rating == 4


# --- IPTC in other encodings ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [
        (b"\x1b%G", "utf-8"),
        (b"\x1b.A", "iso8859-1"),
        (None, "utf-8"),
        (None, "cp1252"),
        (None, "mac_roman"),
        (b"\x1b%G", "cp1252"),
        (b"unknown", "cp1252"),
    ],
)
def test_iptc_is_decoded_as_declared_or_as_it_looks(declared: bytes | None, encoding: str) -> None:
    text = "Café Müller, Straße 12"
    record = struct.pack(">BBBH", 0x1C, 1, 90, len(declared or b"")) + (declared or b"")
    jpeg = iptc((120, text.encode(encoding)), before=record if declared else b"")
    assert photo.read_bytes(jpeg, SMALL).info.caption == text
