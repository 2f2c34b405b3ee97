"""``sightline models --try``: the same queries by several models, over a sample of one's photos."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sightline.indexer.errors import ModelError, UsageError
from sightline.server.commands.common import printable, say
from sightline.server.commands.hits import terminal_image
from sightline.server.commands.progress import shown

if TYPE_CHECKING:
    from PIL.Image import Image

    from sightline.indexer.encoder import Encoder
    from sightline.indexer.evaluation.trial import Trial

SAMPLE = 500
"""Photos that are encoded, at most."""

DEFAULT_MODELS = 3
"""Models that are tried, at most, if none is named."""

RESULTS = 8
"""Photos shown per query and model."""

LIBRARY_SIZES = (10_000, 100_000)
"""Sizes of libraries whose indexing time is shown."""

CELL = 160
"""Longer side of a photo in the terminal, in pixels,"""
STRIP_COLUMNS = 96
"""and width of a row of them, in characters."""


@dataclass(frozen=True)
class Result:
    """One photo found."""

    path: str
    score: float
    match: bool
    """Whether it reaches the relevance threshold in the sample."""


@dataclass(frozen=True)
class ModelResults:
    """One model's results."""

    model: str
    dimension: int
    device: str
    dtype: str
    images: int
    images_per_second: float
    hours: dict[int, float]
    """For an indexing run, by number of photos."""
    results: dict[str, tuple[Result, ...]]
    """By query, best first."""


def sample_of(folder: Path) -> tuple[list[Path], int]:
    """Up to ``SAMPLE`` random photos below ``folder``, the same in every call, and the number of
    all. UsageError if there is none."""
    from sightline.indexer.files import sensitive
    from sightline.indexer.files.walk import scan

    folder = folder.resolve()
    sensitive.refuse([folder], ())
    files = [candidate.absolute for candidate in scan(folder)]
    if not files:
        raise UsageError(f"there are no photos in {folder}")
    return random.Random(0).sample(files, min(SAMPLE, len(files))), len(files)


def models_here() -> list[str]:
    """The built-in model, and those named models that are on this machine, up to
    ``DEFAULT_MODELS`` together: the default model first."""
    from sightline.indexer.encoder import model_files
    from sightline.indexer.encoder.registry import BUILTIN, DEFAULT, MODELS

    found = []
    others = [model.name for model in MODELS if model.name not in (BUILTIN, DEFAULT)]
    for name in (DEFAULT, *others):
        try:
            model_files.resolve(name, download="never")
        except ModelError:
            continue
        found.append(name)
    return [*found[: DEFAULT_MODELS - 1], BUILTIN]


def try_models(
    queries: Sequence[str], folder: Path, models: Sequence[str], *, device: str, quiet: bool
) -> list[ModelResults]:
    """Encodes a sample of ``folder`` with each model. ModelError for one that is not on this
    machine: nothing is downloaded."""
    from sightline.indexer.encoder import Encoder
    from sightline.indexer.evaluation.trial import try_model

    files, total = sample_of(folder)
    for name in models:  # all are checked before the first is loaded
        Encoder.load(name, device=device, download="never")
    found = []
    with shown(quiet=quiet) as progress:
        for name in models:
            encoder = Encoder.load(name, device=device, download="never")

            def show(phase: str, done: int, count: int | None, /, name: str = name) -> None:
                progress(f"{name}: {phase}", done, count)

            show("loading", 0, None)
            trial = try_model(encoder, files, queries, progress=show)
            found.append(_results(name, trial, files, queries, total, encoder))
            if trial.images.failures:
                say(f"{name}: {len(trial.images.failures):,} photos could not be read")
    return found


def _results(
    name: str,
    trial: Trial,
    files: Sequence[Path],
    queries: Sequence[str],
    total: int,
    encoder: Encoder,
) -> ModelResults:
    import numpy as np

    from sightline.server.search.calibration import Calibration, text_scale

    calibration = Calibration.of(encoder)
    results = {}
    for query, vector in zip(queries, trial.queries, strict=True):
        cosines = trial.images.vectors @ vector
        ids = encoder.word_ids(query)
        scale = text_scale(vector, trial.images.vectors, calibration, ids=ids)
        z_scores = scale.z_scores(cosines)
        results[query] = tuple(
            Result(
                str(files[int(trial.images.kept[row])]),
                float(cosines[row]),
                scale.threshold is None or bool(z_scores[row] >= scale.threshold),
            )
            for row in np.argsort(-cosines, kind="stable")[:RESULTS].tolist()
        )
    sizes = sorted({total, *LIBRARY_SIZES})
    return ModelResults(
        name,
        trial.dimension,
        trial.device,
        trial.dtype,
        len(trial.images.kept),
        trial.images_per_second,
        {size: trial.hours(size) for size in sizes},
        results,
    )


def thumbnails_of(found: Sequence[ModelResults]) -> dict[str, bytes]:
    """The thumbnail (WebP) of each photo that is shown."""
    from sightline.indexer.photo import Decoder
    from sightline.indexer.types import Geometry, Photo

    paths = {one.path for model in found for results in model.results.values() for one in results}
    with Decoder(Geometry(), workers=2) as decoder:
        return {
            path: outcome.thumbnail
            for path, outcome in decoder.each((path, Path(path)) for path in sorted(paths))
            if isinstance(outcome, Photo)
        }


def duration(hours: float) -> str:
    """``40 s``, ``12 min`` or ``3.5 h``."""
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    return f"{hours * 60:.0f} min" if hours < 1 else f"{hours:,.1f} h"


def speed(model: ModelResults) -> str:
    """Images per second, and the time for libraries of several sizes."""
    times = ", ".join(f"{size:,} photos in {duration(h)}" for size, h in model.hours.items())
    return f"{model.images_per_second:,.1f} images/s here ({model.device}, {model.dtype}): {times}"


def as_document(found: Sequence[ModelResults]) -> list[dict[str, Any]]:
    """The document that ``--json`` prints."""
    return [
        {
            **asdict(model),
            "images_per_second": round(model.images_per_second, 2),
            "hours": {str(size): round(hours, 4) for size, hours in model.hours.items()},
        }
        for model in found
    ]


def print_results(found: Sequence[ModelResults], thumbnails: dict[str, bytes]) -> None:
    """Prints a table per query, a column per model; above it rows of photos in a terminal that
    shows images."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    show = terminal_image(required=False)
    for query in found[0].results:
        table = Table(title=Text(query), title_justify="left", box=None, pad_edge=False)
        for model in found:
            table.add_column(Text(model.model), overflow="ellipsis", no_wrap=True, ratio=1)
            if show is not None:
                console.print(Text(model.model))
                console.print(show(strip(model.results[query], thumbnails), width=STRIP_COLUMNS))
        for results in zip(*(model.results[query] for model in found), strict=True):
            table.add_row(
                *(
                    Text(
                        f"{one.score:.3f} {printable(Path(one.path).name)}",
                        style="" if one.match else "dim",
                    )
                    for one in results
                )
            )
        console.print(table)
        click.echo()
    for model in found:
        click.echo(f"{model.model}: {speed(model)}")


def strip(results: Sequence[Result], thumbnails: dict[str, bytes]) -> Image:
    """The photos in one row."""
    from PIL import Image

    row = Image.new("RGB", (CELL * RESULTS, CELL), (128, 128, 128))
    for number, one in enumerate(results):
        if one.path in thumbnails:
            with Image.open(io.BytesIO(thumbnails[one.path]), formats=["WEBP"]) as image:
                image.thumbnail((CELL - 4, CELL - 4))
                row.paste(image.convert("RGB"), (number * CELL + 2, 2))
    return row


def page(found: Sequence[ModelResults], thumbnails: dict[str, bytes], folder: Path) -> str:
    """A page with everything in it: nothing is fetched."""
    from jinja2 import Environment, FileSystemLoader

    templates = Path(__file__).parents[2] / "templates"
    environment = Environment(loader=FileSystemLoader(templates), autoescape=True)
    environment.trim_blocks = environment.lstrip_blocks = True
    sources = {
        path: f"data:image/webp;base64,{base64.b64encode(data).decode('ascii')}"
        for path, data in thumbnails.items()
    }
    return environment.get_template("models.html").render(
        found=found,
        sources=sources,
        folder=folder.resolve(),
        speed=speed,
        name=lambda p: Path(p).name,
    )
