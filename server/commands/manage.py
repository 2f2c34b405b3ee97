"""``sightline status``, ``failures``, ``roots`` and ``rebuild``."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import click

from sightline.indexer.errors import LibraryError
from sightline.indexer.files import sensitive
from sightline.server.commands.common import (
    allow_root_option,
    json_option,
    library_option,
    open_any,
    open_library,
    place_option,
    print_json,
    printable,
    quiet_option,
    say,
)
from sightline.server.commands.priority import nice_option
from sightline.server.commands.progress import shown


@click.command()
@json_option
@place_option
def status(as_json: bool, directory: Path | str) -> None:
    """Show the library's images, model, index and failures."""
    with closing(open_any(directory)) as library:
        facts = library.status()
    if as_json:
        print_json(facts)
        return
    index = facts["index"]
    recall = ", ".join(f"{kind} {value:.3f}" for kind, value in index["recall"].items())
    rows = {
        "library": facts["library"],
        "model": f"{facts['model']} ({facts['dimension']} dimensions)",
        "precision": _precision(facts.get("int8_check")),
        "images": f"{facts['images']:,}",
        "failures": f"{facts['failures']:,}"
        + (" (see `sightline failures`)" if facts["failures"] else ""),
        "text": f"in {facts['with_text']:,} images" + (", read by every run" * facts["reads_text"])
        if facts.get("with_text") or facts.get("reads_text")
        else "",
        "index": f"{index['type']}, {index['count']:,} vectors, generation {index['generation']}",
        "nprobe": index["nprobe"],
        "recall@10": recall,
        "pending": f"{index['pending']:,} newer, searched exactly" if index["pending"] else "",
        "note": index["note"],
        "reencoding": _reencoding(facts.get("reencoding")),
        "folders": "\n".join(
            printable(root["path"]) + ("" if root["available"] else "  (not available)")
            for root in facts["roots"]
        ),
    }
    for name, value in rows.items():
        for number, line in enumerate(str(value).splitlines() if value else []):
            click.echo(f"{name if not number else '':<10} {line}")


def _precision(check: dict[str, Any] | None) -> str:
    if check is None:
        return ""
    from sightline.indexer.types import Int8Check

    found = Int8Check(**check)
    chosen = "int8" if found.passed else "float32, not int8,"
    return f"{chosen} on CPUs without bfloat16: {found.figures}"


def _reencoding(facts: dict[str, Any] | None) -> str:
    if facts is None:
        return ""
    state = "running" if facts["running"] else "interrupted: `sightline reencode` continues"
    return f"to {printable(facts['model'])}: {facts['done']:,} of {facts['total']:,}, {state}"


@click.command()
@json_option
@place_option
def failures(as_json: bool, directory: Path | str) -> None:
    """List the files that could not be read, with reasons."""
    with closing(open_any(directory)) as library:
        found = library.failures()
    if as_json:
        print_json([{"path": str(Path(f.root) / f.path), "reason": f.reason} for f in found])
        return
    for failure in found:
        click.echo(f"{printable(f'{Path(failure.root) / failure.path}: {failure.reason}')}")
    if not found:
        say("no failures")


@click.command()
@click.option(
    "--move",
    nargs=2,
    metavar="OLD NEW",
    type=click.Path(path_type=Path),
    help="The folder OLD has moved to NEW; nothing is encoded again.",
)
@click.option(
    "--forget",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="Delete a folder and its images from the library; the files are not touched.",
)
@allow_root_option
@json_option
@library_option
def roots(
    move: tuple[Path, Path] | None,
    forget: Path | None,
    allow_roots: tuple[Path, ...],
    as_json: bool,
    directory: Path,
) -> None:
    """List the folders of the library, or move or forget one.

    \b
    sightline roots --move /media/usb/Pictures /home/ana/Pictures
    """
    if move and forget:
        raise click.UsageError("--move and --forget exclude each other")
    with open_library(directory, read_only=not (move or forget)) as library:
        if move:
            sensitive.refuse([move[1]], allow_roots)
            library.move_root(move[0], move[1])
        if forget:
            library.forget_root(forget)
        facts = library.roots()
    if as_json:
        print_json(facts)
        return
    for root in facts:
        suffix = "" if root["available"] else "  (not available)"
        click.echo(f"{root['images']:>9,}  {printable(root['path'])}{suffix}")


@click.command()
@click.option(
    "--index",
    "kind",
    type=click.Choice(["auto", "exact", "ivf-pq", "ivf-rabitq"]),
    default="auto",
    show_default=True,
    help="The type of vector index; auto chooses by the number of images.",
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    help="Where the index is trained: auto, cpu, cuda.",
)
@quiet_option
@nice_option
@json_option
@library_option
def rebuild(kind: str, device: str, quiet: bool, as_json: bool, directory: Path) -> None:
    """Rebuild the vector index from the catalog. Nothing is encoded again.

    \b
    sightline rebuild
    sightline rebuild --index ivf-rabitq
    """
    with open_library(directory) as library, shown(quiet=quiet) as progress:
        if not library.count:
            raise LibraryError(f"the library in {directory} is empty: index images first")
        from sightline.indexer.indexing.run import rebuild_index

        note = rebuild_index(library, kind=kind, device=device, progress=progress)
        facts = library.status()["index"]
    if note:
        say(note)
    if as_json:
        print_json(facts)
    else:
        click.echo(
            f"{facts['type']} index of {facts['count']:,} vectors, generation {facts['generation']}"
        )
