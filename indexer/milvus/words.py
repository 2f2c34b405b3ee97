"""The words around pictures in a collection, and how they and parts of names are looked for.

A row has a list of them (``catalog_tokens``), so that a collection finds by words what a local
library finds. For Milvus before 2.4, where LIKE knows beginnings only, a second list has the parts
of the file's name. Milvus 2.3 looks through all lists, 0.1 us for each of nine words.
"""

from __future__ import annotations

from collections.abc import Sequence

from sightline.indexer.catalog import tokens
from sightline.indexer.milvus.connection import quoted
from sightline.indexer.types import ImageRecord

WORDS, PARTS = "words", "name_parts"
"""The fields. Collections that were filled before they came do not have them."""

WORD, MOST_WORDS = 255, 2048
"""Bytes of a word, and how many words and pairs of them one picture has."""

LONGEST_PART = 3
"""Signs of a part of a name: for one, two and three."""


def words_of(records: Sequence[ImageRecord]) -> list[list[str]]:
    """The words of each picture."""
    return [[cut(word, WORD) for word in words[:MOST_WORDS]] for words in tokens.tokens(records)]


def name_parts(text: str) -> list[str]:
    """Every one, two and three signs that stand side by side in ``text``, each once."""
    sizes = range(1, LONGEST_PART + 1)
    found = (text[n : n + size] for size in sizes for n in range(len(text) - size + 1))
    return list(dict.fromkeys(found))[:MOST_WORDS]


def named(text: str) -> tuple[str, bool]:
    """The expression for what may have ``text`` in its name; and whether it surely has."""
    if len(text) <= LONGEST_PART:
        return holding([text], PARTS), True
    return holding([one for one in name_parts(text) if len(one) == LONGEST_PART], PARTS), False


def holding(words: Sequence[str], field: str = WORDS) -> str:
    """The expression for what has all of these in its list."""
    listed = ", ".join(quoted(cut(word, WORD)) for word in words)
    return f"array_contains_all({field}, [{listed}])"


def cut(text: str, most: int) -> str:
    """``text``, at most ``most`` bytes of UTF-8."""
    data = text.encode("utf-8", "replace")
    return text if len(data) <= most else data[:most].decode("utf-8", "ignore")
