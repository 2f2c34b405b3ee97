"""Progress on standard error: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sightline.server.commands.common import printable, say

if TYPE_CHECKING:
    from sightline.indexer.types import Progress

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def shown(*, quiet: bool = False) -> Iterator[Progress]:
    """A ``Progress`` that is shown on standard error until the block ends; ``quiet`` hides it."""
    if quiet:
        from sightline.indexer.types import no_progress

        yield no_progress
    elif sys.stderr.isatty():
        with terminal_bar() as show:
            yield show
    else:
        yield occasional_lines()


class PhaseRate:
    """Items per second since the current phase began."""

    def __init__(self) -> None:
        self._phase = ""
        self._start = self._first = 0.0

    def of(self, phase: str, done: int) -> float | None:
        """The rate, or None while nothing has been done since the first call for ``phase``. What
        follows in parentheses in ``phase`` may change: ``embedding (3 of 9 shards)``."""
        now = time.monotonic()
        name = phase.partition(" (")[0]
        if name != self._phase:
            self._phase, self._start, self._first = name, now, done
        return (done - self._first) / (now - self._start) if done > self._first else None


@contextmanager
def terminal_bar() -> Iterator[Progress]:
    """A bar with rate and time left."""
    from rich import progress as rich_progress
    from rich.console import Console

    columns = (
        rich_progress.SpinnerColumn(),
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TextColumn("{task.fields[rate]}"),
        rich_progress.TimeRemainingColumn(),
    )
    with rich_progress.Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("starting", total=None, rate="")
        rates = PhaseRate()

        def show(phase: str, done: int, total: int | None, /) -> None:
            rate = rates.of(phase, done)
            shown_rate = f"{rate:,.1f}/s" if rate else ""
            bars.update(
                task, description=printable(phase), completed=done, total=total, rate=shown_rate
            )

        yield show


def occasional_lines() -> Progress:
    """A ``Progress`` that prints a line for each new phase and every ten seconds."""
    last_phase = ""
    last_time = 0.0
    rates = PhaseRate()

    def show(phase: str, done: int, total: int | None, /) -> None:
        nonlocal last_phase, last_time
        now = time.monotonic()
        rate = rates.of(phase, done)
        if phase == last_phase and now - last_time < SECONDS_BETWEEN_LINES:
            return
        last_phase, last_time = phase, now
        of = f" of {total:,}" if total else ""
        speed = f", {rate:,.1f}/s" if rate else ""
        left = f", {(total - done) / rate:,.0f} s left" if rate and total else ""
        count = f": {done:,}{of}" if done or total else ""
        say(f"{phase}{count}{speed}{left}")

    return show
