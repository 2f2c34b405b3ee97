"""``sightline label``: score pictures against labels; print what fits, or keep it."""

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
    load_encoder,
    open_library,
    print_json,
    say,
)

if TYPE_CHECKING:
    from sightline.indexer.library.library import Library
    from sightline.indexer.types import Ids, ImageRecord
    from sightline.indexer.zero_shot.labels import Labeller

AT_ONCE = 2048
"""Pictures that are scored at a time."""


@dataclass(frozen=True)
class Row:
    """What one label says of one picture."""

    label: str
    score: float
    """Cosine."""
    probability: float
    """The model's own: among these labels, or, for SigLIP, by itself."""
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
    help="The labels: words with commas between them, or a file (a label a line with synonyms after"
    " commas, or JSON).",
)
@click.option(
    "--templates",
    "-t",
    "template_names",
    multiple=True,
    metavar="NAME|TEXT",
    help="Prompt templates: imagenet, imagenet-7, photo, siglip, plain, or a text with {} in it;"
    " several texts make an ensemble.  [default: what suits the model]",
)
@click.option("--keep", is_flag=True, help="Keep what fits in the catalog, for label:NAME.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="The fit from which a label is printed and kept.  [default: 0.2]",
)
@click.option(
    "--top", default=5, show_default=True, type=click.IntRange(1), help="Labels a picture."
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: a line a picture and label.")
@click.option("--forget", metavar="WORDS", help="Take these labels out of the catalog; * for all.")
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
    """Label the pictures that QUERY finds, or all of them.

    \b
    sightline label --labels "dog, cat, beach"
    sightline label --labels animals.txt --keep
    sightline label --labels animals.txt --csv in:Holidays > labels.csv
    sightline label --forget "dog, cat"

    With --keep the labels that fit are kept in the library: label:dog filters, and the page counts
    them. What these labels said of these pictures before is replaced. A picture that changes loses
    its labels; run the same command again after indexing.
    """
    if forget is not None:
        if labels or keep or words:
            raise click.UsageError("--forget goes alone")
        return _forget(directory, forget, as_json=as_json)
    if not labels:
        raise click.UsageError('say which labels: --labels "dog, cat" or --labels FILE')
    if as_csv and as_json:
        raise click.UsageError("--csv and --json are two different things: give one of them")

    from sightline.indexer.zero_shot.labels import FITS, Labeller, read_labels
    from sightline.indexer.zero_shot.prompts import templates

    wanted = read_labels(labels)
    threshold = FITS if threshold is None else threshold
    with open_library(directory, read_only=not keep) as library:
        encoder = load_encoder(library, device)
        given = template_names[0] if len(template_names) == 1 else template_names
        chosen = templates(given or encoder.templates)
        ids = _ids(library, encoder, " ".join(words))
        labeller = Labeller(encoder, wanted, templates=chosen)
        found = _labelled(library, ids, labeller, threshold=threshold, top=top)
        if keep:
            count = _keep(library, ids, labeller, threshold=threshold, top=top)
            if not (as_csv or as_json):
                say(f"kept {count:,} labels of {len(ids):,} pictures: try label:{wanted[0].name}")
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
                said = "  ".join(f"{row.label} {row.fit:.2f}" for row in rows) or "-"
                click.echo(f"{record.absolute}: {said}")
    return 0


def _ids(library: Library, encoder: Any, query: str) -> Ids:
    """The pictures that are meant."""
    if not query:
        return library.select()
    from sightline.server.search.engine import SearchEngine

    with SearchEngine(library, encoder) as engine:
        return engine.ids(query)


def _blocks(
    library: Library, ids: Ids, labeller: Labeller, *, threshold: float, top: int
) -> Iterator[tuple[list[int], list[list[Row]]]]:
    """Ids and what fits each, ``AT_ONCE`` at a time; images that are gone are left out."""
    import numpy as np

    names = [one.name for one in labeller.labels]
    for start in range(0, len(ids), AT_ONCE):
        some = ids[start : start + AT_ONCE]
        vectors = library.vectors(some)
        there = ~np.isnan(vectors[:, 0])
        scored = labeller(vectors[there])
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
        yield some[there].tolist(), rows


def _labelled(
    library: Library, ids: Ids, labeller: Labeller, *, threshold: float, top: int
) -> Iterator[tuple[ImageRecord, list[Row]]]:
    for some, rows in _blocks(library, ids, labeller, threshold=threshold, top=top):
        records = {record.id: record for record in library.images(some)}
        for image, row in zip(some, rows, strict=True):
            if image in records:
                yield records[image], row


def _keep(library: Library, ids: Ids, labeller: Labeller, *, threshold: float, top: int) -> int:
    """Writes what fits into the catalog in one transaction; how many labels that were."""
    kept = 0

    def scores() -> Iterator[tuple[int, str, float]]:
        nonlocal kept
        for some, rows in _blocks(library, ids, labeller, threshold=threshold, top=top):
            for image, found in zip(some, rows, strict=True):
                for row in found:
                    kept += 1
                    yield image, row.label, row.fit

    with library.writing():
        library.catalog.write_labels(
            scores(), replace=[one.name for one in labeller.labels], among=ids
        )
    return kept


def _forget(directory: Path, given: str, *, as_json: bool) -> int:
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
                    say(f"no picture has the label {name!r}")
        with library.writing():
            library.catalog.write_labels((), replace=names)
    if as_json:
        print_json({"forgotten": names})
    return 0


def _print_csv(found: Iterator[tuple[ImageRecord, list[Row]]]) -> None:
    # Names of files may hold what the terminal's encoding cannot write.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["id", "path", "label", "fit", "probability", "score"])
    for record, rows in found:
        for row in rows:
            writer.writerow([record.id, record.absolute, *row.as_dict().values()])
