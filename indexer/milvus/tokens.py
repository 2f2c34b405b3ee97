"""Full-text tokens and name n-grams of the images in a collection, and expressions over them.

Each row holds a list of tokens (``catalog.tokens``), so that a collection finds by text what a
local library finds. Before 2.4 Milvus' LIKE matches prefixes only, so a second list holds the
character n-grams of the file's name. Milvus 2.3 scans all lists: 0.1 us for each of nine tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sightline.indexer.catalog import tokens
from sightline.indexer.milvus.connection import quoted
from sightline.indexer.types import ImageRecord, TextLine

TOKENS, NGRAMS = "words", "name_parts"
"""The names of the two fields. Collections filled before they were introduced lack them."""

MAX_TOKEN_BYTES, MAX_TOKENS = 255, 2048
"""Bytes of one token, and tokens (with pairs of adjacent ones) of one image."""

MAX_NGRAM = 3
"""Characters of the longest n-grams of a name; those of 1 and 2 are stored too."""

_LIKE_CHARACTERS = {ord(sign): 0xE000 + n for n, sign in enumerate("_%\\")}
"""What means something to LIKE, mapped into Unicode's private use area."""


def tokens_of(
    records: Sequence[ImageRecord], texts: Mapping[int, Sequence[TextLine]]
) -> list[list[str]]:
    """The tokens of each image, as its row stores them; ``texts`` are the lines in some."""
    return [
        [truncated(token, MAX_TOKEN_BYTES) for token in found[:MAX_TOKENS]]
        for found in tokens.tokens(records, texts)
    ]


def ngrams(text: str) -> list[str]:
    """Every distinct substring of ``text`` of 1 to ``MAX_NGRAM`` characters."""
    sizes = range(1, MAX_NGRAM + 1)
    found = (text[n : n + size] for size in sizes for n in range(len(text) - size + 1))
    return list(dict.fromkeys(found))[:MAX_TOKENS]


def name_contains(text: str) -> tuple[str, bool]:
    """The expression for rows whose name may contain ``text``, and whether it is exact."""
    if len(text) <= MAX_NGRAM:
        return contains_all([text], NGRAMS), True
    return contains_all([one for one in ngrams(text) if len(one) == MAX_NGRAM], NGRAMS), False


def contains_all(wanted: Sequence[str], field: str = TOKENS) -> str:
    """The expression for rows whose list ``field`` contains all of ``wanted``."""
    return f"array_contains_all({field}, [{_listed(wanted)}])"


def not_only_in_names(wanted: Sequence[str]) -> str:
    """The expression for rows that have all of ``wanted``, if any, outside of names as well."""
    marked = [tokens.ONLY_IN_NAMES + token for token in wanted]
    return f"not array_contains_any({TOKENS}, [{_listed(marked)}])"


def _listed(wanted: Sequence[str]) -> str:
    return ", ".join(quoted(truncated(token, MAX_TOKEN_BYTES)) for token in wanted)


def truncated(text: str, size: int) -> str:
    """``text``, cut to at most ``size`` bytes of UTF-8."""
    data = text.encode("utf-8", "replace")
    return text if len(data) <= size else data[:size].decode("utf-8", "ignore")


def without_wildcards(name: str) -> str:
    """``name`` with other characters in place of those that LIKE interprets: escaping them does not
    work in Milvus Lite beside a condition on a list."""
    return name.translate(_LIKE_CHARACTERS)
