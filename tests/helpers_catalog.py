"""Small catalogs for the tests, of pictures that nobody took and vectors that nobody encoded."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.catalog import Catalog
from sightline.indexer.types import Candidate, NewImage, Photo, PhotoInfo, Root

DIMENSION = 8
TOP = Path("/home/ana/Pictures")


def unit(seed: int, dimension: int = DIMENSION) -> NDArray[np.float32]:
    """A unit vector, the same for the same ``seed``, exact in float16."""
    vector = np.random.default_rng(seed).standard_normal(dimension)
    return (vector / np.linalg.norm(vector)).astype(np.float16).astype(np.float32)


def file(path: str, *, size: int = 1000, mtime_ns: int = 1, root: Path = TOP) -> Candidate:
    """A file that might be there."""
    return Candidate(root, path, size, mtime_ns)


def picture(
    path: str,
    *,
    seed: int | None = None,
    image: int | None = None,
    size: int = 1000,
    mtime_ns: int = 1,
    content: str | None = None,
    **info: Any,
) -> NewImage:
    """A picture at ``path``; ``info`` are fields of ``PhotoInfo``."""
    content = content or f"{path} {seed} {size} {mtime_ns}"
    facts = {"width": 400, "height": 300, "format": "jpeg", **info}
    photo = Photo(
        info=PhotoInfo(**facts),
        pixels=np.zeros((2, 2, 3), np.uint8),
        thumbnail=b"RIFF" + path.encode(),
        content_hash=hashlib.md5(content.encode()).hexdigest(),
    )
    number = seed if seed is not None else int(hashlib.md5(path.encode()).hexdigest()[:8], 16)
    return NewImage(file(path, size=size, mtime_ns=mtime_ns), photo, unit(number), image)


def new_catalog(folder: Path) -> tuple[Catalog, Root]:
    """An empty catalog in ``folder`` and its one root."""
    catalog = Catalog.create(folder / "catalog.db", model="toy", revision="1", dimension=DIMENSION)
    return catalog, catalog.add_root(TOP)
