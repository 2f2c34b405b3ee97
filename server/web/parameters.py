"""What a route takes, said once: read from the request and written into the API's document.

A view is decorated with ``operation(...)``; ``values()`` gives it what the request holds, checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flask import current_app, request

from sightline.indexer.errors import UsageError

View = TypeVar("View", bound=Callable[..., Any])

_INTEGER = re.compile(r"[+-]?\d{1,19}", re.ASCII)


@dataclass(frozen=True)
class Text:
    """A parameter that is text."""

    name: str
    about: str
    default: str = ""
    longest: int = 2000

    def read(self, raw: str | None) -> str:
        """The value. Raises ``UsageError`` when it is too long."""
        if raw is not None and len(raw) > self.longest:
            raise UsageError(f"{self.name} is too long; {self.longest:,} characters are the most")
        return self.default if raw is None else raw

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        return {"type": "string", "maxLength": self.longest, "default": self.default}


@dataclass(frozen=True)
class Number:
    """A parameter that is a whole number in a range. ``default`` None: it may be left out."""

    name: str
    about: str
    default: int | None
    low: int
    high: int

    def read(self, raw: str | None) -> int | None:
        """The value. Raises ``UsageError`` when it is no number or out of range."""
        if raw is None or raw == "":
            return self.default
        if _INTEGER.fullmatch(raw) and self.low <= int(raw) <= self.high:
            return int(raw)
        raise UsageError(
            f"{self.name} is {raw[:40]!r}; it must be a whole number, {self.low:,} to {self.high:,}"
        )

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        schema: dict[str, Any] = {"type": "integer", "minimum": self.low, "maximum": self.high}
        return schema if self.default is None else {**schema, "default": self.default}


@dataclass(frozen=True)
class Choice:
    """A parameter that is one of a few values."""

    name: str
    about: str
    default: str
    values: tuple[str, ...]

    def read(self, raw: str | None) -> str:
        """The value. Raises ``UsageError`` when it is none of them."""
        if raw is None or raw == "":
            return self.default
        if raw in self.values:
            return raw
        raise UsageError(f"{self.name} is {raw[:40]!r}; it must be {' or '.join(self.values)}")

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        return {"type": "string", "enum": list(self.values), "default": self.default}


Parameter = Text | Number | Choice


@dataclass(frozen=True)
class Operation:
    """What the API's document says of one view."""

    summary: str
    parameters: tuple[Parameter, ...] = ()
    form: tuple[Parameter, ...] = ()
    """Fields of a multipart form."""
    files: str | None = None
    """Name of the form's field that holds pictures."""
    body: Mapping[str, Any] | None = None
    """Schema of a JSON body."""
    answer: Mapping[str, Any] | str = field(default_factory=dict)
    """Schema of the JSON answer, or the media type of another one."""
    missing: bool = False
    """Whether the thing asked for may not be there: 404."""
    refuses: bool = True
    """Whether the request may be wrong: 400."""


def operation(told: Operation) -> Callable[[View], View]:
    """Says what a view is; ``openapi.document`` collects it."""

    def mark(view: View) -> View:
        view.operation = told  # type: ignore[attr-defined]
        return view

    return mark


def values() -> dict[str, Any]:
    """The checked parameters of this request, by name: of the query string, and of the form."""
    assert request.endpoint is not None
    view: Any = current_app.view_functions[request.endpoint]
    told: Operation = view.operation
    found = {one.name: one.read(request.args.get(one.name)) for one in told.parameters}
    found |= {one.name: one.read(request.form.get(one.name)) for one in told.form}
    return found
