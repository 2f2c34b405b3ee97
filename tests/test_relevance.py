"""The line under the good matches, and near-identical shots."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.server.search.near_duplicates import BITS, fold
from sightline.server.search.relevance import FEWEST, LINE_LARGE, LINE_SMALL, Scale, relevance


def noise(n: int, seed: int = 0) -> np.ndarray:
    """Scores of ``n`` pictures that have nothing to do with the query."""
    return np.random.default_rng(seed).normal(0.17, 0.04, n).astype(np.float32)


@pytest.mark.parametrize("n", [60, 300, 4096])
def test_a_picture_that_stands_out_is_above_the_line_and_noise_is_below(n: int) -> None:
    scores = np.concatenate([noise(n - 1), np.float32([0.45])])
    scale = Scale.of(scores)
    assert scale.line is not None
    standing = scale.standing(scores)
    assert standing[-1] > scale.line
    assert (standing[:-1] > scale.line).mean() < 0.01


def test_the_line_does_not_depend_on_where_a_model_puts_its_cosines() -> None:
    scores = noise(500)
    one, other = Scale.of(scores), Scale.of(scores * 0.3 - 0.1)
    assert np.allclose(one.standing(scores), other.standing(scores * 0.3 - 0.1), atol=1e-3)


def test_many_matches_do_not_hide_each_other() -> None:
    scores = np.concatenate([noise(700), noise(200, seed=1) + np.float32(0.3)])
    scale = Scale.of(scores)
    assert scale.line is not None
    assert (scale.standing(scores[700:]) > scale.line).mean() > 0.95


def test_the_line_rises_with_the_library() -> None:
    lines = [Scale.of(noise(n)).line for n in (FEWEST, 50, 120, 300, 4000)]
    assert lines[0] == lines[1] == LINE_SMALL
    assert LINE_SMALL < lines[2] < LINE_LARGE  # type: ignore[operator]
    assert lines[3] == pytest.approx(LINE_LARGE)
    assert lines[4] == LINE_LARGE


@pytest.mark.parametrize("n", [0, 1, 2, FEWEST - 1])
def test_a_handful_of_pictures_has_no_line(n: int) -> None:
    scale = Scale.of(noise(n))
    assert scale.line is None
    assert (relevance(scale.standing(noise(n)), scale.line) == 1).all()


def test_equal_pictures_have_no_spread_and_no_nonsense() -> None:
    scores = np.full(100, 0.3, np.float32)
    scale = Scale.of(scores)
    fits = relevance(scale.standing(scores), scale.line)
    assert np.isfinite(fits).all()
    assert (fits < 0.5).all()


@given(st.lists(st.floats(-1000, 1000, width=32), min_size=1, max_size=50))
def test_relevance_is_between_0_and_1_and_keeps_the_order(standings: list[float]) -> None:
    ordered = np.sort(np.array(standings, np.float32))
    fits = relevance(ordered, LINE_LARGE)
    assert ((fits >= 0) & (fits <= 1)).all()
    assert (np.diff(fits) >= 0).all()
    assert ((fits >= 0.5) == (ordered >= LINE_LARGE)).all()


# near-identical shots --------------------------------------------------------------------------


def unit(*numbers: float) -> np.ndarray:
    """A unit vector."""
    vector = np.array(numbers, np.float32)
    return vector / np.linalg.norm(vector)


A, NEAR_A, B = unit(1, 0, 0), unit(1, 0.1, 0), unit(0, 1, 0)
IDS = np.array([7, 3, 9], np.int64)


def test_near_embeddings_with_near_hashes_share_a_place() -> None:
    hashes = {7: 0b1111, 3: 0b0111, 9: 0b1111}
    folded = fold(IDS, np.stack([A, NEAR_A, B]), lambda ids: hashes)
    assert folded.tolist() == [7, 7, 9]


def test_near_embeddings_with_other_hashes_do_not() -> None:
    hashes = {7: 0, 3: (1 << (BITS + 1)) - 1, 9: 0}
    assert fold(IDS, np.stack([A, NEAR_A, B]), lambda ids: hashes)[1] == 3


def test_negative_hashes_are_the_bits_that_sqlite_keeps() -> None:
    assert fold(IDS, np.stack([A, NEAR_A, B]), lambda ids: {7: -1, 3: -2, 9: 0})[1] == 7


def test_copies_share_a_place_also_without_hashes() -> None:
    folded = fold(IDS, np.stack([A, A, B]), lambda ids: dict.fromkeys(ids.tolist()))
    assert folded.tolist() == [7, 7, 9]


def test_hashes_are_asked_only_where_embeddings_agree() -> None:
    asked: list[int] = []

    def hashes(ids: np.ndarray) -> dict[int, int | None]:
        asked.extend(ids.tolist())
        return dict.fromkeys(ids.tolist(), 0)

    fold(IDS, np.stack([A, unit(0, 0, 1), B]), hashes)
    assert not asked
    fold(IDS, np.stack([A, NEAR_A, B]), hashes)
    assert sorted(asked) == [3, 7]


def test_a_shot_joins_one_of_an_earlier_block() -> None:
    before = IDS[:1], A[None]
    folded = fold(IDS[1:], np.stack([A, B]), lambda ids: {}, before=before)
    assert folded.tolist() == [7, 9]


def test_what_is_folded_does_not_depend_on_how_many_are_folded_at_a_time() -> None:
    random = np.random.default_rng(0)
    scenes = random.normal(size=(40, 32))
    vectors = scenes[random.integers(0, 40, 600)] + random.normal(size=(600, 32)) * 0.22
    vectors = (vectors / np.linalg.norm(vectors, axis=1)[:, None]).astype(np.float32)
    ids = random.permutation(600).astype(np.int64)
    hashes = {int(image): int(image) % 3 * 0xFFFF for image in ids}
    whole = fold(ids, vectors, lambda asked: hashes)
    assert 50 < (whole != ids).sum() < 550
    for size in (1, 7, 128, 300):
        folded = ids[:0]
        for start in range(0, 600, size):
            some = slice(start, start + size)
            alone = folded == ids[:start]
            before = ids[:start][alone], vectors[:start][alone]
            more = fold(ids[some], vectors[some], lambda asked: hashes, before=before)
            folded = np.concatenate([folded, more])
        assert folded.tolist() == whole.tolist()


def test_a_scale_has_the_quantiles_that_numpy_has() -> None:
    for n in (2, 3, 20, 51, 300, 4096):
        scores = noise(n, seed=n)
        scale = Scale.of(scores)
        low, middle = np.quantile(scores, [0.1, 0.5])
        assert scale.middle == pytest.approx(float(middle), rel=1e-6)
        assert scale.spread == pytest.approx(float(middle - low) / 1.2816, rel=1e-4)


def test_a_concept_that_half_the_library_shares_is_found_where_a_models_cosines_are_known() -> None:
    half = np.concatenate([noise(500), noise(500, seed=1) + np.float32(0.3)])
    assert not (Scale.of(half).standing(half) >= Scale.of(half).line).any()  # type: ignore[operator]
    scale = Scale.of(half, fits=0.41)
    assert scale.line is not None
    assert (scale.standing(half[500:]) >= scale.line).mean() > 0.8
    assert (scale.standing(half[:500]) >= scale.line).mean() < 0.01


def test_what_stands_out_is_found_below_that_cosine_too() -> None:
    scores = np.concatenate([noise(1000), np.float32([0.4])])
    scale = Scale.of(scores, fits=0.9)
    assert scale.line is not None
    assert scale.standing(scores)[-1] > scale.line > LINE_LARGE
