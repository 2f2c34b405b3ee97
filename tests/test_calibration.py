"""From which cosine an image matches a text, by the calibration of a model."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sightline.indexer.encoder import Encoder
from sightline.indexer.encoder.registry import builtin_directory
from sightline.indexer.library import Library
from sightline.server.search import SearchEngine
from sightline.server.search.calibration import FILE, Calibration, text_scale

CALIBRATION = Calibration(first_word=1000, bias=0.3, rarity=0.0, below_best=0.5, certain=0.25)


def test_a_rare_word_requires_a_higher_cosine_and_less_of_one_in_a_sentence() -> None:
    calibration = replace(CALIBRATION, bias=0.0, rarity=0.05)
    common, rare = (calibration.match_cosine([word], best=0.6) for word in (1100, 15000))
    assert 0.2 < common < rare < 0.5
    sentence = calibration.match_cosine([1100, 15000, 1001], best=0.6)
    assert common < sentence < rare


def test_what_is_far_below_the_closest_image_matches_only_if_it_is_certain() -> None:
    narrow = replace(CALIBRATION, below_best=0.12)
    assert narrow.match_cosine([1000], best=0.35) == pytest.approx(0.3)
    assert narrow.match_cosine([1000], best=0.6) == pytest.approx(0.48)
    assert narrow.match_cosine([1000], best=0.8) == pytest.approx(0.55)


def test_a_scale_is_calibrated_by_the_closest_image_of_the_sample() -> None:
    text = np.array([1, 0], np.float32)
    cosines = np.linspace(0, 0.6, 100, dtype=np.float32)
    sample = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)
    narrow = replace(CALIBRATION, below_best=0.12)
    scale = text_scale(text, sample, narrow, ids=[1000])
    assert scale.matches == (cosines >= 0.48).sum()
    assert text_scale(text, sample, None, ids=[]).matches == 0, "nothing stands out"


def test_a_plural_is_as_common_as_its_singular_and_a_word_in_pieces_is_rare(
    tiny_clip: Path,
) -> None:
    encoder = Encoder.load("builtin", device="cpu")
    assert encoder.word_ids("elephants") == encoder.word_ids("elephant")
    dog, stethoscope, pieces = encoder.word_ids("dog, stethoscope sdfkjh")
    assert dog < stethoscope < pieces
    assert Encoder.load(str(tiny_clip), device="cpu").word_ids("dog") == []


def test_the_builtin_model_is_calibrated_and_a_model_without_the_file_is_not(
    tiny_clip: Path,
) -> None:
    calibration = Calibration.of(Encoder.load("builtin", device="cpu"))
    assert calibration is not None, "run `python -m benchmarks.calibrate`"
    assert calibration.rarity > 0
    assert Calibration.of(Encoder.load(str(tiny_clip), device="cpu")) is None


def test_the_calibration_of_other_weights_is_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = shutil.copytree(builtin_directory(), tmp_path / "model")
    encoder = Encoder.load(str(model), device="cpu")
    CALIBRATION.save(model / FILE, revision=encoder.revision)
    assert Calibration.of(encoder) == CALIBRATION
    CALIBRATION.save(model / FILE, revision="of other weights")
    with caplog.at_level(logging.WARNING):
        assert Calibration.of(encoder) is None
    assert "other weights" in caplog.text


def test_common_things_that_are_shown_have_strong_matches_and_rare_ones_that_are_not_have_none(
    gallery: Path,
) -> None:
    with (
        Library.open(gallery / "library", read_only=True) as library,
        SearchEngine(library, Encoder.load("builtin", device="cpu")) as engine,
    ):
        for query in ("dog", "cat", "horse", "a street at night -rain"):
            assert engine.search(query, k=1, words=False).good, query
        for query in ("spaceship", "stethoscope", "unicorn", "passport"):
            assert engine.search(query, k=1, words=False).good == 0, query
