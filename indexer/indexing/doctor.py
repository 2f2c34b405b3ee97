"""What is wrong with a library, and putting right what can be: ``sightline doctor``.

    catalog.db       damage, rows without their partners, vectors that cannot be
    thumbnails.db    damage, thumbnails missing or left over
    index/           anything that makes a search fall back on exact search
    the pictures     files that are gone or have changed since they were indexed

Nothing is thrown away that cannot be made again: a damaged file is kept beside the library under
another name, and of a damaged catalog everything readable is carried into a new one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, Literal

from sightline.indexer.catalog.catalog import Catalog
from sightline.indexer.catalog.salvage import salvage
from sightline.indexer.catalog.thumbnails import Thumbnails
from sightline.indexer.errors import DamagedError, LibraryError
from sightline.indexer.files import archives
from sightline.indexer.indexing import missing_thumbnails
from sightline.indexer.library.library import CATALOG, SALVAGED, THUMBNAILS, Library, write_lock
from sightline.indexer.types import Progress, no_progress

Kind = Literal["damaged", "missing", "stale", "orphaned", "wrong"]

SHOWN_EVERY = 1000
"""Files between two calls of ``progress``."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    kind: Kind
    where: str
    """``catalog.db``, ``thumbnails.db``, ``index``, ``pictures``."""
    text: str
    """One line."""
    remedy: str
    """What to do about it, or what was done."""
    repaired: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


REPAIR = "run `sightline doctor --repair`"
INDEX = "run `sightline index`"


def examine(
    directory: Path, *, files: bool = True, progress: Progress = no_progress
) -> list[Finding]:
    """Everything that is wrong with the library in ``directory``; nothing is changed.

    ``files`` looks at every picture's file as well (its size and time, not its contents).
    LibraryError where there is no library, or what is there belongs to another program.
    """
    try:
        library = Library.open(directory, read_only=True)
    except LibraryError as error:
        if not Library.exists(directory) and (directory / SALVAGED).exists():
            return [Finding("damaged", CATALOG, "a repair was cut off", REPAIR)]
        if not isinstance(error, DamagedError):
            raise
        where = THUMBNAILS if (directory / THUMBNAILS).name in str(error) else CATALOG
        return [Finding("damaged", where, str(error), REPAIR)]
    with library:
        found = _catalog_findings(library)
        if any((finding.kind, finding.where) == ("damaged", CATALOG) for finding in found):
            return found  # nothing else can be asked of it
        return (
            found
            + _index_findings(library)
            + (_picture_findings(library, progress) if files else [])
        )


def repair(
    directory: Path, *, files: bool = True, progress: Progress = no_progress
) -> list[Finding]:
    """Puts right what can be, and returns what was wrong and what still is.

    LibraryBusyError while a run is writing; LibraryError when nothing of the catalog can be saved,
    or the disk refuses: what was there is there, and the next repair goes on from it.
    """
    try:
        return _repaired(directory, files, progress)
    except OSError as error:
        raise LibraryError.unwritable(Path(error.filename or directory), error) from error


def _repaired(directory: Path, files: bool, progress: Progress) -> list[Finding]:
    done: list[Finding] = []
    with write_lock(directory):
        _finish_swap(directory)
        if _is_damaged(directory / CATALOG, lambda: _read_catalog(directory / CATALOG)):
            done.append(_salvage_catalog(directory))
        thumbnails = directory / THUMBNAILS
        if _is_damaged(thumbnails, lambda: _read_thumbnails(thumbnails)):
            aside = _move_aside(thumbnails)
            text = f"{THUMBNAILS} was damaged"
            done.append(Finding("damaged", THUMBNAILS, text, f"kept as {aside.name}", True))
        with Library.open(directory) as library:
            done += [
                Finding("wrong", CATALOG, text, "done", True) for text in library.catalog.repair()
            ]
            done += _mend_thumbnails(library, progress)
            done += _mend_index(library, progress)
    return done + examine(directory, files=files, progress=progress)


# finding ------------------------------------------------------------------------------------------


def _catalog_findings(library: Library) -> list[Finding]:
    """What the catalog and the thumbnails say of themselves."""
    try:
        with_thumbnail = library.thumbnails.ids()
    except LibraryError as error:
        found = library.catalog.check()
        extra = [Finding("damaged", THUMBNAILS, str(error), REPAIR)]
    else:
        found = library.catalog.check(with_thumbnail)
        extra = []
    return extra + [
        Finding(
            problem.kind,
            THUMBNAILS if "thumbnail" in problem.text else CATALOG,
            problem.text,
            REPAIR,
        )
        for problem in found
    ]


def _index_findings(library: Library) -> list[Finding]:
    note = library.index_state.note
    found = [Finding("damaged", "index", note, "run `sightline rebuild`")] if note else []
    if left := library.index_orphans():
        text = f"{left:,} files in index/ are left over from builds that were cut off"
        found.append(Finding("orphaned", "index", text, INDEX))
    return found


def _picture_findings(library: Library, progress: Progress) -> list[Finding]:
    """Files that are gone, and files that are newer than what is known of them."""
    findings: list[Finding] = []
    total, done = library.count, 0
    for root in library.catalog.roots():
        # What was imported and never seen as a file is not missed.
        seen = [known for known in library.catalog.known(root).values() if known.mtime_ns]
        if not seen:
            continue
        if not root.path.exists():
            findings.append(
                Finding(
                    "missing",
                    "pictures",
                    f"{root.path} is not there",
                    "mount it, or `sightline roots --move`",
                )
            )
            continue
        gone = changed = 0
        for known in seen:
            done += 1
            if done % SHOWN_EVERY == 0:
                progress("looking at the pictures", done, total)
            try:
                found = archives.size_and_mtime(root.path / known.path)
            except (OSError, ValueError):
                gone += 1
                continue
            changed += found != (known.size, known.mtime_ns)
        if gone:
            text = f"{gone:,} pictures of {root.path} are gone since they were indexed"
            findings.append(Finding("missing", "pictures", text, INDEX))
        if changed:
            text = f"{changed:,} pictures of {root.path} have changed since they were indexed"
            findings.append(Finding("stale", "pictures", text, INDEX))
    return findings


# putting right ------------------------------------------------------------------------------------


def _is_damaged(path: Path, look: Callable[[], None]) -> bool:
    """Whether ``look`` finds the file at ``path`` damaged. Another error (the file is another
    program's, or a newer version's) is raised."""
    if not path.exists():
        return False
    try:
        look()
    except DamagedError:
        return True
    return False


def _read_catalog(path: Path) -> None:
    with Catalog.open(path, read_only=True) as catalog:
        for problem in catalog.check():
            if problem.kind == "damaged" and not problem.repairable:
                raise DamagedError(problem.text)


def _read_thumbnails(path: Path) -> None:
    with Thumbnails.open(path, read_only=True) as thumbnails:
        thumbnails.ids()


def _move_aside(path: Path) -> Path:
    """Gives a damaged file, and its log, a name beside those of the library."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    names = (path.with_name(f"{path.name}.damaged-{stamp}-{number}") for number in count(1))
    target = next(name for name in names if not name.exists())
    for ending in ("-wal", "-shm"):
        log = path.with_name(path.name + ending)
        if log.exists():
            log.rename(target.with_name(target.name + ending))
    path.rename(target)
    return target


def _finish_swap(directory: Path) -> None:
    """Ends what a repair that was cut off had begun: its catalog was whole once the damaged one was
    put aside; before that, it is made anew."""
    path, fresh = directory / CATALOG, directory / SALVAGED
    if not path.exists() and fresh.exists():
        fresh.rename(path)
    for draft in directory.glob(f"{SALVAGED}*"):
        draft.unlink()


def _salvage_catalog(directory: Path) -> Finding:
    path, fresh = directory / CATALOG, directory / SALVAGED
    saved = salvage(path, fresh)
    aside = _move_aside(path)
    fresh.rename(path)
    return Finding(
        "damaged",
        CATALOG,
        f"{CATALOG} was damaged in {saved.damage:,} places",
        f"{saved.images:,} images saved, the damaged file kept as {aside.name};"
        " run `sightline index` to read what was lost",
        True,
    )


def _mend_thumbnails(library: Library, progress: Progress) -> list[Finding]:
    done = []
    swept = missing_thumbnails.sweep(library)
    if swept:
        text = f"{swept:,} thumbnails belonged to no picture"
        done.append(Finding("orphaned", THUMBNAILS, text, "removed", True))
    missing, still = missing_thumbnails.redraw(
        library, workers=os.cpu_count() or 1, progress=progress
    )
    if missing:
        text = f"{missing:,} pictures had no thumbnail"
        done.append(Finding("missing", THUMBNAILS, text, f"{missing - still:,} drawn anew", True))
    return done


def _mend_index(library: Library, progress: Progress) -> list[Finding]:
    note = library.index_state.note
    done = []
    if note:
        library.rebuild_index(progress=progress)
        done.append(Finding("damaged", "index", note, "built anew", True))
    if swept := library.sweep_index():
        text = f"{swept:,} files in index/ were left over from builds that were cut off"
        done.append(Finding("orphaned", "index", text, "removed", True))
    return done
