"""Files with control characters and quotes in their names: downloads, terminals, pipes."""

from __future__ import annotations

import json
import os
import pty
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers_client import client_of
from helpers_library import as_bytes, draw, make_library
from werkzeug.http import parse_options_header

from sightline.server.cli import run
from sightline.server.commands.common import print_path
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


def test_a_path_is_sanitised_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    main, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as out, os.fdopen(main, "rb", buffering=0) as screen:
        monkeypatch.setattr("sys.stdout", out)
        print_path(Path("red \x1b[31m\n.jpg"), null=False)
        out.flush()
        assert screen.read(100).rstrip() == b"red ?[31m?.jpg"
