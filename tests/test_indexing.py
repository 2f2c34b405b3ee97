"""A run brings a library up to date with its folders and says exactly what it did."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import helpers_photos as files
import numpy as np
import pytest
from helpers_library import as_bytes, draw, empty_library
from PIL import Image

from sightline import index_folders
from sightline.indexer.encoder import Encoder
from sightline.indexer.errors import LibraryBusyError, ModelMismatchError, UsageError
from sightline.indexer.indexing.run import update_library
from sightline.indexer.library import Library
from sightline.indexer.types import IndexReport

PICTURES = 12


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A dozen pictures in two folders."""
    folder = tmp_path / "pictures"
    for seed in range(PICTURES):
        place = folder / ("summer" if seed % 2 else "winter")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{seed:02}.jpg").write_bytes(as_bytes(draw(seed)))
    return folder


@pytest.fixture
def library(tmp_path: Path, tiny_encoder: Encoder) -> Library:
    return empty_library(tmp_path / "library", tiny_encoder)


def run(library: Library, encoder: Encoder, *paths: Path, **options: object) -> IndexReport:
    return update_library(library, encoder, paths, workers=1, **options)  # type: ignore[arg-type]


def counts(report: IndexReport) -> dict[str, int]:
    """The counts of ``report`` that are not zero."""
    names = ("found", "added", "updated", "moved", "removed", "unchanged", "failed")
    return {name: n for name in names if (n := getattr(report, name))}


def names(library: Library) -> list[str]:
    """Paths of all images, relative to their roots, sorted."""
    return sorted(record.path for record in library.images(library.select().tolist()))


def check(library: Library) -> None:
    """Catalog, thumbnails and index agree, and every picture finds itself first."""
    assert library.catalog.check() == []
    ids = library.select()
    assert sorted(library.thumbnails.ids()) == ids.tolist()
    if len(ids):
        scores, found = library.nearest(library.vectors(ids.tolist()), 1)
        assert np.allclose(scores[:, 0], 1, atol=1e-3)
        # A copy, or the same picture in another format, may come first.
        first = library.vectors(found[:, 0])
        assert ((first * library.vectors(ids)).sum(axis=1) > 0.999).all()


# what there is ------------------------------------------------------------------------------------


def test_every_image_is_indexed_and_finds_itself_first(
    library: Library, tiny_encoder: Encoder, pictures: Path
) -> None:
    report = run(library, tiny_encoder, pictures)
    assert counts(report) == {"found": PICTURES, "added": PICTURES}
    assert not report.failures
    assert not report.interrupted
    assert library.count == PICTURES
    check(library)


def test_stored_embeddings_are_those_of_the_encoder(
    library: Library, tiny_encoder: Encoder, pictures: Path
) -> None:
    run(library, tiny_encoder, pictures)
    from sightline.indexer.photo import photo

    for record in library.images(library.select().tolist()):
        pixels = photo.read(Path(record.absolute), tiny_encoder.geometry).pixels
        [expected] = tiny_encoder.encode_images(pixels[None])
        [kept] = library.vectors([record.id])
        assert kept @ expected > 0.999


def test_a_second_run_has_nothing_to_do(
    library: Library, tiny_encoder: Encoder, pictures: Path
) -> None:
    run(library, tiny_encoder, pictures)
    version = library.version
    assert counts(run(library, tiny_encoder)) == {"found": PICTURES, "unchanged": PICTURES}
    assert library.version == version


def test_the_report_counts_renamed_edited_and_deleted_files(
    library: Library, tiny_encoder: Encoder, pictures: Path
) -> None:
    run(library, tiny_encoder, pictures)
    before = {r.path: r.id for r in library.images(library.select().tolist())}
    (pictures / "winter/00.jpg").rename(pictures / "summer/renamed.jpg")
    (pictures / "summer/01.jpg").write_bytes(as_bytes(draw(999, (300, 200))))
    (pictures / "winter/02.jpg").unlink()
    report = run(library, tiny_encoder)
    assert counts(report) == {
        "found": PICTURES - 1,
        "moved": 1,
        "updated": 1,
        "removed": 1,
        "unchanged": PICTURES - 3,
    }
    after = {r.path: r.id for r in library.images(library.select().tolist())}
    assert after["summer/renamed.jpg"] == before["winter/00.jpg"]
    assert after["summer/01.jpg"] == before["summer/01.jpg"]
    assert "winter/02.jpg" not in after
    check(library)


def test_an_edit_that_keeps_the_file_size_is_noticed(
    library: Library, tiny_encoder: Encoder, pictures: Path
) -> None:
    path = pictures / "winter/00.png"
    Image.new("RGB", (64, 64), "red").save(path, compress_level=0)
    run(library, tiny_encoder, pictures)
    size = path.stat().st_size
    Image.new("RGB", (64, 64), "blue").save(path, compress_level=0)
    assert path.stat().st_size == size
    assert counts(run(library, tiny_encoder))["updated"] == 1
    check(library)


def test_a_moved_image_is_not_encoded_again_even_in_another_root(
    library: Library, tiny_encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "x.jpg").write_bytes(as_bytes(draw(77)))
    run(library, tiny_encoder, pictures, other)
    vectors = {r.content_hash: r.id for r in library.images(library.select().tolist())}
    shutil.move(pictures / "winter/00.jpg", other / "00.jpg")
    report = run(library, tiny_encoder)
    assert counts(report) == {"found": PICTURES + 1, "moved": 1, "unchanged": PICTURES}
    assert {r.content_hash: r.id for r in library.images(library.select().tolist())} == vectors
    check(library)


def test_a_copy_shares_the_embedding(
    library: Library, tiny_encoder: Encoder, pictures: Path
) -> None:
    run(library, tiny_encoder, pictures)
    shutil.copyfile(pictures / "winter/00.jpg", pictures / "summer/copy.jpg")
    report = run(library, tiny_encoder)
    assert counts(report) == {"found": PICTURES + 1, "added": 1, "unchanged": PICTURES}
    check(library)


def test_a_file_with_a_new_date_and_the_same_content_is_unchanged(
    library: Library, tiny_encoder: Encoder, pictures: Path
) -> None:
    run(library, tiny_encoder, pictures)
    os.utime(pictures / "winter/00.jpg", (1, 1))
    assert counts(run(library, tiny_encoder)) == {"found": PICTURES, "unchanged": PICTURES}
    version = library.version
    assert counts(run(library, tiny_encoder)) == {"found": PICTURES, "unchanged": PICTURES}
    assert library.version == version


# what cannot be read ------------------------------------------------------------------------------


def test_an_unreadable_file_is_reported_and_read_again_only_when_it_changes(
    library: Library, tiny_encoder: Encoder, pictures: Path
) -> None:
    bad = pictures / "winter/bad.jpg"
    bad.write_text("this is no picture")
    report = run(library, tiny_encoder, pictures)
    assert counts(report) == {"found": PICTURES + 1, "added": PICTURES, "failed": 1}
    [failure] = report.failures
    assert failure.path == "winter/bad.jpg"
    assert failure.reason

    attempts: list[str] = []
    again = run(library, tiny_encoder, progress=lambda phase, *_: attempts.append(phase))
    assert counts(again) == {"found": PICTURES + 1, "unchanged": PICTURES, "failed": 1}
    assert "starting" not in attempts, "it was read again though it had not changed"
    retried = run(
        library,
        tiny_encoder,
        retry_failures=True,
        progress=lambda phase, *_: attempts.append(phase),
    )
    assert "starting" in attempts
    assert counts(retried)["failed"] == 1

    bad.write_bytes(as_bytes(draw(50)))
    mended = run(library, tiny_encoder)
    assert counts(mended) == {"found": PICTURES + 1, "added": 1, "unchanged": PICTURES}
    assert library.failures() == []
    check(library)


def test_an_image_that_becomes_corrupt_stays_in_the_library_and_is_reported(
    library: Library, tiny_encoder: Encoder, pictures: Path
) -> None:
    run(library, tiny_encoder, pictures)
    path = pictures / "winter/00.jpg"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 3])
    report = run(library, tiny_encoder)
    assert [failure.path for failure in report.failures] == ["winter/00.jpg"]
    assert "winter/00.jpg" in names(library)
    path.write_bytes(whole)
    run(library, tiny_encoder)
    assert library.failures() == []
    check(library)


def test_a_failure_is_deleted_with_its_file(
    library: Library, tiny_encoder: Encoder, pictures: Path
) -> None:
    (pictures / "bad.jpg").write_bytes(b"no")
    run(library, tiny_encoder, pictures)
    (pictures / "bad.jpg").unlink()
    assert counts(run(library, tiny_encoder)) == {"found": PICTURES, "unchanged": PICTURES}
    assert library.failures() == []


def test_a_folder_of_unreadable_files_is_reported_completely(
    library: Library, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    for number in range(230):
        (folder / f"{number}.jpg").write_bytes(b"x" * (number + 1))
    report = run(library, tiny_encoder, folder)
    assert counts(report) == {"found": 230, "failed": 230}
    assert len(report.failures) == 230
    assert len(library.failures()) == 230


def test_good_files_among_corrupt_ones_are_indexed_and_the_corrupt_ones_reported(
    library: Library, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    bad = files.bad_files()
    good = files.good_files()
    whole = files.saved(files.scene(3))
    cut = {f"cut {n}.jpg": whole[:n] for n in range(1, len(whole) - 1, len(whole) // 40)}
    folder = files.write(tmp_path / "odd", {n: data for n, (data, _) in bad.items()} | good | cut)
    report = run(library, tiny_encoder, folder)
    assert names(library) == sorted(good)
    reasons = {failure.path: failure.reason for failure in report.failures}
    assert reasons.keys() == bad.keys() | cut.keys()
    for name, (_, words) in bad.items():
        assert words in reasons[name]
    assert all(reason and "\n" not in reason for reason in reasons.values())
    check(library)


# what has gone ------------------------------------------------------------------------------------


def test_a_missing_root_deletes_nothing(
    library: Library, tiny_encoder: Encoder, pictures: Path
) -> None:
    run(library, tiny_encoder, pictures)
    pictures.rename(pictures.with_name("unplugged"))
    report = run(library, tiny_encoder)
    assert library.count == PICTURES
    assert report.removed == 0
    [line] = report.held_back
    assert str(pictures) in line
    assert "--prune" in line


def test_a_root_that_disappears_during_a_run_is_read_when_it_is_back(
    library: Library, tiny_encoder: Encoder, pictures: Path
) -> None:
    away = pictures.with_name("unplugged")

    def unplug(phase: str, done: int, total: int | None) -> None:
        if phase == "starting":
            pictures.rename(away)

    report = run(library, tiny_encoder, pictures, progress=unplug)
    assert counts(report) == {"found": PICTURES, "failed": PICTURES}
    assert {failure.reason for failure in report.failures} == {"the file no longer exists"}
    away.rename(pictures)
    # Their files are as they were, but it was not they that were at fault.
    report = run(library, tiny_encoder)
    assert counts(report) == {"found": PICTURES, "added": PICTURES}
    assert not report.failures
    check(library)


def test_an_empty_root_deletes_nothing_without_prune(
    library: Library, tiny_encoder: Encoder, pictures: Path
) -> None:
    run(library, tiny_encoder, pictures)
    shutil.rmtree(pictures)
    pictures.mkdir()
    report = run(library, tiny_encoder)
    assert library.count == PICTURES
    assert len(report.held_back) == 1
    pruned = run(library, tiny_encoder, prune=True)
    assert counts(pruned) == {"removed": PICTURES}
    assert library.count == 0
    check(library)


def test_deleting_more_than_a_fifth_at_once_is_held_back(
    library: Library, tiny_encoder: Encoder, pictures: Path
) -> None:
    run(library, tiny_encoder, pictures)
    for seed in (0, 2, 4):
        (pictures / f"winter/{seed:02}.jpg").unlink()
    report = run(library, tiny_encoder)
    assert report.removed == 0
    assert "3 of 12" in report.held_back[0]
    (pictures / "winter/04.jpg").write_bytes(as_bytes(draw(4)))
    assert counts(run(library, tiny_encoder)) == {"found": 10, "removed": 2, "unchanged": 10}
    check(library)


def test_indexing_one_folder_leaves_the_others_unchanged(
    library: Library, tiny_encoder: Encoder, pictures: Path
) -> None:
    run(library, tiny_encoder, pictures)
    (pictures / "winter/00.jpg").unlink()
    report = run(library, tiny_encoder, pictures / "summer")
    assert counts(report) == {"found": 6, "unchanged": 6}
    assert library.count == PICTURES
    assert library.root_paths() == [pictures]


def test_a_root_above_another_takes_over_its_images_without_encoding(
    library: Library, tiny_encoder: Encoder, pictures: Path
) -> None:
    run(library, tiny_encoder, pictures / "summer")
    ids = set(library.select().tolist())
    report = run(library, tiny_encoder, pictures)
    assert counts(report) == {"found": PICTURES, "added": 6, "unchanged": 6}
    assert ids <= set(library.select().tolist())
    assert library.root_paths() == [pictures]
    check(library)


def test_a_root_that_moved_is_not_encoded_again(
    library: Library, tiny_encoder: Encoder, pictures: Path
) -> None:
    run(library, tiny_encoder, pictures)
    ids = library.select().tolist()
    elsewhere = pictures.with_name("mnt")
    pictures.rename(elsewhere)
    library.move_root(pictures, elsewhere)
    assert counts(run(library, tiny_encoder)) == {"found": PICTURES, "unchanged": PICTURES}
    assert library.select().tolist() == ids


def test_forgetting_a_root_deletes_its_images(
    library: Library, tiny_encoder: Encoder, pictures: Path
) -> None:
    run(library, tiny_encoder, pictures)
    library.forget_root(pictures)
    assert library.count == 0
    assert (pictures / "winter/00.jpg").exists()
    check(library)


# interruptions ------------------------------------------------------------------------------------


def test_a_stopped_run_keeps_its_batches_and_the_next_run_continues(
    library: Library, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for seed in range(150):
        (folder / f"{seed}.jpg").write_bytes(as_bytes(draw(seed, (64, 48))))
    stop = threading.Event()

    def show(phase: str, done: int, total: int | None) -> None:
        if phase == "indexing" and done:
            stop.set()

    report = run(library, tiny_encoder, folder, progress=show, stop=stop)
    assert report.interrupted
    assert 0 < report.added < 150
    assert library.count == report.added
    check(library)
    rest = run(library, tiny_encoder)
    assert counts(rest) == {
        "found": 150,
        "added": 150 - report.added,
        "unchanged": report.added,
    }
    check(library)


def test_a_run_that_is_stopped_at_once_deletes_nothing(
    library: Library, tiny_encoder: Encoder, pictures: Path
) -> None:
    run(library, tiny_encoder, pictures)
    (pictures / "winter/00.jpg").unlink()
    stop = threading.Event()
    stop.set()
    report = run(library, tiny_encoder, stop=stop)
    assert report.interrupted
    assert library.count == PICTURES


def test_a_second_run_on_a_library_raises_busy(
    library: Library, tiny_encoder: Encoder, pictures: Path
) -> None:
    with Library.open(library.directory) as other, other.writing():
        assert library.is_being_written()
        with pytest.raises(LibraryBusyError, match="another"):
            run(library, tiny_encoder, pictures)
    assert not library.is_being_written()
    run(library, tiny_encoder, pictures)


def test_a_library_of_another_model_is_rejected_before_any_work(
    tmp_path: Path, tiny_encoder: Encoder, pictures: Path
) -> None:
    library = Library.create(tmp_path / "other", model="laion-b32", revision="1", dimension=512)
    with pytest.raises(ModelMismatchError, match="laion-b32"):
        run(library, tiny_encoder, pictures)
    assert library.catalog.runs() == []


def test_a_path_that_does_not_exist_raises_usage_error(
    library: Library, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        run(library, tiny_encoder, tmp_path / "nowhere")


def test_runs_are_recorded_while_they_run_and_after(
    library: Library, tiny_encoder: Encoder, pictures: Path
) -> None:
    seen: list[dict[str, object]] = []

    def show(phase: str, done: int, total: int | None) -> None:
        if phase == "indexing" and (status := library.status()["run"]):
            seen.append(status)

    run(library, tiny_encoder, pictures, progress=show)
    assert library.status()["run"] is None
    [log] = library.catalog.runs()
    assert log.counts["added"] == PICTURES
    assert log.finished_at is not None
    assert all(entry["total"] == PICTURES for entry in seen[1:])


def test_an_open_library_finds_new_images_without_reopening(
    library: Library, tiny_encoder: Encoder, pictures: Path
) -> None:
    run(library, tiny_encoder, pictures)
    with Library.open(library.directory, read_only=True) as reader:
        assert reader.count == PICTURES
        (pictures / "new.jpg").write_bytes(as_bytes(draw(500)))
        run(library, tiny_encoder)
        reader.refresh()
        assert reader.count == PICTURES + 1
        [new] = [r for r in reader.images(reader.select().tolist()) if r.path == "new.jpg"]
        _, found = reader.nearest(reader.vectors([new.id]), 1)
        assert found.tolist() == [[new.id]]


def test_index_folders_creates_a_library_and_brings_it_up_to_date(
    tmp_path: Path, tiny_clip: Path, pictures: Path
) -> None:
    directory = tmp_path / "new.library"
    first = index_folders(str(directory), [str(pictures)], model=str(tiny_clip), workers=1)
    assert counts(first) == {"found": PICTURES, "added": PICTURES}
    assert first.library == str(directory)
    (pictures / "late.jpg").write_bytes(as_bytes(draw(500)))
    with Library.open(directory) as library:
        second = index_folders(library, workers=1)
        assert (second.added, second.unchanged) == (1, PICTURES)
        assert library.count == PICTURES + 1, "a library that was passed open stays open"
        with pytest.raises(ModelMismatchError, match="another folder"):
            index_folders(library, pictures, model="builtin")


def test_index_folders_creates_nothing_without_a_folder_to_index(tmp_path: Path) -> None:
    directory = tmp_path / "new.library"
    with pytest.raises(UsageError, match="name the folder to index"):
        index_folders(directory)
    with pytest.raises(UsageError, match="there is no folder"):
        index_folders(directory, tmp_path / "nowhere")
    assert not directory.exists()
