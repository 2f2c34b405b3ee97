"""What JSON says of every picture."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import PurePath
from typing import Any

import orjson

from sightline.indexer.types import ImageRecord

KEPT = 2_000
"""Pictures whose facts are kept as they are written: with its record one takes 4 kB."""


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


class Facts:
    """What JSON says of pictures, written once: in a page of a thousand that is what takes longest,
    and it is the same each time. Safe to use from several threads."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, bool], tuple[ImageRecord, bytes]] = {}

    def written(self, record: ImageRecord, *, absolute: bool) -> bytes:
        """``facts`` as JSON."""
        kept = self._kept
        key = record.id, absolute
        found = kept.get(key)
        # The catalog gives the same record for as long as nothing was written to it.
        if found is None or found[0] is not record:
            found = record, orjson.dumps(facts(record, absolute=absolute))
            if len(kept) >= KEPT:
                self._kept = kept = {}
            kept[key] = found
        return found[1]
