"""Measures indexing against its upper bound and against a plain loop.

    python -m benchmarks.indexing [--megapixels 12] [--count 240] [--rounds 3] [--model vit-b32]
    python -m benchmarks.indexing --unchanged 100000

On the same synthetic photos, with the same model (ViT-B/32 with random weights, or ``builtin``),
the median of interleaved rounds:

    decode     the decoding workers alone, with thumbnails, metadata and hashes
    encode     the image tower alone, with as many concurrent batches as indexing uses
    bound      1 / (1 / decode + 1 / encode): both share the CPU's cores
    plain      Pillow's full decode, transformers' processor and model in float32, batches of 32
    index      `sightline index` as a whole process
    in run     the same by the run's own clock, without the start of Python and torch

and the peak memory of the process with its workers (PSS) for half of the images and for all, in
separate runs, because measuring it takes a tenth of the time. ``--unchanged FILES`` measures a
second run over that many small files in which nothing has changed.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.photographs import SIZES, write_photographs
from sightline.indexer.encoder import Encoder, encode_photos
from sightline.indexer.files import walk
from sightline.indexer.photo import Decoder
from sightline.indexer.types import Photo

TOP = Path(__file__).resolve().parent.parent
CORES = os.cpu_count() or 1


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megapixels", choices=SIZES, default="12")
    parser.add_argument("--count", type=int, default=240)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="vit-b32", help="vit-b32, builtin, or a folder")
    parser.add_argument("--unchanged", type=int, metavar="FILES")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sightline-benchmark-") as scratch:
        place = Path(scratch)
        if options.unchanged:
            second_run(place, options.unchanged)
        else:
            speeds(place, options)


def speeds(place: Path, options: argparse.Namespace) -> None:
    """Prints the six rows and the peak memory."""
    model = options.model
    if model == "vit-b32":
        from benchmarks.encoder import build

        model = str(place / "vit-b32")
        Path(model).mkdir()
        build(Path(model))
    folder = place / "images"
    write_photographs(folder, options.count, SIZES[options.megapixels])
    half = place / "half"
    half.mkdir()
    for path in sorted(folder.iterdir())[: options.count // 2]:
        os.link(path, half / path.name)
    encoder = Encoder.load(model)
    encoder.warm(["image"])
    few = max(32, min(64, options.count))
    stages: dict[str, Callable[[], float]] = {
        "decode": lambda: decode_rate(folder, encoder),
        "encode": lambda: encode_rate(folder, encoder),
        "plain": plain_loop(folder, model, few),
    }
    rates: dict[str, list[float]] = {name: [] for name in (*stages, "bound", "index", "in run")}
    for number in range(options.rounds):
        for name, stage in stages.items():
            rates[name].append(stage())
        rates["bound"].append(1 / (1 / rates["decode"][-1] + 1 / rates["encode"][-1]))
        seconds, report = index(folder, place / f"library-{number}", model)
        rates["index"].append(report["added"] / seconds)
        rates["in run"].append(report["added"] / report["seconds"])
    peak = peak_memory(folder, place / "library-all", model)
    half_peak = peak_memory(half, place / "library-half", model)
    print(
        f"{options.count} images of {options.megapixels} megapixels, {options.model}"
        f" ({encoder.dtype}), {CORES} cores, median of {options.rounds} rounds\n"
    )
    middle = {name: statistics.median(values) for name, values in rates.items()}
    print(f"{'':10}{'images/s':>10}{'of bound':>10}{'x plain':>10}")
    for name in ("decode", "encode", "bound", "plain", "index", "in run"):
        rate = middle[name]
        print(f"{name:10}{rate:10.2f}{rate / middle['bound']:10.2f}{rate / middle['plain']:10.2f}")
    print(
        f"\npeak memory {peak:,.0f} MB with {options.count} images,"
        f" {half_peak:,.0f} MB with {options.count // 2}"
    )


def decode_rate(folder: Path, encoder: Encoder) -> float:
    """Images per second of the decoding workers, from the first to the last."""
    with Decoder(encoder.geometry, workers=CORES) as decoder:
        photos = decoder.photos(walk.scan(folder))
        next(photos)
        started = time.perf_counter()
        count = sum(isinstance(photo, Photo) for _, photo in photos)
    return count / (time.perf_counter() - started)


def encode_rate(folder: Path, encoder: Encoder) -> float:
    """Images per second of the image tower, called as in indexing."""
    with Decoder(encoder.geometry, workers=CORES) as decoder:
        some = [photo for _, photo in decoder.photos(islice(walk.scan(folder), 32))]
    wanted = max(encoder.batch_size * CORES * 4, 256)

    def photos() -> Iterator[tuple[int, Photo]]:
        for number in range(wanted):
            photo = some[number % len(some)]
            assert isinstance(photo, Photo)
            yield number, photo

    started = time.perf_counter()
    count = sum(len(batch) for batch in encode_photos(encoder, photos()))
    return count / (time.perf_counter() - started)


def plain_loop(folder: Path, model: str, few: int) -> Callable[[], float]:
    """A plain loop over the first ``few`` images."""
    import torch
    from transformers import AutoModel, CLIPImageProcessorPil

    from sightline.indexer.encoder.registry import builtin_directory

    where = builtin_directory() if model == "builtin" else Path(model)
    processor = CLIPImageProcessorPil.from_pretrained(where)
    tower = AutoModel.from_pretrained(where, dtype=torch.float32).eval()
    paths = sorted(folder.iterdir())[:few]

    def run() -> float:
        started = time.perf_counter()
        with torch.inference_mode():
            for start in range(0, len(paths), 32):
                batch = [Image.open(path).convert("RGB") for path in paths[start : start + 32]]
                seen = processor(images=batch, return_tensors="pt")["pixel_values"]
                # ``get_image_features`` does not expect what a convolutional tower pools to.
                pooled = tower.vision_model(pixel_values=seen).pooler_output.flatten(1)
                found = tower.visual_projection(pooled)
                torch.nn.functional.normalize(found, dim=-1).numpy()
        return len(paths) / (time.perf_counter() - started)

    return run


def index(folder: Path, library: Path, model: str) -> tuple[float, dict[str, float]]:
    """Seconds of the whole process, and its JSON report."""
    started = time.perf_counter()
    with _indexing(folder, library, model) as process:
        out, _ = process.communicate()
    seconds = time.perf_counter() - started
    return seconds, json.loads(_checked(process, out))


def peak_memory(folder: Path, library: Path, model: str) -> float:
    """Peak memory of a run and its workers, in MB."""
    with _indexing(folder, library, model) as process:
        peak = Peak(process.pid)
        out, _ = process.communicate()
        peak.stop()
    _checked(process, out)
    return peak.megabytes


def _indexing(folder: Path, library: Path, model: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "sightline", "index", str(folder), "--library", str(library)]
    command += ["--model", model, "--json", "--quiet"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=TOP)


def _checked(process: subprocess.Popen[bytes], out: bytes) -> bytes:
    if process.returncode:
        raise SystemExit(f"sightline index failed with {process.returncode}")
    return out


class Peak(threading.Thread):
    """Peak memory of a process and its descendants, sampled ten times per second (Linux)."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.megabytes, self._done = pid, 0.0, threading.Event()
        self.start()

    def run(self) -> None:
        """Samples until it is stopped."""
        while not self._done.wait(0.1):
            total = sum(_pss(pid) for pid in _family(self.pid))
            self.megabytes = max(self.megabytes, total / 1024)

    def stop(self) -> None:
        """Ends the sampling."""
        self._done.set()
        self.join()


def _family(pid: int) -> list[int]:
    children = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            children += [int(child) for child in (task / "children").read_text().split()]
    except OSError:
        return []
    return [pid, *(member for child in children for member in _family(child))]


def _pss(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def second_run(place: Path, files: int) -> None:
    """Measures a run in which nothing has changed."""
    folder = place / "many"
    out = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((64, 48)).save(out, "JPEG")
    body = out.getvalue()
    for number in range(files):
        below = folder / f"{number // 1000:03}"
        below.mkdir(parents=True, exist_ok=True)
        comment = f"{number:032}".encode()
        segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
        (below / f"{number:06}.jpg").write_bytes(body[:2] + segment + body[2:])
    first = index(folder, place / "library", "builtin")
    print(f"first run:  {files / first[0]:10,.0f} files/s")
    again = [index(folder, place / "library", "builtin") for _ in range(3)]
    whole = statistics.median(seconds for seconds, _ in again)
    in_run = statistics.median(report["seconds"] for _, report in again)
    assert all(report["unchanged"] == files for _, report in again)
    peak = peak_memory(folder, place / "library", "builtin")
    print(
        f"second run: {files / whole:10,.0f} files/s as a whole process ({whole:.2f} s),"
        f" {files / in_run:,.0f} files/s in the run ({in_run:.2f} s),"
        f" {peak:,.0f} MB at most"
    )


if __name__ == "__main__":
    main()
