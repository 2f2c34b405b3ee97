"""clip-retrieval's protocol, with the requests of its client and front end; Prometheus metrics."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers_client import client_of
from helpers_library import as_bytes, draw, id_of, make_library, make_pictures

from sightline.server.search import SearchEngine
from sightline.server.web.app import create_app
from sightline.server.web.config import ServerConfig

if TYPE_CHECKING:
    from flask.testing import FlaskClient

    from sightline.indexer.encoder import Encoder
    from sightline.indexer.library import Library

TOKEN = "a token of some length"
FRONT = "http://localhost:1234"

SENT: dict[str, Any] = {
    "text": None,
    "image": None,
    "image_url": None,
    "embedding_input": None,
    "deduplicate": True,
    "use_safety_model": True,
    "use_violence_detector": True,
    "indice_name": "sightline",
    "use_mclip": False,
    "aesthetic_score": 9,
    "aesthetic_weight": 0.5,
    "modality": "image",
    "num_images": 5,
    "num_result_ids": 5,
}
"""The body that clip-retrieval 2.45's ``ClipClient`` sends, recorded."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder) -> Iterator[Library]:
    folder = tmp_path_factory.mktemp("clip")
    pictures = make_pictures(folder / "pictures")
    with make_library(folder / "library", tiny_encoder, pictures) as made:
        yield made


@pytest.fixture(scope="module")
def engine(library: Library, tiny_encoder: Encoder) -> Iterator[SearchEngine]:
    with SearchEngine(library, tiny_encoder) as made:
        yield made


@pytest.fixture
def client(engine: SearchEngine) -> FlaskClient:
    return client_of(create_app(engine))


def knn(client: FlaskClient, **changed: Any) -> Any:
    """The response to a request of the client: JSON without a content type."""
    answer = client.post("/knn-service", data=json.dumps({**SENT, **changed}))
    assert answer.status_code == 200, answer.get_json()
    return answer.get_json()


def test_text_query_returns_the_nearest_images(
    client: FlaskClient, library: Library, tiny_encoder: Encoder
) -> None:
    found = knn(client, text="red -blue in:Trips", deduplicate=False)  # not parsed as a query
    vector = tiny_encoder.encode_texts(["red -blue in:Trips"])
    scores, ids = library.nearest(vector, 5)
    assert [one["id"] for one in found] == ids[0].tolist()
    assert [one["similarity"] for one in found] == pytest.approx(scores[0].tolist())
    assert all(base64.b64decode(one["image"])[8:12] == b"WEBP" for one in found)
    assert {"url", "caption", "image_path"} <= set(found[0])


def test_image_and_vector_queries_find_the_image(client: FlaskClient, library: Library) -> None:
    wanted = id_of(library, "IMG_0007.jpg")
    data = base64.b64encode(as_bytes(draw(7), "PNG")).decode()
    assert knn(client, image=data, num_images=1)[0]["id"] == wanted
    vector = (3 * library.vectors(np.array([wanted]))[0]).tolist()
    (hit,) = knn(client, embedding_input=vector, num_images=1, num_result_ids=1)
    assert (hit["id"], hit["similarity"]) == (wanted, pytest.approx(1, abs=1e-3))


def test_deduplicate_omits_near_duplicates(client: FlaskClient, library: Library) -> None:
    data = base64.b64encode(as_bytes(draw(0), "PNG")).decode()
    copies = {id_of(library, "copy.jpg"), id_of(library, "IMG_0000.jpg")}
    both = knn(client, image=data, deduplicate=False, num_images=100, num_result_ids=100)
    assert copies <= {one["id"] for one in both}
    once = knn(client, image=data, num_images=100, num_result_ids=100)
    assert len(copies & {one["id"] for one in once}) == 1


def test_front_end_requests_ids_first_and_metadata_later(client: FlaskClient) -> None:
    assert client.get("/indices-list").get_json() == ["sightline"]
    found = knn(client, text="red", num_images=3, num_result_ids=3000, aesthetic_score="")
    assert ["image" in one for one in found[:4]] == [True, True, True, False]
    ids = [one["id"] for one in found[3:6]]
    body = json.dumps({"ids": ids, "indice_name": "sightline"})
    answer = client.post("/metadata", data=body).get_json()
    assert [one["id"] for one in answer] == ids
    assert all("image" in one["metadata"] for one in answer)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, "is required"),
        ({"text": "x", "indice_name": "laion5B"}, "one index"),
        ({"text": "x", "modality": "text"}, "not of texts"),
        ({"image_url": "http://169.254.169.254/"}, "fetches no URLs"),
        ({"image": "no base64!"}, "base64"),
        ({"image": base64.b64encode(b"no picture").decode()}, "cannot be read"),
        ({"embedding_input": [1.0, 2.0]}, "32"),
        ({"embedding_input": [0] * 32}, "32"),
        ({"embedding_input": [10**400] * 32}, "32"),
        ({"embedding_input": [1e308] * 32}, "32"),
        ({"text": "x", "num_images": -1}, "num_images"),
    ],
)
def test_invalid_requests_get_a_reason(
    client: FlaskClient, changed: dict[str, Any], reason: str
) -> None:
    answer = client.post("/knn-service", data=json.dumps({**SENT, **changed}))
    assert answer.status_code == 400
    assert reason in answer.get_json()["error"]


def test_only_configured_origins_may_use_the_protocol(engine: SearchEngine) -> None:
    invited = {"Origin": FRONT, "Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}
    body = json.dumps({**SENT, "text": "red"})
    open_to = client_of(create_app(engine, config=ServerConfig(origins=(FRONT,))))
    closed = client_of(create_app(engine))
    answer = open_to.post("/knn-service", data=body, headers=invited)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == FRONT
    assert open_to.get("/indices-list", headers=invited).status_code == 200
    assert closed.post("/knn-service", data=body, headers=invited).status_code == 403
    assert closed.get("/indices-list", headers=invited).status_code == 403
    # Not the other routes, and not from other origins.
    assert open_to.get("/api/search?q=red", headers=invited).status_code == 403
    other = {**invited, "Origin": "http://localhost:12345"}
    answer = open_to.post("/knn-service", data=body, headers=other)
    assert answer.status_code == 403
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_protocol_and_metrics_require_the_token(engine: SearchEngine) -> None:
    client = client_of(create_app(engine, config=ServerConfig(token=TOKEN)))
    body = json.dumps({**SENT, "text": "red"})
    assert client.post("/knn-service", data=body).status_code == 401
    assert client.get("/metrics").status_code == 401
    wrong = base64.b64encode(b"ana:" + TOKEN[1:].encode()).decode()
    for value in (f"Basic {wrong}", "Basic", "Basic !", f"Basic {TOKEN}"):
        answer = client.post("/knn-service", data=body, headers={"Authorization": value})
        assert answer.status_code == 401
    # Clients that take only a URL: http://ana:TOKEN@host/
    basic = base64.b64encode(f"ana:{TOKEN}".encode()).decode()
    for value in (f"Basic {basic}", f"Bearer {TOKEN}"):
        headers = {"Authorization": value}
        assert client.post("/knn-service", data=body, headers=headers).status_code == 200
        assert client.get("/metrics", headers=headers).status_code == 200


def test_metrics_count_requests_by_endpoint_and_status(
    client: FlaskClient, library: Library
) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    def read() -> dict[tuple[str, str, str], float]:
        text = client.get("/metrics").get_data(as_text=True)
        return {
            (sample.name, sample.labels.get("endpoint", ""), sample.labels.get("status", "")): (
                sample.value
            )
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if "le" not in sample.labels
        }

    client.get("/api/search?q=red")
    client.get("/api/search?k=zero")
    for n in range(5):
        client.get(f"/no/such/address/{n}")
    found = read()
    assert found["sightline_requests_total", "api.search", "200"] == 1
    assert found["sightline_requests_total", "api.search", "400"] == 1
    assert found["sightline_requests_total", "nowhere", "404"] == 5
    assert found["sightline_request_seconds_count", "api.search", ""] == 2
    assert found["sightline_images", "", ""] == library.count
    assert found["sightline_failures", "", ""] == 1
    assert found["process_resident_memory_bytes", "", ""] > 1e6
