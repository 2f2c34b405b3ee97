"""``sightline models``: list, show, download and compare models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sightline.indexer.errors import UsageError
from sightline.server.commands.common import (
    device_option,
    json_option,
    print_json,
    quiet_option,
    say,
)

if TYPE_CHECKING:
    from sightline.indexer.encoder.registry import ModelInfo


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--download",
    metavar="MODEL",
    help="Download a model: a name, a hub id, or ID@REVISION, as of a library made elsewhere.",
)
@click.option(
    "--try",
    "queries",
    multiple=True,
    metavar="QUERY",
    help="Compare models on up to 500 photos of --images; repeatable.",
)
@click.option(
    "--images",
    "folder",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The photos for --try.",
)
@click.option(
    "--models",
    "chosen",
    multiple=True,
    metavar="NAME",
    help="The models for --try; more may follow.  [default: up to three that are on this machine]",
)
@click.option("--open", "browse", is_flag=True, help="Open the comparison in a browser.")
@click.option(
    "--html",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the comparison as a page that needs no other file.",
)
@quiet_option
@json_option
@device_option
def models(
    names: tuple[str, ...],
    download: str | None,
    queries: tuple[str, ...],
    folder: Path | None,
    chosen: tuple[str, ...],
    browse: bool,
    html: Path | None,
    quiet: bool,
    as_json: bool,
    device: str,
) -> None:
    """List the named models, show one with NAME, download one, or compare some on your photos.

    \b
    sightline models siglip2-b16
    sightline models --try "a dog on a beach" --images ~/Pictures --open
    sightline models --try "a red car" --images ~/Pictures --models builtin laion-b32 siglip2-b16

    Quality is the mean of text-to-image recall@1, @5 and @10 in percent. --try downloads nothing.
    """
    from sightline.indexer.encoder.registry import BUILTIN, DEFAULT, MODELS

    def as_document(model: ModelInfo) -> dict[str, Any]:
        return {**asdict(model), "size_mb": size_mb(model), "default": model.name == DEFAULT}

    if queries:
        if folder is None:
            raise click.UsageError("--try needs --images DIR, a folder of your photos")
        compare_models(
            queries,
            folder,
            [*chosen, *names],
            device=device,
            quiet=quiet,
            as_json=as_json,
            browse=browse,
            html=html,
        )
        return
    if folder is not None or chosen or browse or html is not None:
        raise click.UsageError("--images, --models, --open and --html belong to --try QUERY")
    if download is not None:
        from sightline.indexer.encoder import model_files

        wanted, _, revision = download.partition("@")
        files = model_files.resolve(wanted, revision=revision or None)
        if as_json:
            print_json({"model": files.id, "revision": files.revision})
        else:
            click.echo(f"{files.id} (revision {files.revision}) is on this machine")
        return
    if len(names) > 1:
        raise click.UsageError("name one model")
    if names:
        (name,) = names
        found = next((model for model in MODELS if name in (model.name, model.repo)), None)
        if found is None:
            raise UsageError(f"no model is called {name!r}: `sightline models` lists the names")
        if as_json:
            print_json(as_document(found))
        else:
            print_model(found, default=found.name == DEFAULT)
        return
    if as_json:
        print_json([as_document(model) for model in MODELS])
        return
    click.echo(f"{'name':<18} {'size':>8}  {'languages':<12}  {'licence':<12}  quality")
    for model in MODELS:
        title = f"{model.name} *" if model.name == DEFAULT else model.name
        quality = f"{model.recall:.1f}" if model.recall is not None else "-"
        click.echo(
            f"{title:<18} {size_mb(model):>5,} MB  {model.languages:<12}  {model.licence:<12}"
            f"  {quality:>7}"
        )
    say(
        f"* default. {BUILTIN} needs no download. More about one: sightline models NAME."
        " Any CLIP-family model works: pass a hub id or a folder to --model."
    )


def compare_models(
    queries: Sequence[str],
    folder: Path,
    names: Sequence[str],
    *,
    device: str,
    quiet: bool,
    as_json: bool,
    browse: bool,
    html: Path | None,
) -> None:
    """``models --try``."""
    from sightline.server.commands import try_models
    from sightline.server.commands.hits import open_page

    chosen = list(dict.fromkeys(names)) or try_models.models_here()
    found = try_models.try_models(queries, folder, chosen, device=device, quiet=quiet)
    thumbnails = {} if as_json and not browse and html is None else try_models.thumbnails_of(found)
    if as_json:
        print_json(try_models.as_document(found))
    else:
        try_models.print_results(found, thumbnails)
    if html is not None or browse:
        page = try_models.page(found, thumbnails, folder)
        if html is not None:
            html.write_text(page, encoding="utf-8")
        if browse:
            open_page(page, "models.html")
    if len(chosen) == 1:
        say(
            "only one model was tried: download others first (`sightline models --download NAME`)"
            " and name them with --models"
        )


def size_mb(model: ModelInfo) -> int:
    """Megabytes of the weights: of the download, or of the files that are part of Sightline."""
    if model.download_mb:
        return model.download_mb
    from sightline.indexer.encoder.registry import builtin_directory

    return round(sum(file.stat().st_size for file in builtin_directory().iterdir()) / 1e6)


def print_model(model: ModelInfo, *, default: bool) -> None:
    """Prints everything about one model, a line each."""
    from sightline.indexer.encoder.registry import RECALL_SOURCE

    size = f"{model.image_size} x {model.image_size} pixels"
    seen = f"{size} or as many in the photo's own shape" if model.any_shape else size
    download = "to download" if model.download_mb else "part of Sightline"
    rows = {
        "name": model.name + (" (the default)" if default else ""),
        "hub": model.repo,
        "good for": model.note,
        "size": f"{size_mb(model):,} MB, {download}; {model.parameters} million parameters",
        "embedding": f"{model.dimension} dimensions, of {seen}",
        "languages": model.languages,
        "licence": model.licence,
        "quality": None
        if model.recall is None
        else f"{model.recall:.1f} % mean recall@1, @5, @10 on Crossmodal-3600 ({RECALL_SOURCE})",
    }
    for name, value in rows.items():
        if value:
            click.echo(f"{name:<10} {value}")
