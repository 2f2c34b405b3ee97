"""The OpenAPI 3.1 document, generated from the ``Operation`` of each view."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from flask import Flask, request

from sightline import __version__
from sightline.server.web.parameters import Operation

_PATH_PARAMETER = re.compile(r"<(?:(\w+):)?(\w+)>")


def nullable(kind: str, **more: Any) -> dict[str, Any]:
    """The schema of a value that may be null."""
    return {"type": [kind, "null"], **more}


def obj(required: Mapping[str, Any], **optional: Any) -> dict[str, Any]:
    """The schema of an object with these properties."""
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
    }


def listed(items: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of an array."""
    return {"type": "array", "items": dict(items)}


ID = {"type": "integer", "minimum": 1, "maximum": 2**63 - 1}
STRING = {"type": "string"}
COUNT = {"type": "integer", "minimum": 0}

FACTS = {
    "id": ID,
    "path": STRING,
    "name": STRING,
    "folder": STRING,
    "width": COUNT,
    "height": COUNT,
    "taken_at": nullable("string"),
    "taken_from": nullable("string"),
    "camera": nullable("string"),
    "lens": nullable("string"),
    "latitude": nullable("number"),
    "longitude": nullable("number"),
    "format": STRING,
    "size": COUNT,
    "color": nullable("string"),
    "v": STRING,
}

SCHEMAS: dict[str, Any] = {
    "Error": obj({"error": STRING}),
    "Hit": obj(
        {
            **FACTS,
            "score": {"type": "number", "minimum": -1.001, "maximum": 1.001},
            "relevance": {"type": "number", "minimum": 0, "maximum": 1},
            "match": {"type": "boolean"},
            "duplicates": listed(ID),
            "description": STRING,
        },
        absolute=STRING,
        snippet=STRING,
    ),
    "DateWords": obj(
        {"words": STRING, "filter": STRING, "applied": {"type": "boolean"}, "other": STRING}
    ),
    "SearchResult": obj(
        {
            "query": STRING,
            "took_ms": {"type": "number"},
            "total": COUNT,
            "good": nullable("integer", minimum=0),
            "good_is_estimated": {"type": "boolean"},
            "nothing_matches": {"type": "boolean"},
            "message": nullable("string"),
            "interpreted": listed({"$ref": "#/components/schemas/DateWords"}),
            "hits": listed({"$ref": "#/components/schemas/Hit"}),
        }
    ),
    "Image": obj(
        {
            **FACTS,
            "title": nullable("string"),
            "caption": nullable("string"),
            "place": nullable("string"),
            "url": nullable("string"),
            "keywords": listed(STRING),
            "people": listed(STRING),
            "location": nullable("object"),
            "text": listed({"type": "object"}),
            "rating": nullable("integer", minimum=0, maximum=5),
            "orientation": {"type": "integer"},
            "added_at": STRING,
            "available": {"type": "boolean"},
            "labels": listed(obj({"label": STRING, "fit": {"type": "number"}})),
            "collections": listed(obj({"id": ID, "name": STRING})),
        },
        absolute=STRING,
        words=listed(obj({"text": STRING, "score": {"type": "number"}})),
    ),
    "SavedSearch": obj({"name": STRING, "query": STRING, "saved_at": STRING}),
    "Collection": obj(
        {
            "id": ID,
            "name": STRING,
            "count": COUNT,
            "cover": nullable("integer"),
            "favourites": {"type": "boolean"},
        }
    ),
    "Facet": obj({"value": STRING, "filter": STRING, "count": COUNT}),
    "Caption": obj(
        {
            "text": STRING,
            "score": {"type": "number", "minimum": -1.001, "maximum": 1.001},
            "probability": {"type": "number", "minimum": 0, "maximum": 1},
            "relevance": {"type": "number", "minimum": 0, "maximum": 1},
        }
    ),
    "Query": obj(
        {
            "terms": listed(
                obj(
                    {
                        "kind": {"enum": ["text", "like", "upload"]},
                        "weight": {"type": "number"},
                        "box": {
                            "type": ["array", "null"],
                            "items": {"type": "number"},
                            "minItems": 4,
                            "maxItems": 4,
                        },
                    },
                    text=STRING,
                    quoted={"type": "boolean"},
                    id=ID,
                    token=STRING,
                )
            ),
            "filters": listed(
                obj(
                    {"name": STRING, "value": STRING, "negated": {"type": "boolean"}},
                    meaning=STRING,
                )
            ),
            "combine": {"enum": ["sum", "all"]},
            "sort": {"enum": ["relevance", "newest", "oldest"]},
            "text": STRING,
        },
        interpreted=listed({"$ref": "#/components/schemas/DateWords"}),
    ),
}


def ref(name: str) -> dict[str, str]:
    """A reference to one of ``SCHEMAS``."""
    return {"$ref": f"#/components/schemas/{name}"}


def document(app: Flask) -> dict[str, Any]:
    """The OpenAPI document of every view of ``app`` that has an ``Operation``."""
    paths: dict[str, dict[str, Any]] = {}
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        spec = getattr(app.view_functions[rule.endpoint], "operation", None)
        if not isinstance(spec, Operation):
            continue
        path = _PATH_PARAMETER.sub(r"{\2}", rule.rule)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            paths.setdefault(path, {})[method.lower()] = _operation(rule.endpoint, rule.rule, spec)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sightline",
            "version": __version__,
            "description": "Text-to-image retrieval. With the request header"
            " `Sightline-Errors: inside`, errors below 500 are answered with status 200 and"
            ' `{"error", "status"}`, and messages are in the language of `Accept-Language`.',
        },
        "servers": [{"url": request.script_root or "/"}],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(endpoint: str, rule: str, spec: Operation) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": ID}
        for _, name in _PATH_PARAMETER.findall(rule)
    ]
    parameters += [
        {
            "name": one.name,
            "in": "query",
            "required": False,
            "description": one.about,
            "schema": one.schema(),
        }
        for one in spec.parameters
    ]
    found: dict[str, Any] = {
        "operationId": endpoint.replace(".", "_"),
        "summary": spec.summary,
        "parameters": parameters,
        "responses": _responses(spec),
    }
    if spec.body is not None:
        found["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": dict(spec.body)}},
        }
    elif spec.form or spec.files:
        properties = {one.name: {**one.schema(), "description": one.about} for one in spec.form}
        if spec.files:
            properties[spec.files] = listed({"type": "string", "format": "binary"})
        schema = {"type": "object", "properties": properties}
        found["requestBody"] = {"content": {"multipart/form-data": {"schema": schema}}}
    return found


def _responses(spec: Operation) -> dict[str, Any]:
    error = {"content": {"application/json": {"schema": ref("Error")}}}
    if isinstance(spec.answer, str):
        good: dict[str, Any] = {spec.answer: {"schema": {}}}
    else:
        good = {"application/json": {"schema": dict(spec.answer)}}
    found: dict[str, Any] = {"200": {"description": "Success.", "content": good}}
    codes = {
        "400": ("The request is invalid; `error` says why.", spec.refuses),
        "401": ("The server requires its token.", True),
        "403": ("The request comes from a page of another site.", True),
        "404": ("Not found.", spec.missing or spec.refuses),
        "413": (
            "The body is larger than the server accepts.",
            bool(spec.form or spec.files or spec.body),
        ),
        "415": ("The body is not JSON.", spec.body is not None),
        "429": ("Too many wrong tokens; Retry-After says when to try again.", True),
        "421": ("The Host header is not a name of this server.", True),
        "503": ("The server is busy; Retry-After says when to try again.", True),
    }
    for code, (description, applies) in codes.items():
        if applies:
            found[code] = {"description": description, **error}
    return found
