"""``sightline collections``: list the collections of a library, or export one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sightline.indexer.errors import NotFoundError, UsageError
from sightline.server.commands.common import (
    json_option,
    library_option,
    open_library,
    print_json,
    print_path,
    say,
)

if TYPE_CHECKING:
    from sightline.indexer.library import Kept, Library
    from sightline.indexer.types import ImageRecord


@click.command()
@click.argument("name", required=False)
@click.option(
    "--zip",
    "zip_file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the original files to a new zip file.",
)
@click.option(
    "--links",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Fill a new folder with symbolic links to the files.",
)
@click.option("-0", "--null", is_flag=True, help="End each path with a NUL byte, for xargs -0.")
@json_option
@library_option
def collections(
    name: str | None,
    zip_file: Path | None,
    links: Path | None,
    null: bool,
    as_json: bool,
    directory: Path,
) -> None:
    """List the collections, or the files of the collection NAME in its order.

    \b
    sightline collections
    sightline collections Summer
    sightline collections Favourites --zip favourites.zip
    sightline collections Summer --links ~/Summer

    Collections are made on the page; Favourites is always there. Of identical files one is listed.
    Files that are not there now are left out.
    """
    with open_library(directory, read_only=True) as library:
        if name is None:
            if zip_file or links:
                raise click.UsageError("name the collection to export")
            list_collections(library.kept, as_json=as_json)
            return
        records, missing = files_of(library, name)
        if zip_file:
            write_zip(records, zip_file)
        if links:
            write_links(records, links)
    if as_json:
        paths = [str(record.absolute) for record in records]
        print_json({"collection": name, "missing": missing, "paths": paths})
    elif zip_file or links:
        for target in filter(None, (zip_file, links)):
            click.echo(f"{len(records):,} files in {target}")
    else:
        for record in records:
            print_path(record.absolute, null=null)
    if missing:
        say(f"{missing:,} left out: the file is not there now")


def list_collections(kept: Kept, *, as_json: bool) -> None:
    """Prints the number of photos and the name of each collection."""
    found = kept.collections()
    if as_json:
        print_json([asdict(one) for one in found])
        return
    for one in found:
        click.echo(f"{one.count:>9,}  {one.name}")


def files_of(library: Library, name: str) -> tuple[list[ImageRecord], int]:
    """One file for each photo of a collection, in its order, and the number of photos without one.
    NotFoundError that names the collections, if there is none of this name."""
    from sightline.server.search.originals import is_available

    try:
        collection = library.kept.collection_named(name)
    except NotFoundError as error:
        names = ", ".join(one.name for one in library.kept.collections())
        raise NotFoundError(f"{error}: there are {names}") from None
    files: dict[str, ImageRecord] = {}
    known: set[str] = set()
    for record in library.images(library.kept.images(collection.id).tolist()):
        content = record.content_hash or f"image:{record.id}"
        known.add(content)
        if content not in files and is_available(record):
            files[content] = record
    return list(files.values()), len(known) - len(files)


def write_zip(records: Sequence[ImageRecord], target: Path) -> None:
    """Writes the files of ``records`` to a new zip file; a failure leaves none."""
    from sightline.indexer.photo import Decoder
    from sightline.indexer.types import Geometry
    from sightline.server.web import zip_download

    if target.exists():
        raise UsageError(f"{target} is there already")
    draft = target.with_name(target.name + ".new")
    try:
        with Decoder(Geometry()) as decoder, draft.open("wb") as file:
            files = zip_download.contents(records, most=None)
            for part in zip_download.stream(files, decoder):
                file.write(part)
        draft.rename(target)
    finally:
        draft.unlink(missing_ok=True)


def write_links(records: Sequence[ImageRecord], target: Path) -> None:
    """Fills a new folder with a symbolic link to each file, under its own name."""
    target.mkdir(parents=True, exist_ok=True)
    if any(target.iterdir()):
        raise UsageError(f"{target} is not empty")
    taken: set[str] = set()
    for record in records:
        path = record.absolute
        name, number = path.name, 2
        while name.lower() in taken:
            name = f"{path.stem} ({number}){path.suffix}"
            number += 1
        taken.add(name.lower())
        (target / name).symlink_to(path)
