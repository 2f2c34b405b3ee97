"""The JSON API: parse the request, call the engine, answer. Described by ``/api/openapi.json``."""

from __future__ import annotations

import re
import secrets
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from flask import Blueprint, Response, current_app, jsonify, request

from sightline.indexer.errors import UsageError
from sightline.indexer.library import Library
from sightline.server.search import SearchResult, parse
from sightline.server.search.engine import FACETS
from sightline.server.search.image_json import image_as_dict
from sightline.server.search.originals import is_available
from sightline.server.search.spelling import correction
from sightline.server.search.suggestions import filter_text, suggestions
from sightline.server.web import zip_download
from sightline.server.web.app_state import engine, state
from sightline.server.web.openapi import (
    COUNT,
    FACTS,
    ID,
    STRING,
    document,
    listed,
    nullable,
    obj,
    ref,
)
from sightline.server.web.parameters import (
    FOLD,
    OFFSET,
    QUERY,
    Choice,
    K,
    Number,
    Operation,
    Text,
    ids_from_json,
    operation,
    values,
)
from sightline.server.web.public import find, public_failures, public_status
from sightline.server.web.security import sees_paths
from sightline.server.web.strings import for_page

api = Blueprint("api", __name__)

IMAGE_FIELD = "image"
"""The form field of uploaded images, as the API documents it."""

MAX_IMAGES = 16
"""Query images in one request."""

MAX_TEXT_LENGTH = 4000
"""Characters of all texts that an image is compared with."""

MAX_TEXTS = 100
"""Texts that an image is compared with."""

MAX_RECORDS = 1000
"""Images in one answer of ``/api/images``."""


@api.get("/api/search")
@operation(
    Operation(
        "The images that best match a query",
        (QUERY, K, OFFSET, FOLD),
        answer=ref("SearchResult"),
        missing=True,
    )
)
def search() -> Response:
    """``q``, ``k``, ``offset``, ``fold`` -> hits."""
    return _search(())


@api.post("/api/search", endpoint="search_with_pictures")
@operation(
    Operation(
        "The images that best match a query and the images sent with it",
        form=(QUERY, K, OFFSET, FOLD),
        files=IMAGE_FIELD,
        answer=ref("SearchResult"),
        missing=True,
    )
)
def search_with_images() -> Response:
    """The same as a multipart form; each image in it is a term of weight 1."""
    return _search(_uploaded_images())


def _search(images: Sequence[bytes]) -> Response:
    given = values()
    result = engine().search(
        given["q"],
        k=given["k"],
        offset=given["offset"],
        images=images,
        fold=given["fold"] == "1",
    )
    return _hits(result)


def _hits(result: SearchResult) -> Response:
    answer = result.as_dict(absolute=sees_paths())
    if result.message:
        answer["message"] = for_page(result.message)
    return jsonify(answer)


@api.post("/api/uploads")
@operation(
    Operation(
        "Upload an image to search with as upload:TOKEN; it is kept in memory for a while",
        (Choice("preview", "1: with a small copy of the image, as a data: URL.", "0", ("0", "1")),),
        files=IMAGE_FIELD,
        answer=obj({"token": STRING, "width": COUNT, "height": COUNT}, preview=STRING),
    )
)
def upload() -> Response:
    """One image -> its token; with a preview for formats that browsers cannot show."""
    given = values()
    images = _uploaded_images()
    if len(images) != 1:
        raise UsageError(f"send one image in the form field `image`, not {len(images)}")
    uploaded = engine().upload(images[0])
    answer: dict[str, Any] = {
        "token": uploaded.token,
        "width": uploaded.width,
        "height": uploaded.height,
    }
    if given["preview"] == "1":
        answer["preview"] = f"data:image/webp;base64,{b64encode(uploaded.thumbnail).decode()}"
    return jsonify(answer)


def _uploaded_images() -> list[bytes]:
    """The files of this request's form, whatever the field names. UsageError for an empty one."""
    if IMAGE_FIELD in request.form:
        raise UsageError("the field `image` is text: send a file, with a file name")
    files = [file for _, file in request.files.items(multi=True)]
    if len(files) > MAX_IMAGES:
        raise UsageError(f"{len(files)} images in one request: at most {MAX_IMAGES}")
    images = [file.read() for file in files]
    if not all(images):
        raise UsageError("an image in this request is empty: it has no bytes")
    return images


@api.get("/api/parse")
@operation(Operation("How a query is parsed", (QUERY,), answer=ref("Query")))
def parsed() -> Response:
    """The terms and filters of ``q``."""
    return jsonify(parse(values()["q"]).as_dict())


@api.get("/api/suggest")
@operation(
    Operation(
        "Completions of the word being typed: filters and their values",
        (Text("prefix", "The word typed so far.", longest=200),),
        answer=obj(
            {
                "suggestions": listed(
                    obj({"text": STRING, "kind": STRING, "count": nullable("integer")})
                )
            }
        ),
    )
)
def suggest() -> Response:
    """Suggestions for the last word of the search box."""
    return jsonify(suggestions=suggestions(engine().library, values()["prefix"]))


@api.get("/api/correction")
@operation(
    Operation(
        "What may have been meant by a query with a misspelt word or an unknown filter",
        (QUERY,),
        answer=obj({"correction": nullable("object")}),
    )
)
def corrected() -> Response:
    """``{"text", "query"}``, or null if there is nothing to correct."""
    found = correction(engine().library, values()["q"])
    return jsonify(correction=None if found is None else found.as_dict())


@api.get("/api/timeline")
@operation(
    Operation(
        "Relevant hits per month (without terms: all images that match the filters)",
        (QUERY,),
        answer=obj({"months": listed(obj({"month": STRING, "count": COUNT})), "undated": COUNT}),
        missing=True,
    )
)
def timeline() -> Response:
    """Months and their counts, oldest first."""
    months = engine().timeline(values()["q"])
    return jsonify(
        months=[{"month": month, "count": count} for month, count in months.months],
        undated=months.undated,
    )


@api.get("/api/order")
@operation(
    Operation(
        "The ids of all results of a query in their order, near-duplicates after the result that"
        " they are folded under; for results by date, the first result of each month",
        (QUERY, Number("at", "The id of an image whose offset is returned.", None, 1, 2**63 - 1)),
        answer=obj(
            {
                "ids": listed(ID),
                "results": COUNT,
                "strong": nullable("integer", minimum=0),
                "at": nullable("integer", minimum=0),
                "months": listed(obj({"month": nullable("string"), "offset": COUNT})),
            }
        ),
        missing=True,
    )
)
def order() -> Response:
    """Text and image queries are ranked up to ``ranking.MAX_DEPTH``. A month is null for images
    without a date."""
    given = values()
    found = engine().order(given["q"])
    return jsonify(
        ids=found.ids.tolist(),
        results=found.results,
        strong=found.strong,
        at=None if given["at"] is None else found.offset_of(given["at"]),
        months=[{"month": month, "offset": offset} for month, offset in found.months],
    )


@api.get("/api/facets")
@operation(
    Operation(
        "Labels, people, countries, cities and keywords of the relevant hits (without terms: of"
        " all images that match the filters)",
        (QUERY,),
        answer=obj({kind: listed(ref("Facet")) for kind in FACETS}),
        missing=True,
    )
)
def facets() -> Response:
    """Each value with its filter in the query language and its number of images."""
    return jsonify(
        {
            kind: [
                {"value": one.text, "filter": filter_text(kind, one.text), "count": one.count}
                for one in found
            ]
            for kind, found in engine().facets(values()["q"]).items()
        }
    )


@api.get("/api/random")
@operation(
    Operation(
        "Random images",
        (K, Number("seed", "The same seed returns the same images.", None, 0, 2**31)),
        answer=ref("SearchResult"),
    )
)
def random() -> Response:
    """``k`` random images; a new seed for each request that gives none."""
    given = values()
    seed = given["seed"] if given["seed"] is not None else secrets.randbelow(2**31)
    return _hits(engine().random(k=given["k"], seed=seed))


@api.post("/api/images")
@operation(
    Operation(
        "The metadata of several images, in the order given; unknown ids are skipped",
        body=obj({"ids": {**listed(ID), "minItems": 1, "maxItems": MAX_RECORDS}}),
        answer=obj({"images": listed(obj(FACTS, absolute=STRING))}),
    )
)
def images() -> Response:
    """What search results have of each image."""
    records = engine().library.images(ids_from_json(MAX_RECORDS))
    return jsonify(images=[image_as_dict(one, absolute=sees_paths()) for one in records])


@api.get("/api/images/<int:id>")
@operation(
    Operation(
        "The metadata of one image",
        (Choice("words", "1: with the everyday words that match it best.", "0", ("0", "1")),),
        answer=ref("Image"),
        missing=True,
    )
)
def image(id: int) -> Response:
    """The record of one image, with its EXIF metadata and labels."""
    given = values()
    record = find(id)
    info = record.info
    answer = image_as_dict(record, absolute=sees_paths()) | {
        "title": info.title,
        "caption": info.caption,
        "place": info.place,
        "url": info.url,
        "keywords": list(info.keywords),
        "people": list(info.people),
        "text": [asdict(line) for line in engine().library.texts([id]).get(id, [])],
        "location": asdict(record.location) if record.location else None,
        "rating": info.rating,
        "orientation": info.orientation,
        "added_at": record.added_at.isoformat(),
        "available": is_available(record),
        "labels": [
            {"label": name, "fit": round(fit, 4)}
            for name, fit in engine().library.labels([id]).get(id, [])
        ],
        "collections": _collections_of(id),
    }
    if given["words"] == "1":
        answer["words"] = [
            {"text": text, "score": round(score, 4)} for text, score in engine().words_for(id)
        ]
    return jsonify(answer)


def _collections_of(id: int) -> list[dict[str, Any]]:
    library = engine().library
    found = library.kept.collections_of(id) if isinstance(library, Library) else []
    return [{"id": one.id, "name": one.name} for one in found]


@api.get("/api/images/<int:id>/similar")
@operation(
    Operation("The images most similar to one", (K,), answer=ref("SearchResult"), missing=True)
)
def similar(id: int) -> Response:
    """The nearest neighbours of an image, without itself."""
    given = values()
    return _hits(engine().similar(find(id).id, k=given["k"]))


@api.get("/api/images/<int:id>/captions")
@operation(
    Operation(
        "The texts that match one image best: of those given, or of everyday captions",
        (
            Text("texts", "Texts separated by commas or newlines.", longest=MAX_TEXT_LENGTH),
            Number("k", "Number of texts.", 10, 1, 100),
        ),
        answer=obj({"captions": listed(ref("Caption"))}),
        missing=True,
    )
)
def captions(id: int) -> Response:
    """Image-to-text retrieval."""
    given = values()
    record = find(id)
    parts = (" ".join(text.split()) for text in re.split(r"[,\n]", given["texts"]))
    texts = list(dict.fromkeys(text for text in parts if text))
    if len(texts) > MAX_TEXTS:
        raise UsageError(f"{len(texts):,} texts in one request: at most {MAX_TEXTS}")
    found = engine().describe(record.id, texts=texts, k=given["k"])
    return jsonify(captions=[one.as_dict() for one in found])


@api.post("/api/zip", endpoint="zipped")
@operation(
    Operation(
        "The original files of several images as one zip",
        body=obj({"ids": {**listed(ID), "minItems": 1, "maxItems": zip_download.MAX_FILES}}),
        answer="application/zip",
        missing=True,
    )
)
def download_zip() -> Response:
    """A zip file, streamed while it is written."""
    ids = ids_from_json(zip_download.MAX_FILES)
    files = zip_download.contents(engine().library.images(ids))
    state().zips.acquire()
    response = Response(
        zip_download.stream(files, engine().query_encoder.decoder), mimetype="application/zip"
    )
    response.call_on_close(state().zips.release)
    response.headers["Content-Disposition"] = 'attachment; filename="sightline.zip"'
    return response


@api.get("/api/status")
@operation(
    Operation(
        "The library's contents, and the indexing run in progress",
        answer=obj(
            {
                "images": COUNT,
                "model": STRING,
                "dimension": COUNT,
                "failures": COUNT,
                "index": {"type": "object"},
                "roots": listed({"type": "object"}),
            }
        ),
        refuses=False,
    )
)
def status() -> Response:
    """``sightline status --json``, without paths for clients that may not see them."""
    return jsonify(public_status())


@api.get("/api/failures")
@operation(
    Operation(
        "The files that could not be read, with reasons",
        answer=obj({"failures": listed(obj({"path": STRING, "reason": STRING}))}),
        refuses=False,
    )
)
def failures() -> Response:
    """The first ``public.MAX_FAILURES`` of them."""
    found = public_failures()
    return jsonify(failures=[{**one, "reason": for_page(one["reason"])} for one in found])


@api.get("/api/openapi.json")
def openapi() -> Response:
    """The OpenAPI description of this API."""
    return jsonify(document(current_app))
