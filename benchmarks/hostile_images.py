"""Reads corrupt image files of every format and decompression bombs, as an indexing run does.

    python -m benchmarks.hostile_images --count 5000 --seed 1
    python -m benchmarks.hostile_images --count 5000 --write FOLDER      # to be indexed
    python -m benchmarks.hostile_images --count 5000 --library DIRECTORY # as uploads to its server

Each file is a valid one with bits flipped, bytes set, pieces removed, doubled or taken from another
file, or lengths raised. Bombs are small files that are huge when decoded. Prints the outcomes by
file, dead workers, the longest time for an image and the peak memory of a worker. The exit status
is 1 if a file has no outcome, or a worker exceeded its memory limit.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path.append(str(TOP / "tests"))

import helpers_photos as files  # noqa: E402

from sightline.indexer.photo.decoder import MEMORY, Decoder  # noqa: E402
from sightline.indexer.types import Candidate, Geometry, Photo  # noqa: E402

DEATHS = ("crashes the decoder", "ended by the system", "took longer", "was interrupted")
"""Parts of the reasons that tell that a worker died."""


def peak_memory(pid: int) -> int:
    """Peak memory of a process in bytes, or 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    return next(
        (int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0
    )


def written(
    folder: Path, count: int, seed: int, bomb_files: list[tuple[str, bytes]]
) -> Iterator[Candidate]:
    """Writes the files one by one; the caller deletes them."""
    for name, data in files.mutated(count, seed):
        path = folder / name
        path.write_bytes(data)
        yield Candidate(folder, name, len(data), 0)
    for name, data in bomb_files:
        (folder / name).write_bytes(data)
        yield Candidate(folder, name, len(data), 0)


def bombs() -> Iterator[tuple[str, bytes]]:
    """Small files that are huge when decoded, within the pixel limit and beyond it."""
    from PIL import Image

    yield "bomb-100.png", files.large_png(100)
    yield "bomb-249.png", files.large_png(249)
    yield "bomb-500.png", files.large_png(500)
    yield "bomb-3600.png", files.png(60_000, 60_000)
    yield (
        "bomb-frames.gif",
        files.saved(
            Image.new("P", (2000, 2000)),
            "GIF",
            save_all=True,
            append_images=[Image.new("P", (2000, 2000), n % 256) for n in range(1, 400)],
        ),
    )
    yield "bomb-alpha.webp", files.saved(Image.new("RGBA", (12_000, 12_000)), "WEBP", lossless=True)
    yield "bomb-print.jpg", files.saved(Image.new("CMYK", (12_000, 12_000)), "JPEG")
    yield "bomb-wide.png", files.png(250_000_000, 1)


def uploads(directory: Path, count: int, seed: int) -> int:
    """Uploads the files to the server of a library, and prints the status codes."""
    from sightline.indexer.indexing.encoders import encoder_for
    from sightline.indexer.library import Library
    from sightline.server.search import SearchEngine
    from sightline.server.web.app import create_app

    answers: Counter[int] = Counter()
    pids: set[int] = set()
    started = time.perf_counter()
    with Library.open(directory) as library, SearchEngine(library, encoder_for(library)) as engine:
        client = create_app(engine).test_client()
        for name, data in files.mutated(count, seed):
            sent = {"image": (io.BytesIO(data), name)}
            with client.post("/api/uploads", data=sent, headers={"Host": "127.0.0.1"}) as answer:
                answers[answer.status_code] += 1
            pids.update(engine.query_encoder.decoder.pids)
    for status, number in sorted(answers.items()):
        print(f"{number:6} responses with status {status}")
    print(f"{len(pids)} worker processes; {time.perf_counter() - started:.0f} s")
    return int(any(status >= 500 for status in answers))


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--write", type=Path, metavar="FOLDER")
    parser.add_argument("--library", type=Path, metavar="DIRECTORY")
    options = parser.parse_args()
    if options.write is not None:
        files.write(options.write, dict(files.mutated(options.count, options.seed)))
        return 0
    if options.library is not None:
        return uploads(options.library, options.count, options.seed)

    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    reasons: Counter[str] = Counter()
    pids: set[int] = set()
    peak = 0
    slowest = (0.0, "")
    bomb_files = list(bombs())
    started = last = time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as place,
        Decoder(Geometry(), workers=options.workers) as decoder,
    ):
        folder = Path(place)
        for candidate, outcome in decoder.photos(
            written(folder, options.count, options.seed, bomb_files)
        ):
            now = time.perf_counter()
            slowest = max(slowest, (now - last, candidate.path))
            last = now
            kind = candidate.path.split("-", 1)[1] if candidate.path[0] != "b" else candidate.path
            if isinstance(outcome, Photo):
                outcomes[kind]["read"] += 1
            elif any(death in str(outcome) for death in DEATHS):
                outcomes[kind]["died"] += 1
                print(f"{candidate.path}: {outcome}", file=sys.stderr)
            else:
                outcomes[kind]["refused"] += 1
                reasons[str(outcome).split(":")[0]] += 1
            for pid in decoder.pids:
                pids.add(pid)
                peak = max(peak, peak_memory(pid))
            candidate.absolute.unlink()
    seconds = time.perf_counter() - started

    print(f"{'file':24} {'read':>6} {'refused':>8} {'died':>6}")
    for kind, counts in sorted(outcomes.items()):
        print(f"{kind:24} {counts['read']:6} {counts['refused']:8} {counts['died']:6}")
    total = sum(outcomes.values(), Counter())
    print(f"{'all':24} {total['read']:6} {total['refused']:8} {total['died']:6}")
    for reason, count in reasons.most_common(12):
        print(f"  {count:6}  {reason}")
    print(
        f"{total.total()} files in {seconds:.0f} s; {len(pids)} worker processes for "
        f"{options.workers} workers; longest {slowest[0]:.1f} s ({slowest[1]}); peak memory of "
        f"a worker {peak / 2**20:,.0f} MiB, limit {MEMORY / 2**20:,.0f} beyond that of an idle one"
    )
    lost = options.count + len(bomb_files) - total.total()
    return int(bool(lost) or peak > MEMORY + 2**28)


if __name__ == "__main__":
    sys.exit(main())
