"""``sightline index``: create a library or bring it up to date."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sightline.indexer.errors import LibraryBusyError, LibraryError, ModelMismatchError
from sightline.server.commands.common import (
    device_option,
    json_option,
    library_option,
    print_json,
    say,
)
from sightline.server.commands.progress import shown

if TYPE_CHECKING:
    from sightline.indexer.library.library import Library
    from sightline.indexer.types import IndexReport

BUSY_SECONDS = 2.0
"""How long to wait when another process writes to the library."""


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
    help="Leave out what matches, in the manner of .gitignore; may be given several times.",
)
@click.option(
    "--prune",
    is_flag=True,
    help="Let pictures leave the library even when much of a folder is missing at once.",
)
@click.option(
    "--retry-failures",
    is_flag=True,
    help="Try again what could not be read before, though it has not changed since.",
)
@click.option("--workers", type=click.IntRange(1, 256), help="Processes that read pictures.")
@click.option(
    "--watch",
    is_flag=True,
    help="Go on watching the folders, and index what comes, changes and goes, until Ctrl-C.",
)
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
@json_option
@library_option
@device_option
def index(
    paths: tuple[Path, ...],
    model: str | None,
    exclude: tuple[str, ...],
    prune: bool,
    retry_failures: bool,
    workers: int | None,
    watch: bool,
    quiet: bool,
    as_json: bool,
    directory: Path,
    device: str,
) -> int:
    """Index the pictures below each PATH, or look again at all folders indexed before.

    \b
    sightline index ~/Pictures
    sightline index ~/Pictures --exclude "Screenshots/" --model siglip2-b16
    sightline index
    sightline index --watch

    Only what is new or changed is read. Run it as often as you like; stop it when you like.
    """
    report = index_paths(
        paths,
        directory=directory,
        model=model,
        device=device,
        exclude=exclude,
        prune=prune,
        retry_failures=retry_failures,
        workers=workers,
        watched=(print_watched if as_json else print_report) if watch else None,
        quiet=quiet,
    )
    if watch:
        return 0
    if as_json:
        print_json(report_as_dict(report))
    else:
        print_report(report)
    return 1 if report.interrupted else 0


def index_paths(
    paths: tuple[Path, ...],
    *,
    directory: Path,
    model: str | None,
    device: str,
    exclude: tuple[str, ...] = (),
    prune: bool = False,
    retry_failures: bool = False,
    workers: int | None = None,
    watched: Callable[[IndexReport], None] | None = None,
    quiet: bool = False,
) -> IndexReport:
    """One run with progress on standard error; Ctrl-C stops it after the batch in flight.

    With ``watched`` the library's folders are watched from then on, until Ctrl-C or SIGTERM, and
    every run that did anything is told to it, the first one always.
    """
    from sightline.indexer.indexing import run as pipeline
    from sightline.indexer.library.library import Library

    if Library.exists(directory):
        library = Library.open(directory)
        if model and not pipeline.made_with(library, model):
            made_with = library.model
            library.close()
            raise ModelMismatchError(
                f"the library in {directory} was made with {made_with}, not {model}: leave out"
                " --model, or choose another folder with --library"
            )
        encoder = pipeline.encoder_for(library, device=device)
    else:
        if not paths:
            raise click.UsageError("name the folder to index: sightline index FOLDER")
        pipeline.check_paths(paths)
        encoder = pipeline.load_encoder(model, device=device)
        library = Library.create(
            directory,
            model=encoder.model,
            revision=encoder.revision,
            dimension=encoder.dimension,
        )
    with library, stopping() as stop, shown(quiet=quiet) as progress:
        run = partial(
            pipeline.run,
            library,
            encoder,
            exclude=exclude,
            workers=workers,
            progress=progress,
            stop=stop,
        )
        report = run(paths, prune=prune, retry_failures=retry_failures)
        if watched is not None and not report.interrupted:
            watched(report)
            keep_up(library, run, watched, stop)
        return report


def keep_up(
    library: Library,
    run: Callable[[Sequence[Path]], IndexReport],
    watched: Callable[[IndexReport], None],
    stop: threading.Event,
    *,
    quiet: float | None = None,
) -> None:
    """Runs over what changes in the folders of ``library``, and is at rest for ``quiet`` seconds,
    until ``stop`` is set. While another process writes, it waits its turn."""
    from sightline.indexer.files.watch import QUIET, changes

    roots = [path for path in library.root_paths() if path.is_dir()]
    if not roots:
        raise LibraryError("none of the library's folders is there: there is nothing to watch")
    say(f"watching {', '.join(map(str, roots))} (Ctrl-C to stop)")
    told: tuple[str, ...] = ()
    for changed in changes(roots, stop, quiet=quiet or QUIET):
        report: IndexReport | None = None
        while report is None and not stop.is_set():
            try:
                report = run(changed)
            except LibraryBusyError:
                stop.wait(BUSY_SECONDS)
        if report is None:
            return
        if report.added + report.updated + report.moved + report.removed or (
            report.held_back and report.held_back != told
        ):
            watched(report)
        told = report.held_back


def print_watched(report: IndexReport) -> None:
    """One JSON document a line."""
    click.echo(json.dumps(report_as_dict(report)))


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets; a second Ctrl-C stops at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        say("stopping after the pictures in hand; once more to stop at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
        "failures": [
            {"path": str(Path(failure.root) / failure.path), "reason": failure.reason}
            for failure in report.failures
        ],
        "held_back": list(report.held_back),
        "interrupted": report.interrupted,
        "seconds": round(report.seconds, 3),
        "images_per_second": round(report.images_per_second, 2),
        "library": report.library,
        "model": report.model,
    }


def print_report(report: IndexReport) -> None:
    """The run in a few lines, for a person."""
    counts = ", ".join(
        f"{number:,} {word}"
        for word in ("added", "updated", "moved", "removed", "unchanged", "failed")
        if (number := getattr(report, word)) or word == "added"
    )
    click.echo(f"{report.found:,} pictures found: {counts} ({report.seconds:.1f} s)")
    for line in report.held_back:
        say(f"warning: {line}")
    for failure in report.failures[:10]:
        say(f"could not read {Path(failure.root) / failure.path}: {failure.reason}")
    if len(report.failures) > 10:
        say(f"... and {len(report.failures) - 10:,} more: see `sightline failures`")
    if report.interrupted:
        say("stopped early; run the same command again to go on")
