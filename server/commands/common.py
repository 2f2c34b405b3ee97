"""What the subcommands share: the library option, opening things, printing, and asking nicely."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sightline.indexer.milvus.connection import is_address

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder
    from sightline.indexer.library.interface import AnyLibrary
    from sightline.indexer.library.library import Library

F = TypeVar("F", bound=Callable[..., Any])

LIBRARY_VARIABLE = "SIGHTLINE_LIBRARY"


def default_library() -> Path:
    """Where the library is when nobody says otherwise: ``$SIGHTLINE_LIBRARY`` or the platform's
    folder for user data."""
    chosen = os.environ.get(LIBRARY_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_data_path

    return user_data_path("sightline", appauthor=False) / "library"


class Folder(click.Path):
    """A folder; the address of a collection is told apart from one with a strange name."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A path. Usage error for the address of a collection."""
        if isinstance(value, str) and is_address(value):
            self.fail("this command works on a library in a folder, not on Milvus", param, ctx)
        return super().convert(value, param, ctx)


class FolderOrAddress(click.Path):
    """A folder, or the address of a Milvus collection, which stays text."""

    name = "directory or address"

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A path, or the text of an address."""
        if isinstance(value, str) and is_address(value):
            return value
        return super().convert(value, param, ctx)


def place_option(function: F) -> F:
    """``--library DIR|ADDRESS``, for commands that only ask."""
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
    """The library in a folder or at the address of a collection, for asking only.
    ``search_device`` is for one in a folder."""
    if isinstance(place, str):
        from sightline.indexer.milvus.library import MilvusLibrary

        return MilvusLibrary.open(place)
    return open_library(place, read_only=True, search_device=search_device)


def library_option(function: F) -> F:
    """``--library DIR``: every command that touches a library takes it."""
    return click.option(
        "--library",
        "directory",
        type=Folder(),
        default=default_library,
        show_default=f"${LIBRARY_VARIABLE}, or the user data folder",
        help="The folder that holds the library.",
    )(function)


def device_option(function: F) -> F:
    """``--device``: where the model runs."""
    return click.option(
        "--device",
        default="auto",
        show_default=True,
        help="Where the model runs: auto, cpu, cuda, cuda:1, mps.",
    )(function)


def json_option(function: F) -> F:
    """``--json``: one document on standard output and nothing else there."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON document on standard output."
    )(function)


def open_library(
    directory: Path, *, read_only: bool = False, search_device: str = "cpu"
) -> Library:
    """The library in ``directory``, or an error that says how to make one."""
    from sightline.indexer.library.library import Library

    return Library.open(directory, read_only=read_only, search_device=search_device)


def load_encoder(library: AnyLibrary, device: str) -> Encoder:
    """The model that ``library`` was made with."""
    from sightline.indexer.encoder import Encoder

    encoder = Encoder.load(library.model, device=device, revision=library.revision)
    library.check_model(encoder.model, encoder.revision, encoder.dimension)
    return encoder


def say(message: str) -> None:
    """A line for the person, on standard error: standard output is for results."""
    click.echo(message, err=True)


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets; a second Ctrl-C stops at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        say("stopping after the pictures in hand; once more to stop at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def print_json(document: Any) -> None:
    """``document`` as indented JSON on standard output, UTF-8 whatever the locale is."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    # A file name may hold what the terminal's encoding cannot write; JSON can always escape it.
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(document, indent=2)
    click.echo(text)
