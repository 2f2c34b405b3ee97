"""Dates of which only a part is known, from metadata and file names: read, filtered and shown."""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers_catalog import new_catalog, picture
from helpers_library import as_bytes, draw, make_library
from hypothesis import given
from hypothesis import strategies as st
from test_photo_metadata import exif, iptc, packet, read

from sightline.indexer import dates
from sightline.indexer.errors import QueryError
from sightline.indexer.indexing.run import update_library
from sightline.indexer.photo import photo
from sightline.indexer.photo.capture_date import from_name
from sightline.indexer.types import Condition, Geometry
from sightline.server.cli import run
from sightline.server.search import SearchEngine
from sightline.server.search.query import parse
from sightline.server.web.app import create_app

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder

SCAN = {0x9004: "2015:02:03 04:05:06"}
"""When a print was scanned."""


# metadata -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "taken"),
    [
        ("1993:00:00 12:00:00", "1993"),
        ("1993:06:00 00:00:00", "1993-06"),
        ("2004:03:07", "2004-03-07"),
        ("2004: 3: 7  9:05:03", "2004-03-07T09:05:03"),
        ("1943", "1943"),
        ("1962:08", "1962-08"),
        ("1943:  :     :  :  ", "1943"),
        ("2004:03:07   :  :  ", "2004-03-07"),
        ("2004:03:07 24:61:00", "2004-03-07"),
        ("2004/3/7 9:5", "2004-03-07T09:05:00"),
        ("20040307", "2004-03-07"),
        ("2004:13:07 09:05:03", None),
        ("0000:00:00 00:00:00", None),
        ("00001943", None),
    ],
)
def test_exif_dates_are_read_as_far_as_they_are_known(written: str, taken: str | None) -> None:
    info = read(exif=exif(camera={0x9003: written}))
    assert (info.taken, info.taken_from) == (taken, taken and "exif")


@pytest.mark.parametrize("name", ["exif:DateTimeOriginal", "photoshop:DateCreated"])
@pytest.mark.parametrize(
    ("written", "taken"),
    [
        ("1943", "1943"),
        ("1962-08", "1962-08"),
        ("1962-08-03", "1962-08-03"),
        ("1962-00-00T00:00:00", "1962"),
        ("1962-08-03T10:20+02:00", "1962-08-03T10:20:00"),
    ],
)
def test_a_partial_xmp_date_counts_more_than_the_date_of_the_scan(
    name: str, written: str, taken: str
) -> None:
    info = read(xmp=packet(f'{name}="{written}"'), exif=exif({0x0132: "2016:01:01 1:1:1"}, SCAN))
    assert (info.taken, info.taken_from) == (taken, "xmp")


@pytest.mark.parametrize(
    ("day", "taken"),
    [(b"19430000", "1943"), (b"19620800", "1962-08"), (b"19620803", "1962-08-03")],
)
def test_partial_iptc_dates_are_read(day: bytes, taken: str) -> None:
    info = photo.read_bytes(iptc((55, day), (60, b"000000")), Geometry(32, 32, 32)).info
    assert info.taken is not None
    assert info.taken.startswith(taken)
    info = photo.read_bytes(iptc((55, day)), Geometry(32, 32, 32)).info
    assert (info.taken, info.taken_from) == (taken, "iptc")


def test_sources_of_the_date_have_an_order() -> None:
    camera = {0x9003: "2001:01:01 01:01:01"}
    everything = packet('exif:DateTimeOriginal="2002" xmp:CreateDate="2004-04-04T04:04:04"')
    assert read(exif=exif(camera=camera), xmp=everything).taken_from == "exif"
    assert read(exif=exif(camera=SCAN), xmp=everything).taken == "2002"
    only = read(exif=exif({0x0132: "2006:06:06 06:06:06"}, SCAN))
    assert (only.taken, only.taken_from) == ("2015-02-03T04:05:06", "digitized")
    only = read(exif=exif({0x0132: "2006:06:06 06:06:06"}))
    assert (only.taken, only.taken_from) == ("2006-06-06T06:06:06", "modified")


# file names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("IMG-20190305-WA0001.jpg", "2019-03-05"),
        ("IMG-20190305-WA0001(1).jpeg", "2019-03-05"),
        ("WhatsApp Image 2019-03-05 at 12.03.01.jpeg", "2019-03-05T12:03:01"),
        ("WhatsApp Image 2019-03-05 at 1.03.01 PM.jpeg", "2019-03-05"),
        ("IMG_20190305_120301.jpg", "2019-03-05T12:03:01"),
        ("IMG_20190305_120301_HDR.jpg", "2019-03-05T12:03:01"),
        ("IMG20190305120301.jpg", "2019-03-05T12:03:01"),
        ("20190305_120301.jpg", "2019-03-05T12:03:01"),
        ("20190305_120301(0).jpg", "2019-03-05T12:03:01"),
        ("00100lPORTRAIT_00100_BURST20190305120301123_COVER.jpg", "2019-03-05T12:03:01"),
        ("PXL_20210305_120301123.jpg", "2021-03-05T12:03:01"),
        ("PXL_20210305_120301123.PORTRAIT.jpg", "2021-03-05T12:03:01"),
        ("MVIMG_20190305_120301.jpg", "2019-03-05T12:03:01"),
        ("signal-2019-03-05-120301.jpg", "2019-03-05T12:03:01"),
        ("signal-2019-03-05-12-03-01-123.jpg", "2019-03-05T12:03:01"),
        ("photo_2019-03-05_12-03-01.jpg", "2019-03-05T12:03:01"),
        ("Screenshot_20190305-120301.png", "2019-03-05T12:03:01"),
        ("Screenshot_20190305-120301_Maps.jpg", "2019-03-05T12:03:01"),
        ("Screenshot 2019-03-05 at 12.03.01.png", "2019-03-05T12:03:01"),
        ("Screen Shot 2019-03-05 at 12.03.01 PM.png", "2019-03-05T12:03:01"),
        ("Screen Shot 2019-03-05 at 02.03.01\u202fPM.png", "2019-03-05T14:03:01"),
        ("Bildschirmfoto 2019-03-05 um 12.03.01.png", "2019-03-05T12:03:01"),
        ("Capture d’écran 2019-03-05 à 12.03.01.png", "2019-03-05T12:03:01"),
        ("Screenshot from 2019-03-05 12-03-01.png", "2019-03-05T12:03:01"),
        ("Screenshot 2019-03-05 120301.png", "2019-03-05T12:03:01"),
        ("2019-03-05 12.03.01.jpg", "2019-03-05T12:03:01"),
        ("2019-03-05 12.03.01-1.jpg", "2019-03-05T12:03:01"),
        ("WP_20190305_12_03_01_Pro.jpg", "2019-03-05T12:03:01"),
        ("WP_20190305_001.jpg", "2019-03-05"),
        ("FB_IMG_1551787381000.jpg", "2019-03-05T12:03:01"),
        ("mmexport1551787381000.jpg", "2019-03-05T12:03:01"),
        ("2022-04-06 15-21-03 2160.jpg", "2022-04-06T15:21:03"),
        ("2014-08-25_17.15.33.jpg", "2014-08-25T17:15:33"),
        ("IMG_20230101_A.jpg", "2023-01-01"),
        ("signal-2024-09-24-20-19-49-610-1.jpg", "2024-09-24T20:19:49"),
        ("Portes_F69236275_20230314212224661_MD.jpg", "2023-03-14T21:22:24"),
        ("20180720_235036_8226A657.0002.jpg", "2018-07-20T23:50:36"),
        ("VID_79980301_160103_478.jpg", None),
        ("1962-08-03 wedding.jpg", "1962-08-03"),
        ("a/2019-03-05/x.jpg", None),
        ("IMG_0042.jpg", None),
        ("IMG_20191305_120301.jpg", None),
        ("IMG_20190230.jpg", None),
        ("30000101_000000.jpg", None),
        ("19620803.jpg", None),
        ("1943.jpg", None),
        ("1220190305123.jpg", None),
        ("20190305ab.jpg", None),
        ("2019-03-0512.jpg", None),
        ("DSC_2019.jpg", None),
    ],
)
def test_dates_in_file_names(name: str, taken: str | None) -> None:
    found = from_name(name)
    assert (found and dates.to_text(*found)) == taken


@given(st.text(max_size=40))
def test_no_name_is_an_error(name: str) -> None:
    found = from_name(name)
    assert found is None or found.moment.year >= 1826


def test_a_date_in_the_name_is_marked_and_counts_less_than_a_date_of_capture(
    tmp_path: Path,
) -> None:
    def taken(name: str, **options: object) -> tuple[str | None, str | None]:
        (tmp_path / name).write_bytes(as_bytes(draw(1), **options))
        info = photo.read(tmp_path / name, Geometry(32, 32, 32)).info
        return info.taken, info.taken_from

    name = "IMG-20190305-WA0001.jpg"
    assert taken(name) == ("2019-03-05", "name")
    assert taken(name, exif=exif(camera=SCAN)) == ("2019-03-05", "name")
    assert taken(name, exif=exif(camera={0x9003: "1993:00:00 0:0:0"})) == ("1993", "exif")
    assert taken("IMG_0001.jpg", exif=exif(camera=SCAN)) == ("2015-02-03T04:05:06", "digitized")
    assert taken("IMG_0001.jpg") == (None, None)


def test_a_renamed_or_copied_file_has_the_date_of_its_own_name(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for day in range(1, 7):
        (folder / f"IMG-2019030{day}-WA0001.jpg").write_bytes(as_bytes(draw(day)))
    with make_library(tmp_path / "library", tiny_encoder, folder) as library:
        before = {r.path: r.id for r in library.images(library.select().tolist())}
        (folder / "IMG-20190301-WA0001.jpg").rename(folder / "IMG-20180101-WA0001.jpg")
        (folder / "IMG-20190302-WA0001.jpg").rename(folder / "x.jpg")
        data = (folder / "IMG-20190303-WA0001.jpg").read_bytes()
        (folder / "IMG-20170101-WA0001.jpg").write_bytes(data)
        version = library.version
        report = update_library(library, tiny_encoder, workers=1)
        assert (report.found, report.removed) == (7, 0)
        found = {r.path: r for r in library.images(library.select().tolist())}
        assert found["IMG-20180101-WA0001.jpg"].info.taken == "2018-01-01"
        assert found["IMG-20180101-WA0001.jpg"].id == before["IMG-20190301-WA0001.jpg"]
        assert found["x.jpg"].info.taken is None
        assert found["x.jpg"].id == before["IMG-20190302-WA0001.jpg"]
        assert found["IMG-20170101-WA0001.jpg"].info.taken == "2017-01-01"
        assert found["IMG-20190303-WA0001.jpg"].info.taken == "2019-03-03"
        assert library.catalog.changes(version).ids.tolist() == [7], "only the copy is encoded"


# the catalog --------------------------------------------------------------------------------------

KNOWN = ["1943", "1943-01", "1943-01-01T00:00:00", "1943-06", "1943-06-10", "1943-06-10T08:00:00",
         "1943-12-31T23:59:59", "1944"]  # fmt: skip


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory):
    catalog, root = new_catalog(tmp_path_factory.mktemp("dates"))
    images = []
    for number, text in enumerate(KNOWN):
        moment, precision = dates.from_text(text)
        images.append(picture(f"{number}.jpg", taken_at=moment, taken_precision=precision))
    catalog.write(root, images=[*images, picture("undated.jpg")])
    with catalog:
        yield catalog


def found(catalog, query: str) -> list[str | None]:
    ids = catalog.select(parse(query).filters)
    return [image.info.taken for image in catalog.images(ids.tolist())]


def test_dates_are_stored_as_far_as_they_are_known(catalog) -> None:
    assert found(catalog, "") == [*KNOWN, None]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("before:1950", KNOWN),
        ("before:1944", KNOWN[:-1]),
        ("before:1943", []),
        ("before:1943-06", KNOWN[1:3]),
        ("before:1943-06-11", [KNOWN[1], KNOWN[2], KNOWN[4], KNOWN[5]]),
        ("before:1943-06-10", KNOWN[1:3]),
        ("after:1943", KNOWN),
        ("after:1944", KNOWN[-1:]),
        ("after:1943-01", KNOWN),
        ("after:1943-01-02", KNOWN[3:]),
        ("after:1943-06", KNOWN[3:]),
        ("after:1943-06-02", KNOWN[4:]),
        ("date:1943", KNOWN[:-1]),
        ("date:1943-06", KNOWN[3:6]),
        ("date:1943-06-10", KNOWN[4:6]),
        ("date:1943-01..1943-06", KNOWN[1:6]),
        ("date:1943-06-01..1943-06-14", KNOWN[4:6]),
        ("date:1943..1944", KNOWN),
        ("date:1944 date:1943-06", [*KNOWN[3:6], KNOWN[-1]]),
        ("-date:1943", [KNOWN[-1], None]),
        ("after:1943-06 before:1944", KNOWN[3:7]),
        ("after:1943 before:1943", []),
    ],
)
def test_filters_find_what_is_certainly_in_the_period(
    catalog, query: str, expected: list[str]
) -> None:
    assert found(catalog, query) == expected


def test_partial_dates_are_sorted_before_those_within_them(catalog) -> None:
    ids = catalog.select()
    ascending = [i.info.taken for i in catalog.images(catalog.by_date(ids, descending=False))]
    assert ascending == [*KNOWN, None]
    descending = [i.info.taken for i in catalog.images(catalog.by_date(ids))]
    assert descending == [*KNOWN[::-1], None]


def test_the_timeline_has_a_photo_of_1943_in_its_year_and_in_no_month(catalog) -> None:
    months = catalog.histogram()
    expected = {"1943": 1, "1943-01": 2, "1943-06": 3, "1943-12": 1, "1944": 1}
    assert dict(months.months) == expected
    assert months.undated == 1
    assert {f.text: f.count for f in catalog.facets("year")} == {"1943": 7, "1944": 1}
    assert catalog.full_text_search("1943 june", 9).tolist() == [4, 5, 6]
    assert 1 in catalog.full_text_search("1943", 9)


@given(st.dates(), st.sampled_from(dates.PRECISIONS))
def test_a_date_and_its_text_are_one(day: date, precision: dates.Precision) -> None:
    moment = datetime(day.year, day.month, day.day, 12)
    text = dates.to_text(moment, precision)
    again, known = dates.from_text(text)
    assert known == precision
    assert dates.to_text(again, known) == text
    assert moment.date() < dates.end_of(day, precision) or day == date.max


# date: --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "first", "end"),
    [
        ("2012", date(2012, 1, 1), date(2013, 1, 1)),
        ("2012-06", date(2012, 6, 1), date(2012, 7, 1)),
        ("2012-12", date(2012, 12, 1), date(2013, 1, 1)),
        ("2012-06-01", date(2012, 6, 1), date(2012, 6, 2)),
        ("2012-06-01..2012-06-14", date(2012, 6, 1), date(2012, 6, 15)),
    ],
)
def test_date_is_a_period_and_is_written_as_it_was_read(text: str, first: date, end: date) -> None:
    query = parse(f"date:{text}")
    assert query.filters.conditions == (Condition("date", (first, end)),)
    assert query.to_text() == f"date:{text}"


def test_a_range_of_months_ends_with_the_last_day_of_the_last() -> None:
    assert parse("date:2012-06..2012-07") == parse("date:2012-06-01..2012-07-31")
    assert parse("date:2012-06-14..2012-06") == parse("date:2012-06-14..2012-06-30")
    assert parse("date:2012-06..2012-06") == parse("date:2012-06")


@pytest.mark.parametrize(
    "text", ["", "12", "2012-13", "2013..2012", "2012..", "..2012", "2012...2013"]
)
def test_an_invalid_date_is_an_error_with_an_example(text: str) -> None:
    with pytest.raises(QueryError, match=r"date:2012-06-01\.\.2012-07"):
        parse(f"date:{text}")


# what people see ----------------------------------------------------------------------------------


@pytest.fixture
def old_photos(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(as_bytes(draw(1), xmp=packet('photoshop:DateCreated="1943"')))
    (folder / "IMG-20190305-WA0001.jpg").write_bytes(as_bytes(draw(2)))
    return folder


def test_the_api_and_the_command_show_a_date_as_it_is(
    old_photos: Path, tmp_path: Path, tiny_encoder: Encoder, capsys: pytest.CaptureFixture
) -> None:
    with (
        make_library(tmp_path / "library", tiny_encoder, old_photos) as library,
        SearchEngine(library, tiny_encoder) as engine,
    ):
        client = create_app(engine).test_client()
        [hit] = client.get("/api/search?q=before:1950").json["hits"]
        assert (hit["taken_at"], hit["taken_from"]) == ("1943", "xmp")
        [hit] = client.get("/api/search?q=date:2019-03-05").json["hits"]
        assert (hit["taken_at"], hit["taken_from"]) == ("2019-03-05", "name")
        months = client.get("/api/timeline").json["months"]
        assert months == [{"month": "1943", "count": 1}, {"month": "2019-03", "count": 1}]
        asked = client.get("/api/search?q=after:2012+before:2012").json
        assert "from 2012-01-01 to 2011-12-31" in asked["message"]
        parsed = client.get("/api/parse?q=before:2012+date:2012-02").json
        meanings = [one["meaning"] for one in parsed["filters"]]
        assert meanings == ["to 2011-12-31", "from 2012-02-01 to 2012-02-29"]
    for format in ("jsonl", "parquet"):
        target = tmp_path / f"set.{format}"
        where = ["--library", str(tmp_path / "library")]
        assert run(["export", str(target), *where]) == 0
        copy = tmp_path / format
        assert run(["import", str(target), "--library", str(copy), "--model", library.model]) == 0
        capsys.readouterr()
        assert run(["search", "--library", str(copy), "--json", "before:1950"]) == 0
        [hit] = json.loads(capsys.readouterr().out)["hits"]
        assert (hit["taken_at"], hit["taken_from"]) == ("1943", "xmp")
