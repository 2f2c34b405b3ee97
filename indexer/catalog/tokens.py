"""Full text of images as lists of tokens, for a store without a full-text index (Milvus).

SQLite's tokenizer makes them (an in-memory FTS5 table with the options of the library's), so that
such a store finds the same images as a library. Adjacent tokens are also listed as pairs,
``img 0001``: a phrase is searched by its pairs. A token or pair that only file, folder and place
names have is listed with ``ONLY_IN_NAMES`` before it as well.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import pairwise

from sightline.indexer.catalog.full_text import COLUMNS, NAMES, phrases, texts_of
from sightline.indexer.catalog.image_rows import storable
from sightline.indexer.types import ImageRecord, TextLine

OPTIONS = "unicode61 remove_diacritics 2"
"""As in the migration that creates the library's table."""

ONLY_IN_NAMES = "/"
"""No token has it."""

LAST = {COLUMNS.index("caption"), COLUMNS.index("text")}
"""The columns whose tokens come last: a store that limits their number cuts a long caption, not
the keywords."""


def tokens(
    records: Sequence[ImageRecord], texts: Mapping[int, Sequence[TextLine]]
) -> list[list[str]]:
    """The distinct tokens and pairs of each record, and of the lines of text in it; first those
    ``ONLY_IN_NAMES``."""
    rows = [
        tuple(map(storable, texts_of(one, "\n".join(line.text for line in texts.get(one.id, ())))))
        for one in records
    ]
    return [_listed(columns) for columns in _tokenized(rows)]


def query_tokens(text: str) -> list[str]:
    """The tokens and pairs of a query: an image matches if its list contains them all. A phrase of
    three or more words is approximated by its pairs."""
    found: list[str] = []
    for columns in _tokenized([(storable(phrase),) for phrase in phrases(text)]):
        (words,) = columns.values() if columns else ([],)
        found += [" ".join(pair) for pair in pairwise(words)] or words
    return list(dict.fromkeys(found))


def _listed(columns: dict[int, list[str]]) -> list[str]:
    by_column = sorted(columns, key=lambda column: (column in LAST, column))
    found = list(dict.fromkeys(_with_pairs([columns[column] for column in by_column])))
    elsewhere = set(
        _with_pairs([columns[column] for column in by_column if COLUMNS[column] not in NAMES])
    )
    return [*(ONLY_IN_NAMES + token for token in found if token not in elsewhere), *found]


def _with_pairs(columns: Sequence[list[str]]) -> Iterator[str]:
    for words in columns:
        yield from words
        for pair in pairwise(words):
            yield " ".join(pair)


def _tokenized(rows: Sequence[tuple[str, ...]]) -> list[dict[int, list[str]]]:
    """The tokens of each row in order, by column number."""
    found: list[dict[int, list[str]]] = [{} for _ in rows]
    width = max((len(row) for row in rows), default=0)
    if not width:
        return found
    names = [f"c{n}" for n in range(width)]
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(
            f"CREATE VIRTUAL TABLE t USING fts5({', '.join(names)}, tokenize = '{OPTIONS}')"
        )
        connection.execute("CREATE VIRTUAL TABLE v USING fts5vocab(t, instance)")
        connection.executemany(
            f"INSERT INTO t (rowid, {', '.join(names)}) VALUES (?{', ?' * width})",
            [(n, *row) for n, row in enumerate(rows)],
        )
        numbers = {name: n for n, name in enumerate(names)}
        for term, row, column in connection.execute(
            "SELECT term, doc, col FROM v ORDER BY doc, col, offset"
        ):
            found[row].setdefault(numbers[column], []).append(term)
    return found
