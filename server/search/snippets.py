"""The lines of text in an image that hold words of a query."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sightline.indexer.catalog.full_text import fold_word, phrases
from sightline.indexer.types import TextLine
from sightline.server.search.query import Query
from sightline.server.search.visual_words import visual_words

if TYPE_CHECKING:
    from sightline.indexer.library import AnyLibrary

MAX_LINES, MAX_LENGTH = 2, 160
"""Lines of a snippet, and its characters."""


def searches_words(query: Query) -> bool:
    """Whether lines of text can hold words of ``query``."""
    return any(_texts(query))


def patterns(query: Query, library: AnyLibrary) -> tuple[re.Pattern[str], ...]:
    """Match any word of a query's texts and of its ``text:`` filters in a line as ``fold_word``
    returns it: first the words themselves, then those that differ by a reading error."""
    exact, similar = [], []
    for texts, skipped in zip(_texts(query), (visual_words(), frozenset()), strict=True):
        for text in texts:
            words = [fold_word(word) for one in phrases(text) for word in one.split()]
            for word in words:
                if word not in skipped:
                    similar += [re.escape(fold_word(one)) for one in library.similar_words(word)]
            words = [re.escape(word) for word in words]
            if words and text.rstrip().endswith("*"):
                words[-1] += r"\w*"
            exact += words
    return tuple(
        re.compile(rf"(?<!\w)(?:{'|'.join(words)})(?!\w)") for words in (exact, similar) if words
    )


def snippet(lines: Sequence[TextLine], words: Iterable[re.Pattern[str]]) -> str | None:
    """The first lines that match the first possible pattern of ``words``, or None."""
    for pattern in words:
        held = (line.text for line in lines if pattern.search(fold_word(line.text)))
        if different := list(dict.fromkeys(held)):
            return " \u2026 ".join(different[:MAX_LINES])[:MAX_LENGTH]
    return None


def _texts(query: Query) -> tuple[list[str], list[str]]:
    """The texts of a query's positive terms, and those of its ``text:`` filters."""
    terms = [term.text for term in query.terms if term.text and term.weight > 0]
    conditions = (one for one in query.filters.conditions if not one.negated)
    return terms, [str(one.value) for one in conditions if one.name == "text"]
