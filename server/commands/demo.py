"""``sightline demo``: the real thing on drawn pictures, with nothing to download."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from sightline.server.commands.common import say, stopping
from sightline.server.commands.progress import shown
from sightline.server.web.config import PORT, ServerConfig

PICTURES = 300


def default_directory() -> Path:
    """Where the gallery and its library are kept between two demos."""
    from platformdirs import user_data_path

    return user_data_path("sightline", appauthor=False) / "demo"


@click.command()
@click.option("--port", default=PORT, show_default=True, type=click.IntRange(0, 65535))
@click.option("--no-browser", is_flag=True, help="Do not open the page in a browser.")
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=default_directory,
    show_default="a folder of your user data",
    help="Where the drawn pictures and their library are kept.",
)
def demo(port: int, no_browser: bool, quiet: bool, directory: Path) -> None:
    """Draw a sample gallery, index it with the built-in model, and serve it.

    Needs no network. The second time it starts at once.
    """
    pictures = directory / "gallery"
    if not pictures.exists():
        draw(pictures, quiet=quiet)
    library_directory = directory / "library"
    forget_older_model(library_directory)
    from sightline.indexer.indexing.index_folders import index_folders

    with stopping() as stop, shown(quiet=quiet) as progress:
        report = index_folders(
            library_directory, pictures, model="builtin", device="cpu", progress=progress, stop=stop
        )
    if report.interrupted:
        raise click.Abort
    say(
        "The built-in model knows everyday things; the default model is the one for serious use:"
        " sightline index FOLDER"
    )
    from sightline.indexer.indexing.run import encoder_for
    from sightline.indexer.library.library import Library
    from sightline.server.commands.serve import run_server

    with Library.open(library_directory, read_only=True) as library:
        run_server(
            library,
            encoder_for(library, device="cpu"),
            ServerConfig(port=port),
            browse=not no_browser,
        )


def forget_older_model(library_directory: Path) -> None:
    """Removes a demo's library that an older built-in model made: it is made again in seconds."""
    from sightline.indexer.errors import ModelMismatchError
    from sightline.indexer.indexing.run import encoder_for
    from sightline.indexer.library.library import Library

    if not Library.exists(library_directory):
        return
    try:
        with Library.open(library_directory) as library:
            encoder_for(library, device="cpu")
    except ModelMismatchError:
        shutil.rmtree(library_directory)


def draw(pictures: Path, *, quiet: bool) -> None:
    """Renders the gallery beside its place and moves it there when it is whole."""
    from sightline.data.scenes.gallery import write_gallery

    unfinished = pictures.with_name("gallery.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    with shown(quiet=quiet) as progress:
        write_gallery(
            unfinished,
            count=PICTURES,
            progress=lambda done, total: progress("drawing the gallery", done, total),
        )
    unfinished.rename(pictures)
