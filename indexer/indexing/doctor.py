"""Finds what is wrong with a library and repairs what can be: ``sightline doctor``.

    catalog.db       corruption, rows without their counterparts, impossible vectors
    thumbnails.db    corruption, missing and orphaned thumbnails
    index/           anything that makes a search fall back to exact search
    pictures         files that are gone or have changed since they were indexed

Nothing is deleted that cannot be made again: a corrupt file is kept under another name, and what is
readable of a corrupt catalog is copied into a new one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from itertools import count
from pathlib import Path

from sightline.indexer.catalog import Catalog, Problem, Thumbnails
from sightline.indexer.catalog.salvage import salvage
from sightline.indexer.errors import CorruptError, LibraryError, PhotoError
from sightline.indexer.indexing import missing_thumbnails
from sightline.indexer.library.library import CATALOG, SALVAGED, THUMBNAILS, Library, write_lock
from sightline.indexer.photo import Decoder
from sightline.indexer.types import Candidate, Geometry, Progress, no_progress

PROGRESS_EVERY = 1000
"""Files between two calls of ``progress``."""

INDEX = "run `sightline index`"


def examine(
    directory: Path, *, files: bool = True, progress: Progress = no_progress
) -> list[Problem]:
    """Everything that is wrong with the library in ``directory``. Changes nothing.

    ``files`` also checks the size and time of every image's file. LibraryError if there is no
    library, or its files belong to another program.
    """
    try:
        library = Library.open(directory, read_only=True)
    except LibraryError as error:
        if not Library.exists(directory) and (directory / SALVAGED).exists():
            return [Problem("damaged", CATALOG, "a repair was interrupted")]
        if not isinstance(error, CorruptError):
            raise
        where = error.path.name if error.path else CATALOG
        return [Problem("damaged", where, str(error))]
    with library:
        found = _catalog_problems(library)
        if any((problem.kind, problem.where) == ("damaged", CATALOG) for problem in found):
            return found  # a corrupt catalog cannot answer the rest
        return (
            found + _index_problems(library) + (_file_problems(library, progress) if files else [])
        )


def repair(
    directory: Path, *, files: bool = True, progress: Progress = no_progress
) -> list[Problem]:
    """Repairs what can be repaired; returns what was wrong and what still is.

    LibraryBusyError while a run is writing; LibraryError if nothing of the catalog is readable or
    the disk fails: then the library is unchanged, and the next repair continues.
    """
    try:
        return _repair(directory, progress) + examine(directory, files=files, progress=progress)
    except OSError as error:
        raise LibraryError.unwritable(Path(error.filename or directory), error) from error


def _repair(directory: Path, progress: Progress) -> list[Problem]:
    done: list[Problem] = []
    with write_lock(directory):
        _finish_salvage(directory)
        if _is_corrupt(directory / CATALOG, _read_catalog):
            done.append(_salvage_catalog(directory))
        if _is_corrupt(directory / THUMBNAILS, _read_thumbnails):
            aside = _move_aside(directory / THUMBNAILS)
            text = f"{THUMBNAILS} was corrupt"
            done.append(Problem("damaged", THUMBNAILS, text, f"kept as {aside.name}", True))
        with Library.open(directory) as library:
            done += library.catalog.repair()
            done += _repair_thumbnails(library, progress)
            done += _repair_index(library, progress)
    return done


# finding ------------------------------------------------------------------------------------------


def _catalog_problems(library: Library) -> list[Problem]:
    """Problems of the catalog and the thumbnails."""
    try:
        with_thumbnail = library.thumbnails.ids()
    except LibraryError as error:
        return [Problem("damaged", THUMBNAILS, str(error)), *library.catalog.check()]
    return library.catalog.check(with_thumbnail)


def _index_problems(library: Library) -> list[Problem]:
    note = library.index_state.note
    found = [Problem("damaged", "index", note, "run `sightline rebuild`")] if note else []
    if left := library.index_orphans():
        text = f"{left:,} files in index/ are left over from interrupted builds"
        found.append(Problem("orphaned", "index", text, INDEX))
    return found


def _file_problems(library: Library, progress: Progress) -> list[Problem]:
    """Image files that are gone or have changed since they were indexed."""
    with Decoder(Geometry()) as decoder:
        return _compared_files(library, decoder, progress)


def _compared_files(library: Library, decoder: Decoder, progress: Progress) -> list[Problem]:
    problems: list[Problem] = []
    total, done = library.count, 0
    for root in library.catalog.roots():
        # Imported images whose files were never read cannot be missing.
        known_files = library.catalog.known(root).values()
        seen = [known for known in known_files if known.mtime_ns is not None]
        if not seen:
            continue
        if not root.path.exists():
            text, remedy = f"{root.path} is not there", "mount it, or `sightline roots --move`"
            problems.append(Problem("missing", "pictures", text, remedy))
            continue
        gone = changed = 0
        for known in seen:
            done += 1
            if done % PROGRESS_EVERY == 0:
                progress("checking the image files", done, total)
            try:
                found = decoder.size_and_mtime(
                    Candidate(root.path, known.path, known.size, known.mtime_ns)
                )
            except (OSError, ValueError, PhotoError):
                gone += 1
                continue
            changed += found != (known.size, known.mtime_ns)
        if gone:
            text = f"{gone:,} images of {root.path} are gone since they were indexed"
            problems.append(Problem("missing", "pictures", text, INDEX))
        if changed:
            text = f"{changed:,} images of {root.path} have changed since they were indexed"
            problems.append(Problem("stale", "pictures", text, INDEX))
    return problems


# repairing ----------------------------------------------------------------------------------------


def _is_corrupt(path: Path, read: Callable[[Path], None]) -> bool:
    """Whether ``read`` finds the file at ``path`` corrupt. Other errors (the file is another
    program's, or of a newer version) are raised."""
    if not path.exists():
        return False
    try:
        read(path)
    except CorruptError:
        return True
    return False


def _read_catalog(path: Path) -> None:
    with Catalog.open(path, read_only=True) as catalog:
        for problem in catalog.check():
            if not problem.repairable:
                raise CorruptError(problem.text, path)


def _read_thumbnails(path: Path) -> None:
    with Thumbnails.open(path, read_only=True) as thumbnails:
        thumbnails.ids()


def _move_aside(path: Path) -> Path:
    """Renames a corrupt file and its log; they stay in the library's folder."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    names = (path.with_name(f"{path.name}.damaged-{stamp}-{number}") for number in count(1))
    target = next(name for name in names if not name.exists())
    for ending in ("-wal", "-shm"):
        log = path.with_name(path.name + ending)
        if log.exists():
            log.rename(target.with_name(target.name + ending))
    path.rename(target)
    return target


def _finish_salvage(directory: Path) -> None:
    """Completes an interrupted ``_salvage_catalog``: the new catalog is complete if the corrupt one
    was moved aside; otherwise it is discarded."""
    path, fresh = directory / CATALOG, directory / SALVAGED
    if not path.exists() and fresh.exists():
        fresh.rename(path)
    for draft in directory.glob(f"{SALVAGED}*"):
        draft.unlink()


def _salvage_catalog(directory: Path) -> Problem:
    path, fresh = directory / CATALOG, directory / SALVAGED
    saved = salvage(path, fresh)
    aside = _move_aside(path)
    fresh.rename(path)
    return Problem(
        "damaged",
        CATALOG,
        f"{CATALOG} was corrupt in {saved.gaps:,} places",
        f"{saved.images:,} images saved, the corrupt file kept as {aside.name};"
        " run `sightline index` to read what was lost",
        True,
    )


def _repair_thumbnails(library: Library, progress: Progress) -> list[Problem]:
    done = []
    if swept := missing_thumbnails.sweep(library):
        text = f"{swept:,} thumbnails belonged to no picture"
        done.append(Problem("orphaned", THUMBNAILS, text, "removed", True))
    missing, still = missing_thumbnails.redraw(
        library, workers=os.cpu_count() or 1, progress=progress
    )
    if missing:
        text = f"{missing:,} images had no thumbnail"
        done.append(Problem("missing", THUMBNAILS, text, f"{missing - still:,} drawn again", True))
    return done


def _repair_index(library: Library, progress: Progress) -> list[Problem]:
    note = library.index_state.note
    done = []
    if note:
        library.rebuild_index(progress=progress)
        done.append(Problem("damaged", "index", note, "rebuilt", True))
    if swept := library.sweep_index():
        text = f"{swept:,} files in index/ were left over from interrupted builds"
        done.append(Problem("orphaned", "index", text, "removed", True))
    return done
