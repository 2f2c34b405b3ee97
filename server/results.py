"""What a search gives back."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePath
from typing import Any

from indexer.types import ImageRecord


def folder_of(record: ImageRecord) -> str:
    """The root's own name and the folders below it: enough to know the place, no path of the
    machine."""
    below, _, _ = record.path.rpartition("/")
    name = _name(record.root)
    return f"{name}/{below}" if below else name


@lru_cache(maxsize=256)
def _name(root: str) -> str:
    """The own name of a root folder. Kept: pathlib takes longer than the rest of a hit."""
    return PurePath(root).name


@lru_cache(maxsize=256)
def _below(root: str) -> str:
    """What stands before the paths below a root folder. Kept: as above."""
    return os.path.join(root, "")  # noqa: PTH118 (as above)


def facts(record: ImageRecord, *, absolute: bool) -> dict[str, Any]:
    """What JSON says of every picture. ``absolute`` adds where its file is on this machine."""
    info = record.info
    told: dict[str, Any] = {
        "id": record.id,
        "path": record.path,
        "name": record.path.rpartition("/")[2],
        "folder": folder_of(record),
        "width": info.width,
        "height": info.height,
        "taken_at": info.taken_at.isoformat() if info.taken_at else None,
        "camera": info.camera,
        "lens": info.lens,
        "latitude": info.latitude,
        "longitude": info.longitude,
        "format": info.format,
        "size": record.size,
        "color": info.color,
        "v": record.content_hash[:12],
    }
    if absolute:
        told["absolute"] = _below(record.root) + record.path
    return told


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
        told["score"] = round(self.score, 6)
        told["relevance"] = round(self.relevance, 4)
        told["match"] = self.match
        told["duplicates"] = list(self.duplicates)
        return told

    def _repr_html_(self) -> str:
        """The picture itself, in a notebook."""
        from server.notebook import hit_html

        return hit_html(self)


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
    hits: tuple[Hit, ...]
    message: str | None = None
    """One line for the person, when there is something to say."""

    @property
    def nothing_matches(self) -> bool:
        """Whether the best there is does not really match."""
        return self.good == 0 and self.total > 0

    def as_dict(self, *, absolute: bool = True) -> dict[str, Any]:
        """For JSON. ``absolute`` says where the files are on this machine."""
        return {
            "query": self.query,
            "took_ms": round(self.took_ms, 3),
            "total": self.total,
            "good": self.good,
            "nothing_matches": self.nothing_matches,
            "message": self.message,
            "hits": [hit.as_dict(absolute=absolute) for hit in self.hits],
        }

    def _repr_html_(self) -> str:
        """The pictures themselves, in a notebook."""
        from server.notebook import result_html

        return result_html(self)
