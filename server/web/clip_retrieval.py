"""clip-retrieval's HTTP protocol, so that its ``ClipClient`` and front end work with this server.

    from clip_retrieval.clip_client import ClipClient
    ClipClient(url="http://127.0.0.1:8008/knn-service", indice_name="sightline").query(text="a dog")

``POST /knn-service``, ``POST /metadata`` and ``GET /indices-list``, as clip-retrieval 2.45 has them
(https://github.com/rom1504/clip-retrieval). There is one index, of images. ``image_url`` is
refused, because this server fetches no URLs; ``use_safety_model``, ``use_violence_detector``,
``use_mclip`` and the aesthetic options are ignored, because it has no such models. ``image`` in an
answer is the thumbnail, WebP in base64.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np
from flask import Blueprint, Response, jsonify, request
from numpy.typing import NDArray

from sightline.indexer.errors import UsageError
from sightline.indexer.types import ImageRecord
from sightline.server.search import near_duplicates
from sightline.server.search.image_json import image_as_dict
from sightline.server.search.query import MAX_LENGTH
from sightline.server.web.app_state import engine
from sightline.server.web.openapi import COUNT, ID, STRING, listed, nullable, obj
from sightline.server.web.parameters import Operation, operation
from sightline.server.web.security import sees_paths

clip_retrieval = Blueprint("knn_service", __name__)

INDEX = "sightline"
"""The name of the index."""

MAX_IDS, MAX_IMAGES = 10_000, 1_000
"""Ids, and images with metadata, in one answer."""

MAX_BODY = 16 * 2**20
"""Bytes of a query with an image in base64."""

FLAG = nullable("boolean")
METADATA = obj({}, url=nullable("string"), caption=nullable("string"), image=STRING)


@clip_retrieval.get("/indices-list")
@operation(
    Operation("clip-retrieval: the names of the indexes", answer=listed(STRING), refuses=False)
)
def indices() -> Response:
    """The one index."""
    return jsonify([INDEX])


@clip_retrieval.post("/knn-service")
@operation(
    Operation(
        "clip-retrieval: the nearest neighbours of a text, an image or a vector",
        body=obj(
            {},
            text={**nullable("string"), "maxLength": MAX_LENGTH},
            image=nullable("string"),
            embedding_input={"type": ["array", "null"], "items": {"type": "number"}},
            modality={"enum": ["image"]},
            num_images={**COUNT, "maximum": MAX_IMAGES},
            num_result_ids={**COUNT, "maximum": MAX_IDS},
            indice_name={"enum": [INDEX]},
            deduplicate=FLAG,
        ),
        max_body=MAX_BODY,
        answer=listed(
            obj(
                {"id": ID, "similarity": {"type": "number"}},
                **METADATA["properties"],
            )
        ),
    )
)
def knn() -> Response:
    """Ids with cosines; metadata of the first ``num_images``."""
    body = _body()
    vector = _vector(body)
    shown = _integer(body, "num_images", 100, MAX_IMAGES)
    wanted = _integer(body, "num_result_ids", shown, MAX_IDS)
    library = engine().library
    library.refresh()
    scores, ids = library.nearest(vector[None], max(wanted, 1))
    there = ids[0] >= 0
    found, cosines = ids[0][there][:wanted], scores[0][there][:wanted]
    if body.get("deduplicate") and len(found):
        vectors = np.nan_to_num(library.vectors(found))
        kept = near_duplicates.fold(found, vectors, _hashes) == found
        found, cosines = found[kept], cosines[kept]
    known = {record.id: record for record in library.images(found[:shown].tolist())}
    return jsonify(
        [
            {
                **(_metadata(known[id]) if id in known else {}),
                "id": id,
                "similarity": min(score, 1.0),
            }
            for id, score in zip(found.tolist(), cosines.tolist(), strict=True)
        ]
    )


@clip_retrieval.post("/metadata")
@operation(
    Operation(
        "clip-retrieval: the metadata of some images",
        body=obj({"ids": {**listed(ID), "maxItems": MAX_IMAGES}}, indice_name={"enum": [INDEX]}),
        answer=listed(obj({"id": ID, "metadata": METADATA})),
    )
)
def metadata() -> Response:
    """In the order of ``ids``; unknown ids are left out."""
    body = _body()
    ids = body.get("ids")
    if (
        not isinstance(ids, list)
        or len(ids) > MAX_IMAGES
        or not all(type(one) is int and 0 < one < 2**63 for one in ids)
    ):
        raise UsageError(f"ids must be a list of at most {MAX_IMAGES:,} image ids")
    found = engine().library.images(ids)
    return jsonify([{"id": record.id, "metadata": _metadata(record)} for record in found])


def _body() -> dict[str, Any]:
    """The JSON body; the client sends no content type. Raises ``UsageError``."""
    body = request.get_json(force=True, silent=True)
    if not isinstance(body, dict):
        raise UsageError("the body must be a JSON object, as clip-retrieval's client sends it")
    if body.get("indice_name") not in (None, "", INDEX):
        raise UsageError(f"there is one index here, {INDEX}; see /indices-list")
    if body.get("modality") not in (None, "", "image"):
        raise UsageError("the index is of images and not of texts: use modality `image`")
    return body


def _vector(body: dict[str, Any]) -> NDArray[np.float32]:
    """The ``(d,)`` unit vector of the query. Raises ``UsageError``."""
    text, image, numbers = (body.get(name) for name in ("text", "image", "embedding_input"))
    if isinstance(text, str) and text.strip():
        if len(text) > MAX_LENGTH:
            raise UsageError(f"text is too long: at most {MAX_LENGTH:,} characters")
        return engine().query_encoder.encode_texts([text])[0]
    if isinstance(image, str) and image:
        try:
            data = base64.b64decode(image, validate=True)
        except (binascii.Error, ValueError) as error:
            raise UsageError("image must be an image file in base64") from error
        return engine().query_encoder.encode_image(data).vector
    if isinstance(numbers, list) and numbers:
        return _unit(numbers)
    if body.get("image_url"):
        raise UsageError("this server fetches no URLs: send the file in base64 as `image`")
    raise UsageError("one of text, image and embedding_input is required")


def _unit(numbers: list[Any]) -> NDArray[np.float32]:
    """``numbers`` as a ``(d,)`` unit vector. Raises ``UsageError``."""
    dimension = engine().library.dimension
    numeric = all(type(one) in (int, float) for one in numbers)
    try:
        vector = np.array(numbers if numeric else [], np.float64)
    except OverflowError:  # an integer of hundreds of digits
        vector = np.empty(0)
    with np.errstate(over="ignore"):
        length = float(np.linalg.norm(vector))
    if vector.shape != (dimension,) or not 0 < length < np.inf:
        raise UsageError(f"embedding_input must be {dimension} finite numbers, not all zero")
    return (vector / length).astype(np.float32)


def _integer(body: dict[str, Any], name: str, default: int, high: int) -> int:
    """A non-negative integer of the body, at most ``high``. Raises ``UsageError``."""
    value = body.get(name)
    if value is None:
        return min(default, high)
    if type(value) is not int or value < 0:
        raise UsageError(f"{name} must be an integer from 0 to {high:,}")
    return min(value, high)


def _hashes(ids: NDArray[np.int64]) -> dict[int, int | None]:
    return near_duplicates.hashes_of(engine().library.images(ids.tolist()))


def _metadata(record: ImageRecord) -> dict[str, Any]:
    """The metadata of one image under clip-retrieval's column names."""
    known = image_as_dict(record, absolute=sees_paths())
    columns = {
        "image_path": known.pop("absolute", record.path),
        "url": record.info.url,
        "caption": record.info.caption or record.info.title,
        **{name: known[name] for name in ("width", "height", "taken_at", "camera", "format")},
    }
    thumbnail = engine().library.thumbnail(record.id)
    if thumbnail is not None:
        columns["image"] = base64.b64encode(thumbnail).decode("ascii")
    return columns
