"""Images in int8 on CPUs that do not multiply bfloat16, after a check on the user's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_library import draw
from helpers_models import (
    build_chinese_clip,
    build_clip,
    build_siglip,
    build_siglip2_naflex,
)
from safetensors.torch import load_file, save_file

from sightline.indexer.encoder import Encoder
from sightline.indexer.encoder.int8_check import compare
from sightline.indexer.encoder.layers import Int8Linear, int8_levels
from sightline.indexer.errors import ModelError
from sightline.indexer.evaluation.trial import try_model
from sightline.indexer.indexing.index_folders import index_folders
from sightline.indexer.indexing.reencode import reencode
from sightline.indexer.library import Library
from sightline.server.cli import run

ENOUGH = 260
"""Images: a few more than are checked."""


@pytest.fixture(autouse=True)
def _a_cpu_without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ``ENOUGH`` images."""
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(ENOUGH):
        draw(seed, (48, 32)).save(folder / f"{seed:03}.jpg", quality=95)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real SigLIP architecture, whose embeddings are nearly the same in int8."""
    return build_siglip(tmp_path_factory.mktemp("models") / "siglip")


@pytest.fixture(scope="module")
def model_with_outlier(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same function, but one channel in front of each first linear layer of an MLP is 10,000
    times as large as the others, so that int8 has no levels left for them."""
    folder = tmp_path_factory.mktemp("models") / "siglip-outlier"
    folder.mkdir()
    for file in model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    weights = load_file(folder / "model.safetensors")
    for layer in range(2):
        name = f"vision_model.encoder.layers.{layer}."
        for part in ("weight", "bias"):
            weights[f"{name}layer_norm2.{part}"][0] *= 10_000
        weights[f"{name}mlp.fc1.weight"][:, 0] /= 10_000
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize(
    "build", [build_clip, build_siglip, build_chinese_clip, build_siglip2_naflex]
)
def test_int8_images_are_like_float32_and_texts_are_equal(build: object, tmp_path: Path) -> None:
    folder = build(tmp_path / "model")  # type: ignore[operator]
    exact, quantised = (Encoder.load(str(folder), dtype=name) for name in ("float32", "int8"))
    assert (exact.dtype, quantised.dtype) == ("float32", "int8")
    size = exact.geometry.width, exact.geometry.height
    pixels = [np.array(draw(seed, size)) for seed in range(40)]
    one, other = exact.encode_images(pixels), quantised.encode_images(pixels)
    assert 0.999 < (one * other).sum(axis=1).mean() < 0.9999999
    texts = ["a dog on a beach", "red"]
    assert np.array_equal(exact.encode_texts(texts), quantised.encode_texts(texts))


def test_int8_linear_layer_is_within_the_quantisation_error_of_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, x = (torch.randn(n, 96, generator=generator) for n in (64, 33))
    x[7] = 0
    x[8] *= 1e6
    bias = torch.randn(64, generator=generator)
    found, exact = Int8Linear(weight, bias)(x), torch.nn.functional.linear(x, weight, bias)
    assert torch.equal(found[7], bias)
    error = (found - exact).norm(dim=1) / exact.norm(dim=1)
    assert error.max() < 2 / int8_levels()


def test_int8_of_another_tower_or_device_is_refused() -> None:
    with pytest.raises(ModelError, match="does not run in int8"):
        Encoder.load("builtin", dtype="int8").warm(("image",))
    assert not Encoder.load("builtin").may_use_int8


def test_comparison_measures_cosine_and_nearest_images() -> None:
    exact = np.random.default_rng(0).normal(size=(300, 64)).astype(np.float32)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    same = compare(exact, exact)
    assert (same.images, same.overlap, same.passed) == (300, 1.0, True)
    assert same.cosine == pytest.approx(1)
    other = compare(exact, np.roll(exact, 1, axis=0))
    assert other.cosine < 0.1
    assert not other.passed


def test_run_changes_to_int8_if_it_agrees_on_the_first_images(
    model: Path, photos: Path, tmp_path: Path
) -> None:
    encoder = Encoder.load(str(model))
    report = index_folders(tmp_path / "library", photos, encoder=encoder)
    assert report.added == ENOUGH
    assert encoder.dtype == "int8"
    assert [note for note in report.notes if note.startswith("images are encoded in int8")]
    with Library.open(tmp_path / "library") as library:
        check = library.catalog.int8_check
        assert check is not None
        assert (check.images, check.passed) == (256, True)
        # Every image has its own embedding, in float32 or in int8.
        ids = library.select()
        files = [record.absolute for record in library.images(ids.tolist())]
        exact = try_model(Encoder.load(str(model), dtype="float32"), files, ["red"]).images.vectors
        assert (exact * library.vectors(ids)).sum(axis=1).min() > 0.999
    # The next run knows it, and checks nothing.
    draw(1000, (48, 32)).save(photos / "later.jpg")
    try:
        again = Encoder.load(str(model))
        report = index_folders(tmp_path / "library", encoder=again)
    finally:
        (photos / "later.jpg").unlink()
    assert (report.added, report.notes) == (1, ())
    assert again.dtype == "int8"


def test_run_stays_in_float32_if_int8_differs_too_much(
    model_with_outlier: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    library = tmp_path / "library"
    index = ["index", str(photos), "--library", str(library), "--quiet"]
    assert run([*index, "--model", str(model_with_outlier)]) == 0
    errors = capsys.readouterr().err
    assert "images are encoded in float32, not in int8: on 256 images the mean cosine" in errors
    assert run(["status", "--library", str(library)]) == 0
    shown = capsys.readouterr().out
    assert "precision  float32, not int8, on CPUs without bfloat16: on 256 images" in shown
    assert run(["status", "--json", "--library", str(library)]) == 0
    assert json.loads(capsys.readouterr().out)["int8_check"]["passed"] is False
    # --dtype overrides the stored decision.
    draw(1001, (48, 32)).save(photos / "other.jpg")
    try:
        again = Encoder.load(str(model_with_outlier), dtype="int8")
        assert index_folders(library, encoder=again).added == 1
        assert again.dtype == "int8"
    finally:
        (photos / "other.jpg").unlink()


def test_nothing_is_checked_with_few_images_or_a_dtype(
    model: Path, photos: Path, tmp_path: Path
) -> None:
    few = tmp_path / "photos"
    few.mkdir()
    for seed in range(20):
        draw(seed, (48, 32)).save(few / f"{seed}.jpg")
    encoder = Encoder.load(str(model))
    assert index_folders(tmp_path / "few", few, encoder=encoder).notes == ()
    assert (encoder.int8_check, encoder.dtype) == (None, "float32")
    report = index_folders(tmp_path / "exact", photos, model=str(model), dtype="float32")
    assert report.notes == ()
    with Library.open(tmp_path / "exact") as library:
        assert library.status()["int8_check"] is None


def test_reencoding_checks_the_new_model(
    model: Path, tiny_clip: Path, photos: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "library"
    index_folders(directory, photos, model=str(tiny_clip), dtype="float32")
    report = reencode(directory, model=str(model))
    assert [note for note in report.notes if note.startswith("images are encoded in int8")]
    with Library.open(directory) as library:
        assert library.catalog.int8_check is not None
    # The check is that model's; --dtype makes none of another one.
    assert reencode(directory, model=str(tiny_clip), dtype="int8").notes == ()
    with Library.open(directory) as library:
        assert library.catalog.int8_check is None


def test_trial_of_a_model_measures_the_dtype_that_a_run_would_use(
    model: Path, photos: Path
) -> None:
    trial = try_model(Encoder.load(str(model)), sorted(photos.iterdir()), ["red"])
    assert trial.dtype == "int8"
    few = try_model(Encoder.load(str(model)), sorted(photos.iterdir())[:30], ["red"])
    assert few.dtype == "float32"
