"""``sightline label``: zero-shot labels; print them or store them in the catalog."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sightline.server.commands.common import (
    device_option,
    json_option,
    library_option,
    open_library,
    print_json,
    printable,
    say,
    say_dates,
)
from sightline.server.commands.priority import nice_option

if TYPE_CHECKING:
    from sightline.indexer.library import Library
    from sightline.indexer.types import Ids, ImageRecord
    from sightline.indexer.zero_shot.labels import Labeller

BLOCK = 2048
"""Images scored at a time."""


@dataclass(frozen=True)
class Row:
    """The scores of one label for one image."""

    label: str
    score: float
    """Cosine."""
    probability: float
    """The model's probability: among these labels, or, for SigLIP, independent of them."""
    fit: float
    """0 to 1; see ``sightline.indexer.zero_shot.labels.Labeller``."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON and CSV."""
        return {
            "label": self.label,
            "fit": round(self.fit, 4),
            "probability": round(self.probability, 4),
            "score": round(self.score, 4),
        }


@click.command()
@click.argument("words", metavar="[QUERY]...", nargs=-1)
@click.option(
    "--labels",
    "-l",
    metavar="FILE|WORDS",
    help="The labels: a comma-separated list, or a file (a label per line, synonyms after"
    " commas; or JSON).",
)
@click.option(
    "--templates",
    "-t",
    "template_names",
    multiple=True,
    metavar="NAME|TEXT",
    help="Prompt templates: imagenet, imagenet-7, photo, siglip, plain, or a text with {};"
    " several texts form an ensemble.  [default: the model's own]",
)
@click.option(
    "--keep", is_flag=True, help="Store the labels in the library, for the filter label:NAME."
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="The lowest fit of a label that is printed or stored.  [default: 0.2]",
)
@click.option(
    "--top", default=5, show_default=True, type=click.IntRange(1), help="Labels per image."
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, a line per image and label.")
@click.option("--forget", metavar="WORDS", help="Delete these labels from the library; * for all.")
@nice_option
@json_option
@library_option
@device_option
def label(
    words: tuple[str, ...],
    labels: str | None,
    template_names: tuple[str, ...],
    keep: bool,
    threshold: float | None,
    top: int,
    as_csv: bool,
    forget: str | None,
    as_json: bool,
    directory: Path,
    device: str,
) -> int:
    """Label the images that match QUERY, or all images.

    \b
    sightline label --labels "dog, cat, beach"
    sightline label --labels animals.txt --keep
    sightline label --labels animals.txt --csv in:Holidays > labels.csv
    sightline label --forget "dog, cat"

    --keep stores the labels, for the filter label:dog and the page's counts, and replaces what was
    stored for the same labels and images. An image that changes loses its labels: run the same
    command again after indexing.
    """
    if forget is not None:
        if labels or keep or words:
            raise click.UsageError("--forget cannot be combined with QUERY, --labels or --keep")
        return _delete(directory, forget, as_json=as_json)
    if not labels:
        raise click.UsageError('give the labels: --labels "dog, cat" or --labels FILE')
    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other")

    from sightline.indexer.indexing.encoders import encoder_for
    from sightline.indexer.zero_shot.labels import MIN_FIT, Labeller, read_labels
    from sightline.indexer.zero_shot.prompts import templates

    wanted = read_labels(labels)
    threshold = MIN_FIT if threshold is None else threshold
    with open_library(directory, read_only=not keep) as library:
        encoder = encoder_for(library, device=device)
        given = template_names[0] if len(template_names) == 1 else template_names
        chosen = templates(given or encoder.templates)
        ids = _ids(library, encoder, " ".join(words))
        labeller = Labeller(encoder, wanted, templates=chosen)
        found = _records(library, ids, labeller, threshold=threshold, top=top)
        if keep:
            count = _store(library, ids, labeller, threshold=threshold, top=top)
            if not (as_csv or as_json):
                say(f"stored {count:,} labels of {len(ids):,} images: try label:{wanted[0].name}")
                return 0
        if as_csv:
            _print_csv(found)
        elif as_json:
            print_json(
                {
                    "library": str(library.directory),
                    "model": library.model,
                    "revision": library.revision,
                    "templates": list(chosen),
                    "threshold": threshold,
                    "kept": keep,
                    "labels": [one.name for one in wanted],
                    "images": [
                        {
                            "id": record.id,
                            "path": str(record.absolute),
                            "labels": [row.as_dict() for row in rows],
                        }
                        for record, rows in found
                    ],
                }
            )
        else:
            for record, rows in found:
                text = "  ".join(f"{row.label} {row.fit:.2f}" for row in rows) or "-"
                click.echo(f"{printable(record.absolute)}: {printable(text)}")
    return 0


def _ids(library: Library, encoder: Any, query: str) -> Ids:
    """The ids of the images that match ``query``; all if it is empty."""
    if not query:
        return library.select()
    from sightline.server.search import SearchEngine, parse

    parsed = parse(query)
    say_dates(parsed)
    with SearchEngine(library, encoder) as engine:
        return engine.ids(parsed)


def _blocks(
    library: Library, ids: Ids, labeller: Labeller, *, threshold: float, top: int
) -> Iterator[tuple[list[int], list[list[Row]]]]:
    """Ids and the rows of each, ``BLOCK`` at a time; deleted images are left out."""
    import numpy as np

    names = [one.name for one in labeller.labels]
    for start in range(0, len(ids), BLOCK):
        some = ids[start : start + BLOCK]
        vectors = library.vectors(some)
        present = ~np.isnan(vectors[:, 0])
        scored = labeller(vectors[present])
        order = np.argsort(-scored.fits, axis=1, kind="stable")[:, :top]
        rows = [
            [
                Row(
                    names[column],
                    float(scored.cosines[row, column]),
                    float(scored.probabilities[row, column]),
                    float(scored.fits[row, column]),
                )
                for column in best
                if scored.fits[row, column] >= threshold
            ]
            for row, best in enumerate(order.tolist())
        ]
        yield some[present].tolist(), rows


def _records(
    library: Library, ids: Ids, labeller: Labeller, *, threshold: float, top: int
) -> Iterator[tuple[ImageRecord, list[Row]]]:
    for some, rows in _blocks(library, ids, labeller, threshold=threshold, top=top):
        records = {record.id: record for record in library.images(some)}
        for image, row in zip(some, rows, strict=True):
            if image in records:
                yield records[image], row


def _store(library: Library, ids: Ids, labeller: Labeller, *, threshold: float, top: int) -> int:
    """Stores the labels in one transaction; returns their number."""
    stored = 0

    def scores() -> Iterator[tuple[int, str, float]]:
        nonlocal stored
        for some, rows in _blocks(library, ids, labeller, threshold=threshold, top=top):
            for image, found in zip(some, rows, strict=True):
                for row in found:
                    stored += 1
                    yield image, row.label, row.fit

    with library.writing():
        library.catalog.write_labels(
            scores(), replace=[one.name for one in labeller.labels], among=ids
        )
    return stored


def _delete(directory: Path, given: str, *, as_json: bool) -> int:
    from sightline.indexer.zero_shot.labels import read_labels

    with open_library(directory) as library:
        known = {one.text for one in library.facets("label")}
        if given.strip() == "*":
            names = sorted(known)
        else:
            names = [one.name for one in read_labels(given)]
            folded = {name.casefold() for name in known}
            for name in names:
                if name.casefold() not in folded:
                    say(f"no image has the label {name!r}")
        with library.writing():
            library.catalog.write_labels((), replace=names)
    if as_json:
        print_json({"forgotten": names})
    return 0


def _print_csv(found: Iterator[tuple[ImageRecord, list[Row]]]) -> None:
    # A file name may contain what the terminal cannot encode.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["id", "path", "label", "fit", "probability", "score"])
    for record, rows in found:
        for row in rows:
            writer.writerow([record.id, record.absolute, *row.as_dict().values()])
