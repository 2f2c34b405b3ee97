"""Prometheus metrics: ``GET /metrics``, behind the same authentication as all other routes.

    scrape_configs:
      - job_name: sightline
        authorization: {credentials_file: /etc/sightline/token}
        static_configs: [{targets: ["host:8008"]}]

Each application has its own registry. The library's gauges are read at each scrape.
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

from sightline.server.web.parameters import Operation, operation
from sightline.server.web.public import public_model_name

if TYPE_CHECKING:
    from sightline.indexer.library import AnyLibrary
    from sightline.server.search.current_engine import CurrentEngine

metrics = Blueprint("metrics", __name__)

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
"""Bucket bounds of the latency histogram, seconds; a search takes about 0.05."""

UNKNOWN_ENDPOINT = "nowhere"
"""The label of all unknown paths, so that a scanner does not create a time series for each."""


class LibraryCollector(Collector):
    """Gauges of the library and the index, read at each scrape."""

    def __init__(self, app: Flask, engines: CurrentEngine) -> None:
        self._app = app
        self._engines = engines

    def describe(self) -> list[Metric]:
        """Nothing, so that registering does not open the library."""
        return []

    def collect(self) -> Iterator[Metric]:
        """One gauge per fact."""
        with self._engines.lease() as engine:
            yield from self._gauges(engine.library)

    def _gauges(self, library: AnyLibrary) -> Iterator[Metric]:
        library.refresh(wait=False)
        index = library.index_state
        waiting = self._app.extensions["sightline_admission"].waiting
        for name, about, value in (
            ("images", "Images in the library", library.count),
            ("failures", "Files that could not be read", len(library.failures())),
            ("index_vectors", "Vectors in the vector index", index.count),
            ("index_pending", "Vectors newer than the index, searched exactly", index.pending),
            ("index_bytes", "Size of the vector index", index.bytes),
            ("library_version", "Number of commits that changed vectors", library.version),
            ("requests_waiting", "Requests waiting for a thread", waiting()),
        ):
            yield GaugeMetricFamily(f"sightline_{name}", about, value=value)
        model = GaugeMetricFamily("sightline_model", "1", labels=["model"])
        model.add_metric([public_model_name(library.model)], 1)
        yield model


def measure(app: Flask, engines: CurrentEngine) -> None:
    """Counts and times every request of ``app``."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(LibraryCollector(app, engines))
    labels = ("endpoint", "method", "status")
    requests = Counter("sightline_requests", "Requests answered", labels, registry=registry)
    seconds = Histogram(
        "sightline_request_seconds",
        "Time in the application, without queueing",
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
        endpoint = request.endpoint or UNKNOWN_ENDPOINT
        # The method of an unknown path is the client's choice: no label.
        method = request.method if request.endpoint else ""
        requests.labels(endpoint, method, str(response.status_code)).inc()
        seconds.labels(endpoint).observe(time.perf_counter() - g.started)
        return response


@metrics.get("/metrics")
@operation(Operation("Prometheus metrics", answer="text/plain", refuses=False))
def show() -> Response:
    """All metrics in the Prometheus text format."""
    text = generate_latest(current_app.extensions["sightline_metrics"])
    return Response(text, content_type=CONTENT_TYPE_LATEST)
