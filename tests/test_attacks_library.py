"""Attacks by the author of a library or of a set of embeddings: what they must not achieve."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from helpers_library import as_bytes, draw, empty_library, make_library

from sightline.indexer.encoder import Encoder
from sightline.indexer.errors import NotFoundError, UsageError
from sightline.indexer.exchange import import_set, open_set
from sightline.indexer.files import sensitive
from sightline.indexer.indexing.run import update_library
from sightline.indexer.library import Library
from sightline.server.cli import run
from sightline.server.search.originals import original


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
