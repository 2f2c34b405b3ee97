"""What a visitor is told when something cannot be done: a status, and a line.

What is wrong with a request is told to whoever made it. What is wrong on this side (a damaged
file, a store that is away) has the machine's paths and hosts in it: it goes into the log, and only
visitors who may know of the machine are told it as well.
"""

from __future__ import annotations

import logging
import re
from pathlib import PurePath

from flask import request

from sightline.indexer.errors import (
    LibraryAwayError,
    LibraryBusyError,
    NotFoundError,
    SightlineError,
    UsageError,
)
from sightline.server.web.security import sees_paths

log = logging.getLogger("sightline")

_PLACE = re.compile(r"\w://|(?<![\w.])/\w|\b\d{1,3}(?:\.\d{1,3}){3}\b|\b[\w.-]+:\d{2,5}\b")
"""An address, an absolute path, a number of a machine, a host with its port."""

AWAY = "the store that holds the pictures cannot be reached; try again in a moment"
BUSY = "the library is being written to; try again in a moment"
HARMED = "something is wrong with the library or its model; the server's log says what"


def status_of(error: SightlineError) -> int:
    """The HTTP status of one of the project's errors."""
    if isinstance(error, UsageError):
        return 400
    if isinstance(error, NotFoundError):
        return 404
    return 503 if isinstance(error, (LibraryBusyError, LibraryAwayError)) else 500


def told(error: SightlineError) -> tuple[int, str]:
    """The status, and the line for this visitor. What is this side's fault is written down."""
    code, whole = status_of(error), " ".join(str(error).split())
    if code < 500:
        return code, whole
    write_down(whole)
    return code, whole if sees_paths() else _for_everyone(error)


def write_down(reason: str) -> None:
    """Into the log, with what was asked."""
    log.error("%s %s: %s", request.method, request.path, reason)


def _for_everyone(error: SightlineError) -> str:
    if isinstance(error, LibraryAwayError):
        return AWAY
    return BUSY if isinstance(error, LibraryBusyError) else HARMED


def without_places(reason: str, root: str) -> str:
    """Why a file could not be read, as everyone may see it: from the root's own name on, and
    without what a library or a store adds when that names a place."""
    told = reason.replace(root, PurePath(root).name) if root != "/" else reason
    if not _PLACE.search(told):
        return told
    kind, _, _ = told.partition(": ")
    return "it could not be read" if _PLACE.search(kind) else kind


def without_folders(model: str) -> str:
    """A model's name; of one that lies in a folder, the folder's own name."""
    return PurePath(model).name if PurePath(model).is_absolute() else model
