"""Copies of a library that are libraries themselves, made while others write to it.

The vector index is copied first: one that is older than the catalog is complete with the catalog's
newer images, a newer one would not be used. Then both SQLite files are copied as they are at one
moment. The copy is made under another name, checked, and renamed once it is complete.
"""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.indexer.errors import CorruptError, LibraryError
from sightline.indexer.vector_index import copy_index

if TYPE_CHECKING:
    from sightline.indexer.library.library import Library

CATALOG, THUMBNAILS, INDEX = "catalog.db", "thumbnails.db", "index"


@dataclass(frozen=True)
class Backup:
    """A copy that was made."""

    directory: Path
    images: int
    bytes: int


def back_up(library: Library, target: Path, *, replace: bool) -> Backup:
    """Copies ``library`` to the folder ``target``, readable by its owner only. With ``replace``, a
    library that is there is replaced once the copy is complete; its name is free for an instant.

    Raises ``LibraryError`` if there is a library and not ``replace``, if there is anything else, or
    if the disk is full, and ``CorruptError`` if ``library`` is corrupt.
    """
    target = Path(os.path.abspath(target.expanduser()))  # noqa: PTH100 (links are kept)
    if _is_inside(target, library.directory):
        raise LibraryError(f"{target} is inside the library: choose a folder elsewhere")
    occupied = target.exists() and any(target.iterdir())
    if occupied and not (target / CATALOG).exists():
        raise LibraryError(f"{target} holds other things and no library: choose an empty folder")
    if occupied and not replace:
        raise LibraryError(f"there is a library in {target}: move it away, or choose another")
    draft, old = (target.with_name(f"{target.name}.{end}") for end in ("unfinished", "replaced"))
    try:
        for left_over in (draft, old):
            shutil.rmtree(left_over, ignore_errors=True)
        draft.mkdir(mode=0o700, parents=True)
        images = _copy(library, draft)
        if target.exists():
            target.rename(old)
        draft.rename(target)
    except OSError as error:
        raise LibraryError.unwritable(target, error) from error
    finally:
        if old.exists() and not target.exists():
            with suppress(OSError):
                old.rename(target)
        for left_over in (draft, old):
            shutil.rmtree(left_over, ignore_errors=True)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    return Backup(target, images, size)


def _copy(library: Library, draft: Path) -> int:
    """Fills ``draft`` and returns the number of images."""
    copy_index(library.directory / INDEX, draft / INDEX)
    with ExitStack() as stack:
        copy_catalog = stack.enter_context(library.catalog.frozen())
        if library.has_thumbnails:
            copy_thumbnails = stack.enter_context(library.thumbnails.frozen())
            copy_thumbnails(draft / THUMBNAILS)
        copy_catalog(draft / CATALOG)
    # Opened for writing once: a copy between the thumbnails of a batch and its rows has thumbnails
    # too many.
    with type(library).open(draft) as made:
        made.thumbnails.sweep(made.catalog.select())
    with type(library).open(draft, read_only=True) as made:
        for problem in made.catalog.check():
            if not problem.repairable:
                raise CorruptError(
                    f"the library in {library.directory} is corrupt ({problem.text}): run"
                    " `sightline doctor`; no copy was made"
                )
        return made.count


def _is_inside(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
