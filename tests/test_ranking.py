"""Rankings of a library of some thousand vectors: how deep they look, count, fold and what they
keep."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from helpers_catalog import TOP, picture

from sightline.indexer.library.library import Library
from sightline.indexer.types import Filters, Ids
from sightline.server.search.ranking import FIRST, Nearest, Scores

DIMENSION = 64
MANY, SOME, OTHERS = 1200, 150, 3300
"""Scenes about one thing, each taken twice; about another, likewise; and about nothing."""

Axis = np.eye(DIMENSION, dtype=np.float32)


def towards(axis: int, count: int, random: np.random.Generator) -> np.ndarray:
    """Unit vectors with a cosine of .7 to .8 to an axis and little in common besides."""
    rest = random.normal(size=(count, DIMENSION))
    rest[:, :2] = 0
    rest /= np.linalg.norm(rest, axis=1)[:, None]
    near = random.uniform(0.7, 0.8, (count, 1))
    return near * Axis[axis] + np.sqrt(1 - near**2) * rest


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """2,400 pictures along the first axis, 300 along the second, and others."""
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


class Watched(Nearest):
    """Writes down how deep it looks."""

    def _look(self, depth: int) -> tuple[Ids, Scores, Scores]:
        self.looks = [*getattr(self, "looks", []), depth]
        return super()._look(depth)


def ranking(library: Library, axis: int, *, fold: bool = True) -> Watched:
    """Of the whole library by its nearness to an axis."""
    return Watched(library, Filters(), fold, Axis[axis])


def test_a_few_hundred_good_ones_are_counted_one_by_one(library: Library) -> None:
    assert ranking(library, 1).good(1024) == SOME
    assert ranking(library, 1, fold=False).good(1024) == 2 * SOME


def test_many_are_counted_on_from_the_sample_without_a_deep_look(library: Library) -> None:
    for fold, there in ((True, MANY), (False, 2 * MANY)):
        looked = ranking(library, 0, fold=fold)
        assert looked.good(1024) == pytest.approx(there, rel=0.1)
        assert looked.looks == [FIRST]


def test_as_many_as_the_sample_lets_expect_are_looked_for_at_once(library: Library) -> None:
    looked = ranking(library, 1)
    assert looked.good(1024) == SOME
    assert looked.looks == [4 * FIRST], "300 pictures, and some to spare"
    paged = ranking(library, 0)
    assert paged.good(1024, page=900) == pytest.approx(MANY, rel=0.1)
    assert paged.looks == [1024], "one look for the count and the page"
    every = ranking(library, 0)
    assert len(every.good_ids(100_000)) == 2 * MANY
    assert every.looks == [4096]


def test_how_many_are_good_hardly_depends_on_the_page_that_was_looked_at(library: Library) -> None:
    deep = ranking(library, 0)
    assert deep.page(MANY - 20, 50)
    assert deep.good(1024) == pytest.approx(MANY, rel=0.1)
    few = ranking(library, 1)
    assert few.page(500, 50)
    assert few.good(1024) == SOME


def test_pages_of_a_folded_ranking_follow_each_other(library: Library) -> None:
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
        # A page does not look for more of the last ones' twins than it had to see.
        assert folded == all_folded[: len(folded)]


class Hasty(Nearest):
    """Misses every third picture unless it looks deep, as an approximate index may."""

    def _look(self, depth: int) -> tuple[Ids, Scores, Scores]:
        ids, scores, standing = super()._look(depth * 2)
        seen = (ids % 3 > 0) if depth <= FIRST else np.ones(len(ids), bool)
        return ids[seen][:depth], scores[seen][:depth], standing[seen][:depth]


def test_what_was_missed_at_first_comes_behind_what_was_shown_and_no_further(
    library: Library,
) -> None:
    known = library.select()
    cosines = library.vectors(known) @ Axis[0]
    best = known[np.lexsort((known, -cosines))]
    for fold in (True, False):
        hasty = Hasty(library, Filters(), fold, Axis[0])
        first = hasty.page(0, 50)
        shown = hasty.ids[: first[-1][0] + 1].tolist()
        assert shown != best[: len(shown)].tolist()
        second = hasty.page(50, 450)
        behind = [one for one in best.tolist() if one not in set(shown)]
        looked_at = len(hasty.ids)
        assert looked_at >= 500
        assert hasty.ids.tolist() == [*shown, *behind][:looked_at]
        assert hasty.page(0, 50) == first if not fold else hasty.page(0, 500)[50:] == second
        places = [place for place, _ in [*first, *second]]
        assert places == sorted(set(places))
        # Asked for at once, nothing is shown before all of it is known.
        at_once = Hasty(library, Filters(), fold, Axis[0])
        at_once.page(0, 500)
        assert at_once.ids.tolist() == best[: len(at_once.ids)].tolist()


def test_a_ranking_that_is_kept_for_paging_holds_no_vectors(library: Library) -> None:
    kept = ranking(library, 0)
    kept.page(1000, 50)
    kept.good(1024)
    seen: dict[int, object] = {}
    left: list[object] = list(vars(kept).values())
    while left:
        one = left.pop()
        if id(one) not in seen and not isinstance(one, Library):
            seen[id(one)] = one
            if isinstance(one, (dict, list, tuple)):
                left += gc.get_referents(one)
    arrays = [one for one in seen.values() if isinstance(one, np.ndarray)]
    # And what does not grow with it.
    assert sum(one.nbytes for one in arrays if one.base is None) < 32 * len(kept.ids) + 32 * 2**10
