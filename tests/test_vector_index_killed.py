"""Builds that are killed, and builds during searches, never make a search fail or be wrong."""

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
from sightline.indexer.vector_index import build_index, index, maintain_index, open_index
from sightline.indexer.vector_index.generation import Generation
from sightline.indexer.vector_index.manifest import MANIFEST, Manifest

COUNT = 1000

BUILD = """
import os, signal, sys
from pathlib import Path
from sightline.indexer.catalog import Catalog
from sightline.indexer.vector_index import build_index

def kill(phase, done, total):
    if phase == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

folder = Path(sys.argv[1])
with Catalog.open(folder / "catalog.db") as catalog:
    build_index(folder / "index", catalog, model="m", revision="r", kind="ivf-pq", device="cpu",
                progress=kill)
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
def test_a_killed_build_leaves_the_previous_index(
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
    for opened in (reader, open_index(directory, catalog, **MODEL)):
        assert (opened.state.type, opened.state.generation) == ("ivf-pq", 1)
        assert opened.state.note is None
        assert recall(opened, catalog) >= 0.97
    build_index(directory, catalog, **MODEL, kind="ivf-pq", device="cpu")
    assert len(list(directory.iterdir())) == 4, "files of the killed build are deleted"


def test_searches_during_builds_are_right(
    library: tuple[Catalog, Root], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "EXTEND_ROWS", 20)
    catalog, root = library
    directory = tmp_path / "index"
    build_index(directory, catalog, **MODEL, kind="ivf-pq", device="cpu")
    opened = open_index(directory, catalog, **MODEL)
    allowed = catalog.select()[:COUNT]
    queries = vectors(4, 16, 33)
    stored = catalog.vectors(allowed)
    stop, errors, searches = threading.Event(), [], []

    def search() -> None:
        try:
            while not stop.is_set():
                opened.refresh(wait=False)
                scores, ids = opened.search(queries, 10, allowed=allowed)
                assert_in_order(scores, ids)
                assert (ids >= 0).all()
                for query, row, of in zip(queries, scores, ids, strict=True):
                    assert np.allclose(row, stored[np.searchsorted(allowed, of)] @ query, atol=1e-6)
                searches.append(1)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=search) for _ in range(6)]
    for thread in threads:
        thread.start()
    for round_ in range(4):
        fill(catalog, root, 60, seed=round_ + 50, start=COUNT + 60 * round_)
        if round_ % 2:
            build_index(directory, catalog, **MODEL, kind="ivf-pq", device="cpu")
        else:
            maintain_index(directory, catalog, **MODEL, device="cpu")
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors
    assert searches
    opened.refresh()
    assert (opened.state.generation, opened.state.pending) == (5, 0)


def test_the_previous_generation_is_searched_while_a_new_one_is_opened(
    library: tuple[Catalog, Root], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog, root = library
    directory = tmp_path / "index"
    build_index(directory, catalog, **MODEL, kind="ivf-pq", device="cpu")
    opened = open_index(directory, catalog, **MODEL)
    build_index(directory, catalog, **MODEL, kind="ivf-pq", device="cpu")
    opening, broken = threading.Event(), RuntimeError("the disk was removed")

    def slow_open(where: Path, manifest: Manifest) -> Generation:
        assert opening.wait(60)
        if manifest.generation == 3:
            raise broken
        return Generation(where, manifest)

    with monkeypatch.context() as patched:
        patched.setattr(index, "Generation", slow_open)
        opened.refresh(wait=False)
        fill(catalog, root, 5, seed=70, start=COUNT)
        opened.refresh(wait=False)
        assert (opened.state.generation, opened.state.pending) == (1, 5)
        assert recall(opened, catalog) >= 0.97
        opening.set()
        opened.refresh()
        assert (opened.state.generation, opened.state.pending) == (2, 5)
    build_index(directory, catalog, **MODEL, kind="ivf-pq", device="cpu")
    monkeypatch.setattr(index, "Generation", slow_open)
    opened.refresh(wait=False)
    with pytest.raises(RuntimeError, match="the disk was removed"):
        opened.refresh()
    assert recall(opened, catalog) >= 0.97


def test_a_generation_installed_while_another_is_opened_is_opened_next(
    library: tuple[Catalog, Root], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog, _ = library
    directory = tmp_path / "index"
    build_index(directory, catalog, **MODEL, kind="ivf-pq", device="cpu")
    opened = open_index(directory, catalog, **MODEL)
    build_index(directory, catalog, **MODEL, kind="ivf-pq", device="cpu")
    ready, proceed = threading.Event(), threading.Event()

    def slow_open(where: Path, manifest: Manifest) -> Generation:
        generation = Generation(where, manifest)
        ready.set()
        assert proceed.wait(60)
        return generation

    monkeypatch.setattr(index, "Generation", slow_open)
    opened.refresh(wait=False)
    assert ready.wait(60)
    monkeypatch.undo()
    build_index(directory, catalog, **MODEL, kind="ivf-pq", device="cpu")
    [opening] = [thread for thread in threading.enumerate() if thread.name == "open-index"]
    proceed.set()
    opening.join()
    assert opened.state.generation == 3
    assert recall(opened, catalog) >= 0.97


def test_many_threads_may_search(library: tuple[Catalog, Root], tmp_path: Path) -> None:
    catalog, _ = library
    build_index(tmp_path / "index", catalog, **MODEL, kind="ivf-pq", device="cpu")
    opened = open_index(tmp_path / "index", catalog, **MODEL)
    queries = vectors(64, 16, 3)
    _, expected = opened.search(queries, 10)
    found: dict[int, np.ndarray] = {}

    def search(n: int) -> None:
        found[n] = opened.search(queries[n : n + 1], 10)[1][0]

    threads = [threading.Thread(target=search, args=[n]) for n in range(len(queries))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[n].tolist() for n in range(len(queries))] == expected.tolist()
