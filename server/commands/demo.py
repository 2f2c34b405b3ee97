"""``sightline demo``: index and serve a generated gallery, without a network."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import click

from sightline.indexer.errors import LibraryBusyError
from sightline.server.commands.common import quiet_option, say, stopping
from sightline.server.commands.progress import shown
from sightline.server.web.config import PORT, ServerConfig

IMAGES = 300


def default_directory() -> Path:
    """The folder of the gallery and its library."""
    from platformdirs import user_data_path

    return user_data_path("sightline", appauthor=False) / "demo"


@click.command()
@click.option(
    "--port",
    default=PORT,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="The port to listen on; 0 chooses a free one.",
)
@click.option("--no-browser", is_flag=True, help="Do not open the page in a browser.")
@quiet_option
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=default_directory,
    show_default="a folder in the user data folder",
    help="The folder of the sample images and their library.",
)
def demo(port: int, no_browser: bool, quiet: bool, directory: Path) -> None:
    """Generate a sample gallery, index it with the built-in model, and serve it.

    Needs no network. Later runs reuse the gallery and start at once.
    """
    gallery = directory / "gallery"
    draw(gallery, quiet=quiet)
    library_directory = directory / "library"
    delete_outdated_library(library_directory)
    from sightline.indexer.indexing.index_folders import index_folders

    with stopping() as stop, shown(quiet=quiet) as progress:
        report = index_folders(
            library_directory, gallery, model="builtin", device="cpu", progress=progress, stop=stop
        )
    if report.interrupted:
        raise click.Abort
    say(
        "The built-in model knows everyday objects only. For your own images use the default model:"
        " sightline index FOLDER"
    )
    from sightline.server.commands.serve import open_current, open_engine, run_server

    reopen = partial(open_engine, library_directory, device="cpu")
    with open_current(reopen, reopen) as engines:
        run_server(engines, ServerConfig(port=port), browse=not no_browser)


def delete_outdated_library(library_directory: Path) -> None:
    """Deletes a demo library that was made with an older built-in model."""
    from sightline.indexer.errors import ModelMismatchError
    from sightline.indexer.indexing.encoders import encoder_for
    from sightline.indexer.library import Library

    if not Library.exists(library_directory):
        return
    try:
        with Library.open(library_directory) as library:
            encoder_for(library, device="cpu")
    except ModelMismatchError:
        shutil.rmtree(library_directory)


def draw(gallery: Path, *, quiet: bool) -> None:
    """Renders the gallery in a temporary folder and renames it to ``gallery`` when complete, unless
    it exists. LibraryBusyError while another process does so."""
    from filelock import FileLock, Timeout

    gallery.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(gallery.with_name("gallery.lock"), timeout=0):
            if gallery.exists():
                return
            from sightline.data.scenes import write_gallery

            unfinished = gallery.with_name("gallery.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            with shown(quiet=quiet) as progress:
                write_gallery(
                    unfinished,
                    count=IMAGES,
                    progress=lambda done, total: progress("drawing the gallery", done, total),
                )
            unfinished.rename(gallery)
    except Timeout as error:
        raise LibraryBusyError(
            f"another `sightline demo` is drawing the gallery in {gallery.parent}: wait for it"
        ) from error
