"""``sightline serve``: the page and the API, in this process."""

from __future__ import annotations

import ctypes
import gc
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sightline.indexer.errors import SightlineError
from sightline.server.commands.common import (
    device_option,
    load_encoder,
    open_any,
    place_option,
    say,
    stopping,
)
from sightline.server.commands.progress import shown
from sightline.server.web.config import PORT, ServerConfig, read_token

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder
    from sightline.indexer.library.interface import AnyLibrary
    from sightline.indexer.types import IndexState
    from sightline.server.web.waitress_server import Server


@click.command()
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=PORT, show_default=True, type=click.IntRange(0, 65535))
@click.option(
    "--host-name",
    "host_names",
    multiple=True,
    metavar="NAME",
    help="A further name under which browsers reach this server; may be given several times.",
)
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file with the token that visitors must show; else $SIGHTLINE_TOKEN is looked at.",
)
@click.option(
    "--allow-origin",
    "origins",
    multiple=True,
    metavar="ORIGIN",
    help="Let the page of another server (http://localhost:1234), such as clip-retrieval's front"
    " end, use clip-retrieval's protocol here; may be given several times.",
)
@click.option("--threads", default=40, show_default=True, type=click.IntRange(1, 256))
@click.option("--open", "browse", is_flag=True, help="Open the page in a browser.")
@place_option
@device_option
@click.option(
    "--search-device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where the vector index of a large library is searched.",
)
def serve(
    paths: tuple[Path, ...],
    host: str,
    port: int,
    host_names: tuple[str, ...],
    token_file: Path | None,
    origins: tuple[str, ...],
    threads: int,
    browse: bool,
    directory: Path | str,
    device: str,
    search_device: str,
) -> None:
    """Serve the library as a web page and an API.

    \b
    sightline serve
    sightline serve ~/Pictures --open
    sightline serve --library milvus+http://localhost:19530/photos
    SIGHTLINE_TOKEN=... sightline serve --host 0.0.0.0

    Each PATH given is indexed first, as `sightline index` does. Pictures indexed meanwhile are
    found at once. Only this machine can reach the page unless --host says otherwise, and then
    everybody must show a token.
    """
    config = ServerConfig(
        host=host,
        port=port,
        token=read_token(token_file),
        hosts=host_names,
        origins=origins,
        threads=threads,
    )
    share_memory()
    sys.setswitchinterval(SWITCH_SECONDS)
    if search_device != "cpu":  # said before an hour of indexing
        if isinstance(directory, str):
            raise click.UsageError("Milvus searches a collection itself: leave out --search-device")
        from sightline.indexer.vector_index.index import check_search_device

        check_search_device(search_device)
    if paths:
        if isinstance(directory, str):
            raise click.UsageError("a collection is filled by `sightline import --to milvus`")
        from sightline.indexer.indexing.index_folders import index_folders

        with stopping() as stop, shown() as progress:
            report = index_folders(directory, paths, device=device, progress=progress, stop=stop)
        if report.interrupted:
            raise click.Abort
    with closing(open_any(directory, search_device=search_device)) as library, opening(library):
        run_server(library, load_encoder(library, device), config, browse=browse)


SWITCH_SECONDS = 0.0002
"""After which a thread that computes in Python lets another one do so; 5 ms unless told otherwise.
A thumbnail asks for its turn several times, and each time waits so long for every search. Under the
load of docs/reliability.md the p99 of what is known of one picture is 16 ms so, and 31 with 1."""

ARENAS = 2
"""Of glibc's allocator, which makes one for each thread, up to eight a core; each keeps what its
largest search took."""

_M_ARENA_MAX = -8
"""As in glibc's malloc.h."""


def share_memory() -> None:
    """Lets the threads that are still to come take their memory from the same few places, where
    the C library has such a setting. After filtered searches of 100,000 pictures by sixteen
    clients at once the server holds 242 MiB and not 381 (docs/reliability.md)."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS)


def spare_the_collector() -> None:
    """Takes everything that is there by now out of Python's garbage collection. A search makes
    thousands of small objects, which brings the collector, and it looked at 266,000 of the model's
    and the libraries' own each time: 0.16 s on an idle machine, in which no other thread works."""
    gc.collect()
    gc.freeze()


def keep_products_single() -> None:
    """Lets numpy multiply on one thread; torch and FAISS have threads of their own.

    A search multiplies small matrices. OpenBLAS splits even those over all cores and lets its
    threads wait for each other by spinning: where something else runs too, 2 ms become a second.
    Searching on two cores with a load of 20 beside it, p95 1,309 -> 56 ms (docs/benchmarks.md).
    """
    from threadpoolctl import ThreadpoolController

    # numpy's OpenBLAS starts threads itself. FAISS's is built on OpenMP: a limit for that one would
    # be a limit for FAISS's searches.
    ThreadpoolController().select(threading_layer="pthreads").limit(limits=1)


def run_server(
    library: AnyLibrary, encoder: Encoder, config: ServerConfig, *, browse: bool = False
) -> None:
    """Listens until Ctrl-C or SIGTERM, and then answers what was asked before it returns."""
    from sightline.server.search.engine import SearchEngine
    from sightline.server.search.language import load_language_model
    from sightline.server.web.app import create_app
    from sightline.server.web.turns import aside
    from sightline.server.web.waitress_server import Server

    keep_products_single()
    with SearchEngine(library, encoder, yielding=aside) as engine:
        server = Server(create_app(engine, config=config), config)
        name = f"[{config.host}]" if ":" in config.host else config.host
        url = f"http://{name}:{server.port}/"

        # The first search should not wait for the model to be read from disk. Not a daemon: torch
        # aborts the process when Python ends under a thread of its own.
        def get_ready() -> None:
            warm(encoder, library)
            load_language_model(library.model)
            spare_the_collector()

        warming = threading.Thread(target=get_ready, name="warm")

        def ready() -> None:
            say(f"{library.count:,} pictures at {url} (Ctrl-C to stop)")
            warming.start()
            if browse:
                click.launch(url)

        with stopped_by_signals(server):
            server.run(ready=ready)
        if warming.is_alive():
            warming.join()
        say("stopped")


@contextmanager
def opening(library: AnyLibrary) -> Iterator[None]:
    """Opens the vector index while the model is loaded: its checksums and the library's sample are
    a second of reading at a million pictures, and a model is loaded by one core. What goes wrong
    here goes wrong again in ``warm``, which tells."""

    def read() -> None:
        with suppress(SightlineError):
            read_index(library)

    reading = threading.Thread(target=read, name="open")
    reading.start()
    try:
        yield
    finally:
        reading.join()


def read_index(library: AnyLibrary) -> None:
    """Opens the index and reads the sample, unless that was done."""
    _ = library.index_state
    library.sample()


def warm(encoder: Encoder, library: AnyLibrary) -> None:
    """Loads what the first search needs. An error here is told by that search."""
    try:
        encoder.warm(("text",))
        read_index(library)
        tell_device(library.index_state)
    except SightlineError as error:
        say(f"warning: {error}")


def tell_device(state: IndexState) -> None:
    """Says where the index is searched, if a GPU was asked for."""
    if state.device == "cuda":
        say("searches run on the GPU, filtered ones on the processor")
    elif state.device_note:
        say(f"searches run on the processor: {state.device_note}")


@contextmanager
def stopped_by_signals(server: Server) -> Iterator[None]:
    """Ctrl-C and SIGTERM end ``server`` in an orderly way."""

    def stop(number: int, frame: Any) -> None:
        server.stop()

    before: dict[int, Callable[..., Any] | int | None] = {
        number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
