"""``sightline reencode``: give a library another model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from sightline.server.commands.common import (
    allow_root_option,
    device_option,
    dtype_option,
    json_option,
    library_option,
    print_json,
    quiet_option,
    say,
    stopping,
    workers_option,
)
from sightline.server.commands.priority import nice_option
from sightline.server.commands.progress import shown

if TYPE_CHECKING:
    from sightline.indexer.indexing.reencode import ReencodeReport


@click.command()
@click.option(
    "--model",
    help="The new model: a name from `sightline models`, a hub id or a folder.  [default: that of"
    " the interrupted run]",
)
@click.option(
    "--from",
    "pixels",
    type=click.Choice(["originals", "thumbnails"]),
    default="originals",
    show_default=True,
    help="Encode the image files, or the library's thumbnails of 512 pixels. Thumbnails also stand"
    " in for files that are not there.",
)
@click.option("--discard", is_flag=True, help="Drop what an interrupted run has encoded.")
@workers_option
@allow_root_option
@quiet_option
@nice_option
@json_option
@library_option
@device_option
@dtype_option
def reencode(
    model: str | None,
    pixels: Literal["originals", "thumbnails"],
    discard: bool,
    workers: int | None,
    allow_roots: tuple[Path, ...],
    quiet: bool,
    as_json: bool,
    directory: Path,
    device: str,
    dtype: str,
) -> int:
    """Encode all images of the library with another model.

    \b
    sightline reencode --model siglip2-b16
    sightline reencode --model siglip2-b16 --from thumbnails
    sightline reencode
    sightline reencode --discard

    The library answers with its old model, and can be indexed, until all images are encoded; then
    it has the new one at once, and a running server follows. Favourites, collections, saved
    searches, labels and metadata stay. An interrupted run loses nothing: run it again, without
    --model.
    """
    from sightline.indexer.indexing import reencode as reencoding

    if discard:
        if model is not None:
            raise click.UsageError("--discard and --model exclude each other")
        dropped = reencoding.discard(directory)
        if as_json:
            print_json({"discarded": dropped})
        else:
            say("dropped; the library is unchanged" if dropped else "there is nothing to drop")
        return 0
    with stopping() as stop, shown(quiet=quiet) as progress:
        report = reencoding.reencode(
            directory,
            model=model,
            device=device,
            dtype=dtype,
            pixels=pixels,
            workers=workers,
            allow_roots=allow_roots,
            on_note=lambda note: say(f"note: {note}"),
            progress=progress,
            stop=stop,
        )
    if as_json:
        print_json(
            asdict(report)
            | {
                "unreadable": [{"path": path, "reason": why} for path, why in report.unreadable],
                "seconds": round(report.seconds, 3),
                "images_per_second": round(report.images_per_second, 2),
            }
        )
    else:
        print_report(report)
    return 1 if report.interrupted else 0


def print_report(report: ReencodeReport) -> None:
    """Prints a summary."""
    for path, reason in report.unreadable[:10]:
        say(f"could not read {path}: {reason}")
    if len(report.unreadable) > 10:
        say(f"... and {len(report.unreadable) - 10:,} more: see `sightline failures`")
    encoded = report.from_originals + report.from_thumbnails
    summary = (
        f"{encoded:,} images encoded, {report.from_thumbnails:,} of them from thumbnails"
        f" ({report.seconds:.1f} s, {report.images_per_second:.1f} images/s)"
    )
    if report.interrupted:
        click.echo(f"{summary}; the library still has the model {report.previous}")
        say("interrupted; run `sightline reencode` to continue, with --discard to drop it")
    elif report.previous == report.model and not encoded:
        say(f"nothing to do: the library has the model {report.model}")
    else:
        click.echo(f"{summary}; {report.images:,} images now have the model {report.model}")
