"""Rankings of a library of some thousand vectors: search depth, counts, folding, memory."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from helpers_catalog import TOP, picture

from sightline.indexer.catalog import Changes
from sightline.indexer.library import Library
from sightline.indexer.types import Condition, Filters, Ids
from sightline.server.search.ranking import (
    BALANCED,
    FIRST_DEPTH,
    CosineRanking,
    MatchCount,
    Ranking,
    balanced,
)
from sightline.server.search.relevance import Scores, ScoreScale

DIMENSION = 64
MANY, SOME, OTHERS = 1200, 150, 3300
"""Distinct images along one axis and along another, each with a copy; and unrelated images."""

Axis = np.eye(DIMENSION, dtype=np.float32)


def towards(axis: int, count: int, random: np.random.Generator) -> np.ndarray:
    """Unit vectors with a cosine of .7 to .8 to an axis, random otherwise."""
    rest = random.normal(size=(count, DIMENSION))
    rest[:, :2] = 0
    rest /= np.linalg.norm(rest, axis=1)[:, None]
    near = random.uniform(0.7, 0.8, (count, 1))
    return near * Axis[axis] + np.sqrt(1 - near**2) * rest


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """2,400 images along the first axis, 300 along the second, and others."""
    random = np.random.default_rng(0)
    noise = random.normal(size=(OTHERS, DIMENSION))
    noise /= np.linalg.norm(noise, axis=1)[:, None]
    noise[:, :2] = random.uniform(-0.1, 0.1, (OTHERS, 2))
    vectors = np.concatenate(
        [
            np.repeat(towards(0, MANY, random), 2, axis=0),
            np.repeat(towards(1, SOME, random), 2, axis=0),
            noise,
        ]
    ).astype(np.float32)
    order = random.permutation(len(vectors))
    images = [
        replace(picture(f"{n:05}.jpg", content=str(n)), vector=vectors[place])
        for n, place in enumerate(order)
    ]
    folder = tmp_path_factory.mktemp("ranking") / "library"
    with Library.create(folder, model="toy", revision="1", dimension=DIMENSION) as made:
        made.catalog.write(made.ensure_root(TOP), images=images)
        yield made


def scale(library: Library, axis: int) -> ScoreScale:
    """Of the cosines to an axis."""
    return ScoreScale.of(library.sample() @ Axis[axis])


class Recorded(CosineRanking):
    """Records the depth of its searches."""

    def _search(self, depth: int) -> tuple[Ids, Scores, Scores]:
        self.depths = [*getattr(self, "depths", []), depth]
        return super()._search(depth)


def ranking(library: Library, axis: int, *, fold: bool = True) -> Recorded:
    """The whole library by cosine to an axis."""
    return Recorded(library, Filters(), fold, Axis[axis], scale(library, axis))


def estimate(many: CosineRanking, *, page: int = 0) -> int:
    """The number of matches of a ranking that has too many to count."""
    found = many.count_matches(1024, page=page)
    assert found is not None
    assert found.estimated
    return found.count


def test_a_few_hundred_matches_are_counted_exactly(library: Library) -> None:
    assert ranking(library, 1).count_matches(1024) == MatchCount(SOME)
    assert ranking(library, 1, fold=False).count_matches(1024) == MatchCount(2 * SOME)


def test_many_matches_are_estimated_without_a_deep_search(library: Library) -> None:
    for fold, there in ((True, MANY), (False, 2 * MANY)):
        recorded = ranking(library, 0, fold=fold)
        assert estimate(recorded) == pytest.approx(there, rel=0.1)
        assert recorded.depths == [FIRST_DEPTH]


@pytest.mark.parametrize("seed", range(3))
def test_matches_that_the_sample_is_too_small_for_are_estimated_from_their_scores(
    library: Library, seed: int
) -> None:
    z_scores = np.sort(np.random.default_rng(seed).normal(size=100_000))[::-1].astype(np.float32)

    class Sorted(Ranking):
        def _search(self, depth: int) -> tuple[Ids, Scores, Scores]:
            return np.arange(depth), z_scores[:depth], z_scores[:depth]

    for threshold in (2.45, 2.3):
        many = Sorted(library, Filters(), False)
        many.threshold = threshold
        found = many.count_matches(500)
        assert found is not None
        assert found.estimated
        assert found.count == pytest.approx((z_scores >= threshold).sum(), rel=0.25)
        assert len(many.ids) == 512


def test_estimates_have_two_significant_digits() -> None:
    numbers = [612.4, 1234.0, 99_501.0, 1_250_001.0]
    assert [MatchCount.about(n).count for n in numbers] == [610, 1200, 100_000, 1_300_000]


def test_the_depth_of_the_first_search_is_predicted_from_the_sample(library: Library) -> None:
    recorded = ranking(library, 1)
    assert recorded.count_matches(1024) == MatchCount(SOME)
    assert recorded.depths == [3 * FIRST_DEPTH], "300 images times 1.25"
    paged = ranking(library, 0)
    assert estimate(paged, page=900) == pytest.approx(MANY, rel=0.1)
    assert paged.depths == [1024], "one search for the count and the page"
    every = ranking(library, 0)
    assert len(every.match_ids(100_000)) == 2 * MANY
    assert every.depths == [24 * FIRST_DEPTH], "2,400 images times 1.25"


def test_the_count_hardly_depends_on_the_pages_read_before(library: Library) -> None:
    deep = ranking(library, 0)
    assert deep.page(MANY - 20, 50)
    assert estimate(deep) == pytest.approx(MANY, rel=0.1)
    few = ranking(library, 1)
    assert few.page(500, 50)
    assert few.count_matches(1024) == MatchCount(SOME)


def test_pages_of_a_folded_ranking_continue_each_other(library: Library) -> None:
    whole = ranking(library, 0)
    expected = whole.page(0, MANY)
    assert len(expected) == MANY
    assert all(len(folded) == 1 for _, folded in expected[:-10])
    in_pages = ranking(library, 0)
    pages = [place for start in range(0, MANY, 50) for place in in_pages.page(start, 50)]
    assert in_pages.ids[[place for place, _ in pages]].tolist() == (
        whole.ids[[place for place, _ in expected]].tolist()
    )
    for (_, folded), (_, all_folded) in zip(pages, expected, strict=True):
        # A page folds no deeper than it must, so its last images can lack duplicates.
        assert folded == all_folded[: len(folded)]


class Approximate(CosineRanking):
    """Misses every third image in a shallow search, as an approximate index can."""

    def _search(self, depth: int) -> tuple[Ids, Scores, Scores]:
        ids, scores, z_scores = super()._search(depth * 2)
        found = (ids % 3 > 0) if depth <= FIRST_DEPTH else np.ones(len(ids), bool)
        return ids[found][:depth], scores[found][:depth], z_scores[found][:depth]


def test_images_missed_by_a_shallow_search_follow_directly_after_those_shown(
    library: Library,
) -> None:
    known = library.select()
    cosines = library.vectors(known) @ Axis[0]
    best = known[np.lexsort((known, -cosines))]
    for fold in (True, False):
        approximate = Approximate(library, Filters(), fold, Axis[0], scale(library, 0))
        first = approximate.page(0, 50)
        shown = approximate.ids[: first[-1][0] + 1].tolist()
        assert shown != best[: len(shown)].tolist()
        second = approximate.page(50, 450)
        behind = [one for one in best.tolist() if one not in set(shown)]
        known_ranks = len(approximate.ids)
        assert known_ranks >= 500
        assert approximate.ids.tolist() == [*shown, *behind][:known_ranks]
        assert (
            approximate.page(0, 50) == first
            if not fold
            else approximate.page(0, 500)[50:] == second
        )
        places = [place for place, _ in [*first, *second]]
        assert places == sorted(set(places))
        # Read at once, nothing was shown before the deep search.
        at_once = Approximate(library, Filters(), fold, Axis[0], scale(library, 0))
        at_once.page(0, 500)
        assert at_once.ids.tolist() == best[: len(at_once.ids)].tolist()


def test_the_best_images_of_all_terms_have_equal_z_scores_on_balanced_scales() -> None:
    scales = [ScoreScale(0.1, 0.05, 3.5), ScoreScale(0.0, 0.1, 3.5), ScoreScale(0.2, 0.1, 3.5)]

    def best_z_scores(*best: float) -> list[float]:
        scores = np.array(best, np.float32)
        found = balanced(scales, scores, positive=2)
        assert [scale.median for scale in found] == [0.1, 0.0, 0.2]
        return [float(scale.z_scores(one)) for scale, one in zip(found, scores, strict=True)]

    # Before: 10, 4 and (negative) 2.
    assert best_z_scores(0.6, 0.4, 0.4) == pytest.approx([BALANCED / (0.1 + 0.25) * 2] * 3)
    assert best_z_scores(0.3, 0.4, 0.9) == pytest.approx([4.0] * 3), "not below the lowest"
    assert best_z_scores(0.6, 0.3, 0.4) == pytest.approx([3.0] * 3), "nor above it without a match"
    assert best_z_scores(0.6, 0.0, 0.4) == pytest.approx([10.0, 0.0, 2.0]), "nothing to balance"


def test_a_cached_ranking_holds_no_vectors(library: Library) -> None:
    kept = ranking(library, 0)
    kept.page(1000, 50)
    kept.count_matches(1024)
    seen: dict[int, object] = {}
    left: list[object] = list(vars(kept).values())
    while left:
        one = left.pop()
        if id(one) not in seen and not isinstance(one, Library):
            seen[id(one)] = one
            if isinstance(one, (dict, list, tuple)):
                left += gc.get_referents(one)
    arrays = [one for one in seen.values() if isinstance(one, np.ndarray)]
    # 32 kB for what does not grow with it.
    assert sum(one.nbytes for one in arrays if one.base is None) < 32 * len(kept.ids) + 32 * 2**10


def test_a_ranking_outlasts_changes_that_are_in_none_of_its_ranks(library: Library) -> None:
    def change(*, ids: list[int] = [], cosine: float = 0.0, removed: list[int] = []) -> Changes:  # noqa: B006
        vector = cosine * Axis[0] + np.sqrt(1 - cosine**2) * Axis[2]
        vectors = np.repeat(vector[None], len(ids), axis=0).astype(np.float32)
        return Changes(np.array(ids, np.int64), vectors, np.array(removed, np.int64), 9)

    known, new = ranking(library, 0), ranking(library, 0)
    known.page(0, 50)
    assert not known.complete
    last, other = float(known.scores[-1]), int(library.select()[-1]) + 1
    absent = int(np.setdiff1d(library.select(), known.ids)[0])
    assert known.outlasts(change(ids=[other, absent], cosine=last - 0.01, removed=[other + 1]), new)
    assert not known.outlasts(change(ids=[other], cosine=last + 0.01), new)
    assert not known.outlasts(change(ids=[int(known.ids[3])]), new)
    assert not known.outlasts(change(removed=[int(known.ids[3])]), new)
    assert not known.outlasts(change(removed=[other]), ranking(library, 1)), "another scale"
    filters = Filters((Condition("name", "0"),))
    filtered = CosineRanking(library, filters, True, Axis[0], scale(library, 0))
    filtered.page(0, 50)
    assert not filtered.outlasts(change(removed=[other]), new)
