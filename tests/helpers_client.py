"""A client of the application that reads every answer to its end, and so lets go of its files."""

from __future__ import annotations

from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse


class ReadingClient(FlaskClient):
    """Closes what it was sent."""

    def open(self, *args: Any, buffered: bool = True, **options: Any) -> TestResponse:
        """Sends a request."""
        return super().open(*args, buffered=buffered, **options)


def client_of(app: Flask) -> FlaskClient:
    """A client of ``app``."""
    return ReadingClient(app, app.response_class, use_cookies=True)
