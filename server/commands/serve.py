"""``sightline serve``: the web page and the API."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sightline.indexer.errors import SightlineError, UsageError
from sightline.indexer.files import sensitive
from sightline.indexer.installation import install_command
from sightline.server.commands.common import (
    allow_root_option,
    device_option,
    on_stop_signals,
    open_any,
    open_library,
    place_option,
    say,
    stopping,
)
from sightline.server.commands.progress import shown
from sightline.server.web.config import PORT, ServerConfig, read_token, token_path
from sightline.server.web.tuning import prepare_process

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder
    from sightline.indexer.library import AnyLibrary
    from sightline.server.search import SearchEngine
    from sightline.server.search.current_engine import CurrentEngine


@click.command()
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    default=PORT,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="The port to listen on; 0 chooses a free one.",
)
@click.option(
    "--host-name",
    "host_names",
    multiple=True,
    metavar="NAME",
    help="An additional host name under which browsers reach this server; repeatable. Requires a"
    " token.",
)
@click.option(
    "--trusted-proxy",
    metavar="ADDRESS",
    help="The IP address of your reverse proxy: its X-Forwarded-For, -Proto and -Host headers"
    " count. Requires a token.",
)
@click.option(
    "--base-path",
    default="",
    metavar="PATH",
    help="The path below which your reverse proxy serves this server, such as /photos. Requires a"
    " token.",
)
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file with the token that clients must send.  [default: $SIGHTLINE_TOKEN_FILE, or the"
    " token in $SIGHTLINE_TOKEN]",
)
@click.option(
    "--allow-origin",
    "origins",
    multiple=True,
    metavar="ORIGIN",
    help="Allow pages of another server (http://localhost:1234), such as clip-retrieval's front"
    " end, to use the clip-retrieval routes; repeatable.",
)
@click.option(
    "--threads",
    default=40,
    show_default=True,
    type=click.IntRange(1, 256),
    help="Threads that answer requests.",
)
@click.option(
    "--mcp",
    is_flag=True,
    help="Also serve /mcp, for assistants (Model Context Protocol). Requires the extra mcp.",
)
@allow_root_option
@click.option("--open", "browse", is_flag=True, help="Open the page in a browser.")
@place_option
@device_option
@click.option(
    "--search-device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where the vector index is searched: cuda for large libraries.",
)
def serve(
    paths: tuple[Path, ...],
    host: str,
    port: int,
    host_names: tuple[str, ...],
    trusted_proxy: str | None,
    base_path: str,
    token_file: Path | None,
    origins: tuple[str, ...],
    threads: int,
    mcp: bool,
    allow_roots: tuple[Path, ...],
    browse: bool,
    directory: Path | str,
    device: str,
    search_device: str,
) -> None:
    """Serve the library as a web page and a JSON API.

    \b
    sightline serve
    sightline serve ~/Pictures --open
    sightline serve --library milvus+http://localhost:19530/photos
    SIGHTLINE_TOKEN=... sightline serve --host 0.0.0.0 --mcp

    Each PATH is indexed first, as by `sightline index`. Images that are indexed while the server
    runs are found at once. Only this machine can reach the server unless --host, --host-name or
    --trusted-proxy say otherwise, which require a token.
    """
    config = ServerConfig(
        host=host,
        port=port,
        token=read_token(token_file),
        token_file=token_path(token_file),
        hosts=host_names,
        trusted_proxy=trusted_proxy,
        base_path=base_path.rstrip("/"),
        origins=origins,
        threads=threads,
        mcp=mcp,
    )
    if mcp:
        require_mcp()
    prepare_process()
    from sightline.indexer.indexing.encoders import encoder_for, load_encoder

    encoder: Encoder | None = None
    if isinstance(directory, str):
        if search_device != "cpu":
            raise click.UsageError("--search-device has no effect on a Milvus collection; omit it")
        if paths:
            raise click.UsageError(
                "a Milvus collection is filled by `sightline import --to milvus`; omit PATH"
            )
    elif search_device != "cpu":  # fail before an hour of indexing
        from sightline.indexer.vector_index import check_search_device

        check_search_device(search_device)
    if paths:
        from sightline.indexer.indexing.index_folders import index_folders
        from sightline.indexer.library import Library

        if isinstance(directory, Path) and Library.exists(directory):
            with open_library(directory, read_only=True) as existing:
                encoder = encoder_for(existing, device=device, download="never")
        else:
            encoder = load_encoder(device=device)
        with stopping() as stop, shown() as progress:
            report = index_folders(
                directory,
                paths,
                encoder=encoder,
                allow_roots=allow_roots,
                progress=progress,
                stop=stop,
            )
        if report.interrupted:
            raise click.Abort
    reopen = partial(
        open_engine,
        directory,
        device=device,
        search_device=search_device,
        allow_roots=allow_roots,
    )
    with open_current(partial(reopen, encoder=encoder), reopen) as engines:
        del encoder  # of which there may soon be another
        run_server(engines, config, browse=browse)


def open_engine(
    directory: Path | str,
    *,
    device: str,
    search_device: str = "cpu",
    allow_roots: Sequence[Path] = (),
    encoder: Encoder | None = None,
) -> SearchEngine:
    """Opens a library that is served and its encoder, unless that is given."""
    from sightline.indexer.indexing.encoders import encoder_for
    from sightline.server.search import SearchEngine

    library = open_any(directory, search_device=search_device)
    try:
        with opening(library):
            # A library that someone else made may claim any folder of this machine.
            sensitive.refuse([Path(root["path"]) for root in library.roots()], allow_roots)
            encoder = encoder or encoder_for(library, device=device, download="never")
        return SearchEngine(library, encoder)
    except BaseException:
        library.close()
        raise


def open_current(
    first: Callable[[], SearchEngine], again: Callable[[], SearchEngine]
) -> CurrentEngine:
    """The engine that ``first`` opens, replaced by the one that ``again`` opens, ready to search,
    when the library has another model."""
    from sightline.server.search.current_engine import CurrentEngine

    def ready() -> SearchEngine:
        engine = again()
        warm(engine.encoder, engine.library)
        say(f"the library has the model {engine.library.model} now")
        return engine

    return CurrentEngine(first(), ready)


def run_server(engines: CurrentEngine, config: ServerConfig, *, browse: bool = False) -> None:
    """Listens until Ctrl-C or SIGTERM, then finishes the requests in progress and returns."""
    from sightline.server.search.language import load_language_model
    from sightline.server.web.app import create_app
    from sightline.server.web.tuning import freeze_heap, limit_blas_threads
    from sightline.server.web.waitress_server import Server

    limit_blas_threads()
    server = Server(create_app(engines, config=config), config)
    name = f"[{config.host}]" if ":" in config.host else config.host
    url = f"http://{name}:{server.port}{config.base_path}/"

    def get_ready() -> None:
        with engines.lease() as engine:
            warm(engine.encoder, engine.library)
            load_language_model(engine.library.model)
            freeze_heap()

    # Not a daemon: torch aborts the process when Python exits under one of its threads.
    warming = threading.Thread(target=get_ready, name="warm")

    def ready() -> None:
        with engines.lease() as engine:
            say(f"{engine.library.count:,} images at {url} (Ctrl-C to stop)")
        warming.start()
        if browse:
            click.launch(url)

    with on_stop_signals(server.stop):
        server.run(ready=ready)
    if warming.is_alive():
        warming.join()
    say("stopped")


@contextmanager
def opening(library: AnyLibrary) -> Iterator[None]:
    """Opens the vector index in a thread while the block loads the model. Verifying checksums takes
    a second per million images. ``warm`` repeats and reports an error."""

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
    """Opens the vector index and reads the sample, unless that has happened."""
    _ = library.index_state
    library.sample()


def warm(encoder: Encoder, library: AnyLibrary) -> None:
    """Loads what the first search needs. An error is a warning here: that search reports it."""
    try:
        encoder.warm(("text",))
        read_index(library)
        state = library.index_state
    except SightlineError as error:
        say(f"warning: {error}")
        return
    if state.device == "cuda":
        say("searches run on the GPU, filtered searches on the CPU")
    elif state.device_note:
        say(f"searches run on the CPU: {state.device_note}")


def require_mcp() -> None:
    """Raises ``UsageError`` unless the extra ``mcp`` is installed."""
    if util.find_spec("mcp") is None:
        raise UsageError(f"MCP needs its SDK: {install_command('mcp')}")
