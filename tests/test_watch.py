"""``sightline index --watch``: changes are indexed as they happen."""

from __future__ import annotations

import queue
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers_library import as_bytes, draw, empty_library

from sightline.indexer.errors import LibraryBusyError
from sightline.indexer.files.watch import changes
from sightline.indexer.indexing.index_folders import watch_folders
from sightline.indexer.indexing.run import update_library
from sightline.indexer.types import IndexReport

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder

PATIENCE = 60
"""Seconds until a test gives up."""

QUIET = 0.5
"""Seconds without a change that end a batch. The threads that report changes may not run for some
tenths of one."""


class Watched:
    """A library whose folders are watched by a thread."""

    def __init__(self, directory: Path, encoder: Encoder, folder: Path) -> None:
        self.folder = folder
        self.library = empty_library(directory, encoder)
        self.reports: queue.Queue[IndexReport] = queue.Queue()
        self.stop = threading.Event()
        self.busy = threading.Event()
        """Whether a run has found that another process writes."""
        scanned = threading.Event()
        update_library(self.library, encoder, [folder], workers=1)

        def run(paths: list[Path]) -> IndexReport:
            try:
                report = update_library(self.library, encoder, paths, workers=1, stop=self.stop)
            except LibraryBusyError:
                self.busy.set()
                raise
            scanned.set()
            return report

        self.thread = threading.Thread(
            target=watch_folders,
            args=(self.library, run, self.reports.put, self.stop),
            kwargs={"quiet": QUIET},
        )
        self.thread.start()
        # The first batch is every folder: what tests change must come after it.
        assert scanned.wait(PATIENCE)

    def next(self) -> IndexReport:
        return self.reports.get(timeout=PATIENCE)

    def paths(self) -> set[str]:
        return {r.path for r in self.library.images(self.library.select().tolist())}

    def close(self) -> None:
        self.stop.set()
        self.thread.join(PATIENCE)
        self.library.close()


@pytest.fixture
def watched(tmp_path: Path, tiny_encoder: Encoder) -> Iterator[Watched]:
    folder = tmp_path / "folder"
    (folder / "old").mkdir(parents=True)
    for seed in range(6):
        (folder / "old" / f"{seed}.jpg").write_bytes(as_bytes(draw(seed)))
    made = Watched(tmp_path / "library", tiny_encoder, folder)
    yield made
    made.close()


def test_created_changed_moved_and_deleted_files_are_indexed(watched: Watched) -> None:
    folder = watched.folder
    (folder / "new").mkdir()
    (folder / "new" / "a.jpg").write_bytes(as_bytes(draw(20)))
    assert watched.next().added == 1
    assert "new/a.jpg" in watched.paths()
    (folder / "new" / "a.jpg").write_bytes(as_bytes(draw(21, (100, 80))))
    assert watched.next().updated == 1
    (folder / "new" / "a.jpg").rename(folder / "b.jpg")
    assert watched.next().moved == 1
    (folder / "b.jpg").unlink()
    assert watched.next().removed == 1
    assert watched.paths() == {f"old/{n}.jpg" for n in range(6)}


def test_a_new_folder_is_indexed_and_other_files_are_ignored(
    watched: Watched, tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    ready.mkdir()
    (ready / "c.png").write_bytes(as_bytes(draw(30), "PNG"))
    (watched.folder / "notes.txt").write_text("not an image")
    shutil.move(ready, watched.folder / "come")
    report = watched.next()
    assert (report.added, report.found) == (1, 1)  # only the new folder was scanned
    assert "come/c.png" in watched.paths()


def test_images_are_kept_when_many_files_vanish_at_once(watched: Watched, tmp_path: Path) -> None:
    (watched.folder / "old").rename(tmp_path / "elsewhere")
    report = watched.next()
    assert report.removed == 0
    assert "6 of 6" in report.held_back[0]
    assert len(watched.paths()) == 6


def test_a_watched_folder_that_disappears_does_not_widen_the_library(watched: Watched) -> None:
    (watched.folder.parent / "private.jpg").write_bytes(as_bytes(draw(50)))
    shutil.rmtree(watched.folder)
    held_back = [watched.next().held_back[0]]
    while "is not there" not in held_back[-1]:  # part of it was still there
        held_back.append(watched.next().held_back[0])
    assert watched.library.root_paths() == [watched.folder]
    assert watched.paths() == {f"old/{n}.jpg" for n in range(6)}


def test_a_change_waits_while_another_process_writes(watched: Watched) -> None:
    with watched.library.writing():
        (watched.folder / "d.jpg").write_bytes(as_bytes(draw(40)))
        assert watched.busy.wait(PATIENCE)
        assert watched.reports.empty()
    assert watched.next().added == 1


def test_a_folder_may_disappear_while_another_process_writes(watched: Watched) -> None:
    watched.busy.clear()
    with watched.library.writing():
        (watched.folder / "new").mkdir()
        (watched.folder / "new" / "e.jpg").write_bytes(as_bytes(draw(41)))
        assert watched.busy.wait(PATIENCE)
        shutil.rmtree(watched.folder / "new")
    (watched.folder / "f.jpg").write_bytes(as_bytes(draw(42)))
    assert watched.next().added == 1


def test_a_batch_holds_the_outermost_folders_only(tmp_path: Path) -> None:
    stop = threading.Event()
    (tmp_path / "a/b").mkdir(parents=True)
    batches = changes([tmp_path], stop, quiet=QUIET)
    assert next(batches) == [tmp_path]
    (tmp_path / "a/b/x.jpg").write_bytes(b"1")
    (tmp_path / "a/y.jpg").write_bytes(b"2")
    assert next(batches) == [tmp_path / "a"]
    stop.set()
    assert list(batches) == []
