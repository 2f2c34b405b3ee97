"""``sightline doctor`` says what is wrong with a library and puts right what can be."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from helpers_library import as_bytes, draw, make_library

from sightline.indexer.catalog import Problem
from sightline.indexer.encoder import Encoder
from sightline.indexer.errors import LibraryBusyError, LibraryError
from sightline.indexer.indexing import doctor
from sightline.indexer.indexing.run import update_library
from sightline.indexer.library import Library
from sightline.server.cli import run

PICTURES = 40


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder) -> Path:
    """A folder with ``pictures`` and a healthy ``library`` of them."""
    place = tmp_path_factory.mktemp("doctor")
    (place / "pictures").mkdir()
    for seed in range(PICTURES):
        (place / "pictures" / f"{seed:02}.jpg").write_bytes(as_bytes(draw(seed, (80, 60))))
    make_library(place / "library", tiny_encoder, place / "pictures").close()
    return place


@pytest.fixture
def directory(original: Path, tmp_path: Path) -> Path:
    """A copy of the healthy library, to be harmed."""
    shutil.copytree(original / "library", tmp_path / "library")
    return tmp_path / "library"


def kinds(findings: list[Problem]) -> set[tuple[str, str, bool]]:
    return {(finding.kind, finding.where, finding.repaired) for finding in findings}


def test_an_intact_library_has_no_problems(directory: Path) -> None:
    assert doctor.examine(directory) == []
    assert doctor.repair(directory) == []


def test_a_catalog_with_a_corrupt_page_is_salvaged_and_the_next_run_completes_it(
    directory: Path, tiny_encoder: Encoder
) -> None:
    path = directory / "catalog.db"
    with sqlite3.connect(path) as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'embeddings'"
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    harmed = bytearray(path.read_bytes())
    harmed[page * size : page * size + 600] = b"\xa5" * 600
    path.write_bytes(harmed)
    before = path.read_bytes()

    findings = doctor.examine(directory)
    assert ("damaged", "catalog.db", False) in kinds(findings)
    assert path.read_bytes() == before, "looking must change nothing"

    findings = doctor.repair(directory)
    assert ("damaged", "catalog.db", True) in kinds(findings)
    [aside] = directory.glob("catalog.db.damaged-*[0-9]")
    assert aside.read_bytes() == before, "the damaged file is kept as it was"
    with Library.open(directory) as library:
        update_library(library, tiny_encoder, workers=1)
        assert library.count == PICTURES
        assert library.failures() == []
    assert doctor.examine(directory) == []


def test_a_truncated_catalog_is_salvaged_and_the_next_run_completes_it(
    directory: Path, tiny_encoder: Encoder
) -> None:
    path = directory / "catalog.db"
    with Library.open(directory) as library:
        words = [(i, f"label {n}", 0.5) for i in library.select().tolist() for n in range(100)]
        library.catalog.write_labels(words)
    os.truncate(path, path.stat().st_size * 3 // 4)
    assert kinds(doctor.examine(directory)) == {("damaged", "catalog.db", False)}
    assert ("damaged", "catalog.db", True) in kinds(doctor.repair(directory))
    with Library.open(directory) as library:
        update_library(library, tiny_encoder, workers=1)
        assert library.count == PICTURES
    assert doctor.examine(directory) == []


def test_an_interrupted_repair_is_completed_by_the_next(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "catalog.db").rename(directory / "catalog.db.salvaged")
    assert run(["status", "--library", str(directory)]) == 1
    assert "sightline doctor --repair" in capsys.readouterr().err
    assert kinds(doctor.examine(directory)) == {("damaged", "catalog.db", False)}
    doctor.repair(directory)
    assert doctor.examine(directory) == []


def test_a_failing_disk_during_a_repair_raises_an_error_and_the_next_repair_continues(
    directory: Path,
) -> None:
    (directory / "catalog.db").rename(directory / "catalog.db.salvaged")
    (directory / "catalog.db.salvaged.copy").mkdir()
    with pytest.raises(LibraryError, match=r"salvaged\.copy cannot be written .* is its disk full"):
        doctor.repair(directory)
    (directory / "catalog.db.salvaged.copy").rmdir()
    doctor.repair(directory)
    assert doctor.examine(directory) == []


def test_orphaned_index_files_are_found_and_deleted(directory: Path) -> None:
    (directory / "index").mkdir(exist_ok=True)
    (directory / "index" / "vectors-000009.f16").write_bytes(b"a build that was cut off")
    assert kinds(doctor.examine(directory)) == {("orphaned", "index", False)}
    assert ("orphaned", "index", True) in kinds(doctor.repair(directory))
    assert doctor.examine(directory) == []


def test_a_row_without_a_vector_is_found_and_encoded_again(
    directory: Path, tiny_encoder: Encoder
) -> None:
    with sqlite3.connect(directory / "catalog.db") as connection:
        connection.execute("DELETE FROM embeddings WHERE image_id = 3")
    connection.close()
    assert ("missing", "catalog.db", False) in kinds(doctor.examine(directory))
    doctor.repair(directory)
    with Library.open(directory) as library:
        assert library.count == PICTURES - 1
        assert update_library(library, tiny_encoder, workers=1).added == 1
    assert doctor.examine(directory) == []


def test_missing_thumbnails_are_drawn_again_and_orphaned_ones_deleted(directory: Path) -> None:
    with sqlite3.connect(directory / "thumbnails.db") as connection:
        connection.execute("DELETE FROM thumbnails WHERE image_id <= 5")
        connection.execute("INSERT INTO thumbnails (image_id, webp) VALUES (9999, x'00')")
    connection.close()
    found = kinds(doctor.examine(directory))
    assert {("missing", "thumbnails.db", False), ("orphaned", "thumbnails.db", False)} <= found
    doctor.repair(directory)
    assert doctor.examine(directory) == []
    with Library.open(directory, read_only=True) as library:
        thumbnail = library.thumbnail(1)
        assert thumbnail is not None
        assert thumbnail[8:12] == b"WEBP"


def test_a_run_draws_deleted_thumbnails_again(directory: Path, tiny_encoder: Encoder) -> None:
    (directory / "thumbnails.db").unlink()
    with Library.open(directory) as library:
        report = update_library(library, tiny_encoder, workers=1)
        assert (report.unchanged, report.added) == (PICTURES, 0)
        assert len(library.thumbnails) == PICTURES
    assert doctor.examine(directory) == []


def test_a_corrupt_thumbnail_file_is_moved_aside_and_drawn_again(directory: Path) -> None:
    path = directory / "thumbnails.db"
    path.write_bytes(path.read_bytes()[:5000])
    assert ("damaged", "thumbnails.db", False) in kinds(doctor.examine(directory))
    assert ("damaged", "thumbnails.db", True) in kinds(doctor.repair(directory))
    assert list(directory.glob("thumbnails.db.damaged-*"))
    assert doctor.examine(directory) == []


def test_missing_and_changed_image_files_are_reported(
    original: Path, directory: Path, tmp_path: Path
) -> None:
    pictures = tmp_path / "copy"
    shutil.copytree(original / "pictures", pictures)
    with Library.open(directory) as library:
        library.move_root(original / "pictures", pictures)
    (pictures / "00.jpg").unlink()
    (pictures / "01.jpg").write_bytes(b"another")
    found = [f for f in doctor.examine(directory) if f.where == "pictures" and f.kind == "missing"]
    assert found[0].text.startswith("1 images of ")
    assert doctor.examine(directory, files=False) == []
    shutil.rmtree(pictures)
    [finding] = doctor.examine(directory)
    assert "is not there" in finding.text


def test_another_programs_file_stays_unchanged(tmp_path: Path) -> None:
    tmp_path /= "a damaged folder"  # what its path says is not what it is
    tmp_path.mkdir()
    with sqlite3.connect(tmp_path / "catalog.db") as connection:
        connection.execute("CREATE TABLE x (y)")
    connection.close()
    for act in (doctor.examine, doctor.repair):
        with pytest.raises(LibraryError):
            act(tmp_path)
    assert not list(tmp_path.glob("*.damaged*"))


def test_nothing_is_repaired_while_a_run_is_writing(directory: Path) -> None:
    with (
        Library.open(directory) as library,
        library.writing(),
        pytest.raises(LibraryBusyError, match="another run"),
    ):
        doctor.repair(directory)


def test_the_command_prints_problems_and_exits_with_1_while_there_are_any(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["doctor", "--library", str(directory)]) == 0
    assert "no problems found" in capsys.readouterr().err
    with sqlite3.connect(directory / "thumbnails.db") as connection:
        connection.execute("DELETE FROM thumbnails WHERE image_id = 1")
    connection.close()
    assert run(["doctor", "--quiet", "--json", "--library", str(directory)]) == 1
    [finding] = json.loads(capsys.readouterr().out)
    assert finding["where"] == "thumbnails.db"
    assert run(["doctor", "--quiet", "--repair", "--library", str(directory)]) == 0
    assert "repaired" in capsys.readouterr().out
