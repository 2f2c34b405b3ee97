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

from indexer.types import Embeddings


class _Question:
    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.answer: Embeddings | None = None
        self.error: Exception | None = None


class Batcher:
    """Calls ``encode`` from one thread at a time, for several callers at once.

    ``encode`` takes texts and gives ``(n, d)`` rows in their order. At most ``largest`` texts go
    into one call, but for a caller who brings more.
    """

    def __init__(self, encode: Callable[[list[str]], Embeddings], *, largest: int = 32) -> None:
        self._encode = encode
        self._largest = largest
        self._waiting: deque[_Question] = deque()
        self._turn = threading.Lock()

    def __call__(self, texts: Sequence[str]) -> Embeddings:
        """The rows of these texts. Raises what ``encode`` raises."""
        mine = _Question(texts)
        self._waiting.append(mine)
        while mine.answer is None and mine.error is None:
            with self._turn:  # while waiting here, another's call may answer this one too
                if mine.answer is None and mine.error is None:
                    self._answer(self._next())
        if mine.error is not None:
            raise mine.error
        assert mine.answer is not None
        return mine.answer

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
