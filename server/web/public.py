"""What a client may see: status, failures and error messages, without paths and hosts of this
machine unless the client is local or signed in (``security.sees_paths``)."""

from __future__ import annotations

import logging
import re
from pathlib import PurePath
from typing import Any

from flask import request

from sightline.indexer.errors import (
    FilesAwayError,
    LibraryAwayError,
    LibraryBusyError,
    ModelChangedError,
    NotFoundError,
    SightlineError,
    UsageError,
)
from sightline.indexer.types import ImageRecord
from sightline.server.web.app_state import engine
from sightline.server.web.security import sees_paths

log = logging.getLogger("sightline")

MAX_FAILURES = 10_000
"""Failures in one answer."""

UNREACHABLE = "the vector store cannot be reached; try again in a moment"
BUSY = "another process is writing to the library; try again in a moment"
MODEL_CHANGED = "the library has another model now; try again in a moment"
BROKEN = "the library or its model cannot be used; the server's log says why"
INDEX_UNUSABLE = (
    "the vector index cannot be used: every search is exact until `sightline rebuild` has run"
)

_LOCATION = re.compile(r"\w://|(?<![\w.])/\w|\b\d{1,3}(?:\.\d{1,3}){3}\b|\b[\w.-]+:\d{2,5}\b")
"""A URL, an absolute path, an IP address, or a host with its port."""


def find(id: int) -> ImageRecord:
    """The record of an image. Raises ``NotFoundError``."""
    record = engine().library.image(id) if 0 < id < 2**63 else None
    if record is None:
        raise NotFoundError(f"there is no image {str(id)[:30]} in this library")
    return record


def public_error(error: SightlineError) -> tuple[int, str]:
    """The HTTP status and the message of ``error``. A server-side fault is logged in full, and
    only clients that see paths get its message."""
    whole = " ".join(str(error).split())
    if isinstance(error, UsageError):
        return 400, whole
    if isinstance(error, NotFoundError):
        return 404, whole
    log_fault(whole)
    if isinstance(error, FilesAwayError):
        return 503, whole
    if isinstance(error, LibraryAwayError):
        code, message = 503, UNREACHABLE
    elif isinstance(error, LibraryBusyError):
        code, message = 503, BUSY
    elif isinstance(error, ModelChangedError):
        code, message = 503, MODEL_CHANGED
    else:
        code, message = 500, BROKEN
    return code, whole if sees_paths() else message


def log_fault(reason: str) -> None:
    """Logs a fault of the server with the request that met it."""
    log.error("%s %s: %s", request.method, request.path, reason)


def public_status() -> dict[str, Any]:
    """``sightline status --json``, redacted for this client."""
    facts = dict(engine().library.status())
    unreachable = facts.pop("away", False)
    if unreachable:
        log_fault(facts["note"])
    if sees_paths():
        return facts
    if unreachable:
        facts["note"] = UNREACHABLE
    facts["index"] = index = dict(facts["index"])
    if index.get("note"):
        index["note"] = INDEX_UNUSABLE
    index.pop("device_note", None)
    facts.pop("library", None)
    facts["roots"] = [{**root, "path": PurePath(root["path"]).name} for root in facts["roots"]]
    facts["model"] = public_model_name(facts["model"])
    facts.pop("reencoding", None)
    if isinstance(facts.get("run"), dict):
        if "model" in facts["run"]:
            facts["run"] = {**facts["run"], "model": public_model_name(facts["run"]["model"])}
        facts["run"] = {
            name: value for name, value in facts["run"].items() if not _holds_a_path(value)
        }
    return facts


def _holds_a_path(value: object) -> bool:
    """Whether ``value`` is an absolute path or a list that contains one."""
    items = value if isinstance(value, (list, tuple)) else [value]
    return any(isinstance(item, str) and PurePath(item).is_absolute() for item in items)


def public_failures() -> list[dict[str, str]]:
    """The first ``MAX_FAILURES`` failures; for clients that see no paths, each path starts at the
    root folder's name."""
    whole = sees_paths()
    return [
        {
            "path": f"{failure.root if whole else PurePath(failure.root).name}/{failure.path}",
            "reason": failure.reason if whole else public_reason(failure.reason, failure.root),
        }
        for failure in engine().library.failures()[:MAX_FAILURES]
    ]


def public_reason(reason: str, root: str) -> str:
    """Why a file could not be read, with the root folder's name instead of its path, and without
    the detail after the colon if that names a location."""
    shortened = reason.replace(root, PurePath(root).name) if root != "/" else reason
    if not _LOCATION.search(shortened):
        return shortened
    summary, _, _ = shortened.partition(": ")
    return "it could not be read" if _LOCATION.search(summary) else summary


def public_model_name(model: str) -> str:
    """The model's name; for a model in a folder, the folder's name without its path."""
    return PurePath(model).name if PurePath(model).is_absolute() else model
