"""Saved searches, favourites and collections: ``/api/searches`` and ``/api/collections``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from flask import Blueprint, Response, jsonify

from sightline.indexer.errors import UsageError
from sightline.indexer.library import Collection, Kept, Library
from sightline.server.search import parse
from sightline.server.search.query import MAX_LENGTH
from sightline.server.web.app_state import engine
from sightline.server.web.openapi import COUNT, ID, STRING, listed, nullable, obj, ref
from sightline.server.web.parameters import (
    Operation,
    Text,
    ids_from_json,
    json_body,
    operation,
    text_from_json,
    values,
)

kept = Blueprint("kept", __name__)

MAX_IDS = 5000
"""Images in one request."""

MAX_NAME = 100
"""Characters of a name, as ``catalog.kept`` bounds it."""

NAME = {"type": "string", "minLength": 1, "maxLength": MAX_NAME}
QUERY = {"type": "string", "minLength": 1, "maxLength": MAX_LENGTH}
IDS = {**listed(ID), "minItems": 1, "maxItems": MAX_IDS}
NAME_PARAMETER = Text("name", "The name of a saved search.", longest=MAX_NAME)
MAX_BODY = 2**17
"""Bytes of a JSON body: ``MAX_IDS`` ids of 20 digits."""

NOT_IN_MILVUS = "saved searches and collections need a library in a folder, not in Milvus"


def _library() -> Library:
    library = engine().library
    if not isinstance(library, Library):
        raise UsageError(NOT_IN_MILVUS)
    return library


@contextmanager
def _keeping() -> Iterator[Kept]:
    with _library().keeping() as found:
        yield found


@kept.get("/api/searches")
@operation(
    Operation("The saved searches, by name", answer=obj({"searches": listed(ref("SavedSearch"))}))
)
def searches() -> Response:
    """Names and queries."""
    return jsonify(searches=[asdict(one) for one in _library().kept.searches()])


@kept.post("/api/searches")
@operation(
    Operation(
        "Save a search; it replaces one of the same name",
        body=obj({"name": NAME, "query": QUERY}),
        max_body=MAX_BODY,
        answer=ref("SavedSearch"),
    )
)
def save_search() -> Response:
    """The query is checked; uploaded images cannot be saved."""
    query = text_from_json("query", MAX_LENGTH)
    if any(term.upload is not None for term in parse(query).terms):
        raise UsageError("a search with an uploaded image cannot be saved: uploads are temporary")
    with _keeping() as found:
        return jsonify(asdict(found.save_search(text_from_json("name", MAX_NAME), query)))


@kept.delete("/api/searches")
@operation(
    Operation(
        "Delete a saved search",
        (NAME_PARAMETER,),
        answer=obj({"deleted": STRING}),
        missing=True,
    )
)
def delete_search() -> Response:
    """By name."""
    name = values()["name"]
    with _keeping() as found:
        found.delete_search(name)
    return jsonify(deleted=name)


@kept.get("/api/collections")
@operation(
    Operation(
        "The favourites, then the collections by name",
        answer=obj({"collections": listed(ref("Collection"))}),
    )
)
def collections() -> Response:
    """Names, counts and covers."""
    return jsonify(collections=[_as_dict(one) for one in _library().kept.collections()])


@kept.post("/api/collections")
@operation(
    Operation(
        "Create a collection",
        body=obj({"name": NAME}),
        max_body=MAX_BODY,
        answer=ref("Collection"),
    )
)
def create_collection() -> Response:
    """An empty one."""
    with _keeping() as found:
        return jsonify(_as_dict(found.create_collection(text_from_json("name", MAX_NAME))))


@kept.patch("/api/collections/<int:id>")
@operation(
    Operation(
        "Rename a collection",
        body=obj({"name": NAME}),
        max_body=MAX_BODY,
        answer=ref("Collection"),
        missing=True,
    )
)
def rename_collection(id: int) -> Response:
    """The favourites keep their name."""
    with _keeping() as found:
        return jsonify(_as_dict(found.rename_collection(id, text_from_json("name", MAX_NAME))))


@kept.delete("/api/collections/<int:id>")
@operation(
    Operation("Delete a collection, not its images", answer=obj({"deleted": COUNT}), missing=True)
)
def delete_collection(id: int) -> Response:
    """The favourites cannot be deleted."""
    with _keeping() as found:
        found.delete_collection(id)
    return jsonify(deleted=id)


@kept.get("/api/collections/<int:id>/images")
@operation(
    Operation(
        "The ids of a collection's images, in its order",
        answer=obj({"ids": listed(ID)}),
        missing=True,
    )
)
def collection_images(id: int) -> Response:
    """All of them."""
    return jsonify(ids=_library().kept.images(id).tolist())


@kept.post("/api/collections/<int:id>/add")
@operation(
    Operation(
        "Add images to a collection, at its end",
        body=obj({"ids": IDS}),
        max_body=MAX_BODY,
        answer=ref("Collection"),
        missing=True,
    )
)
def add_to_collection(id: int) -> Response:
    """Images that are in it keep their place; unknown ids are skipped."""
    with _keeping() as found:
        return jsonify(_as_dict(found.add(id, ids_from_json(MAX_IDS))))


@kept.post("/api/collections/<int:id>/remove")
@operation(
    Operation(
        "Remove images from a collection",
        body=obj({"ids": IDS}),
        max_body=MAX_BODY,
        answer=ref("Collection"),
        missing=True,
    )
)
def remove_from_collection(id: int) -> Response:
    """The images stay in the library."""
    with _keeping() as found:
        return jsonify(_as_dict(found.remove(id, ids_from_json(MAX_IDS))))


@kept.post("/api/collections/<int:id>/move")
@operation(
    Operation(
        "Move images within a collection: before another one, or to its end",
        body=obj({"ids": IDS}, before=nullable("integer")),
        max_body=MAX_BODY,
        answer=ref("Collection"),
        missing=True,
    )
)
def move_in_collection(id: int) -> Response:
    """The others keep their order."""
    before = json_body().get("before")
    if before is not None and (type(before) is not int or not 0 < before < 2**63):
        raise UsageError("before must be the id of an image, or null")
    with _keeping() as found:
        return jsonify(_as_dict(found.move(id, ids_from_json(MAX_IDS), before=before)))


def _as_dict(collection: Collection) -> dict[str, Any]:
    return {**asdict(collection), "favourites": collection.is_favourites}
