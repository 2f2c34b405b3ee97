"""SearchEngine on a real library with a real model of random weights."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Thread, get_ident
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers_catalog import picture
from helpers_library import COUNT, as_bytes, draw, id_of, make_library, make_pictures

from sightline.indexer.errors import NotFoundError, QueryError, UsageError
from sightline.indexer.types import Embeddings, Filters, Pixels
from sightline.server.search import Query, Term, parse
from sightline.server.search.engine import MAX_K, SearchEngine
from sightline.server.search.ranking import WeightedVector, combine

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder
    from sightline.indexer.library import Library


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder) -> Iterator[Library]:
    """A library of drawn images."""
    folder = tmp_path_factory.mktemp("search")
    pictures = make_pictures(folder / "pictures")
    with make_library(folder / "library", tiny_encoder, pictures) as made:
        yield made


@pytest.fixture(scope="module")
def engine(library: Library, tiny_encoder: Encoder) -> Iterator[SearchEngine]:
    """An engine on it."""
    with SearchEngine(library, tiny_encoder) as made:
        yield made


def few_pictures(folder: Path, count: int) -> Path:
    """A folder of ``count`` drawn images."""
    folder.mkdir()
    for seed in range(count):
        (folder / f"{seed}.png").write_bytes(as_bytes(draw(seed), "PNG"))
    return folder


def ids(engine: SearchEngine, query: str, **options: object) -> list[int]:
    """The ids of the hits."""
    return [hit.id for hit in engine.search(query, **options).hits]  # type: ignore[arg-type]


def everything(library: Library) -> tuple[np.ndarray, np.ndarray]:
    """Every id and its vector."""
    known = library.select(Filters())
    return known, library.vectors(known)


def exact(library: Library, vector: np.ndarray) -> list[tuple[int, float]]:
    """(id, cosine) of every image by cosine, ties by id."""
    known, vectors = everything(library)
    cosines = vectors @ vector
    order = np.lexsort((known, -cosines))
    return [(int(known[n]), float(cosines[n])) for n in order]


def test_a_text_ranks_by_exact_cosine(
    engine: SearchEngine, library: Library, tiny_encoder: Encoder
) -> None:
    expected = exact(library, tiny_encoder.encode_texts(["a red bicycle"])[0])
    result = engine.search("a red bicycle", k=MAX_K, fold=False)
    assert [hit.id for hit in result.hits] == [image for image, _ in expected]
    assert [hit.score for hit in result.hits] == pytest.approx(
        [score for _, score in expected], abs=1e-5
    )
    assert result.total == library.count == COUNT + 5


def test_every_image_is_its_own_first_hit(engine: SearchEngine, library: Library) -> None:
    known, _ = everything(library)
    for image in known.tolist():
        first = engine.search(f"like:{image}", k=1).hits[0]
        assert (first.id, first.score) == (image, 1)
        assert (first.relevance, first.match) == (pytest.approx(1, abs=1e-3), True)


def test_an_image_file_finds_its_copy_in_the_library(
    engine: SearchEngine, library: Library
) -> None:
    result = engine.search("", images=[as_bytes(draw(7), "PNG")], k=1)
    assert result.hits[0].record.path.endswith("IMG_0007.jpg")
    upload = engine.upload(as_bytes(draw(7), "PNG"))
    assert (upload.width, upload.height) == (320, 240)
    assert ids(engine, f"upload:{upload.token}", k=1) == [result.hits[0].id]


def test_a_region_is_encoded_by_its_own_pixels(
    engine: SearchEngine, library: Library, tiny_encoder: Encoder
) -> None:
    from sightline.indexer.photo import photo

    image = id_of(library, "IMG_0005.jpg")
    path = library.image(image).absolute  # type: ignore[union-attr]
    pixels = photo.crop(path, (0.5, 0, 1, 0.5), tiny_encoder.geometry)
    expected = exact(library, tiny_encoder.encode_images(pixels[None])[0])
    assert ids(engine, f"like:{image}@.5,0,1,.5", k=5, fold=False) == [
        found for found, _ in expected[:5]
    ]
    upload = engine.upload(as_bytes(draw(5), "PNG"))
    assert engine.search(f"upload:{upload.token}@.5,0,1,.5", k=1).hits


def test_all_uploads_are_encoded_by_one_thread(
    engine: SearchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = set()
    encode = engine.encoder.encode_images

    def recorded(pixels: Pixels) -> Embeddings:
        threads.add(get_ident())
        return encode(pixels)

    monkeypatch.setattr(engine.encoder, "encode_images", recorded)
    files = [as_bytes(draw(n), "PNG") for n in range(30, 38)]
    with ThreadPoolExecutor(4) as pool:
        uploads = list(pool.map(engine.upload, files))
    assert len({upload.vector.tobytes() for upload in uploads}) == len(files)
    assert len(threads) == 1


def test_pages_continue_each_other(engine: SearchEngine) -> None:
    for fold in (False, True):
        whole = ids(engine, "blue", k=1000, fold=fold)
        for size in (1, 7, 50):
            paged = [
                image
                for offset in range(0, len(whole) + size, size)
                for image in ids(engine, "blue", k=size, offset=offset, fold=fold)
            ]
            assert paged == whole
    assert ids(engine, "blue", offset=10_000) == []


def test_near_duplicates_are_folded_into_one_hit(engine: SearchEngine, library: Library) -> None:
    copy, original = id_of(library, "copy.jpg"), id_of(library, "IMG_0000.jpg")
    for query in ("blue", "", "match:all blue red"):
        hits = engine.search(query, k=1000).hits
        shown = {hit.id: hit.duplicates for hit in hits}
        assert len({copy, original} & set(shown)) == 1
        head = ({copy, original} & set(shown)).pop()
        assert {head, *shown[head]} >= {copy, original}
        all_ids = [image for hit in hits for image in (hit.id, *hit.duplicates)]
        assert sorted(all_ids) == everything(library)[0].tolist()
    assert len(ids(engine, "blue", k=1000, fold=False)) == library.count


def test_a_query_without_terms_lists_filtered_images_by_date(engine: SearchEngine) -> None:
    for query, down in (("", True), ("sort:oldest", False), ("in:Trips", True)):
        result = engine.search(query, k=1000, fold=False)
        dates = [hit.record.info.taken_at for hit in result.hits if hit.record.info.taken_at]
        assert dates == sorted(dates, reverse=down)
        assert len(dates) >= 30
        assert (result.good, result.nothing_matches, result.message) == (None, False, None)
        assert all(hit.match for hit in result.hits)


def test_filters_are_exact(engine: SearchEngine, library: Library) -> None:
    result = engine.search("green in:Trips after:2021", k=1000, fold=False)
    expected = {
        record.id
        for record in library.images(everything(library)[0].tolist())
        if record.path.startswith("Trips/")
        and record.info.taken_at is not None
        and record.info.taken_at.year >= 2021
    }
    assert {hit.id for hit in result.hits} == expected
    assert result.total == len(expected)
    nothing = engine.search("green type:gif")
    assert (nothing.total, len(nothing.hits)) == (0, 0)
    assert nothing.message == "No photos match these filters."


def test_a_negative_term_subtracts_half_its_vector(
    engine: SearchEngine, library: Library, tiny_encoder: Encoder
) -> None:
    dog, people = tiny_encoder.encode_texts(["dog", "people"])
    total = dog - 0.5 * people
    expected = exact(library, total / np.linalg.norm(total))
    result = engine.search("dog -people", k=10, fold=False)
    assert [hit.id for hit in result.hits] == [image for image, _ in expected[:10]]
    assert result.hits[0].score == pytest.approx(expected[0][1], abs=1e-5)


def test_only_negative_terms_rank_the_least_similar_first(
    engine: SearchEngine, library: Library
) -> None:
    towards = [hit.score for hit in engine.search("dog", k=1000, fold=False).hits]
    away = engine.search("-dog", k=1000, fold=False)
    assert away.hits[0].score == pytest.approx(-min(towards), abs=1e-5)
    assert len(away.hits) == library.count


def test_weights_scale_the_vectors_of_terms(
    engine: SearchEngine, library: Library, tiny_encoder: Encoder
) -> None:
    dog, snow = tiny_encoder.encode_texts(["dog", "snow"])
    total = 3 * dog + snow
    expected = exact(library, total / np.linalg.norm(total))
    assert ids(engine, "snow 3:dog", k=10, fold=False) == [image for image, _ in expected[:10]]
    assert ids(engine, "dog 0:snow", k=10) == ids(engine, "dog", k=10)
    assert ids(engine, "0:snow", k=10) == ids(engine, "", k=10)


def test_a_text_and_an_image_count_equally_whatever_the_range_of_their_cosines() -> None:
    rng = np.random.default_rng(0)
    sample = rng.standard_normal((500, 16)).astype(np.float32) + 2
    sample /= np.linalg.norm(sample, axis=1, keepdims=True)
    text = rng.standard_normal(16).astype(np.float32)
    text /= np.linalg.norm(text)
    image = sample[0]
    vector = combine([WeightedVector(text, 1, False), WeightedVector(image, 1, True)], sample)
    scores = sample @ vector
    with_text = np.corrcoef(scores, sample @ text)[0, 1]
    with_image = np.corrcoef(scores, sample @ image)[0, 1]
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert min(with_text, with_image) > 0.4
    plain = sample @ (text + image)
    balance = abs(with_text - with_image)
    assert balance < abs(
        np.corrcoef(plain, sample @ text)[0, 1] - np.corrcoef(plain, sample @ image)[0, 1]
    )


def test_terms_that_cancel_out_are_an_error(engine: SearchEngine) -> None:
    with pytest.raises(QueryError, match="cancel"):
        engine.search('dog -2:"dog"')


def test_match_all_ranks_by_the_lowest_z_score_on_balanced_scales(
    engine: SearchEngine, library: Library, tiny_encoder: Encoder
) -> None:
    from sightline.server.search.relevance import ScoreScale

    known, vectors = everything(library)
    image = id_of(library, "IMG_0009.jpg")
    towards = np.stack([*tiny_encoder.encode_texts(["red"]), library.vectors(np.array([image]))[0]])
    cosines = vectors @ towards.T
    sample = library.sample()
    z_scores = np.stack(
        [ScoreScale.of(sample @ v).z_scores(cosines[:, n]) for n, v in enumerate(towards)], axis=1
    )
    best = z_scores[known != image].max(axis=0)
    assert best[0] > best[1] > 0, "they differ before"
    order = np.lexsort((known, -(z_scores / best).min(axis=1)))
    assert order.tolist() != np.lexsort((known, -z_scores.min(axis=1))).tolist()
    result = engine.search(f'match:all "red" like:{image}', k=1000, fold=False)
    assert [hit.id for hit in result.hits][:20] == known[order][:20].tolist()
    assert result.hits[0].score == pytest.approx(float(cosines[order[0]].min()), abs=1e-4)


def test_match_all_is_exact_without_scanning_everything(
    library: Library, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sightline.server.search import ranking

    with SearchEngine(library, tiny_encoder) as engine:
        whole = ids(engine, 'match:all "red" "snow" -"fog"', k=1000, fold=False)
    monkeypatch.setattr(ranking, "FIRST_DEPTH", 4)
    monkeypatch.setattr(ranking, "DEPTH_FACTOR", 2)
    with SearchEngine(library, tiny_encoder) as engine:
        for k in (1, 3, 9):
            found = ids(engine, 'match:all "red" "snow" -"fog"', k=k, fold=False)
            assert found == whole[:k]


def test_an_image_written_while_a_search_begins_is_found_by_the_next(
    tmp_path: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = few_pictures(tmp_path / "pictures", 3)
    with (
        make_library(tmp_path / "library", tiny_encoder, pictures) as library,
        SearchEngine(library, tiny_encoder) as engine,
    ):
        before = len(ids(engine, "red", k=1000, fold=False))
        late = replace(
            picture("late.jpg", content="late"), vector=library.vectors(library.select()[:1])[0]
        )
        refresh = library.refresh

        def written_meanwhile(*, wait: bool = True) -> None:
            refresh(wait=wait)
            library.catalog.write(library.ensure_root(pictures), images=[late])

        monkeypatch.setattr(library, "refresh", written_meanwhile)
        ids(engine, "blue", k=1000, fold=False)
        monkeypatch.setattr(library, "refresh", refresh)
        assert len(ids(engine, "blue", k=1000, fold=False)) == before + 1


def test_pages_continue_a_ranking_that_a_commit_does_not_change(
    tmp_path: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = few_pictures(tmp_path / "pictures", 200)
    with (
        make_library(tmp_path / "library", tiny_encoder, pictures) as library,
        SearchEngine(library, tiny_encoder) as engine,
    ):
        searched: list[int] = []
        nearest = library.nearest

        def counted(*args: Any, **options: Any) -> Any:
            searched.append(args[1])
            return nearest(*args, **options)

        monkeypatch.setattr(library, "nearest", counted)
        root = library.ensure_root(pictures)
        query = tiny_encoder.encode_texts(["red"])[0]
        pages = ids(engine, "red", k=20, fold=False)
        assert len(searched) == 1
        for name, vector, in_first_place in (("far.jpg", -query, False), ("near.jpg", query, True)):
            late = replace(picture(name, content=name), vector=vector)
            (added,) = library.catalog.write(root, images=[late]).images
            before = len(searched)
            first = engine.search("red", k=1, fold=False)
            assert (first.hits[0].id == added) == in_first_place
            assert (len(searched) > before) == in_first_place, "the cached ranking is used"
            assert first.total == library.count
        pages += ids(engine, "red", k=20, offset=21, fold=False)
        assert len(set(pages)) == 40
        library.catalog.write(
            root, images=[replace(picture("red.jpg", content="x"), vector=-query)]
        )
        assert "red.jpg" in engine.search("red", k=20).hits[0].path, "found by its name"


def test_sorting_by_date_lists_only_matches(engine: SearchEngine) -> None:
    queries = [f"-like:{image}" for image in range(1, 20)]
    query = max(queries, key=lambda one: engine.search(one, fold=False).good or 0)
    best = engine.search(query, k=1000, fold=False)
    matches = {hit.id: hit.score for hit in best.hits if hit.match}
    assert 2 < best.good == len(matches) < len(best.hits)  # type: ignore[operator]
    for order in ("newest", "oldest"):
        dated = engine.search(f"{query} sort:{order}", k=1000, fold=False)
        assert {hit.id: hit.score for hit in dated.hits} == matches
        assert dated.good == best.good


def test_good_counts_the_hits_that_reach_the_threshold(engine: SearchEngine) -> None:
    for query in ("dog", "red -blue", "like:3", "match:all dog like:4"):
        for fold in (False, True):
            result = engine.search(query, k=1000, fold=fold)
            assert result.good == sum(hit.match for hit in result.hits)
            relevances = [hit.relevance for hit in result.hits]
            assert relevances == sorted(relevances, reverse=True)
            assert all((hit.relevance >= 0.5) == hit.match for hit in result.hits)


def test_similar_excludes_the_image_itself(engine: SearchEngine, library: Library) -> None:
    image = id_of(library, "IMG_0003.jpg")
    result = engine.similar(image, k=5)
    assert len(result.hits) == 5
    assert image not in [hit.id for hit in result.hits]
    assert result.hits[0].record.path.endswith("smaller.jpg")


def test_the_timeline_counts_months(engine: SearchEngine, library: Library) -> None:
    everywhen = engine.timeline("")
    assert sum(count for _, count in everywhen.months) + everywhen.undated == library.count
    trips = engine.timeline("in:Trips")
    assert sum(count for _, count in trips.months) == 40
    image = id_of(library, "IMG_0003.jpg")
    good = engine.search(f"like:{image}").good
    assert good is not None
    months = engine.timeline(f"like:{image}")
    assert sum(count for _, count in months.months) + months.undated >= good


def test_random_images_depend_on_the_seed(engine: SearchEngine) -> None:
    one, again, other = (engine.random(k=20, seed=seed) for seed in (1, 1, 2))
    assert [hit.id for hit in one.hits] == [hit.id for hit in again.hits]
    assert [hit.id for hit in one.hits] != [hit.id for hit in other.hits]
    assert len({hit.id for hit in one.hits}) == 20


def test_words_for_an_image_are_captions_by_cosine(engine: SearchEngine, library: Library) -> None:
    words = engine.words_for(id_of(library, "IMG_0001.jpg"), k=3)
    assert len(words) == 3
    assert [score for _, score in words] == sorted((s for _, s in words), reverse=True)
    assert all(text and 0 <= score <= 1 for text, score in words)
    with pytest.raises(NotFoundError):
        engine.words_for(10**6)


@pytest.mark.parametrize(
    ("query", "options", "error"),
    [
        ("like:999999", {}, NotFoundError),
        ("like:999999@0,0,1,1", {}, NotFoundError),
        ("like:9223372036854775807", {}, NotFoundError),
        ("upload:unknown", {}, UsageError),
        ("after:never", {}, QueryError),
        ("dog", {"k": 0}, UsageError),
        ("dog", {"k": MAX_K + 1}, UsageError),
        ("dog", {"offset": -1}, UsageError),
        ("", {"images": [b"no image"]}, UsageError),
    ],
)
def test_an_invalid_search_is_an_error_of_one_line(
    engine: SearchEngine, query: str, options: dict, error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        engine.search(query, **options)
    assert "\n" not in str(caught.value)


def test_a_query_object_equals_its_text(engine: SearchEngine) -> None:
    query = Query((Term(text="dog"), Term(text="snow", weight=2)))
    assert [hit.id for hit in engine.search(query).hits] == ids(engine, "dog 2:snow")
    assert engine.search(query).query == 'dog 2:"snow"'
    assert engine.search(parse("dog")).query == "dog"


def test_a_text_is_encoded_once(
    engine: SearchEngine, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    encode = tiny_encoder.encode_texts
    monkeypatch.setattr(
        tiny_encoder, "encode_texts", lambda texts: asked.extend(texts) or encode(texts)
    )
    engine.search("an umbrella")
    engine.search("an umbrella in:Trips")
    engine.search('an umbrella -"two cats"')
    assert asked == ["an umbrella", "two cats"]


def test_concurrent_searches_return_the_same_hits(engine: SearchEngine) -> None:
    queries = [f"word{n % 10} -fog{n % 3}" for n in range(40)]
    expected = {query: ids(engine, query) for query in set(queries)}
    wrong: list[str] = []

    def ask(query: str) -> None:
        if ids(engine, query) != expected[query]:
            wrong.append(query)

    threads = [Thread(target=ask, args=(query,)) for query in queries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_new_images_are_found_by_the_next_search(tmp_path: Path, tiny_encoder: Encoder) -> None:
    from sightline.indexer.indexing.run import update_library

    pictures = few_pictures(tmp_path / "pictures", 3)
    with (
        make_library(tmp_path / "library", tiny_encoder, pictures) as library,
        SearchEngine(library, tiny_encoder) as engine,
    ):
        data = as_bytes(draw(500), quality=90)
        assert engine.search("", images=[data], k=1).hits[0].score < 0.9999
        (pictures / "new.jpg").write_bytes(data)
        update_library(library, tiny_encoder, [pictures], workers=1)
        hit = engine.search("", images=[data], k=1).hits[0]
        assert hit.record.path == "new.jpg"
        assert ids(engine, "name:new.jpg") == [hit.id]


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_library_too_small_for_a_threshold_has_only_matches(
    tmp_path: Path, tiny_encoder: Encoder, count: int
) -> None:
    pictures = few_pictures(tmp_path / "pictures", count)
    with (
        make_library(tmp_path / "library", tiny_encoder, pictures) as library,
        SearchEngine(library, tiny_encoder) as engine,
    ):
        result = engine.search("dog")
        assert (result.total, len(result.hits), result.nothing_matches) == (count, count, False)
        assert all(hit.match for hit in result.hits)
        assert (result.message is None) == bool(count)
        assert len(engine.search("match:all dog cat").hits) == count
        assert len(engine.search("dog sort:newest").hits) == count
        assert len(engine.search("").hits) == count
        assert engine.timeline("dog").undated == count


def test_a_result_as_a_dictionary(engine: SearchEngine) -> None:
    result = engine.search("dog in:Trips", k=2)
    told = result.as_dict()
    assert told["query"] == "dog in:Trips"
    hit = told["hits"][0]
    assert hit["absolute"].endswith(hit["path"])
    assert hit["folder"] == "pictures/Trips/Lake Como"
    assert hit["name"] == hit["path"].rpartition("/")[2]
    assert "absolute" not in result.as_dict(absolute=False)["hits"][0]
