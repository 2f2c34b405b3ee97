"""The small frozen things that travel between the modules of the indexer.

House notation: ``(n, d) float32, unit norm`` is an array of n rows of dimension d whose rows have
Euclidean length one. ``Embeddings`` are always that; the encoder alone promises it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Embeddings = NDArray[np.float32]
"""``(n, d) float32``, rows of unit norm."""

Ids = NDArray[np.int64]
"""``(n,) int64`` image ids: SQLite's keys, FAISS's ids, the numbers in the URLs."""

Pixels = NDArray[np.uint8]
"""``(H, W, 3) uint8`` RGB, or ``(B, H, W, 3)`` for a batch."""


@dataclass(frozen=True)
class Geometry:
    """How a model wants a picture cut: what ``photo`` does to it before the encoder sees it.

    ``fit`` is ``"crop"`` (resize the shorter side to ``resize``, cut ``height x width`` from the
    middle: CLIP) or ``"squash"`` (resize to ``height x width``, ignoring the aspect ratio: SigLIP).
    ``resample`` is a Pillow filter's name: ``"bicubic"``, ``"bilinear"`` or ``"lanczos"``.
    """

    height: int = 224
    width: int = 224
    resize: int = 224
    fit: Literal["crop", "squash"] = "crop"
    resample: Literal["bicubic", "bilinear", "lanczos"] = "bicubic"


@dataclass(frozen=True)
class Candidate:
    """A regular file below a root that may be a picture. Nothing of it has been read yet."""

    root: Path
    path: str
    """Relative to ``root``, with forward slashes."""
    size: int
    mtime_ns: int

    @property
    def absolute(self) -> Path:
        """Where the file is now."""
        return self.root / self.path


@dataclass(frozen=True)
class PhotoInfo:
    """What is known of a picture apart from its pixels. Width and height are as it is seen,
    after the EXIF orientation has been applied."""

    width: int
    height: int
    format: str
    """Lower-case Pillow name: ``jpeg``, ``png``, ``webp``, ``gif``, ``bmp``, ``tiff``, ``avif``,
    ``heif``, or ``raw``."""
    orientation: int = 1
    """The EXIF value, 1 to 8, before it was applied."""
    taken_at: datetime | None = None
    """Local time as the camera wrote it, without a zone."""
    camera: str | None = None
    lens: str | None = None
    latitude: float | None = None
    """Degrees, -90 to 90, north positive."""
    longitude: float | None = None
    """Degrees, -180 to 180, east positive."""
    title: str | None = None
    caption: str | None = None
    place: str | None = None
    """Where it was taken, in words, as IPTC or XMP say it: ``Wierschem, Germany``."""
    keywords: tuple[str, ...] = ()
    rating: int | None = None
    """Stars, 0 to 5, from XMP."""
    color: str | None = None
    """Mean colour of the thumbnail as ``#rrggbb``: what a page paints before the thumbnail."""
    url: str | None = None
    """Where on the web the picture was found, when it came with a set of embeddings."""


@dataclass(frozen=True)
class Photo:
    """One picture file, read once: pixels for the encoder, a thumbnail, and what is known of it."""

    info: PhotoInfo
    pixels: Pixels
    """``(H, W, 3) uint8`` as the model's ``Geometry`` asks."""
    thumbnail: bytes
    """WebP, at most ``photo.THUMBNAIL_SIZE`` pixels on the longer side."""
    content_hash: str
    """Of the file's bytes: equal files have equal hashes."""
    phash: int | None = None
    """64-bit perceptual hash, for near-duplicates; signed so that SQLite holds it."""


@dataclass(frozen=True)
class ImageRecord:
    """One picture of a library, as the catalog knows it."""

    id: int
    root: str
    """Absolute path of the root folder it was found under."""
    path: str
    """Relative to ``root``, with forward slashes."""
    size: int
    mtime_ns: int
    """0 for a picture that came with a set of embeddings, and whose file was never seen here."""
    content_hash: str
    info: PhotoInfo
    added_at: datetime
    """UTC, without a zone."""
    phash: int | None = None

    @property
    def absolute(self) -> Path:
        """Where the file was when it was last seen."""
        return Path(self.root) / self.path


@dataclass(frozen=True)
class Root:
    """A folder that a library was told to index."""

    id: int
    path: Path
    """Absolute."""


class Known(NamedTuple):
    """What a run must know of an image of the catalog to see whether its file has changed.

    A tuple, because a run makes one for every image of a root: 100,000 in a tenth of a second.
    """

    id: int
    path: str
    """Relative to its root, with forward slashes."""
    size: int
    mtime_ns: int
    """0 for a file that was never seen; see ``ImageRecord``."""


@dataclass(frozen=True)
class NewImage:
    """A picture that has been read and encoded, on its way into the catalog."""

    candidate: Candidate
    photo: Photo
    vector: NDArray[np.float32]
    """``(d,) float32, unit norm``."""
    image: int | None = None
    """The id of the image that this file was before it changed; None for one not seen before."""


@dataclass(frozen=True)
class Failure:
    """A file that could not be read, and why. It is tried again only when it changes."""

    root: str
    path: str
    size: int
    mtime_ns: int
    reason: str


@dataclass(frozen=True)
class Condition:
    """One exact filter. ``negated`` turns it round.

    ====================  ============================================================
    name                  value
    ====================  ============================================================
    ``after``             ``date``: taken on that day or later
    ``before``            ``date``: taken before that day
    ``in``                ``str``: a folder's name or path anywhere in root/path, any case
    ``camera``, ``lens``  ``str``: contained in the name, any case
    ``type``              ``str``: the format's name (``jpeg``; ``jpg``, ``heic`` are understood)
    ``is``                ``"portrait" | "landscape" | "square"``
    ``near``              ``(latitude, longitude, kilometres)``
    ``label``             ``str``: a label kept by ``sightline label``
    ``keyword``           ``str``: an XMP/IPTC keyword, any case
    ``rating``            ``int``: at least so many stars
    ``name``              ``str``: contained in the file's name, any case
    ====================  ============================================================
    """

    name: str
    value: str | int | date | tuple[float, float, float]
    negated: bool = False


@dataclass(frozen=True)
class Filters:
    """Conditions a picture must meet. Positive ones of one name are alternatives (``in:A in:B`` is
    either), except ``after``, ``before``, ``rating``, ``label`` and ``keyword``, which all hold;
    different names, and everything negated, must all hold. Empty lets everything through."""

    conditions: tuple[Condition, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.conditions)


@dataclass(frozen=True)
class IndexReport:
    """What one indexing run did. ``found`` = added + updated + moved + unchanged + failed."""

    found: int = 0
    added: int = 0
    updated: int = 0
    moved: int = 0
    removed: int = 0
    unchanged: int = 0
    failed: int = 0
    failures: tuple[Failure, ...] = ()
    """Every file of this run's roots that is in ``failures`` now."""
    held_back: tuple[str, ...] = ()
    """One line a root from which nothing was removed because too much was missing."""
    interrupted: bool = False
    seconds: float = 0.0
    library: str = ""
    model: str = ""

    @property
    def images_per_second(self) -> float:
        """Newly encoded pictures a second over the whole run."""
        return (self.added + self.updated) / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True)
class IndexState:
    """What ``status`` says of a vector index."""

    type: str
    """``exact``, ``ivf-pq`` or ``ivf-rabitq`` (or a store's own name)."""
    count: int
    generation: int
    bytes: int
    pending: int = 0
    """Images newer than the generation; searched exactly beside it."""
    nprobe: int | None = None
    recall: dict[str, float] = field(default_factory=dict)
    """Measured recall@10 by kind of query: ``{"image": .., "text": ..}``; empty when exact."""
    note: str | None = None
    device: str | None = None
    """Where it is searched: ``cpu`` or ``cuda``; None where a store decides."""
    device_note: str | None = None
    """Why not on the GPU, where that was asked for."""


class Progress(Protocol):
    """Receives how far a long operation is. Called from the thread that runs the operation."""

    def __call__(self, phase: str, done: int, total: int | None, /) -> None:
        """``done`` of ``total`` items of ``phase``; ``total`` is None while it is unknown."""


def no_progress(phase: str, done: int, total: int | None, /) -> None:
    """Ignore progress."""
