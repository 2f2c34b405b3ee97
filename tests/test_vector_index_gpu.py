"""A large library is searched on a GPU: what it finds is what the processor finds, and where a GPU
cannot, or errs, the processor answers.

There is no GPU here. One function of FAISS copies an index to a GPU; in its place stands one that
copies it in memory (``Copy``), and everything around it is real.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
import pytest
from test_vector_index import (
    MODEL,
    assert_in_order,
    exactly,
    fill,
    manifest_in,
    new_catalog,
    vectors,
    with_vector,
)

from sightline.indexer.catalog import Catalog
from sightline.indexer.errors import UsageError
from sightline.indexer.library import Library
from sightline.indexer.vector_index import build
from sightline.indexer.vector_index import gpu as index_gpu
from sightline.indexer.vector_index import index as vector_index
from sightline.indexer.vector_index.exact import best
from sightline.indexer.vector_index.generation import Generation
from sightline.indexer.vector_index.gpu import OnGpu, check_search_device
from sightline.indexer.vector_index.index import (
    VectorIndex,
    build_index,
    maintain_index,
    open_index,
)
from sightline.server.cli import run
from sightline.server.commands.serve import warm

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder

COUNT = 6000
QUERIES = vectors(40, 32, 1234)


class Copy:
    """What FAISS keeps on a GPU: here in memory, and as particular as on a GPU."""

    def __init__(self, lists: Any) -> None:
        self._lists, self._busy = lists, threading.Lock()
        self.searches = 0
        self.fails: str | None = None
        self.spoil: Callable[[Any], Any] = lambda found: found

    def search(self, queries: np.ndarray, k: int, *, params: Any) -> Any:
        assert self._busy.acquire(blocking=False), "a GPU's index is for one thread at a time"
        try:
            assert k <= 2048
            assert params.nprobe <= 2048
            assert params.sel is None, "a GPU passes it over in silence"
            self.searches += 1
            if self.fails is not None:
                raise RuntimeError(self.fails)
            return self.spoil(self._lists.search(queries, k, params=params))
        finally:
            self._busy.release()


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Copy]]:
    """A machine with a GPU; what was copied to it."""
    made: list[weakref.ref[Copy]] = []

    def copied(ivf: Any) -> Copy:
        copy = Copy(faiss.clone_index(ivf))
        made.append(weakref.ref(copy))
        return copy

    monkeypatch.setattr(index_gpu, "gpu_there", lambda: True)
    monkeypatch.setattr(index_gpu, "copied", copied)
    return made


def there(copies: list[weakref.ref[Copy]]) -> Copy:
    """The copy that is searched."""
    copy = copies[-1]()
    assert copy is not None
    return copy


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes of eight bits, as libraries of 300,000 and more have them."""
    monkeypatch.setattr(build, "FINE_BELOW", 1000)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog and its index, to be copied."""
    place = tmp_path_factory.mktemp("large")
    catalog, root = new_catalog(place, dimension=32)
    with catalog, pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "FINE_BELOW", 1000)
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


def shares(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> float:
    """The share of what the one found that the other did, too."""
    wanted = np.maximum(1, (one[1] >= 0).sum())
    return float(
        sum(np.isin(a[a >= 0], b).sum() for a, b in zip(one[1], other[1], strict=True)) / wanted
    )


def assert_exact(catalog: Catalog, found: tuple[np.ndarray, np.ndarray]) -> None:
    assert_in_order(*found)
    for query, row, of in zip(QUERIES, *found, strict=True):
        kept = catalog.vectors(of[of >= 0])
        assert np.allclose(row[of >= 0], kept @ query, atol=1e-6)


# answers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 10, 40])
def test_a_gpu_finds_what_the_processor_finds_with_the_same_scores(
    catalog: Catalog, tmp_path: Path, copies: list[weakref.ref[Copy]], k: int
) -> None:
    plain = opened(catalog, tmp_path, "cpu").search(QUERIES, k)
    index = opened(catalog, tmp_path)
    assert (index.state.device, index.state.device_note) == ("cuda", None)
    before = there(copies).searches
    found = index.search(QUERIES, k)
    assert there(copies).searches == before + 1, "all queries of a call at once"
    assert_exact(catalog, found)
    assert shares(plain, found) >= 0.99
    truth = [exactly(catalog, query, k) for query in QUERIES]
    assert shares((found[0], np.array(truth)), found) >= 0.97


def test_no_fewer_lists_are_looked_into_than_the_processor_looks_into(
    catalog: Catalog, tmp_path: Path, copies: list[weakref.ref[Copy]]
) -> None:
    generation = Generation(tmp_path / "index", manifest_in(tmp_path / "index"))
    seen: list[tuple[int, int]] = []

    def gpu(queries: np.ndarray, depth: int, nprobe: int) -> None:
        seen.append((depth, nprobe))

    generation.gpu = gpu
    asked: list[tuple[int, int]] = []
    plain = generation.candidates

    def candidates(queries: Any, depth: int, nprobe: int, reach: Any, chosen: Any, *, least: int):
        lists = generation.lists(queries, nprobe, reach, least=least)[2]
        asked.append((depth, lists.shape[1]))
        return plain(queries, depth, nprobe, reach, chosen, least=least)

    generation.candidates = candidates  # type: ignore[method-assign, assignment]
    for k in (10, 20, 40, 60):
        generation.search(QUERIES, k)
    assert len(seen) == len(asked) >= 3
    for (depth, lists), (same, looked) in zip(seen, asked, strict=True):
        assert depth == same
        assert lists >= looked


def test_filters_are_for_the_processor_and_exact(
    catalog: Catalog,
    tmp_path: Path,
    copies: list[weakref.ref[Copy]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sightline.indexer.vector_index.generation.EXACT_ROWS", 0)
    index, plain = opened(catalog, tmp_path), opened(catalog, tmp_path, "cpu")
    before = there(copies).searches
    for every in (2, 10, 100):
        allowed = catalog.select()[::every]
        found = index.search(QUERIES, 10, allowed=allowed)
        assert np.isin(found[1][found[1] >= 0], allowed).all()
        for one, other in zip(found, plain.search(QUERIES, 10, allowed=allowed), strict=True):
            assert (one == other).all()
    assert there(copies).searches == before


def test_additions_changes_and_removals_are_seen_at_once(
    catalog: Catalog, tmp_path: Path, copies: list[weakref.ref[Copy]]
) -> None:
    index = opened(catalog, tmp_path)
    [root] = catalog.roots()
    fill(catalog, root, 30, seed=77, start=COUNT)
    moved = vectors(1, 32, 500)[0]
    catalog.write(root, images=[with_vector("3.jpg", moved)])
    gone = catalog.remove(index.search(QUERIES, 2)[1].ravel())
    assert index.refresh()
    assert index.state.device == "cuda"
    before = there(copies).searches
    found = index.search(QUERIES, 40)
    assert there(copies).searches == before + 1
    assert not np.isin(found[1], gone).any()
    assert_exact(catalog, found)
    assert shares(opened(catalog, tmp_path, "cpu").search(QUERIES, 40), found) >= 0.99
    [[nearest]] = index.search(moved[None], 1)[1]
    assert catalog.images([int(nearest)])[0].path == "3.jpg"


def test_where_many_are_gone_the_processor_passes_them_over_and_the_state_says_so(
    catalog: Catalog, tmp_path: Path, copies: list[weakref.ref[Copy]]
) -> None:
    index = opened(catalog, tmp_path)
    # A folder leaves: pictures that lie together, here around the queries.
    gone = catalog.remove(np.unique(index.search(QUERIES[:8], 60)[1]))
    assert len(gone) > 0.02 * COUNT
    index.refresh()
    before = there(copies).searches
    plain = opened(catalog, tmp_path, "cpu").search(QUERIES, 10)
    for one, other in zip(index.search(QUERIES, 10), plain, strict=True):
        assert (one == other).all()
    assert there(copies).searches == before
    assert index.state.device == "cpu"
    assert "sightline rebuild" in (index.state.device_note or "")


def test_a_page_too_deep_for_a_gpu_is_for_the_processor(
    catalog: Catalog,
    tmp_path: Path,
    copies: list[weakref.ref[Copy]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = opened(catalog, tmp_path, "cpu")
    depth = manifest_in(tmp_path / "index").depth
    monkeypatch.setattr(index_gpu, "MOST", depth + 50)
    index = opened(catalog, tmp_path)
    before = there(copies).searches
    for k, asked in ((10, 1), (20, 2), (21, 2), (60, 2), (500, 2), (COUNT + 50, 2)):
        found = index.search(QUERIES, k)
        assert there(copies).searches == before + asked, k
        assert_exact(catalog, found)
        assert shares(plain.search(QUERIES, k), found) >= 0.99
    assert index.state.device == "cuda"


def test_any_number_of_threads_may_search(
    catalog: Catalog, tmp_path: Path, copies: list[weakref.ref[Copy]]
) -> None:
    index = opened(catalog, tmp_path)
    alone = [index.search(query[None], 10)[1].tolist() for query in QUERIES]
    before = there(copies).searches
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda query: index.search(query[None], 10)[1].tolist(), QUERIES))
    assert found == alone
    assert there(copies).searches == before + len(QUERIES)


# trust --------------------------------------------------------------------------------------------


def shuffled(found: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Other rows, as of codes that were mixed up."""
    return found[0], np.where(found[1] < 0, -1, (found[1] * 7 + 13) % COUNT)


def beyond(found: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Rows that there are not."""
    return found[0], found[1] + COUNT


def worse(found: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Candidates of which every tenth is lost."""
    found[1][:, ::10] = found[1][:, 1:2]
    return found


@pytest.mark.parametrize("spoil", [shuffled, worse, beyond])
def test_a_copy_that_does_not_find_what_the_processor_finds_is_not_used(
    catalog: Catalog,
    tmp_path: Path,
    copies: list[weakref.ref[Copy]],
    monkeypatch: pytest.MonkeyPatch,
    spoil: Any,
) -> None:
    right = index_gpu.copied

    def wrong(ivf: Any) -> Copy:
        copy = right(ivf)
        copy.spoil = spoil
        return copy

    monkeypatch.setattr(index_gpu, "copied", wrong)
    index = opened(catalog, tmp_path)
    assert index.state.device == "cpu"
    said = "rows that do not exist" if spoil is beyond else "of what the processor finds"
    assert said in (index.state.device_note or "")
    assert copies[0]() is None, "its memory is let go"
    plain = opened(catalog, tmp_path, "cpu").search(QUERIES, 10)
    for one, other in zip(index.search(QUERIES, 10), plain, strict=True):
        assert (one == other).all()


def test_a_copy_of_other_code_books_is_not_used(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(ivf: Any) -> Any:
        copy = faiss.clone_index(ivf)
        books = faiss.vector_to_array(copy.pq.centroids)
        faiss.copy_array_to_vector(np.roll(books, 32), copy.pq.centroids)
        return copy

    monkeypatch.setattr(index_gpu, "gpu_there", lambda: True)
    monkeypatch.setattr(index_gpu, "copied", wrong)
    assert opened(catalog, tmp_path).state.device == "cpu"


def test_a_copy_that_finds_more_than_the_processor_is_used(
    catalog: Catalog, tmp_path: Path, copies: list[weakref.ref[Copy]]
) -> None:
    manifest = manifest_in(tmp_path / "index")
    narrow = dataclasses.replace(manifest, reach=((0.0, 0.0),))  # the nearest list only
    generation = Generation(tmp_path / "index", narrow)

    def found() -> set[tuple[int, int]]:
        every = generation.search(QUERIES, 10)
        return {(n, int(i)) for n, one in enumerate(every) for i in best(*one, 10)[1]}

    few = found()
    assert OnGpu(generation).note is None
    assert len(few & found()) < 0.98 * len(few)


FULL = (
    "Error in virtual void* faiss::gpu::StandardGpuResourcesImpl::allocMemory(...) at /x/y.cpp:9:"
    " Error: 'err == cudaSuccess' failed: alloc fail type IVFLists (cudaMalloc error out of memory)"
)


@pytest.mark.parametrize(
    ("error", "said"),
    [(RuntimeError(FULL), "alloc fail type IVFLists"), (MemoryError(), "MemoryError")],
)
def test_a_gpu_that_does_not_take_the_copy_is_not_used(
    catalog: Catalog,
    tmp_path: Path,
    copies: list[weakref.ref[Copy]],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    said: str,
) -> None:
    def full(ivf: Any) -> Any:
        raise error

    monkeypatch.setattr(index_gpu, "copied", full)
    index = opened(catalog, tmp_path)
    state = index.state
    assert (state.type, state.device, state.note) == ("ivf-pq", "cpu", None)
    assert said in (state.device_note or "")
    assert "/" not in (state.device_note or ""), "no place in FAISS's source"
    assert_exact(catalog, index.search(QUERIES, 10))


def test_a_gpu_that_fails_while_it_is_checked_is_not_used(
    catalog: Catalog,
    tmp_path: Path,
    copies: list[weakref.ref[Copy]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Copy, "search", lambda *_, **__: (_ for _ in ()).throw(RuntimeError(FULL)))
    index = opened(catalog, tmp_path)
    assert index.state.device == "cpu"
    assert "alloc fail" in (index.state.device_note or "")
    assert copies[0]() is None
    assert_exact(catalog, index.search(QUERIES, 10))


def test_a_gpu_that_fails_is_left_for_good_and_every_search_is_answered(
    catalog: Catalog,
    tmp_path: Path,
    copies: list[weakref.ref[Copy]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    index = opened(catalog, tmp_path)
    plain = opened(catalog, tmp_path, "cpu").search(QUERIES, 10)
    there(copies).fails = FULL
    with caplog.at_level(logging.WARNING, "sightline"), ThreadPoolExecutor(8) as pool:
        searches = list(pool.map(lambda _: index.search(QUERIES, 10), range(16)))
    for found in searches:
        for one, other in zip(found, plain, strict=True):
            assert (one == other).all()
    [line] = caplog.messages
    assert "on the processor from now on" in line
    assert "out of memory" in line
    assert copies[0]() is None, "its memory is let go"
    assert index.state.device == "cpu"
    assert "the GPU failed" in (index.state.device_note or "")


@pytest.mark.parametrize("kind", ["exact", "ivf-pq", "ivf-rabitq"])
def test_what_a_gpu_cannot_search_is_searched_on_the_processor_and_said(
    catalog: Catalog,
    tmp_path: Path,
    copies: list[weakref.ref[Copy]],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    monkeypatch.setattr(build, "FINE_BELOW", 300_000)  # packed codes of four bits
    build_index(tmp_path / "index", catalog, **MODEL, kind=kind, device="cpu")
    index = opened(catalog, tmp_path)
    assert (index.state.type, index.state.device) == (kind, "cpu")
    assert index.state.note is None, "nothing is wrong with the index"
    assert ("exactly" if kind == "exact" else "eight bits") in (index.state.device_note or "")
    assert not copies
    assert_exact(catalog, index.search(QUERIES, 10))


def test_a_library_whose_searches_are_too_deep_or_that_has_lost_many_is_not_copied(
    catalog: Catalog,
    tmp_path: Path,
    copies: list[weakref.ref[Copy]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(index_gpu, "MOST", 4)
    assert "4 at most" in (opened(catalog, tmp_path).state.device_note or "")
    monkeypatch.setattr(index_gpu, "MOST", 2048)
    monkeypatch.setattr(vector_index, "EXTEND_AT", 50)
    monkeypatch.setattr(vector_index, "EXACT_BELOW", 100)
    catalog.remove(catalog.select()[: COUNT // 10])
    assert maintain_index(tmp_path / "index", catalog, **MODEL, device="cpu") is not None
    assert "sightline rebuild" in (opened(catalog, tmp_path).state.device_note or "")
    assert not copies


# generations --------------------------------------------------------------------------------------


def rebuilt(catalog: Catalog, tmp_path: Path, index: VectorIndex) -> None:
    """A new generation, taken up in the background."""
    build_index(tmp_path / "index", catalog, **MODEL, kind="ivf-pq", device="cpu")
    index.refresh(wait=False)
    opening = index._opening
    if opening is not None:
        opening.join()
    assert index.state.generation == 2


def test_a_new_generation_is_put_on_the_gpu_and_the_old_one_leaves_it(
    catalog: Catalog, tmp_path: Path, copies: list[weakref.ref[Copy]]
) -> None:
    index = opened(catalog, tmp_path)
    rebuilt(catalog, tmp_path, index)
    old, _ = copies
    assert old() is None, "its memory is let go"
    before = there(copies).searches
    assert_exact(catalog, index.search(QUERIES, 10))
    assert there(copies).searches == before + 1
    assert index.state.device == "cuda"
    index.close()
    assert copies[-1]() is None


def test_a_new_generation_that_does_not_fit_beside_the_old_one_is_searched_on_the_processor(
    catalog: Catalog,
    tmp_path: Path,
    copies: list[weakref.ref[Copy]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    index = opened(catalog, tmp_path)

    def full(ivf: Any) -> Any:
        assert copies[0]() is not None, "the old one is searched meanwhile"
        raise RuntimeError(FULL)

    monkeypatch.setattr(index_gpu, "copied", full)
    with caplog.at_level(logging.WARNING, "sightline"):
        rebuilt(catalog, tmp_path, index)
    assert copies[0]() is None
    assert index.state.device == "cpu"
    [line] = caplog.messages
    assert "searches run on the processor" in line
    assert "out of memory" in line
    assert_exact(catalog, index.search(QUERIES, 10))


# building -----------------------------------------------------------------------------------------


def test_clusters_and_their_rows_are_found_on_the_gpu(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, str, bool]] = []
    used: list[Any] = []

    def moved(index: Any, device: str, *, half: bool = False) -> Any:
        asked.append((index.ntotal, device, half))
        used.append(faiss.clone_index(index))
        return used[-1]

    monkeypatch.setattr(index_gpu, "moved", moved)
    state = build_index(tmp_path / "there", catalog, **MODEL, kind="ivf-pq", device="cuda:1")
    lists = manifest_in(tmp_path / "there").nlist
    assert asked == [(0, "cuda:1", False), (lists, "cuda:1", True)]
    assert used[0].ntotal == lists, "centroids were found in it"
    assert state.recall["image"] >= 0.97
    with_processor = open_index(tmp_path / "index", catalog, **MODEL).search(QUERIES, 10)
    built_there = open_index(tmp_path / "there", catalog, **MODEL).search(QUERIES, 10)
    assert shares(with_processor, built_there) >= 0.97


@pytest.mark.usefixtures("no_gpu")
def test_building_takes_the_processor_where_there_is_no_gpu() -> None:
    for device in ("auto", "cpu"):
        assert index_gpu.moved(faiss.IndexFlatIP(4), device) is None
    for device in ("cuda", "cuda:1"):
        with pytest.raises(UsageError, match="--device"):
            index_gpu.moved(faiss.IndexFlatIP(4), device)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without one, whatever this one has."""
    monkeypatch.setattr(index_gpu, "gpu_there", lambda: False)


# asking for it ------------------------------------------------------------------------------------


def test_a_library_is_searched_on_a_gpu_when_that_is_asked_for(
    catalog: Catalog, tmp_path: Path, copies: list[weakref.ref[Copy]]
) -> None:
    with Library.open(tmp_path, read_only=True) as library:
        assert library.status()["index"]["device"] == "cpu"
        assert not copies
    with Library.open(tmp_path, read_only=True, search_device="cuda") as library:
        assert library.status()["index"]["device"] == "cuda"
    assert copies[0]() is None


@pytest.mark.usefixtures("no_gpu")
def test_a_gpu_that_is_not_there_is_one_line_that_says_what_to_do(
    catalog: Catalog, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r'install "\.\[gpu\]".*--search-device'):
        open_index(tmp_path / "index", catalog, **MODEL, device="cuda")
    with pytest.raises(UsageError, match="--search-device"):
        Library.open(tmp_path, search_device="cuda")
    with pytest.raises(UsageError, match="cpu or on cuda, not on mps"):
        check_search_device("mps")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("place", "said"),
    [("library", "GPU"), ("milvus+http://localhost:1/photos", "Milvus searches a collection")],
)
def test_a_server_says_before_anything_else_that_it_cannot_search_on_a_gpu(
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


def test_a_server_says_where_it_searches(
    catalog: Catalog,
    tmp_path: Path,
    copies: list[weakref.ref[Copy]],
    tiny_encoder: Encoder,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Library.open(tmp_path, read_only=True) as library:
        warm(tiny_encoder, library)
        assert capsys.readouterr().err == ""
    with Library.open(tmp_path, read_only=True, search_device="cuda") as library:
        warm(tiny_encoder, library)
        assert "on the GPU" in capsys.readouterr().err
        there(copies).fails = FULL
        library.nearest(QUERIES, 10)
        warm(tiny_encoder, library)
        assert "on the CPU: the GPU failed: alloc fail" in capsys.readouterr().err
