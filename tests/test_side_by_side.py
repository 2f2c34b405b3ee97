"""Several programs on one library at once, and a clock and disks that do not behave."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from helpers_library import as_bytes, draw, make_library
from helpers_serving import TOP, get, serving

from sightline.indexer.catalog import image_rows
from sightline.indexer.encoder import Encoder
from sightline.indexer.errors import LibraryError
from sightline.indexer.indexing import doctor
from sightline.indexer.indexing.run import update_library
from sightline.indexer.library import Library

PICTURES = 24


def add(folder: Path, start: int, count: int) -> None:
    folder.mkdir(exist_ok=True)
    for seed in range(start, start + count):
        (folder / f"{seed:03}.jpg").write_bytes(as_bytes(draw(seed, (64, 48))))


@pytest.fixture
def place(tmp_path: Path, tiny_encoder: Encoder) -> Path:
    """A folder with ``pictures`` and a ``library`` of them."""
    add(tmp_path / "pictures", 0, PICTURES)
    make_library(tmp_path / "library", tiny_encoder, tmp_path / "pictures").close()
    return tmp_path


def indexing(place: Path, *more: str) -> subprocess.Popen[str]:
    """``sightline index`` as a process of its own."""
    command = [sys.executable, "-m", "sightline", "index", "--quiet", "--workers", "1"]
    command += ["--library", str(place / "library"), *more]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=TOP
    )


def assert_whole(place: Path, pictures: int) -> None:
    with Library.open(place / "library", read_only=True) as library:
        paths = [record.path for record in library.images(library.select().tolist())]
        assert len(paths) == len(set(paths)) == pictures
    assert doctor.examine(place / "library") == []


def test_of_two_concurrent_runs_one_writes_and_the_other_reports_busy(place: Path) -> None:
    add(place / "pictures", 100, 200)
    runs = [indexing(place), indexing(place)]
    said = [run.communicate(timeout=120) for run in runs]
    codes = [run.returncode for run in runs]
    assert 0 in codes
    for code, (_, error) in zip(codes, said, strict=True):
        if code:
            assert "another run is writing to the library" in error
            assert len(error.splitlines()) == 1
    assert_whole(place, PICTURES + 200)


def test_two_servers_and_a_run_share_a_library(place: Path) -> None:
    served = ("--library", place / "library")
    with serving(*served) as one, serving(*served) as two:
        for address in (one, two):
            assert get(address, "/api/status")["images"] == PICTURES
        add(place / "pictures", 100, 60)
        run = indexing(place)
        seen: list[int] = []
        while run.poll() is None:
            for address in (one, two):
                found = get(address, "/api/search", q="like:1", k=1000, fold=0)
                ids = [hit["id"] for hit in found["hits"]]
                assert ids[0] == 1
                assert len(set(ids)) == len(ids) >= PICTURES
                seen.append(len(ids))
        _, error = run.communicate()
        assert run.returncode == 0, error
        assert seen
        for address in (one, two):
            assert get(address, "/api/status")["images"] == PICTURES + 60
            found = get(address, "/api/search", q="like:1", k=1000, fold=0)
            assert len(found["hits"]) == PICTURES + 60
    assert_whole(place, PICTURES + 60)


def test_files_that_change_or_vanish_during_a_run_are_reported_and_read_by_the_next(
    place: Path, tiny_encoder: Encoder
) -> None:
    folder = place / "pictures"
    add(folder, 100, 120)
    over = threading.Event()

    def meddle() -> None:
        """Rewrites some pictures again and again, bit by bit, and takes others away."""
        turn = 0
        while not over.is_set():
            turn += 1
            for seed in range(100, 130):
                data = as_bytes(draw(seed + turn, (64, 48)))
                with (folder / f"{seed}.jpg").open("wb") as file:
                    file.write(data[: len(data) // 2])
                    file.flush()
                    file.write(data[len(data) // 2 :])
            # Fewer than a fifth, even if the run has read all of them before.
            for seed in range(130, 150):
                (folder / f"{seed}.jpg").unlink(missing_ok=True)

    thread = threading.Thread(target=meddle)
    with Library.open(place / "library") as library:
        thread.start()
        report = update_library(library, tiny_encoder, workers=2)
        over.set()
        thread.join()
        for failure in report.failures:
            assert failure.reason.startswith(("the file", "it ")), failure
        report = update_library(library, tiny_encoder, workers=1)
        assert (report.failed, library.count) == (0, PICTURES + 100)
        for record in library.images(library.select().tolist()):
            data = record.absolute.read_bytes()
            assert record.content_hash == catalog_hash(data), record.path
    assert_whole(place, PICTURES + 100)


def catalog_hash(data: bytes) -> str:
    import xxhash

    return xxhash.xxh3_128_hexdigest(data)


def test_a_clock_set_back_by_years_changes_nothing(
    place: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = datetime(2051, 1, 1, tzinfo=UTC).timestamp()
    for seed in range(5):
        os.utime(place / "pictures" / f"{seed:03}.jpg", (ahead, ahead))
    monkeypatch.setattr(image_rows, "now", lambda: "2001-01-01T00:00:00")
    with Library.open(place / "library") as library:
        before = library.version
        report = update_library(library, tiny_encoder, workers=1)
        assert (report.unchanged, report.added, report.removed) == (PICTURES, 0, 0)
        assert library.version == before
        add(place / "pictures", 100, 5)
        assert update_library(library, tiny_encoder, workers=1).added == 5
        newest, *_ = library.catalog.runs(1)
        assert newest.counts["added"] == 5, "the newest run is the last, whatever its date"
        # A run that is killed is seen to have been, although later ones are dated before it.
        library.catalog.start_run(["/x"])
        assert any(run.finished_at is None for run in library.catalog.runs(1))
        assert update_library(library, tiny_encoder, workers=1).unchanged == PICTURES + 5
    assert_whole(place, PICTURES + 5)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, where this may be made (Linux, as root)."""
    if sys.platform != "linux" or not shutil.which("mount"):
        pytest.skip("a disk is made with Linux's mount")
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk can only be mounted by root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_library_on_a_read_only_disk_can_be_served_but_not_written(
    place: Path, disk: Path
) -> None:
    shutil.copytree(place / "library", disk / "library")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with serving("--library", disk / "library") as address:
        found = get(address, "/api/search", q="like:1", k=1000, fold=0)
        assert len(found["hits"]) == PICTURES
        assert get(address, "/api/status")["note"]
    run = indexing(disk)
    _, error = run.communicate(timeout=60)
    assert run.returncode == 1
    assert len(error.splitlines()) == 1
    assert "read-only" in error
    with pytest.raises(LibraryError, match="read-only"):
        Library.open(disk / "library")
    assert not list((disk / "library").glob("*-wal"))


def test_a_run_cleans_up_after_one_that_an_error_ended(
    place: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails between the catalog and the thumbnails leaves some without a picture."""

    def fail(self: Library, ids: list[int]) -> None:
        raise LibraryError("the disk failed")

    (place / "pictures" / "003.jpg").unlink()
    with Library.open(place / "library") as library:
        with monkeypatch.context() as patch:
            patch.setattr(Library, "remove_thumbnails", fail)
            with pytest.raises(LibraryError, match="the disk failed"):
                update_library(library, tiny_encoder, workers=1)
        assert (library.count, len(library.thumbnails)) == (PICTURES - 1, PICTURES)
        update_library(library, tiny_encoder, workers=1)
    assert_whole(place, PICTURES - 1)
