"""What a search gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, overload

import orjson

from sightline.indexer.types import ImageRecord
from sightline.server.search.image_json import Facts, facts

PLACES = 6, 4
"""Decimal places of scores and relevance in JSON."""


@dataclass(frozen=True)
class Hit:
    """One result."""

    record: ImageRecord
    score: float
    """Cosine between the picture and the query's vector; the lowest of the terms' cosines with
    ``match:all``; 0 when the query has no terms."""
    relevance: float
    """0 to 1; .5 on the line under the good matches."""
    match: bool
    """Whether it stands on or above that line."""
    duplicates: tuple[int, ...] = ()
    """Ids of near-identical shots that are folded under this one, best first."""
    thumbnail: Callable[[], bytes | None] | None = field(default=None, repr=False, compare=False)
    """Gives its thumbnail, WebP, while the library is open."""

    @property
    def id(self) -> int:
        """The picture's id."""
        return self.record.id

    @property
    def path(self) -> str:
        """Relative to its root, with forward slashes."""
        return self.record.path

    def as_dict(self, *, absolute: bool = True) -> dict[str, Any]:
        """For JSON."""
        told = facts(self.record, absolute=absolute)
        told["score"] = round(self.score, PLACES[0])
        told["relevance"] = round(self.relevance, PLACES[1])
        told["match"] = self.match
        told["duplicates"] = list(self.duplicates)
        return told

    def _repr_html_(self) -> str:
        """The picture itself, in a notebook."""
        from sightline.server.search.notebook import hit_html

        return hit_html(self)


@dataclass(frozen=True, eq=False)
class Hits(Sequence[Hit]):
    """A page of results. Kept as columns, and a ``Hit`` made when it is looked at: to make a
    thousand of them takes longer than the search, and most are only written down."""

    records: Sequence[ImageRecord] = ()
    scores: Sequence[float] = ()
    relevance: Sequence[float] = ()
    match: Sequence[bool] = ()
    duplicates: Sequence[tuple[int, ...]] = ()
    thumbnail: Callable[[int], bytes | None] | None = field(default=None, repr=False)
    """Gives the thumbnail of an image, while the library is open."""

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, place: int) -> Hit: ...
    @overload
    def __getitem__(self, place: slice) -> Hits: ...
    def __getitem__(self, place: int | slice) -> Hit | Hits:
        if isinstance(place, slice):
            return self._of([column[place] for column in self._columns])
        record, score, relevance, match, duplicates = (column[place] for column in self._columns)
        thumbnail = partial(self.thumbnail, record.id) if self.thumbnail else None
        return Hit(record, score, relevance, match, duplicates, thumbnail)

    @property
    def _columns(self) -> tuple[Sequence[Any], ...]:
        return self.records, self.scores, self.relevance, self.match, self.duplicates

    def without(self, image: int) -> Hits:
        """All but that image."""
        place = next((n for n, one in enumerate(self.records) if one.id == image), None)
        if place is None:
            return self
        return self._of([[*column[:place], *column[place + 1 :]] for column in self._columns])

    def _of(self, columns: Sequence[Sequence[Any]]) -> Hits:
        records, scores, relevance, match, duplicates = columns
        return Hits(records, scores, relevance, match, duplicates, self.thumbnail)

    def as_json(self, known: Facts, *, absolute: bool) -> bytes:
        """The list of each ``Hit.as_dict``, written as JSON."""
        rows = zip(
            [known.written(record, absolute=absolute) for record in self.records],
            _each([round(score, PLACES[0]) for score in self.scores]),
            _each([round(fit, PLACES[1]) for fit in self.relevance]),
            self.match,
            self.duplicates,
            strict=True,
        )
        return b"[%b]" % b",".join(
            b'%b,"score":%b,"relevance":%b,"match":%b,"duplicates":%b}'
            % (
                told[:-1],
                score,
                fit,
                b"true" if match else b"false",
                orjson.dumps(duplicates) if duplicates else b"[]",
            )
            for told, score, fit, match, duplicates in rows
        )


def _each(numbers: list[float]) -> list[bytes]:
    """Each as JSON writes it."""
    return orjson.dumps(numbers)[1:-1].split(b",") if numbers else []


@dataclass(frozen=True)
class SearchResult:
    """The answer to one query."""

    query: str
    took_ms: float
    total: int
    """Pictures that meet the filters."""
    good: int | None
    """Hits above the line, near-identical shots counted once; None where there is no line (no
    terms, or too small a library)."""
    hits: Hits
    message: str | None = None
    """One line for the person, when there is something to say."""

    @property
    def nothing_matches(self) -> bool:
        """Whether the best there is does not really match."""
        return self.good == 0 and self.total > 0

    def as_dict(self, *, absolute: bool = True) -> dict[str, Any]:
        """For JSON. ``absolute`` says where the files are on this machine."""
        return {**self._head, "hits": [hit.as_dict(absolute=absolute) for hit in self.hits]}

    def as_json(self, known: Facts, *, absolute: bool) -> bytes:
        """``as_dict`` as JSON; what is ``known`` of pictures is not written again."""
        head = orjson.dumps(self._head)
        return b'%b,"hits":%b}' % (head[:-1], self.hits.as_json(known, absolute=absolute))

    @property
    def _head(self) -> dict[str, Any]:
        return {
            "query": self.query,
            "took_ms": round(self.took_ms, 3),
            "total": self.total,
            "good": self.good,
            "nothing_matches": self.nothing_matches,
            "message": self.message,
        }

    def _repr_html_(self) -> str:
        """The pictures themselves, in a notebook."""
        from sightline.server.search.notebook import result_html

        return result_html(self)
