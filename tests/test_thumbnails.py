"""Thumbnails: one an image, kept apart from the catalog, and never the reason of a loss."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers_catalog import file, new_catalog, picture

from sightline.indexer.catalog import Thumbnails
from sightline.indexer.errors import LibraryError


@pytest.fixture
def thumbnails(tmp_path: Path) -> Iterator[Thumbnails]:
    with Thumbnails.open_or_create(tmp_path / "thumbnails.db") as made:
        yield made


def test_a_thumbnail_is_read_as_it_was_written(thumbnails: Thumbnails) -> None:
    large = np.random.default_rng(0).bytes(200_000)
    thumbnails.put_many({1: b"one", 7: large})
    assert thumbnails.get(1) == b"one"
    assert thumbnails.get(7) == large
    assert thumbnails.get(2) is None
    assert thumbnails.ids().tolist() == [1, 7]
    assert len(thumbnails) == 2
    thumbnails.put_many({1: b"another"})
    assert thumbnails.get(1) == b"another"
    thumbnails.remove([1, 5])
    assert thumbnails.ids().tolist() == [7]
    thumbnails.put_many({})
    assert thumbnails.ids().dtype == np.int64


def test_copies_share_a_thumbnail_and_orphans_are_swept(thumbnails: Thumbnails) -> None:
    thumbnails.put_many({1: b"one", 2: b"two"})
    thumbnails.copy([(5, 1), (6, 99)])
    assert thumbnails.get(5) == b"one"
    assert thumbnails.get(6) is None
    assert thumbnails.sweep(np.array([1, 2, 8])) == 1
    assert thumbnails.ids().tolist() == [1, 2]
    assert thumbnails.sweep(np.array([1, 2])) == 0


def test_thumbnails_are_written_with_their_images(tmp_path: Path, thumbnails: Thumbnails) -> None:
    catalog, root = new_catalog(tmp_path)
    with catalog:
        images = [picture("a.jpg"), picture("b.jpg")]
        catalog.write(
            root,
            images=images,
            before_commit=lambda written: thumbnails.put_many(
                {i: image.photo.thumbnail for i, image in zip(written.images, images, strict=True)}
            ),
        )
        catalog.write(
            root,
            copied=[(2, file("c.jpg"))],
            before_commit=lambda written: thumbnails.copy(written.copied),
        )
        assert thumbnails.get(1) == b"RIFFa.jpg"
        assert thumbnails.get(3) == thumbnails.get(2) == b"RIFFb.jpg"
        assert catalog.check(thumbnails.ids()) == []
        thumbnails.remove([1])
        thumbnails.put_many({9: b"orphan"})
        assert [(p.kind, p.ids) for p in catalog.check(thumbnails.ids())] == [
            ("missing", (1,)),
            ("orphaned", (9,)),
        ]


def test_many_threads_read_while_one_writes(thumbnails: Thumbnails) -> None:
    thumbnails.put_many({n: bytes([n]) * 1000 for n in range(50)})
    wrong: list[object] = []

    def read() -> None:
        for turn in range(300):
            found = thumbnails.get(turn % 50)
            if found != bytes([turn % 50]) * 1000:
                wrong.append(found)

    readers = [threading.Thread(target=read) for _ in range(8)]
    for reader in readers:
        reader.start()
    for start in range(100, 200, 10):
        thumbnails.put_many(dict.fromkeys(range(start, start + 10), b"x"))
    for reader in readers:
        reader.join()
    assert wrong == []
    assert len(thumbnails) == 150


def test_thumbnails_can_be_opened_read_only_and_closed(
    tmp_path: Path, thumbnails: Thumbnails
) -> None:
    thumbnails.put_many({1: b"one"})
    with Thumbnails.open(tmp_path / "thumbnails.db", read_only=True) as reader:
        assert reader.get(1) == b"one"
        with pytest.raises(LibraryError, match="opened for reading only"):
            reader.put_many({2: b"two"})
    with pytest.raises(LibraryError, match="has been closed"):
        reader.get(1)
    with pytest.raises(LibraryError, match="there is no"):
        Thumbnails.open(tmp_path / "none.db")
