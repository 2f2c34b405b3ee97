"""Time of one ``sightline search`` from a shell, as a whole process.

    python -m benchmarks.shell_search --library DIR [--rounds 7] [--peer "COMMAND {}"]

Prints the median CPU seconds (of the process and its children) and wall time of: a text that was
never searched for, the same text again, both for a name (a text without an everyday English word:
its language is detected and corrections are looked up), and an image of the library. ``--peer`` is
another program's command, ``{}`` its text; the programs take turns.
"""

from __future__ import annotations

import argparse
import resource
import shlex
import statistics
import subprocess
import sys
import time
import uuid
from pathlib import Path

WORDS = ("dog", "red dress", "street at night", "two people", "flower", "old car", "sunset")

NAMES = ("Annika Petrovna", "Jonas", "Guillermo", "Wolfgang Amadeus", "Xiaoming", "Siobhan", "Ayşe")


def timed(command: list[str]) -> tuple[float, float]:
    """CPU and wall seconds of one run."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return cpu, wall


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peer")
    arguments = parser.parse_args()
    search = [sys.executable, "-m", "sightline", "search", "--library", str(arguments.library)]
    timed([*search, "warm"])  # files into the page cache
    times: dict[str, list[tuple[float, float]]] = {}
    for number in range(arguments.rounds):
        # A new text in each round: no earlier run has stored its vector.
        new = uuid.uuid4().hex[:4]
        text, name = f"a {WORDS[number % len(WORDS)]} {new}", f"{NAMES[number % len(NAMES)]} {new}"
        jobs = {
            "new text": [*search, text],
            "the same text again": [*search, text],
            "new name": [*search, name],
            "the same name again": [*search, name],
            "an image of the library": [*search, "--like", "1"],
        }
        if arguments.peer:
            jobs["peer"] = [part.format(text) for part in shlex.split(arguments.peer)]
        for job, command in jobs.items():
            times.setdefault(job, []).append(timed(command))
    for job, found in times.items():
        cpu, wall = (statistics.median(one) for one in zip(*found, strict=True))
        print(f"{job:<26} {cpu:.2f} CPU s  {wall:.2f} s")


if __name__ == "__main__":
    main()
