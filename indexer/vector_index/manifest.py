"""The files of a vector index: manifest, checksums, atomic replacement.

    index/
        manifest.json         the current generation: parameters, source, checksums
        index-000007.faiss    quantised vectors (FAISS)
        vectors-000007.f16    the same vectors in float16, for exact re-ranking
        ids-000007.i64        the image id of each row; -1 if it was deleted

Files of a generation are never changed. A build writes new files and replaces the manifest by a
rename at the end, so the previous generation stays current if the build is interrupted. A file
whose size or checksum differs from the manifest is not used.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import xxhash

MANIFEST = "manifest.json"
FORMAT = 1

UNLIMITED = 2.0
"""A probing radius that excludes no inverted list: cosines differ by at most 2."""

COPY_ATTEMPTS = 3
"""Copies of an index that is replaced while it is copied; builds take longer than a copy."""

READ_BYTES = 1 << 17
"""Bytes read at a time for a checksum: a third faster than megabytes, which leave the CPU's cache
before they are hashed."""


class UntrustedError(Exception):
    """The files of an index cannot be used; the message is the reason."""


@dataclass(frozen=True)
class FileFacts:
    """Name, size and checksum of a file."""

    name: str
    bytes: int
    xxh3: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """Reads the whole file."""
        return cls(path.name, path.stat().st_size, checksum(path))


@dataclass(frozen=True)
class Manifest:
    """Description of one generation."""

    generation: int
    kind: str
    """``exact``, ``ivf-pq`` or ``ivf-rabitq``."""
    requested: str
    """The kind that was requested, or ``auto``."""
    identity: str
    """Identity of the catalog it was built from."""
    model: str
    revision: str
    dimension: int
    version: int
    """Version of the catalog: the generation contains all changes up to it."""
    rows: int = 0
    deleted: int = 0
    """Rows whose image was already deleted when the files were written."""
    trained_on: int = 0
    """Number of images when the quantisers were trained."""
    factory: str = ""
    nlist: int = 0
    nprobe: int = 0
    """Maximum number of inverted lists that a query scans."""
    radius: float = UNLIMITED
    """Lists are scanned if their centroid's cosine to the query is at most this much lower than
    that of the nearest centroid."""
    depth: int = 0
    """Re-ranking depth: candidates per query whose exact score is computed."""
    recall: Mapping[str, float] = field(default_factory=dict)
    """Measured recall@10 by kind of query, ``image`` and ``text``."""
    files: Mapping[str, FileFacts] = field(default_factory=dict)
    """``index``, ``vectors``, ``ids``."""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """From JSON. UntrustedError if ``document`` is not a manifest of a known format."""
        try:
            if document["format"] != FORMAT:
                raise UntrustedError(f"the manifest has the unknown format {document['format']}")
            facts = {name: FileFacts(**entry) for name, entry in document["files"].items()}
            if any(Path(one.name).name != one.name for one in facts.values()):
                raise UntrustedError("the manifest names files outside of the index folder")
            values = {
                "requested": document["wanted"],
                "deleted": document["gone"],
                "radius": _radius(document.get("reach")),
                "files": facts,
            }
            same = cls.__dataclass_fields__.keys() - values.keys()
            return cls(**values, **{name: document[name] for name in same})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UntrustedError(f"the manifest cannot be read ({error!r})") from error

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with the keys of the first version of the format."""
        document = {"format": FORMAT, **asdict(self)}
        document["wanted"] = document.pop("requested")
        document["gone"] = document.pop("deleted")
        document["reach"] = [[0.0, document.pop("radius")]]
        document["filtered"] = []  # required by earlier versions
        return document


def _radius(reach: Any) -> float:
    """From JSON. Earlier versions have a list of (cosine of the nearest centroid, radius), one for
    text and one for image queries, or no radius."""
    return max(float(radius) for _, radius in reach) if isinstance(reach, list) else UNLIMITED


def read_manifest(directory: Path) -> Manifest | None:
    """The current manifest, None if there is none. UntrustedError if it is corrupt."""
    try:
        text = (directory / MANIFEST).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UntrustedError(f"the manifest cannot be read ({error})") from error
    try:
        document = json.loads(text)
    except ValueError as error:
        raise UntrustedError("the manifest is corrupt") from error
    return Manifest.of(document)


def next_generation(directory: Path) -> int:
    """A generation number that no file in ``directory`` has."""
    numbers = [0]
    with suppress(UntrustedError):
        manifest = read_manifest(directory)
        if manifest is not None:
            numbers.append(manifest.generation)
    for path in directory.glob("*-*"):
        number = path.name.partition("-")[2].partition(".")[0]
        if number.isdigit():
            numbers.append(int(number))
    return max(numbers) + 1


def install(directory: Path, manifest: Manifest) -> Manifest:
    """Makes a generation current: syncs its files, replaces the manifest, removes older files."""
    for facts in manifest.files.values():
        _sync(directory / facts.name)
    target = directory / MANIFEST
    draft = target.with_suffix(".tmp")
    draft.write_text(json.dumps(manifest.as_dict(), indent=2) + "\n", encoding="utf-8")
    _sync(draft)
    os.replace(draft, target)  # noqa: PTH105
    _sync(directory)
    remove_stale(directory, manifest)
    return manifest


def copy_index(source: Path, target: Path) -> None:
    """Copies the current generation in ``source`` to the new folder ``target``. Copies nothing of
    an index that is corrupt: it is built again from the catalog."""
    for _ in range(COPY_ATTEMPTS):
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(mode=0o700)
        try:
            manifest = read_manifest(source)
            if manifest is None:
                return
            for facts in manifest.files.values():
                shutil.copyfile(source / facts.name, target / facts.name)
            verify(target, manifest)
        except (FileNotFoundError, UntrustedError):
            continue  # a new generation has replaced it meanwhile
        install(target, manifest)
        return
    shutil.rmtree(target, ignore_errors=True)


def stale_files(directory: Path, manifest: Manifest | None) -> list[Path]:
    """Files of earlier generations and of interrupted builds."""
    current = {MANIFEST}
    if manifest is not None:
        current |= {facts.name for facts in manifest.files.values()}
    if not directory.is_dir():
        return []
    return sorted(p for p in directory.iterdir() if p.name not in current and p.is_file())


def remove_stale(directory: Path, manifest: Manifest | None) -> None:
    """Deletes ``stale_files``."""
    for path in stale_files(directory, manifest):
        # An open file cannot be deleted on Windows; the next run deletes it.
        with suppress(OSError):
            path.unlink()


def verify(directory: Path, manifest: Manifest) -> None:
    """UntrustedError unless every file has the size and the checksum of the manifest."""
    for facts in manifest.files.values():
        path = directory / facts.name
        try:
            size = path.stat().st_size
            if size != facts.bytes:
                raise UntrustedError(f"{facts.name} has {size:,} bytes, not {facts.bytes:,}")
            if checksum(path) != facts.xxh3:
                raise UntrustedError(f"{facts.name} is corrupt")
        except OSError as error:
            raise UntrustedError(f"{facts.name} cannot be read ({error.strerror})") from error


def checksum(path: Path) -> str:
    """xxh3_128 of a file."""
    state = xxhash.xxh3_128()
    buffer = bytearray(READ_BYTES)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(buffer):
            state.update(view[:size])
    return state.hexdigest()


def _sync(path: Path) -> None:
    """Flushes a file or a folder to the disk."""
    try:
        # Windows flushes what is open for writing only.
        handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    except PermissionError:
        return  # Windows cannot open a folder
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
