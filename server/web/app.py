"""``create_app(engine)``: the Flask application, its security and its error handlers."""

from __future__ import annotations

import json
import logging
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
from flask import (
    Flask,
    Request,
    Response,
    jsonify,
    make_response,
    redirect,
    render_template,
    request,
)
from flask.json.provider import DefaultJSONProvider
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.routing import RequestRedirect
from werkzeug.sansio.response import Response as PlainResponse
from werkzeug.wrappers import Response as AnyResponse

from sightline.indexer.errors import SightlineError
from sightline.server.search import SearchEngine
from sightline.server.search.current_engine import CurrentEngine
from sightline.server.web.admission import RETRY_AFTER, Admission, Limit
from sightline.server.web.api import api
from sightline.server.web.app_state import State
from sightline.server.web.clip_retrieval import clip_retrieval
from sightline.server.web.config import ServerConfig
from sightline.server.web.duplicates import duplicates
from sightline.server.web.health import Health, health
from sightline.server.web.kept import kept
from sightline.server.web.metrics import measure, metrics
from sightline.server.web.pages import pages, sentence, static_url, static_version
from sightline.server.web.public import public_error
from sightline.server.web.security import protect
from sightline.server.web.strings import ERRORS_HEADER, for_page, template_values
from sightline.server.web.thumbnails import images

log = logging.getLogger("sightline")

MAX_FORM_FIELDS = 64

MAX_JSON_VALUES = 50_000
"""Values of a JSON body; a vector has up to 2,000, a zip download 5,000 ids."""


def create_app(
    engine: SearchEngine | CurrentEngine, *, config: ServerConfig | None = None
) -> Flask:
    """A WSGI application that searches with ``engine``. The caller closes the engine."""
    config = config or ServerConfig()
    engines = CurrentEngine.of(engine)
    templates = templates_folder()
    app = Flask("sightline", template_folder=str(templates), static_folder=None)
    app.config.update(
        MAX_CONTENT_LENGTH=config.max_upload,
        MAX_FORM_MEMORY_SIZE=2**20,
        MAX_FORM_PARTS=MAX_FORM_FIELDS,
    )
    app.request_class = InMemoryRequest
    app.json = CompactJSON(app)
    # `//images/1` is 404, not a redirect to `/images/1`.
    app.url_map.merge_slashes = False
    app.extensions["sightline"] = State(
        engines, config, templates, static_version(templates), Limit(config.max_zips)
    )
    app.jinja_env.globals["static_url"] = static_url
    app.context_processor(template_values)
    app.jinja_env.filters["sentence"] = sentence
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    measure(app, engines)
    protect(app, config)
    app.before_request(_redirect_to_page)
    for blueprint in (api, health, images, duplicates, kept, clip_retrieval, metrics, pages):
        app.register_blueprint(blueprint)
    if config.mcp:
        from sightline.server.web.mcp_endpoint import mcp_endpoint

        app.register_blueprint(mcp_endpoint(engines))
    app.register_error_handler(SightlineError, _sightline_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected_error)
    admission = Admission(app.wsgi_app, max_waiting=config.max_waiting, threads=config.threads)
    app.extensions["sightline_admission"] = admission
    app.extensions["sightline_health"] = Health(engines, admission.searching)
    app.wsgi_app = admission  # type: ignore[method-assign]
    return app


class InMemoryRequest(Request):
    """Parses uploads in memory: a body is at most ``max_upload`` bytes, the views read it whole
    anyway, and a malformed body leaves no temporary file open."""

    def _get_file_stream(self, *args: Any, **kwargs: Any) -> BytesIO:
        return BytesIO()


def templates_folder() -> Path:
    """The folder of the Jinja templates and static files."""
    return Path(__file__).parents[2] / "templates"


class CompactJSON(DefaultJSONProvider):
    """JSON by orjson: 0.4 ms for a thousand hits, 4.7 ms with the standard library. Key order is
    kept and nothing is escaped."""

    sort_keys = False
    ensure_ascii = False
    compact = True

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        """The value of a JSON document. Raises ``ValueError`` for one that is invalid, nested a
        thousand deep, has lone surrogates, or has more than ``MAX_JSON_VALUES`` values: a list of
        16 MB can take 500 MB in memory."""
        data = s.encode() if isinstance(s, str) else s
        if sum(data.count(mark) for mark in (b",", b"[", b"{")) > MAX_JSON_VALUES:
            raise ValueError("too many values")
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            return _loads_large_numbers(data)

    def response(self, *args: Any, **kwargs: Any) -> PlainResponse:
        """A response with the given value; what orjson cannot serialise (integers beyond 64 bits,
        dates) is left to Flask."""
        option = (
            orjson.OPT_APPEND_NEWLINE
            | orjson.OPT_PASSTHROUGH_DATETIME
            | orjson.OPT_PASSTHROUGH_DATACLASS
        )
        try:
            body = orjson.dumps(self._prepare_response_obj(args, kwargs), option=option)
        except TypeError:
            return super().response(*args, **kwargs)
        return Response(body, mimetype=self.mimetype)


def _loads_large_numbers(data: bytes) -> Any:
    """The value of a JSON document with numbers that orjson lacks, NaN and integers of hundreds of
    digits. Raises ``ValueError``."""
    try:
        value = json.loads(data)
        json.dumps(value, ensure_ascii=False).encode()  # fails for lone surrogates
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return value


def wants_json() -> bool:
    """Whether the client is a program: API routes, image files, or no ``text/html`` accepted."""
    if request.path.startswith(("/api/", "/healthz", "/livez")):
        return True
    if request.path == "/" or request.path.startswith(
        ("/signin", "/signout", "/failures", "/duplicates", "/static/")
    ):
        return False
    return "text/html" not in request.headers.get("Accept", "")


def _redirect_to_page() -> AnyResponse | None:
    """From ``/photos`` to ``/photos/``: to a path, because a proxy may have replaced the host."""
    if isinstance(request.routing_exception, RequestRedirect):
        return redirect(f"{request.script_root}/", 308)
    return None


def _sightline_error(error: SightlineError) -> AnyResponse:
    code, reason = public_error(error)
    if code < 500 and request.headers.get(ERRORS_HEADER) == "inside" and wants_json():
        return jsonify(error=for_page(reason), status=code)
    return _error_response(code, reason)


def _http_error(error: HTTPException) -> AnyResponse:
    code = error.code or 500
    if code in (301, 302, 304, 307, 308):
        return error.get_response()
    if code == 401 and not wants_json() and request.method == "GET":
        wanted = request.script_root + request.full_path.rstrip("?")
        query = "" if wanted == f"{request.script_root}/" else f"?{urlencode({'next': wanted})}"
        return redirect(f"{request.script_root}/signin{query}", 303)
    reason = error.description or error.name
    if isinstance(error, NotFound):
        reason = "there is no page at this address"
    response = _error_response(code, reason)
    for name, value in error.get_headers():
        # Retry-After, Allow, Content-Range.
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    return response


def _unexpected_error(error: Exception) -> AnyResponse:
    """A bug: the traceback goes to the log and not to the client."""
    log.error("%s %s", request.method, request.path, exc_info=error)
    return _error_response(500, "internal error; the server's log has the details")


def _error_response(code: int, reason: str) -> Response:
    if wants_json():
        response = jsonify(error=for_page(reason))
    else:
        response = make_response(render_template("error.html", code=code, reason=reason))
    response.status_code = code
    if code == 503:
        response.headers.setdefault("Retry-After", str(RETRY_AFTER))
    return response
