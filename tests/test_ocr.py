"""Text in images is read once, stored, and found by its words."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
from helpers_client import client_of
from helpers_library import as_bytes, draw, empty_library
from PIL import Image, ImageDraw, ImageFont
from rapidocr import RapidOCR

from sightline.indexer.encoder import Encoder
from sightline.indexer.indexing import read_texts as reading
from sightline.indexer.indexing.index_folders import index_folders
from sightline.indexer.indexing.read_texts import read_texts
from sightline.indexer.indexing.run import update_library
from sightline.indexer.library import Library
from sightline.indexer.photo import Decoder
from sightline.indexer.photo.ocr import TextReader, in_reading_order, is_plausible
from sightline.indexer.types import Condition, Filters, IndexReport, TextLine
from sightline.server.cli import run
from sightline.server.search import SearchEngine
from sightline.server.web.app import create_app

PATIENCE = 180
"""Seconds until a test gives up: workers that read text have a low priority."""

SIGNS = {
    "sign": ("Harbour Museum", "Street 12"),
    "bill": ("INVOICE 4711", "Total amount due 19.90"),
}


def sign(lines: tuple[str, ...]) -> Image.Image:
    """Dark lines of text on a pale plate."""
    plate = Image.new("RGB", (900, 120 * len(lines) + 60), "#f2efe6")
    pen = ImageDraw.Draw(plate)
    for n, line in enumerate(lines):
        pen.text((60, 40 + 120 * n), line, fill="#202020", font=ImageFont.load_default(64))
    return plate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two signs and a picture without text."""
    root = tmp_path_factory.mktemp("signs")
    for name, lines in SIGNS.items():
        (root / f"{name}.jpg").write_bytes(as_bytes(sign(lines), quality=92))
    (root / "plain.jpg").write_bytes(as_bytes(draw(7)))
    return root


@pytest.fixture(scope="module")
def library(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder
) -> Iterator[Library]:
    """A library of them; the text of all was read."""
    with empty_library(tmp_path_factory.mktemp("ocr") / "library", tiny_encoder) as made:
        update_library(made, tiny_encoder, [folder], workers=1)
        report = read_texts(made, workers=1)
        assert (report.read, report.with_text, report.failed, report.skipped) == (3, 2, 0, 0)
        yield made


def found(library: Library, value: str, *, name: str = "text") -> list[str]:
    ids = library.select(Filters((Condition(name, value),)))
    return sorted(record.path.removesuffix(".jpg") for record in library.images(ids.tolist()))


def lines_of(library: Library, name: str) -> list[TextLine]:
    (record,) = (r for r in library.images(library.select().tolist()) if r.path == f"{name}.jpg")
    return library.texts([record.id]).get(record.id, [])


# reading ------------------------------------------------------------------------------------------


def test_the_lines_are_read_with_their_boxes(library: Library) -> None:
    first, second = lines_of(library, "sign")
    assert (first.text, second.text) == SIGNS["sign"]
    assert min(first.confidence, second.confidence) > 0.8
    left, top, right, bottom = first.box
    assert 0.03 < left < 0.1 < right < 0.7
    assert 0.05 < top < bottom < second.box[1] + 0.05
    assert lines_of(library, "plain") == []


@pytest.mark.parametrize(
    ("text", "plausible"),
    [
        ("Exit", True),
        ("出口", True),
        ("B 12", True),
        ("O", False),
        ("||", False),
        ("-/.-i_", False),
        ("", False),
    ],
)
def test_what_no_person_writes_is_left_out(text: str, plausible: bool) -> None:
    assert is_plausible(text) is plausible


def test_small_lines_are_in_reading_order() -> None:
    places = ((0.30, 0.01), (0.60, 0.011), (0.31, 0.03), (0.29, 0.05), (0.32, 0.07))
    lines = [
        TextLine(str(n), 1.0, (left, top, left + 0.2, top + 0.018))
        for n, (left, top) in enumerate(places)
    ]
    assert in_reading_order([lines[n] for n in (3, 1, 4, 0, 2)]) == lines


def test_a_photo_in_which_only_the_whole_looks_like_text_is_not_read_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    boxes: list[int] = []
    call = RapidOCR.__call__

    def counted(engine: RapidOCR, *arguments: Any, **options: Any) -> Any:
        found = call(engine, *arguments, **options)
        boxes.append(len(found.boxes))
        return found

    monkeypatch.setattr(RapidOCR, "__call__", counted)
    reader = TextReader()
    assert reader.read(draw(7)) == []
    assert boxes == [1], "the detector finds a box, and no second pass follows"
    assert [line.text for line in reader.read(sign(SIGNS["bill"]))] == [*SIGNS["bill"]]
    assert len(boxes) == 3


def test_text_is_found_from_a_few_pixels_to_the_whole_image() -> None:
    reader = TextReader()
    word = Image.new("RGB", (900, 300), "#f2efe6")
    pen = ImageDraw.Draw(word)
    pen.text((450, 150), "EXIT", "#202020", ImageFont.load_default(280), anchor="mm")
    assert [line.text for line in reader.read(word)] == ["EXIT"]
    small, ink = Image.new("RGB", (400, 533), "#b0a890"), Image.new("L", (400, 533))
    ImageDraw.Draw(ink).text((100, 250), "Museum closed", 255, ImageFont.load_default(8))
    small.paste("#807860", (0, 0), ink.rotate(6, Image.Resampling.BICUBIC))
    (line,) = reader.read(small)
    assert "closed" in line.text
    assert reader.read(Image.new("RGB", (1600, 1), "white")) == []


def test_what_was_read_is_not_read_again(library: Library) -> None:
    assert read_texts(library, workers=1).read == 0


def test_a_stopped_run_continues_and_a_changed_image_is_read_again(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    image = tmp_path / "pictures" / "sign.jpg"
    image.parent.mkdir()
    image.write_bytes(as_bytes(sign(("Museum",))))
    with empty_library(tmp_path / "library", tiny_encoder) as library:
        update_library(library, tiny_encoder, [image.parent], workers=1)
        stop = threading.Event()
        stop.set()
        stopped = read_texts(library, workers=1, stop=stop)
        assert (stopped.read, stopped.interrupted) == (0, True)
        assert read_texts(library, workers=1).with_text == 1
        assert found(library, "museum") == ["sign"]
        image.write_bytes(as_bytes(sign(("Garage",))))
        (image.parent / "copy.jpg").write_bytes(image.read_bytes())
        assert read_texts(library, workers=1).read == 0, "the catalog does not know it yet"
        update_library(library, tiny_encoder, workers=1)
        assert found(library, "museum") == []
        image.write_bytes(b"changed again")
        report = read_texts(library, workers=1)
        assert (report.read, report.skipped) == (1, 1)
        assert found(library, "garage") == ["copy"]


def test_an_interrupted_run_keeps_what_was_read(
    folder: Path, tmp_path: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BATCH", 1)
    pictures = Path(shutil.copytree(folder, tmp_path / "pictures"))
    with empty_library(tmp_path / "library", tiny_encoder) as library:
        update_library(library, tiny_encoder, [pictures], workers=1)

        def fail(phase: str, done: int, total: int | None) -> None:
            if done == 2:
                raise RuntimeError

        with pytest.raises(RuntimeError):
            read_texts(library, workers=1, progress=fail)
        assert len(library.catalog.unread()) == 1, "of three images two were stored"
        (pictures / "again.jpg").write_bytes(as_bytes(sign(("Museum",))))
        update_library(library, tiny_encoder, [pictures], workers=1)
        stop = threading.Event()

        def interrupt(phase: str, done: int, total: int | None) -> None:
            if done == 1:
                stop.set()

        stopped = read_texts(library, workers=1, progress=interrupt, stop=stop)
        assert (stopped.read, stopped.interrupted, stopped.skipped) == (1, True, 0)
        assert len(library.catalog.unread()) == 1
        assert read_texts(library, workers=1).read == 1
        assert library.catalog.text_count == 3


def test_an_image_that_crashes_its_workers_fails_alone(
    folder: Path, tmp_path: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crashing(Decoder):
        """Its workers receive SIGSEGV while they read ``bill.jpg``."""

        def _call(self, name: str, *arguments: Any) -> Any:
            call = super()._call
            if name != "read_text" or arguments[0].path != "bill.jpg":
                return call(name, *arguments)
            with ThreadPoolExecutor(1) as pool:
                outcome = pool.submit(call, name, *arguments)
                while not outcome.done():
                    for pid in self.pids:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGSEGV)
                    wait([outcome], 0.02)
                return outcome.result()

    monkeypatch.setattr(reading, "Decoder", Crashing)
    with empty_library(tmp_path / "library", tiny_encoder) as library:
        update_library(library, tiny_encoder, [folder], workers=1)
        report = read_texts(library, workers=1)
        assert (report.read, report.failed, report.with_text) == (3, 1, 1)
        assert found(library, "harbour") == ["sign"]
        assert found(library, "invoice") == []
        assert read_texts(library, workers=1).read == 0, "the image would crash again"


# finding ------------------------------------------------------------------------------------------


def test_text_finds_exact_words_phrases_and_prefixes(library: Library) -> None:
    assert found(library, "invoice") == found(library, "INVO*") == ["bill"]
    assert found(library, "múseum") == found(library, "Harbour Museum") == ["sign"]
    assert found(library, "amount due") == found(library, "total am*") == ["bill"]
    assert found(library, "invo") == found(library, "due amount") == found(library, "bill") == []


def test_text_in_images_counts_as_words(library: Library, tiny_encoder: Encoder) -> None:
    assert library.full_text_search("invoice bill", 5).size == 1
    with SearchEngine(library, tiny_encoder) as engine:
        assert engine.search("invoice").hits[0].path == "bill.jpg"


def test_hits_show_the_lines_that_hold_the_words(library: Library, tiny_encoder: Encoder) -> None:
    with SearchEngine(library, tiny_encoder) as engine:
        (hit,) = engine.search("text:tot*").hits
        assert hit.snippet == "Total amount due 19.90"
        assert engine.search("harbour").hits[0].snippet == "Harbour Museum"
        assert engine.search("").hits[0].snippet is None
        client = client_of(create_app(engine))
        answer = client.get("/api/search?q=text:invoice").json
        assert answer["hits"][0]["snippet"] == "INVOICE 4711"
        image = client.get(f"/api/images/{answer['hits'][0]['id']}").json
        assert [line["text"] for line in image["text"]] == [*SIGNS["bill"]]
        assert client.get("/api/search?q=text:%22!%22").status_code == 400


# commands -----------------------------------------------------------------------------------------


def test_the_commands_read_and_report(
    folder: Path,
    tmp_path: Path,
    tiny_encoder: Encoder,
    capsys: pytest.CaptureFixture[str],
) -> None:
    library = tmp_path / "library"
    with empty_library(library, tiny_encoder) as made:
        update_library(made, tiny_encoder, [folder], workers=1)
    options = ["--library", str(library), "--json"]
    assert run(["ocr", *options, "--quiet", "--workers", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["with_text"] == 2
    assert run(["status", *options]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["with_text"], status["reads_text"]) == (2, False)


def test_the_setting_of_a_library_applies_to_later_runs(
    folder: Path, tmp_path: Path, tiny_encoder: Encoder
) -> None:
    with empty_library(tmp_path / "library", tiny_encoder) as library:
        one = tmp_path / "one"
        one.mkdir()
        (one / "bill.jpg").write_bytes((folder / "bill.jpg").read_bytes())
        first = index_folders(library, one, encoder=tiny_encoder, workers=1, ocr=True)
        assert (first.added, first.texts_read, library.catalog.reads_text) == (1, 1, True)
        (one / "sign.jpg").write_bytes((folder / "sign.jpg").read_bytes())
        assert index_folders(library, encoder=tiny_encoder, workers=1).texts_read == 1
        (one / "plain.jpg").write_bytes((folder / "plain.jpg").read_bytes())
        assert index_folders(library, encoder=tiny_encoder, workers=1, ocr=False).texts_read == 0
        assert found(library, "harbour") == ["sign"]


def test_a_watched_folder_is_read_as_it_changes(
    folder: Path, tmp_path: Path, tiny_encoder: Encoder
) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    (watched / "bill.jpg").write_bytes((folder / "bill.jpg").read_bytes())
    reports: queue.Queue[IndexReport] = queue.Queue()
    stop = threading.Event()
    with empty_library(tmp_path / "library", tiny_encoder) as library:
        options: dict[str, Any] = {"encoder": tiny_encoder, "workers": 1, "ocr": True}
        options |= {"on_report": reports.put, "stop": stop}
        watching = threading.Thread(target=index_folders, args=(library, watched), kwargs=options)
        watching.start()
        try:
            first = reports.get(timeout=PATIENCE)
            assert (first.added, first.texts_read) == (1, 1)
            (watched / "sign.jpg").write_bytes((folder / "sign.jpg").read_bytes())
            later = reports.get(timeout=PATIENCE)
            assert (later.added, later.texts_read) == (1, 1)
            assert found(library, "harbour") == ["sign"]
        finally:
            stop.set()
            watching.join(PATIENCE)
