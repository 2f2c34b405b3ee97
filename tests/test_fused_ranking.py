"""Queries whose words occur in file names and titles are ranked by cosine and text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers_library import empty_library

from sightline.indexer.library import Library
from sightline.indexer.types import Candidate, Filters, NewImage, Photo, PhotoInfo, TextLine
from sightline.server.search import SearchEngine
from sightline.server.search.fused_ranking import VISUAL_NAME_FACTOR, TextMatches

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder

LIGHTHOUSE = "a lighthouse by the sea"
OTHERS = (
    "people swimming at a beach", "a dog in the snow", "a plate of food", "a red car",
    "a birthday cake", "a flower", "a train at a station", "a boat on a lake",
)  # fmt: skip
TRIPS = ("2018 Italy", "2019 Germany", "2019 Norway", "2020 Germany", "2021 Portugal")
LIGHTHOUSES, EACH = 4, 20
"""Lighthouses, and all images, of each trip."""
ALL = EACH * len(TRIPS)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchEngine]:
    """A library of the built-in model in which content and folder are independent: each trip has
    some lighthouses. Vectors are those of captions with noise, so that their cosines to the caption
    are about .55, as those of real images."""
    from sightline.indexer.encoder import Encoder

    encoder = Encoder.load("builtin")
    directory = tmp_path_factory.mktemp("words") / "library"
    with (
        empty_library(directory, encoder) as library,
        SearchEngine(library, encoder) as made,
    ):
        fill(library, encoder)
        yield made


def fill(library: Library, encoder: Encoder) -> None:
    rng = np.random.default_rng(0)
    lighthouse, *others = encoder.encode_texts([LIGHTHOUSE, *OTHERS])
    root = library.ensure_root(library.directory.parent / "Pictures")
    images = []
    for trip in TRIPS:
        for n in range(EACH):
            # Names the content for the tests, backwards, so that no query finds it.
            kind = "esuohthgil" if n < LIGHTHOUSES else "rehto"
            noise = rng.normal(size=library.dimension) * 1.5 / np.sqrt(library.dimension)
            vector = (lighthouse if n < LIGHTHOUSES else others[n % len(others)]) + noise
            vector = (vector / np.linalg.norm(vector)).astype(np.float32)
            candidate = Candidate(root.path, f"{trip}/{kind}-{n:02}.jpg", 1, 0)
            info = PhotoInfo(1, 1, "jpeg", title="Neuschwanstein" if (trip, n) == TITLED else None)
            photo = Photo(info, np.empty((0, 0, 3), np.uint8), b"", "")
            images.append(NewImage(candidate, photo, vector))
    library.catalog.write(root, images=images)


TITLED = ("2018 Italy", 9)
"""An image without a castle, with this title."""


def paths(engine: SearchEngine, query: str, k: int = LIGHTHOUSES, **options: bool) -> list[str]:
    return [hit.path for hit in engine.search(query, k=k, fold=False, **options).hits]


def test_a_query_of_content_and_trip_finds_images_of_both(engine: SearchEngine) -> None:
    found = paths(engine, "germany 2019 lighthouse")
    assert all(path.startswith("2019 Germany/esuohthgil") for path in found), found
    assert found != paths(engine, "germany 2019 lighthouse", words=False)
    result = engine.search("germany 2019 lighthouse", k=LIGHTHOUSES, fold=False)
    assert all(hit.match for hit in result.hits)


def test_a_name_alone_matches_exactly_the_images_with_it(
    engine: SearchEngine,
) -> None:
    result = engine.search("norway", k=ALL, fold=False)
    assert {hit.path.partition("/")[0] for hit in result.hits if hit.match} == {"2019 Norway"}
    assert result.good == EACH
    assert [hit.match for hit in result.hits] == [True] * EACH + [False] * (ALL - EACH)


def test_a_title_finds_its_image_whatever_it_looks_like(engine: SearchEngine) -> None:
    (hit,) = engine.search("neuschwanstein", k=1).hits
    assert (hit.path, hit.match) == ("2018 Italy/rehto-09.jpg", True)


def test_a_phrase_is_never_below_a_visual_guess(tmp_path: Path, engine: SearchEngine) -> None:
    """Nor below images that hold the same words apart. All of these look more like the query."""
    text = "a lighthouse by the sea"
    (like,) = engine.encoder.encode_texts([text])
    apart = {"title": "the sea", "caption": "no lighthouse by it"}
    with empty_library(tmp_path / "library", engine.encoder) as library:
        root = library.ensure_root(tmp_path / "Pictures")
        rng = np.random.default_rng(0)
        facts = [{"caption": f"Here is {text.upper()}."}, *[apart] * 3, *[{}] * 60]
        images = []
        for n, info in enumerate(facts):
            vector = rng.normal(size=library.dimension) / np.sqrt(library.dimension)
            vector += like if n else -like
            vector = (vector / np.linalg.norm(vector)).astype(np.float32)
            photo = Photo(PhotoInfo(1, 1, "jpeg", **info), np.empty((0, 0, 3), np.uint8), b"", "")
            images.append(NewImage(Candidate(root.path, f"{n}.jpg", 1, 0), photo, vector))
        library.catalog.write(root, images=images)
        with SearchEngine(library, engine.encoder) as other:
            hits = other.search(text, k=5, fold=False).hits
    assert hits[0].path == "0.jpg"
    assert {hit.path for hit in hits[1:4]} == {"1.jpg", "2.jpg", "3.jpg"}
    assert hits[0].match
    assert hits[0].score < 0 < hits[4].score


def test_a_visual_word_counts_less_in_names_than_in_what_is_written_about_an_image(
    tmp_path: Path, engine: SearchEngine
) -> None:
    (like,) = engine.encoder.encode_texts(["a wedding dance"])
    sign = TextLine("Wedding", 0.9, (0.0, 0.0, 1.0, 1.0))
    facts = [("a", {"keywords": ("wedding",)}), ("a", {}), ("a", {}), ("Wedding", {})]
    with empty_library(tmp_path / "library", engine.encoder) as library:
        root = library.ensure_root(tmp_path / "Pictures")
        images = []
        for n, (folder, info) in enumerate([*facts, *[("b", {})] * 40]):
            vector = np.eye(library.dimension)[n] + like * (0.8, 0.75, 0.9, 0.7, 0.0)[min(n, 4)]
            vector = (vector / np.linalg.norm(vector)).astype(np.float32)
            photo = Photo(PhotoInfo(1, 1, "jpeg", **info), np.empty((0, 0, 3), np.uint8), b"", "")
            candidate = Candidate(root.path, f"{folder}/{n}.jpg", 1, 0)
            images.append(NewImage(candidate, photo, vector))
        library.catalog.write(root, images=images)
        library.catalog.write_texts([(2, [sign])], engine="toy 1")
        matches = TextMatches.find(library, "a wedding dance", Filters())
        assert matches is not None
        assert matches.ids.tolist() == [1, 2, 4]
        assert matches.weights.tolist() == [1, 1, VISUAL_NAME_FACTOR]
        assert matches.ranks.tolist() == [1.5, 1.5, 3]
        partly = TextMatches.find(library, "wedding keyless 3.jpg", Filters())
        assert partly is not None
        assert VISUAL_NAME_FACTOR < partly.weights[-1] < 1, "a number counts in full"
        with SearchEngine(library, engine.encoder) as other:
            found = [hit.path for hit in other.search("a wedding dance", k=4, fold=False).hits]
    assert found == ["a/0.jpg", "a/1.jpg", "a/2.jpg", "Wedding/3.jpg"]


def test_a_visible_thing_in_the_name_of_a_place_or_of_the_whole_library_makes_no_match(
    tmp_path: Path, engine: SearchEngine
) -> None:
    """A folder named after it does, and so does a keyword, wherever the photo was taken."""
    (like,) = engine.encoder.encode_texts(["mountain"])
    view = {"place": "Mountain View"}
    facts = [
        ("trips", {}, 0.5),
        ("town", view, 0.05),
        ("town", view, 0.0),
        ("town", view | {"keywords": ("mountain",)}, 0.0),
        ("Mountain", {}, 0.0),
        *[("family", {}, 0.0)] * 20,
    ]
    with empty_library(tmp_path / "library", engine.encoder) as library:
        root = library.ensure_root(tmp_path / "Family")
        images = []
        for n, (folder, info, share) in enumerate(facts):
            vector = np.eye(library.dimension)[n] * (1 - share) + like * share
            vector = (vector / np.linalg.norm(vector)).astype(np.float32)
            photo = Photo(PhotoInfo(1, 1, "jpeg", **info), np.empty((0, 0, 3), np.uint8), b"", "")
            images.append(NewImage(Candidate(root.path, f"{folder}/{n}.jpg", 1, 0), photo, vector))
        library.catalog.write(root, images=images)
        for query, complete in (("mountain", [4, 5]), ("family", []), ("mountain view", [2, 3, 4])):
            matches = TextMatches.find(library, query, Filters())
            assert matches is not None
            assert matches.complete.tolist() == complete, query
        with SearchEngine(library, engine.encoder) as other:
            hits = other.search("mountain", k=25, fold=False).hits
    assert {hit.id for hit in hits[:2]} == {4, 5}
    assert hits[2].id == 1
    assert not any(hit.match for hit in hits if hit.id in (2, 3))


def test_a_query_without_text_matches_ranks_by_cosine(engine: SearchEngine) -> None:
    assert paths(engine, "a lighthouse by the sea", ALL) == paths(
        engine, "a lighthouse by the sea", ALL, words=False
    )


def test_a_word_that_all_images_share_changes_nothing(engine: SearchEngine) -> None:
    with_it = paths(engine, "lighthouse pictures", ALL)
    assert with_it == paths(engine, "lighthouse pictures", ALL, words=False)


def test_filters_apply_to_text_matches(engine: SearchEngine) -> None:
    found = paths(engine, "germany lighthouse in:2020", ALL)
    assert len(found) == EACH
    assert all(path.startswith("2020 Germany") for path in found)


def test_a_filter_without_images_sorts_nothing_by_date(engine: SearchEngine) -> None:
    assert engine.search("lighthouse in:nowhere sort:newest").hits == ()


def test_pages_continue_each_other(engine: SearchEngine) -> None:
    query = "lighthouse norway"
    whole = paths(engine, query, ALL)
    assert len(set(whole)) == len(whole) == ALL
    pieces = [
        hit.path
        for offset in range(0, ALL, 7)
        for hit in engine.search(query, k=7, offset=offset, fold=False).hits
    ]
    assert pieces == whole


def test_images_with_equal_words_share_their_mean_rank(engine: SearchEngine) -> None:
    matches = TextMatches.find(engine.library, "norway", Filters())
    assert matches is not None
    assert set(matches.ranks.tolist()) == {(1 + EACH) / 2}
    assert len(matches.complete) == EACH
    assert TextMatches.find(engine.library, "zanzibar", Filters()) is None
    both = TextMatches.find(engine.library, "lighthouse in germany, 2019", Filters())
    assert both is not None
    assert (both.remainder, len(both.named)) == ("lighthouse", EACH)


def test_negative_terms_are_not_looked_up_in_text(engine: SearchEngine) -> None:
    assert paths(engine, "lighthouse -norway", ALL) == paths(
        engine, "lighthouse -norway", ALL, words=False
    )


def test_a_word_without_an_image_does_not_affect_the_others(engine: SearchEngine) -> None:
    matches = TextMatches.find(engine.library, "zanzibar norway neuschwanstein", Filters())
    assert matches is not None
    assert (len(matches.ids), len(matches.complete)) == (EACH + 1, 0)
    by_id = dict(zip(matches.ids.tolist(), matches.ranks.tolist(), strict=True))
    (titled,) = engine.search("neuschwanstein", k=1).hits
    assert by_id.pop(titled.id) == 1  # the rarer word counts more
    assert set(by_id.values()) == {1 + (1 + EACH) / 2}
