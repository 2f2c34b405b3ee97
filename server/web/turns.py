"""Turns at computing, and how one is lent to others while its holder waits for the model.

To encode a picture takes as long as ten searches. Whoever holds a turn meanwhile keeps out those
who need no model, for as long as it and all who wait for the model before it take.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_mine = threading.local()
"""``turn``: the lanes in which this thread holds a turn, and the room for those who stand aside."""


class Lane:
    """Some requests at work at a time, some that wait for it, and no more, in the order they came.

    A turn is handed to the one who has waited longest. With a semaphore a newcomer may take it
    before that one wakes up, who then waits again behind all others.
    """

    def __init__(self, at_work: int, patient: int) -> None:
        self._free = at_work
        self._patient = patient
        self._waiting: deque[threading.Event] = deque()
        self._lock = threading.Lock()

    def enter(self) -> bool:
        """Takes a turn, waiting for it where there is room to wait; False where there is none."""
        return self._take(first=False)

    def again(self) -> None:
        """Takes a turn anew after ``leave``, before all who wait for their first."""
        self._take(first=True)

    def _take(self, *, first: bool) -> bool:
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            if not first and len(self._waiting) >= self._patient:
                return False
            turn = threading.Event()
            (self._waiting.appendleft if first else self._waiting.append)(turn)
        turn.wait()
        return True

    def leave(self) -> None:
        """Gives the turn to the next."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._free += 1


@contextmanager
def holding(lanes: Sequence[Lane], room: threading.Semaphore) -> Iterator[None]:
    """Says that this thread holds a turn in each of ``lanes``; ``room`` is how many may stand
    aside at the same time."""
    _mine.turn = lanes, room
    try:
        yield
    finally:
        _mine.turn = None


@contextmanager
def aside() -> Iterator[None]:
    """For a ``with`` block others have this thread's turn, if it holds one and there is room."""
    turn: tuple[Sequence[Lane], threading.Semaphore] | None = getattr(_mine, "turn", None)
    if turn is None or not turn[1].acquire(blocking=False):
        yield
        return
    lanes, room = turn
    _mine.turn = None
    for lane in lanes:
        lane.leave()
    try:
        yield
    finally:
        for lane in lanes:
            lane.again()
        _mine.turn = turn
        room.release()
