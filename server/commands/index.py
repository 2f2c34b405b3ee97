"""``sightline index``: create or update a library."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sightline.indexer.errors import ModelChangedError
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
from sightline.server.commands.priority import collect_garbage_rarely, nice_option
from sightline.server.commands.progress import shown

if TYPE_CHECKING:
    from sightline.indexer.types import IndexReport


@click.command()
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--model",
    help="The model of a new library: a name from `sightline models`, a hub id or a folder.",
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help="Exclude files that match a .gitignore pattern; repeatable.",
)
@click.option(
    "--include-nomedia", is_flag=True, help="Index folders that hold a .nomedia file too."
)
@click.option(
    "--prune",
    is_flag=True,
    help="Delete missing images from the library even if most of a folder is missing.",
)
@click.option(
    "--retry-failures",
    is_flag=True,
    help="Read all failed files again, also those that have not changed.",
)
@click.option(
    "--reread",
    is_flag=True,
    help="Read all files again for their metadata, also those that have not changed. Only images"
    " whose pixels differ are encoded again.",
)
@workers_option
@click.option(
    "--ocr/--no-ocr",
    default=None,
    help="Read the text in images in this and every later run, or no longer.  [default: as before]",
)
@click.option(
    "--watch",
    is_flag=True,
    help="Keep running: watch the folders and index changes until Ctrl-C.",
)
@click.option(
    "--follow-links",
    is_flag=True,
    help="Index the folders that symbolic links lead to, outside PATH, as folders of their own.",
)
@allow_root_option
@quiet_option
@nice_option
@json_option
@library_option
@device_option
@dtype_option
def index(
    paths: tuple[Path, ...],
    model: str | None,
    exclude: tuple[str, ...],
    include_nomedia: bool,
    prune: bool,
    retry_failures: bool,
    reread: bool,
    workers: int | None,
    ocr: bool | None,
    watch: bool,
    follow_links: bool,
    allow_roots: tuple[Path, ...],
    quiet: bool,
    as_json: bool,
    directory: Path,
    device: str,
    dtype: str,
) -> int:
    """Index the images below each PATH, or update all folders indexed before.

    \b
    sightline index ~/Pictures
    sightline index ~/Pictures --exclude "Screenshots/" --model siglip2-b16
    sightline index
    sightline index --watch
    sightline index --reread ~/Pictures/2019

    Only new and changed files are read. An interrupted run loses nothing: run it again.
    """
    collect_garbage_rarely()
    with stopping() as stop, shown(quiet=quiet) as progress:
        from sightline.indexer.indexing.index_folders import index_folders

        update = partial(
            index_folders,
            directory,
            device=device,
            dtype=dtype,
            exclude=exclude,
            include_nomedia=include_nomedia,
            workers=workers,
            allow_roots=allow_roots,
            follow_links=follow_links,
            ocr=ocr,
            on_report=(print_json_line if as_json else print_report) if watch else None,
            progress=progress,
            stop=stop,
        )
        first = partial(
            update,
            paths,
            model=model,
            prune=prune,
            retry_failures=retry_failures,
            reread=reread,
        )
        report = watched(first, update) if watch else first()
    if watch:
        return 0
    if as_json:
        print_json(report_as_dict(report))
    else:
        print_report(report)
    return 1 if report.interrupted else 0


def watched(first: Callable[[], IndexReport], again: Callable[[], IndexReport]) -> IndexReport:
    """The report of ``first``, which watches; of ``again`` whenever `sightline reencode` has given
    the library another model."""
    call = first
    while True:
        try:
            return call()
        except ModelChangedError:
            say("the library has another model now, with which watching goes on")
            call = again


def print_json_line(report: IndexReport) -> None:
    """Prints the report as one line of JSON."""
    click.echo(json.dumps(report_as_dict(report)))


def report_as_dict(report: IndexReport) -> dict[str, Any]:
    """The document that ``index --json`` prints."""
    return {
        "found": report.found,
        "added": report.added,
        "updated": report.updated,
        "moved": report.moved,
        "removed": report.removed,
        "unchanged": report.unchanged,
        "failed": report.failed,
        "texts_read": report.texts_read,
        "failures": [
            {"path": str(Path(failure.root) / failure.path), "reason": failure.reason}
            for failure in report.failures
        ],
        "held_back": list(report.held_back),
        "notes": list(report.notes),
        "interrupted": report.interrupted,
        "seconds": round(report.seconds, 3),
        "images_per_second": round(report.images_per_second, 2),
        "library": report.library,
        "model": report.model,
    }


def print_report(report: IndexReport) -> None:
    """Prints a summary of the run."""
    counts = ", ".join(
        f"{number:,} {word}"
        for word in ("added", "updated", "moved", "removed", "unchanged", "failed")
        if (number := getattr(report, word)) or word == "added"
    )
    found = "1 image" if report.found == 1 else f"{report.found:,} images"
    click.echo(f"{found} found: {counts} ({report.seconds:.1f} s)")
    if report.texts_read:
        click.echo(f"the text of {report.texts_read:,} images was read")
    for line in report.notes:
        say(f"note: {line}")
    for line in report.held_back:
        say(f"warning: {line}")
    for failure in report.failures[:10]:
        say(f"could not read {Path(failure.root) / failure.path}: {failure.reason}")
    if len(report.failures) > 10:
        say(f"... and {len(report.failures) - 10:,} more: see `sightline failures`")
    if report.interrupted:
        say("interrupted; run the same command again to continue")
