"""What a server does, for Prometheus: ``GET /metrics``, behind the same guard as everything else.

    scrape_configs:
      - job_name: sightline
        authorization: {credentials_file: /etc/sightline/token}
        static_configs: [{targets: ["host:8008"]}]

Each application has a registry of its own. What is known of the library is looked up when it is
asked for, so that it costs nothing in between.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from flask import Blueprint, Flask, Response, current_app, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from sightline.server.web.errors import without_folders
from sightline.server.web.parameters import Operation, operation

if TYPE_CHECKING:
    from sightline.server.search.engine import SearchEngine

metrics = Blueprint("metrics", __name__)

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
"""Limits of the histogram: a search should take .05, a page of thumbnails less."""

NOWHERE = "nowhere"
"""The name of all addresses that there are not: a scanner must not make a series of each."""


class LibraryCollector(Collector):
    """What is in the library now."""

    def __init__(self, app: Flask, engine: SearchEngine) -> None:
        self._app = app
        self._engine = engine

    def describe(self) -> list[Metric]:
        """Nothing: registering must not open the library."""
        return []

    def collect(self) -> Iterator[Metric]:
        """One gauge each."""
        library = self._engine.library
        library.refresh(wait=False)
        index = library.index_state
        waiting = self._app.extensions["sightline_admission"].waiting
        for name, about, value in (
            ("images", "Pictures in the library", library.count),
            ("failures", "Files that could not be read", len(library.failures())),
            ("index_vectors", "Vectors in the vector index", index.count),
            ("index_pending", "Vectors that are searched exactly beside it", index.pending),
            ("index_bytes", "Size of the vector index", index.bytes),
            ("library_version", "Counts the commits that changed vectors", library.version),
            ("requests_waiting", "Requests that wait for a thread", waiting()),
        ):
            yield GaugeMetricFamily(f"sightline_{name}", about, value=value)
        model = GaugeMetricFamily("sightline_model", "1", labels=["model"])
        model.add_metric([without_folders(library.model)], 1)
        yield model


def measure(app: Flask, engine: SearchEngine) -> None:
    """Counts and times every request of ``app`` from now on."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(LibraryCollector(app, engine))
    labels = ("endpoint", "method", "status")
    requests = Counter("sightline_requests", "Requests answered", labels, registry=registry)
    seconds = Histogram(
        "sightline_request_seconds",
        "Time from a request's turn to its answer",
        ("endpoint",),
        buckets=SECONDS,
        registry=registry,
    )
    app.extensions["sightline_metrics"] = registry

    @app.before_request
    def start() -> None:
        g.started = time.perf_counter()

    @app.after_request
    def count(response: Response) -> Response:
        endpoint = request.endpoint or NOWHERE
        # A method that nobody knows is a series too; HTTP's own are few.
        method = request.method if request.endpoint else ""
        requests.labels(endpoint, method, str(response.status_code)).inc()
        seconds.labels(endpoint).observe(time.perf_counter() - g.started)
        return response


@metrics.get("/metrics")
@operation(Operation("What the server does, for Prometheus", answer="text/plain", refuses=False))
def show() -> Response:
    """In Prometheus' text format."""
    text = generate_latest(current_app.extensions["sightline_metrics"])
    return Response(text, content_type=CONTENT_TYPE_LATEST)
