"""Compares Sightline with other programs: indexing folders, searching from a shell, serving.

    python -m benchmarks.peers --peers DIR [--index 48x12 240x12 439x480px] [--images 100000]
        [--rounds 3] [--only rclip ...]

All encode with ViT-B/32 of random weights, in the format of each: 224 pixels, rclip 256, and
Sightline both. Programs take turns; the figures are medians of the CPU seconds of a process and its
children, and of wall time in brackets. Searches are in the images of the last ``--index``, and with
``--images`` in so many synthetic vectors with the geometry of CLIP's, which are written as each
program stores them: from a shell by rclip, over HTTP (``peer_serving``) by clip-retrieval's server.
``--index`` without a value skips indexing. A run with everything takes an hour on two cores.

Each peer has its own environment, ``DIR/NAME``, made by ``python3 -m venv DIR/NAME`` and by
``DIR/NAME/bin/pip install`` with (torch: its build for the CPU)

    rclip                  rclip>=4 (before Python 3.12: --ignore-requires-python, and its
                           requirements without versions)
    transformers           transformers torch faiss-cpu pillow
    sentence-transformers  sentence-transformers torch pillow
    open_clip              open_clip_torch torch torchvision onnx onnxscript (makes rclip's model)
    clip-retrieval         clip-retrieval torch torchvision "transformers<5", then "setuptools<70"

``transformers``, ``sentence-transformers`` and ``open_clip`` are libraries: ``peer_loops`` is the
script around them. A peer that is not installed or fails is left out, with a line that says why.
clip-retrieval cannot search from a shell: its server answers.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import peer_serving
from benchmarks.photographs import SIZES, write_photographs
from sightline.indexer.library import Library

TOP = Path(__file__).resolve().parent.parent
LOOPS = Path(__file__).with_name("peer_loops.py")
LIBRARIES = ("transformers", "sentence-transformers", "open_clip")
PIXELS = {**SIZES, "480px": (480, 360)}
"""Width and height by the name of the size."""

SIGHTLINE, SIGHTLINE_256 = "Sightline", "Sightline, 256 px"

RCLIP_INDEX = "import os; from rclip.main import init_rclip; init_rclip(os.getcwd(), 8)"
"""What ``rclip QUERY`` does before it searches; 8 is its default batch size."""

CLIP_RETRIEVAL = "from clip_retrieval.cli import main; main()"
"""Its command line."""

REQUESTS = 100
"""Requests of each kind to each server, in each round."""

Command = list[str | Path]


@dataclass(frozen=True)
class Program:
    """A program to measure."""

    index: Callable[[Path, Path], list[Command]]
    """Commands, run in turn in the images' folder: (folder, out) -> commands."""
    search: Callable[[Path, str], Command] | None
    """(out, text) -> command."""
    environment: Callable[[Path], dict[str, str]] = lambda out: {}
    """(out) -> variables."""
    fill: Callable[[Path, Path, Path], Command] | None = None
    """(vectors, folder, out) -> command that stores the vectors of images in a folder."""


class PeerError(Exception):
    """A command of a peer failed."""


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", type=Path, required=True, help="the folder of environments")
    parser.add_argument("--only", nargs="*", help="names of peers; all by default")
    parser.add_argument("--index", nargs="*", default=["48x12", "240x12", "439x480px"])
    parser.add_argument("--images", type=int, help="search this number of synthetic images too")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sightline-peers-") as scratch:
        place = Path(scratch)
        found = programs(options.peers.resolve(), place, options.only)
        folders = {}
        for job in options.index:
            count, _, size = job.partition("x")
            folders[job] = place / job
            write_photographs(folders[job], int(count), PIXELS[size])
        times = measure(found, folders, place, options.rounds) if folders else {}
        if options.images:
            synthetic = make_synthetic(place, options.images)
            search_synthetic(times, found, synthetic, options.rounds)
            if "clip-retrieval" in found:
                serve_synthetic(options.peers.resolve(), place, synthetic, options.rounds)
    jobs = list(dict.fromkeys(job for job, _ in times))
    names = [name for name in found if any(name == program for _, program in times)]
    show(jobs, names, times)


def programs(peers: Path, place: Path, only: list[str] | None) -> dict[str, Program]:
    """Sightline and the peers that are installed; makes their models."""
    from benchmarks.encoder import build

    models = {}
    for size in (224, 256):
        models[size] = place / f"vit-b32-{size}"
        models[size].mkdir()
        build(models[size], image_size=size)
    found = {SIGHTLINE: sightline(models[224])}
    for name in only if only is not None else ("rclip", *LIBRARIES, "clip-retrieval"):
        python = peers / name / "bin" / "python"
        if not python.exists():
            print(f"{name}: left out, {python} is not there")
        elif name == "rclip":
            maker = peers / "open_clip" / "bin" / "python"
            try:
                run([maker, LOOPS, "open_clip", "models", place], place, {})
            except PeerError as error:
                print(f"rclip: left out, its model could not be made: {error}")
                continue
            found[SIGHTLINE_256] = sightline(models[256])
            found[name] = rclip(python, place / "rclip")
        elif name in LIBRARIES:
            model = models[224]
            if name == "open_clip":
                model = place / "open_clip.pt"
                if not model.exists():
                    run([python, LOOPS, name, "models", place], place, {})
            found[name] = loop(python, name.replace("-", "_"), model)
        else:
            found[name] = clip_retrieval(python, models[224])
    return found


def sightline(model: Path) -> Program:
    """This checkout, with this Python."""
    command: Command = [sys.executable, "-m", "sightline"]

    def index(folder: Path, out: Path) -> list[Command]:
        library: Command = ["--library", out / "library", "--model", model]
        return [[*command, "index", folder, *library, "--quiet", "--nice", "0"]]

    return Program(
        index, lambda out, text: [*command, "search", "--library", out / "library", text]
    )


def rclip(python: Path, models: Path) -> Program:
    """rclip 4, whose data folder is ``out``."""

    def link_models(out: Path) -> None:
        for part in models.iterdir():
            (out / part.name).symlink_to(part)

    def index(folder: Path, out: Path) -> list[Command]:
        link_models(out)
        return [[python, "-c", RCLIP_INDEX]]

    def fill(vectors: Path, folder: Path, out: Path) -> Command:
        link_models(out)
        return [python, LOOPS, "rclip", "fill", vectors, out, folder]

    return Program(
        index,
        lambda out, text: [python, "-m", "rclip", "--no-indexing", text],
        lambda out: {"RCLIP_DATADIR": str(out)},
        fill,
    )


def loop(python: Path, library: str, model: Path) -> Program:
    """The script around a library."""
    return Program(
        lambda folder, out: [[python, LOOPS, library, "index", model, out, folder]],
        lambda out, text: [python, LOOPS, library, "search", model, out, text],
    )


def clip_retrieval(python: Path, model: Path) -> Program:
    """clip-retrieval: embeddings, then its index."""

    def index(folder: Path, out: Path) -> list[Command]:
        infer: Command = [python, "-c", CLIP_RETRIEVAL, "inference", "--input_dataset", folder]
        infer += ["--output_folder", out / "e", "--enable_text", "False"]
        infer += ["--clip_model", f"hf_clip:{model}"]
        infer += ["--num_prepro_workers", str(os.cpu_count() or 1)]
        return [infer, clip_retrieval_index(python, out / "e", out / "i")]

    return Program(index, None)


def clip_retrieval_index(python: Path, embeddings: Path, out: Path) -> Command:
    """clip-retrieval's command that indexes embeddings."""
    command: Command = [python, "-c", CLIP_RETRIEVAL, "index"]
    return [*command, "--embeddings_folder", embeddings, "--index_folder", out]


Times = dict[tuple[str, str], list[tuple[float, float]]]
"""(job, program) -> CPU and wall seconds of each round."""


def measure(found: dict[str, Program], folders: dict[str, Path], place: Path, rounds: int) -> Times:
    """All jobs, the programs in turn. Drops programs that fail."""
    times: Times = {}
    for number in range(rounds):
        for job, folder in folders.items():
            for name in list(found):
                program = found[name]
                out = place / f"out-{number}-{job}-{name}".replace(" ", "-")
                out.mkdir()
                add(times, found, f"index {job}", name, program.index(folder, out), folder, out)
        job, folder = list(folders.items())[-1]
        text = f"a red dress {uuid.uuid4().hex[:4]}"
        for kind in ("search, new text", "search, the same text again"):
            for name, program in list(found.items()):
                if program.search is not None:
                    out = place / f"out-{number}-{job}-{name}".replace(" ", "-")
                    add(times, found, kind, name, [program.search(out, text)], folder, out)
    return times


def make_synthetic(place: Path, images: int) -> Path:
    """A folder with a ``library`` of synthetic images of Sightline's model of 256 pixels, and their
    ``vectors.npy``."""
    from benchmarks.search import make

    folder = place / "synthetic"
    folder.mkdir()
    (folder / "model").symlink_to(place / "vit-b32-256")
    make(folder, images, thumbnails=0)
    with Library.open(folder / "library", read_only=True) as library:
        vectors = np.concatenate([block for _, block in library.catalog.blocks()])
    np.save(folder / "vectors.npy", vectors)
    return folder


def search_synthetic(times: Times, found: dict[str, Program], folder: Path, rounds: int) -> None:
    """Searches from a shell, of the programs that can be filled with vectors."""
    outs = {}
    for name, program in found.items():
        if name == SIGHTLINE_256:
            outs[name] = folder
        elif program.fill is not None:
            outs[name] = folder / f"out-{name}"
            outs[name].mkdir()
            fill = program.fill(folder / "vectors.npy", folder, outs[name])
            run(fill, folder, program.environment(outs[name]))
    for _ in range(rounds):
        text = f"a red dress {uuid.uuid4().hex[:4]}"
        for kind in ("synthetic, new text", "synthetic, the same text again"):
            for name, program in list(found.items()):
                if name in outs and program.search is not None:
                    command = program.search(outs[name], text)
                    add(times, found, kind, name, [command], folder, outs[name])


def serve_synthetic(peers: Path, place: Path, folder: Path, rounds: int) -> None:
    """Serves the synthetic images by Sightline and by clip-retrieval; prints the table."""
    python = peers / "clip-retrieval" / "bin" / "python"
    embeddings = folder / "e"
    run([python, LOOPS, "clip_retrieval", "fill", folder / "vectors.npy", embeddings], folder, {})
    run(clip_retrieval_index(python, embeddings, folder / "i"), folder, {})
    with Library.open(folder / "library", read_only=True) as library:
        images = library.count
    served = {
        SIGHTLINE: peer_serving.sightline(folder / "library", images),
        "clip-retrieval": peer_serving.clip_retrieval(python, place / "vit-b32-224", folder),
    }
    peer_serving.measure(served, REQUESTS, rounds)


def add(
    times: Times,
    found: dict[str, Program],
    job: str,
    name: str,
    commands: list[Command],
    folder: Path,
    out: Path,
) -> None:
    """Measures one job of one program, which is dropped from ``found`` if it fails."""
    environment = found[name].environment(out)
    try:
        parts = [run(command, folder, environment) for command in commands]
    except PeerError as error:
        if name in (SIGHTLINE, SIGHTLINE_256):
            raise
        print(f"{name}: left out of `{job}` and what follows: {error}")
        del found[name]
        return
    total = sum(cpu for cpu, _ in parts), sum(wall for _, wall in parts)
    times.setdefault((job, name), []).append(total)


def run(command: Command, folder: Path, environment: dict[str, str]) -> tuple[float, float]:
    """CPU and wall seconds of a command."""
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "WANDB_MODE": "disabled"}
    variables = {**os.environ, "PYTHONPATH": "", **offline, **environment}
    if command[0] == sys.executable:
        variables["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, env=variables, capture_output=True, text=True
    )
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        lines = [line for line in re.split(r"[\r\n]+", done.stderr) if line.strip()]
        raise PeerError(lines[-1].strip() if lines else f"exit status {done.returncode}")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, wall


def show(jobs: list[str], names: list[str], times: Times) -> None:
    """Prints seconds, and Sightline's as fractions of each peer's."""

    def medians(job: str, name: str) -> tuple[float, float] | None:
        measured = times.get((job, name))
        if not measured:
            return None
        cpu, wall = zip(*measured, strict=True)
        return statistics.median(cpu), statistics.median(wall)

    header = "| " + " | ".join(["CPU seconds (wall)", *names]) + " |"
    print(f"\n{header}\n{'|---' * (len(names) + 1)}|")
    for job in jobs:
        cells = [medians(job, name) for name in names]
        shown = [f"{cell[0]:.2f} ({cell[1]:.2f})" if cell else "" for cell in cells]
        print("| " + " | ".join([job, *shown]) + " |")
    peers = [name for name in names if name not in (SIGHTLINE, SIGHTLINE_256)]
    print(f"\n| Sightline / peer | {' | '.join(peers)} |\n{'|---' * (len(peers) + 1)}|")
    for job in jobs:
        row = [job]
        for name in peers:
            ours = medians(job, SIGHTLINE_256 if name == "rclip" else SIGHTLINE)
            theirs = medians(job, name)
            ratio = ours and theirs and (ours[0] / theirs[0], ours[1] / theirs[1])
            row.append(f"{ratio[0]:.2f} ({ratio[1]:.2f})" if ratio else "")
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
