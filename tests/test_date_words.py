"""Dates in plain words: what is read as a date, what stays words, and that it is reported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers_catalog import TOP, picture, unit
from helpers_client import client_of
from helpers_library import as_bytes, dated, draw, empty_library

from sightline.server.cli import run
from sightline.server.mcp.answers import found_photos
from sightline.server.search import Query, SearchEngine, Term, parse
from sightline.server.web.app import create_app

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder
    from sightline.indexer.library import Library

TODAY = date(2024, 5, 15)
"""A Wednesday in spring."""

DATED = {
    # months
    "july 2023": "date:2023-07", "july, 2023": "date:2023-07", "July of 2023": "date:2023-07",
    "in july 2023": "date:2023-07", "jul 2023": "date:2023-07", "2023 july": "date:2023-07",
    "may 2019": "date:2019-05", "march 2019": "date:2019-03", "Sept. 2021": "date:2021-09",
    "strand juli 2023": "date:2023-07", "im märz 2020": "date:2020-03",
    "Maerz 2020": "date:2020-03", "Jänner 2022": "date:2022-01", "dez 2018": "date:2018-12",
    "oktober 2017": "date:2017-10", "mai 2021": "date:2021-05", "july last year": "date:2023-07",
    "juli letztes jahr": "date:2023-07", "im august des letzten Jahres": "date:2023-08",
    "march of this year": "date:2024-03", "last july": "date:2023-07",
    "letzten november": "date:2023-11", "last may": "date:2023-05",
    # days
    "4 july 2019": "date:2019-07-04", "july 4, 2019": "date:2019-07-04",
    "4th of july 2019": "date:2019-07-04", "July 4th 2019": "date:2019-07-04",
    "on the 3rd of march 2020": "date:2020-03-03", "4. Juli 2019": "date:2019-07-04",
    "am 4. juli 2019": "date:2019-07-04", "04.07.2019": "date:2019-07-04",
    "2019-07-04": "date:2019-07-04", "2019-07": "date:2019-07", "13/07/2019": "date:2019-07-13",
    "07/13/2019": "date:2019-07-13",
    # years
    "in 2018": "date:2018", "im Jahr 2018": "date:2018", "im jahre 1984": "date:1984",
    "in the year 2018": "date:2018", "during 2018": "date:2018", "year 2018": "date:2018",
    "jahr 2018": "date:2018", "photos from 2018": "date:2018", "fotos aus 2018": "date:2018",
    "bilder von 2018": "date:2018", "in the 1980s": "date:1980..1989",
    "in den 1990er": "date:1990..1999", "last year": "date:2023", "letztes jahr": "date:2023",
    "this year": "date:2024", "dieses Jahr": "date:2024",
    # seasons
    "summer 2020": "date:2020-06..2020-08", "summer of 2020": "date:2020-06..2020-08",
    "sommer 2020": "date:2020-06..2020-08", "im Sommer 2020": "date:2020-06..2020-08",
    "in the summer of 2020": "date:2020-06..2020-08", "fall 2021": "date:2021-09..2021-11",
    "autumn 2021": "date:2021-09..2021-11", "herbst 2021": "date:2021-09..2021-11",
    "frühling 2022": "date:2022-03..2022-05", "spring 2022": "date:2022-03..2022-05",
    "winter 2019": "date:2019-01..2019-02 date:2019-12..2020-02",
    "winter 2018/19": "date:2018-12..2019-02", "winter 2018/2019": "date:2018-12..2019-02",
    "winter 2018-2019": "date:2018-12..2019-02", "summer last year": "date:2023-06..2023-08",
    "last summer": "date:2023-06..2023-08", "letzten Sommer": "date:2023-06..2023-08",
    "letzter sommer": "date:2023-06..2023-08", "im letzten sommer": "date:2023-06..2023-08",
    "snow last winter": "date:2023-12..2024-02", "vergangenen winter": "date:2023-12..2024-02",
    "this spring": "date:2024-03..2024-05", "diesen frühling": "date:2024-03..2024-05",
    "last spring": "date:2023-03..2023-05", "last fall": "date:2023-09..2023-11",
    # holidays
    "christmas 2019": "date:2019-12-24..2019-12-26", "xmas 2019": "date:2019-12-24..2019-12-26",
    "weihnachten 2019": "date:2019-12-24..2019-12-26", "heiligabend 2020": "date:2020-12-24",
    "christmas eve 2020": "date:2020-12-24", "christmas day 2020": "date:2020-12-25",
    "last christmas": "date:2023-12-24..2023-12-26",
    "letzte weihnachten": "date:2023-12-24..2023-12-26",
    "new year's eve 2019": "date:2019-12-31..2020-01-01",
    "new year’s eve 2019": "date:2019-12-31..2020-01-01",
    "silvester 2019": "date:2019-12-31..2020-01-01", "new year 2020": "date:2019-12-31..2020-01-01",
    "easter 2019": "date:2019-04-19..2019-04-22", "ostern 2024": "date:2024-03-29..2024-04-01",
    "pfingsten 2023": "date:2023-05-28..2023-05-29", "halloween 2022": "date:2022-10-31",
    "thanksgiving 2023": "date:2023-11-23", "valentine's day 2021": "date:2021-02-14",
    "christmas last year": "date:2023-12-24..2023-12-26",
    "weihnachten letztes jahr": "date:2023-12-24..2023-12-26",
    # relative
    "yesterday": "date:2024-05-14", "gestern": "date:2024-05-14", "today": "date:2024-05-15",
    "heute": "date:2024-05-15", "the day before yesterday": "date:2024-05-13",
    "vorgestern": "date:2024-05-13", "last night": "date:2024-05-14..2024-05-15",
    "letzte nacht": "date:2024-05-14..2024-05-15", "last week": "date:2024-05-06..2024-05-12",
    "letzte Woche": "date:2024-05-06..2024-05-12", "this week": "date:2024-05-13..2024-05-19",
    "last weekend": "date:2024-05-11..2024-05-12",
    "letztes wochenende": "date:2024-05-11..2024-05-12", "last month": "date:2024-04",
    "letzten monat": "date:2024-04", "diesen monat": "date:2024-05",
    "last monday": "date:2024-05-13", "letzten freitag": "date:2024-05-10",
    "last wednesday": "date:2024-05-08",
    "3 days ago": "date:2024-05-12", "vor 3 tagen": "date:2024-05-12",
    "two weeks ago": "date:2024-04-29..2024-05-05",
    "vor einer woche": "date:2024-05-06..2024-05-12",
    "a month ago": "date:2024-04", "vor zwei monaten": "date:2024-03", "2 years ago": "date:2022",
    "vor 2 Jahren": "date:2022", "last 7 days": "date:2024-05-08..2024-05-15",
    "in the last three months": "date:2024-02-15..2024-05-15",
    "letzten zwei wochen": "date:2024-05-01..2024-05-15",
    # ranges and bounds
    "from 2018 to 2020": "date:2018..2020", "between 2018 and 2020": "date:2018..2020",
    "von 2018 bis 2020": "date:2018..2020", "zwischen 2018 und 2020": "date:2018..2020",
    "june to august 2021": "date:2021-06..2021-08", "june - august 2021": "date:2021-06..2021-08",
    "between june and august 2021": "date:2021-06..2021-08",
    "juni bis august 2021": "date:2021-06..2021-08",
    "november to january 2021": "date:2020-11..2021-01",
    "july 2019 until march 2020": "date:2019-07..2020-03",
    "since 2018": "after:2018-01-01", "seit 2018": "after:2018-01-01",
    "since last summer": "after:2023-06-01", "before 2018": "before:2018-01-01",
    "vor 2018": "before:2018-01-01", "vor weihnachten 2019": "before:2019-12-24",
    "until march 2020": "before:2020-04-01", "bis 2015": "before:2016-01-01",
    "after july 2023": "after:2023-08-01", "nach 2015": "after:2016-01-01",
    "christmas 2018 and christmas 2019":
        "date:2018-12-24..2018-12-26 date:2019-12-24..2019-12-26",
}  # fmt: skip

WITH_CONTENT = {
    "beach july 2023": "beach date:2023-07",
    "snow last winter": "snow date:2023-12..2024-02",
    "schnee im letzten Winter": "schnee date:2023-12..2024-02",
    "Anna at the beach in the summer of 2020": "Anna at the beach date:2020-06..2020-08",
    "july 2023 beach": "beach date:2023-07",
    "photos of a dog from last summer": "photos of a dog date:2023-06..2023-08",
    "my photos from christmas 2019": "date:2019-12-24..2019-12-26",
    "meine Fotos vom letzten Sommer": "date:2023-06..2023-08",
    "birthday cake yesterday -people in:Home": "birthday cake -people in:Home date:2024-05-14",
    "cat since 2018 sort:oldest": "cat after:2018-01-01 sort:oldest",
}

WORDS = (
    "may", "march", "august", "spring", "fall", "1080", "sunday best", "march of the penguins",
    "2001 a space odyssey", "nikon d750", "the may pole", "a soldier on the march",
    "spring in the step of a man", "a boy about to fall", "an august assembly",
    "girls in their sunday best", "the second boy", "black friday crowd", "may we dance",
    "people march for peace", "the last march of the elephants", "this march for science",
    "mattress with a spring", "a horse may jump",
    "the fall of the wall", "waterfall in fall colors",
    "blade runner 2049", "windows 95", "a car from 1965", "a 1950s diner with neon signs",
    "in 2000 meters of altitude", "mann vor 2000 leuten", "in 3000", "in 1234",
    "a number 1984 shirt",
    "boeing 747", "iso 1600", "route 66", "1920x1080", "canon 2000d", "four people in 1066 battle",
    "this is a dog", "at last a snow day", "the last week of school for the children",
    "last day", "the last supper", "runs past a tree", "past the house", "this week's",
    "may flowers in a vase", "june bug on a green leaf", "april the giraffe in a zoo",
    "dog named august on a couch", "summer dress", "winter coat in a shop window today's",
    "monday market", "a friday night band", "new year fireworks", "christmas tree", "easter eggs",
    "halloween pumpkin", "silvester", "ein mann im herbst des lebens", "der mai ist gekommen lied",
    "vor dem haus", "vor zwei hunden", "nach dem regen", "seit", "bis zum horizont",
    "von 2 bis 4 jahren", "since before", "between two trees", "from a to b", "99 luftballons",
    "07/08/2019", "2019-13", "2019-02-30", "in 2031", "july 2031", "next summer",
    "a man wearing number 2000 in a race", "order 66", "70s disco", "sat on a bench",
    "sun in the sky",
    "dec", "jan on a bike", "mar", "second last", "ago", "minutes ago", "a long time ago",
)  # fmt: skip
"""Texts in which nothing is applied."""

OFFERED = {
    "summer": "date:2023-06..2023-08", "monday": "date:2024-05-13", "may": "date:2024-05",
    "beach summer": "date:2023-06..2023-08", "july 4": "date:2023-07-04", "schnee januar":
    "date:2024-01", "paris 2018": "date:2018", "2018 paris": "date:2018",
    "castle from 2018": "date:2018", "2018-2020": "date:2018..2020", "1980s": "date:1980..1989",
}  # fmt: skip

CAPTIONS = tuple(text for text in WORDS if len(text.split()) > 4)


def read(text: str) -> Query:
    return parse(text, today=TODAY)


@pytest.mark.parametrize("text", DATED)
def test_a_date_alone_is_a_filter(text: str) -> None:
    query = read(text)
    rest = [term.text for term in query.terms if term.text not in ("strand", "snow")]
    filters = [part for part in query.to_text().split() if ":" in part]
    assert (rest, " ".join(filters)) == ([], DATED[text])


@pytest.mark.parametrize("text", WITH_CONTENT)
def test_a_date_beside_other_words_is_a_filter_for_these(text: str) -> None:
    assert read(text).to_text() == WITH_CONTENT[text]


@pytest.mark.parametrize("text", WORDS)
def test_words_that_only_look_like_dates_stay_words(text: str) -> None:
    query = read(text)
    assert query.filters.conditions == ()
    assert [term.text for term in query.terms] == [text]
    assert not any(one.applied for one in query.interpreted)


def test_long_captions_are_offered_no_date() -> None:
    assert len(CAPTIONS) > 15
    assert [text for text in CAPTIONS if read(text).interpreted] == []


@pytest.mark.parametrize("text", OFFERED)
def test_words_that_may_be_a_date_are_offered_as_one(text: str) -> None:
    query = read(text)
    assert [term.text for term in query.terms] == [text]
    (one,) = query.interpreted
    assert (one.filter, one.applied) == (OFFERED[text], False)
    assert read(one.other).to_text().endswith(OFFERED[text])


def test_quoted_negative_and_weighted_words_are_no_dates() -> None:
    for text in (
        '"july 2023"',
        'beach "in 2018"',
        "-yesterday beach",
        "2:july 2023",
        'a"b july 2023',
    ):
        assert read(text).filters.conditions == (), text


def test_the_other_reading_has_the_same_words_and_filters() -> None:
    query = read("beach july 2023 -people in:Home sort:newest")
    (one,) = query.interpreted
    assert one.words == "july 2023"
    assert one.other == '"beach july 2023" -people in:Home sort:newest'
    words = read(one.other)
    assert words.interpreted == ()
    assert words.to_text() == '"beach july 2023" -people in:Home sort:newest'
    assert [term.text for term in words.terms] == ["beach july 2023", "people"]


def test_a_text_that_is_a_date_is_written_in_quotes() -> None:
    query = Query((Term(text="july 2023"),))
    assert query.to_text() == '"july 2023"'
    assert query.as_dict()["terms"][0]["quoted"]
    assert "quoted" not in read("dog").as_dict()["terms"][0]


def test_today_is_that_of_the_clock_of_this_machine() -> None:
    before = date.today()
    (condition,) = parse("today").filters.conditions
    assert condition.value[0] in (before, date.today())


# ways in ------------------------------------------------------------------------------------------

DATES = {"one.jpg": "2023-07-09", "two.jpg": "2023-07-10", "three.jpg": "2023-08-09"}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder) -> Iterator[Library]:
    """Two images of July 2023 and one of August."""
    folder = tmp_path_factory.mktemp("dates")
    with empty_library(folder / "library", tiny_encoder) as made:
        images = [
            replace(
                picture(name, taken_at=datetime.fromisoformat(day)),
                vector=unit(number, tiny_encoder.dimension),
            )
            for number, (name, day) in enumerate(DATES.items())
        ]
        made.catalog.write(made.ensure_root(TOP), images=images)
        yield made


@pytest.fixture(scope="module")
def engine(library: Library, tiny_encoder: Encoder) -> Iterator[SearchEngine]:
    with SearchEngine(library, tiny_encoder) as made:
        yield made


def test_the_engine_filters_by_the_date_and_reports_it(engine: SearchEngine) -> None:
    result = engine.search("a dog july 2023")
    assert {hit.path for hit in result.hits} == {"one.jpg", "two.jpg"}
    assert result.total == len(engine.ids("july 2023")) == engine.order("july 2023").results == 2
    (one,) = result.interpreted
    assert one.sentence == '"july 2023" is read as date:2023-07: quote it to search for the words'
    words = engine.search(one.other)
    assert (words.total, words.interpreted) == (3, ())
    assert engine.search("dog may").interpreted[0].sentence.startswith('"may" may be a date: date:')
    assert "is read as date:2023-07" in result._repr_html_()


def test_no_image_of_a_date_is_explained_by_the_days(engine: SearchEngine) -> None:
    message = engine.search("winter 2019").message
    assert message == "No photos match these filters (taken from 2019-01-01 to 2020-02-29)."


def test_the_api_and_the_page_without_scripts_show_the_date(engine: SearchEngine) -> None:
    client = client_of(create_app(engine))
    answer = client.get("/api/search?q=a+dog+july+2023").json
    assert answer["total"] == 2
    expected = {
        "words": "july 2023",
        "filter": "date:2023-07",
        "applied": True,
        "other": '"a dog july 2023"',
    }
    assert answer["interpreted"] == [expected]
    parsed = client.get("/api/parse?q=a+dog+july+2023").json
    assert parsed["interpreted"] == [expected]
    assert parsed["text"] == "a dog date:2023-07"
    assert client.get("/api/search?q=a+dog").json["interpreted"] == []
    page = client.get("/?plain=1&q=a+dog+july+2023").text
    assert "“july 2023” is read as date:2023-07" in page
    assert "q=%22a+dog+july+2023%22" in page
    assert 'id="chips"' in client.get("/?q=dog").text
    assert "hidden" in client.get("/?q=dog").text.partition('id="chips"')[2].partition(">")[0]
    shown = client.get("/?q=dog+july+2023").text.partition('id="chips"')[2].partition(">")[0]
    assert "hidden" not in shown


def test_assistants_are_told_of_the_date(engine: SearchEngine) -> None:
    found = found_photos(engine.search("july 2023"), absolute=False, following=None)
    assert found.interpreted == [
        '"july 2023" is read as date:2023-07: quote it to search for the words'
    ]
    assert found_photos(engine.search("dog"), absolute=False, following=None).interpreted is None


def test_commands_report_the_date_on_standard_error(
    tmp_path: Path, tiny_clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.jpg").write_bytes(as_bytes(draw(1), exif=dated(2023, 7)))
    at = ["--library", str(tmp_path / "library")]
    assert run(["index", str(tmp_path / "pictures"), *at, "--model", str(tiny_clip), "-q"]) == 0
    capsys.readouterr()
    assert run(["search", "dog july 2023", "--json", *at]) == 0
    out, err = capsys.readouterr()
    assert [hit["name"] for hit in json.loads(out)["hits"]] == ["a.jpg"]
    assert err == '"july 2023" is read as date:2023-07: quote it to search for the words\n'
    assert run(["search", "dog in 2018", "--fail-empty", *at]) == 1
    assert '"in 2018" is read as date:2018' in capsys.readouterr().err
    assert run(["search", '"dog in 2018"', "--paths-only", *at]) == 0
    assert capsys.readouterr().err == ""


def test_filters_of_other_commands_take_no_dates_in_words(
    engine: SearchEngine, capsys: pytest.CaptureFixture[str], library: Library
) -> None:
    assert run(["duplicates", "yesterday", "--library", str(library.directory)]) != 0
    assert "filters" in capsys.readouterr().err
