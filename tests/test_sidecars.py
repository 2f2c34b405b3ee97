"""Sidecars are found under the names that programs give them, and followed when they change."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from helpers_library import as_bytes, draw, empty_library
from test_photo_metadata import packet

from sightline.indexer.encoder import Encoder
from sightline.indexer.files import sidecars, walk
from sightline.indexer.files.watch import WATCHED_SUFFIXES
from sightline.indexer.indexing.run import update_library
from sightline.indexer.library import Library
from sightline.indexer.photo import Decoder
from sightline.indexer.types import Candidate, Condition, Filters, Geometry, IndexReport, PhotoInfo

JPEG = as_bytes(draw(1))


def takeout(**fields: object) -> bytes:
    """Takeout's file of one photo, as it wrote it in 2025."""
    return json.dumps(
        {
            "title": "IMG_1.jpg",
            "description": "",
            "creationTime": {"timestamp": "1700000100", "formatted": "14.11.2023, 22:15:00 UTC"},
            "photoTakenTime": {"timestamp": "1700000000", "formatted": "14.11.2023, 22:13:20 UTC"},
            "geoData": {"latitude": 0.0, "longitude": 0.0, "altitude": 0.0},
            "geoDataExif": {"latitude": 0.0, "longitude": 0.0, "altitude": 0.0},
            **fields,
        }
    ).encode()


def only(folder: Path, name: str) -> Candidate:
    """The image called so, as a scan finds it."""
    return next(one for one in walk.scan(folder) if one.path.endswith(name))


def described(folder: Path, name: str) -> PhotoInfo:
    """What a worker process reads of an image."""
    with Decoder(Geometry(32, 32, 32)) as decoder:
        ((_, info),) = decoder.infos([only(folder, name)])
    assert isinstance(info, PhotoInfo)
    return info


# names --------------------------------------------------------------------------------------------

MIDDLING = "longer than 36 characters, this one.jpg"
LONG = "a very long title that a person typed into the camera.jpg"


@pytest.mark.parametrize(
    ("image", "sidecar"),
    [
        ("IMG_1.jpg", "IMG_1.jpg.xmp"),
        ("IMG_1.jpg", "IMG_1.xmp"),
        ("IMG_1.JPG", "img_1.XMP"),
        ("IMG_1.NEF", "IMG_1.xmp"),
        ("IMG_1.jpg", "IMG_1.jpg.json"),
        ("IMG_1.jpg", "IMG_1.jpg.supplemental-metadata.json"),
        ("PXL_20230101_123456789.MP.jpg", "PXL_20230101_123456789.MP.jpg.supplemental-met.json"),
        (MIDDLING, MIDDLING + ".supple.json"),
        ("IMG_1.jpg", "IMG_1.jpg.s.json"),
        ("IMG_1.jpg", "IMG_1.jpg..json"),
        ("IMG_1(2).jpg", "IMG_1.jpg(2).json"),
        ("IMG_1(2).jpg", "IMG_1.jpg.supplemental-metadata(2).json"),
        ("IMG_1-edited.jpg", "IMG_1.jpg.supplemental-metadata.json"),
        ("IMG_1-bearbeitet(1).jpg", "IMG_1.jpg.supplemental-metadata(1).json"),
        (LONG, LONG[:46] + ".json"),
        ("holiday.jpg", "holiday.json"),
    ],
)  # fmt: skip
def test_a_sidecar_is_found_under_every_name(tmp_path: Path, image: str, sidecar: str) -> None:
    (tmp_path / image).write_bytes(JPEG)
    (tmp_path / sidecar).write_bytes(b"{}")
    assert only(tmp_path, image).sidecars == (sidecar,)


@pytest.mark.parametrize(
    ("image", "other"),
    [
        ("IMG_1.jpg", "IMG_2.jpg.xmp"),
        ("IMG_1.jpg", "IMG_1.png.json"),
        ("IMG_1(2).jpg", "IMG_1.jpg(3).json"),
        ("IMG_1.jpg", "IMG_1.jpg(1).json"),
        ("IMG_1.jpg", "IMG_1.jpg.supplemental-data.json"),
        ("IMG_1.jpg", "metadata.json"),
    ],
)
def test_a_file_of_another_image_is_no_sidecar(tmp_path: Path, image: str, other: str) -> None:
    (tmp_path / image).write_bytes(JPEG)
    (tmp_path / other).write_bytes(b"{}")
    assert only(tmp_path, image).sidecars == ()


def test_the_sidecar_of_the_whole_name_precedes(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(JPEG)
    (tmp_path / "a.jpg.xmp").write_bytes(packet('xmp:Rating="4"'))
    (tmp_path / "a.xmp").write_bytes(packet('xmp:Rating="2" photoshop:Headline="Both"'))
    info = described(tmp_path, "a.jpg")
    assert (info.rating, info.title) == (4, "Both")


# fields -------------------------------------------------------------------------------------------


def test_takeout_completes_what_the_file_lacks(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(JPEG)
    (tmp_path / "a.jpg.json").write_bytes(
        takeout(
            description="Ada&#39;s castle",
            geoData={"latitude": 0.0, "longitude": 0.0},
            geoDataExif={"latitude": 50.24, "longitude": -7.35},
            people=[{"name": "Ada Lovelace"}, {"name": " "}, {}, "x", {"name": "ada lovelace"}],
            favorited=True,
        )
    )
    info = described(tmp_path, "a.jpg")
    assert (info.caption, info.people, info.rating) == ("Ada's castle", ("Ada Lovelace",), 5)
    assert (info.latitude, info.longitude) == (50.24, -7.35)
    assert info.taken_at is not None
    assert info.taken_at.isoformat() == "2023-11-14T22:13:20"


def test_a_sidecar_precedes_takeout_and_the_file(tmp_path: Path) -> None:
    old = "<dc:subject><rdf:Bag><rdf:li>old</rdf:li></rdf:Bag></dc:subject>"
    inside = packet('xmp:Rating="1"', old)
    (tmp_path / "a.jpg").write_bytes(as_bytes(draw(1), xmp=inside))
    (tmp_path / "a.jpg.json").write_bytes(takeout(description="from Google"))
    (tmp_path / "a.xmp").write_bytes(
        packet(
            'xmp:Rating="5" exif:DateTimeOriginal="1999-12-31T23:59:59"'
            ' exif:GPSLatitude="50,14.4N" exif:GPSLongitude="7,21.0E"',
            "<dc:subject><rdf:Bag><rdf:li>new</rdf:li></rdf:Bag></dc:subject>"
            '<dc:description><rdf:Alt><rdf:li xml:lang="x-default">mine</rdf:li></rdf:Alt>'
            "</dc:description>",
        )
    )
    info = described(tmp_path, "a.jpg")
    assert (info.caption, info.rating, info.keywords) == ("mine", 5, ("new",))
    assert (info.latitude, info.longitude) == (pytest.approx(50.24), pytest.approx(7.35))
    assert str(info.taken_at) == "1999-12-31 23:59:59"


def test_json_of_other_programs_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(JPEG)
    (tmp_path / "a.json").write_text('{"description": "of something else", "people": 3}')
    assert described(tmp_path, "a.jpg").caption is None


# hostile ------------------------------------------------------------------------------------------

HOSTILE = {
    "a.jpg.json": {
        "nested": b'{"photoTakenTime": ' + b"[" * 200_000,
        "many people": takeout(people=[{"name": f"P{n}"} for n in range(100_000)]),
        "surrogates": takeout(description="a\ud800b\0c\x1b"),
        "numbers": takeout(geoData={"latitude": 1e999, "longitude": "7"}, people={"a": 1}),
        "huge time": takeout(photoTakenTime={"timestamp": "9" * 4000}),
        "too large": takeout(description="x" * sidecars.MAX_BYTES),
    },
    "a.xmp": {
        "nested": packet("", "<dc:title>" + "<dc:x>" * 60_000 + "</dc:x>" * 60_000 + "</dc:title>"),
        "nested regions": packet(
            'xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/"',
            "<mwg-rs:Regions>" + "<rdf:li>" * 60_000 + "</rdf:li>" * 60_000 + "</mwg-rs:Regions>",
        ),
        "entities": b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><x>&b;</x>',
        "many people": packet(
            'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"',
            "<Iptc4xmpExt:PersonInImage><rdf:Bag>"
            + "".join(f"<rdf:li>P{n}</rdf:li>" for n in range(60_000))
            + "</rdf:Bag></Iptc4xmpExt:PersonInImage>",
        ),
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param(name, data, id=f"{name} {kind}")
        for name, kinds in HOSTILE.items()
        for kind, data in kinds.items()
    ],
)
def test_a_hostile_sidecar_costs_nothing_but_itself(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / "a.jpg").write_bytes(JPEG)
    (tmp_path / name).write_bytes(content)
    info = described(tmp_path, "a.jpg")
    assert info.width == 320
    assert len(info.people) <= 200
    assert all(c.isprintable() for c in info.caption or "")
    (info.caption or "").encode()


def test_sidecars_are_regular_files_beneath_the_root(tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    outside.write_bytes(takeout(description="secret"))
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.jpg").write_bytes(JPEG)
    (root / "a.jpg.json").symlink_to(outside)
    os.mkfifo(root / "a.xmp")
    assert described(root, "a.jpg").caption is None
    (root / "a.jpg.json").unlink()
    (root / "a.jpg.json").mkdir()
    assert only(root, "a.jpg").sidecars == ()


# runs ---------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images; one has a sidecar."""
    root = tmp_path / "pictures"
    root.mkdir()
    for seed, name in enumerate("ab"):
        (root / f"{name}.jpg").write_bytes(as_bytes(draw(seed)))
    (root / "a.jpg.json").write_bytes(takeout(people=[{"name": "Ada Lovelace"}]))
    return root


@pytest.fixture
def library(tmp_path: Path, tiny_encoder: Encoder, folder: Path) -> Library:
    made = empty_library(tmp_path / "library", tiny_encoder)
    run(made, tiny_encoder, folder)
    return made


def run(library: Library, encoder: Encoder, *paths: Path) -> IndexReport:
    return update_library(library, encoder, paths, workers=1)


def found(library: Library, name: str, value: str) -> list[str]:
    ids = library.select(Filters((Condition(name, value),)))
    return sorted(record.path for record in library.images(ids.tolist()))


def counts(report: IndexReport) -> tuple[int, int, int]:
    return report.added, report.updated, report.unchanged


def test_a_changed_sidecar_updates_metadata_without_encoding(
    library: Library, tiny_encoder: Encoder, folder: Path
) -> None:
    version = library.version
    assert found(library, "person", "ada") == ["a.jpg"]
    (folder / "a.jpg.json").write_bytes(takeout(people=[{"name": "Grace Hopper"}]))
    (folder / "b.xmp").write_bytes(packet('photoshop:Headline="Evening"'))
    assert counts(run(library, tiny_encoder)) == (0, 2, 0)
    assert found(library, "person", "ada") == []
    assert found(library, "person", "Hopper") == ["a.jpg"]
    assert library.full_text_search("grace hopper", 5).tolist() == [1]
    assert library.full_text_search("evening", 5).tolist() == [2]
    assert library.version == version, "no embedding has changed"
    assert counts(run(library, tiny_encoder)) == (0, 0, 2)


def test_a_deleted_sidecar_takes_its_metadata_along(
    library: Library, tiny_encoder: Encoder, folder: Path
) -> None:
    (folder / "a.jpg.json").unlink()
    assert counts(run(library, tiny_encoder)) == (0, 1, 1)
    assert found(library, "person", "ada") == []


def test_a_moved_image_has_the_sidecar_of_its_new_place(
    library: Library, tiny_encoder: Encoder, folder: Path
) -> None:
    (folder / "a.jpg").rename(folder / "c.jpg")
    (folder / "c.xmp").write_bytes(packet('photoshop:Headline="Moved"'))
    report = run(library, tiny_encoder)
    assert (report.moved, report.unchanged, report.found) == (1, 1, 2)
    (record,) = (one for one in library.images([1]))
    assert (record.path, record.info.title, record.info.people) == ("c.jpg", "Moved", ())


def test_a_copy_has_its_own_sidecar(library: Library, tiny_encoder: Encoder, folder: Path) -> None:
    (folder / "copy.jpg").write_bytes((folder / "a.jpg").read_bytes())
    (folder / "copy.jpg.json").write_bytes(takeout(people=[{"name": "Grace Hopper"}]))
    report = run(library, tiny_encoder)
    assert (report.added, report.unchanged, report.found) == (1, 2, 3)
    assert found(library, "person", "ada") == ["a.jpg"]
    assert found(library, "person", "grace") == ["copy.jpg"]


def test_a_library_of_an_earlier_version_reads_metadata_once_more(
    library: Library, tiny_encoder: Encoder, folder: Path
) -> None:
    """And keeps what an import said where the file says nothing."""
    with library.catalog._store.writing() as connection:
        connection.execute("UPDATE images SET metadata_stamp = 0, caption = 'imported'")
        connection.execute("DELETE FROM people")
    assert counts(run(library, tiny_encoder)) == (0, 1, 1)
    records = library.images([1, 2])
    assert [one.info.caption for one in records] == ["imported", "imported"]
    assert records[0].info.people == ("Ada Lovelace",)


def test_an_image_that_cannot_be_read_keeps_its_metadata(
    library: Library, tiny_encoder: Encoder, folder: Path
) -> None:
    image = folder / "a.jpg"
    status = image.stat()
    image.write_bytes(b"x" * status.st_size)
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    (folder / "a.jpg.json").write_bytes(takeout())
    report = run(library, tiny_encoder)
    assert (counts(report), report.failed) == ((0, 0, 1), 1)
    assert found(library, "person", "ada") == ["a.jpg"]


def test_sidecars_are_watched() -> None:
    assert sidecars.SUFFIXES <= WATCHED_SUFFIXES
