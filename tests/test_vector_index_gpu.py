"""Searches on a GPU return what the CPU returns, which takes over what a GPU cannot do.

These tests need no GPU: ``to_gpu`` is replaced by a copy in memory that has the limits of a GPU
index (``CpuCopy``). Everything around it is real.
"""

from __future__ import annotations

import logging
import shutil
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
import pytest
from test_vector_index import (
    MODEL,
    assert_in_order,
    exact_ids,
    fill,
    manifest_in,
    new_catalog,
    vectors,
    with_vector,
)

from sightline.indexer.catalog import Catalog
from sightline.indexer.errors import UsageError
from sightline.indexer.library import Library
from sightline.indexer.vector_index import (
    VectorIndex,
    build,
    build_index,
    check_search_device,
    generation,
    gpu,
    index,
    maintain_index,
    open_index,
)
from sightline.server.cli import run
from sightline.server.commands.serve import warm

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder

COUNT = 6000
QUERIES = vectors(40, 32, 1234)


class CpuCopy:
    """A copy of an index in memory, with the limits of FAISS on a GPU."""

    def __init__(self, ivf: Any) -> None:
        self._ivf, self._busy = faiss.clone_index(ivf), threading.Lock()
        self.searches = 0
        self.error: str | None = None

    def search(self, queries: np.ndarray, k: int, *, params: Any) -> Any:
        assert self._busy.acquire(blocking=False), "a GPU index is not thread-safe"
        try:
            assert max(k, params.nprobe) <= 2048
            assert params.sel is None, "FAISS ignores a selector on a GPU"
            self.searches += 1
            if self.error is not None:
                raise RuntimeError(self.error)
            return self._ivf.search(queries, k, params=params)
        finally:
            self._busy.release()


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[CpuCopy]]:
    """A machine with a GPU, and the copies that were made on it."""
    made: list[weakref.ref[CpuCopy]] = []

    def to_gpu(ivf: Any, device: str, *, float16: bool = False) -> CpuCopy | None:
        if device == "cpu":
            return None
        assert (device, float16) == ("cuda", True)
        copy = CpuCopy(ivf)
        made.append(weakref.ref(copy))
        return copy

    monkeypatch.setattr(gpu, "gpu_available", lambda: True)
    monkeypatch.setattr(gpu, "to_gpu", to_gpu)
    return made


def last(copies: list[weakref.ref[CpuCopy]]) -> CpuCopy:
    """The copy that is searched."""
    copy = copies[-1]()
    assert copy is not None
    return copy


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """8-bit codes, as in libraries of 300,000 images or more."""
    monkeypatch.setattr(build, "FAST_SCAN_BELOW", 1000)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog and its index, to be copied."""
    place = tmp_path_factory.mktemp("large")
    catalog, root = new_catalog(place, dimension=32)
    with catalog, pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "FAST_SCAN_BELOW", 1000)
        fill(catalog, root, COUNT)
        texts = vectors(60, 32, 5)
        build_index(
            place / "index",
            catalog,
            **MODEL,
            kind="ivf-pq",
            text_queries=lambda: texts,
            device="cpu",
        )
    return place


@pytest.fixture
def catalog(filled: Path, tmp_path: Path) -> Iterator[Catalog]:
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    with Catalog.open(tmp_path / "catalog.db") as catalog:
        yield catalog


def opened(catalog: Catalog, tmp_path: Path, device: str = "cuda") -> VectorIndex:
    return open_index(tmp_path / "index", catalog, **MODEL, device=device)


def agreement(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> float:
    """Fraction of the ids of ``one`` that are in ``other``."""
    wanted = np.maximum(1, (one[1] >= 0).sum())
    return float(
        sum(np.isin(a[a >= 0], b).sum() for a, b in zip(one[1], other[1], strict=True)) / wanted
    )


def assert_exact(catalog: Catalog, found: tuple[np.ndarray, np.ndarray]) -> None:
    assert_in_order(*found)
    for query, row, of in zip(QUERIES, *found, strict=True):
        kept = catalog.vectors(of[of >= 0])
        assert np.allclose(row[of >= 0], kept @ query, atol=1e-6)


# search ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 10, 40])
def test_a_gpu_search_returns_the_results_and_scores_of_the_cpu(
    catalog: Catalog, tmp_path: Path, copies: list[weakref.ref[CpuCopy]], k: int
) -> None:
    plain = opened(catalog, tmp_path, "cpu").search(QUERIES, k)
    searched = opened(catalog, tmp_path)
    assert (searched.state.device, searched.state.device_note) == ("cuda", None)
    before = last(copies).searches
    found = searched.search(QUERIES, k)
    assert last(copies).searches == before + 1, "all queries of a call in one search"
    assert_exact(catalog, found)
    assert agreement(plain, found) >= 0.99
    truth = [exact_ids(catalog, query, k) for query in QUERIES]
    assert agreement((found[0], np.array(truth)), found) >= 0.97


def test_filtered_searches_run_on_the_cpu(
    catalog: Catalog,
    tmp_path: Path,
    copies: list[weakref.ref[CpuCopy]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(generation, "EXACT_ROWS", 0)
    searched, plain = opened(catalog, tmp_path), opened(catalog, tmp_path, "cpu")
    before = last(copies).searches
    for every in (2, 10, 100):
        allowed = catalog.select()[::every]
        found = searched.search(QUERIES, 10, allowed=allowed)
        assert np.isin(found[1][found[1] >= 0], allowed).all()
        for one, other in zip(found, plain.search(QUERIES, 10, allowed=allowed), strict=True):
            assert (one == other).all()
    assert last(copies).searches == before


def test_additions_changes_and_deletions_are_searched_at_once(
    catalog: Catalog, tmp_path: Path, copies: list[weakref.ref[CpuCopy]]
) -> None:
    searched = opened(catalog, tmp_path)
    [root] = catalog.roots()
    fill(catalog, root, 30, seed=77, start=COUNT)
    moved = vectors(1, 32, 500)[0]
    catalog.write(root, images=[with_vector("3.jpg", moved)])
    deleted = catalog.remove(searched.search(QUERIES, 2)[1].ravel())
    assert searched.refresh()
    assert searched.state.device == "cuda"
    before = last(copies).searches
    found = searched.search(QUERIES, 40)
    assert last(copies).searches == before + 1
    assert not np.isin(found[1], deleted).any()
    assert_exact(catalog, found)
    assert agreement(opened(catalog, tmp_path, "cpu").search(QUERIES, 40), found) >= 0.99
    [[nearest]] = searched.search(moved[None], 1)[1]
    assert catalog.images([int(nearest)])[0].path == "3.jpg"


def test_many_deleted_rows_are_skipped_by_the_cpu_and_reported(
    catalog: Catalog, tmp_path: Path, copies: list[weakref.ref[CpuCopy]]
) -> None:
    searched = opened(catalog, tmp_path)
    # Similar images, here the nearest to the queries, as when a folder is deleted.
    deleted = catalog.remove(np.unique(searched.search(QUERIES[:8], 60)[1]))
    assert len(deleted) > 0.02 * COUNT
    searched.refresh()
    before = last(copies).searches
    plain = opened(catalog, tmp_path, "cpu").search(QUERIES, 10)
    for one, other in zip(searched.search(QUERIES, 10), plain, strict=True):
        assert (one == other).all()
    assert last(copies).searches == before
    assert searched.state.device == "cpu"
    assert "sightline rebuild" in (searched.state.device_note or "")


def test_a_search_for_too_many_candidates_runs_on_the_cpu(
    catalog: Catalog,
    tmp_path: Path,
    copies: list[weakref.ref[CpuCopy]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = opened(catalog, tmp_path, "cpu")
    manifest = manifest_in(tmp_path / "index")
    limit = max(manifest.depth + 50, manifest.nlist)
    monkeypatch.setattr(gpu, "MAX_SELECTION", limit)
    most = 10 + (limit - manifest.depth) // 3  # three candidates for each result beyond ten
    searched = opened(catalog, tmp_path)
    before = last(copies).searches
    for k, asked in ((10, 1), (most, 2), (most + 1, 2), (60, 2), (500, 2), (COUNT + 50, 2)):
        found = searched.search(QUERIES, k)
        assert last(copies).searches == before + asked, k
        assert_exact(catalog, found)
        assert agreement(plain.search(QUERIES, k), found) >= 0.99
    assert searched.state.device == "cuda"


def test_many_threads_may_search(
    catalog: Catalog, tmp_path: Path, copies: list[weakref.ref[CpuCopy]]
) -> None:
    searched = opened(catalog, tmp_path)
    alone = [searched.search(query[None], 10)[1].tolist() for query in QUERIES]
    before = last(copies).searches
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda query: searched.search(query[None], 10)[1].tolist(), QUERIES))
    assert found == alone
    assert last(copies).searches == before + len(QUERIES)


FULL = (
    "Error in virtual void* faiss::gpu::StandardGpuResourcesImpl::allocMemory(...) at /x/y.cpp:9:"
    " Error: 'err == cudaSuccess' failed: alloc fail type IVFLists (cudaMalloc error out of memory)"
)


@pytest.mark.parametrize(
    ("error", "said"),
    [(RuntimeError(FULL), "alloc fail type IVFLists"), (MemoryError(), "MemoryError")],
)
def test_an_index_that_cannot_be_copied_is_searched_on_the_cpu(
    catalog: Catalog,
    tmp_path: Path,
    copies: list[weakref.ref[CpuCopy]],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    said: str,
) -> None:
    def full(ivf: Any, device: str, *, float16: bool) -> Any:
        raise error

    monkeypatch.setattr(gpu, "to_gpu", full)
    searched = opened(catalog, tmp_path)
    state = searched.state
    assert (state.type, state.device, state.note) == ("ivf-pq", "cpu", None)
    assert said in (state.device_note or "")
    assert "/" not in (state.device_note or ""), "no position in FAISS's source"
    assert_exact(catalog, searched.search(QUERIES, 10))


def test_after_a_gpu_error_the_cpu_answers_this_and_all_later_searches(
    catalog: Catalog,
    tmp_path: Path,
    copies: list[weakref.ref[CpuCopy]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    searched = opened(catalog, tmp_path)
    plain = opened(catalog, tmp_path, "cpu").search(QUERIES, 10)
    last(copies).error = FULL
    with caplog.at_level(logging.WARNING, "sightline"), ThreadPoolExecutor(8) as pool:
        searches = list(pool.map(lambda _: searched.search(QUERIES, 10), range(16)))
    for found in searches:
        for one, other in zip(found, plain, strict=True):
            assert (one == other).all()
    [line] = caplog.messages
    assert "on the CPU from now on" in line
    assert "out of memory" in line
    assert copies[0]() is None, "its memory is released"
    assert searched.state.device == "cpu"
    assert "the GPU failed" in (searched.state.device_note or "")


@pytest.mark.parametrize("kind", ["exact", "ivf-pq", "ivf-rabitq"])
def test_unsupported_indexes_are_searched_on_the_cpu_and_reported(
    catalog: Catalog,
    tmp_path: Path,
    copies: list[weakref.ref[CpuCopy]],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    monkeypatch.setattr(build, "FAST_SCAN_BELOW", 300_000)  # 4-bit codes
    build_index(tmp_path / "index", catalog, **MODEL, kind=kind, device="cpu")
    searched = opened(catalog, tmp_path)
    assert (searched.state.type, searched.state.device) == (kind, "cpu")
    assert searched.state.note is None, "the index itself is usable"
    assert ("exactly" if kind == "exact" else "8-bit") in (searched.state.device_note or "")
    assert not copies
    assert_exact(catalog, searched.search(QUERIES, 10))


def test_an_index_that_a_gpu_could_not_search_is_not_copied(
    catalog: Catalog,
    tmp_path: Path,
    copies: list[weakref.ref[CpuCopy]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gpu, "MAX_SELECTION", 4)
    assert "limited to 4" in (opened(catalog, tmp_path).state.device_note or "")
    monkeypatch.setattr(gpu, "MAX_SELECTION", 2048)
    monkeypatch.setattr(index, "EXTEND_ROWS", 50)
    monkeypatch.setattr(index, "EXACT_BELOW", 100)
    catalog.remove(catalog.select()[: COUNT // 10])
    assert maintain_index(tmp_path / "index", catalog, **MODEL, device="cpu") is not None
    assert "sightline rebuild" in (opened(catalog, tmp_path).state.device_note or "")
    assert not copies


# generations --------------------------------------------------------------------------------------


def rebuilt(catalog: Catalog, tmp_path: Path, searched: VectorIndex) -> None:
    """A new generation, opened in the background."""
    build_index(tmp_path / "index", catalog, **MODEL, kind="ivf-pq", device="cpu")
    searched.refresh(wait=False)
    opening = searched._opening
    if opening is not None:
        opening.join()
    assert searched.state.generation == 2


def test_a_new_generation_replaces_the_old_one_on_the_gpu(
    catalog: Catalog, tmp_path: Path, copies: list[weakref.ref[CpuCopy]]
) -> None:
    searched = opened(catalog, tmp_path)
    rebuilt(catalog, tmp_path, searched)
    old, _ = copies
    assert old() is None, "its memory is released"
    before = last(copies).searches
    assert_exact(catalog, searched.search(QUERIES, 10))
    assert last(copies).searches == before + 1
    assert searched.state.device == "cuda"
    searched.close()
    assert copies[-1]() is None


def test_a_new_generation_that_does_not_fit_is_searched_on_the_cpu(
    catalog: Catalog,
    tmp_path: Path,
    copies: list[weakref.ref[CpuCopy]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    searched = opened(catalog, tmp_path)

    def full(ivf: Any, device: str, *, float16: bool = False) -> Any:
        if device == "cpu":
            return None
        assert copies[0]() is not None, "the old one is still searched"
        raise RuntimeError(FULL)

    monkeypatch.setattr(gpu, "to_gpu", full)
    with caplog.at_level(logging.WARNING, "sightline"):
        rebuilt(catalog, tmp_path, searched)
    assert copies[0]() is None
    assert searched.state.device == "cpu"
    [line] = caplog.messages
    assert "searches run on the CPU" in line
    assert "out of memory" in line
    assert_exact(catalog, searched.search(QUERIES, 10))


# building -----------------------------------------------------------------------------------------


def test_training_and_assignment_run_on_the_gpu(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, str, bool]] = []
    used: list[Any] = []

    def to_gpu(flat: Any, device: str, *, float16: bool = False) -> Any:
        asked.append((flat.ntotal, device, float16))
        used.append(faiss.clone_index(flat))
        return used[-1]

    monkeypatch.setattr(gpu, "to_gpu", to_gpu)
    state = build_index(tmp_path / "there", catalog, **MODEL, kind="ivf-pq", device="cuda:1")
    lists = manifest_in(tmp_path / "there").nlist
    assert asked == [(0, "cuda:1", True)] * 2
    assert [one.ntotal for one in used] == [lists] * 2, (
        "k-means ran in one, assignment in the other"
    )
    assert state.recall["image"] >= 0.97
    with_cpu = open_index(tmp_path / "index", catalog, **MODEL).search(QUERIES, 10)
    built_there = open_index(tmp_path / "there", catalog, **MODEL).search(QUERIES, 10)
    assert agreement(with_cpu, built_there) >= 0.97


@pytest.mark.usefixtures("no_gpu")
def test_building_runs_on_the_cpu_without_a_gpu() -> None:
    for device in ("auto", "cpu"):
        assert gpu.to_gpu(faiss.IndexFlatIP(4), device) is None
    for device in ("cuda", "cuda:1"):
        with pytest.raises(UsageError, match="--device"):
            gpu.to_gpu(faiss.IndexFlatIP(4), device)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a GPU."""
    monkeypatch.setattr(gpu, "gpu_available", lambda: False)


# interfaces ------------------------------------------------------------------------------------


def test_a_library_is_searched_on_a_gpu_if_requested(
    catalog: Catalog, tmp_path: Path, copies: list[weakref.ref[CpuCopy]]
) -> None:
    with Library.open(tmp_path, read_only=True) as library:
        assert library.status()["index"]["device"] == "cpu"
        assert not copies
    with Library.open(tmp_path, read_only=True, search_device="cuda") as library:
        assert library.status()["index"]["device"] == "cuda"
    assert copies[0]() is None


@pytest.mark.usefixtures("no_gpu")
def test_a_missing_gpu_is_an_error_that_names_the_remedy(catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r'install "\.\[gpu\]".*--search-device'):
        open_index(tmp_path / "index", catalog, **MODEL, device="cuda")
    with pytest.raises(UsageError, match="--search-device"):
        Library.open(tmp_path, search_device="cuda")
    with pytest.raises(UsageError, match="cpu or cuda, not on mps"):
        check_search_device("mps")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("place", "said"),
    [("library", "GPU"), ("milvus+http://localhost:1/photos", "no effect on a Milvus collection")],
)
def test_serve_reports_a_missing_gpu_before_it_creates_a_library(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str, said: str
) -> None:
    (tmp_path / "pictures").mkdir()
    place = place if place.startswith("milvus") else str(tmp_path / place)
    arguments = ["serve", str(tmp_path / "pictures"), "--library", place]
    assert run([*arguments, "--search-device", "cuda"]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "--search-device" in told
    assert "Traceback" not in told
    assert not (tmp_path / "library").exists()


def test_serve_reports_where_searches_run(
    catalog: Catalog,
    tmp_path: Path,
    copies: list[weakref.ref[CpuCopy]],
    tiny_encoder: Encoder,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Library.open(tmp_path, read_only=True) as library:
        warm(tiny_encoder, library)
        assert capsys.readouterr().err == ""
    with Library.open(tmp_path, read_only=True, search_device="cuda") as library:
        warm(tiny_encoder, library)
        assert "on the GPU" in capsys.readouterr().err
        last(copies).error = FULL
        library.nearest(QUERIES, 10)
        warm(tiny_encoder, library)
        assert "on the CPU: the GPU failed: alloc fail" in capsys.readouterr().err
