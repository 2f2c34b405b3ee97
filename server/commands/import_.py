"""``sightline import``: a set of embeddings that another program made becomes a library."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sightline.indexer.errors import ModelMismatchError, UsageError
from sightline.server.commands import import_shards
from sightline.server.commands.common import json_option, library_option, print_json, say, stopping
from sightline.server.commands.progress import shown

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder
    from sightline.indexer.exchange.formats import EmbeddingSet
    from sightline.indexer.exchange.import_set import ImportReport
    from sightline.indexer.types import Embeddings

CLIP_RETRIEVAL = {
    "ViT-B/32": "openai-b32",
    "ViT-L/14": "openai-l14",
    "open_clip:ViT-B-32/laion2b_s34b_b79k": "laion-b32",
    "open_clip:ViT-H-14/laion2b_s32b_b79k": "laion-h14",
}
"""What clip-retrieval calls the models that it makes sets with, and their names here."""


@click.command("import")
@click.argument("source")
@click.option(
    "--model",
    help="Who made the vectors: a name from `sightline models`, a hub id, a folder, or"
    " clip-retrieval's own name (ViT-B/32). Not needed where the set says it.",
)
@click.option(
    "--pictures",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder in which the set's paths lie, where the pictures are on this machine.",
)
@click.option(
    "--to",
    type=click.Choice(["library", "milvus"]),
    default="library",
    show_default=True,
    help="Where the embeddings go: a library of this machine, or a Milvus collection.",
)
@click.option(
    "--uri",
    metavar="ADDRESS",
    help="The collection: http://HOST:19530/NAME, or a .db file of Milvus Lite.",
)
@click.option(
    "--index-type",
    default="HNSW",
    show_default=True,
    help="The collection's index: FLAT, HNSW, IVF_FLAT, IVF_SQ8, IVF_PQ, SCANN, DISKANN.",
)
@click.option("--workers", type=click.IntRange(1, 256), help="Processes that read pictures.")
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
@json_option
@library_option
def import_(
    source: str,
    model: str | None,
    pictures: Path | None,
    to: str,
    uri: str | None,
    index_type: str,
    workers: int | None,
    quiet: bool,
    as_json: bool,
    directory: Path,
) -> int:
    """Take the embeddings in SOURCE into the library; nothing is encoded.

    \b
    sightline import laion-set --model ViT-B/32 --library ~/laion
    sightline import pictures.parquet --pictures ~/Pictures

    SOURCE is clip-retrieval's folder (img_emb/*.npy, metadata/*.parquet), a .parquet or .jsonl
    file with a column `embedding`, or what `sightline export` wrote. The pictures need not be
    present; those that are get a thumbnail. parquet needs the extra `exchange`.

    It may also be what `sightline embed` wrote, a folder or an address: thumbnails come along, and
    importing again takes in what is new. From a library or from shards, --to milvus fills a
    collection, and again brings it up to date, removals included.
    """
    if (to == "milvus") != (uri is not None):
        raise click.UsageError("--to milvus and --uri ADDRESS go together")
    if uri is not None:
        return import_shards.into_milvus(
            source, uri, index=index_type, quiet=quiet, as_json=as_json
        )
    if import_shards.are_at(source):
        return import_shards.into_library(source, directory, quiet=quiet, as_json=as_json)
    if not Path(source).exists():
        raise UsageError(f"there is nothing at {source}")
    from sightline.indexer.exchange import formats, import_set
    from sightline.indexer.indexing.run import encoder_for
    from sightline.indexer.library.library import Library
    from sightline.indexer.zero_shot.captions import CAPTIONS

    found = formats.open_set(Path(source))
    if Library.exists(directory):
        library = Library.open(directory)
        try:
            check_made_with(library.model, named(model) or found.model, directory)
            encoder = encoder_for(library, device="cpu")
        except BaseException:
            library.close()
            raise
    else:
        encoder = encoder_of(found, named(model))
        library = Library.create(
            directory,
            model=encoder.model,
            revision=encoder.revision,
            dimension=encoder.dimension,
        )

    def queries() -> Embeddings:
        return encoder.encode_texts(CAPTIONS)

    with library, stopping() as stop, shown(quiet=quiet) as progress:
        report = import_set.import_set(
            library,
            found,
            pictures=pictures,
            workers=workers,
            text_queries=queries,
            progress=progress,
            stop=stop,
        )
    if as_json:
        print_json({**asdict(report), "library": str(directory), "model": encoder.model})
    else:
        print_report(report, directory)
    return int(report.interrupted)


def named(model: str | None) -> str | None:
    """The name that this project has for what clip-retrieval calls ``model``."""
    return CLIP_RETRIEVAL.get(model, model) if model else None


def check_made_with(library_model: str, model: str | None, directory: Path) -> None:
    """ModelMismatchError when the set says that another model made it than the library's."""
    from sightline.indexer.encoder import registry

    known = registry.find(model) if model else None
    if model and library_model not in (model, known and known.id):
        raise ModelMismatchError(
            f"the set was made with {model}, and the library in {directory} with"
            f" {library_model}: import it into another folder with --library"
        )


def encoder_of(found: EmbeddingSet, model: str | None) -> Encoder:
    """The model of a new library for ``found``: what it names, or ``model``; of its dimension."""
    from sightline.indexer.encoder import Encoder
    from sightline.indexer.encoder.registry import MODELS

    fitting = ", ".join(one.name for one in MODELS if one.dimension == found.dimension)
    fitting = f" ({found.dimension} dimensions: {fitting})" if fitting else ""
    if model is None and found.model is None:
        raise UsageError(
            f"{found.path} does not say which model made its vectors: name it with --model{fitting}"
        )
    if model is not None:
        encoder = Encoder.load(model, device="cpu")
    else:
        encoder = Encoder.load(found.model or "", device="cpu", revision=found.revision)
    if encoder.dimension != found.dimension:
        raise UsageError(
            f"the vectors of {found.path} have {found.dimension} dimensions, and {encoder.model}"
            f" makes {encoder.dimension}: name the model that made them with --model{fitting}"
        )
    return encoder


def print_report(report: ImportReport, directory: Path) -> None:
    """The import in a few lines, for a person."""
    click.echo(
        f"{report.imported:,} of {report.found:,} rows imported into {directory},"
        f" {report.read:,} with their pictures"
    )
    for problem in report.problems[:10]:
        say(f"skipped {problem}")
    if report.skipped > 10:
        say(f"... and {report.skipped - min(10, len(report.problems)):,} more")
    if report.interrupted:
        say("stopped early; run the same command again to go on")
