"""The vector index answers as exact search would, whatever is added, removed, broken or built."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers_catalog import TOP, picture
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sightline.indexer.catalog import Catalog
from sightline.indexer.errors import UsageError
from sightline.indexer.types import IndexState, NewImage, Root
from sightline.indexer.vector_index import build as index_build
from sightline.indexer.vector_index import generation as index_generation
from sightline.indexer.vector_index import gpu
from sightline.indexer.vector_index import index as vector_index
from sightline.indexer.vector_index.exact import best
from sightline.indexer.vector_index.generation import Generation
from sightline.indexer.vector_index.index import (
    VectorIndex,
    build_index,
    maintain_index,
    open_index,
)
from sightline.indexer.vector_index.manifest import EVERYWHERE, MANIFEST, Manifest, read_manifest

MODEL = {"model": "m", "revision": "r"}
COUNT = 1500
KINDS = ("exact", "ivf-pq", "ivf-rabitq")


def vectors(count: int, dimension: int, seed: int) -> np.ndarray:
    """Clustered unit vectors, as embeddings are."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((20, dimension))
    found = centres[random.integers(20, size=count)] + 0.6 * random.standard_normal(
        (count, dimension)
    )
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def new_catalog(folder: Path, *, dimension: int) -> tuple[Catalog, Root]:
    """An empty catalog and its one root."""
    path = folder / "catalog.db"
    catalog = Catalog.create(path, model="m", revision="r", dimension=dimension)
    return catalog, catalog.add_root(TOP)


def with_vector(path: str, vector: np.ndarray) -> NewImage:
    return dataclasses.replace(picture(path), vector=vector)


def fill(catalog: Catalog, root: Root, count: int, *, seed: int = 0, start: int = 0) -> None:
    made = vectors(count, catalog.dimension, seed)
    images = [with_vector(f"{start + n}.jpg", made[n]) for n in range(count)]
    catalog.write(root, images=images)


def exactly(catalog: Catalog, query: np.ndarray, k: int, allowed: np.ndarray | None = None) -> list:
    """The answer of a plain loop over the catalog: ids in order."""
    ids = catalog.select() if allowed is None else np.intersect1d(catalog.select(), allowed)
    scores = np.array([float(row @ query) for row in catalog.vectors(ids)])
    return ids[np.lexsort((ids, -scores))][:k].tolist()


def recall(index: VectorIndex, catalog: Catalog, allowed: np.ndarray | None = None) -> float:
    queries = vectors(40, catalog.dimension, 1234)
    _, found = index.search(queries, 10, allowed=allowed)
    hits = sum(
        len(set(row.tolist()) & set(exactly(catalog, query, 10, allowed)))
        for query, row in zip(queries, found, strict=True)
    )
    return hits / sum(len(exactly(catalog, query, 10, allowed)) for query in queries)


def assert_in_order(scores: np.ndarray, ids: np.ndarray) -> None:
    """Falling scores, ties by id, no id twice, padding at the end."""
    for row, of in zip(scores, ids, strict=True):
        there = of >= 0
        assert not there[np.argmin(there) :].any() or there.all()
        assert len(set(of[there].tolist())) == there.sum()
        assert (np.diff(row[there]) <= 0).all()
        assert np.isneginf(row[~there]).all()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog of clustered vectors, to be copied."""
    place = tmp_path_factory.mktemp("filled")
    catalog, root = new_catalog(place, dimension=32)
    with catalog:
        fill(catalog, root, COUNT)
    return place


@pytest.fixture
def catalog(filled: Path, tmp_path: Path) -> Iterator[Catalog]:
    shutil.copyfile(filled / "catalog.db", tmp_path / "catalog.db")
    with Catalog.open(tmp_path / "catalog.db") as catalog:
        yield catalog


KEPT: dict[tuple[str, int, str], Path] = {}
"""Indexes that were built, by catalog, version and kind: a build takes seconds, a copy none."""


def built(catalog: Catalog, directory: Path, kind: str) -> VectorIndex:
    """An index of this kind in ``directory``, open."""
    key = catalog.identity, catalog.version, kind
    if key not in KEPT or directory.exists():
        texts = vectors(60, catalog.dimension, 5)
        build_index(
            directory, catalog, **MODEL, kind=kind, text_queries=lambda: texts, device="cpu"
        )
        kept = directory.with_name(f"{directory.name} kept")
        if key not in KEPT:
            KEPT[key] = shutil.copytree(directory, kept)
    else:
        shutil.copytree(KEPT[key], directory)
    return open_index(directory, catalog, **MODEL)


def manifest_in(directory: Path) -> Manifest:
    """Of the generation in force there."""
    manifest = read_manifest(directory)
    assert manifest is not None
    return manifest


# answers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_finds_what_exact_search_finds(
    catalog: Catalog, tmp_path: Path, kind: str
) -> None:
    index = built(catalog, tmp_path / "index", kind)
    assert index.state.type == kind
    assert recall(index, catalog) >= (1.0 if kind == "exact" else 0.97)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 10, 200, COUNT + 50])
def test_scores_are_exact_and_in_order(catalog: Catalog, tmp_path: Path, kind: str, k: int) -> None:
    index = built(catalog, tmp_path / "index", kind)
    queries = vectors(5, catalog.dimension, 8)
    scores, ids = index.search(queries, k)
    assert scores.shape == ids.shape == (5, k)
    assert_in_order(scores, ids)
    for query, row, of in zip(queries, scores, ids, strict=True):
        there = of >= 0
        assert np.allclose(row[there], catalog.vectors(of[there]) @ query, atol=1e-6)
    if k > COUNT:
        assert ((ids >= 0).sum(axis=1) == COUNT).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("every", [2, 10, 100, 1000])
def test_filters_are_exact(catalog: Catalog, tmp_path: Path, kind: str, every: int) -> None:
    index = built(catalog, tmp_path / "index", kind)
    allowed = catalog.select()[::every]
    scores, ids = index.search(vectors(20, catalog.dimension, 3), 10, allowed=allowed[::-1])
    assert np.isin(ids[ids >= 0], allowed).all()
    assert_in_order(scores, ids)
    assert recall(index, catalog, allowed) >= (1.0 if kind == "exact" else 0.97)


@pytest.mark.parametrize("kind", ["ivf-pq", "ivf-rabitq"])
def test_filters_are_exact_where_they_are_left_to_faiss(
    catalog: Catalog, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightline.indexer.vector_index.generation.EXACT_ROWS", 0)
    index = built(catalog, tmp_path / "index", kind)
    allowed = catalog.select()[::2]
    _, ids = index.search(vectors(20, catalog.dimension, 3), 10, allowed=allowed)
    assert np.isin(ids, allowed).all()
    assert recall(index, catalog, allowed) >= 0.97


@pytest.mark.parametrize("kind", ["ivf-pq", "ivf-rabitq"])
def test_a_filter_that_comes_again_is_remembered_and_still_exact(
    catalog: Catalog, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for few in (0, COUNT):  # left to FAISS, and all of its rows ranked
        monkeypatch.setattr("sightline.indexer.vector_index.generation.EXACT_ROWS", few)
        index = built(catalog, tmp_path / f"index {few}", kind)
        allowed = catalog.select()[::2].copy()
        allowed.flags.writeable = False
        query = catalog.vectors(allowed[:1])
        scores, ids = index.search(query, 10, allowed=allowed)
        for known in (allowed, allowed.copy()):
            again, same = index.search(query, 10, allowed=known)
            assert (again == scores).all()
            assert (same == ids).all()
        assert ids[0, 0] == allowed[0]
        # What leaves the library is not found, though the filter is the same.
        catalog.remove([int(allowed[0])])
        index.refresh()
        _, ids = index.search(query, 10, allowed=allowed)
        assert allowed[0] not in ids
        assert np.isin(ids, allowed).all()
        index.close()


def test_an_array_of_ids_that_may_change_is_not_remembered(
    catalog: Catalog, tmp_path: Path
) -> None:
    index = built(catalog, tmp_path / "index", "ivf-pq")
    allowed = catalog.select()[:200].copy()
    query = catalog.vectors(allowed[:1])
    assert index.search(query, 1, allowed=allowed)[1][0, 0] == allowed[0]
    allowed += 200
    assert np.isin(index.search(query, 10, allowed=allowed)[1], allowed).all()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_allowed_is_nothing_found(catalog: Catalog, tmp_path: Path, kind: str) -> None:
    index = built(catalog, tmp_path / "index", kind)
    for allowed in (np.empty(0, np.int64), np.array([10**9])):
        _, ids = index.search(vectors(2, catalog.dimension, 3), 5, allowed=allowed)
        assert (ids == -1).all()


def test_a_query_of_another_dimension_is_refused(catalog: Catalog, tmp_path: Path) -> None:
    index = open_index(tmp_path / "index", catalog, **MODEL)
    with pytest.raises(ValueError, match="32"):
        index.search(np.zeros((1, 31), np.float32), 5)


def test_ties_go_by_id(tmp_path: Path) -> None:
    catalog, root = new_catalog(tmp_path, dimension=32)
    with catalog:
        one = vectors(1, 32, 0)[0]
        catalog.write(root, images=[with_vector(f"{n}.jpg", one) for n in range(600)])
        for kind in KINDS:
            index = built(catalog, tmp_path / kind, kind)
            _, ids = index.search(one[None], 5)
            assert ids.tolist() == [catalog.select()[:5].tolist()]


def test_a_large_library_has_smaller_codes_and_finds_as_much(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_build, "FINE_BELOW", 1000)
    build_index(tmp_path / "index", catalog, **MODEL, kind="ivf-pq", device="cpu")
    manifest = manifest_in(tmp_path / "index")
    assert manifest.factory.endswith("PQ8np"), "a byte for four dimensions, not for two"
    assert recall(open_index(tmp_path / "index", catalog, **MODEL), catalog) >= 0.97


def test_candidates_that_cannot_reach_the_last_place_are_not_ranked(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_generation, "FIRST", 20)
    built(catalog, tmp_path / "index", "ivf-pq")
    manifest = manifest_in(tmp_path / "index")
    queries = vectors(40, catalog.dimension, 77)

    def found(slack: float) -> tuple[int, list[set[int]]]:
        """How many are ranked, and which ten are the best."""
        wide = {"nprobe": manifest.nlist, "reach": EVERYWHERE}
        changed = dataclasses.replace(manifest, slack=slack, depth=150, **wide)
        some = Generation(tmp_path / "index", changed).search(queries, 10)
        return sum(len(ids) for _, ids in some), [
            set(best(scores, ids, 10)[1].tolist()) for scores, ids in some
        ]

    every, truth = found(float("inf"))
    few, same = found(manifest.slack)
    assert few < every / 2
    assert sum(len(a & b) for a, b in zip(truth, same, strict=True)) >= 398
    assert found(-1.0)[0] == 40 * 20


def test_lists_are_looked_into_that_are_nearly_as_close_as_the_closest(
    catalog: Catalog, tmp_path: Path
) -> None:
    built(catalog, tmp_path / "index", "ivf-pq")
    manifest = manifest_in(tmp_path / "index")
    generation = Generation(tmp_path / "index", manifest)
    queries = vectors(40, catalog.dimension, 77)
    _, every, _ = generation.lists(queries, manifest.nlist)
    for reach in ((0.0, 0.1),), ((0.2, 0.3), (0.9, 0.05)):
        _, near, lists = generation.lists(queries, manifest.nlist, reach)
        for row, of, best_first in zip(near, lists, every, strict=True):
            far = np.interp(best_first[0], *zip(*reach, strict=True))
            assert (of >= 0).sum() == (best_first >= best_first[0] - far).sum()
            assert (row[of >= 0] >= best_first[0] - far).all()
    # For many results more lists are looked into, but no more of them than hold enough: a query
    # that is about as close to all would look into all.
    _, _, few = generation.lists(queries, 2, ((0.0, 2.0),))
    _, _, more = generation.lists(queries, 2, ((0.0, 2.0),), least=manifest.rows // 4)
    assert (few >= 0).sum(axis=1).max() == 2
    sizes = np.bincount(generation.homes(np.arange(manifest.rows)), minlength=manifest.nlist)
    held = [sizes[of[of >= 0]] for of in more]
    assert all(some.sum() >= manifest.rows // 4 > some[:-1].sum() for some in held)
    assert len(manifest.reach) == 2, "one for queries like texts, one for those like pictures"
    assert manifest.reach[0][0] <= manifest.reach[1][0]


def test_of_many_results_as_large_a_share_is_found(catalog: Catalog, tmp_path: Path) -> None:
    built(catalog, tmp_path / "index", "ivf-pq")
    manifest = manifest_in(tmp_path / "index")
    narrow = dataclasses.replace(manifest, nprobe=1, reach=((0.0, 0.0),), depth=10)
    generation = Generation(tmp_path / "index", narrow)
    queries = vectors(20, catalog.dimension, 78)
    hits = 0
    for query, (scores, ids) in zip(queries, generation.search(queries, 30), strict=True):
        hits += len(set(best(scores, ids, 30)[1].tolist()) & set(exactly(catalog, query, 30)))
    assert hits >= 0.9 * 30 * len(queries)


def test_an_index_whose_reach_was_never_measured_is_used(catalog: Catalog, tmp_path: Path) -> None:
    built(catalog, tmp_path / "index", "ivf-pq").close()
    path = tmp_path / "index" / MANIFEST
    document = json.loads(path.read_text())
    del document["reach"], document["slack"]
    document["filtered"] = [pair[:2] for pair in document["filtered"]]
    path.write_text(json.dumps(document))
    index = open_index(tmp_path / "index", catalog, **MODEL)
    assert index.state.type == "ivf-pq"
    assert index.state.note is None
    assert recall(index, catalog) >= 0.97


# growing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_additions_changes_and_removals_are_seen_at_once(
    catalog: Catalog, tmp_path: Path, kind: str
) -> None:
    index = built(catalog, tmp_path / "index", kind)
    [root] = catalog.roots()
    fill(catalog, root, 30, seed=77, start=COUNT)
    moved = vectors(1, catalog.dimension, 500)[0]
    catalog.write(root, images=[with_vector("3.jpg", moved)])
    gone = catalog.remove(catalog.select()[100:160])
    assert index.refresh()
    assert not index.refresh()
    assert recall(index, catalog) >= 0.97
    _, ids = index.search(vectors(50, catalog.dimension, 9), 50)
    assert not np.isin(ids, gone).any()
    scores, ids = index.search(moved[None], 1)
    assert catalog.images(ids[0].tolist())[0].path == "3.jpg"
    assert scores[0, 0] == pytest.approx(1, abs=1e-3)
    reopened = open_index(tmp_path / "index", catalog, **MODEL)
    asked = np.concatenate([gone, catalog.select()[::-1], [-1, 0, 10**12]])
    for one in (index, reopened):
        assert one.version == catalog.version
        assert np.array_equal(one.vectors(asked), catalog.vectors(asked), equal_nan=True)
    for first, second in zip(
        index.search(moved[None], 20), reopened.search(moved[None], 20), strict=True
    ):
        assert (first == second).all()


def test_an_index_is_extended_without_training_and_loses_nothing(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_index, "EXTEND_AT", 50)
    monkeypatch.setattr(vector_index, "EXACT_BELOW", 100)
    reader = built(catalog, tmp_path / "index", "ivf-pq")
    trained = manifest_in(tmp_path / "index")
    [root] = catalog.roots()
    fill(catalog, root, 200, seed=77, start=COUNT)
    gone = catalog.remove(catalog.select()[100:110])
    state = maintain_index(tmp_path / "index", catalog, **MODEL, device="cpu")
    assert state is not None
    assert (state.count, state.pending, state.generation) == (COUNT + 190, 0, 2)
    assert maintain_index(tmp_path / "index", catalog, **MODEL, device="cpu") is None
    manifest = manifest_in(tmp_path / "index")
    assert manifest.trained_on == trained.trained_on
    reader.refresh()
    assert reader.state.generation == 2
    for index in (reader, open_index(tmp_path / "index", catalog, **MODEL)):
        assert recall(index, catalog) >= 0.97
        _, ids = index.search(vectors(50, catalog.dimension, 9), 50)
        assert not np.isin(ids, gone).any()
    assert len(list((tmp_path / "index").iterdir())) == 4, "older generations are swept away"


def test_an_index_is_trained_anew_when_the_library_has_outgrown_it(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_index, "EXTEND_AT", 50)
    built(catalog, tmp_path / "index", "ivf-pq")
    [root] = catalog.roots()
    fill(catalog, root, 2 * COUNT, seed=77, start=COUNT)
    maintain_index(tmp_path / "index", catalog, **MODEL, device="cpu")
    manifest = manifest_in(tmp_path / "index")
    assert manifest.trained_on == 3 * COUNT


def test_the_kind_is_chosen_by_size_unless_a_person_chose_it(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "index"
    assert maintain_index(directory, catalog, **MODEL) is None
    assert open_index(directory, catalog, **MODEL).state.type == "exact"
    monkeypatch.setattr(index_build, "EXACT_BELOW", 1000)
    monkeypatch.setattr(vector_index, "EXACT_BELOW", 1000)
    state = maintain_index(directory, catalog, **MODEL, device="cpu")
    assert state is not None
    assert state.type == "ivf-pq"
    built(catalog, directory, "exact")
    assert maintain_index(directory, catalog, **MODEL) is None
    assert open_index(directory, catalog, **MODEL).state.type == "exact"
    with pytest.raises(UsageError, match="ivf-rabitq"):
        build_index(directory, catalog, **MODEL, kind="hnsw")


def test_a_library_that_shrank_is_searched_exactly_again(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (index_build, vector_index):
        monkeypatch.setattr(module, "EXACT_BELOW", 1000)
    directory = tmp_path / "index"
    maintain_index(directory, catalog, **MODEL, device="cpu")
    catalog.remove(catalog.select()[200:])
    state = maintain_index(directory, catalog, **MODEL, device="cpu")
    assert state is not None
    assert (state.type, state.count) == ("exact", 200)
    assert not list(directory.glob("*.faiss"))


def test_what_was_measured_is_told(catalog: Catalog, tmp_path: Path) -> None:
    state: IndexState = built(catalog, tmp_path / "index", "ivf-pq").state
    assert set(state.recall) == {"image", "text"}
    assert min(state.recall.values()) >= 0.97
    assert state.nprobe
    assert 0 < state.bytes < 2 * COUNT * 32 * 4


def test_progress_is_told_by_phase(catalog: Catalog, tmp_path: Path) -> None:
    phases: list[str] = []
    build_index(
        tmp_path / "index",
        catalog,
        **MODEL,
        kind="ivf-pq",
        device="cpu",
        progress=lambda phase, done, total: phases.append(phase),
    )
    assert list(dict.fromkeys(phases)) == [
        "reading vectors",
        "training the index",
        "building the index",
        "measuring the index",
    ]


# trust --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["index", "vectors", "ids", "manifest"])
@pytest.mark.parametrize("how", ["flipped", "short", "gone", "longer"])
def test_a_spoilt_file_is_not_used_and_said_and_built_again(
    catalog: Catalog, tmp_path: Path, name: str, how: str
) -> None:
    directory = tmp_path / "index"
    built(catalog, directory, "ivf-pq")
    manifest = manifest_in(directory)
    path = directory / (MANIFEST if name == "manifest" else manifest.files[name].name)
    data = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
    else:
        data[len(data) // 2] ^= 0x10
        path.write_bytes({"flipped": bytes(data), "short": data[:-7], "longer": data + b"x"}[how])
    index = open_index(directory, catalog, **MODEL)
    assert recall(index, catalog) == 1
    if (name, how) != ("manifest", "gone"):
        assert index.state.type == "exact" or name == "manifest"
    if index.state.type == "exact" and how != "gone":
        assert "sightline rebuild" in (index.state.note or "")
    if how == "short":
        maintain_index(directory, catalog, **MODEL, kind="ivf-pq", device="cpu")
        assert open_index(directory, catalog, **MODEL).state.note is None


def test_an_index_of_another_library_or_model_is_not_used(
    catalog: Catalog, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path / "index"
    built(catalog, directory, "ivf-pq")
    state = open_index(directory, catalog, model="m", revision="other").state
    assert state.type == "exact"
    assert "made with" in (state.note or "")
    other, root = new_catalog(tmp_path_factory.mktemp("other"), dimension=32)
    with other:
        fill(other, root, 20)
        index = open_index(directory, other, **MODEL)
        assert index.state.type == "exact"
        assert "another library" in (index.state.note or "")
        assert recall(index, other) == 1


def test_a_build_that_is_cut_off_leaves_the_old_index(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "index"
    built(catalog, directory, "ivf-pq")
    before = (directory / MANIFEST).read_bytes()

    class Cut(BaseException):
        pass

    for phase in ("reading vectors", "training the index", "building the index"):

        def cut(now: str, done: int, total: int | None, phase: str = phase) -> None:
            if now == phase:
                raise Cut

        with pytest.raises(Cut):
            build_index(directory, catalog, **MODEL, kind="ivf-pq", device="cpu", progress=cut)
        assert (directory / MANIFEST).read_bytes() == before
        assert open_index(directory, catalog, **MODEL).state.generation == 1
    built(catalog, directory, "ivf-pq")
    assert len(list(directory.iterdir())) == 4, "what was cut off is swept away"


def test_a_manifest_cannot_name_files_elsewhere(catalog: Catalog, tmp_path: Path) -> None:
    directory = tmp_path / "index"
    built(catalog, directory, "ivf-pq")
    document = json.loads((directory / MANIFEST).read_text())
    document["files"]["ids"]["name"] = "../catalog.db"
    (directory / MANIFEST).write_text(json.dumps(document))
    assert open_index(directory, catalog, **MODEL).state.type == "exact"


def test_a_gpu_that_is_not_there_is_an_error_only_when_it_is_asked_for(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index(tmp_path / "index", catalog, **MODEL, kind="ivf-pq", device="auto")
    monkeypatch.setattr(gpu, "gpu_there", lambda: False)
    with pytest.raises(UsageError, match="gpu"):
        build_index(tmp_path / "index", catalog, **MODEL, kind="ivf-pq", device="cuda")


# any order of anything ----------------------------------------------------------------------------


class Interleaving(RuleBasedStateMachine):
    """Adds, changes, removals, builds, extensions and searches in any order."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.place = Path(self.folder.name)
        self.catalog, self.root = new_catalog(self.place, dimension=16)
        self.index = open_index(self.place / "index", self.catalog, **MODEL)
        self.seed = 0

    def teardown(self) -> None:
        self.index.close()
        self.catalog.close()
        self.folder.cleanup()

    @rule(count=st.integers(1, 200), start=st.integers(0, 600))
    def write(self, count: int, start: int) -> None:
        self.seed += 1
        fill(self.catalog, self.root, count, seed=self.seed, start=start)

    @rule(step=st.integers(2, 9))
    def remove(self, step: int) -> None:
        self.catalog.remove(self.catalog.select()[::step])

    @rule(kind=st.sampled_from(KINDS))
    def build(self, kind: str) -> None:
        build_index(self.place / "index", self.catalog, **MODEL, kind=kind, device="cpu")

    @rule()
    def maintain(self) -> None:
        at, vector_index.EXTEND_AT = vector_index.EXTEND_AT, 20
        try:
            maintain_index(self.place / "index", self.catalog, **MODEL, device="cpu")
        finally:
            vector_index.EXTEND_AT = at

    @rule()
    def open_again(self) -> None:
        self.index.close()
        self.index = open_index(self.place / "index", self.catalog, **MODEL)

    @invariant()
    def answers_are_right(self) -> None:
        self.index.refresh()
        there = self.catalog.select()
        queries = vectors(3, 16, self.seed + 1)
        scores, ids = self.index.search(queries, 10)
        assert_in_order(scores, ids)
        found = ids[ids >= 0]
        assert np.isin(found, there).all()
        assert ((ids >= 0).sum(axis=1) == min(10, len(there))).all()
        for query, row, of in zip(queries, scores, ids, strict=True):
            kept = self.catalog.vectors(of[of >= 0])
            assert np.allclose(row[of >= 0], kept @ query, atol=1e-6)
        if self.index.state.type == "exact":
            assert ids[0][ids[0] >= 0].tolist() == exactly(self.catalog, queries[0], 10)


TestInterleaving = Interleaving.TestCase
TestInterleaving.settings = settings(max_examples=12, stateful_step_count=12, deadline=None)
