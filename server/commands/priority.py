"""What a command changes of its process, if that ends with it: priority, garbage collection."""

from __future__ import annotations

import functools
import gc
import os
from typing import Any

import click

from sightline.server.commands.common import F

OWN_PROCESS = "own process"
"""``Context.obj`` of a process that ends with its command, which may change its priority."""

NEW_OBJECTS = 500_000
"""Objects between two collections of cyclic garbage, not 700: looking for it among the objects of
torch, whose import makes 270,000, takes a tenth of a short run, and finds little."""

NICENESS = 10
"""Niceness in the background: of a core that a server needs too, the server gets nine tenths."""


def owns_process() -> bool:
    """Whether the process ends with the current command."""
    return bool(click.get_current_context().find_root().obj == OWN_PROCESS)


def collect_garbage_rarely() -> None:
    """Collects cyclic garbage per ``NEW_OBJECTS`` until the process ends, if it ends with the
    current command. Never undone: what was postponed would then be collected."""
    if owns_process():
        gc.set_threshold(NEW_OBJECTS)


def nice_option(function: F) -> F:
    """``--nice N``, for commands that compute for long. The niceness is set before they start."""

    @click.option(
        "--nice",
        type=click.IntRange(0, 19),
        envvar="SIGHTLINE_NICE",
        help="Niceness of the process, 0 (normal) to 19 (lowest priority).  [default:"
        f" $SIGHTLINE_NICE, or 0 in the foreground of a terminal and {NICENESS} elsewhere]",
    )
    @functools.wraps(function)
    def command(*arguments: Any, nice: int | None, **options: Any) -> Any:
        if owns_process():
            watch = bool(options.get("watch"))
            default = NICENESS if watch or not is_in_foreground() else 0
            set_niceness(default if nice is None else nice)
        return function(*arguments, **options)

    return command  # type: ignore[return-value]


def set_niceness(niceness: int) -> None:
    """Raises the niceness of this process to at least ``niceness``, on systems that have one."""
    if hasattr(os, "setpriority"):
        now = os.getpriority(os.PRIO_PROCESS, 0)
        os.setpriority(os.PRIO_PROCESS, 0, max(now, niceness))


def is_in_foreground() -> bool:
    """Whether a terminal waits for this process. It does not for ``command &``, cron and systemd.
    True where the system cannot tell (Windows)."""
    if not hasattr(os, "tcgetpgrp"):
        return True
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
