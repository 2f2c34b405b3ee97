"""Corrections that are offered for misspelt words and unknown filters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sightline.indexer.library import Library
from sightline.server.search import parse
from sightline.server.search.spelling import correction


@pytest.fixture(scope="module")
def library(gallery: Path) -> Iterator[Library]:
    """The drawn gallery, in folders such as ``2018 Tuscany``."""
    with Library.open(gallery / "library") as opened:
        yield opened


@pytest.mark.parametrize(
    ("query", "text", "corrected"),
    [
        ("lihgthouse", "lighthouse", "lighthouse"),
        ("a dogg", "dog", "a dog"),  # not "dogs", which is as near and less frequent
        ("a lihgthouse at nihgt", "lighthouse, night", "a lighthouse at night"),
        ('-umbrela "breakfats in bed"', None, '-umbrella "breakfast in bed"'),
        ("tuscanny in summer", "tuscany", "tuscany in summer"),
        ("folder:Bergen snow", "in:Bergen", "in:Bergen snow"),
        ('-tag:"my cat"', "-keyword:my cat", '-keyword:"my cat"'),
        ("camra:canon", "camera:canon", "camera:canon"),
    ],
)
def test_a_mistake_is_corrected(
    library: Library, query: str, text: str | None, corrected: str
) -> None:
    found = correction(library, query)
    assert found is not None
    assert found.query == corrected
    assert text in (None, found.text)
    parse(found.query)
    assert correction(library, found.query) is None


@pytest.mark.parametrize(
    "query",
    [
        "",
        "two horses on a beach",
        "Tuscany",
        "sdfkjh",
        "zoo 16:9 http://example.org in:nowhere 2:golden like:5",
        "foo:bar",
        "ein fahrrad im schnee neben dem baum",
    ],
)
def test_what_is_correct_or_unlike_any_word_is_left(library: Library, query: str) -> None:
    assert correction(library, query) is None
