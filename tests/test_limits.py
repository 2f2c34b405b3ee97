"""Not more at once than the machine can do: who computes, who waits, who is told to come back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from sightline.server.web.admission import Admission
from sightline.server.web.turns import Lane, aside, holding


def test_a_full_queue_is_an_honest_503() -> None:
    def app(environ: dict, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"fine"]

    admission = Admission(app, limit=3)  # type: ignore[arg-type]
    told: list[Any] = []
    for waiting in (0, 3, 4):
        admission.waiting = lambda waiting=waiting: waiting  # type: ignore[misc]
        admission({}, lambda status, headers: told.append((status, dict(headers))))  # type: ignore[arg-type]
    assert [status[:3] for status, _ in told] == ["200", "200", "503"]
    assert told[-1][1]["Retry-After"] == "2"


def test_a_request_a_core_computes_a_few_wait_and_more_are_told_to_come_back() -> None:
    begun, go_on = threading.Semaphore(0), threading.Event()

    def app(environ: dict, start_response: Any) -> list[bytes]:
        begun.release()
        if environ["PATH_INFO"] == "/api/search":
            assert go_on.wait(10)
        start_response("200 OK", [])
        return [b"fine"]

    admission = Admission(app, limit=256, threads=8, cores=2)  # type: ignore[arg-type]
    told: list[str] = []

    def ask(path: str, gone: bool = False) -> None:
        environ = {"PATH_INFO": path, "waitress.client_disconnected": lambda: gone}
        admission(environ, lambda status, headers: told.append(f"{path} {status[:3]}"))  # type: ignore[arg-type]

    threads = [threading.Thread(target=ask, args=["/api/search"]) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert begun.acquire(timeout=10)
    assert begun.acquire(timeout=10)
    while len(told) < 2:  # eight came, two compute, four wait
        threads[-1].join(0.01)
    assert told == ["/api/search 503"] * 2
    assert not begun.acquire(blocking=False)
    ask("/thumbnails/5")
    assert told.pop() == "/thumbnails/5 200", "what costs nothing waits for nobody"
    assert begun.acquire(blocking=False)
    ask("/api/search", gone=True)
    assert told.pop() == "/api/search 503"
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert told[2:] == ["/api/search 200"] * 6


def test_searches_for_many_hits_leave_turns_for_the_others() -> None:
    begun, go_on = threading.Semaphore(0), threading.Event()
    told: list[str] = []

    def app(environ: dict, start_response: Any) -> list[bytes]:
        if environ["QUERY_STRING"] != "q=dog&k=200":
            begun.release()
            assert go_on.wait(10)
        start_response("200 OK", [])
        return [b"fine"]

    admission = Admission(app, limit=256, threads=40, cores=2)  # type: ignore[arg-type]

    def ask(query: str) -> None:
        environ = {"PATH_INFO": "/api/search", "QUERY_STRING": query}
        admission(environ, lambda status, headers: told.append(f"{query} {status[:3]}"))  # type: ignore[arg-type]

    threads = [threading.Thread(target=ask, args=["q=dog&k=01000"]) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert begun.acquire(timeout=10)
    while len(told) < 2:  # one of eight is at work, and five wait
        threads[-1].join(0.01)
    ask("q=dog&k=200")
    assert told == ["q=dog&k=01000 503"] * 2 + ["q=dog&k=200 200"]
    assert not begun.acquire(blocking=False), "another one for many hits is at work"
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert told[3:] == ["q=dog&k=01000 200"] * 6


def test_turns_are_taken_in_the_order_of_asking() -> None:
    lane = Lane(1, 10)
    assert lane.enter()
    came: list[int] = []

    def wait(number: int) -> None:
        assert lane.enter()
        came.append(number)

    threads = [threading.Thread(target=wait, args=[n]) for n in range(5)]
    for n, thread in enumerate(threads):
        thread.start()
        while len(lane._waiting) <= n:
            thread.join(0.001)
    for n in range(5):
        lane.leave()
        # A newcomer does not take the turn that was given to another, awake or not.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lane, "_patient", 0)
            assert not lane.enter()
        threads[n].join(10)
    assert came == [0, 1, 2, 3, 4]


def test_whoever_waits_for_the_model_lets_others_have_the_turn() -> None:
    lane, room = Lane(1, 10), threading.Semaphore(1)
    order: list[str] = []

    def work(name: str) -> None:
        assert lane.enter()
        order.append(name)
        lane.leave()

    assert lane.enter()
    with holding([lane], room):
        with aside():
            for name in ("one", "two"):
                passing = threading.Thread(target=work, args=[name])
                passing.start()
                passing.join(10)
            order.append("the model")
            with aside():
                pass  # who stands aside has no turn to give
        order.append("back")
        assert not lane._free
    assert order == ["one", "two", "the model", "back"]
    with aside():
        assert not lane._free, "this thread's turn is no turn of a request any more"


def test_whoever_comes_back_is_before_those_who_had_no_turn_yet() -> None:
    lane = Lane(1, 10)
    assert lane.enter()
    order: list[str] = []

    def wait(take: Callable[[], object], name: str) -> None:
        take()
        order.append(name)
        lane.leave()

    threads = [
        threading.Thread(target=wait, args=[lane.enter, "a newcomer"]),
        threading.Thread(target=wait, args=[lane.again, "back"]),
    ]
    for n, thread in enumerate(threads):
        thread.start()
        while len(lane._waiting) <= n:
            thread.join(0.001)
    lane.leave()
    for thread in threads:
        thread.join(10)
    assert order == ["back", "a newcomer"]


def test_only_so_many_stand_aside() -> None:
    lane, room = Lane(1, 10), threading.Semaphore(0)
    assert lane.enter()
    with holding([lane], room), aside():
        assert not lane._free, "where there is no room the turn is kept"
