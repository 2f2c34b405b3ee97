"""Questions that arrive while another is being answered are answered together.

Sixteen texts in one batch cost a CPU six tenths of sixteen texts one by one
(``benchmarks/encoder.py``, one Zen 4 core, ViT-B/32, bfloat16: 7.2 against 12.1 ms a text), and
running them at the same time instead only makes them fight over the cores. Nobody waits for a
batch to fill: whoever finds the tower free goes at once, and takes along all who came meanwhile.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from sightline.indexer.types import Embeddings


class _Question:
    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.answer: Embeddings | None = None
        self.error: Exception | None = None
        self.turn = threading.Event()
        """Set when it was answered, or is the first of those who wait and may ask for all."""

    @property
    def done(self) -> bool:
        return self.answer is not None or self.error is not None


class Batcher:
    """Calls ``encode`` from one thread at a time, for several callers at once, in the order they
    came.

    ``encode`` takes texts and gives ``(n, d)`` rows in their order. At most ``largest`` texts go
    into one call, but for a caller who brings more.
    """

    def __init__(self, encode: Callable[[list[str]], Embeddings], *, largest: int = 32) -> None:
        self._encode = encode
        self._largest = largest
        self._lock = threading.Lock()
        self._waiting: deque[_Question] = deque()
        self._busy = False
        """Whether somebody asks, or was told to; otherwise nobody waits."""

    def __call__(self, texts: Sequence[str]) -> Embeddings:
        """The rows of these texts. Raises what ``encode`` raises."""
        mine = _Question(texts)
        with self._lock:
            self._waiting.append(mine)
            first, self._busy = not self._busy, True
        if not first:
            mine.turn.wait()
        if not mine.done:
            self._ask()
        if mine.error is not None:
            raise mine.error
        assert mine.answer is not None
        return mine.answer

    def _ask(self) -> None:
        """Answers the first of those who wait and as many others as one call takes, and lets the
        next one ask: whoever was answered does not wait for that."""
        with self._lock:
            together = self._next()
        try:
            self._answer(together)
        finally:
            with self._lock:
                self._busy = bool(self._waiting)
                following = [self._waiting[0]] if self._waiting else []
            for question in together:
                if not question.done:
                    question.error = RuntimeError("the encoder was interrupted")
            for question in [*following, *together]:
                question.turn.set()

    def _next(self) -> list[_Question]:
        """The questions of the next call, oldest first."""
        together = [self._waiting.popleft()]
        count = len(together[0].texts)
        while self._waiting and count + len(self._waiting[0].texts) <= self._largest:
            together.append(self._waiting.popleft())
            count += len(together[-1].texts)
        return together

    def _answer(self, questions: list[_Question]) -> None:
        try:
            rows = self._encode([text for question in questions for text in question.texts])
        except Exception as error:
            for question in questions:
                question.error = error
            return
        ends = np.cumsum([len(question.texts) for question in questions])
        for question, end in zip(questions, ends, strict=True):
            question.answer = rows[end - len(question.texts) : end]
