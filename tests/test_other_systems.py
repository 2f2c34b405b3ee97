"""Libraries and photos from other systems: Windows, macOS, FAT, network shares, bursts."""

from __future__ import annotations

import os
import sqlite3
import unicodedata
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers_library import as_bytes, draw, make_library
from test_photo_metadata import exif, packet, read

from sightline.indexer.indexing.run import update_library
from sightline.indexer.library import Library
from sightline.indexer.photo import photo
from sightline.indexer.types import Candidate, Geometry
from sightline.server.cli import run

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder

NAMES = ["IMG_1.JPG", "Évora.jpg", "ぎ.jpg", "d.jpg", "e.jpg", "f.jpg"]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed, name in enumerate(NAMES):
        (folder / unicodedata.normalize("NFC", name)).write_bytes(as_bytes(draw(seed)))
    return folder


def ids(library: Library) -> dict[str, int]:
    return {record.path: record.id for record in library.images(library.select().tolist())}


def test_a_library_from_windows_is_moved_to_a_folder_here(
    pictures: Path, tmp_path: Path, tiny_encoder: Encoder, capsys: pytest.CaptureFixture
) -> None:
    make_library(tmp_path / "library", tiny_encoder, pictures).close()
    windows = "C:\\Users\\ana\\Pictures"
    with closing(sqlite3.connect(tmp_path / "library/catalog.db")) as database, database:
        database.execute("UPDATE roots SET path = ?", [windows])
    where = ["--library", str(tmp_path / "library")]
    with Library.open(tmp_path / "library") as library:
        report = update_library(library, tiny_encoder, workers=1)
        assert (report.removed, len(report.held_back)) == (0, 1)
    assert run(["roots", "--move", windows, str(pictures), *where]) == 0
    assert str(pictures) in capsys.readouterr().out
    with Library.open(tmp_path / "library") as library:
        report = update_library(library, tiny_encoder, workers=1)
        assert (report.unchanged, report.added, report.removed) == (len(NAMES), 0, 0)


def test_names_in_another_normal_form_and_case_keep_their_images(
    pictures: Path, tmp_path: Path, tiny_encoder: Encoder
) -> None:
    with make_library(tmp_path / "library", tiny_encoder, pictures) as library:
        before = ids(library)
        (pictures / "IMG_1.JPG").rename(pictures / "img_1.jpg")
        for name in ("Évora.jpg", "ぎ.jpg"):
            old = unicodedata.normalize("NFC", name)
            (pictures / old).rename(pictures / unicodedata.normalize("NFD", name))
        report = update_library(library, tiny_encoder, workers=1)
        assert (report.moved, report.added, report.removed) == (3, 0, 0)
        assert sorted(ids(library).values()) == sorted(before.values())


def test_a_shift_of_all_mtimes_encodes_nothing(
    pictures: Path, tmp_path: Path, tiny_encoder: Encoder
) -> None:
    """FAT stores local time: in summer its files are an hour younger."""
    with make_library(tmp_path / "library", tiny_encoder, pictures) as library:
        version = library.version
        for path in pictures.iterdir():
            moment = path.stat().st_mtime_ns + 3600 * 10**9
            os.utime(path, ns=(moment, moment))
        report = update_library(library, tiny_encoder, workers=1)
        assert (report.unchanged, library.version) == (len(NAMES), version)


def test_an_empty_mount_point_deletes_nothing(
    pictures: Path, tmp_path: Path, tiny_encoder: Encoder
) -> None:
    with make_library(tmp_path / "library", tiny_encoder, pictures) as library:
        pictures.rename(tmp_path / "away")
        pictures.mkdir()
        report = update_library(library, tiny_encoder, workers=1)
        assert (report.removed, len(report.held_back)) == (0, 1)
        pictures.rmdir()
        (tmp_path / "away").rename(pictures)
        assert update_library(library, tiny_encoder, workers=1).unchanged == len(NAMES)


def test_a_burst_is_in_the_order_of_its_fractions_of_a_second(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    folder = tmp_path / "burst"
    folder.mkdir()
    for number, fraction in enumerate(["9", "05", "50", "311368"]):
        taken = exif(camera={0x9003: "2023:08:13 09:26:39", 0x9291: fraction})
        (folder / f"{number}.jpg").write_bytes(as_bytes(draw(number), exif=taken))
    with make_library(tmp_path / "library", tiny_encoder, folder) as library:
        order = library.catalog.by_date(library.select(), descending=False)
        assert [record.path[0] for record in library.images(order.tolist())] == list("1320")


@pytest.mark.parametrize("offsets", [{0x9010: "+01:00"}, {0x9011: "+09:00"}, {0x9012: "-05:00"}])
def test_offsets_do_not_move_the_time_on_the_camera(offsets: dict[int, str]) -> None:
    info = read(exif=exif(camera={0x9003: "2025:11:30 16:43:51", **offsets}))
    assert info.taken == "2025-11-30T16:43:51"


def test_a_sidecar_of_darktable_has_a_date_with_colons(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(as_bytes(draw(1), "PNG"))
    (tmp_path / "a.png.xmp").write_bytes(packet('exif:DateTimeOriginal="2020:08:02 13:50:54"'))
    candidate = Candidate(tmp_path, "a.png", 1, 1, ("a.png.xmp",), 1)
    info = photo.read(candidate, Geometry(32, 32, 32)).info
    assert (info.taken, info.taken_from) == ("2020-08-02T13:50:54", "sidecar")
