"""A build that is killed, and one that goes on while others search, harm nobody."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from test_vector_index import MODEL, assert_in_order, fill, new_catalog, recall, vectors

from sightline.indexer.catalog import Catalog
from sightline.indexer.types import Root
from sightline.indexer.vector_index import index as vector_index
from sightline.indexer.vector_index.generation import Generation
from sightline.indexer.vector_index.index import build_index, maintain_index, open_index
from sightline.indexer.vector_index.manifest import MANIFEST, Manifest

COUNT = 1000

BUILD = """
import os, signal, sys
from pathlib import Path
from sightline.indexer.catalog import Catalog
from sightline.indexer.vector_index.index import build_index

def die(phase, done, total):
    if phase == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

folder = Path(sys.argv[1])
with Catalog.open(folder / "catalog.db") as catalog:
    build_index(folder / "index", catalog, model="m", revision="r", kind="ivf-pq", device="cpu",
                progress=die)
"""


@pytest.fixture
def library(tmp_path: Path) -> Iterator[tuple[Catalog, Root]]:
    catalog, root = new_catalog(tmp_path, dimension=16)
    with catalog:
        fill(catalog, root, COUNT)
        yield catalog, root


@pytest.mark.parametrize(
    "phase",
    ["reading vectors", "training the index", "building the index", "measuring the index"],
)
def test_a_build_that_is_killed_leaves_an_index_that_answers(
    library: tuple[Catalog, Root], tmp_path: Path, phase: str
) -> None:
    catalog, root = library
    directory = tmp_path / "index"
    build_index(directory, catalog, **MODEL, kind="ivf-pq", device="cpu")
    before = (directory / MANIFEST).read_bytes()
    reader = open_index(directory, catalog, **MODEL)
    fill(catalog, root, 50, seed=7, start=COUNT)
    child = subprocess.run(
        [sys.executable, "-c", BUILD, str(tmp_path), phase], check=False, capture_output=True
    )
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    assert (directory / MANIFEST).read_bytes() == before
    reader.refresh()
    for index in (reader, open_index(directory, catalog, **MODEL)):
        assert (index.state.type, index.state.generation) == ("ivf-pq", 1)
        assert index.state.note is None
        assert recall(index, catalog) >= 0.97
    build_index(directory, catalog, **MODEL, kind="ivf-pq", device="cpu")
    assert len(list(directory.iterdir())) == 4, "what was cut off is swept away"


def test_searches_go_on_while_generations_are_swapped(
    library: tuple[Catalog, Root], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_index, "EXTEND_AT", 20)
    catalog, root = library
    directory = tmp_path / "index"
    build_index(directory, catalog, **MODEL, kind="ivf-pq", device="cpu")
    index = open_index(directory, catalog, **MODEL)
    kept = catalog.select()[:COUNT]
    queries = vectors(4, 16, 33)
    stored = catalog.vectors(kept)
    over, wrong, searches = threading.Event(), [], []

    def search() -> None:
        try:
            while not over.is_set():
                index.refresh(wait=False)
                scores, ids = index.search(queries, 10, allowed=kept)
                assert_in_order(scores, ids)
                assert (ids >= 0).all()
                for query, row, of in zip(queries, scores, ids, strict=True):
                    assert np.allclose(row, stored[np.searchsorted(kept, of)] @ query, atol=1e-6)
                searches.append(1)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=search) for _ in range(6)]
    for thread in threads:
        thread.start()
    for round_ in range(4):
        fill(catalog, root, 60, seed=round_ + 50, start=COUNT + 60 * round_)
        if round_ % 2:
            build_index(directory, catalog, **MODEL, kind="ivf-pq", device="cpu")
        else:
            maintain_index(directory, catalog, **MODEL, device="cpu")
    over.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert searches
    index.refresh()
    assert (index.state.generation, index.state.pending) == (5, 0)


def test_the_old_generation_is_searched_while_the_new_one_is_opened(
    library: tuple[Catalog, Root], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog, root = library
    directory = tmp_path / "index"
    build_index(directory, catalog, **MODEL, kind="ivf-pq", device="cpu")
    index = open_index(directory, catalog, **MODEL)
    build_index(directory, catalog, **MODEL, kind="ivf-pq", device="cpu")
    opening, broken = threading.Event(), RuntimeError("a disk that is gone")

    def held(where: Path, manifest: Manifest) -> Generation:
        assert opening.wait(60)
        if manifest.generation == 3:
            raise broken
        return Generation(where, manifest)

    with monkeypatch.context() as patched:
        patched.setattr(vector_index, "Generation", held)
        index.refresh(wait=False)
        fill(catalog, root, 5, seed=70, start=COUNT)
        index.refresh(wait=False)
        assert (index.state.generation, index.state.pending) == (1, 5)
        assert recall(index, catalog) >= 0.97
        opening.set()
        index.refresh()
        assert (index.state.generation, index.state.pending) == (2, 5)
    build_index(directory, catalog, **MODEL, kind="ivf-pq", device="cpu")
    monkeypatch.setattr(vector_index, "Generation", held)
    index.refresh(wait=False)
    with pytest.raises(RuntimeError, match="a disk that is gone"):
        index.refresh()
    assert recall(index, catalog) >= 0.97


def test_a_generation_that_comes_while_another_is_opened_is_not_missed(
    library: tuple[Catalog, Root], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog, _ = library
    directory = tmp_path / "index"
    build_index(directory, catalog, **MODEL, kind="ivf-pq", device="cpu")
    index = open_index(directory, catalog, **MODEL)
    build_index(directory, catalog, **MODEL, kind="ivf-pq", device="cpu")
    opened, goes_on = threading.Event(), threading.Event()

    def held(where: Path, manifest: Manifest) -> Generation:
        generation = Generation(where, manifest)
        opened.set()
        assert goes_on.wait(60)
        return generation

    monkeypatch.setattr(vector_index, "Generation", held)
    index.refresh(wait=False)
    assert opened.wait(60)
    monkeypatch.undo()
    build_index(directory, catalog, **MODEL, kind="ivf-pq", device="cpu")
    [opening] = [thread for thread in threading.enumerate() if thread.name == "open-index"]
    goes_on.set()
    opening.join()
    assert index.state.generation == 3
    assert recall(index, catalog) >= 0.97


def test_more_threads_than_cores_may_search(library: tuple[Catalog, Root], tmp_path: Path) -> None:
    catalog, _ = library
    build_index(tmp_path / "index", catalog, **MODEL, kind="ivf-pq", device="cpu")
    index = open_index(tmp_path / "index", catalog, **MODEL)
    queries = vectors(64, 16, 3)
    _, expected = index.search(queries, 10)
    found: dict[int, np.ndarray] = {}

    def search(n: int) -> None:
        found[n] = index.search(queries[n : n + 1], 10)[1][0]

    threads = [threading.Thread(target=search, args=[n]) for n in range(len(queries))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[n].tolist() for n in range(len(queries))] == expected.tolist()
