"""``sightline describe``: which captions fit a picture best."""

from __future__ import annotations

from pathlib import Path

import click

from indexer.errors import NotFoundError, UsageError
from server.commands.common import (
    device_option,
    json_option,
    library_option,
    load_encoder,
    open_library,
    print_json,
)


@click.command()
@click.argument("image", metavar="IMAGE")
@click.option(
    "--captions",
    "-c",
    metavar="FILE|WORDS",
    help="Texts to choose among: a file with one a line, or words with commas between them."
    "  [default: a bank of everyday captions]",
)
@click.option("-k", "count", default=10, show_default=True, type=click.IntRange(1, 10_000))
@json_option
@library_option
@device_option
def describe(
    image: str, captions: str | None, count: int, as_json: bool, directory: Path, device: str
) -> int:
    """Say which captions fit IMAGE best: a file, or the number of a picture of the library.

    \b
    sightline describe sofa.jpg
    sightline describe 42 --captions "a cat on a sofa, a dog on a sofa, an empty sofa"
    sightline describe sofa.jpg --captions captions.txt --json

    The first figure is how well a text fits this picture beside the rest of the library, 0 to 1 and
    0.5 where it begins to; the second is the model's own probability among these texts (for SigLIP
    of each by itself); the third is the cosine.
    """
    from server.search import SearchEngine

    texts = read_captions(captions) if captions else None
    with open_library(directory, read_only=True) as library:
        shown: int | bytes
        path = Path(image).expanduser()
        if path.is_file():
            shown = path.read_bytes()
        elif image.isdecimal():
            shown = min(int(image), 2**63 - 1)
        else:
            raise NotFoundError(f"there is no file {image}, and it is no picture's number")
        with SearchEngine(library, load_encoder(library, device)) as engine:
            found = engine.describe(shown, texts=texts, k=count)
        model, revision = library.model, library.revision
    if as_json:
        print_json(
            {
                "image": image,
                "model": model,
                "revision": revision,
                "captions": [one.as_dict() for one in found],
            }
        )
    else:
        for one in found:
            click.echo(
                f"{one.relevance:5.2f}  {one.probability:6.3f}  {one.score:6.3f}  {one.text}"
            )
    return 0


def read_captions(given: str) -> list[str]:
    """Texts of a file, one a line, or between the commas of ``given``. Raises ``UsageError``."""
    from indexer.zero_shot import is_file, read_text

    path = Path(given).expanduser()
    parts = read_text(path).splitlines() if is_file(path) else given.split(",")
    texts = list(dict.fromkeys(text for part in parts if (text := " ".join(part.split()))))
    if not texts:
        raise UsageError(f"there is no text in {given!r}")
    return texts
