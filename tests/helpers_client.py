"""A test client that leaves no file open."""

from __future__ import annotations

from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse


class ReadingClient(FlaskClient):
    """Reads every response to its end and closes the files of the request and the response."""

    def open(self, *args: Any, buffered: bool = True, **options: Any) -> TestResponse:
        """Sends a request."""
        response = super().open(*args, buffered=buffered, **options)
        response.request.environ["wsgi.input"].close()
        return response


def client_of(app: Flask) -> FlaskClient:
    """A client of ``app``."""
    return ReadingClient(app, app.response_class, use_cookies=True)
