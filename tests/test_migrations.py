"""Libraries of every earlier version open, and come to the same tables with everything in them."""

from __future__ import annotations

import gzip
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from helpers_catalog import TOP, picture
from sqlite_utils import Database

from sightline.indexer.catalog import Catalog, Thumbnails, migrations
from sightline.indexer.errors import LibraryError
from sightline.indexer.types import Condition, Failure, Filters

FIXTURES = Path(__file__).resolve().parent / "fixtures"
STEPS = migrations.catalog.names
FILES = sorted(FIXTURES.glob("catalog-*.db.gz"), key=lambda path: int(path.name.split("-")[1]))


def unpacked(file: Path, folder: Path) -> Path:
    path = folder / "catalog.db"
    path.write_bytes(gzip.decompress(file.read_bytes()))
    return path


def schema(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE name <> 'sqlite_stat1'"
        )
        return {name: " ".join((sql or "").split()) for name, sql in rows}


def test_there_is_a_fixture_of_every_version() -> None:
    assert [file.name.split("-")[2].removesuffix(".db.gz") for file in FILES] == STEPS


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.removesuffix(".db.gz"))
def test_a_released_migration_never_changes(file: Path, tmp_path: Path) -> None:
    """What the first steps make now is what they made when the library was kept."""
    place = FILES.index(file)
    following = STEPS[place + 1] if place + 1 < len(STEPS) else None
    with closing(sqlite3.connect(tmp_path / "now.db", isolation_level=None)) as connection:
        migrations.catalog.apply(connection, stop_before=following)
    assert schema(tmp_path / "now.db") == schema(unpacked(file, tmp_path)), "append another step"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.removesuffix(".db.gz"))
def test_an_older_library_is_migrated(file: Path, tmp_path: Path) -> None:
    path = unpacked(file, tmp_path)
    Catalog.create(tmp_path / "new.db", model="toy", revision="1", dimension=4).close()
    with Catalog.open(path) as catalog:
        assert (catalog.model, catalog.revision, catalog.dimension) == ("toy", "1", 4)
        assert (catalog.version, catalog.count) == (3, 2)
        assert catalog.check() == []
        (root,) = catalog.roots()
        assert root.path == TOP
        assert set(catalog.known(root)) == {"Hund.jpg", "2019 Germany/Burg.heic"}
        record = catalog.image(2)
        assert record is not None
        assert record.info.taken_at == datetime(2019, 7, 4, 18, 3, 9)
        assert record.info.keywords == ("Castle", "Évora")
        assert (record.info.title, record.info.rating, record.info.place) == ("Burg Eltz", 5, None)
        assert (catalog.vectors(np.array([1, 2])) == np.eye(4)[:2]).all()
        assert catalog.changes(1).removed.tolist() == [9]
        assert catalog.full_text_search("germany castle", 5).tolist() == [2]
        assert catalog.select(Filters((Condition("keyword", "ÉVORA"),))).tolist() == [2]
        place = FILES.index(file)
        failure = Failure(str(TOP), "bad.jpg", 5, 6, "cut short")
        assert catalog.failures() == (
            [failure] if place >= STEPS.index("failures_and_runs") else []
        )
        assert len(catalog.runs()) == (1 if place >= STEPS.index("failures_and_runs") else 0)
        dogs = catalog.select(Filters((Condition("label", "dog"),))).tolist()
        assert dogs == ([1] if place >= STEPS.index("labels") else [])
        ada = catalog.select(Filters((Condition("person", "Ada"),))).tolist()
        assert ada == ([2] if place >= STEPS.index("people") else [])
        assert {known.metadata_stamp for known in catalog.known(root).values()} == {0}
        new = picture("new.jpg")
        new = new.__class__(new.candidate, new.photo, np.ones(4, np.float32) / 2)
        assert catalog.write(root, images=[new]).images == (10,), "ids go on after the removed one"
        with closing(Database(path)) as database:
            rows = database.query("SELECT name FROM pictures ORDER BY id")
            assert [row["name"] for row in rows] == ["Hund.jpg", "Burg.heic", "new.jpg"]
    assert schema(path) == schema(tmp_path / "new.db")


def test_reading_does_not_migrate_an_older_library(tmp_path: Path) -> None:
    path = unpacked(FILES[0], tmp_path)
    before = path.read_bytes()
    with pytest.raises(LibraryError, match="older Sightline"):
        Catalog.open(path, read_only=True)
    assert path.read_bytes() == before


def test_a_failing_migration_changes_nothing(tmp_path: Path) -> None:
    path = unpacked(FILES[0], tmp_path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE VIEW pictures AS SELECT 1")  # in the way of the last step
    before = schema(path)
    with pytest.raises(LibraryError, match="cannot be brought up to date"):
        Catalog.open(path)
    assert schema(path) == before


def test_a_newer_library_stays_unchanged(tmp_path: Path) -> None:
    path = unpacked(FILES[-1], tmp_path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at)"
            " VALUES ('catalog', 'holograms', '2031')"
        )
    before = path.read_bytes()
    for read_only in (True, False):
        with pytest.raises(LibraryError, match=r"written by a newer Sightline.*holograms"):
            Catalog.open(path, read_only=read_only)
    assert path.read_bytes() == before


def test_tables_and_views_that_users_add_do_no_harm(tmp_path: Path) -> None:
    path = unpacked(FILES[-1], tmp_path)
    with closing(Database(path)) as database:
        database["notes"].insert({"image_id": 1, "note": "a good dog"})
        database.create_view("dogs", "SELECT * FROM pictures WHERE labels LIKE '%dog%'")
    with Catalog.open(path) as catalog:
        assert catalog.count == 2
        assert catalog.check() == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.removesuffix(".db.gz"))
def test_views_that_users_made_on_ours_stay_through_a_migration(file: Path, tmp_path: Path) -> None:
    path = unpacked(file, tmp_path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE VIEW dogs AS SELECT id FROM pictures_per_day")
        connection.execute("CREATE VIEW mine AS SELECT id, modified_at FROM pictures")
        connection.execute("CREATE VIEW old AS SELECT id, mtime_ns FROM images")
    Catalog.open(path).close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM mine").fetchone() == (2,)
        assert connection.execute("SELECT mtime_ns FROM old ORDER BY id").fetchall() == [
            (11,),
            (21,),
        ]


def test_a_file_that_was_never_read_has_no_mtime_after_the_migration(tmp_path: Path) -> None:
    path = unpacked(FILES[STEPS.index("decoded_files")], tmp_path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE images SET mtime_ns = 0 WHERE id = 1")
        connection.execute("UPDATE failures SET mtime_ns = 0")
    with Catalog.open(path) as catalog:
        assert catalog.unseen().tolist() == [1]
        assert [record.mtime_ns for record in catalog.images([1, 2])] == [None, 21]
        assert [failure.mtime_ns for failure in catalog.failures()] == [None]


def test_thumbnails_have_separate_migrations(tmp_path: Path) -> None:
    path = tmp_path / "thumbnails.db"
    Thumbnails.open_or_create(path).close()
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT migration_set, name FROM _sqlite_migrations").fetchall()
    assert rows == [("thumbnails", "thumbnail_blobs")]
