"""``sightline import``: import embeddings that another program computed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sightline.indexer.errors import ModelMismatchError, UsageError
from sightline.server.commands import import_shards
from sightline.server.commands.common import (
    allow_root_option,
    json_option,
    library_option,
    print_json,
    quiet_option,
    say,
    stopping,
    workers_option,
)
from sightline.server.commands.priority import nice_option
from sightline.server.commands.progress import shown

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder
    from sightline.indexer.encoder.model_files import Download
    from sightline.indexer.exchange import EmbeddingSet, ImportReport
    from sightline.indexer.types import Embeddings

CLIP_RETRIEVAL = {
    "ViT-B/32": "openai-b32",
    "ViT-L/14": "openai-l14",
    "open_clip:ViT-B-32/laion2b_s34b_b79k": "laion-b32",
    "open_clip:ViT-H-14/laion2b_s32b_b79k": "laion-h14",
}
"""clip-retrieval's model names and the names in ``sightline models``."""


@click.command("import")
@click.argument("source")
@click.option(
    "--model",
    help="The model that computed the vectors: a name from `sightline models`, a hub id, a folder,"
    " or clip-retrieval's name (ViT-B/32). Not needed if the files name it.",
)
@click.option(
    "--pictures",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder that the paths in SOURCE are relative to, if the images are here.",
)
@click.option(
    "--to",
    type=click.Choice(["library", "milvus"]),
    default="library",
    show_default=True,
    help="The destination: a library in a folder, or a Milvus collection.",
)
@click.option(
    "--uri",
    metavar="ADDRESS",
    help="The collection with --to milvus: http://HOST:19530/NAME, or a Milvus Lite .db file.",
)
@click.option(
    "--index-type",
    default="HNSW",
    show_default=True,
    help="The collection's index: FLAT, HNSW, IVF_FLAT, IVF_SQ8, IVF_PQ, SCANN, DISKANN.",
)
@workers_option
@allow_root_option
@quiet_option
@nice_option
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
    allow_roots: tuple[Path, ...],
    quiet: bool,
    as_json: bool,
    directory: Path,
) -> int:
    """Import the embeddings in SOURCE into the library; no image is encoded.

    \b
    sightline import laion-set --model ViT-B/32 --library ~/laion
    sightline import pictures.parquet --pictures ~/Pictures

    SOURCE is clip-retrieval's folder (img_emb/*.npy, metadata/*.parquet), a .parquet or .jsonl
    file with a column `embedding`, or the output of `sightline export`. The image files may be
    absent; those that are present get a thumbnail, and are downloadable once you name their folder,
    with --pictures or `sightline index FOLDER`. parquet needs the extra `exchange`.

    SOURCE may also be the output of `sightline embed`, a folder or a URL, with its thumbnails;
    importing again adds only what is new. With --to milvus, SOURCE is a library or such shards, and
    importing again updates the collection, deletions included.
    """
    if (to == "milvus") != (uri is not None):
        raise click.UsageError("--to milvus requires --uri ADDRESS, and the reverse")
    if uri is not None:
        return import_shards.into_milvus(
            source, uri, index=index_type, quiet=quiet, as_json=as_json
        )
    if import_shards.are_at(source):
        return import_shards.into_library(
            source, directory, allow_roots=allow_roots, quiet=quiet, as_json=as_json
        )
    if "://" in source:
        raise UsageError(f"{source} holds no output of `sightline embed`: download it first")
    if not Path(source).exists():
        raise UsageError(f"{source} does not exist")
    from sightline.indexer.exchange import import_set, open_set
    from sightline.indexer.indexing.encoders import encoder_for
    from sightline.indexer.library import Library
    from sightline.indexer.zero_shot.captions import CAPTIONS

    found = open_set(Path(source))
    if Library.exists(directory):
        library = Library.open(directory)
        try:
            check_model(library.model, named(model) or found.model, directory)
            download: Download = "any" if model else "named"
            encoder = encoder_for(library, device="cpu", download=download)
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
        report = import_set(
            library,
            found,
            pictures=pictures,
            workers=workers,
            allow_roots=allow_roots,
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
    """``model``, with clip-retrieval's names replaced by this project's."""
    return CLIP_RETRIEVAL.get(model, model) if model else None


def check_model(library_model: str, model: str | None, directory: Path) -> None:
    """Raises ModelMismatchError if ``model`` is named and is not the library's model."""
    from sightline.indexer.encoder import registry

    known = registry.find(model) if model else None
    if model and library_model not in (model, known and known.id):
        raise ModelMismatchError(
            f"the embeddings were made with {model}, and the library in {directory} with"
            f" {library_model}: import them into another library with --library"
        )


def encoder_of(found: EmbeddingSet, model: str | None) -> Encoder:
    """Loads ``model``, or the model that ``found`` names. Raises ``UsageError`` if neither is given
    or the dimensions differ."""
    from sightline.indexer.encoder import Encoder
    from sightline.indexer.encoder.registry import MODELS

    candidates = ", ".join(one.name for one in MODELS if one.dimension == found.dimension)
    candidates = f" ({found.dimension} dimensions: {candidates})" if candidates else ""
    if model is None and found.model is None:
        raise UsageError(
            f"{found.path} does not name the model of its vectors: give it with --model{candidates}"
        )
    if model is not None:
        encoder = Encoder.load(model, device="cpu")
    else:
        encoder = Encoder.load(
            found.model or "", device="cpu", revision=found.revision, download="named"
        )
    if encoder.dimension != found.dimension:
        raise UsageError(
            f"the vectors of {found.path} have {found.dimension} dimensions, those of"
            f" {encoder.model} {encoder.dimension}: give the right model with --model{candidates}"
        )
    return encoder


def print_report(report: ImportReport, directory: Path) -> None:
    """Prints a summary of the import."""
    click.echo(
        f"{report.imported:,} of {report.found:,} rows imported into {directory},"
        f" {report.read:,} with their image files"
    )
    for problem in report.problems[:10]:
        say(f"skipped {problem}")
    if report.skipped > 10:
        say(f"... and {report.skipped - min(10, len(report.problems)):,} more")
    if report.interrupted:
        say("interrupted; run the same command again to continue")
