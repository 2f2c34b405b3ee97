"""A word that was read with one error in an image is found; exact words come first."""

from __future__ import annotations

import string
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers_catalog import file, new_catalog, picture, unit
from helpers_client import client_of
from helpers_library import empty_library

from sightline.indexer.catalog import Catalog
from sightline.indexer.encoder import Encoder
from sightline.indexer.library import Library
from sightline.indexer.types import (
    EXACT_TEXT,
    Candidate,
    Condition,
    Filters,
    NewImage,
    Photo,
    PhotoInfo,
    Root,
    TextLine,
)
from sightline.server.cli import run
from sightline.server.search import SearchEngine
from sightline.server.web.app import create_app

WHOLE = (0.0, 0.0, 1.0, 1.0)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[tuple[Catalog, Root]]:
    catalog, root = new_catalog(tmp_path)
    with catalog:
        yield catalog, root


def write(catalog: Catalog, root: Root, *texts: str) -> None:
    """New images in which ``texts`` were read."""
    first = catalog.count
    new = [picture(f"{first + n}.jpg") for n in range(len(texts))]
    ids = catalog.write(root, images=new).images
    lines = [[TextLine(text, 0.9, WHOLE)] for text in texts]
    catalog.write_texts(list(zip(ids, lines, strict=True)), engine="toy 1")


def found(catalog: Catalog, value: str, *, name: str = "text") -> list[int]:
    return catalog.select(Filters((Condition(name, value),))).tolist()


# one error ----------------------------------------------------------------------------------------


def test_every_word_one_error_away_is_found(made: tuple[Catalog, Root]) -> None:
    catalog, root = made
    write(catalog, root, "Invoice 4711")
    word, letters = "invoice", string.ascii_lowercase
    parts = [(word[:at], word[at:]) for at in range(len(word) + 1)]
    errors = {a + b[1:] for a, b in parts if b}
    errors |= {a + b[1] + b[0] + b[2:] for a, b in parts if len(b) > 1}
    errors |= {a + letter + b[1:] for a, b in parts if b for letter in letters}
    errors |= {a + letter + b for a, b in parts for letter in letters}
    assert len(errors) > 350
    for error in errors - {word}:
        assert catalog.similar_words(error) == [word], error
    for other in ("inovcie", "nvoic", "invoicing", "voice", "invoice"):
        assert catalog.similar_words(other) == [], other


def test_a_misread_word_is_found_but_not_excluded_nor_exact(made: tuple[Catalog, Root]) -> None:
    catalog, root = made
    write(catalog, root, "invoiee 12", "an Invoice", "TOTAL", "T0tal amuont due", "12 34 567")
    assert found(catalog, "invoice") == [1, 2]
    assert found(catalog, "invoice", name=EXACT_TEXT) == [2]
    assert found(catalog, "total") == [3, 4], "a digit for a letter"
    assert found(catalog, "total amount due") == [], "two errors"
    assert found(catalog, "amount due") == [4]
    assert found(catalog, "amo*") == found(catalog, "12 34 56") == found(catalog, "12345") == []
    excluded = Filters((Condition("text", "invoice", negated=True),))
    assert catalog.select(excluded).tolist() == [1, 3, 4, 5]


def test_a_frequent_word_is_no_error_of_another(made: tuple[Catalog, Root]) -> None:
    catalog, root = made
    write(catalog, root, *["house"] * 4, *["horse"] * 3, "housc", "housc")
    assert found(catalog, "house") == [1, 2, 3, 4, 8, 9]
    assert catalog.similar_words("house") == ["housc"]
    assert found(catalog, "horse") == [5, 6, 7]
    assert found(catalog, "hause") == []


def test_words_are_counted_until_the_last_image_with_them_is_deleted(
    made: tuple[Catalog, Root],
) -> None:
    catalog, root = made
    write(catalog, root, "museum museum", "museum garage", "garage")

    def words() -> dict[str, int]:
        with catalog._store.reading() as connection:
            return dict(connection.execute("SELECT word, images FROM text_words"))

    assert words() == {"museum": 2, "garage": 2}
    catalog.write(root, copied=[(1, file("copy.jpg"))])
    catalog.write(root, described=[(3, file("2.jpg"), PhotoInfo(width=1, height=1, format="png"))])
    assert words() == {"museum": 3, "garage": 2}
    catalog.write_texts([(2, [TextLine("castle", 1.0, WHOLE)])], engine="toy 2")
    catalog.write(root, images=[picture("0.jpg", seed=9, image=1, mtime_ns=2)])
    assert words() == {"museum": 1, "garage": 1, "castle": 1}
    catalog.remove([2, 3, 4])
    assert words() == {}
    assert catalog.check() == []


# letters ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("Caf\u00e9 M\u00fcller", "cafe muller"),
        ("Cafe\u0301 Mu\u0308ller", "caf\u00e9 m\u00fcller"),
        ("CAFE MULLER", "Cafe\u0301 M\u00fcller"),
        ("Stra\u00dfe", "STRASSE"),
        ("Strasse", "stra\u00dfe"),
        ("\u0141\u00f3d\u017a", "lodz"),
        ("sm\u00f8rrebr\u00f8d", "smorrebrod"),
        ("\ufb01nal o\ufb03ce", "final office"),
        ("\uff29\uff2e\uff36\uff2f\uff29\uff23\uff25", "invoice"),
        ("\u039f\u0394\u039f\u03a3", "\u03bf\u03b4\u03cc\u03c2"),
        ("\u304c\u304d", "\u304b\u3099\u304d\u3099"[:2] + "\u304d"),
        ("\uff76\uff9e", "\u30ac"),
    ],
)
def test_case_accents_and_forms_of_letters_do_not_matter(
    made: tuple[Catalog, Root], text: str, query: str
) -> None:
    catalog, root = made
    write(catalog, root, text)
    assert found(catalog, query, name=EXACT_TEXT) == [1]
    assert catalog.full_text_search(query, 5).tolist() == [1]


# searching ----------------------------------------------------------------------------------------

TEXTS = ("Invoiee 4711\npaid", "", "INVOICE\ndue soon", "lnvoice 12", "garage")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder) -> Iterator[Library]:
    """Images in which ``TEXTS`` were read, the last ones newest."""
    with empty_library(tmp_path_factory.mktemp("spellings") / "library", tiny_encoder) as made:
        root = made.ensure_root(Path("/home/ana/Pictures"))
        images = []
        for n in range(len(TEXTS)):
            candidate = Candidate(root.path, f"{n}.jpg", 1, n + 1)
            info = PhotoInfo(width=4, height=3, format="jpeg")
            photo = Photo(info, np.zeros((2, 2, 3), np.uint8), b"", f"{n:032x}")
            images.append(NewImage(candidate, photo, unit(n, made.dimension)))
        ids = made.catalog.write(root, images=images).images
        read = [[TextLine(line, 0.9, WHOLE) for line in text.splitlines()] for text in TEXTS]
        made.catalog.write_texts(list(zip(ids, read, strict=True)), engine="toy 1")
        yield made


def names(engine: SearchEngine, query: str, count: int = 3) -> list[str]:
    return [hit.path.removesuffix(".jpg") for hit in engine.search(query, k=count).hits]


def test_exact_words_come_first_and_snippets_show_what_was_read(
    library: Library, tiny_encoder: Encoder
) -> None:
    with SearchEngine(library, tiny_encoder) as engine:
        assert names(engine, "text:invoice") == ["2", "3", "0"], "then the newest"
        assert names(engine, "text:invoice sort:newest") == ["3", "2", "0"]
        result = engine.search("text:invoice")
        assert [hit.snippet for hit in result.hits] == ["INVOICE", "lnvoice 12", "Invoiee 4711"]
        assert engine.order("text:invoice").ids.tolist() == [hit.id for hit in result.hits]
        for query in ("a red flower text:invoice", "one two text:invoice match:all"):
            found = names(engine, query)
            assert found[0] == "2", query
            assert sorted(found) == ["0", "2", "3"], query
        assert names(engine, "text:invoice -text:paid") == ["2", "3"]


def test_a_plain_search_finds_misread_words_after_exact_ones(
    library: Library, tiny_encoder: Encoder
) -> None:
    with SearchEngine(library, tiny_encoder) as engine:
        result = engine.search("invoice", k=5)
        assert result.hits[0].path == "2.jpg"
        assert {hit.path for hit in result.hits[1:3]} == {"0.jpg", "3.jpg"}
        assert result.hits[1].snippet in ("lnvoice 12", "Invoiee 4711")
        assert [hit.snippet for hit in result.hits[3:]] == [None, None]
        assert engine.search("invoice paid").hits[0].path == "0.jpg"
        answer = client_of(create_app(engine)).get("/api/search?q=invoice").json
        assert answer["hits"][0]["snippet"] == "INVOICE"


def test_new_text_is_found_by_a_search_made_before(library: Library, tiny_encoder: Encoder) -> None:
    with SearchEngine(library, tiny_encoder) as engine:
        assert names(engine, "text:castle") == []
        library.catalog.write_texts([(2, [TextLine("castle", 1.0, WHOLE)])], engine="toy 1")
        assert names(engine, "text:castle") == ["1"]
        library.catalog.write_texts([(2, [])], engine="toy 1")


def test_the_command_prints_the_text_that_was_found(
    library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["search", "text:invoice", "--library", str(library.directory)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[-1] for line in lines] == [
        '"INVOICE"',
        '"lnvoice 12"',
        '"Invoiee 4711"',
    ]
