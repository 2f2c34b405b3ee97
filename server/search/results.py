"""What a search returns: ``SearchResult`` with its ``Hit``s."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.errors import UsageError
from sightline.indexer.installation import install_command
from sightline.indexer.types import Ids, ImageRecord
from sightline.server.search import notebook
from sightline.server.search.image_json import image_as_dict
from sightline.server.search.query import DateWords

if TYPE_CHECKING:
    import pandas

SCORE_DIGITS, RELEVANCE_DIGITS = 6, 4
"""Decimal places in JSON."""

MAX_DESCRIPTION = 200
"""Characters of a hit's description in JSON."""

NOTEBOOK_HITS = 60
"""Hits that a notebook shows, about 20 kB each."""


@dataclass(frozen=True)
class Hit:
    """One result."""

    record: ImageRecord
    score: float
    """Cosine between the image and the query's vector; with ``match:all`` the lowest cosine of any
    term; 0 when the query has no terms."""
    relevance: float
    """0 to 1; .5 at the relevance threshold."""
    match: bool
    """Whether it reaches the relevance threshold."""
    snippet: str | None = None
    """The lines of text in the image that hold words of the query."""
    duplicates: tuple[int, ...] = ()
    """Ids of near-duplicates that are folded under this hit, best first."""
    label: str | None = None
    """Its best label stored by ``sightline label``."""
    thumbnail: Callable[[], bytes | None] | None = field(default=None, repr=False, compare=False)
    """Reads its thumbnail, WebP, while the library is open."""

    @property
    def id(self) -> int:
        """The image's id."""
        return self.record.id

    @property
    def path(self) -> str:
        """Relative to its root, with forward slashes."""
        return self.record.path

    def as_dict(self, *, absolute: bool = True) -> dict[str, Any]:
        """For JSON. ``absolute`` adds the file's path on this machine."""
        values = image_as_dict(self.record, absolute=absolute)
        values["score"] = round(self.score, SCORE_DIGITS)
        values["relevance"] = round(self.relevance, RELEVANCE_DIGITS)
        values["match"] = self.match
        values["duplicates"] = list(self.duplicates)
        info = self.record.info
        values["description"] = (info.title or info.caption or self.label or "")[:MAX_DESCRIPTION]
        if self.snippet is not None:
            values["snippet"] = self.snippet
        return values

    def _repr_html_(self) -> str:
        """The image, in a notebook."""
        thumbnail = self.thumbnail() if self.thumbnail is not None else None
        return notebook.figure(self.record, self.score, len(self.duplicates), thumbnail)


@dataclass(frozen=True)
class ResultOrder:
    """All results of a query, in order."""

    ids: Ids
    """Near-duplicates follow the image that they are folded under."""
    offsets: NDArray[np.int64]
    """The ``offset`` of ``SearchEngine.search`` at which each of ``ids`` is, alone or folded."""
    strong: int | None
    """How many of ``ids`` are strong matches; None without a threshold."""
    months: tuple[tuple[str | None, int], ...]
    """For results by date: each month (None: undated), and the offset of its first result."""

    @property
    def results(self) -> int:
        """The number of results, near-duplicates counted once."""
        return int(self.offsets[-1]) + 1 if len(self.offsets) else 0

    def offset_of(self, id: int) -> int | None:
        """The offset of an image; None if it is no result."""
        found = self.offsets[self.ids == id]
        return int(found[0]) if len(found) else None


@dataclass(frozen=True)
class SearchResult:
    """The answer to one query."""

    query: str
    took_ms: float
    total: int
    """Images that meet the filters."""
    good: int | None
    """Hits that reach the relevance threshold, near-duplicates counted once; None without a
    threshold (no terms, or too small a library)."""
    hits: Sequence[Hit]
    message: str | None = None
    """One line for the user, or None."""
    interpreted: tuple[DateWords, ...] = ()
    """Dates in the plain words of the query."""
    good_is_estimated: bool = False
    """Whether ``good`` is an estimate: more than ``engine.EXACT_COUNT`` are not counted."""

    @property
    def nothing_matches(self) -> bool:
        """Whether no hit reaches the relevance threshold."""
        return self.good == 0 and self.total > 0

    def as_dict(self, *, absolute: bool = True) -> dict[str, Any]:
        """For JSON. ``absolute`` adds the files' paths on this machine."""
        return {
            "query": self.query,
            "took_ms": round(self.took_ms, 3),
            "total": self.total,
            "good": self.good,
            "good_is_estimated": self.good_is_estimated,
            "nothing_matches": self.nothing_matches,
            "message": self.message,
            "interpreted": [one.as_dict() for one in self.interpreted],
            "hits": [hit.as_dict(absolute=absolute) for hit in self.hits],
        }

    def to_pandas(self) -> pandas.DataFrame:
        """A row per hit, best first, with the fields of ``as_dict`` as columns; ``taken_at`` is a
        date. Raises ``UsageError`` without pandas."""
        try:
            import pandas
        except ImportError as error:
            raise UsageError(f"to_pandas needs pandas: {install_command('pandas')}") from error
        frame = pandas.DataFrame([hit.as_dict() for hit in self.hits])
        if len(frame):
            frame["taken_at"] = pandas.to_datetime(frame["taken_at"], format="ISO8601")
        return frame

    def _repr_html_(self) -> str:
        """The images, in a notebook."""
        about = "about " if self.good_is_estimated else ""
        good = "" if self.good is None else f"{about}{self.good:,} strong matches of "
        heading = f"{self.query or 'everything'}: {good}{self.total:,} images"
        if len(self.hits) > NOTEBOOK_HITS:
            heading += f", {NOTEBOOK_HITS} of {len(self.hits):,} hits shown"
        for one in self.interpreted:
            heading += f". {one.sentence}"
        if self.message:
            heading += f". {self.message}"
        figures = [(hit._repr_html_(), hit.match) for hit in self.hits[:NOTEBOOK_HITS]]
        return notebook.grid(heading, figures)
