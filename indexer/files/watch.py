"""Folders that are watched: what has changed in them, as soon as it has come to rest.

    for changed in changes([Path("/home/ana/Pictures")], stop):
        update_library(library, encoder, changed)

The operating system says what happens (inotify, FSEvents, ReadDirectoryChangesW; through watchdog,
the extra ``watch``). Network drives often say nothing: those are for ``sightline index`` by clock.
"""

from __future__ import annotations

import errno
import queue
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

from sightline.indexer.errors import LibraryError, UsageError
from sightline.indexer.files import archives
from sightline.indexer.files.walk import EXTENSIONS, IGNORE_FILE

LOOKED_AT = EXTENSIONS | {archives.SUFFIX}

QUIET = 1.0
"""Seconds without news after which what has changed is looked at: a file that is being copied makes
news all the time."""

LONGEST = 15.0
"""Seconds after which it is looked at although there is still news."""

TICK = 0.25
"""Seconds between two looks at whether a person wants it to end."""


def changes(roots: Sequence[Path], stop: Event, *, quiet: float = QUIET) -> Iterator[list[Path]]:
    """The folders below ``roots`` (or roots themselves) in which something has changed, batch by
    batch, until ``stop`` is set; first ``roots`` themselves, as soon as nothing can be missed.
    A batch is what has come to rest for ``quiet`` seconds.

    Where files came or changed it is their folder; where some went, or rules of what to leave out
    changed, the whole root, so that many that are gone at once can be told from few. Raises
    UsageError without watchdog, and LibraryError when the system cannot watch so many folders.
    """
    news: queue.SimpleQueue[Path] = queue.SimpleQueue()
    with _watching(roots, news):
        yield list(roots)
        while not stop.is_set():
            found: set[Path] = set()
            first = last = time.monotonic()
            while not stop.is_set():
                now = time.monotonic()
                if found and (now - last >= quiet or now - first >= LONGEST):
                    break
                try:
                    path = news.get(timeout=min(TICK, quiet))
                except queue.Empty:
                    continue
                last = time.monotonic()
                first = first if found else last
                found.add(path)
            there = _outermost({_still_there(path) for path in found})
            if there and not stop.is_set():
                yield there


def _still_there(path: Path) -> Path:
    """``path``, or the first folder above it that is there."""
    return next(up for up in (path, *path.parents) if up.is_dir())


def _outermost(paths: set[Path]) -> list[Path]:
    """``paths`` without those that lie in another of them."""
    return sorted(path for path in paths if not any(up in paths for up in path.parents))


@contextmanager
def _watching(roots: Sequence[Path], news: queue.SimpleQueue[Path]) -> Iterator[None]:
    try:
        from watchdog.events import FileSystemEvent, FileSystemEventHandler
        from watchdog.observers import Observer
    except ImportError as error:
        raise UsageError(
            'watching needs the extra `watch`: pip install "sightline[watch]"'
        ) from error

    class Handler(FileSystemEventHandler):
        """Puts the folder to look at into ``news``; called by the observer's thread."""

        def __init__(self, root: Path) -> None:
            self.root = root

        def on_any_event(self, event: FileSystemEvent) -> None:
            if event.event_type in ("opened", "closed_no_write"):
                return  # a look, by us among others
            self._at(event, str(event.src_path), gone=event.event_type in ("deleted", "moved"))
            if event.dest_path:
                self._at(event, str(event.dest_path), gone=False)

        def _at(self, event: Any, name: str, *, gone: bool) -> None:
            path = Path(name)
            if event.is_directory:
                if event.event_type == "modified":
                    return  # its files speak for themselves
            elif path.name != IGNORE_FILE and path.suffix.lower() not in LOOKED_AT:
                return
            if gone or path.name == IGNORE_FILE:
                news.put(self.root)
            else:
                news.put(path if event.is_directory else path.parent)

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
