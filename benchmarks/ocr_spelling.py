"""Words that were read with an error: recall, false hits and CPU time of ``text:``.

    python -m benchmarks.ocr_spelling                   # 100,000 images with text
    python -m benchmarks.ocr_spelling --images 10000

Every image holds 12 words of the built-in model's vocabulary, frequent ones more often (Zipf), of
which 3 % have one error as recognisers make them. Queries are words of these images, and words that
no image holds. Compared are all spellings (``text:``) and exact words (``exact_text``).
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import numpy as np

from sightline.indexer.catalog import Catalog
from sightline.indexer.types import (
    EXACT_TEXT,
    Candidate,
    Condition,
    Filters,
    NewImage,
    Photo,
    PhotoInfo,
    TextLine,
)
from sightline.server.search.spelling import english_words

WORDS, ERRORS, QUERIES, BATCH = 12, 0.03, 1000, 2000
"""Words of an image, the fraction of them with an error, queries of each kind, images of a
transaction."""

CONFUSED = ("ec", "ce", "ao", "oa", "il", "li", "tl", "lt", "hb", "nu", "un", "vy", "yv", "rn")
LOOK_LIKE = {"o": "0", "l": "1", "i": "1", "s": "5", "b": "8", "z": "2", "g": "9"}


def misread(word: str, draw: random.Random) -> str:
    """``word`` with one error: a letter of similar shape, any letter, one missing, one added, or a
    digit."""
    at = draw.randrange(len(word))
    kind = draw.random()
    other = draw.choice("abcdefghijklmnopqrstuvwxyz")
    if kind < 0.5:
        other = next((pair[1] for pair in CONFUSED if pair[0] == word[at]), other)
    elif kind < 0.65:
        other = ""
    elif kind < 0.75:
        other += word[at]
    elif kind < 0.85:
        other = LOOK_LIKE.get(word[at], other)
    return word[:at] + other + word[at + 1 :]


def fill(catalog: Catalog, images: int) -> tuple[list[list[tuple[str, str]]], list[str]]:
    """Writes images; returns what is written in each and how it was read, and absent words."""
    draw = random.Random(0)
    vocabulary = [word for word in english_words() if len(word) > 2]
    absent = set(draw.sample(vocabulary, len(vocabulary) // 10))
    present = [word for word in vocabulary if word not in absent]
    draw.shuffle(present)  # the ranks of the model's vocabulary end in alphabetical order
    weights = list(accumulate(1 / (rank + 50) for rank in range(len(present))))
    root = catalog.add_root(Path("/photographs"))
    vector = np.ones(catalog.dimension, np.float32) / catalog.dimension**0.5
    info = PhotoInfo(width=4, height=3, format="jpeg")
    held = []
    for start in range(0, images, BATCH):
        numbers = range(start, min(start + BATCH, images))
        new = [
            NewImage(
                Candidate(root.path, f"{n // 500}/{n:07}.jpg", 1, n + 1),
                Photo(info, np.empty((0, 0, 3), np.uint8), b"", f"{n:032x}"),
                vector,
            )
            for n in numbers
        ]
        ids = catalog.write(root, images=new).images
        batch = []
        for image in ids:
            words = draw.choices(present, cum_weights=weights, k=WORDS)
            pairs = [(one, misread(one, draw) if draw.random() < ERRORS else one) for one in words]
            held.append(pairs)
            line = TextLine(" ".join(read for _, read in pairs), 0.9, (0.0, 0.0, 1.0, 1.0))
            batch.append((image, [line]))
        catalog.write_texts(batch, engine="generated")
    return held, sorted(absent)


def milliseconds(work: Callable[[str], object], queries: list[str]) -> str:
    """The median and the 95th percentile of the CPU time of ``work``."""
    times = []
    for query in queries:
        before = time.thread_time()
        work(query)
        times.append((time.thread_time() - before) * 1000)
    return f"{np.median(times):8.2f}{np.percentile(times, 95):8.2f}"


def main() -> None:
    """Prints tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--images", type=int, default=100_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "catalog.db"
        with Catalog.create(path, model="m", revision="r", dimension=8) as catalog:
            before = time.process_time()
            held, absent = fill(catalog, given.images)
            spent = (time.process_time() - before) / given.images * 1000
            print(f"{given.images:,} images written: {spent:.2f} CPU ms each")
            measure(catalog, held, absent)


def measure(catalog: Catalog, held: list[list[tuple[str, str]]], absent: list[str]) -> None:
    """Prints recall, precision and CPU time of both filters."""
    images: dict[str, set[int]] = defaultdict(set)
    for image, pairs in enumerate(held, 1):
        for written, _ in pairs:
            images[written].add(image)
    draw = random.Random(1)
    occurrences = [written for pairs in held for written, read in pairs if written != read]
    queries = draw.sample(sorted(set(occurrences)), min(QUERIES, len(set(occurrences))))
    none = draw.sample(absent, min(QUERIES, len(absent)))

    def select(name: str) -> Callable[[str], set[int]]:
        return lambda word: set(catalog.select(Filters((Condition(name, word),))).tolist())

    print(
        f"{'':12}{'recall':>8}{'of misread':>12}{'false/query':>13}{'precision':>11}"
        f"{'absent: hits':>14}{'CPU ms p50':>12}{'p95':>6}"
    )
    for name in (EXACT_TEXT, "text"):
        find = select(name)
        hits = true = wanted = only_misread = recovered = 0
        exact = select(EXACT_TEXT)
        for word in queries:
            result, right = find(word), images[word]
            missed = right - exact(word)
            hits += len(result)
            true += len(result & right)
            wanted += len(right)
            only_misread += len(missed)
            recovered += len(missed & result)
        false = np.mean([len(find(word)) for word in none])
        print(
            f"{name:12}{true / wanted:8.3f}{recovered / only_misread:12.3f}"
            f"{(hits - true) / len(queries):13.2f}{true / hits:11.3f}{false:14.2f}"
            f"    {milliseconds(find, queries)}"
        )
    print(f"similar_words: CPU ms p50, p95{milliseconds(catalog.similar_words, queries)}")


if __name__ == "__main__":
    main()
