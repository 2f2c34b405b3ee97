"""The words around pictures as lists, for a store that has no full-text index of its own.

SQLite's own tokenizer makes them (a full-text table in memory, with the options of the library's),
so that such a store finds by words what a library finds. Two words that stand side by side are in
the list as one entry too, ``img 0001``: a phrase is looked for by its pairs.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import pairwise

from sightline.indexer.catalog.full_text import COLUMNS, around, phrases
from sightline.indexer.catalog.images import storable
from sightline.indexer.types import ImageRecord

OPTIONS = "unicode61 remove_diacritics 2"
"""As in the migration that makes the library's table."""

LAST = COLUMNS.index("caption")
"""The column whose words come last, so that a novel's end and no keyword is what has no room."""


def tokens(records: Sequence[ImageRecord]) -> list[list[str]]:
    """The words and pairs of words of each record, each once."""
    rows = [tuple(map(storable, around(record))) for record in records]
    return [list(dict.fromkeys(_with_pairs(columns))) for columns in _tokenized(rows)]


def wanted(text: str) -> list[str]:
    """The words and pairs that a picture's list holds, all of them, where its words hold all of
    ``text``'s. Phrases of three words and more are taken for their pairs."""
    found: list[str] = []
    for columns in _tokenized([(storable(phrase),) for phrase in phrases(text)]):
        (words,) = columns.values() if columns else ([],)
        found += [" ".join(pair) for pair in pairwise(words)] or words
    return list(dict.fromkeys(found))


def _with_pairs(columns: dict[int, list[str]]) -> Iterator[str]:
    for column in sorted(columns, key=lambda column: (column == LAST, column)):
        words = columns[column]
        yield from words
        for pair in pairwise(words):
            yield " ".join(pair)


def _tokenized(rows: Sequence[tuple[str, ...]]) -> list[dict[int, list[str]]]:
    """The tokens of each row's columns, by the column's place, in their order."""
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
        places = {name: n for n, name in enumerate(names)}
        for term, row, column in connection.execute(
            "SELECT term, doc, col FROM v ORDER BY doc, col, offset"
        ):
            found[row].setdefault(places[column], []).append(term)
    return found
