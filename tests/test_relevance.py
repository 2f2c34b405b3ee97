"""The relevance threshold: which scores of a query are matches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.server.search.relevance import (
    MIN_SAMPLE,
    THRESHOLD_LARGE,
    THRESHOLD_SMALL,
    ScoreScale,
    expected_matches,
    relevance,
)


def noise(n: int, seed: int = 0) -> np.ndarray:
    """Scores of ``n`` images that are unrelated to the query."""
    return np.random.default_rng(seed).normal(0.17, 0.04, n).astype(np.float32)


@pytest.mark.parametrize("n", [60, 300, 4096])
def test_an_outlier_reaches_the_threshold_and_noise_does_not(n: int) -> None:
    scores = np.concatenate([noise(n - 1), np.float32([0.45])])
    scale = ScoreScale.of(scores)
    assert scale.threshold is not None
    z_scores = scale.z_scores(scores)
    assert z_scores[-1] > scale.threshold
    assert (z_scores[:-1] > scale.threshold).mean() < 0.01


def test_z_scores_do_not_depend_on_a_models_range_of_cosines() -> None:
    scores = noise(500)
    one, other = ScoreScale.of(scores), ScoreScale.of(scores * 0.3 - 0.1)
    assert np.allclose(one.z_scores(scores), other.z_scores(scores * 0.3 - 0.1), atol=1e-3)


def test_many_matches_all_reach_the_threshold() -> None:
    scores = np.concatenate([noise(700), noise(200, seed=1) + np.float32(0.3)])
    scale = ScoreScale.of(scores)
    assert scale.threshold is not None
    assert (scale.z_scores(scores[700:]) > scale.threshold).mean() > 0.95


def test_the_threshold_rises_with_the_sample() -> None:
    thresholds = [ScoreScale.of(noise(n)).threshold for n in (MIN_SAMPLE, 50, 120, 300, 4000)]
    assert thresholds[0] == thresholds[1] == THRESHOLD_SMALL
    assert THRESHOLD_SMALL < thresholds[2] < THRESHOLD_LARGE  # type: ignore[operator]
    assert thresholds[3] == pytest.approx(THRESHOLD_LARGE)
    assert thresholds[4] == THRESHOLD_LARGE


@pytest.mark.parametrize("n", [0, 1, 2, MIN_SAMPLE - 1])
def test_a_small_sample_has_no_threshold(n: int) -> None:
    scale = ScoreScale.of(noise(n))
    assert scale.threshold is None
    assert (relevance(scale.z_scores(noise(n)), scale.threshold) == 1).all()


def test_equal_images_have_finite_relevance_and_no_match() -> None:
    scores = np.full(100, 0.3, np.float32)
    scale = ScoreScale.of(scores)
    relevances = relevance(scale.z_scores(scores), scale.threshold)
    assert np.isfinite(relevances).all()
    assert (relevances < 0.5).all()


@given(st.lists(st.floats(-1000, 1000, width=32), min_size=1, max_size=50))
def test_relevance_is_between_0_and_1_and_rises_with_the_z_score(z_scores: list[float]) -> None:
    ordered = np.sort(np.array(z_scores, np.float32))
    relevances = relevance(ordered, THRESHOLD_LARGE)
    assert ((relevances >= 0) & (relevances <= 1)).all()
    assert (np.diff(relevances) >= 0).all()
    assert ((relevances >= 0.5) == (ordered >= THRESHOLD_LARGE)).all()


def test_median_and_deviation_are_numpys_quantiles() -> None:
    for n in (2, 3, 20, 51, 300, 4096):
        scores = noise(n, seed=n)
        scale = ScoreScale.of(scores)
        low, middle = np.quantile(scores, [0.1, 0.5])
        assert scale.median == pytest.approx(float(middle), rel=1e-6)
        assert scale.deviation == pytest.approx(float(middle - low) / 1.2816, rel=1e-4)


def test_a_known_match_cosine_finds_a_concept_of_half_the_library() -> None:
    half = np.concatenate([noise(500), noise(500, seed=1) + np.float32(0.3)])
    assert not (ScoreScale.of(half).z_scores(half) >= ScoreScale.of(half).threshold).any()  # type: ignore[operator]
    scale = ScoreScale.of(half, match_cosine=0.41)
    assert scale.threshold is not None
    assert (scale.z_scores(half[500:]) >= scale.threshold).mean() > 0.8
    assert (scale.z_scores(half[:500]) >= scale.threshold).mean() < 0.01


def test_a_score_matches_from_the_known_match_cosine_on_however_far_it_stands_out() -> None:
    scores = np.concatenate([noise(1000), np.float32([0.6, 0.71])])
    scale = ScoreScale.of(scores, match_cosine=0.7)
    assert scale.threshold is not None
    z_scores = scale.z_scores(scores)
    assert z_scores[-2] > THRESHOLD_LARGE
    assert z_scores[-1] > scale.threshold > z_scores[-2]


def test_few_matches_of_a_sample_are_predicted_from_its_highest_scores() -> None:
    draws = [np.random.default_rng(seed).normal(size=4096).astype(np.float32) for seed in range(20)]
    assert expected_matches(draws[0], 2.0) == (draws[0] >= 2).sum()
    predicted = np.array([expected_matches(z_scores, 3.1) for z_scores in draws])
    counted = np.array([(z_scores >= 3.1).sum() for z_scores in draws])
    right = 4096 * 0.000968
    assert predicted.mean() == pytest.approx(right, rel=0.2)
    assert abs(predicted - right).mean() < abs(counted - right).mean()
    assert expected_matches(np.zeros(4096, np.float32), 3.0) == 0
    assert expected_matches(draws[0], 50.0) == pytest.approx(0, abs=0.01)
