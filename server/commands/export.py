"""``sightline export``: write embeddings and metadata to files for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import click

from sightline.server.commands.common import (
    json_option,
    library_option,
    open_library,
    print_json,
    quiet_option,
)
from sightline.server.commands.progress import shown


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "layout",
    type=click.Choice(["parquet", "npy", "jsonl"]),
    help="The file format.  [default: by the extension of TARGET; npy without one]",
)
@click.option(
    "--only",
    metavar="FILTERS",
    default="",
    help='Export only images that match these filters: --only "in:Holidays rating:4".',
)
@quiet_option
@json_option
@library_option
def export(
    target: Path, layout: str | None, only: str, quiet: bool, as_json: bool, directory: Path
) -> None:
    """Write the embeddings and the metadata of each image to TARGET.

    \b
    sightline export pictures.parquet
    sightline export clip-set --format npy
    sightline export holidays.jsonl --only "in:Holidays"

    npy is clip-retrieval's folder (img_emb/img_emb_0.npy, metadata/metadata_0.parquet). parquet
    and npy need the extra `exchange`. `sightline import` reads all three.
    """
    from sightline.indexer.exchange import Format, write_set
    from sightline.server.search import parse

    extension = target.suffix.lstrip(".")
    chosen = layout or (extension if extension in ("parquet", "jsonl") else "npy")
    query = parse(only, dates=False)
    if query.terms:
        raise click.UsageError(f"--only takes filters (in:Holidays), and {only!r} contains text")
    with open_library(directory, read_only=True) as library, shown(quiet=quiet) as progress:
        count = write_set(
            library,
            target,
            format=cast(Format, chosen),
            ids=library.select(query.filters),
            progress=progress,
        )
    if as_json:
        print_json({"images": count, "format": chosen, "path": str(target)})
    else:
        click.echo(f"{count:,} images written to {target} ({chosen})")
