"""The command line: output, exit status, and errors of one line."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from helpers_library import as_bytes, draw, make_pictures
from PIL import Image

from sightline.indexer.encoder import Encoder, registry
from sightline.indexer.errors import LibraryBusyError
from sightline.indexer.indexing.encoders import encoder_for
from sightline.indexer.library import Library
from sightline.server.cli import COMMANDS, run
from sightline.server.commands.common import say, stopping
from sightline.server.commands.demo import draw as draw_gallery
from sightline.server.commands.hits import print_hits
from sightline.server.search import SearchEngine

TOP = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pictures(tmp_path_factory.mktemp("cli") / "Pictures")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, pictures: Path, tiny_clip: Path) -> Path:
    directory = tmp_path_factory.mktemp("cli-library") / "library"
    arguments = ["index", str(pictures), "--library", str(directory), "--model", str(tiny_clip)]
    assert run([*arguments, "--quiet"]) == 0
    return directory


class Result:
    """Exit status and output of one call."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def document(self) -> dict[str, object]:
        return json.loads(self.out)  # type: ignore[no-any-return]


class CommandLine:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: str | Path) -> Result:
        self.capsys.readouterr()
        status = run([str(argument) for argument in arguments])
        captured = self.capsys.readouterr()
        return Result(status, captured.out, captured.err)


@pytest.fixture
def sightline(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


def assert_one_line(result: Result, *words: str, status: int = 1) -> None:
    """The result is one line on standard error that contains ``words``."""
    assert result.status == status
    assert result.out == ""
    assert "Traceback" not in result.err
    lines = [line for line in result.err.splitlines() if not line.startswith(("Usage:", "Try "))]
    assert len([line for line in lines if line]) == 1, result.err
    for word in words:
        assert word in result.err


# index --------------------------------------------------------------------------------------------


def test_index_json_prints_one_document(
    sightline: CommandLine, tmp_path: Path, pictures: Path, tiny_clip: Path
) -> None:
    directory = tmp_path / "library"
    result = sightline(
        *("index", pictures, "--library", directory, "--model", tiny_clip, "--json", "--quiet")
    )
    assert result.status == 0
    report = result.document
    assert report["found"] == 66
    assert report["added"] == 65
    assert report["failed"] == 1
    assert [Path(failure["path"]).name for failure in report["failures"]] == ["broken.jpg"]  # type: ignore[index, attr-defined]
    assert report["library"] == str(directory)
    assert report["model"] == str(tiny_clip)
    assert oct(directory.stat().st_mode & 0o777) == "0o700"


def test_index_prints_a_summary_and_the_failures(sightline: CommandLine, library: Path) -> None:
    result = sightline("index", "--library", library)
    assert result.status == 0
    assert result.out.startswith("66 images found: 0 added, 65 unchanged, 1 failed")
    assert "broken.jpg" in result.err


def test_index_exclude_omits_matching_files(
    sightline: CommandLine, tmp_path: Path, pictures: Path, tiny_clip: Path
) -> None:
    result = sightline(
        *("index", pictures, "--library", tmp_path / "l", "--model", tiny_clip),
        *("--exclude", "Odd/", "--exclude", "IMG_000*", "--json", "--quiet"),
    )
    assert result.document["found"] == 50


def test_index_refuses_another_model_than_the_librarys(
    sightline: CommandLine, library: Path
) -> None:
    result = sightline("index", "--library", library, "--model", "builtin")
    assert_one_line(result, "was made with", "--library")


def test_first_index_requires_a_folder(sightline: CommandLine, tmp_path: Path) -> None:
    assert_one_line(
        sightline("index", "--library", tmp_path / "new"), "sightline index FOLDER", status=2
    )
    assert not (tmp_path / "new").exists()


def test_index_of_a_missing_folder_creates_no_library(
    sightline: CommandLine, tmp_path: Path
) -> None:
    result = sightline("index", tmp_path / "nowhere", "--library", tmp_path / "new")
    assert_one_line(result, "nowhere", status=2)
    assert not (tmp_path / "new").exists()


def test_index_creates_no_library_in_a_folder_with_other_files(
    sightline: CommandLine, tmp_path: Path, pictures: Path
) -> None:
    result = sightline("index", pictures, "--library", pictures, "--model", "builtin")
    assert_one_line(result, str(pictures))
    assert not (pictures / "catalog.db").exists()


def test_index_of_an_unknown_model_names_sightline_models(
    sightline: CommandLine, tmp_path: Path, pictures: Path
) -> None:
    result = sightline("index", pictures, "--library", tmp_path / "l", "--model", "no-such-model")
    assert_one_line(result, "no-such-model", "sightline models")
    assert not (tmp_path / "l").exists()


def test_index_without_a_network_suggests_the_builtin_model(
    sightline: CommandLine, tmp_path: Path, pictures: Path
) -> None:
    result = sightline("index", pictures, "--library", tmp_path / "l")
    assert_one_line(result, "--model builtin")


def test_ctrl_c_stops_an_indexing_run_and_keeps_its_results(
    tmp_path: Path, tiny_clip: Path
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    # Enough that the run has not ended when the signal arrives.
    drawn = [as_bytes(draw(seed, (200, 150))) for seed in range(20)]
    for number in range(4000):
        (folder / f"{number}.jpg").write_bytes(drawn[number % 20] + b"%d" % number)
    directory = tmp_path / "library"
    command = [sys.executable, "-m", "sightline", "index", str(folder), "--workers", "1"]
    command += ["--library", str(directory), "--model", str(tiny_clip), "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=TOP
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("indexing"):
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert out, err
    report = json.loads(out)
    assert report["interrupted"]
    assert "interrupted; run" not in out
    with Library.open(directory, read_only=True) as library:
        assert library.count == report["added"] > 0
        assert library.catalog.check() == []


def test_ctrl_c_while_a_line_is_written_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(io.RawIOBase):
        calls = 0

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.calls += 1
            if self.calls == 1:
                signal.raise_signal(signal.SIGINT)
            return len(data)

    error = io.TextIOWrapper(io.BufferedWriter(Interrupted()))
    monkeypatch.setattr(sys, "stderr", error)
    with stopping() as stop:
        say("indexing: 32 of 4000")
    assert stop.is_set()


# search -------------------------------------------------------------------------------------------


def test_search_prints_score_id_and_path(sightline: CommandLine, library: Path) -> None:
    result = sightline("search", "soft blots of colour", "-k", "5", "--library", library)
    assert result.status == 0
    lines = result.out.splitlines()
    assert len(lines) == 5
    score, number, path = lines[0].split(maxsplit=2)
    assert -1 <= float(score) <= 1
    assert int(number) > 0
    assert Path(path).is_file()


def test_a_text_search_imports_no_torch_faiss_or_pillow_and_a_repeated_one_needs_no_model(
    library: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "library"
    shutil.copytree(library, copy)
    program = (
        "import sys\n"
        "from sightline.indexer.encoder import Encoder\n"
        "from sightline.server.cli import run\n"
        "encode = Encoder.encode_texts\n"
        "encoded = []\n"
        "Encoder.encode_texts = lambda self, texts: encoded.extend(texts) or encode(self, texts)\n"
        "status = run(sys.argv[1:])\n"
        "slow = {'torch', 'faiss', 'PIL', 'tokenizers', 'rapidfuzz', 'py3langid', 'filelock',\n"
        "    'sqlite_utils', 'numpy.ma'}\n"
        "print(status, encoded, *slow & set(sys.modules))\n"
    )
    command = [sys.executable, "-c", program, "search", "red light", "--library", str(copy)]
    lines = [
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        for _ in range(2)
    ]
    assert [found[-1] for found in lines] == ["0 ['red light'] tokenizers", "0 []"]
    assert lines[0][:-1] == lines[1][:-1]
    stored = copy / "text-vectors.db"
    assert stored.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("option", "status"), [("--version", 0), ("--no-such-option", 2)])
def test_a_command_ends_with_its_status_before_its_modules_are_destroyed(
    option: str, status: int
) -> None:
    program = (
        "import atexit, sys\n"
        "from sightline.server.cli import main\n"
        "class Object:\n"
        "    def __del__(self):\n"
        "        print('destroyed')\n"
        "global_object = Object()\n"
        "atexit.register(lambda: print('exit handler'))\n"
        "print('started')\n"
        "main(sys.argv[1:])\n"
    )
    command = [sys.executable, "-c", program, option]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == status
    lines = ended.stdout.splitlines()
    assert (lines[0], lines[-1]) == ("started", "exit handler")


def test_search_by_image_finds_that_image(
    sightline: CommandLine, library: Path, pictures: Path
) -> None:
    wanted = pictures / "Home" / "IMG_0009.jpg"
    result = sightline("search", "--image", wanted, "--json", "--library", library)
    [first, *_] = result.document["hits"]  # type: ignore[misc]
    assert first["absolute"] == str(wanted)
    like = sightline("search", "--like", first["id"], "--json", "--library", library)
    assert like.status == 0


def test_search_combines_text_images_and_filters(
    sightline: CommandLine, library: Path, pictures: Path
) -> None:
    result = sightline(
        *("search", "2:colour -night in:Home after:2020", "--library", library, "-k", "100"),
        *("-i", pictures / "Home/IMG_0009.jpg", "-i", pictures / "Home/IMG_0012.jpg", "--json"),
    )
    document = result.document
    assert 0 < document["total"] < 20  # type: ignore[operator]
    assert all("Home" in hit["absolute"] for hit in document["hits"])  # type: ignore[attr-defined]


def test_search_prints_paths_for_pipes(sightline: CommandLine, library: Path) -> None:
    lines = sightline("search", "type:png", "--paths-only", "--library", library)
    assert [Path(line).name for line in lines.out.splitlines()] == ["sign #1 % of 'x'.png"]
    zeros = sightline("search", "in:Odd", "-0", "--library", library)
    paths = zeros.out.split("\0")
    assert paths.pop() == ""
    assert len(paths) == 5, "near-duplicates are not folded"
    assert all(Path(path).is_file() for path in paths)


def test_search_prints_hits_by_a_template(sightline: CommandLine, library: Path) -> None:
    arguments = ("search", "blots", "-k", "3", "--library", library)
    hits = sightline(*arguments, "--json").document["hits"]
    result = sightline(*arguments, "--format", r"{relevance:.2f}\t{absolute}\t{lens}")
    assert result.out.splitlines() == [
        f"{hit['relevance']:.2f}\t{hit['absolute']}\t"
        for hit in hits  # type: ignore[attr-defined]
    ]
    zeros = sightline(*arguments, "--format", "{id:>5}", "-0").out
    assert [int(number) for number in zeros.split("\0")[:-1]] == [
        hit["id"]
        for hit in hits  # type: ignore[attr-defined]
    ]


@pytest.mark.parametrize(
    "template", ["{nothing}", "{path.__class__}", "{0}", "{}", "{id", "{path:d}", "{id!x}"]
)
def test_an_invalid_template_is_an_error_of_one_line(
    sightline: CommandLine, library: Path, template: str
) -> None:
    result = sightline("search", "blots", "--format", template, "--library", library)
    assert_one_line(result, "--format", status=2)


def test_search_prints_a_line_of_json_for_each_hit(sightline: CommandLine, library: Path) -> None:
    arguments = ("search", "blots", "-k", "3", "--library", library)
    lines = sightline(*arguments, "--jsonl").out.splitlines()
    assert [json.loads(line) for line in lines] == sightline(*arguments, "--json").document["hits"]
    both = sightline(*arguments, "--jsonl", "--json")
    assert_one_line(both, "exclude each other", status=2)


def test_search_fails_without_matches_if_a_script_asks_for_it(
    sightline: CommandLine, library: Path
) -> None:
    arguments = ("search", "--fail-empty", "--json", "--library", library)
    assert sightline(*arguments, "in:Nowhere").status == 1
    found = sightline(*arguments, "in:Home")
    assert (found.status, sightline(*arguments[:1], *arguments[2:], "in:Nowhere").status) == (0, 0)
    searched = sightline(*arguments, "blots")
    matches = any(hit["match"] for hit in searched.document["hits"])  # type: ignore[attr-defined]
    assert searched.status == (0 if matches else 1)


def test_search_offers_a_correction_and_searches_for_what_was_typed(
    sightline: CommandLine, library: Path
) -> None:
    result = sightline("search", "lihgthouse", "-k", "2", "--library", library)
    assert len(result.out.splitlines()) == 2
    assert result.err.splitlines()[-1] == "Did you mean lighthouse?"
    assert "Did you mean in:Odd?" in sightline("search", "folder:Odd", "--library", library).err
    document = sightline("search", "lihgthouse", "--json", "--library", library).document
    assert document["query"] == "lihgthouse"
    assert document["correction"] == {"text": "lighthouse", "query": "lighthouse"}
    assert sightline("search", "red", "--json", "--library", library).document["correction"] is None
    for quiet in (["--paths-only"], ["-0"], ["--jsonl"], ["--format", "{id}"], ["--json"]):
        assert not sightline("search", "lihgthouse", *quiet, "--library", library).err


def test_search_opens_the_hits_in_the_browser(
    sightline: CommandLine, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import webbrowser

    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert sightline("search", "in:Odd", "--open", "--library", library).status == 0
    page = tmp_path / "sightline" / "search.html"
    assert opened == [page.as_uri()]
    assert page.stat().st_mode & 0o777 == 0o600
    text = page.read_text(encoding="utf-8")
    assert "sign #1 % of &#x27;x&#x27;.png" in text
    assert text.count("data:image/webp;base64,") >= 4


@pytest.mark.parametrize(
    ("answer", "options", "shown"),
    [
        (b"\x1b[?62;4c", [], True),  # a terminal with sixel
        (b"\x1b[?62;4c", ["--no-previews"], False),
        (b"\x1b[?62c", [], False),
        (b"\x1b[?62;4c", ["--paths-only"], False),
    ],
)
def test_search_shows_previews_in_terminals_that_can(
    library: Path, answer: bytes, options: list[str], shown: bool
) -> None:
    import fcntl
    import pty
    import struct
    import termios

    # The library that draws images gives a terminal a tenth of a second to say what it can.
    program = (
        "import sys\n"
        "from textual_image import _terminal\n"
        "from sightline.server.cli import main\n"
        "capture = _terminal.capture_terminal_response\n"
        "def patient(start_marker, end_marker, timeout):\n"
        "    return capture(start_marker, end_marker, 60 if end_marker == 'c' else timeout)\n"
        "_terminal.capture_terminal_response = patient\n"
        "main(sys.argv[1:])\n"
    )
    command = [sys.executable, "-c", program, "search", "in:Odd", "--library", str(library)]
    terminal, child_end = pty.openpty()
    fcntl.ioctl(child_end, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 1200, 1000))
    with subprocess.Popen(
        [*command, *options], stdin=child_end, stdout=child_end, stderr=subprocess.DEVNULL, cwd=TOP
    ) as process:
        os.close(child_end)
        output = b""
        while True:
            try:
                block = os.read(terminal, 65536)
            except OSError:  # the child has closed its end
                break
            if not block:
                break
            if b"\x1b[c" in block:
                os.write(terminal, answer)
            output += block
    os.close(terminal)
    assert process.returncode == 0
    assert b"copy.jpg" in output
    assert (b"\x1bP" in output) == shown


def test_invalid_searches_are_errors_of_one_line(
    sightline: CommandLine, library: Path, pictures: Path
) -> None:
    assert_one_line(sightline("search", "--library", library), "--image", status=2)
    assert_one_line(
        sightline("search", "after:yesterday", "--library", library), "after:", status=2
    )
    assert_one_line(sightline("search", "x", "-k", "0", "--library", library), "-k", status=2)
    assert_one_line(sightline("search", "--like", "999", "--library", library), "999")
    broken = pictures / "Odd" / "broken.jpg"
    assert_one_line(sightline("search", "-i", broken, "--library", library), "image", status=2)
    assert_one_line(
        sightline("search", "-i", "nowhere.jpg", "--library", library), "nowhere.jpg", status=2
    )


def test_a_message_about_the_hits_is_printed_before_them(
    library: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        Library.open(library, read_only=True) as opened,
        SearchEngine(opened, encoder_for(opened)) as engine,
    ):
        result = replace(engine.search("blots", k=2), message="Closest results:")
        monkeypatch.setattr(sys, "stderr", sys.stdout)
        print_hits(result, previews=False)
    first, *hits = capsys.readouterr().out.splitlines()
    assert first == "Closest results:"
    assert len(hits) >= len(result.hits) == 2


def test_two_demos_do_not_draw_the_same_gallery(tmp_path: Path) -> None:
    busy = pytest.raises(LibraryBusyError, match="another `sightline demo`")
    with FileLock(tmp_path / "gallery.lock"), busy:
        draw_gallery(tmp_path / "gallery", quiet=True)


def test_a_command_without_standard_output_is_not_an_error(library: Path) -> None:
    command = f"{sys.executable} -m sightline status --library {library} >&-"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=TOP)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_closed_pipe_is_not_an_error(library: Path) -> None:
    command = f"{sys.executable} -m sightline search blots --paths-only --library {library}"
    result = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | head -0"],
        capture_output=True,
        text=True,
        cwd=TOP,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert result.stderr == ""


# managing a library --------------------------------------------------------------------------


def test_status_reports_the_library(sightline: CommandLine, library: Path, pictures: Path) -> None:
    facts = sightline("status", "--json", "--library", library).document
    assert facts["images"] == 65
    assert facts["failures"] == 1
    assert facts["dimension"] == 32
    assert facts["index"]["count"] + facts["index"]["pending"] == 65  # type: ignore[index]
    text = sightline("status", "--library", library).out
    for word in ("65", "32 dimensions", "sightline failures", str(pictures)):
        assert word in text


def test_failures_are_listed_with_reasons(
    sightline: CommandLine, library: Path, pictures: Path
) -> None:
    result = sightline("failures", "--library", library)
    path, _, reason = result.out.strip().partition(": ")
    assert path == str(pictures / "Odd/broken.jpg")
    assert reason


def test_roots_moves_and_forgets_folders(
    sightline: CommandLine, tmp_path: Path, tiny_clip: Path
) -> None:
    old, new, directory = tmp_path / "old", tmp_path / "new", tmp_path / "library"
    old.mkdir()
    (old / "a.jpg").write_bytes(as_bytes(draw(1)))
    sightline("index", old, "--library", directory, "--model", tiny_clip, "--quiet")
    old.rename(new)
    assert "not available" in sightline("roots", "--library", directory).out
    result = sightline("roots", "--move", old, new, "--library", directory)
    assert result.status == 0
    assert "not available" not in result.out
    report = sightline("index", "--library", directory, "--json", "--quiet").document
    assert (report["unchanged"], report["added"]) == (1, 0)
    assert_one_line(sightline("roots", "--move", old, new, "--library", directory), str(old))
    sightline("roots", "--forget", new, "--library", directory)
    assert sightline("status", "--json", "--library", directory).document["images"] == 0


def test_a_deleted_index_is_rebuilt(sightline: CommandLine, library: Path) -> None:
    before = sightline("search", "blots", "--json", "--library", library).document
    for path in (library / "index").glob("*"):
        path.unlink()
    after = sightline("search", "blots", "--json", "--library", library).document
    assert [hit["id"] for hit in after["hits"]] == [hit["id"] for hit in before["hits"]]  # type: ignore[attr-defined]
    assert sightline("rebuild", "--quiet", "--library", library).status == 0
    again = sightline("search", "blots", "--json", "--library", library).document
    assert [hit["id"] for hit in again["hits"]] == [hit["id"] for hit in before["hits"]]  # type: ignore[attr-defined]


def test_models_lists_licences_and_the_default(sightline: CommandLine) -> None:
    text = sightline("models").out
    assert "laion-b32 *" in text
    assert "CC-BY-NC-4.0" in text
    documents = json.loads(sightline("models", "--json").out)
    assert [model["name"] for model in documents if model["default"]] == ["laion-b32"]


def test_models_has_a_line_of_80_columns_for_each_model(sightline: CommandLine) -> None:
    lines = sightline("models").out.splitlines()
    assert len(lines) == 1 + len(registry.MODELS)
    assert max(map(len, lines)) <= 80
    weights = (TOP / "data" / "builtin" / "model.safetensors").stat().st_size / 1e6
    (builtin,) = (line for line in lines if line.startswith("builtin "))
    assert weights - 1 <= int(builtin.split()[1]) <= weights + 3


def test_models_shows_one_model_whole(sightline: CommandLine) -> None:
    for model in registry.MODELS:
        text = sightline("models", model.name).out
        assert model.note in text
        assert model.licence in text
        assert f"{model.dimension} dimensions" in text
    document = sightline("models", "builtin", "--json").document
    assert (document["name"], document["download_mb"]) == ("builtin", 0)
    assert document["size_mb"] > 10  # type: ignore[operator]
    assert_one_line(sightline("models", "nothing"), "no model is called", status=2)


# errors -------------------------------------------------------------------------------------------


def test_serve_loads_the_model_once_to_index_and_to_search(
    tmp_path: Path, pictures: Path, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, loaded, served = Encoder.load, [], []

    def load_and_record(*arguments: Any, **options: Any) -> Encoder:
        loaded.append(load(*arguments, **options))
        return loaded[-1]

    monkeypatch.setattr(Encoder, "load", load_and_record)
    monkeypatch.setattr(registry, "DEFAULT", str(tiny_clip))
    monkeypatch.setattr(
        "sightline.server.commands.serve.run_server",
        lambda engines, config, *, browse: served.append(
            (engines.latest.library.count, engines.latest.encoder)
        ),
    )
    asked = ["serve", str(pictures), "--library", str(tmp_path / "library"), "--device", "cpu"]
    for _ in ("a new library", "an existing one"):
        assert run(asked) == 0
        [(count, encoder)], [only] = served, loaded
        assert count
        assert encoder is only
        served.clear()
        loaded.clear()


@pytest.mark.parametrize("command", ["search x", "status", "failures", "roots", "rebuild", "serve"])
def test_commands_without_a_library_name_sightline_index(
    sightline: CommandLine, tmp_path: Path, command: str
) -> None:
    result = sightline(*command.split(), "--library", tmp_path / "nothing")
    assert_one_line(result, "sightline index FOLDER", "--library")


def test_a_foreign_database_is_an_error_and_unchanged(
    sightline: CommandLine, tmp_path: Path
) -> None:
    path = tmp_path / "catalog.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE holidays (place TEXT)")
    connection.close()
    before = path.read_bytes()
    assert_one_line(sightline("status", "--library", tmp_path), "catalog.db")
    assert_one_line(sightline("index", "--library", tmp_path), "catalog.db")
    assert path.read_bytes() == before


def test_a_library_of_a_newer_version_is_an_error(
    sightline: CommandLine, tmp_path: Path, tiny_clip: Path
) -> None:
    pictures = tmp_path / "p"
    pictures.mkdir()
    Image.new("RGB", (50, 50)).save(pictures / "a.png")
    directory = tmp_path / "library"
    sightline("index", pictures, "--library", directory, "--model", tiny_clip, "--quiet")
    with sqlite3.connect(directory / "catalog.db") as connection:
        connection.execute("PRAGMA user_version = 9999")
        connection.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at)"
            " VALUES ('catalog', 'from_the_future', '2999')"
        )
    connection.close()
    assert_one_line(sightline("status", "--library", directory), "newer")


def test_a_corrupt_catalog_is_an_error_and_unchanged(
    sightline: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "catalog.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    before = (tmp_path / "catalog.db").read_bytes()
    assert_one_line(sightline("search", "x", "--library", tmp_path), "catalog.db")
    assert (tmp_path / "catalog.db").read_bytes() == before


def test_a_full_disk_is_an_error_and_the_next_run_continues(
    tmp_path: Path, tiny_clip: Path
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for seed in range(120):
        (pictures / f"{seed}.jpg").write_bytes(as_bytes(draw(seed, (400, 300))))
    directory = tmp_path / "library"
    command = [sys.executable, "-m", "sightline", "index", str(pictures), "--quiet"]
    command += ["--library", str(directory), "--model", str(tiny_clip), "--workers", "1"]
    # A file size limit has the same effect as a full disk.
    full = subprocess.run(
        ["bash", "-c", 'ulimit -f 300; exec "$@"', "-", *command],
        capture_output=True,
        text=True,
        cwd=TOP,
    )
    assert full.returncode == 1
    assert len(full.stderr.splitlines()) == 1
    assert "full" in full.stderr
    subprocess.run(command, check=True, capture_output=True, cwd=TOP)
    with Library.open(directory, read_only=True) as library:
        assert library.count == 120
        assert library.catalog.check(library.thumbnails.ids()) == []


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(sightline: CommandLine, command: str) -> None:
    result = sightline(command, "--help")
    assert result.status == 0
    assert result.out.startswith(f"Usage: sightline {command}")


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["search", "--nonsense"], ["index", "--workers", "none"]]
)
def test_wrong_usage_exits_with_status_2(sightline: CommandLine, arguments: list[str]) -> None:
    assert_one_line(sightline(*arguments), status=2)
