"""``sightline describe``: rank captions by how well they match an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sightline.indexer.errors import NotFoundError, UsageError
from sightline.server.commands.common import (
    device_option,
    json_option,
    library_option,
    open_library,
    print_json,
)

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder
    from sightline.server.search.caption_bank import ScoredText


@click.command()
@click.argument("image", metavar="IMAGE")
@click.option(
    "--captions",
    "-c",
    metavar="FILE|WORDS",
    help="The captions: a file with one per line, or a comma-separated list.  [default: a built-in"
    " list of everyday captions]",
)
@click.option(
    "--model",
    "-m",
    help="Use this model and no library: a name from `sightline models`, a hub id or a folder.",
)
@click.option(
    "-k",
    "count",
    default=10,
    show_default=True,
    type=click.IntRange(1, 10_000),
    help="Number of captions.",
)
@json_option
@library_option
@device_option
def describe(
    image: str,
    captions: str | None,
    model: str | None,
    count: int,
    as_json: bool,
    directory: Path,
    device: str,
) -> int:
    """Rank captions by how well they match IMAGE: a file, or the id of an image in the library.

    \b
    sightline describe sofa.jpg
    sightline describe 42 --captions "a cat on a sofa, a dog on a sofa, an empty sofa"
    sightline describe sofa.jpg --captions captions.txt --model siglip2-b16 --json

    The first number is the relevance of the caption compared with the rest of the library, 0 to 1
    with the threshold at 0.5 (none without a library); the second is the model's probability among
    these captions (for SigLIP independent of the others); the third is the cosine.
    """
    texts = read_captions(captions) if captions else None
    path = Path(image).expanduser()
    found: Sequence[ScoredText]
    if model is not None:
        from sightline.indexer.encoder import Encoder

        if not path.is_file():
            raise NotFoundError(f"there is no file {image}")
        encoder = Encoder.load(model, device=device)
        found = _rank_without_library(encoder, path, texts, count)
    else:
        from sightline.indexer.indexing.encoders import encoder_for
        from sightline.server.search import SearchEngine

        with open_library(directory, read_only=True) as library:
            target: int | bytes
            if path.is_file():
                target = path.read_bytes()
            elif image.isdecimal():
                target = min(int(image), 2**63 - 1)
            else:
                raise NotFoundError(f"there is no file {image}, and it is not an image id")
            encoder = encoder_for(library, device=device)
            with SearchEngine(library, encoder) as engine:
                found = engine.describe(target, texts=texts, k=count)
    if as_json:
        print_json(
            {
                "image": image,
                "model": encoder.model,
                "revision": encoder.revision,
                "captions": [one.as_dict() for one in found],
            }
        )
    else:
        for one in found:
            relevance = f"{one.relevance:5.2f}" if one.relevance is not None else "    -"
            click.echo(f"{relevance}  {one.probability:6.3f}  {one.score:6.3f}  {one.text}")
    return 0


def _rank_without_library(
    encoder: Encoder, path: Path, texts: Sequence[str] | None, count: int
) -> list[ScoredText]:
    """The captions that match a file best, without a library to compare it with."""
    from sightline.indexer.evaluation.evaluate import encode_files
    from sightline.indexer.zero_shot.captions import CAPTIONS
    from sightline.server.search.caption_bank import rank_texts

    wanted = texts or CAPTIONS
    image = encode_files(encoder, [path], workers=1).vectors[0]
    return rank_texts(encoder, wanted, encoder.encode_texts(wanted), image, count)


def read_captions(given: str) -> list[str]:
    """The lines of the file ``given``, or its comma-separated texts. Raises ``UsageError``."""
    from sightline.indexer.zero_shot.labels import file_named, read_text

    path = file_named(given)
    parts = given.split(",") if path is None else read_text(path).splitlines()
    texts = list(dict.fromkeys(text for part in parts if (text := " ".join(part.split()))))
    if not texts:
        raise UsageError(f"there is no text in {given!r}")
    return texts
