"""``sightline mcp``: photo search for assistants, on standard input and output."""

from __future__ import annotations

import sys
import threading
from functools import partial
from pathlib import Path

import click

from sightline.server.commands.common import (
    allow_root_option,
    device_option,
    place_option,
    say,
)
from sightline.server.commands.serve import open_current, open_engine, require_mcp, warm


@click.command()
@click.option(
    "--absolute-paths",
    is_flag=True,
    help="Send the files' whole paths to the client; without it, paths start at the name of the"
    " indexed folder.",
)
@allow_root_option
@place_option
@device_option
def mcp(
    absolute_paths: bool, allow_roots: tuple[Path, ...], directory: Path | str, device: str
) -> None:
    """Serve the library to an assistant: an MCP server on standard input and output.

    \b
    claude mcp add photos -- sightline mcp
    sightline mcp --library ~/photos.library

    The client starts this command itself. Its tools search, and send photos that the assistant asks
    for; they never write. docs/mcp.md has the configuration of the usual clients. For clients on
    other machines: sightline serve --mcp.
    """
    require_mcp()
    import anyio

    from sightline.server.mcp.server import create_mcp_server, serve_stdio
    from sightline.server.mcp.tools import PhotoTools

    if sys.stdin.isatty():
        say("waiting for an MCP client on standard input; see docs/mcp.md (Ctrl-D to stop)")
    reopen = partial(open_engine, directory, device=device, allow_roots=allow_roots)
    with open_current(reopen, reopen) as engines:
        server = create_mcp_server(PhotoTools(engines, absolute=absolute_paths))

        def get_ready() -> None:
            with engines.lease() as engine:
                warm(engine.encoder, engine.library)

        # The first search would wait for the model; a thread must not outlive torch.
        warming = threading.Thread(target=get_ready, name="warm")
        warming.start()
        try:
            anyio.run(serve_stdio, server)
        finally:
            warming.join()
