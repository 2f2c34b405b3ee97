"""``sightline import`` of shards, the output of ``sightline embed``; and ``--to milvus``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sightline.indexer.errors import UsageError
from sightline.server.commands.common import print_json, say, stopping
from sightline.server.commands.progress import shown

if TYPE_CHECKING:
    from sightline.indexer.types import Embeddings


def are_at(source: str) -> bool:
    """Whether ``source``, a path or a URL, contains shards."""
    if "://" not in source:
        return (Path(source).expanduser() / "embedding.json").is_file()
    from sightline.indexer.shards.place import Place
    from sightline.indexer.shards.shard_files import ORIGIN

    return ORIGIN in Place.at(source).names()


def is_library(source: str) -> bool:
    """Whether ``source`` is the folder of a library."""
    return "://" not in source and (Path(source).expanduser() / "catalog.db").is_file()


def into_milvus(source: str, uri: str, *, index: str, quiet: bool, as_json: bool) -> int:
    """Fills or updates the collection at ``uri`` from a library or from shards."""
    from sightline.indexer.library import Library
    from sightline.indexer.milvus import fill
    from sightline.indexer.shards.place import Place

    with stopping() as stop, shown(quiet=quiet) as progress:
        if is_library(source):
            with Library.open(Path(source).expanduser(), read_only=True) as library:
                report = fill.fill_from_library(
                    library, uri, index=index, progress=progress, stop=stop
                )
        elif are_at(source):
            report = fill.fill_from_shards(
                Place.at(source), uri, index=index, progress=progress, stop=stop
            )
        else:
            raise UsageError(
                f"--to milvus requires a library or shards, and {source} is neither: import it into"
                " a library first"
            )
    if as_json:
        print_json({**asdict(report), "seconds": round(report.seconds, 3), "library": uri})
        return int(report.interrupted)
    click.echo(
        f"{report.added:,} images added, {report.updated:,} updated, {report.removed:,} removed:"
        f" {report.images:,} in {uri}, index {report.index} ({report.seconds:.1f} s)"
    )
    if report.interrupted:
        say("interrupted; run the same command again to continue")
    return int(report.interrupted)


def into_library(
    source: str,
    directory: Path,
    *,
    allow_roots: Sequence[Path] = (),
    quiet: bool,
    as_json: bool,
) -> int:
    """Imports the shards at ``source`` into the library in ``directory``, created if missing."""
    from sightline.indexer.indexing.encoders import encoder_for
    from sightline.indexer.library import Library
    from sightline.indexer.shards import import_shards
    from sightline.indexer.shards.place import Place
    from sightline.indexer.shards.shard_files import read_origin
    from sightline.indexer.zero_shot.captions import CAPTIONS

    place = Place.at(source)
    if Library.exists(directory):
        library = Library.open(directory)
    else:
        library = import_shards.create_for(directory, read_origin(place))

    def queries() -> Embeddings:
        return encoder_for(library, device="cpu").encode_texts(CAPTIONS)

    with library, stopping() as stop, shown(quiet=quiet) as progress:
        report = import_shards.import_shards(
            library,
            place,
            allow_roots=allow_roots,
            text_queries=queries,
            progress=progress,
            stop=stop,
        )
    if as_json:
        document = {"library": str(directory), "model": library.model}
        print_json({**asdict(report), "seconds": round(report.seconds, 3), **document})
        return int(report.interrupted)
    click.echo(
        f"{report.added:,} images added, {report.updated:,} updated, {report.unchanged:,}"
        f" unchanged in {directory}, from {report.shards:,} shards ({report.seconds:.1f} s)"
    )
    if report.failed:
        say(
            f"{report.failed:,} files could not be read when they were embedded: see"
            " `sightline failures`"
        )
    if report.interrupted:
        say("interrupted; run the same command again to continue")
    return int(report.interrupted)
