"""Watches folders for changes, with watchdog (the ``watch`` extra).

    for changed in changes([Path("/home/ana/Pictures")], stop):
        update_library(library, encoder, changed)

Network drives often report no changes: run ``sightline index`` on a schedule for those.
"""

from __future__ import annotations

import errno
import queue
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

from sightline.indexer.errors import LibraryError, UsageError
from sightline.indexer.files import archives, sidecars
from sightline.indexer.files.walk import (
    IGNORE_FILE,
    IMAGE_SUFFIXES,
    NO_MEDIA,
    is_sniffed,
    suffix_of,
)
from sightline.indexer.installation import install_command

WATCHED_SUFFIXES = IMAGE_SUFFIXES | sidecars.SUFFIXES | {archives.SUFFIX}

QUIET = 1.0
"""Seconds without an event that end a batch: a file that is being copied makes events."""

MAX_DELAY = 15.0
"""Seconds after which a batch ends although events continue."""

POLL = 0.25
"""Seconds between checks of ``stop``."""


def changes(roots: Sequence[Path], stop: Event, *, quiet: float = QUIET) -> Iterator[list[Path]]:
    """Batches of the folders in which something has changed, until ``stop`` is set.

    The first batch is ``roots``, once they are watched. A batch ends ``quiet`` seconds after the
    last event. For files that were created or changed it holds their folder; for files that were
    deleted or moved and for ignore files it holds the root, so that the run can tell how many are
    missing, also if the root itself is. Raises ``UsageError`` without watchdog, ``LibraryError`` if
    the system cannot watch so many folders.
    """
    events: queue.SimpleQueue[Path] = queue.SimpleQueue()
    with _watching(roots, events):
        yield list(roots)
        while not stop.is_set():
            changed: set[Path] = set()
            first = last = time.monotonic()
            while not stop.is_set():
                try:
                    path = events.get(timeout=min(POLL, quiet))
                except queue.Empty:
                    if changed and time.monotonic() - last >= quiet:
                        break
                    continue
                last = time.monotonic()
                first = first if changed else last
                changed.add(path)
                if last - first >= MAX_DELAY:
                    break
            batch = _outermost({nearest_existing(path, roots) for path in changed})
            if batch and not stop.is_set():
                yield batch


def nearest_existing(path: Path, roots: Collection[Path]) -> Path:
    """``path`` or its first parent that exists, but nothing above its root: the user did not name
    what is there."""
    return next(folder for folder in (path, *path.parents) if folder in roots or folder.is_dir())


def _outermost(paths: set[Path]) -> list[Path]:
    """``paths`` without those inside another of them."""
    return sorted(path for path in paths if not any(parent in paths for parent in path.parents))


@contextmanager
def _watching(roots: Sequence[Path], events: queue.SimpleQueue[Path]) -> Iterator[None]:
    """Puts the folder to index for each event into ``events``."""
    try:
        from watchdog.events import FileSystemEvent, FileSystemEventHandler
        from watchdog.observers import Observer
    except ImportError as error:
        raise UsageError(f"watching needs the extra `watch`: {install_command('watch')}") from error

    class Handler(FileSystemEventHandler):
        """Called in the observer's thread."""

        def __init__(self, root: Path) -> None:
            self.root = root

        def on_any_event(self, event: FileSystemEvent) -> None:
            if event.event_type in ("opened", "closed_no_write"):
                return  # a read, by us among others
            deleted = event.event_type in ("deleted", "moved")
            self._add(event, str(event.src_path), deleted=deleted)
            if event.dest_path:
                self._add(event, str(event.dest_path), deleted=False)

        def _add(self, event: Any, name: str, *, deleted: bool) -> None:
            path = Path(name)
            suffix, is_ignore_file = suffix_of(path.name), path.name in (IGNORE_FILE, NO_MEDIA)
            if event.is_directory:
                if event.event_type == "modified":
                    return  # its files have their own events
            elif not is_ignore_file and not (
                suffix in WATCHED_SUFFIXES or (suffix and is_sniffed(suffix))
            ):
                return
            if deleted or is_ignore_file:
                events.put(self.root)
            else:
                events.put(path if event.is_directory else path.parent)

    observer = Observer()
    try:
        for root in roots:
            observer.schedule(Handler(root), str(root), recursive=True)
        observer.start()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EMFILE):
            raise
        raise LibraryError(
            "the system does not watch so many folders: raise fs.inotify.max_user_watches (or"
            " max_user_instances), as in `sudo sysctl fs.inotify.max_user_watches=1048576`"
        ) from error
    try:
        yield
    finally:
        observer.stop()
        observer.join()
