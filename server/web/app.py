"""The web application: ``create_app(engine)`` puts the blueprints, the guard and the errors
together. No work is done at import time, and nothing is global."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import orjson
from flask import Flask, Response, jsonify, make_response, redirect, render_template, request
from flask.json.provider import DefaultJSONProvider
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.sansio.response import Response as PlainResponse
from werkzeug.wrappers import Response as AnyResponse

from sightline.indexer.errors import SightlineError
from sightline.server.search.engine import SearchEngine
from sightline.server.web.admission import Admission, Slots
from sightline.server.web.api import api
from sightline.server.web.app_state import State
from sightline.server.web.clip_retrieval import knn_service
from sightline.server.web.config import ServerConfig
from sightline.server.web.duplicates import same
from sightline.server.web.errors import told
from sightline.server.web.metrics import measure, metrics
from sightline.server.web.pages import pages, sentence, static_url
from sightline.server.web.security import guard
from sightline.server.web.thumbnails import pictures

log = logging.getLogger("sightline")

MAX_PARTS = 64
"""Fields of a form."""

INSIDE = "Sightline-Errors"
"""The page sends this header with ``inside``: what it asks that cannot be understood or found is
answered with status 200, and the error and its status inside. A browser writes every other status
into its console, although a filter with a slip in it is nothing that went wrong."""

TITLES = {
    400: "That cannot be understood",
    401: "Please sign in",
    403: "Not from here",
    404: "Not here",
    413: "Too much at once",
    421: "Wrong name",
    503: "A moment, please",
}


def create_app(engine: SearchEngine, *, config: ServerConfig | None = None) -> Flask:
    """A WSGI application that searches with ``engine``. The caller closes the engine."""
    settings = config or ServerConfig()
    templates = templates_folder()
    app = Flask("sightline", template_folder=str(templates), static_folder=None)
    app.config.update(
        SIGHTLINE=settings,
        MAX_CONTENT_LENGTH=settings.max_upload,
        MAX_FORM_MEMORY_SIZE=2**20,
        MAX_FORM_PARTS=MAX_PARTS,
    )
    app.json = CompactJSON(app)
    # A doubled slash is a wrong address, not a way to another one.
    app.url_map.merge_slashes = False
    app.extensions["sightline"] = State(engine, templates, Slots(settings.max_zips))
    app.jinja_env.globals["static_url"] = static_url
    app.jinja_env.filters["sentence"] = sentence
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    measure(app, engine)
    guard(app, settings)
    for blueprint in (api, pictures, same, knn_service, metrics, pages):
        app.register_blueprint(blueprint)
    app.register_error_handler(SightlineError, _sightline_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unforeseen)
    admission = Admission(app.wsgi_app, limit=settings.max_waiting, threads=settings.threads)
    app.extensions["sightline_admission"] = admission
    app.wsgi_app = admission  # type: ignore[method-assign]
    return app


def templates_folder() -> Path:
    """The folder of the Jinja templates and static files."""
    return Path(__file__).parents[2] / "templates"


_AS_BEFORE = (
    orjson.OPT_APPEND_NEWLINE | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
)
"""Values that JSON does not have are Flask's to write."""


class CompactJSON(DefaultJSONProvider):
    """Keys in the order in which they are written, nothing escaped, no blanks."""

    sort_keys = False
    ensure_ascii = False
    compact = True

    def response(self, *args: Any, **kwargs: Any) -> PlainResponse:
        """An answer with the given value: a thousand hits in .4 ms where Python's own encoder
        takes 4.7 and lets no other thread work meanwhile. What orjson has no way to write (a
        number beyond 64 bits) is written by that one."""
        try:
            body = orjson.dumps(self._prepare_response_obj(args, kwargs), option=_AS_BEFORE)
        except TypeError:
            return super().response(*args, **kwargs)
        return Response(body, mimetype=self.mimetype)


def wants_json() -> bool:
    """Whether a program asks: the API's addresses, and picture files."""
    return not request.path.startswith(("/signin", "/failures", "/duplicates", "/static/")) and (
        (request.path != "/" and "text/html" not in request.headers.get("Accept", ""))
        or request.path.startswith(("/api/", "/healthz"))
    )


def _sightline_error(error: SightlineError) -> AnyResponse:
    code, reason = told(error)
    if code < 500 and request.headers.get(INSIDE) == "inside" and wants_json():
        return jsonify(error=reason, status=code)
    return _answer(code, reason)


def _http_error(error: HTTPException) -> AnyResponse:
    code = error.code or 500
    if code in (301, 302, 304, 307, 308):
        return error.get_response()
    if code == 401 and not wants_json() and request.method == "GET":
        return redirect("/signin", 303)
    reason = error.description or error.name
    if code == 404 and isinstance(error, NotFound):
        reason = "there is nothing at this address"
    response = _answer(code, reason)
    for name, value in error.get_headers():
        # Retry-After, Allow, Content-Range: what the status promises.
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    return response


def _unforeseen(error: Exception) -> AnyResponse:
    """A fault of the program: written into the log, told without any detail."""
    log.error("%s %s", request.method, request.path, exc_info=error)
    return _answer(500, "the server made a mistake; its log says more")


def _answer(code: int, reason: str) -> Response:
    if wants_json():
        response = jsonify(error=reason)
    else:
        values: dict[str, Any] = {"code": code, "title": TITLES.get(code, "Sorry")}
        response = make_response(render_template("error.html", reason=reason, **values))
    response.status_code = code
    if code == 503:
        response.headers.setdefault("Retry-After", "2")
    return response
