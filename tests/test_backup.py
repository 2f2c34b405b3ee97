"""Backup and restore of a library, also while an indexer writes to it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers_library import as_bytes, draw, make_library, make_pictures
from helpers_serving import TOP

from sightline.indexer.encoder import Encoder
from sightline.indexer.indexing import doctor
from sightline.indexer.library import Library
from sightline.server.cli import run
from sightline.server.search import SearchEngine

QUERIES = ("blots", "2:colour -night in:Home", "type:png", "like:3", "after:2020 sort:oldest")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder) -> Path:
    place = tmp_path_factory.mktemp("backup")
    make_library(place / "library", tiny_encoder, make_pictures(place / "pictures")).close()
    return place / "library"


def answers(directory: Path, encoder: Encoder) -> str:
    """Everything that clients get from a library, as JSON."""
    with Library.open(directory, read_only=True) as library, SearchEngine(library, encoder) as it:
        found: list[Any] = []
        for query in QUERIES:
            found.append(it.search(query, k=100).as_dict() | {"took_ms": 0})
        ids = library.select().tolist()
        found += [library.labels(ids), repr(library.images(ids)), library.vectors(ids).tolist()]
        found += [repr(library.failures()), library.roots(), repr(library.facets("camera"))]
        found += [(library.thumbnail(id) or b"").hex() for id in ids]
        found.append(library.status() | {"library": ""})
    return json.dumps(found)


def test_a_restored_library_answers_byte_for_byte_the_same(
    library: Path, tmp_path: Path, tiny_encoder: Encoder, capsys: pytest.CaptureFixture[str]
) -> None:
    before = answers(library, tiny_encoder)
    copy, restored = tmp_path / "copy", tmp_path / "restored"
    assert run(["backup", str(copy), "--library", str(library), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    with Library.open(library, read_only=True) as opened:
        assert document["images"] == opened.count
    assert document["bytes"] == sum(p.stat().st_size for p in copy.rglob("*") if p.is_file())
    assert answers(copy, tiny_encoder) == before
    assert run(["restore", str(copy), "--library", str(restored)]) == 0
    assert answers(restored, tiny_encoder) == before
    assert answers(library, tiny_encoder) == before
    assert restored.stat().st_mode & 0o777 == 0o700
    assert doctor.examine(restored) == []


def test_a_backup_made_while_an_indexer_writes_is_whole(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()

    def add(start: int, count: int) -> None:
        for seed in range(start, start + count):
            (pictures / f"{seed:03}.jpg").write_bytes(as_bytes(draw(seed, (64, 48))))

    add(0, 20)
    make_library(tmp_path / "library", tiny_encoder, pictures).close()
    add(20, 200)
    library, copy = tmp_path / "library", tmp_path / "copy"
    # After its first batch the run waits for the first backup, which closes its input.
    program = (
        "import sys; from sightline import index_folders\n"
        "def show(phase, done, total):\n"
        "    print(phase, done, flush=True)\n"
        "    if phase == 'indexing':\n"
        "        sys.stdin.read()\n"
        "index_folders(sys.argv[1], workers=1, progress=show)\n"
    )
    command = [sys.executable, "-c", program, str(library)]
    counts = []
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=TOP, **pipes) as indexing:
        assert indexing.stdin is not None
        assert indexing.stdout is not None
        for number, _ in enumerate(indexing.stdout):
            if number % 24:
                continue
            assert run(["backup", str(copy), "--library", str(library)]) == 0
            assert doctor.examine(copy) == []
            with (
                Library.open(copy, read_only=True) as made,
                SearchEngine(made, tiny_encoder) as engine,
            ):
                ids = made.select().tolist()
                assert len(engine.search("blots", k=1000, fold=False).hits) == len(ids)
                assert all(made.thumbnail(id) for id in ids)
                counts.append(len(ids))
            indexing.stdin.close()
    assert indexing.returncode == 0
    assert counts == sorted(counts)
    assert counts[0] < 220, "the first backup was made before the run ended"
    assert run(["backup", str(copy), "--library", str(library)]) == 0
    assert answers(copy, tiny_encoder) == answers(library, tiny_encoder)


def test_a_backup_replaces_an_earlier_one_and_nothing_else(
    library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "copy"
    for _ in range(2):
        assert run(["backup", str(target), "--library", str(library)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "letter.txt").write_text("dear")
    assert run(["backup", str(documents), "--library", str(library)]) == 1
    assert "holds other things" in capsys.readouterr().err
    assert (documents / "letter.txt").read_text() == "dear"
    assert run(["backup", str(library / "copy"), "--library", str(library)]) == 1
    assert "inside the library" in capsys.readouterr().err


def test_a_failed_backup_leaves_the_earlier_one(
    library: Path, tmp_path: Path, tiny_encoder: Encoder, capsys: pytest.CaptureFixture[str]
) -> None:
    target, broken = tmp_path / "copy", tmp_path / "broken"
    assert run(["backup", str(target), "--library", str(library)]) == 0
    before = answers(target, tiny_encoder)
    shutil.copytree(library, broken)
    size = (broken / "catalog.db").stat().st_size
    with (broken / "catalog.db").open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * (size // 4))
    assert run(["backup", str(target), "--library", str(broken)]) == 1
    assert "corrupt" in capsys.readouterr().err
    assert answers(target, tiny_encoder) == before
    assert {path.name for path in tmp_path.iterdir()} == {"copy", "broken"}


def test_restore_replaces_no_library(
    library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["backup", str(tmp_path / "copy"), "--library", str(library)]) == 0
    capsys.readouterr()
    assert run(["restore", str(tmp_path / "copy"), "--library", str(library)]) == 1
    assert "there is a library in" in capsys.readouterr().err
    assert run(["restore", str(tmp_path), "--library", str(tmp_path / "new")]) == 1
    assert "there is no library in" in capsys.readouterr().err
