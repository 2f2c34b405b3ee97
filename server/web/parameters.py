"""Declarations of routes: parameters, bodies and answers, used both to read requests and to write
the OpenAPI document.

A view is decorated with ``operation(...)``; ``values()`` returns its checked parameters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flask import current_app, request
from werkzeug.exceptions import UnsupportedMediaType

from sightline.indexer.errors import UsageError
from sightline.server.search.query import MAX_LENGTH

View = TypeVar("View", bound=Callable[..., Any])

_INTEGER = re.compile(r"[+-]?\d{1,19}", re.ASCII)


@dataclass(frozen=True)
class Text:
    """A text parameter of at most ``longest`` characters."""

    name: str
    about: str
    default: str = ""
    longest: int = 2000

    def read(self, raw: str | None) -> str:
        """The value. Raises ``UsageError`` when it is too long."""
        if raw is not None and len(raw) > self.longest:
            raise UsageError(f"{self.name} is too long: at most {self.longest:,} characters")
        return self.default if raw is None else raw

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of the parameter."""
        return {"type": "string", "maxLength": self.longest, "default": self.default}


@dataclass(frozen=True)
class Number:
    """An integer parameter in the range ``low`` to ``high``; optional when ``default`` is None."""

    name: str
    about: str
    default: int | None
    low: int
    high: int

    def read(self, raw: str | None) -> int | None:
        """The value. Raises ``UsageError`` when it is not an integer or out of range."""
        if raw is None or raw == "":
            return self.default
        if _INTEGER.fullmatch(raw) and self.low <= int(raw) <= self.high:
            return int(raw)
        raise UsageError(
            f"{self.name} is {raw[:40]!r}; it must be an integer from {self.low:,} to {self.high:,}"
        )

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of the parameter."""
        schema: dict[str, Any] = {"type": "integer", "minimum": self.low, "maximum": self.high}
        return schema if self.default is None else {**schema, "default": self.default}


@dataclass(frozen=True)
class Choice:
    """A parameter with a fixed set of values."""

    name: str
    about: str
    default: str
    values: tuple[str, ...]

    def read(self, raw: str | None) -> str:
        """The value. Raises ``UsageError`` when it is not one of ``values``."""
        if raw is None or raw == "":
            return self.default
        if raw in self.values:
            return raw
        raise UsageError(f"{self.name} is {raw[:40]!r}; it must be {' or '.join(self.values)}")

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of the parameter."""
        return {"type": "string", "enum": list(self.values), "default": self.default}


Parameter = Text | Number | Choice

MAX_HITS = 1000
"""Hits in one answer; ``offset`` pages through more."""
MAX_OFFSET = 10_000_000

QUERY = Text("q", "The query, in the query language.", longest=MAX_LENGTH)
K = Number("k", "Number of hits.", 50, 1, MAX_HITS)
OFFSET = Number("offset", "Hits to skip.", 0, 0, MAX_OFFSET)
FOLD = Choice("fold", "1: near-identical shots are folded into one hit.", "1", ("0", "1"))


@dataclass(frozen=True)
class Operation:
    """What the OpenAPI document says about one view."""

    summary: str
    parameters: tuple[Parameter, ...] = ()
    """Parameters of the query string."""
    form: tuple[Parameter, ...] = ()
    """Fields of a multipart form."""
    files: str | None = None
    """Name of the form field with image files."""
    body: Mapping[str, Any] | None = None
    """Schema of a JSON body."""
    max_body: int = 2**20
    """Bytes of a JSON body."""
    answer: Mapping[str, Any] | str = field(default_factory=dict)
    """Schema of a JSON answer, or the media type of any other answer."""
    missing: bool = False
    """Whether the answer may be 404."""
    refuses: bool = True
    """Whether the answer may be 400."""


def operation(declared: Operation) -> Callable[[View], View]:
    """Attaches ``declared`` to a view; ``values`` and ``openapi.document`` read it."""

    def mark(view: View) -> View:
        view.operation = declared  # type: ignore[attr-defined]
        return view

    return mark


def values() -> dict[str, Any]:
    """The checked parameters of this request by name, from the query string and the form."""
    assert request.endpoint is not None
    view: Any = current_app.view_functions[request.endpoint]
    declared: Operation = view.operation
    found = {one.name: one.read(request.args.get(one.name)) for one in declared.parameters}
    found |= {one.name: one.read(request.form.get(one.name)) for one in declared.form}
    return found


def json_body() -> dict[str, Any]:
    """The JSON object in this request's body. ``UnsupportedMediaType`` for another type,
    ``UsageError`` for another value."""
    if not request.is_json:
        raise UnsupportedMediaType("send JSON, with the header Content-Type: application/json")
    given: Any = request.get_json(silent=True)
    if not isinstance(given, dict):
        raise UsageError("the body must be a JSON object")
    return given


def ids_from_json(most: int) -> list[int]:
    """``ids`` in this request's JSON body, each once."""
    ids = json_body().get("ids")
    if (
        not isinstance(ids, list)
        or not 0 < len(ids) <= most
        or not all(type(one) is int and 0 < one < 2**63 for one in ids)
    ):
        raise UsageError(f'the body must be {{"ids": [...]}} with 1 to {most:,} image ids')
    return list(dict.fromkeys(ids))


def text_from_json(name: str, longest: int) -> str:
    """The text ``name`` in this request's JSON body."""
    text = json_body().get(name)
    if not isinstance(text, str) or not 0 < len(text) <= longest:
        raise UsageError(f"{name} must be a text of 1 to {longest:,} characters")
    return text
