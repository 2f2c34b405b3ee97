"""``sightline doctor``: is the library whole, and if not, what can be put right."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sightline.indexer.errors import LibraryError
from sightline.server.commands.common import json_option, library_option, print_json, say
from sightline.server.commands.progress import shown

if TYPE_CHECKING:
    from sightline.indexer.indexing.doctor import Finding


@click.command()
@click.option("--repair", is_flag=True, help="Put right what can be.")
@click.option(
    "--no-files",
    is_flag=True,
    help="Do not look whether each picture's file is still there and unchanged.",
)
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
@json_option
@library_option
def doctor(repair: bool, no_files: bool, quiet: bool, as_json: bool, directory: Path) -> int:
    """Say what is damaged, missing, stale or orphaned in the library.

    \b
    sightline doctor
    sightline doctor --repair

    Reads the whole library. --repair removes nothing that cannot be made again: a damaged file is
    kept under another name. The exit status is 1 while something is wrong.
    """
    from sightline.indexer.indexing import doctor as surgery

    if not directory.is_dir():
        raise LibraryError(
            f"there is no library in {directory}: make one with `sightline index FOLDER`"
            " or point to another with --library"
        )
    act = surgery.repair if repair else surgery.examine
    with shown(quiet=quiet) as progress:
        findings = act(
            directory,
            files=not no_files,
            progress=progress,
        )
    if as_json:
        print_json([finding.as_dict() for finding in findings])
    else:
        print_findings(findings)
    return int(any(not finding.repaired for finding in findings))


def print_findings(findings: list[Finding]) -> None:
    """A line each."""
    for finding in findings:
        mark = "repaired" if finding.repaired else finding.kind
        click.echo(f"{mark:<9} {finding.where}: {finding.text}: {finding.remedy}")
    if not findings:
        say("the library is whole")
