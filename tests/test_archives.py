"""WebDataset archives are found, read, served and updated like folders."""

from __future__ import annotations

import io
import json
import os
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers_client import client_of
from helpers_library import as_bytes, draw, empty_library

from sightline.indexer.errors import PhotoError
from sightline.indexer.files import archives
from sightline.indexer.indexing import doctor
from sightline.indexer.indexing.run import update_library
from sightline.indexer.library import Library
from sightline.indexer.photo import photo
from sightline.indexer.types import Geometry
from sightline.server.search import SearchEngine
from sightline.server.web.app import create_app

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder


def pack(path: Path, files: dict[str, bytes]) -> Path:
    """A tar of ``files``."""
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def sample(number: int) -> dict[str, bytes]:
    """One sample as img2dataset writes it."""
    key = f"{number:09}"
    facts = {"caption": f"an old castle {number}", "url": f"https://e.org/{number}.jpg"}
    return {
        f"{key}.jpg": as_bytes(draw(number)),
        f"{key}.txt": facts["caption"].encode(),
        f"{key}.json": json.dumps(facts).encode(),
    }


def shard(path: Path, numbers: range) -> Path:
    return pack(path, {name: data for n in numbers for name, data in sample(n).items()})


@pytest.fixture
def library(tmp_path: Path, tiny_encoder: Encoder) -> Library:
    return empty_library(tmp_path / "library", tiny_encoder)


def test_archives_are_indexed_served_and_updated(
    tmp_path: Path, tiny_encoder: Encoder, library: Library
) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    shard(shards / "0000.tar", range(3))
    shard(shards / "0001.tar", range(3, 5))
    (shards / "beside.jpg").write_bytes(as_bytes(draw(50)))
    with library, SearchEngine(library, tiny_encoder) as engine:
        report = update_library(library, tiny_encoder, [shards], workers=1)
        assert (report.added, report.failed) == (6, 0)
        known = {r.path: r for r in library.images(library.select().tolist())}
        record = known["0001.tar/000000004.jpg"]
        assert (record.info.caption, record.info.url) == (
            "an old castle 4", "https://e.org/4.jpg",
        )  # fmt: skip
        assert record.size == len(sample(4)["000000004.jpg"])
        assert library.full_text_search("castle 4", 2).tolist() == [record.id]

        # The page shows it: thumbnail, original, preview, zip.
        client = client_of(create_app(engine))
        data = sample(4)["000000004.jpg"]
        assert client.get(f"/thumbnails/{record.id}").status_code == 200
        whole = client.get(f"/images/{record.id}")
        assert whole.data == data
        part = client.get(f"/images/{record.id}", headers={"Range": "bytes=0-9"})
        assert (part.status_code, part.data) == (206, data[:10])
        tag = {"If-None-Match": whole.headers["ETag"]}
        assert client.get(f"/images/{record.id}", headers=tag).status_code == 304
        assert client.get(f"/images/{record.id}?size=100").status_code == 200
        assert client.get(f"/api/images/{record.id}").get_json()["available"] is True
        packed = client.post("/api/zip", json={"ids": [record.id, known["beside.jpg"].id]})
        with zipfile.ZipFile(io.BytesIO(packed.data)) as unpacked:
            assert unpacked.read("shards/0001.tar/000000004.jpg") == data
        assert engine.search(f"like:{record.id}@0,0,.5,.5", k=1).hits

        assert doctor.examine(library.directory) == []
        again = update_library(library, tiny_encoder, workers=1)
        assert (again.unchanged, again.added, again.updated) == (6, 0, 0)
        # An archive rewritten with one more image: the others are not encoded again.
        shard(shards / "0001.tar", range(3, 6))
        os.utime(shards / "0001.tar", (1, 1))
        third = update_library(library, tiny_encoder, workers=1)
        assert (third.unchanged, third.added, third.updated) == (6, 1, 0)
        (shards / "0000.tar").unlink()
        assert update_library(library, tiny_encoder, workers=1, prune=True).removed == 3
        assert client.get(f"/images/{known['0000.tar/000000001.jpg'].id}").status_code == 404


def test_an_archive_can_be_a_root(tmp_path: Path, tiny_encoder: Encoder, library: Library) -> None:
    (tmp_path / "stranger.jpg").write_bytes(as_bytes(draw(60)))
    tar = shard(tmp_path / "only.tar", range(2))
    with library:
        assert update_library(library, tiny_encoder, [tar], workers=1).added == 2
        assert library.root_paths() == [tar]
        assert update_library(library, tiny_encoder, workers=1).unchanged == 2
        assert doctor.examine(library.directory) == []


def test_a_corrupt_archive_is_a_failure_and_deletes_no_image(
    tmp_path: Path, tiny_encoder: Encoder, library: Library
) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    tar = pack(shards / "a.tar", {**sample(0), "bad.jpg": b"no image", **sample(1)})
    whole = tar.read_bytes()
    with library:
        report = update_library(library, tiny_encoder, [shards], workers=1)
        assert (report.added, report.failed) == (2, 1)
        assert report.failures[0].path == "a.tar/bad.jpg"
        tar.write_bytes(whole[: len(whole) // 2])
        report = update_library(library, tiny_encoder, workers=1, prune=True)
        assert (report.removed, library.count) == (0, 2)
        assert any("truncated" in failure.reason for failure in report.failures)
        tar.write_bytes(b"this is no archive at all" * 100)
        report = update_library(library, tiny_encoder, workers=1, prune=True)
        assert (report.removed, library.count) == (0, 2)
        tar.write_bytes(whole)
        report = update_library(library, tiny_encoder, workers=1)
        assert (report.unchanged, report.updated) == (2, 0)


def test_member_names_that_lead_outside_the_archive_are_ignored(tmp_path: Path) -> None:
    image = as_bytes(draw(1))
    names = ("../x.jpg", "/etc/x.jpg", "a/../../x.jpg", ".hidden.jpg", "./fine.jpg", "b\nc.jpg")
    tar = pack(tmp_path / "a.tar", dict.fromkeys(names, image))
    with tar.open("rb") as file:
        assert set(archives.list_members(file).members) == {"fine.jpg"}
    assert photo.read(tar / "fine.jpg", Geometry()).info.format == "jpeg"
    for name in ("x.jpg", "b.jpg", "../x.jpg"):
        with pytest.raises(PhotoError):
            photo.read(tar / name, Geometry())


def test_links_in_archives_are_ignored(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        link = tarfile.TarInfo("a.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with (tmp_path / "a.tar").open("rb") as file:
        assert not archives.list_members(file).members


# --- unusual archives -----------------------------------------------------------------------------


def listed(path: Path) -> archives.Listing:
    with path.open("rb") as file:
        return archives.list_members(file)


@pytest.mark.parametrize("zeros", [0, 512, 3 * 2**20])
def test_every_one_of_concatenated_archives_is_read(tmp_path: Path, zeros: int) -> None:
    parts = [shard(tmp_path / f"{n}.tar", range(n, n + 2)).read_bytes() for n in (0, 2, 4)]
    (tmp_path / "all.tar").write_bytes(bytes(zeros).join(parts))
    listing = listed(tmp_path / "all.tar")
    assert listing.problem is None
    assert [name for name in listing.members if name.endswith(".jpg")] == [
        f"{n:09}.jpg" for n in range(6)
    ]
    read = photo.read(tmp_path / "all.tar" / "000000005.jpg", Geometry())
    assert read.info.caption == "an old castle 5"


def test_what_follows_an_archive_and_is_none_is_reported(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", range(2))
    path.write_bytes(path.read_bytes() + b"no archive" * 100)
    listing = listed(path)
    assert len(listing.members) == 6
    assert "cannot be read to its end" in (listing.problem or "")


@pytest.mark.parametrize(
    ("image", "beside"),
    [
        ("000.jpg", "000.TXT"),
        ("000.JPG", "000.Txt"),
        ("IMG_1.JPG", "img_1.txt"),
        ("a/b.jpg", "a/B.TXT"),
    ],
)
def test_sidecars_are_found_in_any_case(tmp_path: Path, image: str, beside: str) -> None:
    path = pack(tmp_path / "a.tar", {image: as_bytes(draw(1)), beside: b"a castle"})
    assert photo.read(path / image, Geometry()).info.caption == "a castle"


def test_a_sidecar_of_the_same_case_comes_first(tmp_path: Path) -> None:
    files = {"a.jpg": as_bytes(draw(1)), "A.TXT": b"another", "a.txt": b"its own"}
    path = pack(tmp_path / "a.tar", files)
    assert photo.read(path / "a.jpg", Geometry()).info.caption == "its own"


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_a_compressed_archive_is_refused_with_the_reason(tmp_path: Path, kind: str) -> None:
    with tarfile.open(tmp_path / "a.tar", f"w:{kind}") as tar:
        tar.add(__file__, "a.jpg")
    name = {"gz": "gzip", "bz2": "bzip2", "xz": "xz"}[kind]
    assert listed(tmp_path / "a.tar").problem == (
        f"it is compressed by {name}, and only plain .tar is read: decompress it"
    )
