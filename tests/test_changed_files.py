"""Which files a run reads again: any date is a date, and an edit shows although it hides."""

from __future__ import annotations

import io
import os
import shutil
import sqlite3
import tarfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers_library import as_bytes, draw, empty_library, make_library

from sightline.indexer.exchange import import_set, open_set
from sightline.indexer.indexing.doctor import examine
from sightline.indexer.indexing.run import update_library
from sightline.server.cli import run
from sightline.server.search import SearchEngine
from sightline.server.web.app import create_app

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder
    from sightline.indexer.library import Library
    from sightline.indexer.types import IndexReport

COUNT = 6


def photo(seed: int, caption: str) -> bytes:
    exif = draw(0).getexif()
    exif[0x010E] = caption
    return as_bytes(draw(seed), exif=exif)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """``COUNT`` photos with the caption ``old words``."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(COUNT):
        (folder / f"{seed}.jpg").write_bytes(photo(seed, "old words"))
    return folder


def index(library: Library, encoder: Encoder, *paths: Path, **options: bool) -> IndexReport:
    return update_library(library, encoder, paths, workers=1, **options)


def captions(library: Library) -> dict[str, str | None]:
    return {r.path: r.info.caption for r in library.images(library.select().tolist())}


def write_in_place(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def write_and_rename(path: Path, data: bytes) -> None:
    """As ``exiftool -P`` and most editors do."""
    new = path.with_name("new.tmp")
    new.write_bytes(data)
    shutil.copystat(path, new)
    new.replace(path)


def edit(path: Path, data: bytes, write: object = write_in_place) -> None:
    """Changes the content of a file and neither its size nor its mtime."""
    before = path.stat()
    write(path, data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


# any mtime is a date ------------------------------------------------------------------------------

DATES = {
    "1970": 0,
    "1969": -1,
    "1901": -2_177_452_800 * 10**9,
    "tomorrow": 4_102_444_800 * 10**9,
    "year 9999": int(datetime(9999, 12, 31, tzinfo=UTC).timestamp()) * 10**9,
}


@pytest.mark.parametrize("mtime_ns", DATES.values(), ids=DATES.keys())
def test_a_file_of_any_date_is_indexed_shown_and_deleted(
    mtime_ns: int, pictures: Path, tmp_path: Path, tiny_encoder: Encoder
) -> None:
    path = pictures / "3.jpg"
    os.utime(path, ns=(0, mtime_ns))
    with make_library(tmp_path / "library", tiny_encoder, pictures) as library:
        assert library.catalog.unseen().tolist() == []
        report = index(library, tiny_encoder)
        assert (report.unchanged, report.added, report.updated) == (COUNT, 0, 0)
        [record] = [r for r in library.images(library.select().tolist()) if r.path == "3.jpg"]
        with SearchEngine(library, tiny_encoder) as engine:
            client = create_app(engine).test_client()
            with client.get(f"/images/{record.id}") as answer:
                assert answer.data == path.read_bytes()
            assert client.post("/api/zip", json={"ids": [record.id]}).status_code == 200
            library.thumbnails.remove([record.id])
            assert client.get(f"/thumbnails/{record.id}").status_code == 404
        assert [p.kind for p in library.catalog.check(library.thumbnails.ids())] == ["missing"]
        path.unlink()
        problems = examine(library.directory)
        assert any("1 images" in p.text and "gone" in p.text for p in problems)
        assert index(library, tiny_encoder).removed == 1
        assert library.count == COUNT - 1


def test_an_unreadable_file_of_1970_is_read_again_only_when_it_changes(
    pictures: Path, tmp_path: Path, tiny_encoder: Encoder
) -> None:
    path = pictures / "bad.jpg"
    path.write_bytes(b"this is no photo")
    os.utime(path, ns=(0, 0))
    with make_library(tmp_path / "library", tiny_encoder, pictures) as library:
        [failure] = library.catalog.failures()
        assert (failure.path, failure.mtime_ns) == ("bad.jpg", 0)
        assert index(library, tiny_encoder).failed == 1
        path.unlink()
        assert index(library, tiny_encoder).failed == 0


def test_an_imported_image_whose_file_is_of_1970_is_a_file_that_was_read(
    pictures: Path, tmp_path: Path, tiny_encoder: Encoder
) -> None:
    os.utime(pictures / "0.jpg", ns=(0, 0))
    rows = [f'{{"path": "{n}.jpg", "embedding": {[1.0] * tiny_encoder.dimension}}}' for n in "09"]
    (tmp_path / "set.jsonl").write_text("\n".join(rows))
    with empty_library(tmp_path / "library", tiny_encoder) as library:
        import_set(library, open_set(tmp_path / "set.jsonl"), pictures=pictures, workers=1)
        [unread, read] = library.images(library.select().tolist())
        assert (read.path, read.mtime_ns, unread.path, unread.mtime_ns) == (
            "0.jpg",
            0,
            "9.jpg",
            None,
        )
        assert library.catalog.unseen().tolist() == [unread.id]


# edits that keep size and mtime -------------------------------------------------------------------


@pytest.mark.parametrize("write", [write_in_place, write_and_rename])
def test_an_edit_that_keeps_size_and_mtime_is_noticed(
    write: object, pictures: Path, tmp_path: Path, tiny_encoder: Encoder
) -> None:
    with make_library(tmp_path / "library", tiny_encoder, pictures) as library:
        edit(pictures / "2.jpg", photo(2, "new words"), write)
        report = index(library, tiny_encoder)
        assert (report.updated, report.unchanged) == (1, COUNT - 1)
        assert captions(library)["2.jpg"] == "new words"
        assert library.catalog.full_text_search("new", 9).tolist() == [3]
        assert index(library, tiny_encoder).unchanged == COUNT


def test_two_files_that_swap_names_and_agree_in_size_and_mtime_are_noticed(
    pictures: Path, tmp_path: Path, tiny_encoder: Encoder
) -> None:
    one, other = pictures / "0.jpg", pictures / "x.jpg"
    other.write_bytes(photo(0, "own words"))
    os.utime(one, ns=(5, 5))
    os.utime(other, ns=(5, 5))
    with make_library(tmp_path / "library", tiny_encoder, pictures) as library:
        one.rename(pictures / "y")
        other.rename(one)
        (pictures / "y").rename(other)
        index(library, tiny_encoder)
        assert captions(library)["0.jpg"] == "own words"
        assert captions(library)["x.jpg"] == "old words"


def test_an_edit_in_an_archive_that_keeps_its_size_and_mtime_is_noticed(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    def packed(caption: str) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for seed in range(3):
                data = photo(seed, caption if seed == 1 else "old words")
                entry = tarfile.TarInfo(f"{seed}.jpg")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        return out.getvalue()

    archive = tmp_path / "photos" / "all.tar"
    archive.parent.mkdir()
    archive.write_bytes(packed("old words"))
    with make_library(tmp_path / "library", tiny_encoder, archive.parent) as library:
        edit(archive, packed("new words"))
        report = index(library, tiny_encoder)
        assert (report.updated, report.unchanged) == (1, 2)
        assert captions(library)["all.tar/1.jpg"] == "new words"


def test_a_file_that_could_not_be_read_is_read_when_it_is_repaired_with_its_old_date(
    pictures: Path, tmp_path: Path, tiny_encoder: Encoder
) -> None:
    path, whole = pictures / "1.jpg", photo(1, "old words")
    path.write_bytes(b"x" * len(whole))
    with make_library(tmp_path / "library", tiny_encoder, pictures) as library:
        assert len(library.catalog.failures()) == 1
        edit(path, whole)
        report = index(library, tiny_encoder)
        assert (report.added, report.failed) == (1, 0)


def test_other_permissions_and_another_name_are_no_change_of_the_content(
    pictures: Path, tmp_path: Path, tiny_encoder: Encoder
) -> None:
    with make_library(tmp_path / "library", tiny_encoder, pictures) as library:
        version = library.version
        (pictures / "0.jpg").chmod(0o600)
        os.link(pictures / "1.jpg", tmp_path / "link.jpg")
        report = index(library, tiny_encoder)
        assert (report.unchanged, report.updated, library.version) == (COUNT, 0, version)


def phases(library: Library, encoder: Encoder) -> set[str]:
    """What a run says that it does."""
    found: set[str] = set()
    update_library(
        library, encoder, workers=1, progress=lambda phase, done, total: found.add(phase)
    )
    return found


def test_ctime_and_inode_are_not_compared_across_a_moved_root(
    pictures: Path, tmp_path: Path, tiny_encoder: Encoder
) -> None:
    moved = tmp_path / "disk" / "pictures"
    with make_library(tmp_path / "library", tiny_encoder, pictures) as library:
        shutil.copytree(pictures, moved)
        shutil.rmtree(pictures)
        library.move_root(pictures, moved)
        assert "recognising files" not in phases(library, tiny_encoder)
        # From then on they are known again.
        edit(moved / "2.jpg", photo(2, "new words"))
        assert index(library, tiny_encoder).updated == 1
        assert captions(library)["2.jpg"] == "new words"


def test_a_library_of_an_earlier_version_is_not_read_again(
    pictures: Path, tmp_path: Path, tiny_encoder: Encoder
) -> None:
    make_library(tmp_path / "library", tiny_encoder, pictures).close()
    with closing(sqlite3.connect(tmp_path / "library/catalog.db")) as database, database:
        database.execute("UPDATE images SET ctime_ns = NULL, inode = NULL, pixels_hash = NULL")
    from sightline.indexer.library import Library

    with Library.open(tmp_path / "library") as library:
        assert "recognising files" not in phases(library, tiny_encoder)
        edit(pictures / "2.jpg", photo(2, "new words"))
        assert index(library, tiny_encoder).updated == 1


def test_new_inodes_of_a_whole_folder_are_a_remount_and_of_one_file_a_change(
    pictures: Path, tmp_path: Path, tiny_encoder: Encoder
) -> None:
    make_library(tmp_path / "library", tiny_encoder, pictures).close()
    from sightline.indexer.library import Library

    def renumber(condition: str) -> None:
        with closing(sqlite3.connect(tmp_path / "library/catalog.db")) as database, database:
            database.execute(f"UPDATE images SET inode = inode + 1 WHERE {condition}")

    renumber("TRUE")
    with Library.open(tmp_path / "library") as library:
        assert "recognising files" not in phases(library, tiny_encoder)
    renumber("id = 1")
    with Library.open(tmp_path / "library") as library:
        assert "recognising files" in phases(library, tiny_encoder)
        assert "recognising files" not in phases(library, tiny_encoder)


# index --reread -----------------------------------------------------------------------------------


def embeddings(library: Library) -> np.ndarray:
    return library.vectors(library.select())


def test_reread_reads_metadata_again_and_encodes_only_other_pixels(
    pictures: Path, tmp_path: Path, tiny_encoder: Encoder
) -> None:
    with make_library(tmp_path / "library", tiny_encoder, pictures) as library:
        library.catalog.write_labels([(1, "dog", 0.9), (2, "cat", 0.9)])
        before, version = embeddings(library), library.version
        # What the library knows about two files is out of date, and no stamp shows it.
        with closing(sqlite3.connect(tmp_path / "library/catalog.db")) as database, database:
            database.execute("UPDATE images SET caption = 'stale' WHERE id = 1")
            database.execute("UPDATE images SET pixels_hash = 'other' WHERE id = 2")
            database.execute("UPDATE embeddings SET vector = (SELECT vector FROM embeddings"
                             " WHERE image_id = 6) WHERE image_id IN (1, 2)")  # fmt: skip
        assert index(library, tiny_encoder).unchanged == COUNT
        report = index(library, tiny_encoder, reread=True)
        assert (report.updated, report.unchanged) == (2, COUNT - 2)
        assert set(captions(library).values()) == {"old words"}
        after = embeddings(library)
        assert (after[0] == before[5]).all(), "image 1 has the pixels it had: it is not encoded"
        assert np.allclose(after[1], before[1], atol=1e-2), "image 2 is encoded again"
        assert library.version == version + 1
        assert set(library.catalog.labels([1, 2])) == {1}, "labels go with the embedding"


def test_reread_of_a_folder_leaves_the_others(
    pictures: Path, tmp_path: Path, tiny_encoder: Encoder, capsys: pytest.CaptureFixture
) -> None:
    (pictures / "sub").mkdir()
    (pictures / "0.jpg").rename(pictures / "sub" / "0.jpg")
    make_library(tmp_path / "library", tiny_encoder, pictures).close()
    from sightline.indexer.library import Library

    with closing(sqlite3.connect(tmp_path / "library/catalog.db")) as database, database:
        database.execute("UPDATE images SET caption = 'stale'")
    with Library.open(tmp_path / "library") as library:
        report = index(library, tiny_encoder, pictures / "sub", reread=True)
        assert (report.found, report.updated) == (1, 1)
        found = captions(library)
    assert found.pop("sub/0.jpg") == "old words"
    assert set(found.values()) == {"stale"}


def test_an_ordinary_edit_of_metadata_keeps_embedding_and_labels(
    pictures: Path, tmp_path: Path, tiny_encoder: Encoder
) -> None:
    with make_library(tmp_path / "library", tiny_encoder, pictures) as library:
        library.catalog.write_labels([(1, "dog", 0.9)])
        version = library.version
        (pictures / "0.jpg").write_bytes(photo(0, "many more words than before"))
        (pictures / "1.jpg").write_bytes(photo(99, "another photo"))
        report = index(library, tiny_encoder)
        assert (report.updated, library.version) == (2, version + 1)
        assert captions(library)["0.jpg"] == "many more words than before"
        assert set(library.catalog.labels([1, 2])) == {1}
        assert [c.id for c in library.images(library.catalog.changes(version).ids)] == [2]


def test_reread_reads_what_failed_before(
    pictures: Path, tmp_path: Path, tiny_encoder: Encoder
) -> None:
    (pictures / "bad.jpg").write_bytes(b"this is no photo")
    with make_library(tmp_path / "library", tiny_encoder, pictures) as library:
        with closing(sqlite3.connect(tmp_path / "library/catalog.db")) as database, database:
            database.execute("UPDATE failures SET reason = 'stale'")
        assert index(library, tiny_encoder, reread=True).failed == 1
        [failure] = library.catalog.failures()
        assert failure.reason != "stale"


def test_index_has_the_option(capsys: pytest.CaptureFixture) -> None:
    assert run(["index", "--help"]) == 0
    assert "--reread" in capsys.readouterr().out
