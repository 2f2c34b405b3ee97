"""Files with control characters and quotes in their names: downloads, terminals, pipes."""

from __future__ import annotations

import json
import os
import pty
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from select import select
from typing import TYPE_CHECKING

import pytest
from helpers_client import client_of
from helpers_library import as_bytes, draw, make_library
from werkzeug.http import parse_options_header

from sightline.server.cli import run
from sightline.server.commands.common import print_path
from sightline.server.commands.progress import terminal_bar
from sightline.server.search import SearchEngine
from sightline.server.web.app import create_app

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder
    from sightline.indexer.library import Library

NAMES = {
    "new\nline.jpg": "new_line.jpg",
    "carriage\rreturn\tand tab.jpg": "carriage_return_and tab.jpg",
    "red \x1b[31m.jpg": "red _[31m.jpg",
    'a "quote"; filename=b.jpg': 'a "quote"; filename=b.jpg',
    "Évora\n\u2028.jpg": "Évora_\u2028.jpg",
}
"""Names of files, and what a download is called."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder) -> Iterator[Library]:
    """Two equal files of each name."""
    folder = tmp_path_factory.mktemp("names")
    for place in ("a", "b"):
        (folder / "pictures" / place).mkdir(parents=True)
        for seed, name in enumerate(NAMES):
            (folder / "pictures" / place / name).write_bytes(as_bytes(draw(seed)))
    with make_library(folder / "library", tiny_encoder, folder / "pictures") as made:
        yield made


def test_a_file_of_any_name_can_be_downloaded(library: Library, tiny_encoder: Encoder) -> None:
    found = {}
    with SearchEngine(library, tiny_encoder) as engine:
        client = client_of(create_app(engine))
        for record in library.images(library.select().tolist()):
            answer = client.get(f"/images/{record.id}?download=1")
            assert answer.status_code == 200
            kind, options = parse_options_header(answer.headers["Content-Disposition"])
            assert kind == "attachment"
            found[Path(record.path).name] = options["filename"]
    assert found == NAMES


def test_null_and_json_output_give_paths_that_exist(
    library: Library, capsys: pytest.CaptureFixture
) -> None:
    where = ["duplicates", "--copies", "--library", str(library.directory)]
    assert run([*where, "--paths-only", "-0"]) == 0
    paths = capsys.readouterr().out.split("\0")[:-1]
    assert {Path(path).name for path in paths} == set(NAMES)
    assert all(Path(path).is_file() for path in paths)
    assert run([*where, "--json"]) == 0
    groups = json.loads(capsys.readouterr().out)["groups"]
    assert all(Path(one["absolute"]).is_file() for group in groups for one in group["images"])


def test_lists_for_people_have_no_control_characters(
    library: Library, capsys: pytest.CaptureFixture
) -> None:
    assert run(["duplicates", "--copies", "--library", str(library.directory)]) == 0
    lines = capsys.readouterr().out.split("\n")
    assert all(line.isprintable() or "\u2028" in line for line in lines)
    assert any("red ?[31m.jpg" in line for line in lines)


EVIL = "evil \x1b[2J\n\x85[bold] pictures"


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder) -> Iterator[Library]:
    """A library whose folder has control characters and markup in its name, and does not exist."""
    folder = tmp_path_factory.mktemp("evil")
    (folder / EVIL).mkdir()
    (folder / EVIL / "a.jpg").write_bytes(as_bytes(draw(1)))
    (folder / EVIL / "b.jpg").write_bytes(b"no photo")
    with make_library(folder / "library", tiny_encoder, folder / EVIL) as made:
        (folder / EVIL).rename(folder / "gone")
        yield made


@pytest.mark.parametrize("command", ["roots", "status", "failures", "doctor", "index"])
def test_names_of_folders_are_sanitised_in_lists_notes_and_progress(
    evil: Library, command: str, capsys: pytest.CaptureFixture
) -> None:
    run([command, "--library", str(evil.directory)])
    printed = capsys.readouterr()
    assert "evil ?[2J??[bold] pictures" in printed.out + printed.err
    for line in (printed.out + printed.err).split("\n"):
        assert line.isprintable()


def test_json_names_the_folder_as_it_is(evil: Library, capsys: pytest.CaptureFixture) -> None:
    assert run(["roots", "--json", "--library", str(evil.directory)]) == 0
    [root] = json.loads(capsys.readouterr().out)
    assert Path(root["path"]).name == EVIL


def read_until(screen: FileIO, wanted: bytes) -> bytes:
    """What the terminal shows up to ``wanted``, which arrives in pieces; empty if it does not."""
    data = b""
    while select([screen], [], [], 20)[0]:
        data += screen.read(10_000) or b""
        if wanted in data:
            return data
    return b""


def test_a_progress_bar_shows_names_without_control_characters_and_markup(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    main, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as out, os.fdopen(main, "rb", buffering=0) as screen:
        monkeypatch.setattr("sys.stderr", out)
        with terminal_bar() as show:
            show(f"looking at {EVIL}[/x]", 1, 2)
        out.flush()
        assert read_until(screen, b"evil ?[2J??[bold]")


def test_an_error_names_a_path_without_control_characters(capsys: pytest.CaptureFixture) -> None:
    assert run(["status", "--library", f"/nowhere/{EVIL}"]) != 0
    assert "\x1b" not in capsys.readouterr().err


def test_a_path_is_sanitised_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    main, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as out, os.fdopen(main, "rb", buffering=0) as screen:
        monkeypatch.setattr("sys.stdout", out)
        print_path(Path("red \x1b[31m\n.jpg"), null=False)
        out.flush()
        assert read_until(screen, b"\n").rstrip() == b"red ?[31m?.jpg"
