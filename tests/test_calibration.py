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
from sightline.server.search.calibration import FILE, JUDGED, Calibration

DOG, CAR = np.eye(2, dtype=np.float32)
"""In a space of two things."""


def image(dog: float, car: float, *, other: float = 0.0) -> np.ndarray:
    """A unit vector in four dimensions; the last two mean nothing."""
    rest = np.sqrt(max(0.0, 1 - dog**2 - car**2 - other**2))
    return np.array([dog, car, other, rest], np.float32)


@pytest.fixture
def calibration() -> Calibration:
    """Without support .3 is needed, with it .2."""
    names = np.pad(np.stack([DOG, CAR]), ((0, 0), (0, 2)))
    return Calibration(names, np.zeros(4, np.float32), bias=0.3, support=0.1, below_best=0.5)


def match_cosine(calibration: Calibration, images: list[np.ndarray]) -> float:
    sample = np.stack(images)
    text = calibration.names[0]
    return calibration.match_cosine(text, sample, sample @ text)


def test_an_image_whose_nearest_name_is_the_text_matches_from_a_lower_cosine(
    calibration: Calibration,
) -> None:
    supported, unsupported = image(0.25, 0.0), image(0.25, 0.4)
    assert match_cosine(calibration, [supported]) == pytest.approx(0.25, abs=1e-3)
    assert match_cosine(calibration, [unsupported]) == pytest.approx(0.3)
    assert match_cosine(calibration, [image(0.15, 0.0)]) == pytest.approx(0.3)


def test_the_first_image_without_support_ends_the_matches(calibration: Calibration) -> None:
    images = [image(0.28, 0.0), image(0.26, 0.0), image(0.24, 0.5), image(0.22, 0.0)]
    assert match_cosine(calibration, images) == pytest.approx(0.26, abs=1e-3)


def test_a_rare_thing_requires_a_higher_cosine(calibration: Calibration) -> None:
    rare = replace(calibration, direction=np.array([-0.2, 0, 0, 0], np.float32))
    assert match_cosine(rare, [image(0.35, 0.4)]) == pytest.approx(0.5)


def test_what_is_far_below_the_closest_image_is_no_match(calibration: Calibration) -> None:
    narrow = replace(calibration, below_best=0.12)
    assert match_cosine(narrow, [image(0.6, 0.0), image(0.4, 0.0)]) == pytest.approx(0.48)


def test_matches_beyond_the_judged_images_are_as_supported_as_these(
    calibration: Calibration,
) -> None:
    many = [image(0.29 - 0.0001 * n, 0.0) for n in range(JUDGED + 100)]
    assert match_cosine(calibration, many) == pytest.approx(0.2, abs=0.01)


def test_the_builtin_model_is_calibrated_and_a_model_without_the_file_is_not(
    tiny_clip: Path,
) -> None:
    calibration = Calibration.of(Encoder.load("builtin", device="cpu"))
    assert calibration is not None, "run `python -m benchmarks.calibrate`"
    assert np.allclose(np.linalg.norm(calibration.names, axis=1), 1, atol=1e-2)
    assert Calibration.of(Encoder.load(str(tiny_clip), device="cpu")) is None


def test_the_calibration_of_other_weights_is_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = shutil.copytree(builtin_directory(), tmp_path / "model")
    encoder = Encoder.load(str(model), device="cpu")
    assert Calibration.of(encoder) is not None
    kept = Calibration.of(encoder)
    assert kept is not None
    kept.save(model / FILE, revision="of other weights")
    with caplog.at_level(logging.WARNING):
        assert Calibration.of(encoder) is None
    assert "other weights" in caplog.text
