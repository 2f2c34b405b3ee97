"""The files of a vector index, and why they can be trusted.

    index/
        manifest.json         which generation is in force, what it was made of, checksums
        index-000007.faiss    the quantised vectors, opened by memory map
        vectors-000007.f16    the same vectors as the catalog keeps them, for exact ranking
        ids-000007.i64        the image id of each row; -1 for a row that is gone

Files of a generation are written under names of their own and never changed; the manifest is put
in place last, by a rename. Whatever interrupts a build, the old generation stays in force. A file
whose size or checksum is not that of the manifest, or a manifest of another library, is not used.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import xxhash

MANIFEST = "manifest.json"
FORMAT = 1
Reach = tuple[tuple[float, float], ...]
"""How much further than the closest centroid others may lie from a query: (the closest one's
product with it, how much lower), rising; between them in proportion."""

EVERYWHERE: Reach = ((0.0, 2.0),)
"""A reach that leaves no list out: two cosines differ by no more."""
READ = 1 << 22
"""Bytes read at once for a checksum."""


class UntrustedError(Exception):
    """The files of an index cannot be used; the message says why."""


@dataclass(frozen=True)
class FileFacts:
    """What a file must be."""

    name: str
    bytes: int
    xxh3: str


@dataclass(frozen=True)
class Manifest:
    """What is known of a generation."""

    generation: int
    kind: str
    """``exact``, ``ivf-pq`` or ``ivf-rabitq``."""
    wanted: str
    """What was asked for: a kind, or ``auto``."""
    identity: str
    """Of the catalog that it was made of."""
    model: str
    revision: str
    dimension: int
    version: int
    """Of the catalog: everything up to it is in here."""
    rows: int = 0
    gone: int = 0
    """Rows whose image has left since they were written."""
    trained_on: int = 0
    """Images there were when the quantisers were trained."""
    factory: str = ""
    nlist: int = 0
    nprobe: int = 0
    """Lists that are looked into at most,"""
    reach: Reach = EVERYWHERE
    """of those that are within it."""
    depth: int = 0
    """Candidates that may be ranked exactly for ten results."""
    slack: float = math.inf
    """How far a neighbour's exact score may lie above the one its code gives: candidates that even
    so do not reach the last place wanted are not ranked."""
    filtered: tuple[tuple[float, int, Reach], ...] = ()
    """(share of the images that meet a filter, nprobe, reach), falling."""
    recall: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, FileFacts] = field(default_factory=dict)
    """``index``, ``vectors``, ``ids``."""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """From JSON. UntrustedError for a document that is not one of these."""
        try:
            if document["format"] != FORMAT:
                raise UntrustedError(f"its format {document['format']} is not known here")
            facts = {name: FileFacts(**entry) for name, entry in document["files"].items()}
            names = {facts[name].name for name in facts}
            if any(Path(name).name != name for name in names):
                raise UntrustedError("the manifest names files elsewhere")
            # Not there before they were measured.
            document = {"slack": math.inf, "reach": EVERYWHERE, **document}
            known = {name: document[name] for name in cls.__dataclass_fields__ if name != "files"}
            known["filtered"] = tuple(
                (float(share), int(nprobe), _reach(*reach))
                for share, nprobe, *reach in known["filtered"]
            )
            known["reach"] = _reach(known["reach"])
            return cls(**known, files=facts)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UntrustedError(f"the manifest cannot be understood ({error!r})") from error

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"format": FORMAT, **asdict(self)}


def _reach(known: Any = None) -> Reach:
    """From JSON; earlier versions had none here, or a number."""
    if not isinstance(known, (list, tuple)):
        return EVERYWHERE
    return tuple((float(best), float(far)) for best, far in known)


def read_manifest(directory: Path) -> Manifest | None:
    """The manifest in force, None where there is none. UntrustedError for one that is spoilt."""
    try:
        text = (directory / MANIFEST).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UntrustedError(f"the manifest cannot be read ({error})") from error
    try:
        document = json.loads(text)
    except ValueError as error:
        raise UntrustedError("the manifest is damaged") from error
    return Manifest.of(document)


def next_generation(directory: Path) -> int:
    """A number that no file here has had."""
    numbers = [0]
    with suppress(UntrustedError):
        manifest = read_manifest(directory)
        if manifest is not None:
            numbers.append(manifest.generation)
    if directory.exists():
        for path in directory.iterdir():
            number = path.name.partition("-")[2].partition(".")[0]
            if number.isdigit():
                numbers.append(int(number))
    return max(numbers) + 1


def install(directory: Path, manifest: Manifest, paths: Mapping[str, Path]) -> Manifest:
    """Puts a generation in force: its files to disk, then the manifest; then sweeps older files."""
    facts = {}
    for name, path in paths.items():
        _sync(path)
        facts[name] = FileFacts(path.name, path.stat().st_size, checksum(path))
    manifest = replace(manifest, files=facts)
    target = directory / MANIFEST
    fresh = target.with_suffix(".tmp")
    fresh.write_text(json.dumps(manifest.as_dict(), indent=2) + "\n", encoding="utf-8")
    _sync(fresh)
    os.replace(fresh, target)  # noqa: PTH105
    _sync(directory)
    sweep(directory, manifest)
    return manifest


def left_over(directory: Path, manifest: Manifest | None) -> list[Path]:
    """Files of generations that are not in force, and of builds that were cut off."""
    kept = {MANIFEST}
    if manifest is not None:
        kept |= {facts.name for facts in manifest.files.values()}
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if path.name not in kept and path.is_file())


def sweep(directory: Path, manifest: Manifest | None) -> None:
    """Removes what is left over."""
    for path in left_over(directory, manifest):
        # Where a file that is open cannot be removed, the next run sweeps it away.
        with suppress(OSError):
            path.unlink()


def verify(directory: Path, manifest: Manifest) -> None:
    """UntrustedError unless every file is the one that was written."""
    for facts in manifest.files.values():
        path = directory / facts.name
        try:
            size = path.stat().st_size
            if size != facts.bytes:
                raise UntrustedError(f"{facts.name} has {size:,} bytes and not {facts.bytes:,}")
            if checksum(path) != facts.xxh3:
                raise UntrustedError(f"{facts.name} is damaged")
        except OSError as error:
            raise UntrustedError(f"{facts.name} cannot be read ({error.strerror})") from error


def checksum(path: Path) -> str:
    """xxh3_128 of a file."""
    state = xxhash.xxh3_128()
    buffer = bytearray(READ)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(buffer):
            state.update(view[:size])
    return state.hexdigest()


def _sync(path: Path) -> None:
    """To the disk; a directory too, where the system can."""
    flags = os.O_RDONLY
    try:
        handle = os.open(path, flags)
    except PermissionError:
        return  # a directory, on systems where those cannot be opened
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
