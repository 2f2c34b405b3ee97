"""Attacks by the author of a library or of a set of embeddings: what they must not achieve."""

from __future__ import annotations

import json
import sqlite3
import zipfile
from contextlib import closing
from io import BytesIO
from pathlib import Path

import pytest
from helpers_client import client_of
from helpers_library import as_bytes, draw, empty_library, id_of, make_library

from sightline.indexer.catalog import store
from sightline.indexer.catalog.catalog import CATALOG
from sightline.indexer.encoder import Encoder
from sightline.indexer.errors import CorruptError, LibraryError, NotFoundError, UsageError
from sightline.indexer.exchange import import_set, open_set
from sightline.indexer.files import sensitive
from sightline.indexer.indexing.run import update_library
from sightline.indexer.library import Library
from sightline.indexer.photo import photo
from sightline.server.cli import run
from sightline.server.search import SearchEngine
from sightline.server.search.originals import original
from sightline.server.web.app import create_app


def write_rows(path: Path, encoder: Encoder, *rows: dict[str, object]) -> Path:
    """A set of embeddings with ``rows``, as its author writes it."""
    vector = [1.0] + [0.0] * (encoder.dimension - 1)
    lines = [json.dumps({**row, "embedding": vector, "model": encoder.model}) for row in rows]
    path.write_text("\n".join(lines))
    return path


def photos(folder: Path, count: int = 2) -> Path:
    folder.mkdir()
    for seed in range(count):
        (folder / f"{seed}.jpg").write_bytes(as_bytes(draw(seed)))
    return folder


def is_served(library: Library, name: str) -> bool:
    (record,) = [i for i in library.images(library.select().tolist()) if i.path.endswith(name)]
    try:
        original(record)
    except NotFoundError:
        return False
    return True


# a file of this machine named by an import --------------------------------------------------------


def test_an_imported_row_has_no_original(tmp_path: Path, tiny_encoder: Encoder) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("token=1234")
    folder = photos(tmp_path / "private")
    source = write_rows(
        tmp_path / "set.jsonl",
        tiny_encoder,
        {"path": str(secret), "size": 10, "format": "jpeg"},
        {"path": str(folder / "0.jpg")},
        {"path": "/etc/passwd", "root": "/etc"},
    )
    with empty_library(tmp_path / "library", tiny_encoder) as library:
        assert import_set(library, open_set(source), workers=1).imported == 3
        assert not any(is_served(library, name) for name in ("secret.txt", "0.jpg", "etc/passwd"))
        assert Path("/etc") not in library.root_paths()
        # A run over all roots reads only what the import named: that is no confirmation.
        update_library(library, tiny_encoder, workers=1)
        assert not is_served(library, "0.jpg")
        update_library(library, tiny_encoder, [folder], workers=1)
        assert is_served(library, "0.jpg")
        assert not is_served(library, "secret.txt")


def test_naming_the_folder_of_an_import_serves_its_originals(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    folder = photos(tmp_path / "photos")
    source = write_rows(tmp_path / "set.jsonl", tiny_encoder, {"path": "0.jpg"})
    with empty_library(tmp_path / "library", tiny_encoder) as library:
        import_set(library, open_set(source), pictures=folder, workers=1)
        assert is_served(library, "0.jpg")
        assert [root.named for root in library.catalog.roots()] == [True]


def test_a_run_verifies_an_import_without_encoding_it_again(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    folder = photos(tmp_path / "photos")
    with empty_library(tmp_path / "library", tiny_encoder) as library:
        paths = [{"path": str(folder / f"{n}.jpg")} for n in range(2)]
        source = write_rows(tmp_path / "set.jsonl", tiny_encoder, *paths)
        import_set(library, open_set(source), workers=1)
        before = library.catalog.vectors(library.select())
        with closing(sqlite3.connect(library.directory / "catalog.db")) as connection, connection:
            connection.execute("UPDATE images SET format = 'png' WHERE name = '1.jpg'")
        report = update_library(library, tiny_encoder, [folder], workers=1)
        assert (report.unchanged, report.updated, report.failed) == (1, 1, 0)
        assert is_served(library, "0.jpg")
        assert is_served(library, "1.jpg")
        after = library.catalog.vectors(library.select())
        assert (after[0] == before[0]).all()
        assert (after[1] != before[1]).any(), "not what the import said: encoded again"


def test_a_made_up_hash_does_not_lend_an_original(tmp_path: Path, tiny_encoder: Encoder) -> None:
    """A file with the hash of an imported row is decoded, not taken for a copy of that row."""
    from sightline.indexer.photo import photo

    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "notes.jpg").write_text("this is a private note, not an image")
    claim = photo.hash_file(folder / "notes.jpg")
    row = {"path": "x.jpg", "size": 36, "content_hash": claim, "format": "jpeg"}
    source = write_rows(tmp_path / "set.jsonl", tiny_encoder, row)
    with empty_library(tmp_path / "library", tiny_encoder) as library:
        import_set(library, open_set(source), workers=1)
        report = update_library(library, tiny_encoder, [folder], workers=1)
        assert (report.added, report.failed) == (0, 1)


def test_a_moved_image_keeps_its_original(tmp_path: Path, tiny_encoder: Encoder) -> None:
    folder = photos(tmp_path / "photos")
    with make_library(tmp_path / "library", tiny_encoder, folder) as library:
        assert is_served(library, "0.jpg")
        (folder / "0.jpg").rename(folder / "renamed.jpg")
        (folder / "copy.jpg").write_bytes((folder / "1.jpg").read_bytes())
        update_library(library, tiny_encoder, workers=1, prune=True)
        assert is_served(library, "renamed.jpg")
        assert is_served(library, "copy.jpg")


# sensitive folders --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/etc", "/etc/ssl", "/proc/self", "/sys", "/dev", "~", "~/.."]
)
def test_sensitive_folders_are_indexed_after_confirmation_only(path: str) -> None:
    folder = Path(path).expanduser()
    with pytest.raises(UsageError, match="--allow-root"):
        sensitive.refuse([folder])
    sensitive.refuse([folder], [folder])


def test_the_folder_of_all_home_folders_is_sensitive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home" / "me"))
    assert sensitive.is_sensitive(tmp_path / "home")
    assert not sensitive.is_sensitive(tmp_path / "home" / "me" / "photos")
    assert not sensitive.is_sensitive(tmp_path / "home" / "other")


def test_a_link_to_a_sensitive_folder_is_sensitive(tmp_path: Path) -> None:
    link = tmp_path / "photos"
    link.symlink_to("/")
    assert sensitive.is_sensitive(link)
    assert not sensitive.is_sensitive(tmp_path)


def test_index_and_import_refuse_the_home_folder(
    tmp_path: Path, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    home = photos(tmp_path / "home")
    monkeypatch.setenv("HOME", str(home))
    asked = ["index", str(home), "--library", str(tmp_path / "library"), "--model", str(tiny_clip)]
    assert run(asked) != 0
    assert f"--allow-root {home}" in capsys.readouterr().err
    assert not (tmp_path / "library").exists()
    assert run([*asked, "--allow-root", str(home), "-q"]) == 0
    assert run(asked[:1] + asked[2:4]) != 0, "a library may claim the home folder as its root"


def test_serve_refuses_a_library_that_claims_the_whole_disk(
    tmp_path: Path, tiny_encoder: Encoder, capsys: pytest.CaptureFixture
) -> None:
    directory = tmp_path / "library"
    make_library(directory, tiny_encoder, photos(tmp_path / "photos")).close()
    with closing(sqlite3.connect(directory / "catalog.db")) as connection, connection:
        connection.execute("UPDATE roots SET path = '/'")
    assert run(["serve", "--library", str(directory), "--port", "0"]) != 0
    assert "confirm with --allow-root /" in capsys.readouterr().err


# a crafted catalog.db -----------------------------------------------------------------------------

ENDLESS = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
    " SELECT i AS root_id, '' AS path, 1 AS size, 1 AS mtime_ns, '' AS reason, '' AS failed_at"
    " FROM n"
)


@pytest.fixture
def crafted(tmp_path: Path, tiny_encoder: Encoder) -> Path:
    """The folder of a library whose catalog a test changes."""
    make_library(tmp_path / "library", tiny_encoder, photos(tmp_path / "photos")).close()
    return tmp_path / "library"


def change(directory: Path, *statements: str) -> None:
    with closing(sqlite3.connect(directory / "catalog.db")) as connection, connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize("table", ["failures", "meta", "_sqlite_migrations"])
def test_a_view_in_the_place_of_a_table_is_refused(
    crafted: Path, table: str, capsys: pytest.CaptureFixture
) -> None:
    change(crafted, f"DROP TABLE {table}", f"CREATE VIEW {table} AS {ENDLESS}")
    for command in ("failures", "status", "doctor"):
        assert run([command, "--library", str(crafted)]) != 0
        output = capsys.readouterr()
        assert f"a view '{table}'" in output.out + output.err


def test_triggers_are_refused(crafted: Path) -> None:
    change(crafted, "CREATE TRIGGER t AFTER INSERT ON runs BEGIN DELETE FROM images; END")
    with pytest.raises(LibraryError, match="a trigger 't'"):
        Library.open(crafted)


def test_a_view_under_another_name_is_never_read(
    crafted: Path, tiny_encoder: Encoder, capsys: pytest.CaptureFixture
) -> None:
    change(crafted, f"CREATE VIEW endless AS {ENDLESS}")
    with Library.open(crafted) as library:
        assert library.failures() == []
        assert update_library(library, tiny_encoder, workers=1).unchanged == 2
        assert library.catalog.check() == []


def test_a_table_with_an_added_computation_is_refused(crafted: Path) -> None:
    change(crafted, "ALTER TABLE images ADD COLUMN x AS (hex(zeroblob(500000000)))")
    with pytest.raises(LibraryError, match="defines the table images differently"):
        Library.open(crafted, read_only=True)


def test_an_endless_read_ends(crafted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(store.Store(crafted / "catalog.db", CATALOG, read_only=True)) as opened:
        monkeypatch.setattr(store, "READ_SECONDS", 0.1)
        with (
            pytest.raises(LibraryError, match="could not be read within"),
            opened.reading() as connection,
        ):
            connection.execute(f"SELECT max(root_id) FROM ({ENDLESS})").fetchone()


@pytest.mark.parametrize(
    ("target", "statement"),
    [
        ("notes.txt", "UPDATE images SET name = 'notes.txt', decoded = 1"),
        # The hash of a file that many machines have is known.
        ("notes.txt", "UPDATE images SET name = 'notes.txt', content_hash = '{hash}'"),
        ("private.jpg", "UPDATE images SET name = 'private.jpg', decoded = 1"),
        ("0.jpg", "UPDATE images SET format = 'raw'"),
    ],
)
def test_a_crafted_catalog_makes_no_other_file_downloadable(
    crafted: Path, tiny_encoder: Encoder, target: str, statement: str
) -> None:
    folder = crafted.parent / "photos"
    (folder / "notes.txt").write_text("the password is 1234\n" * 9)
    (folder / "private.jpg").write_bytes(as_bytes(draw(77)))
    found = photo.hash_file(folder / target)
    change(crafted, statement.format(hash=found) + " WHERE name = '0.jpg'")
    with (
        Library.open(crafted, read_only=True) as library,
        SearchEngine(library, tiny_encoder) as engine,
    ):
        client = client_of(create_app(engine))
        image = id_of(library, target)
        for address in (
            f"/images/{image}",
            f"/images/{image}?download=1",
            f"/images/{image}?size=99",
        ):
            assert client.get(address).status_code == 404
        ids = library.select().tolist()
        with zipfile.ZipFile(BytesIO(client.post("/api/zip", json={"ids": ids}).data)) as archive:
            assert [Path(name).name for name in archive.namelist()] == ["1.jpg"]
        assert client.get(f"/images/{id_of(library, '1.jpg')}").status_code == 200


def test_a_file_that_was_replaced_by_another_image_is_not_served(
    crafted: Path, tiny_encoder: Encoder
) -> None:
    file = crafted.parent / "photos" / "0.jpg"
    with (
        Library.open(crafted, read_only=True) as library,
        SearchEngine(library, tiny_encoder) as engine,
    ):
        client = client_of(create_app(engine))
        address = f"/images/{id_of(library, '0.jpg')}"
        assert client.get(address).data == file.read_bytes()
        before = file.stat()
        file.write_bytes(as_bytes(draw(77)).ljust(before.st_size, b"\0")[: before.st_size])
        answer = client.get(address)
        assert answer.status_code == 404
        assert "run `sightline index`" in answer.get_json()["error"]


def test_a_crafted_color_reaches_no_style_sheet(crafted: Path) -> None:
    change(crafted, "UPDATE images SET color = 'red;background:url(//e.org/x)'")
    with Library.open(crafted, read_only=True) as library:
        assert [image.info.color for image in library.images([1, 2])] == [None, None]
    change(crafted, "UPDATE images SET width = 'wide'")
    with Library.open(crafted, read_only=True) as library, pytest.raises(CorruptError):
        library.image(1)


# rows of an import --------------------------------------------------------------------------------


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def test_impossible_values_of_an_import_are_left_out(tmp_path: Path, tiny_encoder: Encoder) -> None:
    rows: list[dict[str, object]] = [
        {
            "path": "a.jpg",
            "color": "red;background:url(//e.org/x)",
            "width": 10**30,
            "height": -5,
            "size": 1e300,
            "phash": 2**70,
            "orientation": 99,
            "rating": 2**80,
            "format": "../../x",
            "content_hash": "\ud800",
            "keywords": [[["deep"]], 7, None, "k" * 10**6, "\udfff", *["w"] * 5000],
        },
        {"path": "b.jpg", "keywords": 5, "color": 7, "latitude": 10**400},
        {"path": "c.jpg", "width": 2**31, "rating": 6, "latitude": 91},
        {"path": "x" * 70_000 + ".jpg", "caption": "c" * 10**6},
    ]
    source = write_rows(tmp_path / "set.jsonl", tiny_encoder, *rows)
    with empty_library(tmp_path / "library", tiny_encoder) as library:
        assert import_set(library, open_set(source), workers=1).imported == 4
        first, _, third, fourth = library.images([1, 2, 3, 4])
        info = first.info
        assert (info.color, info.width, info.height, info.rating) == (None, 0, 0, None)
        assert (info.orientation, info.format, first.size) == (1, "", 0)
        assert (first.phash, first.content_hash) == (None, "")
        assert (third.info.width, third.info.rating, third.info.latitude) == (0, None, None)
        assert len(info.keywords) == 1000
        assert max(map(len, info.keywords)) == 1000
        assert len(fourth.path) < 100
        assert len(fourth.info.caption or "") == 100_000
    # Colours are checked when they are written and when they are read.
    with closing(sqlite3.connect(tmp_path / "library" / "catalog.db")) as connection:
        assert connection.execute("SELECT DISTINCT color FROM images").fetchall() == [(None,)]


def test_deeply_nested_json_is_one_line(tmp_path: Path, tiny_encoder: Encoder) -> None:
    source = tmp_path / "set.jsonl"
    source.write_text('{"embedding": [1, 0], "keywords": ' + nested(200_000) + "}")
    with pytest.raises(UsageError, match="line 1: not a JSON object"):
        open_set(source)


def test_a_line_without_an_end_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    source = tmp_path / "set.jsonl"
    with source.open("wb") as file:
        file.truncate(2**29)  # sparse: takes no space
    with pytest.raises(UsageError, match="line 1 has more than"):
        open_set(source)
