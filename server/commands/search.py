"""``sightline search``: search by text, by image, or both."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sightline.indexer.errors import UsageError
from sightline.server.commands.common import (
    device_option,
    json_option,
    open_any,
    place_option,
    print_json,
    print_path,
    say,
    say_dates,
)
from sightline.server.commands.hits import (
    open_in_browser,
    print_formatted,
    print_hits,
    print_json_lines,
)
from sightline.server.commands.priority import collect_garbage_rarely, owns_process

if TYPE_CHECKING:
    from sightline.indexer.library import AnyLibrary


@click.command()
@click.argument("words", metavar="[QUERY]...", nargs=-1)
@click.option(
    "--image",
    "-i",
    "images",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Search with this image; repeatable, and combinable with QUERY.",
)
@click.option("--like", type=click.IntRange(min=1), help="Search with the image of this id.")
@click.option(
    "-k",
    "count",
    default=10,
    show_default=True,
    type=click.IntRange(1, 10_000),
    help="Number of hits.",
)
@click.option("--offset", default=0, type=click.IntRange(0), help="Hits to skip.")
@click.option("--paths-only", is_flag=True, help="Print paths only, one per line.")
@click.option("-0", "--null", is_flag=True, help="End each path with a NUL byte, for xargs -0.")
@click.option(
    "--format",
    "template",
    metavar="TEMPLATE",
    help="Print this for each hit, with the fields of --json: '{relevance:.2f}\\t{absolute}'.",
)
@click.option("--jsonl", is_flag=True, help="Print a line of JSON for each hit.")
@click.option("--open", "browse", is_flag=True, help="Show the hits in the browser.")
@click.option(
    "--previews/--no-previews",
    default=None,
    help="Show the images in a terminal that can (kitty's protocol, sixel); by default if the extra"
    " previews is installed. Off in pipes.",
)
@click.option(
    "--fail-empty",
    is_flag=True,
    help="Exit with status 1 unless a hit is above the relevance threshold.",
)
@json_option
@place_option
@device_option
def search(
    words: tuple[str, ...],
    images: tuple[Path, ...],
    like: int | None,
    count: int,
    offset: int,
    paths_only: bool,
    null: bool,
    template: str | None,
    jsonl: bool,
    browse: bool,
    previews: bool | None,
    fail_empty: bool,
    as_json: bool,
    directory: Path | str,
    device: str,
) -> int:
    """Find the images that best match QUERY.

    \b
    sightline search "dog on a beach"
    sightline search "dog on a beach -people after:2023-06-01 in:Holidays"
    sightline search --image sofa.jpg "2:in leather"
    sightline search "birthday cake" --paths-only -0 | xargs -0 open
    sightline search "birthday cake" --format '{relevance:.2f}\\t{absolute}'
    sightline search @Beaches after:2024

    Text describes the image; -word and -"a phrase" are negative terms; 2:word has twice the weight.
    date: after: before: in: camera: lens: type: is: near: keyword: person: place: country: text:
    rating: name: collection: are exact filters; quote text that only looks like a filter. Dates in
    plain words (july 2023, last winter, im Jahr 2018) are filters too, and are reported.
    date:2012-06 or date:2012-06-01..2012-06-14 is a period; after:2012 starts on its first day,
    before:2012 ends on the day before it. @NAME is a search that was saved on the page. Put --
    before a QUERY that starts with a dash. For a misspelt word or a filter that does not exist a
    correction is offered on standard error, or as "correction" of --json.
    """
    if not words and not images and like is None:
        raise click.UsageError("nothing to search for: give QUERY, --image FILE or --like ID")
    if sum((as_json, jsonl, paths_only, template is not None)) > 1:
        raise click.UsageError("--json, --jsonl, --paths-only and --format exclude each other")

    collect_garbage_rarely()
    if owns_process():
        # Before numpy is imported: more threads wait for each other longer than one search takes.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

    from sightline.indexer.catalog.text_vectors import StoredTextVectors
    from sightline.indexer.indexing.encoders import encoder_for
    from sightline.server.search import SearchEngine
    from sightline.server.search.spelling import correction

    with closing(open_any(directory)) as library:
        query = " ".join(_with_saved_search(words, library))
        if like is not None:
            query = f"{query} like:{like}".strip()
        encoder = encoder_for(library, device=device, few_texts=True)
        stored = None
        if isinstance(directory, Path):
            stored = StoredTextVectors(
                directory,
                model=encoder.model,
                revision=encoder.revision,
                dimension=encoder.dimension,
            )
        engine = SearchEngine(library, encoder, stored_texts=stored)
        with engine:
            data = [path.read_bytes() for path in images]
            result = engine.search(
                query, k=count, offset=offset, images=data, fold=not (paths_only or null)
            )
            say_dates(result)
            if as_json:
                found = correction(library, query)
                offered = None if found is None else found.as_dict()
                print_json({**result.as_dict(), "correction": offered})
            elif jsonl:
                print_json_lines(result)
            elif template is not None:
                print_formatted(result, template, null=null)
            elif paths_only or null:
                for hit in result.hits:
                    print_path(hit.record.absolute, null=null)
            else:
                print_hits(result, previews=previews)
                if (found := correction(library, query)) is not None:
                    say(f"Did you mean {found.text}?")
            if browse:
                open_in_browser(result)
    return 1 if fail_empty and not any(hit.match for hit in result.hits) else 0


def _with_saved_search(words: Sequence[str], library: AnyLibrary) -> Sequence[str]:
    """``words`` with the query of the saved search that the first one (``@name``) names."""
    if not words or not words[0].startswith("@") or words[0] == "@":
        return words
    from sightline.indexer.library import Library

    if not isinstance(library, Library):
        raise UsageError("saved searches are in a library in a folder, not in Milvus")
    return [library.kept.search(words[0][1:]).query, *words[1:]]
