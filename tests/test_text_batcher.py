"""Concurrent requests share batches, and each gets its own result."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sightline.indexer.encoder.text_batcher import TextBatcher
from sightline.indexer.types import Embeddings


class Lengths:
    """Encodes a text as its length. The first call waits until it is let go."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.started = threading.Event()
        self.go = threading.Event()
        self.at_once = 0

    def __call__(self, texts: list[str]) -> Embeddings:
        self.at_once += 1
        assert self.at_once == 1
        self.calls.append(texts)
        self.started.set()
        assert self.go.wait(30)
        self.at_once -= 1
        if "wrong" in texts:
            raise ValueError("wrong")
        return np.array([[len(text)] for text in texts], np.float32)


def test_requests_that_arrive_during_a_call_share_the_next_one() -> None:
    encode = Lengths()
    batcher = TextBatcher(encode, batch_size=4)
    texts = ["a" * n for n in range(1, 8)]
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(batcher, ["first"])
        assert encode.started.wait(30)
        others = [pool.submit(batcher, [text]) for text in texts]
        while len(batcher._pending) < len(texts):
            threading.Event().wait(0.001)
        encode.go.set()
        assert first.result().tolist() == [[5]]
        assert [other.result().tolist() for other in others] == [[[n]] for n in range(1, 8)]
    assert [len(call) for call in encode.calls] == [1, 4, 3]


def test_a_finished_request_returns_before_the_next_call_ends() -> None:
    calls: list[list[str]] = []
    turns = [threading.Event(), threading.Event()]
    begun = threading.Semaphore(0)

    def encode(texts: list[str]) -> Embeddings:
        calls.append(texts)
        begun.release()
        assert turns[len(calls) - 1].wait(30)
        return np.array([[len(text)] for text in texts], np.float32)

    batcher = TextBatcher(encode, batch_size=2)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(batcher, ["first"])
        assert begun.acquire(timeout=30)
        later = pool.submit(batcher, ["later", "than"])
        while not batcher._pending:
            threading.Event().wait(0.001)
        turns[0].set()
        assert first.result(30).tolist() == [[5]]
        assert begun.acquire(timeout=30)
        assert not later.done()
        turns[1].set()
        assert later.result(30).tolist() == [[5], [4]]
    assert calls == [["first"], ["later", "than"]]


def test_a_request_above_the_batch_size_is_one_call() -> None:
    encode = Lengths()
    encode.go.set()
    assert TextBatcher(encode, batch_size=2)(["a", "bb", "ccc"]).tolist() == [[1], [2], [3]]
    assert encode.calls == [["a", "bb", "ccc"]]


def test_an_error_is_raised_in_its_caller_and_the_next_request_works() -> None:
    encode = Lengths()
    encode.go.set()
    batcher = TextBatcher(encode)
    with pytest.raises(ValueError, match="wrong"):
        batcher(["wrong"])
    assert batcher(["right"]).tolist() == [[5]]


def test_all_callers_texts_are_encoded_by_one_thread() -> None:
    threads = set()

    def encode(texts: list[str]) -> Embeddings:
        threads.add(threading.get_ident())
        return np.array([[len(text)] for text in texts], np.float32)

    batcher = TextBatcher(encode)
    with ThreadPoolExecutor(8) as pool:
        lengths = [row.tolist() for row in pool.map(batcher, [["a" * n] for n in range(50)])]
    assert lengths == [[[n]] for n in range(50)]
    assert len(threads) == 1
