"""``sightline duplicates``: list groups of duplicate images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sightline.server.commands.common import (
    json_option,
    library_option,
    open_library,
    print_json,
    print_path,
    printable,
    say,
)

if TYPE_CHECKING:
    from sightline.indexer.types import ImageRecord
    from sightline.server.search.duplicate_groups import Group


@click.command()
@click.argument("filters", nargs=-1, metavar="[FILTERS]...")
@click.option("--copies", is_flag=True, help="Only files that are equal byte for byte.")
@click.option(
    "--paths-only",
    is_flag=True,
    help="Print the paths of all files but the best of each group, one per line.",
)
@click.option("-0", "--null", is_flag=True, help="End each path with a NUL byte, for xargs -0.")
@json_option
@library_option
def duplicates(
    filters: tuple[str, ...],
    copies: bool,
    paths_only: bool,
    null: bool,
    as_json: bool,
    directory: Path,
) -> None:
    """List groups of duplicate images, the best file of each group first.

    \b
    sightline duplicates
    sightline duplicates in:Holidays --json
    sightline duplicates --copies --paths-only -0 | xargs -0 ls -l

    Byte-equal files come first, then images whose embeddings and perceptual hashes agree. The best
    file has the most pixels, then the most bytes. Nothing is deleted.

    One file counts once, whatever its paths: symlinks and hard links of a file are no copies of it.
    --paths-only checks each file again just before it prints its path: it exists, the best file of
    its group is another file that exists, and their bytes are equal (of similar images: unchanged
    since they were indexed).
    """
    from sightline.server.search.duplicate_groups import DuplicateFinder, removable

    with open_library(directory, read_only=True) as library:
        found = DuplicateFinder(library).find(" ".join(filters), similar=not copies)
        groups = found.groups
        wanted = [id for group in groups for id in group.ids]
        records = {record.id: record for record in library.images(wanted)}
    if as_json:
        print_json(
            {
                "groups": [group.as_dict(records, absolute=True) for group in groups],
                "spare_files": sum(len(group.ids) - 1 for group in groups),
                "spare_bytes": sum(group.spare for group in groups),
            }
        )
    elif paths_only or null:
        left_out = split = 0
        for record, may_go in removable(groups, records):
            if may_go and not null and len(str(record.absolute).splitlines()) > 1:
                split += 1  # a program that reads lines would delete other files
            elif may_go:
                print_path(record.absolute, null=null)
            left_out += not may_go
        if split:
            say(f"{split:,} files not listed: their paths contain line breaks; use -0")
        if left_out:
            say(
                f"{left_out:,} files not listed: they have changed or been deleted meanwhile, or"
                " are in an archive; run `sightline index`"
            )
    else:
        print_groups(groups, records)
    if found.missing:
        say(f"{found.missing:,} images left out: their files are not there now")


def print_groups(groups: list[Group], records: dict[int, ImageRecord]) -> None:
    """Prints the groups as text."""
    for group in groups:
        click.echo(f"{group.kind}:")
        for n, id in enumerate(group.ids):
            record = records[id]
            size = f"{record.info.width}x{record.info.height}"
            mark = "best" if not n else ""
            click.echo(f"  {mark:<5}{size:>11} {record.size:>12,}  {printable(record.absolute)}")
    spare = sum(len(group.ids) - 1 for group in groups)
    megabytes = sum(group.spare for group in groups) / 1e6
    say(f"{len(groups):,} groups, {spare:,} files besides the best, {megabytes:,.1f} MB")
