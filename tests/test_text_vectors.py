"""Vectors of earlier searches, kept for the next process."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from sightline.indexer.catalog import text_vectors
from sightline.indexer.catalog.text_vectors import FILE, StoredTextVectors


def store(directory: Path, *, model: str = "m", revision: str = "1") -> StoredTextVectors:
    return StoredTextVectors(directory, model=model, revision=revision, dimension=4)


def unit(position: int) -> np.ndarray:
    return np.eye(4, dtype=np.float32)[position]


def test_vectors_are_kept_per_model_and_revision(tmp_path: Path) -> None:
    assert store(tmp_path).get(["a dog"]) == {}
    store(tmp_path).add({"a dog": unit(0), "a cat": unit(1)})
    store(tmp_path, revision="2").add({"a dog": unit(2)})
    found = store(tmp_path).get(["a dog", "a car", "a cat"])
    assert list(found) == ["a dog", "a cat"]
    np.testing.assert_array_equal(found["a dog"], unit(0))
    np.testing.assert_array_equal(store(tmp_path, revision="2").get(["a dog"])["a dog"], unit(2))
    assert store(tmp_path, model="other").get(["a dog"]) == {}


def test_the_newest_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_vectors, "MAX_TEXTS", 3)
    for number in range(5):
        store(tmp_path).add({str(number): unit(number % 4)})
    assert list(store(tmp_path).get([str(number) for number in range(5)])) == ["2", "3", "4"]


def test_a_corrupt_or_crafted_file_is_not_used(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database" * 100)
    store(tmp_path).add({"a dog": unit(0)})
    assert store(tmp_path).get(["a dog"]) == {}
    (tmp_path / FILE).unlink()
    store(tmp_path).add({"a dog": unit(0)})
    for crafted in (b"short", np.full(4, np.nan, "<f4").tobytes(), "text", None, 7):
        with closing(sqlite3.connect(tmp_path / FILE)) as connection, connection:
            connection.execute("UPDATE text_vectors SET vector = ?", (crafted,))
        assert store(tmp_path).get(["a dog"]) == {}


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    store(missing).add({"a dog": unit(0)})
    assert store(missing).get(["a dog"]) == {}
    assert not missing.exists()
