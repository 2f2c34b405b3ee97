"""What the word being written in the search box may become."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sightline.indexer.types import Condition, Filters
from sightline.server.search.query import FILTER_NAMES, Query

if TYPE_CHECKING:
    from sightline.indexer.library.interface import AnyLibrary

MOST = 10

KINDS = {
    "in": "folder",
    "camera": "camera",
    "lens": "lens",
    "type": "type",
    "keyword": "keyword",
    "label": "label",
    "rating": "rating",
    "after": "year",
    "before": "year",
}
"""Filters whose values the catalog knows, and what it calls them."""

FIXED = {
    "is": ("portrait", "landscape", "square"),
    "sort": ("newest", "oldest", "relevance"),
    "match": ("all", "sum"),
}

LOOSE = ("in", "keyword", "label", "camera")
"""Filters whose values are also suggested for a word without a name before it."""

FEWEST_LETTERS = 2


def suggestions(library: AnyLibrary, prefix: str) -> list[dict[str, Any]]:
    """At most ``MOST`` of ``{"text", "kind", "count"}``: a filter with its value, or the name of a
    filter with a colon (kind ``filter``, count null)."""
    minus = "-" if prefix.startswith("-") else ""
    word = prefix[len(minus) :].replace('"', "")
    name, colon, value = word.partition(":")
    name = name.lower()
    if colon:
        if name in FIXED:
            return [
                {"text": f"{minus}{name}:{one}", "kind": name, "count": None}
                for one in FIXED[name]
                if one.startswith(value.lower())
            ]
        return _values(library, name, value, minus) if name in KINDS else []
    if not word:
        return []
    found = [
        {"text": f"{minus}{one}:", "kind": "filter", "count": None}
        for one in (*FILTER_NAMES, "sort", "match")
        if one.startswith(name)
    ]
    if len(word) >= FEWEST_LETTERS:
        for one in LOOSE:
            found += _values(library, one, word, minus)
    return found[:MOST]


def _values(library: AnyLibrary, name: str, value: str, minus: str) -> list[dict[str, Any]]:
    """Values of the filter ``name`` of which a word starts with ``value``."""
    found = []
    for one in library.suggest(KINDS[name], value, MOST):
        if text := written(name, one.text, negated=bool(minus)):
            found.append({"text": text, "kind": one.kind, "count": one.count})
    return found


def written(name: str, value: str, *, negated: bool = False) -> str:
    """A filter as it is written in a query; empty where there is nothing to write."""
    # A quote cannot be written in a query; the filter finds the name without it as well.
    text = value.replace('"', " ").strip()
    return Query(filters=Filters((Condition(name, text, negated),))).to_text() if text else ""
