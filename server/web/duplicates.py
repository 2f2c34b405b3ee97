"""Groups of duplicate images, as JSON and as a page. Read-only."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, render_template, request

from sightline.server.search.query import MAX_LENGTH
from sightline.server.web.app_state import engine, state
from sightline.server.web.openapi import COUNT, FACTS, STRING, listed, obj
from sightline.server.web.parameters import (
    MAX_OFFSET,
    Choice,
    Number,
    Operation,
    Text,
    operation,
    values,
)
from sightline.server.web.security import sees_paths

duplicates = Blueprint("same", __name__)

MAX_GROUPS = 200
"""Groups in one answer."""

FILTERS = Text("q", "Filters, in the query language; no text.", longest=MAX_LENGTH)
K = Number("k", "Number of groups.", 50, 1, MAX_GROUPS)
OFFSET = Number("offset", "Groups to skip.", 0, 0, MAX_OFFSET)
COPIES = Choice("copies", "1: only files that are equal byte for byte.", "0", ("0", "1"))


@duplicates.get("/api/duplicates")
@operation(
    Operation(
        "Groups of duplicate images, the best file of each first",
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
    """Byte-equal files first, then near-identical shots."""
    return jsonify(_page_of_groups(values()))


@duplicates.get("/duplicates")
def page() -> str:
    """The same as an HTML page."""
    parameters = (FILTERS, K, OFFSET, COPIES)
    given: dict[str, Any] = {one.name: one.read(request.args.get(one.name)) for one in parameters}
    found = _page_of_groups(given)
    end = given["offset"] + given["k"]
    return render_template(
        "duplicates.html",
        **found,
        q=given["q"],
        k=given["k"],
        offset=given["offset"],
        copies=int(given["copies"]),
        following=end if end < found["total"] else None,
    )


def _page_of_groups(given: dict[str, Any]) -> dict[str, Any]:
    with state().duplicate_searches:
        found = engine().duplicates.find(given["q"], similar=given["copies"] == "0").groups
    wanted = found[given["offset"] : given["offset"] + given["k"]]
    ids = [id for group in wanted for id in group.ids]
    records = {record.id: record for record in engine().library.images(ids)}
    return {
        "total": len(found),
        "spare_files": sum(len(group.ids) - 1 for group in found),
        "spare_bytes": sum(group.spare for group in found),
        "groups": [group.as_dict(records, absolute=sees_paths()) for group in wanted],
    }
