"""Whatever is done to a catalog in whatever order: what ``changes`` tells an index is right."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from helpers_catalog import file, new_catalog, picture
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sightline.indexer.catalog import Catalog


class Interleaving(RuleBasedStateMachine):
    """Writes, changes, moves, copies and removals in any order: whatever set of vectors was once
    right, with ``changes`` put to it, is right now."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.catalog, self.root = new_catalog(Path(self.folder.name))
        self.truth: dict[int, np.ndarray] = {}
        self.paths: dict[str, int] = {}
        self.bases: list[tuple[int, dict[int, np.ndarray]]] = [(0, {})]
        self.given: set[int] = set()
        self.seed = 0

    def teardown(self) -> None:
        self.catalog.close()
        self.folder.cleanup()

    def gone(self, ids: tuple[int, ...]) -> None:
        for image in ids:
            del self.truth[image]
            self.paths = {path: i for path, i in self.paths.items() if i != image}

    @rule(paths=st.sets(st.integers(0, 12), min_size=1, max_size=4), by_id=st.booleans())
    def write(self, paths: set[int], by_id: bool) -> None:
        images = []
        for number in sorted(paths):
            self.seed += 1
            path = f"{number % 3}/{number}.jpg"
            known = self.paths.get(path) if by_id else None
            images.append(picture(path, seed=self.seed, image=known))
        fresh = [image.candidate.path not in self.paths for image in images]
        written = self.catalog.write(self.root, images=images)
        for image, i, new in zip(images, written.images, fresh, strict=True):
            if new:
                assert i not in self.given, "an id was given out twice"
                self.given.add(i)
            else:
                assert self.paths[image.candidate.path] == i
            self.truth[i] = image.vector
            self.paths[image.candidate.path] = i

    @precondition(lambda self: self.paths)
    @rule(data=st.data(), to=st.integers(0, 12), copy=st.booleans())
    def move_or_copy(self, data: st.DataObject, to: int, copy: bool) -> None:
        source = data.draw(st.sampled_from(sorted(self.paths)))
        target, image = f"{to % 3}/{to}.jpg", self.paths[source]
        if copy and target == source:
            return
        files = [(image, file(target))]
        if copy:
            written = self.catalog.write(self.root, copied=files)
        else:
            written = self.catalog.write(self.root, moved=files)
        self.gone(written.removed)
        for new, old in written.copied:
            assert new not in self.given
            self.given.add(new)
            self.truth[new] = self.truth[old]
            self.paths[target] = new
        if not copy:
            del self.paths[source]
            self.paths[target] = image

    @rule(ids=st.sets(st.integers(1, 30), max_size=4))
    def remove(self, ids: set[int]) -> None:
        gone = self.catalog.remove(ids)
        assert set(gone.tolist()) == ids & set(self.truth)
        self.gone(tuple(gone.tolist()))

    @rule()
    def remember(self) -> None:
        self.bases.append((self.catalog.version, dict(self.truth)))

    @rule()
    def open_again(self) -> None:
        path = self.catalog.path
        self.catalog.close()
        self.catalog = Catalog.open(path)

    @invariant()
    def every_base_becomes_the_truth(self) -> None:
        assert {
            path: known.id for path, known in self.catalog.known(self.root).items()
        } == self.paths
        assert self.catalog.select().tolist() == sorted(self.truth)
        for version, base in self.bases:
            changes = self.catalog.changes(version)
            assert changes.version == self.catalog.version
            assert len(changes) == self.catalog.pending(version)
            result = dict(base)
            for i in [*changes.removed.tolist(), *changes.ids.tolist()]:
                result.pop(i, None)
            result.update(zip(changes.ids.tolist(), changes.vectors, strict=True))
            assert result.keys() == self.truth.keys()
            assert all((result[i] == self.truth[i]).all() for i in result)

    @invariant()
    def nothing_is_wrong(self) -> None:
        assert self.catalog.check() == []


TestInterleaving = Interleaving.TestCase
TestInterleaving.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
