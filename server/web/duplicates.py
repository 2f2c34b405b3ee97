"""The page and the route of the pictures that are the same. They show, and change nothing."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, render_template, request

from sightline.indexer.errors import UsageError
from sightline.indexer.library.library import Library
from sightline.server.search.duplicate_groups import Group, find_groups
from sightline.server.search.query import MAX_LENGTH, parse
from sightline.server.web.app_state import engine, state
from sightline.server.web.openapi import COUNT, FACTS, STRING, listed, obj
from sightline.server.web.parameters import Choice, Number, Operation, Text, operation, values
from sightline.server.web.security import sees_paths

same = Blueprint("same", __name__)

MAX_GROUPS = 200
"""Groups in one answer; a page shows as many as its default."""

FILTERS = Text("q", "Filters, in the query language; no words.", longest=MAX_LENGTH)
K = Number("k", "Groups to give.", 50, 1, MAX_GROUPS)
OFFSET = Number("offset", "Groups to leave out at the front.", 0, 0, 10_000_000)
COPIES = Choice("copies", "1: only files that are equal byte for byte.", "0", ("0", "1"))


@same.get("/api/duplicates")
@operation(
    Operation(
        "Groups of pictures that are the same, the best file of each first",
        (FILTERS, K, OFFSET, COPIES),
        answer=obj(
            {
                "total": COUNT,
                "spare_files": COUNT,
                "spare_bytes": COUNT,
                "groups": listed(
                    obj(
                        {
                            "kind": {"enum": ["copies", "similar"]},
                            "spare_bytes": COUNT,
                            "images": listed(obj(FACTS, absolute=STRING)),
                        }
                    )
                ),
            }
        ),
    )
)
def groups() -> Response:
    """Equal files first, then near-identical shots."""
    return jsonify(_told(values()))


@same.get("/duplicates")
def page() -> str:
    """The same for a person: each group in a row."""
    parameters = (FILTERS, K, OFFSET, COPIES)
    given: dict[str, Any] = {one.name: one.read(request.args.get(one.name)) for one in parameters}
    told = _told(given)
    end = given["offset"] + given["k"]
    return render_template(
        "duplicates.html", **told, q=given["q"], following=end if end < told["total"] else None
    )


def _told(given: dict[str, Any]) -> dict[str, Any]:
    found = _found(given["q"], similar=given["copies"] == "0")
    wanted = found[given["offset"] : given["offset"] + given["k"]]
    ids = [id for group in wanted for id in group.ids]
    records = {record.id: record for record in engine().library.images(ids)}
    return {
        "total": len(found),
        "spare_files": sum(len(group.ids) - 1 for group in found),
        "spare_bytes": sum(group.spare for group in found),
        "groups": [group.as_dict(records, absolute=sees_paths()) for group in wanted],
    }


def _found(q: str, *, similar: bool) -> list[Group]:
    """All groups; kept until the library changes, and looked for by one visitor at a time."""
    query = parse(q)
    if query.terms:
        raise UsageError("only filters (in:Holidays) are understood here, no words")
    library = engine().library
    if not isinstance(library, Library):
        raise UsageError("pictures that are the same are told in a library in a folder only")
    library.refresh()
    key = (query.filters, similar, library.version)
    with state().grouping.held():
        return state().groups.get_or_create(
            key, lambda: find_groups(library, query.filters, similar=similar)
        )
