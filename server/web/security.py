"""Which requests are accepted, and the security headers of the responses.

* Host check: ``Host`` must be one of the server's own names (prevents DNS rebinding).
* Origin check: unsafe methods are accepted from the server's own page and from programs only.
  Browsers state the origin in ``Sec-Fetch-Site`` and ``Origin``, which pages cannot forge.
* Authentication: where other machines can reach the server, programs send the token as
  ``Authorization: Bearer``; browsers enter it once in a form and get a strict, HTTP-only cookie
  with a value derived from it.
* Content-Security-Policy without ``unsafe-inline``: only the server's own scripts run.
"""

from __future__ import annotations

import base64
import binascii
import re
import socket
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Request, Response, current_app, g, request
from werkzeug.exceptions import (
    Forbidden,
    HTTPException,
    RequestEntityTooLarge,
    TooManyRequests,
    Unauthorized,
)

from sightline.server.web.config import ServerConfig, ip_address, is_loopback
from sightline.server.web.parameters import Operation
from sightline.server.web.tokens import BackOff, Token

COOKIE = "sightline"
COOKIE_DAYS = 30

POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
"""For the pages. ``blob:`` is a query image that has not been uploaded yet."""

FILE_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
"""For the user's files: nothing in them may run, whatever their content."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

OPEN_ENDPOINTS = {
    "pages.sign_in",
    "pages.sign_in_form",
    "pages.static_file",
    "health.healthz",
    "health.livez",
}
"""Endpoints that need no token: the sign-in form, its style sheet, and the health checks."""

MAX_TOKEN_FORM = 8 * 2**10
"""Bytes of the sign-in form."""

SHARED_BLUEPRINT = "knn_service"
"""The blueprint that pages of ``ServerConfig.origins`` may use."""

OTHER_SITE = "pages of other sites may not use this server"
FORWARDED = (
    "this server has no token and answers its own machine only, but this request came through a"
    " proxy; set $SIGHTLINE_TOKEN"
)
TOO_MANY_TOKENS = "too many wrong tokens; wait before the next one"

_PROXY_HEADERS = {
    "HTTP_FORWARDED",
    "HTTP_VIA",
    "HTTP_X_REAL_IP",
    "HTTP_X_CLIENT_IP",
    "HTTP_X_ORIGINAL_HOST",
    "HTTP_X_ORIGINAL_URL",
    "HTTP_X_REWRITE_URL",
    "HTTP_X_SCRIPT_NAME",
    "HTTP_X_ENVOY_EXTERNAL_ADDRESS",
    "HTTP_TRUE_CLIENT_IP",
    "HTTP_CF_CONNECTING_IP",
    "HTTP_FASTLY_CLIENT_IP",
    "HTTP_FLY_CLIENT_IP",
}
"""Keys of the WSGI environment, beside all that start with ``HTTP_X_FORWARDED_``."""

_SAFE = {"GET", "HEAD", "OPTIONS"}
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]/@\s]+)(?::\d{1,5})?")


class Misdirected(HTTPException):
    """The ``Host`` header is not a name of this server."""

    code = 421
    description = "this host name is not accepted; add it with `sightline serve --host-name`"


def protect(app: Flask, config: ServerConfig) -> None:
    """Adds the checks and the response headers to every request of ``app``."""
    names = {"localhost", config.host.lower().strip("[]"), *(n.lower() for n in config.hosts)}
    local = is_loopback(config.host)
    token = None if config.token is None else Token(config)
    back_off = BackOff()
    app.extensions["sightline_token"] = token
    app.extensions["sightline_back_off"] = back_off
    if not local:
        own = socket.gethostname().lower()
        names |= {own, f"{own.split('.')[0]}.local"}

    def known_host(value: str) -> bool:
        found = _HOST.fullmatch(value)
        if found is None:
            return False
        host = found[1].lower().strip("[]").rstrip(".")
        address = ip_address(host)
        if address is not None and host not in names:
            # DNS rebinding needs a name; a loopback server is reached by loopback addresses only.
            return address.is_loopback or not local
        return host in names

    def check() -> None:
        """Raises ``HTTPException`` for a request that is refused whatever its body is."""
        # Browsers always send Host; HTTP/1.0 programs may omit it.
        if not known_host(request.headers.get("Host", "localhost")):
            raise Misdirected
        if not _is_shared(request, config):
            _check_origin(request)
        g.signed_in = False
        if token is None:
            if _is_forwarded(request):
                raise Forbidden(FORWARDED)
        else:
            g.signed_in = _is_authenticated(request, token)
            if not g.signed_in and request.endpoint not in OPEN_ENDPOINTS:
                raise Unauthorized("this server requires its token")
        if request.routing_exception is None and request.method not in _SAFE:
            request.max_content_length = _max_body(request, config)
            if (request.content_length or 0) > request.max_content_length:
                raise RequestEntityTooLarge

    def body_limit(environ: dict[str, Any]) -> int:
        with app.request_context(environ):
            try:
                check()
            except HTTPException:
                return 0
            if request.routing_exception is not None or request.method in _SAFE:
                return 0
            return request.max_content_length or 0

    app.before_request(check)
    app.extensions["sightline_body_limit"] = body_limit

    @app.after_request
    def add_headers(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        response.headers.setdefault("Cache-Control", "private, no-cache")
        if _is_shared(request, config):
            response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
            response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
            response.headers.add("Vary", "Origin")
        if g.get("wrong_token", False):
            sign_in_failed()
        if response.status_code == 401:
            response.headers["WWW-Authenticate"] = 'Bearer realm="sightline"'
        return response


def sees_paths() -> bool:
    """Whether the client may see absolute paths: clients with the token and local clients. A
    request that a local proxy forwards, which its headers show, is not local."""
    if g.get("signed_in", False):
        return True
    return not _is_forwarded(request) and is_loopback(request.remote_addr or "")


def set_cookie(response: Response, token: Token) -> None:
    """Signs a browser in for ``COOKIE_DAYS``."""
    response.set_cookie(
        COOKIE, token.cookie(), max_age=COOKIE_DAYS * 86_400, **_cookie_attributes()
    )


def delete_cookie(response: Response) -> None:
    """Signs a browser out."""
    response.delete_cookie(COOKIE, **_cookie_attributes())


def _cookie_attributes() -> dict[str, Any]:
    """``Secure`` where the browser uses TLS, as far as the trusted proxy's headers show."""
    path = request.script_root or "/"
    return {"httponly": True, "samesite": "Strict", "secure": request.is_secure, "path": path}


def sign_in_wait() -> int:
    """Seconds until this client may try another token."""
    return _back_off().wait(request.remote_addr or "")


def sign_in_failed() -> None:
    """Counts a wrong token of this client."""
    _back_off().failed(request.remote_addr or "")


def _back_off() -> BackOff:
    found: BackOff = current_app.extensions["sightline_back_off"]
    return found


def _is_authenticated(request: Request, token: Token) -> bool:
    """Whether the request has the cookie or the token. Raises ``TooManyRequests`` for a token after
    too many wrong ones."""
    if token.is_cookie(request.cookies.get(COOKIE, "")):
        return True
    kind, _, credentials = request.headers.get("Authorization", "").partition(" ")
    given = {"bearer": credentials.strip(), "basic": _password(credentials)}.get(kind.lower())
    if not given:
        return False
    if wait := sign_in_wait():
        raise TooManyRequests(TOO_MANY_TOKENS, retry_after=wait)
    if token.equals(given):
        return True
    g.wrong_token = True
    return False


def _is_forwarded(request: Request) -> bool:
    """Whether a proxy passed the request on, or the application is mounted below a path."""
    environ = request.environ
    return (
        bool(environ.get("SCRIPT_NAME", "").strip("/"))
        or not _PROXY_HEADERS.isdisjoint(environ)
        or any(key.startswith("HTTP_X_FORWARDED_") for key in environ)
    )


def _max_body(request: Request, config: ServerConfig) -> int:
    """Bytes of the body that the route accepts."""
    view = current_app.view_functions.get(request.endpoint or "")
    declared: Operation | None = getattr(view, "operation", None)
    if declared is None:
        return MAX_TOKEN_FORM
    return config.max_upload if declared.files else min(declared.max_body, config.max_upload)


def _password(credentials: str) -> str:
    """The password of basic authentication, for programs that take a URL
    (``http://any:TOKEN@host/``) but no header. Browsers are never prompted for it."""
    try:
        decoded = base64.b64decode(credentials.strip(), validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""
    return decoded.partition(":")[2]


def _is_shared(request: Request, config: ServerConfig) -> bool:
    """Whether this is a clip-retrieval request from a page of an allowed origin."""
    return request.blueprint == SHARED_BLUEPRINT and request.headers.get("Origin") in config.origins


def _check_origin(request: Request) -> None:
    """Raises ``Forbidden`` for a request from another site's page."""
    site = request.headers.get("Sec-Fetch-Site")
    if request.method in _SAFE:
        # Other sites may link to this server but not embed or fetch from it.
        navigates = request.headers.get("Sec-Fetch-Mode") == "navigate"
        if site in ("cross-site", "same-site") and not navigates:
            raise Forbidden(OTHER_SITE)
        return
    if site is not None:
        if site not in ("same-origin", "none"):
            raise Forbidden(OTHER_SITE)
        return
    origin = request.headers.get("Origin")
    if origin is None or (
        origin == "null" and request.endpoint in ("pages.sign_in", "pages.sign_out")
    ):
        # Not a browser; or a form, whose origin `no-referrer` hides. It has the token, or the
        # cookie, which browsers send from the server's own pages only.
        return
    try:
        parts = urlsplit(origin)
    except ValueError as error:
        raise Forbidden(OTHER_SITE) from error
    if (parts.scheme, parts.netloc.lower()) != (request.scheme, request.host.lower()):
        raise Forbidden(OTHER_SITE)
