"""Completions of the word being typed in the search box."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sightline.indexer.types import Condition, Filters
from sightline.server.search.query import FILTER_NAMES, Query

if TYPE_CHECKING:
    from sightline.indexer.library import AnyLibrary

MAX_SUGGESTIONS = 10

CATALOG_KINDS = {
    "in": "folder",
    "camera": "camera",
    "lens": "lens",
    "type": "type",
    "keyword": "keyword",
    "person": "person",
    "place": "place",
    "country": "country",
    "label": "label",
    "rating": "rating",
    "after": "year",
    "before": "year",
    "collection": "collection",
}
"""Filter -> the catalog's name for its values."""

FIXED_VALUES = {
    "is": ("portrait", "landscape", "square", "favourite"),
    "sort": ("newest", "oldest", "relevance"),
    "match": ("all", "sum"),
}

UNPREFIXED = ("in", "person", "collection", "place", "country", "keyword", "label", "camera")
"""Filters whose values are also suggested for a plain word."""

MIN_LETTERS = 2
"""Letters of a plain word from which values are suggested."""


def suggestions(library: AnyLibrary, prefix: str) -> list[dict[str, Any]]:
    """Up to ``MAX_SUGGESTIONS`` of ``{"text", "kind", "count"}``: a filter with a value, or a
    filter name with a colon (kind ``filter``, count None)."""
    minus = "-" if prefix.startswith("-") else ""
    word = prefix[len(minus) :].replace('"', "")
    name, colon, value = word.partition(":")
    name = name.lower()
    if colon:
        if name in FIXED_VALUES:
            return [
                {"text": f"{minus}{name}:{one}", "kind": name, "count": None}
                for one in FIXED_VALUES[name]
                if one.startswith(value.lower())
            ]
        return _values(library, name, value, minus) if name in CATALOG_KINDS else []
    if not word:
        return []
    found = [
        {"text": f"{minus}{one}:", "kind": "filter", "count": None}
        for one in (*FILTER_NAMES, "sort", "match")
        if one.startswith(name)
    ]
    if len(word) >= MIN_LETTERS:
        for one in UNPREFIXED:
            found += _values(library, one, word, minus)
    return found[:MAX_SUGGESTIONS]


def _values(library: AnyLibrary, name: str, value: str, minus: str) -> list[dict[str, Any]]:
    """Values of the filter ``name`` with a word that starts with ``value``."""
    found = []
    for one in library.suggest(CATALOG_KINDS[name], value, MAX_SUGGESTIONS):
        if text := filter_text(name, one.text, negated=bool(minus)):
            found.append({"text": text, "kind": one.kind, "count": one.count})
    return found


def filter_text(name: str, value: str, *, negated: bool = False) -> str:
    """A filter in the query language; empty for an empty value."""
    # A value in a query cannot contain a quote; the filter finds the value without it as well.
    text = value.replace('"', " ").strip()
    return Query(filters=Filters((Condition(name, text, negated),))).to_text() if text else ""
