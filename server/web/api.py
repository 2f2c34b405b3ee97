"""The JSON API: parse, ask the engine, answer. ``/api/openapi.json`` describes it."""

from __future__ import annotations

import re
import secrets
from base64 import b64encode
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

from flask import Blueprint, Response, current_app, jsonify, request
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType

from sightline.indexer.errors import NotFoundError, UsageError
from sightline.indexer.types import ImageRecord
from sightline.server.search.image_json import image_as_dict
from sightline.server.search.originals import original
from sightline.server.search.query import MAX_LENGTH, parse
from sightline.server.search.results import SearchResult
from sightline.server.search.suggestions import filter_text, suggestions
from sightline.server.web import zip_download
from sightline.server.web.app_state import engine, state
from sightline.server.web.errors import AWAY, without_folders, without_places, write_down
from sightline.server.web.openapi import COUNT, ID, STRING, document, listed, nullable, obj, ref
from sightline.server.web.parameters import Choice, Number, Operation, Text, operation, values
from sightline.server.web.security import sees_paths

api = Blueprint("api", __name__)

MAX_K = 1000
"""Hits in one answer; pages follow each other by ``offset``."""

MAX_OFFSET = 10_000_000
MAX_IMAGES = 16
"""Pictures to search with in one request."""

MAX_TEXTS = 4000
"""Characters of the texts that a picture is compared with."""

MOST_TEXTS = 100

UNUSED = "the vector index cannot be used: every search is exact until `sightline rebuild`"

MAX_FAILURES = 10_000
MAX_JSON = 2**20
"""Bytes of a JSON body."""

QUERY = Text("q", "The query, in the query language.", longest=MAX_LENGTH)
K = Number("k", "Hits to give.", 50, 1, MAX_K)
OFFSET = Number("offset", "Hits to leave out at the front.", 0, 0, MAX_OFFSET)
FOLD = Choice("fold", "1: near-identical shots take one place.", "1", ("0", "1"))


@api.get("/api/search")
@operation(
    Operation(
        "The pictures that fit a query best",
        (QUERY, K, OFFSET, FOLD),
        answer=ref("SearchResult"),
        missing=True,
    )
)
def search() -> Response:
    """``q``, ``k``, ``offset`` -> hits."""
    given = values()
    result = engine().search(
        given["q"], k=given["k"], offset=given["offset"], fold=given["fold"] == "1"
    )
    return _found(result)


def _found(result: SearchResult) -> Response:
    return jsonify(result.as_dict(absolute=sees_paths()))


@api.post("/api/search")
@operation(
    Operation(
        "The pictures that fit a query and the pictures sent with it",
        form=(QUERY, K, OFFSET, FOLD),
        files="image",
        answer=ref("SearchResult"),
        missing=True,
    )
)
def search_with_pictures() -> Response:
    """The same with pictures in a multipart form, each a term of weight 1."""
    given = values()
    images = _pictures()
    result = engine().search(
        given["q"],
        k=given["k"],
        offset=given["offset"],
        images=images,
        fold=given["fold"] == "1",
    )
    return _found(result)


@api.post("/api/uploads")
@operation(
    Operation(
        "Keep a picture in memory for a while, to search with as upload:TOKEN",
        (Choice("preview", "1: with the picture, small, as a data: address.", "0", ("0", "1")),),
        files="image",
        answer=obj({"token": STRING, "width": COUNT, "height": COUNT}, preview=STRING),
    )
)
def upload() -> Response:
    """One picture -> its token; with a preview for browsers that cannot show its format."""
    given = values()
    images = _pictures()
    if len(images) != 1:
        raise UsageError(f"send one picture in the form's field `image`, not {len(images)}")
    kept = engine().upload(images[0])
    told: dict[str, Any] = {"token": kept.token, "width": kept.width, "height": kept.height}
    if given["preview"] == "1":
        told["preview"] = f"data:image/webp;base64,{b64encode(kept.thumbnail).decode()}"
    return jsonify(told)


def _pictures() -> list[bytes]:
    """The bytes of the pictures in this request's form, whatever the fields are called."""
    files = [file for _, file in request.files.items(multi=True)]
    if len(files) > MAX_IMAGES:
        raise UsageError(f"{len(files)} pictures at once; {MAX_IMAGES} are the most")
    return [data for data in (file.read() for file in files) if data]


@api.get("/api/parse")
@operation(Operation("How a query is understood", (QUERY,), answer=ref("Query")))
def parsed() -> Response:
    """The parts of ``q``."""
    return jsonify(parse(values()["q"]).as_dict())


@api.get("/api/suggest")
@operation(
    Operation(
        "Filters that the word being written may become",
        (Text("prefix", "The word as far as it is written.", longest=200),),
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


@api.get("/api/timeline")
@operation(
    Operation(
        "Good matches a month (all pictures that meet the filters, without terms)",
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


@api.get("/api/facets")
@operation(
    Operation(
        "Labels and keywords of the good matches (of all that meet the filters, without terms)",
        (QUERY,),
        answer=obj({"label": listed(ref("Facet")), "keyword": listed(ref("Facet"))}),
        missing=True,
    )
)
def facets() -> Response:
    """Each with its filter as it is written in a query, and its number of pictures."""
    return jsonify(
        {
            kind: [
                {
                    "value": one.text,
                    "filter": filter_text(kind, one.text),
                    "count": one.count,
                }
                for one in found
            ]
            for kind, found in engine().facets(values()["q"]).items()
        }
    )


@api.get("/api/random")
@operation(
    Operation(
        "Pictures drawn by chance",
        (K, Number("seed", "The same seed draws the same pictures.", None, 0, 2**31)),
        answer=ref("SearchResult"),
    )
)
def random() -> Response:
    """A handful of pictures, different ones every time."""
    given = values()
    seed = given["seed"] if given["seed"] is not None else secrets.randbelow(2**31)
    return _found(engine().random(k=given["k"], seed=seed))


@api.get("/api/images/<int:id>")
@operation(
    Operation(
        "What is known of one picture",
        (Choice("words", "1: with the everyday words that fit it best.", "0", ("0", "1")),),
        answer=ref("Image"),
        missing=True,
    )
)
def image(id: int) -> Response:
    """The record of one picture, EXIF included."""
    given = values()
    record = find(id)
    told = image_as_dict(record, absolute=sees_paths())
    info = record.info
    told |= {
        "title": info.title,
        "caption": info.caption,
        "place": info.place,
        "url": info.url,
        "keywords": list(info.keywords),
        "rating": info.rating,
        "orientation": info.orientation,
        "added_at": record.added_at.isoformat(),
        "available": _available(record),
        "labels": [
            {"label": name, "fit": round(fit, 4)}
            for name, fit in engine().library.labels([id]).get(id, [])
        ],
    }
    if given["words"] == "1":
        told["words"] = [
            {"text": text, "score": round(score, 4)} for text, score in engine().words_for(id)
        ]
    return jsonify(told)


@api.get("/api/images/<int:id>/similar")
@operation(Operation("The pictures most like one", (K,), answer=ref("SearchResult"), missing=True))
def similar(id: int) -> Response:
    """More like this."""
    given = values()
    record = find(id)
    return _found(engine().similar(record.id, k=given["k"]))


@api.get("/api/images/<int:id>/captions")
@operation(
    Operation(
        "The texts that fit one picture best: of those given, or of everyday captions",
        (
            Text("texts", "Texts, with commas or line ends between them.", longest=MAX_TEXTS),
            Number("k", "Texts to give.", 10, 1, 100),
        ),
        answer=obj({"captions": listed(ref("Caption"))}),
        missing=True,
    )
)
def captions(id: int) -> Response:
    """Image to text."""
    given = values()
    record = find(id)
    parts = (" ".join(text.split()) for text in re.split(r"[,\n]", given["texts"]))
    texts = list(dict.fromkeys(text for text in parts if text))
    if len(texts) > MOST_TEXTS:
        raise UsageError(f"{len(texts):,} texts at once; {MOST_TEXTS} are the most")
    found = engine().describe(record.id, texts=texts, k=given["k"])
    return jsonify(captions=[one.as_dict() for one in found])


@api.post("/api/zip")
@operation(
    Operation(
        "The original files of some pictures in one zip",
        body=obj({"ids": {**listed(ID), "minItems": 1, "maxItems": zip_download.MAX_FILES}}),
        answer="application/zip",
        missing=True,
    )
)
def zipped() -> Response:
    """A zip, written while it is read."""
    ids = _ids_from_json()
    records = engine().library.images(ids)
    files = zip_download.contents(records)
    release = state().zips.take()

    def written() -> Iterator[bytes]:
        try:
            yield from zip_download.stream(files)
        finally:
            release()

    response = Response(written(), mimetype="application/zip")
    # A stream that was given up on before its first byte never comes to its own end.
    response.call_on_close(release)
    response.headers["Content-Disposition"] = 'attachment; filename="sightline.zip"'
    return response


def _ids_from_json() -> list[int]:
    if not request.is_json:
        raise UnsupportedMediaType('send JSON: {"ids": [1, 2, 3]}')
    if (request.content_length or 0) > MAX_JSON:
        raise RequestEntityTooLarge
    try:
        given: Any = request.get_json(silent=True)
    except RecursionError:
        # Brackets in brackets, thousands deep: no list of numbers.
        given = None
    ids = given.get("ids") if isinstance(given, dict) else None
    if (
        not isinstance(ids, list)
        or not 0 < len(ids) <= zip_download.MAX_FILES
        or not all(type(one) is int and 0 < one < 2**63 for one in ids)
    ):
        raise UsageError(
            'the body must be {"ids": [...]} with 1 to '
            f"{zip_download.MAX_FILES:,} pictures' numbers"
        )
    return list(dict.fromkeys(ids))


@api.get("/api/status")
@operation(
    Operation(
        "What is in the library, and the indexing run under way",
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
    """``sightline status --json``, without the machine's paths for whoever may not see them."""
    return jsonify(public_status())


def public_status() -> dict[str, Any]:
    """The library's status as this visitor may see it."""
    facts = dict(engine().library.status())
    away = facts.pop("away", False)
    if away:
        write_down(facts["note"])
    if not sees_paths():
        facts["note"] = AWAY if away else facts.get("note")
        facts["index"] = dict(facts["index"])
        if facts["index"].get("note"):
            facts["index"]["note"] = UNUSED
        facts["index"].pop("device_note", None)
        facts.pop("library", None)
        facts["roots"] = [
            {**root, "path": PurePath(root["path"]).name} for root in facts.get("roots", [])
        ]
        facts["model"] = without_folders(facts.get("model", ""))
        if isinstance(facts.get("run"), dict):
            facts["run"] = {
                name: value for name, value in facts["run"].items() if not _tells_a_path(value)
            }
    return facts


def _tells_a_path(value: object) -> bool:
    """Whether a value names a place on this machine, alone or in a list."""
    items = value if isinstance(value, (list, tuple)) else [value]
    return any(isinstance(item, str) and PurePath(item).is_absolute() for item in items)


@api.get("/api/failures")
@operation(
    Operation(
        "The files that could not be read, and why",
        answer=obj({"failures": listed(obj({"path": STRING, "reason": STRING}))}),
        refuses=False,
    )
)
def failures() -> Response:
    """At most ``MAX_FAILURES`` of them."""
    return jsonify(failures=public_failures())


def public_failures() -> list[dict[str, str]]:
    """The failures as this visitor may see them: whole paths, or from the root's own name on."""
    whole = sees_paths()
    return [
        {
            "path": f"{failure.root if whole else PurePath(failure.root).name}/{failure.path}",
            "reason": failure.reason if whole else without_places(failure.reason, failure.root),
        }
        for failure in engine().library.failures()[:MAX_FAILURES]
    ]


@api.get("/healthz")
@operation(Operation("Whether the server answers", answer=obj({"status": STRING}), refuses=False))
def healthz() -> Response:
    """For whatever watches the server; asks for no token and says nothing else."""
    return jsonify(status="ok")


@api.get("/api/openapi.json")
def openapi() -> Response:
    """This API's description."""
    return jsonify(document(current_app))


def find(id: int) -> ImageRecord:
    """The record of a picture. Raises ``NotFoundError``."""
    record = engine().library.image(id) if 0 < id < 2**63 else None
    if record is None:
        raise NotFoundError(f"there is no image {str(id)[:30]} in this library")
    return record


def _available(record: ImageRecord) -> bool:
    try:
        original(record)
    except NotFoundError:
        return False
    return True
