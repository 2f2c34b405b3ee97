"""Processes to be killed, forked from one that has already imported and loaded what they need."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Self

TOP = Path(__file__).resolve().parent.parent

LOOP = """
import os, sys
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        print(os.getpid(), flush=True)
        work(line.strip())
        os._exit(0)
    print("ended", os.waitpid(child, 0)[1], flush=True)
"""


class Forks:
    """Runs ``code``, which defines ``work(argument)``, once, and forks a child for each ``start``.

    One child at a time. OpenMP gets one thread: a pool of threads does not survive a fork.
    """

    def __init__(self, code: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code) + LOOP, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=TOP,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.input, self.output = self.process.stdin, self.process.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.input.close()
        self.output.close()
        self.process.wait()

    def start(self, argument: str = "") -> int:
        """Starts ``work(argument)`` in a child; returns its pid."""
        print(argument, file=self.input, flush=True)
        return int(self.output.readline())

    def printed(self) -> str:
        """The next line that the child prints, or ``ended STATUS``."""
        return self.output.readline().strip()

    def kill(self, pid: int) -> list[str]:
        """Kills the child with SIGKILL; returns what it printed since the last ``printed``."""
        os.kill(pid, signal.SIGKILL)
        lines = list(iter(self.printed, f"ended {signal.SIGKILL.value}"))
        assert not any(line.startswith("ended") for line in lines), "it ended by itself"
        return lines
