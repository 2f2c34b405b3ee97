"""The query language: parsing a line, and writing a query as a line."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.indexer.errors import QueryError
from sightline.indexer.types import Condition, Filters
from sightline.server.search.query import FILTER_NAMES, MAX_LENGTH, Box, Query, Term, parse


def terms(text: str) -> list[tuple[object, float]]:
    """Each term's content and weight."""
    return [
        (term.text if term.text is not None else term.like or term.upload, term.weight)
        for term in parse(text).terms
    ]


def conditions(text: str) -> list[tuple[str, object, bool]]:
    """Each filter's name, value and whether it is inverted."""
    return [(c.name, c.value, c.negated) for c in parse(text).filters.conditions]


def test_plain_words_form_one_term() -> None:
    query = parse("dog on a beach -people after:2023-06-01 in:Holidays camera:iphone at dusk")
    assert query.terms == (Term(text="dog on a beach at dusk"), Term(text="people", weight=-1))
    assert query.filters == Filters(
        (
            Condition("after", date(2023, 6, 1)),
            Condition("in", "Holidays"),
            Condition("camera", "iphone"),
        )
    )
    assert (query.combine, query.sort) == ("sum", "relevance")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("dog", [("dog", 1)]),
        ("  dog \t on\na  beach ", [("dog on a beach", 1)]),
        ('"a red car" dog', [("a red car", 1), ("dog", 1)]),
        ('dog -"a phrase" beach', [("dog beach", 1), ("a phrase", -1)]),
        ("2:golden retriever", [("golden retriever", 2)]),
        ("snow 2:golden retriever", [("snow", 1), ("golden retriever", 2)]),
        ('2:golden retriever "in snow" red', [("golden retriever", 2), ("in snow", 1), ("red", 1)]),
        ("1.5:a b .5:c d", [("a b", 1.5), ("c d", 0.5)]),
        ("city -0.5:fog bank", [("city", 1), ("fog bank", -0.5)]),
        ("2:golden -people retriever", [("golden retriever", 2), ("people", -1)]),
        ("2:golden in:x retriever", [("golden retriever", 2)]),
        ('2:"12"', [("12", 2)]),
        ("0:dog", [("dog", 0)]),
        ("16:9 photo at 10:30", [("16:9 photo at 10:30", 1)]),
        ("2: dogs", [("2: dogs", 1)]),
        ("t-shirt - blue", [("t-shirt - blue", 1)]),
        ("--x", [("-x", -1)]),
        ("http://x note:this", [("http://x note:this", 1)]),
        ('"in:Holidays" "like:5"', [("in:Holidays", 1), ("like:5", 1)]),
        ('"never closed in:x', [("never closed in:x", 1)]),
        ('5" nails', [("5 nails", 1)]),
        ("“a red car” dog", [("a red car", 1), ("dog", 1)]),
        ('"" -"" 2:""', []),
        ("", []),
        ("like:5 -like:6 2:like:7 -.5:like:8", [(5, 1), (6, -1), (7, 2), (8, -0.5)]),
        ("upload:a_B-9 LIKE:1", [("a_B-9", 1), (1, 1)]),
        ("犬 on a 海岸 -人", [("犬 on a 海岸", 1), ("人", -1)]),
    ],
)
def test_terms_and_weights(line: str, expected: list[tuple[object, float]]) -> None:
    assert terms(line) == expected


def test_a_region_of_an_image() -> None:
    (term,) = parse("-2:like:5@0,.25,0.5,1").terms
    assert term == Term(like=5, crop=Box(0, 0.25, 0.5, 1), weight=-2)
    (term,) = parse("upload:abc@.1,.2,.30001,.4").terms
    assert term.crop == Box(0.1, 0.2, 0.3, 0.4)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("after:2023", ("after", date(2023, 1, 1), False)),
        ("before:2023-06", ("before", date(2023, 6, 1), False)),
        ("-after:2023-6-1", ("after", date(2023, 6, 1), True)),
        ("in:\"My trip to 'x'\"", ("in", "My trip to 'x'", False)),
        ("-in:Work", ("in", "Work", True)),
        ("CAMERA:X100V", ("camera", "X100V", False)),
        ("lens:50mm", ("lens", "50mm", False)),
        ("type:JPEG", ("type", "jpeg", False)),
        ("is:Portrait", ("is", "portrait", False)),
        ("near:48.137,11.575,5", ("near", (48.137, 11.575, 5.0), False)),
        ("near:-33.9,151.2", ("near", (-33.9, 151.2, 10.0), False)),
        ("label:dog", ("label", "dog", False)),
        ("keyword:family", ("keyword", "family", False)),
        ("text:inv*", ("text", "inv*", False)),
        ("place:lisbon", ("place", "lisbon", False)),
        ("-country:pt", ("country", "pt", True)),
        ('person:"Ada Lovelace"', ("person", "Ada Lovelace", False)),
        ("rating:4", ("rating", 4, False)),
        ("name:IMG_2041", ("name", "IMG_2041", False)),
    ],
)
def test_filters_are_parsed(line: str, expected: tuple[str, object, bool]) -> None:
    assert conditions(line) == [expected]
    assert parse(line).terms == ()


def test_options_are_parsed() -> None:
    assert parse("a match:all sort:newest").combine == "all"
    assert parse("a match:all sort:newest").sort == "newest"
    assert parse("a match:sum sort:relevance") == parse("a")


def test_a_repeated_filter_counts_once() -> None:
    assert parse("in:a in:a") == parse("in:a")


@pytest.mark.parametrize(
    "line",
    [
        "after:yesterday",
        "after:2023-13",
        "before:2023-02-30",
        "after:0000",
        "is:round",
        "near:48",
        "near:91,0,1",
        "near:0,181,1",
        "near:0,0,0",
        "near:0,0,99999",
        "near:nan,0,1",
        "near:1e3,0,1",
        "rating:6",
        "rating:-1",
        "in:",
        'in:" "',
        "like:",
        "like:x",
        "like:0",
        "like:-1",
        "like:9223372036854775808",
        "like:99999999999999999999999",
        "like:5@",
        "like:5@0,0,1",
        "like:5@0,0,1,nan",
        "like:5@.5,0,.5,1",
        "like:5@0,0,1.1,1",
        "like:5@-.1,0,1,1",
        "like:5@0,0,0.00001,1",
        "upload:a/b",
        "upload:" + "a" * 65,
        "match:some",
        "sort:sideways",
        "101:dog",
        "999999999:dog",
        "x" * (MAX_LENGTH + 1),
        '"a" ' * 33,
        " ".join(f"in:{n}" for n in range(65)),
    ],
)
def test_an_invalid_query_is_an_error_of_one_line(line: str) -> None:
    with pytest.raises(QueryError) as error:
        parse(line)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def test_every_filter_is_documented_by_condition() -> None:
    documented = Condition.__doc__ or ""
    assert all(f"``{name}``" in documented for name in FILTER_NAMES)


def test_lone_surrogates_are_replaced() -> None:
    (term,) = parse("dog \ud800").terms
    assert term.text == "dog ?"


PIECES = [
    "-",
    '"',
    ":",
    ",",
    "@",
    "2",
    ".5",
    "0",
    "16:9",
    "like:",
    "upload:",
    "in:",
    "after:2023",
    "is:square",
    "near:1,2,3",
    "rating:3",
    "match:all",
    "sort:newest",
    "like:5",
    "like:5@0,0,.5,.5",
    "2:like:7",
    "upload:a",
    "-people",
    "dog",
    "2:golden",
    "-0.5:fog",
    "“",
    "”",
    '"a',
    'b"',
    '-"c',
    'd"',
    'in:"x',
    'y"',
    "\\",
]
BLANKS = [" ", "\t", "\n", "\u3000", "\x85"]
LINES = (
    st.text(max_size=200)
    | st.lists(st.sampled_from(PIECES + BLANKS + ["é", "犬"]), max_size=30).map("".join)
    | st.lists(st.sampled_from(PIECES), max_size=30).map(" ".join)
)


@given(LINES)
def test_any_line_is_a_query_error_or_a_query_that_round_trips(line: str) -> None:
    try:
        query = parse(line)
    except QueryError:
        return
    written = query.to_text()
    if len(written) <= MAX_LENGTH:
        assert parse(written) == query
        assert parse(written).to_text() == written
    assert query.as_dict()["text"] == written


FRACTIONS = st.integers(0, 9999).map(lambda n: n / 10_000)
BOXES = st.tuples(FRACTIONS, FRACTIONS, FRACTIONS, FRACTIONS).map(
    lambda f: Box(min(f[0], f[2]), min(f[1], f[3]), max(f[0], f[2]) + 1e-4, max(f[1], f[3]) + 1e-4)
)
ROUNDED = BOXES.map(lambda box: Box(*(round(side, 4) for side in box)))
WEIGHTS = st.integers(-1_000_000, 1_000_000).map(lambda n: n / 10_000)
TEXTS = (
    st.text(max_size=60)
    .map(lambda text: " ".join(text.replace('"', "").split()))
    .filter(lambda text: text and text == text.translate(str.maketrans("", "", "“”„‟＂«»")))
    .filter(lambda text: not any(0xD800 <= ord(letter) < 0xE000 for letter in text))
)
TERMS = (
    st.builds(Term, text=TEXTS, weight=WEIGHTS)
    | st.builds(Term, like=st.integers(1, 2**63 - 1), crop=st.none() | ROUNDED, weight=WEIGHTS)
    | st.builds(
        Term,
        upload=st.from_regex("[A-Za-z0-9_-]{1,64}", fullmatch=True),
        crop=st.none() | ROUNDED,
        weight=WEIGHTS,
    )
)
CONDITIONS = st.builds(
    Condition,
    st.sampled_from(["after", "before"]),
    st.dates(),
    st.booleans(),
) | st.builds(Condition, st.sampled_from(["in", "camera", "keyword", "name"]), TEXTS, st.booleans())


@given(
    st.builds(
        Query,
        st.lists(TERMS, max_size=8).map(tuple),
        st.lists(CONDITIONS, max_size=5, unique=True).map(lambda c: Filters(tuple(c))),
        st.sampled_from(["sum", "all"]),
        st.sampled_from(["relevance", "newest", "oldest"]),
    )
)
def test_any_query_round_trips_as_text(query: Query) -> None:
    if len(query.to_text()) <= MAX_LENGTH:
        assert parse(query.to_text()) == query
