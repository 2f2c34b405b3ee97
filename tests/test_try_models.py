"""``sightline models --try``: models side by side on a sample of photos."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from helpers_library import as_bytes, draw

from sightline.indexer.encoder import Encoder
from sightline.indexer.evaluation.evaluate import encode_files
from sightline.server.cli import run
from sightline.server.commands import try_models

PICTURES = 12


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos, one of them with markup in its name, and a file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(PICTURES):
        name = "a <b> & c.jpg" if number == 7 else f"{number:02}.jpg"
        (folder / name).write_bytes(as_bytes(draw(number, (160, 120))))
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def compared(
    photos: Path, capsys: pytest.CaptureFixture[str], *options: str | Path
) -> tuple[int, str, str]:
    """Exit status, output and errors of a comparison for "red"."""
    command = ["models", "--try", "red", "--images", photos, "--device", "cpu", "-q", *options]
    status = run([str(part) for part in command])
    return status, *capsys.readouterr()


def test_each_model_ranks_the_same_photos_and_its_speed_is_measured(
    photos: Path, tiny_clip: Path, tiny_encoder: Encoder, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = compared(photos, capsys, "--json", "--models", tiny_clip, "builtin")
    assert status == 0
    tiny, builtin = json.loads(out)
    assert [tiny["model"], builtin["model"]] == [str(tiny_clip), "builtin"]
    assert [tiny["images"], builtin["images"]] == [PICTURES, PICTURES]
    assert "1 photos could not be read" in err
    files = sorted(photos.glob("[0a]*")) + sorted(photos.glob("1*"))
    cosines = encode_files(tiny_encoder, files).vectors @ tiny_encoder.encode_texts(["red"])[0]
    best = files[int(np.argmax(cosines))]
    first = tiny["results"]["red"][0]
    assert first["path"] == str(best)
    assert first["score"] == pytest.approx(float(cosines.max()), abs=2e-3)
    for model in (tiny, builtin):
        assert len(model["results"]["red"]) == try_models.RESULTS
        assert list(model["hours"]) == [str(PICTURES + 1), "10000", "100000"]
        per_hour = model["images_per_second"] * 3600
        assert model["hours"]["100000"] == pytest.approx(100_000 / per_hour, rel=0.01)


def test_a_sample_of_a_large_folder_is_tried_the_same_for_every_model(
    photos: Path,
    tiny_clip: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(try_models, "SAMPLE", 4)
    _, out, _ = compared(photos, capsys, "--json", "--models", tiny_clip, "builtin")
    tiny, builtin = json.loads(out)
    paths = [{one["path"] for one in model["results"]["red"]} for model in (tiny, builtin)]
    assert paths[0] == paths[1]
    assert len(paths[0]) in (3, 4)  # the broken file may be in the sample
    assert str(PICTURES + 1) in tiny["hours"]


def test_the_page_holds_everything_and_escapes_names(
    photos: Path, tiny_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    options = ("--html", page, "--models", tiny_clip, "builtin", "--try", "<i>blue</i>")
    status, out, _ = compared(photos, capsys, *options)
    assert status == 0
    text = page.read_text(encoding="utf-8")
    shown = re.findall(r'<img alt="[^"]*" src="data:image/webp;base64,[\w+/=]+">', text)
    assert len(shown) == text.count("<img") == 4 * try_models.RESULTS
    assert not re.search(r"https?:|<script|url\(|<link", text)
    assert "&lt;i&gt;blue&lt;/i&gt;" in text
    assert "<b> &" not in text
    for line in ("images/s here", "100,000 photos in"):
        assert line in text
        assert line in out
    assert out.count("red") >= 1


def test_models_that_are_not_here_are_not_downloaded(
    photos: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(
        "sightline.indexer.encoder.model_files._download",
        lambda *arguments: pytest.fail("something was downloaded"),
    )
    status, _, err = compared(photos, capsys, "--models", "builtin", "laion-b32")
    assert status == 1
    assert "this command downloads no model" in err
    assert "sightline models --download" in err
    assert err.count("\n") == 1
    assert try_models.models_here() == ["builtin"]
    status, out, err = compared(photos, capsys)
    assert status == 0
    assert "builtin" in out
    assert "only one model was tried" in err


@pytest.mark.parametrize(
    "arguments", ["--try red", "--images .", "--models builtin", "--open", "--html x.html"]
)
def test_options_of_the_comparison_belong_together(
    arguments: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["models", *arguments.split()]) == 2
    assert "--try" in capsys.readouterr().err


def test_a_folder_without_photos_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = compared(tmp_path, capsys, "--models", "builtin")
    assert status == 2
    assert "there are no photos in" in err
