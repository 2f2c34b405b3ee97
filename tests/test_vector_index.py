"""The vector index returns what exact search returns, whatever is added, deleted or corrupted."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
import pytest
from helpers_catalog import TOP, picture
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sightline.indexer.catalog import Catalog
from sightline.indexer.errors import UsageError
from sightline.indexer.types import IndexState, NewImage, Root
from sightline.indexer.vector_index import (
    VectorIndex,
    build,
    build_index,
    generation,
    gpu,
    index,
    maintain_index,
    open_index,
)
from sightline.indexer.vector_index.generation import Generation, Probing
from sightline.indexer.vector_index.manifest import (
    MANIFEST,
    UNLIMITED,
    Manifest,
    read_manifest,
)

MODEL = {"model": "m", "revision": "r"}
COUNT = 1500
KINDS = ("exact", "ivf-pq", "ivf-rabitq")
FIXTURES = Path(__file__).parent / "fixtures"


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


def exact_ids(catalog: Catalog, query: np.ndarray, k: int, allowed: np.ndarray | None = None):
    """The ids of the top ``k`` by a plain loop over the catalog, in order."""
    ids = catalog.select() if allowed is None else np.intersect1d(catalog.select(), allowed)
    scores = np.array([float(row @ query) for row in catalog.vectors(ids)])
    return ids[np.lexsort((ids, -scores))][:k].tolist()


def recall(
    index: VectorIndex, catalog: Catalog, allowed: np.ndarray | None = None, k: int = 10
) -> float:
    queries = vectors(40, catalog.dimension, 1234)
    _, found = index.search(queries, k, allowed=allowed)
    truth = [exact_ids(catalog, query, k, allowed) for query in queries]
    hits = sum(len(set(a.tolist()) & set(b)) for a, b in zip(found, truth, strict=True))
    return hits / sum(map(len, truth))


def assert_in_order(scores: np.ndarray, ids: np.ndarray) -> None:
    """Descending scores, ties by id, no id twice, padding at the end."""
    for row, of in zip(scores, ids, strict=True):
        there = of >= 0
        assert not there[np.argmin(there) :].any() or there.all()
        assert len(set(of[there].tolist())) == there.sum()
        assert (np.diff(row[there]) <= 0).all()
        assert np.isneginf(row[~there]).all()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog of clustered vectors, to be copied."""
    folder = tmp_path_factory.mktemp("filled")
    catalog, root = new_catalog(folder, dimension=32)
    with catalog:
        fill(catalog, root, COUNT)
    return folder


@pytest.fixture
def catalog(filled: Path, tmp_path: Path) -> Iterator[Catalog]:
    shutil.copyfile(filled / "catalog.db", tmp_path / "catalog.db")
    with Catalog.open(tmp_path / "catalog.db") as catalog:
        yield catalog


CACHE: dict[tuple[str, int, str], Path] = {}
"""Indexes by catalog, version and kind: a build takes seconds, a copy none."""


def built(catalog: Catalog, directory: Path, kind: str) -> VectorIndex:
    """An index of this kind in ``directory``, open."""
    key = catalog.identity, catalog.version, kind
    if key not in CACHE or directory.exists():
        texts = vectors(60, catalog.dimension, 5)
        build_index(
            directory, catalog, **MODEL, kind=kind, text_queries=lambda: texts, device="cpu"
        )
        if key not in CACHE:
            copy = directory.with_name(f"{directory.name} copy")
            CACHE[key] = shutil.copytree(directory, copy)
    else:
        shutil.copytree(CACHE[key], directory)
    return open_index(directory, catalog, **MODEL)


def manifest_in(directory: Path) -> Manifest:
    """The current manifest."""
    manifest = read_manifest(directory)
    assert manifest is not None
    return manifest


# search -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_high_recall(catalog: Catalog, tmp_path: Path, kind: str) -> None:
    opened = built(catalog, tmp_path / "index", kind)
    assert opened.state.type == kind
    assert recall(opened, catalog) >= (1.0 if kind == "exact" else 0.97)


def test_lists_of_many_centroids_are_found_roughly_first(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "NEAR_FROM", 1)
    monkeypatch.setattr(build, "NEAR_LISTS", 4)
    directory = tmp_path / "index"
    build_index(directory, catalog, **MODEL, kind="ivf-pq")  # type: ignore[arg-type]
    assert recall(open_index(directory, catalog, **MODEL), catalog) >= 0.97
    current = Generation(directory, manifest_in(directory))
    lists = current.ivf.invlists
    stored = [faiss.rev_swig_ptr(lists.get_ids(n), lists.list_size(n)) for n in range(lists.nlist)]
    assert sorted(np.concatenate(stored)) == list(range(COUNT))
    nearest = current.assigned_lists(np.arange(COUNT))
    same = sum((nearest[rows] == n).sum() for n, rows in enumerate(stored))
    assert same > 0.8 * COUNT


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 10, 200, COUNT + 50])
def test_scores_are_exact_and_in_order(catalog: Catalog, tmp_path: Path, kind: str, k: int) -> None:
    opened = built(catalog, tmp_path / "index", kind)
    queries = vectors(5, catalog.dimension, 8)
    scores, ids = opened.search(queries, k)
    assert scores.shape == ids.shape == (5, k)
    assert_in_order(scores, ids)
    for query, row, of in zip(queries, scores, ids, strict=True):
        there = of >= 0
        assert np.allclose(row[there], catalog.vectors(of[there]) @ query, atol=1e-6)
    if k > COUNT:
        assert ((ids >= 0).sum(axis=1) == COUNT).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("every", [2, 10, 100, 1000])
def test_filtered_search_returns_only_allowed_ids(
    catalog: Catalog, tmp_path: Path, kind: str, every: int
) -> None:
    opened = built(catalog, tmp_path / "index", kind)
    allowed = catalog.select()[::every]
    scores, ids = opened.search(vectors(20, catalog.dimension, 3), 10, allowed=allowed[::-1])
    assert np.isin(ids[ids >= 0], allowed).all()
    assert_in_order(scores, ids)
    assert recall(opened, catalog, allowed) >= (1.0 if kind == "exact" else 0.97)


@pytest.mark.parametrize("kind", ["ivf-pq", "ivf-rabitq"])
def test_a_large_filter_is_passed_to_faiss(
    catalog: Catalog, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "EXACT_ROWS", 0)
    monkeypatch.setattr(generation, "SCAN_DEPTH", 1)
    monkeypatch.setattr(Generation, "_scan", None)
    opened = built(catalog, tmp_path / "index", kind)
    allowed = catalog.select()[::2]
    _, ids = opened.search(vectors(20, catalog.dimension, 3), 10, allowed=allowed)
    assert np.isin(ids, allowed).all()
    assert recall(opened, catalog, allowed) >= 0.97


@pytest.mark.parametrize("kind", ["ivf-pq", "ivf-rabitq"])
@pytest.mark.parametrize("exact_rows", [0, COUNT])
def test_a_cached_filter_gives_the_same_results_and_follows_deletions(
    catalog: Catalog,
    tmp_path: Path,
    kind: str,
    exact_rows: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(generation, "EXACT_ROWS", exact_rows)
    opened = built(catalog, tmp_path / "index", kind)
    allowed = catalog.select()[::2].copy()
    allowed.flags.writeable = False
    query = catalog.vectors(allowed[:1])
    scores, ids = opened.search(query, 10, allowed=allowed)
    for same in (allowed, allowed.copy()):
        again, same_ids = opened.search(query, 10, allowed=same)
        assert (again == scores).all()
        assert (same_ids == ids).all()
    assert ids[0, 0] == allowed[0]
    catalog.remove([int(allowed[0])])
    opened.refresh()
    _, ids = opened.search(query, 10, allowed=allowed)
    assert allowed[0] not in ids
    assert np.isin(ids, allowed).all()


def test_a_writable_array_of_ids_is_not_cached(catalog: Catalog, tmp_path: Path) -> None:
    opened = built(catalog, tmp_path / "index", "ivf-pq")
    allowed = catalog.select()[:200].copy()
    query = catalog.vectors(allowed[:1])
    assert opened.search(query, 1, allowed=allowed)[1][0, 0] == allowed[0]
    allowed += 200
    assert np.isin(opened.search(query, 10, allowed=allowed)[1], allowed).all()


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_filter_returns_nothing(catalog: Catalog, tmp_path: Path, kind: str) -> None:
    opened = built(catalog, tmp_path / "index", kind)
    for allowed in (np.empty(0, np.int64), np.array([10**9])):
        _, ids = opened.search(vectors(2, catalog.dimension, 3), 5, allowed=allowed)
        assert (ids == -1).all()


def test_a_query_of_another_dimension_is_refused(catalog: Catalog, tmp_path: Path) -> None:
    opened = open_index(tmp_path / "index", catalog, **MODEL)
    with pytest.raises(ValueError, match="32"):
        opened.search(np.zeros((1, 31), np.float32), 5)


def test_ties_are_in_the_order_of_ids(tmp_path: Path) -> None:
    catalog, root = new_catalog(tmp_path, dimension=32)
    with catalog:
        one = vectors(1, 32, 0)[0]
        catalog.write(root, images=[with_vector(f"{n}.jpg", one) for n in range(600)])
        for kind in KINDS:
            _, ids = built(catalog, tmp_path / kind, kind).search(one[None], 5)
            assert ids.tolist() == [catalog.select()[:5].tolist()]


def test_a_large_library_has_8_bit_codes(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "FAST_SCAN_BELOW", 1000)
    build_index(tmp_path / "index", catalog, **MODEL, kind="ivf-pq", device="cpu")
    manifest = manifest_in(tmp_path / "index")
    assert manifest.factory.endswith("PQ8np"), "a byte for four dimensions, not for two"
    assert recall(open_index(tmp_path / "index", catalog, **MODEL), catalog) >= 0.97


def test_a_query_probes_lists_almost_as_close_as_the_nearest(
    catalog: Catalog, tmp_path: Path
) -> None:
    built(catalog, tmp_path / "index", "ivf-pq")
    manifest = manifest_in(tmp_path / "index")
    opened = Generation(tmp_path / "index", manifest)
    queries = vectors(40, catalog.dimension, 77)
    _, every, _ = opened.probed_lists(queries, Probing(manifest.nlist))
    for radius in (0.1, 0.3, UNLIMITED):
        _, near, lists = opened.probed_lists(queries, Probing(manifest.nlist, radius))
        probed = (lists >= 0).sum(axis=1)
        assert (probed == (every >= every[:, :1] - radius).sum(axis=1)).all()
        assert all((np.diff(row[:n]) <= 0).all() for row, n in zip(near, probed, strict=True))
    assert (opened.probed_lists(queries, Probing(2))[2] >= 0).sum(axis=1).max() == 2
    assert 1 <= manifest.nprobe <= manifest.nlist
    assert 0 < manifest.radius < UNLIMITED


def test_a_query_for_many_results_scans_a_minimum_of_codes(
    catalog: Catalog, tmp_path: Path
) -> None:
    built(catalog, tmp_path / "index", "ivf-pq")
    manifest = manifest_in(tmp_path / "index")
    opened = Generation(tmp_path / "index", manifest)
    needed = manifest.rows // 4
    _, _, lists = opened.probed_lists(vectors(40, 32, 77), Probing(2, 0.1, needed))
    sizes = np.bincount(opened.assigned_lists(np.arange(manifest.rows)), minlength=manifest.nlist)
    scanned = [sizes[row[row >= 0]] for row in lists]
    assert all(some.sum() >= needed > some[:-1].sum() for some in scanned)


def test_probing_depends_on_the_results_per_accepted_row(catalog: Catalog, tmp_path: Path) -> None:
    built(catalog, tmp_path / "index", "ivf-pq")
    manifest = manifest_in(tmp_path / "index")
    opened = Generation(tmp_path / "index", manifest)
    tuned = Probing(manifest.nprobe, manifest.radius)
    assert opened.probing(1, 1.0) == opened.probing(10, 1.0) == tuned
    more = opened.probing(100, 1.0)
    assert more == opened.probing(10, 0.1)
    assert more.radius > tuned.radius
    assert more.min_codes > 1000
    assert opened.probing(1000, 1.0).min_codes > more.min_codes


def test_recall_is_as_high_for_more_results(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "SCAN_DEPTH", 1)
    monkeypatch.setattr(Generation, "_scan", None)
    assert recall(built(catalog, tmp_path / "index", "ivf-pq"), catalog, k=30) >= 0.97


# updates ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_additions_changes_and_deletions_are_searched_at_once(
    catalog: Catalog, tmp_path: Path, kind: str
) -> None:
    opened = built(catalog, tmp_path / "index", kind)
    [root] = catalog.roots()
    fill(catalog, root, 30, seed=77, start=COUNT)
    changed = vectors(1, catalog.dimension, 500)[0]
    catalog.write(root, images=[with_vector("3.jpg", changed)])
    deleted = catalog.remove(catalog.select()[100:160])
    assert opened.refresh()
    assert not opened.refresh()
    assert recall(opened, catalog) >= 0.97
    _, ids = opened.search(vectors(50, catalog.dimension, 9), 50)
    assert not np.isin(ids, deleted).any()
    scores, ids = opened.search(changed[None], 1)
    assert catalog.images(ids[0].tolist())[0].path == "3.jpg"
    assert scores[0, 0] == pytest.approx(1, abs=1e-3)
    reopened = open_index(tmp_path / "index", catalog, **MODEL)
    asked = np.concatenate([deleted, catalog.select()[::-1], [-1, 0, 10**12]])
    for one in (opened, reopened):
        assert one.version == catalog.version
        assert np.array_equal(one.vectors(asked), catalog.vectors(asked), equal_nan=True)
    for first, second in zip(
        opened.search(changed[None], 20), reopened.search(changed[None], 20), strict=True
    ):
        assert (first == second).all()


def test_a_generation_is_extended_without_training(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "EXTEND_ROWS", 50)
    monkeypatch.setattr(index, "EXACT_BELOW", 100)
    reader = built(catalog, tmp_path / "index", "ivf-pq")
    trained = manifest_in(tmp_path / "index")
    [root] = catalog.roots()
    fill(catalog, root, 200, seed=77, start=COUNT)
    deleted = catalog.remove(catalog.select()[100:110])
    state = maintain_index(tmp_path / "index", catalog, **MODEL, device="cpu")
    assert state is not None
    assert (state.count, state.pending, state.generation) == (COUNT + 190, 0, 2)
    assert maintain_index(tmp_path / "index", catalog, **MODEL, device="cpu") is None
    manifest = manifest_in(tmp_path / "index")
    assert manifest.trained_on == trained.trained_on
    reader.refresh()
    assert reader.state.generation == 2
    for one in (reader, open_index(tmp_path / "index", catalog, **MODEL)):
        assert recall(one, catalog) >= 0.97
        _, ids = one.search(vectors(50, catalog.dimension, 9), 50)
        assert not np.isin(ids, deleted).any()
    assert len(list((tmp_path / "index").iterdir())) == 4, "older generations are deleted"


def test_an_extended_generation_is_tuned_again_after_growth(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "EXTEND_ROWS", 50)
    monkeypatch.setattr(index, "EXACT_BELOW", 100)
    built(catalog, tmp_path / "index", "ivf-pq")
    [root] = catalog.roots()
    asked = []

    def texts() -> np.ndarray:
        asked.append(catalog.count)
        return vectors(60, catalog.dimension, 5)

    manifests = [manifest_in(tmp_path / "index")]
    for start in range(COUNT, COUNT + 600, 150):
        fill(catalog, root, 150, seed=start, start=start)
        maintain_index(tmp_path / "index", catalog, **MODEL, text_queries=texts, device="cpu")
        manifests.append(manifest_in(tmp_path / "index"))
    assert [one.rows for one in manifests] == [1500, 1650, 1800, 1950, 2100]
    assert asked == [1950], "25 % more than it was trained on"
    measured = [(one.nprobe, one.radius, one.depth, one.recall) for one in manifests]
    assert measured[0] == measured[1] == measured[2] != measured[3] == measured[4]


def test_an_index_is_trained_again_after_growth(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "EXTEND_ROWS", 50)
    built(catalog, tmp_path / "index", "ivf-pq")
    [root] = catalog.roots()
    fill(catalog, root, 2 * COUNT, seed=77, start=COUNT)
    maintain_index(tmp_path / "index", catalog, **MODEL, device="cpu")
    assert manifest_in(tmp_path / "index").trained_on == 3 * COUNT


def test_the_kind_depends_on_the_size_unless_it_was_requested(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "index"
    assert maintain_index(directory, catalog, **MODEL) is None
    assert open_index(directory, catalog, **MODEL).state.type == "exact"
    monkeypatch.setattr(build, "EXACT_BELOW", 1000)
    monkeypatch.setattr(index, "EXACT_BELOW", 1000)
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
    for module in (build, index):
        monkeypatch.setattr(module, "EXACT_BELOW", 1000)
    directory = tmp_path / "index"
    maintain_index(directory, catalog, **MODEL, device="cpu")
    catalog.remove(catalog.select()[200:])
    state = maintain_index(directory, catalog, **MODEL, device="cpu")
    assert state is not None
    assert (state.type, state.count) == ("exact", 200)
    assert not list(directory.glob("*.faiss"))


def resident(file: Path) -> int:
    """Kilobytes of this process's memory that are pages of a mapped ``file``."""
    sizes, inside = [], False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match("[0-9a-f]+-", line):
            inside = line.endswith(str(file))
        elif inside and line.startswith("Rss:"):
            sizes.append(int(line.split()[1]))
    assert sizes, f"{file} is mapped"
    return sum(sizes)


def test_an_idle_index_releases_its_mapped_vectors(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "index" / "vectors-000001.f16"
    opened = built(catalog, tmp_path / "index", "ivf-pq")
    query = vectors(1, catalog.dimension, 8)
    before = opened.search(query, 10)
    assert not opened._released(), "searched a moment ago"
    assert resident(file) > 0
    monkeypatch.setattr(index, "RELEASED_FROM", 0)
    monkeypatch.setattr(index, "IDLE_SECONDS", 0.0)
    opened.search(query, 10)
    for thread in threading.enumerate():
        if thread.name == "release-index":
            thread.join()
    assert resident(file) == 0
    for one, other in zip(opened.search(query, 10), before, strict=True):
        assert (one == other).all()


def test_state_reports_measured_recall(catalog: Catalog, tmp_path: Path) -> None:
    state: IndexState = built(catalog, tmp_path / "index", "ivf-pq").state
    assert set(state.recall) == {"image", "text"}
    assert min(state.recall.values()) >= 0.97
    assert state.nprobe
    assert 0 < state.bytes < 2 * COUNT * 32 * 4


def test_progress_is_reported_by_phase(catalog: Catalog, tmp_path: Path) -> None:
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


# files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reach", ["both kinds", "one number", "missing"])
def test_a_generation_of_an_earlier_version_is_searched(tmp_path: Path, reach: str) -> None:
    """``index-1.tar.gz`` was built before the manifest had one radius for all queries."""
    with tarfile.open(FIXTURES / "index-1.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    directory = tmp_path / "index"
    document = json.loads((directory / MANIFEST).read_text())
    stored = np.fromfile(directory / document["files"]["vectors"]["name"], "<f2").reshape(-1, 16)
    catalog, root = new_catalog(tmp_path, dimension=16)
    with catalog:
        images = [with_vector(f"{n}.jpg", row.astype(np.float32)) for n, row in enumerate(stored)]
        catalog.write(root, images=images)
        document["identity"] = catalog.identity
        if reach == "one number":
            document["filtered"] = [[share, 8, 0.5] for share, *_ in document["filtered"]]
            document["reach"] = 0.3
        elif reach == "missing":
            document["filtered"] = [one[:2] for one in document["filtered"]]
            del document["reach"], document["slack"]
        (directory / MANIFEST).write_text(json.dumps(document))
        with_index = open_index(directory, catalog, **MODEL)
        assert (with_index.state.type, with_index.state.note) == ("ivf-pq", None)
        assert with_index.state.nprobe == document["nprobe"]
        assert recall(with_index, catalog) >= 0.97
        assert recall(with_index, catalog, catalog.select()[::2]) >= 0.97
        assert manifest_in(directory).radius == (
            max(radius for _, radius in document["reach"]) if reach == "both kinds" else UNLIMITED
        )


def test_a_manifest_has_the_keys_that_earlier_versions_read(
    catalog: Catalog, tmp_path: Path
) -> None:
    built(catalog, tmp_path / "index", "ivf-pq")
    document = json.loads((tmp_path / "index" / MANIFEST).read_text())
    with tarfile.open(FIXTURES / "index-1.tar.gz") as archive:
        file = archive.extractfile(f"index/{MANIFEST}")
        assert file is not None
        earlier = json.load(file)
    assert document.keys() == earlier.keys() - {"slack"}
    assert document["format"] == 1
    [[cosine, radius]] = document["reach"]
    assert (cosine, radius) == (0.0, manifest_in(tmp_path / "index").radius)


@pytest.mark.parametrize("name", ["index", "vectors", "ids", "manifest"])
@pytest.mark.parametrize("how", ["flipped", "short", "missing", "longer"])
def test_a_corrupt_file_is_not_used_and_is_rebuilt(
    catalog: Catalog, tmp_path: Path, name: str, how: str
) -> None:
    directory = tmp_path / "index"
    built(catalog, directory, "ivf-pq")
    manifest = manifest_in(directory)
    path = directory / (MANIFEST if name == "manifest" else manifest.files[name].name)
    data = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
    else:
        data[len(data) // 2] ^= 0x10
        path.write_bytes({"flipped": bytes(data), "short": data[:-7], "longer": data + b"x"}[how])
    opened = open_index(directory, catalog, **MODEL)
    assert recall(opened, catalog) == 1
    if (name, how) != ("manifest", "missing"):
        assert opened.state.type == "exact" or name == "manifest"
    if opened.state.type == "exact" and how != "missing":
        assert "sightline rebuild" in (opened.state.note or "")
    if how == "short":
        maintain_index(directory, catalog, **MODEL, kind="ivf-pq", device="cpu")
        state = open_index(directory, catalog, **MODEL).state
        assert (state.type, state.note) == ("ivf-pq", None)


def test_a_corrupt_manifest_of_a_small_library_is_replaced(
    catalog: Catalog, tmp_path: Path
) -> None:
    directory = tmp_path / "index"
    built(catalog, directory, "exact")
    (directory / MANIFEST).write_text("{")
    assert open_index(directory, catalog, **MODEL).state.note
    assert maintain_index(directory, catalog, **MODEL) is not None
    assert open_index(directory, catalog, **MODEL).state.note is None
    assert maintain_index(directory, catalog, **MODEL) is None


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
        opened = open_index(directory, other, **MODEL)
        assert opened.state.type == "exact"
        assert "another library" in (opened.state.note or "")
        assert recall(opened, other) == 1


def test_an_interrupted_build_leaves_the_previous_index(catalog: Catalog, tmp_path: Path) -> None:
    directory = tmp_path / "index"
    built(catalog, directory, "ivf-pq")
    before = (directory / MANIFEST).read_bytes()

    class InterruptedBuild(BaseException):
        pass

    for phase in ("reading vectors", "training the index", "building the index"):

        def interrupt(now: str, done: int, total: int | None, phase: str = phase) -> None:
            if now == phase:
                raise InterruptedBuild

        with pytest.raises(InterruptedBuild):
            build_index(
                directory, catalog, **MODEL, kind="ivf-pq", device="cpu", progress=interrupt
            )
        assert (directory / MANIFEST).read_bytes() == before
        assert open_index(directory, catalog, **MODEL).state.generation == 1
    built(catalog, directory, "ivf-pq")
    assert len(list(directory.iterdir())) == 4, "files of interrupted builds are deleted"


def test_a_manifest_cannot_name_files_elsewhere(catalog: Catalog, tmp_path: Path) -> None:
    directory = tmp_path / "index"
    built(catalog, directory, "ivf-pq")
    document = json.loads((directory / MANIFEST).read_text())
    document["files"]["ids"]["name"] = "../catalog.db"
    (directory / MANIFEST).write_text(json.dumps(document))
    assert open_index(directory, catalog, **MODEL).state.type == "exact"


def test_a_missing_gpu_is_an_error_only_if_it_was_requested(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index(tmp_path / "index", catalog, **MODEL, kind="ivf-pq", device="auto")
    monkeypatch.setattr(gpu, "gpu_available", lambda: False)
    with pytest.raises(UsageError, match="gpu"):
        build_index(tmp_path / "index", catalog, **MODEL, kind="ivf-pq", device="cuda")


# any order of operations --------------------------------------------------------------------------


class Interleaving(RuleBasedStateMachine):
    """Additions, changes, deletions, builds, extensions and searches in any order."""

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
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(index, "EXTEND_ROWS", 20)
            maintain_index(self.place / "index", self.catalog, **MODEL, device="cpu")

    @rule()
    def reopen(self) -> None:
        self.index.close()
        self.index = open_index(self.place / "index", self.catalog, **MODEL)

    @invariant()
    def results_are_right(self) -> None:
        self.index.refresh()
        there = self.catalog.select()
        queries = vectors(3, 16, self.seed + 1)
        scores, ids = self.index.search(queries, 10)
        assert_in_order(scores, ids)
        found = ids[ids >= 0]
        assert np.isin(found, there).all()
        assert ((ids >= 0).sum(axis=1) == min(10, len(there))).all()
        for query, row, of in zip(queries, scores, ids, strict=True):
            stored = self.catalog.vectors(of[of >= 0])
            assert np.allclose(row[of >= 0], stored @ query, atol=1e-6)
        if self.index.state.type == "exact":
            assert ids[0][ids[0] >= 0].tolist() == exact_ids(self.catalog, queries[0], 10)


TestInterleaving = Interleaving.TestCase
TestInterleaving.settings = settings(max_examples=12, stateful_step_count=12, deadline=None)
