"""Admission control: which requests run, which wait, and which are refused with 503."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest
from werkzeug.exceptions import ServiceUnavailable

from sightline.server.web.admission import Admission, Limit


class Requests:
    """Requests to an application that blocks on ``/api/search`` until ``release`` is set."""

    def __init__(self, **limits: int) -> None:
        self.running = threading.Semaphore(0)
        self.release = threading.Event()
        self._statuses: list[str] = []
        self.retry_after: set[str | None] = set()
        self.admission = Admission(self._app, **{"max_waiting": 256, **limits})  # type: ignore[arg-type]
        self._threads: list[threading.Thread] = []

    def _app(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.running.release()
        if environ["PATH_INFO"] == "/api/search" and environ["QUERY_STRING"] != "q=fast":
            assert self.release.wait(60)
        start_response("200 OK", [])
        return [b"fine"]

    def send(
        self,
        path: str = "/api/search",
        query: str = "q=dog",
        *,
        method: str = "GET",
        gone: bool = False,
    ) -> str:
        """The status of one request."""
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "waitress.client_disconnected": lambda: gone,
        }
        statuses: list[str] = []

        def start_response(status: str, headers: list[tuple[str, str]]) -> None:
            statuses.append(status[:3])
            self._statuses.append(status[:3])
            self.retry_after.add(dict(headers).get("Retry-After"))

        self.admission(environ, start_response)  # type: ignore[arg-type]
        return statuses[0]

    @property
    def statuses(self) -> Counter[str]:
        """How often each status was returned. Appending to a list is atomic, counting is not."""
        return Counter(self._statuses)

    def send_many(self, count: int, **request: str) -> None:
        """Sends ``count`` blocking searches at the same time."""
        self._threads = [threading.Thread(target=self.send, kwargs=request) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Lets the application return, and waits for all responses."""
        self.release.set()
        for thread in self._threads:
            thread.join(60)

    def wait_for(self, refused: int) -> None:
        """Returns when ``refused`` requests have been refused."""
        while self.statuses["503"] < refused:
            self._threads[-1].join(0.01)


def test_a_full_queue_is_answered_with_503_and_retry_after() -> None:
    requests = Requests(max_waiting=3)
    statuses = []
    for waiting in (0, 3, 4):
        requests.admission.waiting = lambda waiting=waiting: waiting  # type: ignore[misc]
        statuses.append(requests.send(query="q=fast"))
    assert statuses == ["200", "200", "503"]
    assert requests.retry_after == {None, "2"}


def test_one_request_per_core_runs_some_wait_and_the_rest_are_refused() -> None:
    requests = Requests(threads=8, cores=2)
    requests.send_many(8)
    assert requests.running.acquire(timeout=60)
    assert requests.running.acquire(timeout=60)
    requests.wait_for(refused=2)  # two run and four wait
    assert not requests.running.acquire(blocking=False)
    assert requests.send("/thumbnails/5") == "200", "thumbnails have no limit"
    requests.finish()
    assert requests.statuses == {"200": 7, "503": 2}


def test_requests_of_disconnected_clients_are_not_computed() -> None:
    requests = Requests()
    assert requests.send(gone=True) == "503"
    assert not requests.running.acquire(blocking=False)


@pytest.mark.parametrize(
    ("request_", "running", "waiting"),
    [({"query": "q=dog&k=01000"}, 1, 5), ({"method": "POST"}, 2, 10)],
    ids=["many hits", "upload"],
)
def test_large_searches_and_uploads_have_limits_of_their_own(
    request_: dict[str, str], running: int, waiting: int
) -> None:
    requests = Requests(threads=40, cores=2)
    requests.send_many(running + waiting + 2, **request_)
    for _ in range(running):
        assert requests.running.acquire(timeout=60)
    requests.wait_for(refused=2)
    assert not requests.running.acquire(blocking=False)
    assert requests.send(query="q=fast") == "200"
    requests.finish()
    assert requests.statuses == {"200": running + waiting + 1, "503": 2}


def test_searches_run_beside_large_ones_and_uploads() -> None:
    requests = Requests(threads=40, cores=2)
    kinds = [{"query": "q=dog&k=1000"}, {"method": "POST"}, {"method": "POST"}, {}, {}]
    threads = [threading.Thread(target=requests.send, kwargs=kind) for kind in kinds]
    for thread in threads:
        thread.start()
        assert requests.running.acquire(timeout=60)
    requests.release.set()
    for thread in threads:
        thread.join(60)
    assert requests.statuses == {"200": 5}


def test_threads_are_left_for_requests_without_a_limit() -> None:
    requests = Requests(threads=40, cores=2)
    kinds = [{"query": "q=dog&k=1000"}, {"method": "POST"}, {}]
    threads = [
        threading.Thread(target=requests.send, kwargs=kind) for kind in kinds for _ in range(40)
    ]
    requests._threads = threads
    for thread in threads:
        thread.start()
    requests.wait_for(refused=len(threads) - 38)
    assert requests.send("/livez") == "200"
    requests.finish()
    assert requests.statuses == {"200": 38 + 1, "503": len(threads) - 38}


def test_a_limit_is_free_again_after_an_error() -> None:
    limit = Limit(1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), limit:
            1 / 0  # noqa: B018
    with limit, pytest.raises(ServiceUnavailable) as refused, limit:
        pass
    assert refused.value.retry_after == 2
