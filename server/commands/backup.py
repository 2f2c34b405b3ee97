"""``sightline backup`` and ``sightline restore``: copies of a library."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sightline.server.commands.common import (
    json_option,
    library_option,
    open_library,
    print_json,
    say,
)

if TYPE_CHECKING:
    from sightline.indexer.library.backup import Backup


@click.command()
@click.argument("target", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@json_option
@library_option
def backup(target: Path, as_json: bool, directory: Path) -> None:
    """Copy the library to DIR, also while it is searched and indexed.

    \b
    sightline backup /mnt/backup/photos.library

    The copy is a library itself: `--library DIR` searches it, and `sightline restore DIR` brings it
    back. An earlier backup in DIR is replaced once the new one is complete. The photos are not
    copied.
    """
    from sightline.indexer.library.backup import back_up

    with open_library(directory, read_only=True) as library:
        made = back_up(library, target, replace=True)
    _print(made, as_json=as_json)


@click.command()
@click.argument(
    "source", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@json_option
@library_option
def restore(source: Path, as_json: bool, directory: Path) -> None:
    """Copy the backup in DIR to the library's folder, which must not contain a library.

    \b
    sightline restore /mnt/backup/photos.library

    Searches return what they returned when the backup was made. If the photos have moved since:
    sightline roots --move OLD NEW.
    """
    from sightline.indexer.library.backup import back_up

    with open_library(source, read_only=True) as library:
        made = back_up(library, directory, replace=False)
        away = [root["path"] for root in library.roots() if not root["available"]]
    _print(made, as_json=as_json)
    for path in away:
        say(f"note: there is no folder {path} now; if it has moved: sightline roots --move OLD NEW")


def _print(made: Backup, *, as_json: bool) -> None:
    if as_json:
        print_json({"library": str(made.directory), "images": made.images, "bytes": made.bytes})
    else:
        click.echo(f"{made.images:,} images, {made.bytes / 1e6:,.1f} MB in {made.directory}")
