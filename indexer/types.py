"""Types that are passed between packages: small frozen dataclasses and arrays.

Notation: ``(n, d) float32, unit norm`` is an array of n rows of dimension d and Euclidean length 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.dates import Precision, to_text

Embeddings = NDArray[np.float32]
"""``(n, d) float32, unit norm``."""

Ids = NDArray[np.int64]
"""``(n,) int64`` image ids: SQLite keys, FAISS ids, and the numbers in URLs."""

Pixels = NDArray[np.uint8]
"""``(H, W, 3) uint8`` RGB, or ``(B, H, W, 3)`` for a batch."""


@dataclass(frozen=True)
class Geometry:
    """A model's preprocessing: how ``photo`` resizes and crops an image for the encoder.

    ``fit`` is ``"crop"`` (resize the shorter side to ``resize``, cut ``height x width`` from the
    middle: CLIP), ``"squash"`` (resize to ``height x width``, ignoring the aspect ratio: SigLIP) or
    ``"patches"`` (resize to as many whole patches of ``patch x patch`` as fit into ``max_patches``,
    in nearly the image's aspect ratio: NaFlex; ``height x width`` is the size of a square image).
    ``resample`` is a Pillow filter's name: ``"bicubic"``, ``"bilinear"`` or ``"lanczos"``.
    """

    height: int = 224
    width: int = 224
    resize: int = 224
    fit: Literal["crop", "squash", "patches"] = "crop"
    resample: Literal["bicubic", "bilinear", "lanczos"] = "bicubic"
    patch: int = 16
    max_patches: int = 256


@dataclass(frozen=True)
class Candidate:
    """A regular file below a root that may be an image. It has not been opened yet."""

    root: Path
    path: str
    """Relative to ``root``, with forward slashes."""
    size: int
    mtime_ns: int | None
    """Of its archive, for a file in one; None for an imported image whose file was never read."""
    sidecars: tuple[str, ...] = ()
    """Names of the files in its folder that hold metadata of it, the most important first."""
    metadata_stamp: int = 0
    """Changes with the sidecars; 0 if they were not looked for."""
    ctime_ns: int | None = field(default=None, compare=False)
    """Time of the last change of the file or its inode (of its archive); None where the platform
    has none."""
    inode: int | None = field(default=None, compare=False)

    @property
    def absolute(self) -> Path:
        """The file's path."""
        return self.root / self.path


@dataclass(frozen=True)
class PhotoInfo:
    """An image's metadata. Width and height are those after applying the EXIF orientation."""

    width: int
    height: int
    format: str
    """Lower-case Pillow name: ``jpeg``, ``png``, ``webp``, ``gif``, ``bmp``, ``tiff``, ``avif``,
    ``heif``, or ``raw``."""
    orientation: int = 1
    """The EXIF value, 1 to 8, before it was applied."""
    taken_at: datetime | None = None
    """Local time as the camera wrote it, without a time zone: the start of what is known."""
    taken_precision: Precision = "second"
    """How much of ``taken_at`` is known; ``taken`` is that part as text."""
    taken_from: str | None = None
    """Where the date is from: ``exif``, ``xmp`` or ``iptc`` (date of capture), ``sidecar``,
    ``name`` (of the file), ``digitized`` or ``modified`` (date of a scan, of the file); None if
    unknown."""
    camera: str | None = None
    lens: str | None = None
    latitude: float | None = None
    """Degrees, -90 to 90, north positive."""
    longitude: float | None = None
    """Degrees, -180 to 180, east positive."""
    title: str | None = None
    caption: str | None = None
    place: str | None = None
    """Where it was taken, from IPTC or XMP: ``Wierschem, Germany``."""
    keywords: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    """Names of the people in it."""
    rating: int | None = None
    """Stars, 0 to 5."""
    color: str | None = None
    """Mean colour of the thumbnail as ``#rrggbb``, a placeholder while it loads."""
    url: str | None = None
    """Web address of an image that was imported with a set of embeddings."""

    @cached_property
    def taken(self) -> str | None:
        """What is known of ``taken_at``, in ISO 8601: ``1943``, ``2004-03-07T09:05:03``."""
        return None if self.taken_at is None else to_text(self.taken_at, self.taken_precision)


@dataclass(frozen=True)
class Photo:
    """One decoded image file: pixels for the encoder, thumbnail and metadata."""

    info: PhotoInfo
    pixels: Pixels
    """``(H, W, 3) uint8``, resized and cropped to the model's ``Geometry``."""
    thumbnail: bytes
    """WebP, at most ``photo.THUMBNAIL_SIZE`` pixels on the longer side."""
    content_hash: str
    """xxh3-128 of the file's bytes, in hex."""
    phash: int | None = None
    """64-bit perceptual hash, for near-duplicates; signed, as SQLite stores it. None for an image
    without detail."""
    notes: tuple[str, ...] = ()
    """What was ignored to read it: ``its colour profile is broken and was ignored``."""


@dataclass(frozen=True)
class TextLine:
    """A line of text that was read in an image."""

    text: str
    confidence: float
    """0 to 1."""
    box: tuple[float, float, float, float]
    """Left, top, right, bottom, as fractions of the upright image."""


@dataclass(frozen=True)
class Location:
    """The place at an image's position, in the names of GeoNames."""

    country_code: str
    """ISO 3166-1, two capital letters."""
    country: str
    region: str | None
    """State, province, canton."""
    city: str
    district: str | None = None
    """The nearest place, if it is not the city itself."""

    @property
    def names(self) -> tuple[str, ...]:
        """From the smallest to the largest, each once."""
        names = (self.district, self.city, self.region, self.country)
        return tuple(dict.fromkeys(name for name in names if name))

    def __str__(self) -> str:
        return f"{self.city}, {self.country}" if self.city != self.country else self.country


@dataclass(frozen=True)
class ImageRecord:
    """One image of a library, from the catalog."""

    id: int
    root: str
    """Absolute path of the root folder it was found under."""
    path: str
    """Relative to ``root``, with forward slashes."""
    size: int
    mtime_ns: int | None
    """None for an imported image whose file was never read."""
    content_hash: str
    info: PhotoInfo
    added_at: datetime
    """UTC, without a time zone."""
    phash: int | None = None
    decoded: bool = False
    """Whether this library decoded the file below a folder that the user named. The original of
    any other image, whose row an imported set may have made up, must not be served."""
    location: Location | None = None
    """The place at its position; None if it has none, or was not looked up."""
    metadata_stamp: int = field(default=0, compare=False)
    """``Candidate.metadata_stamp`` when its metadata was read; 0 if no run has read it."""

    @property
    def absolute(self) -> Path:
        """The file's path when it was last read."""
        return Path(self.root) / self.path


@dataclass(frozen=True)
class Root:
    """A folder that was indexed."""

    id: int
    path: Path
    """Absolute."""
    named: bool = field(default=False, compare=False)
    """Whether the user named it; False for a root that an imported set names."""


class Known(NamedTuple):
    """What a run compares to see whether an image's file has changed.

    A tuple, because a run makes one for every image of a root: 100,000 in 0.1 s.
    """

    id: int
    path: str
    """Relative to its root, with forward slashes."""
    size: int
    mtime_ns: int | None
    """See ``ImageRecord``."""
    decoded: bool = False
    """See ``ImageRecord``."""
    metadata_stamp: int = 0
    """See ``ImageRecord``."""
    ctime_ns: int | None = None
    """See ``Candidate``; None if it is unknown."""
    inode: int | None = None


class FileStamp(NamedTuple):
    """What shows whether a file that could not be read has changed."""

    size: int
    mtime_ns: int | None
    """None if it is to be read again in any case."""
    ctime_ns: int | None = None
    """None if it is unknown."""


@dataclass(frozen=True)
class NewImage:
    """A decoded and encoded image to be stored in the catalog."""

    candidate: Candidate
    photo: Photo
    vector: NDArray[np.float32] | None
    """``(d,) float32, unit norm``; None if the existing image keeps its embedding."""
    image: int | None = None
    """The existing image's id if its file has changed; None for a new image."""
    decoded: bool = False
    """Whether this library decoded the file itself, below a folder that the user named."""
    pixels_hash: str | None = None
    """xxh3-128 of the pixels that the model was shown, in hex; None if it was shown none."""


@dataclass(frozen=True)
class Failure:
    """A file that could not be read, and why. It is read again when it changes."""

    root: str
    path: str
    size: int
    mtime_ns: int | None
    """None if it is to be read again in any case."""
    reason: str
    ctime_ns: int | None = field(default=None, compare=False)


EXACT_TEXT = "exact_text"
"""A condition like ``text`` without words that differ by a reading error."""


@dataclass(frozen=True)
class Condition:
    """One exact filter. ``negated`` inverts it.

    ====================  ============================================================
    name                  value
    ====================  ============================================================
    ``after``             ``date``: taken on that day or later
    ``before``            ``date``: taken before that day
    ``date``              ``(date, date)``: taken on the first day or later, before the second
    ``in``                ``str``: a folder's name or path anywhere in root/path, any case
    ``camera``, ``lens``  ``str``: contained in the name, any case
    ``type``              ``str``: the format's name (``jpeg``; ``jpg``, ``heic`` are understood)
    ``is``                ``"portrait" | "landscape" | "square" | "favourite"``
    ``collection``        ``str``: the name of a collection, any case
    ``near``              ``(latitude, longitude, kilometres)``
    ``label``             ``str``: a label stored by ``sightline label``
    ``keyword``           ``str``: an XMP/IPTC keyword, any case
    ``text``              ``str``: words that are written in the image, one after the other; the
                          last one may end in ``*``, and one may have a reading error unless
                          ``negated``
    ``exact_text``        the same without reading errors
    ``place``             ``str``: words of the name of a city, region or country, or of its place
    ``country``           ``str``: two letters of ISO 3166, or words of its name
    ``person``            ``str``: words of the name of a person in the image, any case
    ``rating``            ``int``: at least that many stars
    ``name``              ``str``: contained in the file's name, any case
    ====================  ============================================================
    """

    name: str
    value: str | int | date | tuple[float, float, float] | tuple[date, date]
    negated: bool = False


@dataclass(frozen=True)
class Filters:
    """Conditions that an image must meet; every image meets empty ones.

    All must hold, but positive conditions of one name are alternatives (``in:A in:B``), except
    those named ``after``, ``before``, ``rating``, ``label``, ``keyword``, ``person``,
    ``text``, ``exact_text`` and ``collection``, and ``is:favourite`` beside a shape. A date of
    which only a part is known meets a condition if all that it may be does: of ``1943``,
    ``before:1944`` and not ``before:1943-06``.
    """

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
    texts_read: int = 0
    """Images whose text was read."""
    failures: tuple[Failure, ...] = ()
    """Every file of the run's folders that could not be read, in this run or earlier."""
    held_back: tuple[str, ...] = ()
    """One line per folder from which nothing was deleted because too much was missing."""
    notes: tuple[str, ...] = ()
    """One line per folder that is another path of a folder of the library, or now contains one; per
    format that is not supported; and per thing that was ignored to read images."""
    interrupted: bool = False
    seconds: float = 0.0
    library: str = ""
    model: str = ""

    @property
    def images_per_second(self) -> float:
        """Newly encoded images per second over the whole run."""
        return (self.added + self.updated) / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True)
class Int8Check:
    """How a model's embeddings in int8 compare with those in float32, on a library's images."""

    images: int
    """That were compared."""
    cosine: float
    """The mean of each image's two embeddings."""
    overlap: float
    """The mean fraction of each image's ten nearest ones that are the same."""
    passed: bool
    """Whether images are encoded in int8 on CPUs that do not multiply bfloat16."""

    @property
    def figures(self) -> str:
        """The comparison in words."""
        return (
            f"on {self.images} images the mean cosine to float32 is {self.cosine:.4f}, and"
            f" {self.overlap:.3f} of the ten nearest images are the same"
        )

    @property
    def sentence(self) -> str:
        """What was decided, in one line."""
        chosen = "int8 from now on" if self.passed else "float32, not in int8"
        return f"images are encoded in {chosen}: {self.figures}"


@dataclass(frozen=True)
class IndexState:
    """A vector index, as ``status`` reports it."""

    type: str
    """``exact``, ``ivf-pq`` or ``ivf-rabitq``, or Milvus's name of an index."""
    count: int
    generation: int
    bytes: int
    pending: int = 0
    """Images newer than the generation, which are searched exactly."""
    nprobe: int | None = None
    recall: dict[str, float] = field(default_factory=dict)
    """Measured recall@10 by kind of query: ``{"image": .., "text": ..}``; empty if exact."""
    note: str | None = None
    device: str | None = None
    """Where it is searched: ``cpu`` or ``cuda``; None for Milvus."""
    device_note: str | None = None
    """Why it is not searched on the GPU although that was requested."""


class Progress(Protocol):
    """Receives how far a long operation is. Called from the thread that runs the operation."""

    def __call__(self, phase: str, done: int, total: int | None, /) -> None:
        """``done`` of ``total`` items of ``phase``; ``total`` is None while it is unknown."""


def no_progress(phase: str, done: int, total: int | None, /) -> None:
    """Ignores progress."""
