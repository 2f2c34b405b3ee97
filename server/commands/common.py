"""Shared by the subcommands: options, opening libraries, output, signals."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sightline.indexer.milvus.connection import is_address

if TYPE_CHECKING:
    from sightline.indexer.library import AnyLibrary, Library
    from sightline.server.search import Query, SearchResult

F = TypeVar("F", bound=Callable[..., Any])

LIBRARY_VARIABLE = "SIGHTLINE_LIBRARY"


def default_library() -> Path:
    """The default library: ``$SIGHTLINE_LIBRARY``, or ``library`` in the user data folder."""
    chosen = os.environ.get(LIBRARY_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_data_path

    return user_data_path("sightline", appauthor=False) / "library"


class Folder(click.Path):
    """The type of ``--library DIR``: a folder. Refuses the address of a Milvus collection."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path. Usage error for the address of a collection."""
        if isinstance(value, str) and is_address(value):
            self.fail("this command requires a folder, not a Milvus collection", param, ctx)
        return super().convert(value, param, ctx)


class FolderOrAddress(click.Path):
    """The type of ``--library DIR|ADDRESS``: a folder as ``Path``, or an address as ``str``."""

    name = "directory or address"

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path or the address."""
        if isinstance(value, str) and is_address(value):
            return value
        return super().convert(value, param, ctx)


def place_option(function: F) -> F:
    """``--library DIR|ADDRESS``, for commands that only read."""
    return click.option(
        "--library",
        "directory",
        type=FolderOrAddress(),
        metavar="DIR|ADDRESS",
        default=lambda: os.environ.get(LIBRARY_VARIABLE) or default_library(),
        show_default=f"${LIBRARY_VARIABLE}, or the user data folder",
        help="The library's folder, or a Milvus collection: milvus+http://HOST:PORT/NAME.",
    )(function)


def open_any(place: Path | str, *, search_device: str = "cpu") -> AnyLibrary:
    """Opens a library in a folder (searched on ``search_device``) or a Milvus collection,
    read-only."""
    if isinstance(place, str):
        from sightline.indexer.milvus.library import MilvusLibrary

        return MilvusLibrary.open(place)
    return open_library(place, read_only=True, search_device=search_device)


def library_option(function: F) -> F:
    """``--library DIR``."""
    return click.option(
        "--library",
        "directory",
        type=Folder(),
        default=default_library,
        show_default=f"${LIBRARY_VARIABLE}, or the user data folder",
        help="The folder of the library.",
    )(function)


def device_option(function: F) -> F:
    """``--device``, for the model."""
    return click.option(
        "--device",
        default="auto",
        show_default=True,
        help="Where the model runs: auto, cpu, cuda, cuda:1, mps.",
    )(function)


DTYPES = ("auto", "float32", "bfloat16", "float16", "int8")


def dtype_option(function: F) -> F:
    """``--dtype``, of the model."""
    return click.option(
        "--dtype",
        type=click.Choice(DTYPES),
        default="auto",
        show_default=True,
        help="The precision of the model; int8 is for images only, on a CPU.",
    )(function)


def allow_root_option(function: F) -> F:
    """``--allow-root PATH``, for commands that add roots or serve them."""
    return click.option(
        "--allow-root",
        "allow_roots",
        multiple=True,
        metavar="PATH",
        type=click.Path(file_okay=False, path_type=Path),
        help="Confirm a folder with private or system files: /, the home folder itself, /etc,"
        " /proc, /sys, /dev, /boot; repeatable.",
    )(function)


def quiet_option(function: F) -> F:
    """``--quiet``: no progress."""
    return click.option("--quiet", "-q", is_flag=True, help="Show no progress.")(function)


def workers_option(function: F) -> F:
    """``--workers``, which decode images."""
    return click.option(
        "--workers",
        type=click.IntRange(1, 256),
        help="Number of decoding processes.  [default: one per core]",
    )(function)


def json_option(function: F) -> F:
    """``--json``: one document on standard output and nothing else."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON document on standard output."
    )(function)


def open_library(
    directory: Path, *, read_only: bool = False, search_device: str = "cpu"
) -> Library:
    """Opens the library in ``directory``. Raises LibraryError if there is none."""
    from sightline.indexer.library import Library

    return Library.open(directory, read_only=read_only, search_device=search_device)


def printable(path: Path | str) -> str:
    """``path``, or a text, for people: control characters, which could steer the terminal, become
    ``?``."""
    return "".join("?" if unicodedata.category(c) == "Cc" else c for c in str(path))


def print_path(path: Path, *, null: bool) -> None:
    """Prints ``path`` as a line, as ``ls`` does: ``printable`` on a terminal, else unchanged. With
    ``null``: unchanged, and a NUL byte."""
    text = str(path) if null or not sys.stdout.isatty() else printable(path)
    # As bytes: click removes escape sequences from text, and the path would not exist.
    click.echo(os.fsencode(text) + (b"\0" if null else b"\n"), nl=False)


def say(message: str) -> None:
    """Prints a line on standard error, ``printable``; standard output is for results."""
    click.echo(printable(message), err=True)


def say_dates(query: Query | SearchResult) -> None:
    """Prints on standard error which words of a query are read as dates."""
    for dated in query.interpreted:
        say(dated.sentence)


STDERR = 2
STOPPING = b"stopping after the current batch; press Ctrl-C again to stop at once\n"


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets; a second one raises KeyboardInterrupt."""
    stop = threading.Event()

    def ask() -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        # Not `say`: the signal may arrive while another line is written, which raises an error.
        with suppress(OSError):
            os.write(STDERR, STOPPING)

    with on_stop_signals(ask):
        yield stop


@contextmanager
def on_stop_signals(handler: Callable[[], None]) -> Iterator[None]:
    """Calls ``handler`` on Ctrl-C and SIGTERM during the block; no effect outside the main
    thread, which receives no signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: handler()) for number in numbers]
    try:
        yield
    finally:
        for number, previous in zip(numbers, before, strict=True):
            signal.signal(number, previous)


def print_json(document: Any) -> None:
    """Prints ``document`` as indented JSON on standard output."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    # A file name may contain what the terminal cannot encode; escapes always work.
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(document, indent=2)
    click.echo(text)
