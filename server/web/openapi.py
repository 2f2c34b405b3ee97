"""The API's own description (OpenAPI 3.1), collected from what the routes say they take."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from flask import Flask

from sightline import __version__
from sightline.server.web.parameters import Operation

_PLACE = re.compile(r"<(?:(\w+):)?(\w+)>")


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
        },
        absolute=STRING,
    ),
    "SearchResult": obj(
        {
            "query": STRING,
            "took_ms": {"type": "number"},
            "total": COUNT,
            "good": nullable("integer", minimum=0),
            "nothing_matches": {"type": "boolean"},
            "message": nullable("string"),
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
            "rating": nullable("integer", minimum=0, maximum=5),
            "orientation": {"type": "integer"},
            "added_at": STRING,
            "available": {"type": "boolean"},
            "labels": listed(obj({"label": STRING, "fit": {"type": "number"}})),
        },
        absolute=STRING,
        words=listed(obj({"text": STRING, "score": {"type": "number"}})),
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
                    id=ID,
                    token=STRING,
                )
            ),
            "filters": listed(
                obj({"name": STRING, "value": STRING, "negated": {"type": "boolean"}})
            ),
            "combine": {"enum": ["sum", "all"]},
            "sort": {"enum": ["relevance", "newest", "oldest"]},
            "text": STRING,
        }
    ),
}


def ref(name: str) -> dict[str, str]:
    """A reference to one of ``SCHEMAS``."""
    return {"$ref": f"#/components/schemas/{name}"}


def document(app: Flask) -> dict[str, Any]:
    """The description of every route of ``app`` that says what it is."""
    paths: dict[str, dict[str, Any]] = {}
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        told = getattr(app.view_functions[rule.endpoint], "operation", None)
        if not isinstance(told, Operation):
            continue
        path = _PLACE.sub(r"{\2}", rule.rule)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            paths.setdefault(path, {})[method.lower()] = _operation(rule.endpoint, rule.rule, told)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sightline",
            "version": __version__,
            "description": "Find pictures by what is in them. Requests with the header"
            " `Sightline-Errors: inside` have what would be a 400 or 404 answered with status 200"
            ' and `{"error", "status"}`.',
        },
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(endpoint: str, rule: str, told: Operation) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": ID}
        for _, name in _PLACE.findall(rule)
    ]
    parameters += [
        {
            "name": one.name,
            "in": "query",
            "required": False,
            "description": one.about,
            "schema": one.schema(),
        }
        for one in told.parameters
    ]
    found: dict[str, Any] = {
        "operationId": endpoint.replace(".", "_"),
        "summary": told.summary,
        "parameters": parameters,
        "responses": _responses(told),
    }
    if told.body is not None:
        found["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": dict(told.body)}},
        }
    elif told.form or told.files:
        properties = {one.name: {**one.schema(), "description": one.about} for one in told.form}
        if told.files:
            properties[told.files] = listed({"type": "string", "format": "binary"})
        schema = {"type": "object", "properties": properties}
        found["requestBody"] = {"content": {"multipart/form-data": {"schema": schema}}}
    return found


def _responses(told: Operation) -> dict[str, Any]:
    error = {"content": {"application/json": {"schema": ref("Error")}}}
    if isinstance(told.answer, str):
        good: dict[str, Any] = {told.answer: {"schema": {}}}
    else:
        good = {"application/json": {"schema": dict(told.answer)}}
    found: dict[str, Any] = {"200": {"description": "As asked.", "content": good}}
    codes = {
        "400": ("The request is wrong; the reason says how.", told.refuses),
        "401": ("This server asks for its token.", True),
        "403": ("Another site's page asked.", True),
        "404": ("There is no such thing.", told.missing or told.refuses),
        "413": ("More than the server takes.", bool(told.form or told.files or told.body)),
        "415": ("Not the kind of body this takes.", told.body is not None),
        "421": ("Asked for under a name that is not the server's.", True),
        "503": ("Too much at once; Retry-After says when to come back.", True),
    }
    for code, (description, applies) in codes.items():
        if applies:
            found[code] = {"description": description, **error}
    return found
