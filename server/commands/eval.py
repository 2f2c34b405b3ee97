"""``sightline eval``: measure a model, or a library's index, on a labelled dataset."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sightline.server.commands.common import (
    default_library,
    device_option,
    dtype_option,
    json_option,
    open_library,
    print_json,
    quiet_option,
    say,
)
from sightline.server.commands.progress import shown

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder
    from sightline.indexer.evaluation.evaluate import Accuracy, Retrieval

F = Callable[..., Any]


@click.group()
def eval() -> None:
    """Measure a model, or a library with its index, on a labelled dataset.

    \b
    sightline eval retrieval captions.txt --images photos --model openai-b32
    sightline eval classification imagenet/val --names words.txt --model metaclip-h14
    """


def model_options(function: F) -> F:
    """``--model``, ``--revision`` and ``--dtype``."""
    for option in (
        dtype_option,
        click.option("--revision", help="The commit of a model on the hub."),
        click.option("--model", "-m", help="A name from `sightline models`, a hub id or a folder."),
    ):
        function = option(function)
    return function


@eval.command()
@click.argument("captions", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--images",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder of the images.  [default: the folder of CAPTIONS]",
)
@click.option(
    "--split",
    help="The split to evaluate (Karpathy's JSON: test by default), or a file with the names of its"
    " images.",
)
@click.option(
    "--per-image", type=click.IntRange(1), help="Use only the first N captions of each image."
)
@click.option("--tidy", is_flag=True, help="Remove full stops at the ends of captions.")
@click.option(
    "--library",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Search all images of this library, exactly and through its index, instead of encoding the"
    " images of the dataset; `default` is the library that the other commands use.",
)
@click.option(
    "--ranking",
    default="plain",
    show_default=True,
    metavar="NAMES",
    help="Ranking methods, comma-separated: plain, centred, querybank, standing; or all.",
)
@click.option(
    "--templates",
    "-t",
    "template_names",
    multiple=True,
    metavar="NAME|TEXT",
    help="Prompt templates for captions, as in `sightline label`; repeatable.  [default: none]",
)
@click.option("--bank", metavar="FILE", help="Captions for centred and querybank, one per line.")
@quiet_option
@json_option
@model_options
@device_option
def retrieval(
    captions: Path,
    images: Path | None,
    split: str | None,
    per_image: int | None,
    tidy: bool,
    directory: Path | None,
    ranking: str,
    template_names: tuple[str, ...],
    bank: str | None,
    quiet: bool,
    as_json: bool,
    model: str | None,
    revision: str | None,
    dtype: str,
    device: str,
) -> None:
    """Measure text-to-image and image-to-text retrieval.

    \b
    sightline eval retrieval Flickr8k.token.txt --images Flicker8k_Dataset \\
        --split Flickr_8k.testImages.txt --model openai-b32
    sightline eval retrieval dataset_coco.json --images coco --per-image 5 --model metaclip-h14
    sightline eval retrieval captions.csv --library ~/library

    CAPTIONS is Karpathy's JSON, COCO's captions JSON, a token file of Flickr8k or Flickr30k, or CSV
    with a column for the file and one for the caption. Prints recall@1, @5 and @10 and the median
    rank in both directions, with 95% confidence intervals.
    """
    from sightline.indexer.evaluation import evaluate
    from sightline.indexer.evaluation.datasets import read_captioned
    from sightline.indexer.indexing.encoders import encoder_for
    from sightline.indexer.zero_shot.prompts import templates

    if (model is None) == (directory is None):
        raise click.UsageError("give either --model, or --library to use its model")
    rankings = evaluate.RANKINGS if ranking == "all" else _split(ranking)
    given = template_names[0] if len(template_names) == 1 else template_names
    wording = templates(given or "plain")
    captioned = read_captioned(
        captions, images or captions.parent, split=split, per_image=per_image, tidy=tidy
    )
    started = time.monotonic()
    with shown(quiet=quiet) as show:
        found: list[Retrieval]
        notes: dict[str, Any] = {}
        if directory is not None:
            place = default_library() if str(directory) == "default" else directory
            with open_library(place, read_only=True) as library:
                encoder = encoder_for(library, device=device)
                texts = evaluate.encode_captions(
                    encoder, captioned.captions, wording, progress=show
                )
                gallery = evaluate.gallery_in(library, captioned.images)
                found = evaluate.retrieval(
                    texts,
                    gallery,
                    captioned,
                    rankings=rankings,
                    bank=_bank(encoder, bank, rankings),
                    progress=show,
                )
                indexed, same = evaluate.through_index(library, texts, gallery, captioned)
                found.append(indexed)
                state = library.index_state
                notes["index"] = {
                    "type": state.type,
                    "nprobe": state.nprobe,
                    "of_exact_first_10": round(same, 5),
                }
                notes["library"] = str(library.directory)
        else:
            encoder = _encoder(model, revision, device, dtype)
            encoded = evaluate.encode_files(encoder, captioned.images, progress=show)
            notes["unreadable"] = list(encoded.failures)
            texts = evaluate.encode_captions(encoder, captioned.captions, wording, progress=show)
            found = evaluate.retrieval(
                texts,
                evaluate.gallery_of(encoded, len(captioned.images)),
                captioned,
                rankings=rankings,
                bank=_bank(encoder, bank, rankings),
                progress=show,
            )
    document = {
        "task": "retrieval",
        **_model_facts(encoder),
        "dataset": {
            "captions_file": str(captions),
            "format": captioned.format,
            "split": split,
            "tidy": tidy,
            "images": len(captioned.images),
            "captions": len(captioned.captions),
        },
        "templates": list(wording),
        **notes,
        "results": [one.as_dict() for one in found],
        "seconds": round(time.monotonic() - started, 1),
    }
    if as_json:
        print_json(document)
        return
    _print_heading(document)
    click.echo("| | ranking | through | queries | among | R@1 | R@5 | R@10 | median rank |")
    click.echo("|---|---|---|---|---|---|---|---|---|")
    for one in found:
        median = f"{one.median_rank:g}" if one.median_rank is not None else "> 10"
        recall = " | ".join(str(value) for value in one.recall.values())
        click.echo(
            f"| {one.direction.replace('_to_', ' → ')} | {one.ranking} | {one.through} |"
            f" {one.queries:,} | {one.gallery:,} | {recall} | {median} |"
        )
    if "index" in notes:
        found_share = notes["index"]["of_exact_first_10"]
        click.echo(
            f"\nthe index ({notes['index']['type']}) finds {found_share:.3f} of the exact top 10"
        )
    _print_unreadable(notes.get("unreadable", ()))


@eval.command()
@click.argument("data", metavar="DIR|FILE", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--images",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder of the images that FILE lists.  [default: the folder of FILE]",
)
@click.option(
    "--names",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The class names: lines of a class, a tab and comma-separated names, or JSON.",
)
@click.option(
    "--templates",
    "-t",
    "template_names",
    multiple=True,
    metavar="NAME|TEXT",
    help="Prompt templates; repeatable.  [default: plain, photo, imagenet-7, imagenet, and the"
    " model's own]",
)
@click.option(
    "--train",
    type=click.Path(exists=True, path_type=Path),
    help="Images to train a linear probe on: a folder per class, or a list, as for DIR|FILE.",
)
@click.option("--shots", type=click.IntRange(2), help="Train on N images of each class.")
@quiet_option
@json_option
@model_options
@device_option
def classification(
    data: Path,
    images: Path | None,
    names: Path | None,
    template_names: tuple[str, ...],
    train: Path | None,
    shots: int | None,
    quiet: bool,
    as_json: bool,
    model: str | None,
    revision: str | None,
    dtype: str,
    device: str,
) -> None:
    """Measure zero-shot classification, and classification by a linear probe.

    \b
    sightline eval classification imagenet/val --names words.txt --model openai-b32
    sightline eval classification cifar10/test --train cifar10/train --model builtin
    sightline eval classification val_annotations.txt --images val/images --names words.txt

    DIR contains a folder per class; FILE lists files with their classes. Prints top-1 and top-5
    accuracy with 95% confidence intervals, for single templates and ensembles.
    """
    import numpy as np

    from sightline.indexer.evaluation import evaluate
    from sightline.indexer.evaluation.datasets import read_classified
    from sightline.indexer.zero_shot.prompts import TEMPLATES, templates

    dataset = read_classified(data, images=images, names=names)
    started = time.monotonic()
    encoder = _encoder(model, revision, device, dtype)
    default_names = dict.fromkeys(("plain", "photo", "imagenet-7", "imagenet", encoder.templates))
    wording = {name: templates(name) for name in (template_names or default_names)}
    unreadable: list[str] = []

    def encoded(some: Any) -> tuple[Any, Any]:
        found = evaluate.encode_files(encoder, some.images, progress=show)
        unreadable.extend(found.failures)
        return found.vectors, np.asarray(some.truth, np.int64)[found.kept]

    with shown(quiet=quiet) as show:
        vectors, truth = encoded(dataset)
        found: list[Accuracy] = evaluate.zero_shot(
            encoder, vectors, truth, dataset, wording, progress=show
        )
        if train is not None:
            training = read_classified(train, images=images, shots=shots, classes=dataset.folders)
            train_vectors, train_truth = encoded(training)
            show("training the probe", 0, None)
            found.append(evaluate.linear_probe(train_vectors, train_truth, vectors, truth))
    document = {
        "task": "classification",
        **_model_facts(encoder),
        "dataset": {
            "data": str(data),
            "train": str(train) if train else None,
            "classes": len(dataset.labels),
            "images": len(truth),
        },
        "unreadable": unreadable,
        "results": [one.as_dict() for one in found],
        "seconds": round(time.monotonic() - started, 1),
    }
    if as_json:
        print_json(document)
        return
    _print_heading(document)
    click.echo("| method | templates | cases | top-1 | top-5 | mean of classes |")
    click.echo("|---|---|---|---|---|---|")
    for one in found:
        probe = one.method == "linear probe"
        count = "" if probe else f"{len(wording[one.method])}"
        name = one.method if probe or one.method in TEMPLATES else f"`{one.method}`"
        click.echo(
            f"| {name} | {count} | {one.cases:,} | {one.top1} | {one.top5} |"
            f" {100 * one.mean_per_class:.1f} |"
        )
    _print_unreadable(unreadable)


def _encoder(model: str | None, revision: str | None, device: str, dtype: str) -> Encoder:
    from sightline.indexer.encoder import Encoder, registry

    return Encoder.load(model or registry.DEFAULT, device=device, dtype=dtype, revision=revision)


def _bank(encoder: Encoder, given: str | None, rankings: Sequence[str]) -> Any:
    if not set(rankings) & {"centred", "querybank"}:
        return None
    from sightline.indexer.evaluation import evaluate
    from sightline.server.commands.describe import read_captions

    return evaluate.bank_vectors(encoder, read_captions(given) if given else None)


def _split(names: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for part in names.split(",") if (name := part.strip())))


def _model_facts(encoder: Encoder) -> dict[str, Any]:
    from sightline import __version__

    return {
        "model": encoder.model,
        "revision": encoder.revision,
        "dimension": encoder.dimension,
        "dtype": encoder.dtype,
        "device": encoder.device,
        "sightline": __version__,
    }


def _print_heading(document: dict[str, Any]) -> None:
    click.echo(
        f"{document['model']} at {document['revision'][:12]}, {document['dtype']} on"
        f" {document['device']}, {document['dataset']['images']:,} images,"
        f" {document['seconds']} s; percent, ± half of the 95% confidence interval\n"
    )


def _print_unreadable(failures: Sequence[str]) -> None:
    for failure in failures[:10]:
        say(f"could not read {failure}")
    if len(failures) > 10:
        say(f"... and {len(failures) - 10:,} more")
