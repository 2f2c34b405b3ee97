"""Progress of an indexing run on standard error: a bar on a terminal, a line now and then else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sightline.server.commands.common import say

if TYPE_CHECKING:
    from sightline.indexer.indexing.run import Progress

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def shown(*, quiet: bool = False) -> Iterator[Callable[[Progress], None]]:
    """A function that shows each ``Progress`` given to it until the block ends."""
    if quiet:
        yield lambda progress: None
    elif sys.stderr.isatty():
        with terminal_bar() as show:
            yield show
    else:
        yield occasional_lines()


@contextmanager
def terminal_bar() -> Iterator[Callable[[Progress], None]]:
    """A bar with rate and time left."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("starting", total=None, rate="")

        def show(progress: Progress) -> None:
            rate = f"{progress.rate:,.1f}/s" if progress.rate else ""
            bars.update(
                task,
                description=progress.phase,
                completed=progress.done,
                total=progress.total,
                rate=rate,
            )

        yield show


def occasional_lines() -> Callable[[Progress], None]:
    """A function that prints a line for each new phase and every ten seconds."""
    last_phase = ""
    last_time = 0.0

    def show(progress: Progress) -> None:
        nonlocal last_phase, last_time
        now = time.monotonic()
        if progress.phase == last_phase and now - last_time < SECONDS_BETWEEN_LINES:
            return
        last_phase, last_time = progress.phase, now
        of = f" of {progress.total:,}" if progress.total else ""
        rate = f", {progress.rate:,.1f}/s" if progress.rate else ""
        left = f", {progress.seconds_left:,.0f} s left" if progress.seconds_left else ""
        say(f"{progress.phase}: {progress.done:,}{of}{rate}{left}")

    return show
