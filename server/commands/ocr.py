"""``sightline ocr``: read the text in images."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from sightline.server.commands.common import (
    device_option,
    json_option,
    library_option,
    open_library,
    print_json,
    quiet_option,
    say_dates,
    stopping,
)
from sightline.server.commands.priority import nice_option
from sightline.server.commands.progress import shown


@click.command()
@click.argument("words", metavar="[QUERY]...", nargs=-1)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    help="Number of reading processes.  [default: one per core]",
)
@quiet_option
@nice_option
@json_option
@library_option
@device_option
def ocr(
    words: tuple[str, ...],
    workers: int | None,
    quiet: bool,
    as_json: bool,
    directory: Path,
    device: str,
) -> int:
    """Read the text in the images that match QUERY, or in all images.

    \b
    sightline ocr
    sightline ocr in:Screenshots
    sightline search text:invoice

    Only images that were not read yet are read, in processes of low priority. An interrupted run
    loses nothing: run it again. `sightline index --ocr` makes it part of every later run. Needs the
    extra `ocr`.
    """
    from sightline.indexer.indexing.read_texts import read_texts
    from sightline.indexer.photo.ocr import engine_name

    engine_name()  # before a model is loaded
    with open_library(directory) as library:
        ids = None
        if words:
            from sightline.indexer.indexing.encoders import encoder_for
            from sightline.server.search import SearchEngine, parse

            query = parse(" ".join(words))
            say_dates(query)
            encoder = encoder_for(library, device=device)
            with SearchEngine(library, encoder) as engine:
                ids = engine.ids(query)
        with stopping() as stop, shown(quiet=quiet) as progress:
            report = read_texts(library, ids, workers=workers, progress=progress, stop=stop)
    if as_json:
        print_json(asdict(report) | {"images_per_second": round(report.images_per_second, 2)})
    else:
        more = "".join(
            f", {count:,} {what}"
            for count, what in ((report.failed, "failed"), (report.skipped, "skipped"))
            if count
        )
        click.echo(
            f"{report.read:,} images read, {report.with_text:,} with text{more}"
            f" ({report.seconds:.1f} s, {report.images_per_second:.1f} images/s)"
        )
    return 1 if report.interrupted else 0
