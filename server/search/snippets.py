"""The lines of text in an image that hold words of a query."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from sightline.indexer.catalog.full_text import phrases, plain
from sightline.indexer.types import TextLine
from sightline.server.search.query import Query

MAX_LINES, MAX_LENGTH = 2, 160
"""Lines of a snippet, and its characters."""


@lru_cache(maxsize=1024)
def words_of(query: Query) -> re.Pattern[str] | None:
    """Matches any word of a query's texts and of its ``text:`` filters; None without words."""
    texts = [term.text for term in query.terms if term.text and term.weight > 0]
    texts += [
        str(one.value) for one in query.filters.conditions if one.name == "text" and not one.negated
    ]
    found = []
    for text in texts:
        words = [re.escape(word) for one in phrases(text) for word in plain(one).split()]
        if words and text.rstrip().endswith("*"):
            words[-1] += r"\w*"
        found += words
    return re.compile(rf"(?<!\w)(?:{'|'.join(found)})(?!\w)") if found else None


def snippet(lines: Sequence[TextLine], words: re.Pattern[str]) -> str | None:
    """The first lines that hold a word, or None."""
    held = [line.text for line in lines if words.search(plain(line.text))]
    return " \u2026 ".join(held[:MAX_LINES])[:MAX_LENGTH] or None
