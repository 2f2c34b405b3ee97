"""Captions in which a date is read, though they hold none.

    python -m benchmarks.date_words CAPTIONS [--count 300]

CAPTIONS has a caption per line, after a tab if there is one (Flickr8k.token.txt). Reads ``--count``
random ones and all of them as queries. Prints how many would be filtered by a date, how many would
be offered one, the time of each, and those that were read as dates.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from sightline.server.search import parse

SHOWN = 20
"""Captions that are printed."""


def report(name: str, captions: Sequence[str]) -> None:
    """Prints a row, and the captions that were read as dates."""
    started = time.process_time()
    found = [parse(caption, today=date(2024, 5, 15)).interpreted for caption in captions]
    each = (time.process_time() - started) / len(captions)
    applied = [n for n, dates in enumerate(found) if any(one.applied for one in dates)]
    offered = [n for n, dates in enumerate(found) if dates and n not in applied]
    print(
        f"{name:8}{len(captions):8,}{len(applied):9}{len(offered):9}"
        f"{(len(applied) + len(offered)) / len(captions):9.2%}{each * 1e6:8.0f} us"
    )
    for n in (applied + offered)[:SHOWN]:
        print(f"    {', '.join(one.words for one in found[n])}: {captions[n]}")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("captions", type=Path)
    parser.add_argument("--count", type=int, default=300)
    options = parser.parse_args()
    lines = options.captions.read_text(encoding="utf-8").splitlines()
    captions = [line.rpartition("\t")[2].strip().rstrip(" .") for line in lines if line.strip()]
    chosen = random.Random(0).sample(captions, min(options.count, len(captions)))
    print(f"{'':8}{'captions':>8}{'applied':>9}{'offered':>9}{'false':>9}{'each':>11}")
    report("random", chosen)
    report("all", captions)


if __name__ == "__main__":
    main()
