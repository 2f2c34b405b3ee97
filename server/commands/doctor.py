"""``sightline doctor``: check a library, and repair it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sightline.indexer.errors import LibraryError
from sightline.server.commands.common import (
    json_option,
    library_option,
    print_json,
    printable,
    quiet_option,
    say,
)
from sightline.server.commands.progress import shown

if TYPE_CHECKING:
    from sightline.indexer.catalog import Problem


@click.command()
@click.option("--repair", is_flag=True, help="Repair what can be repaired.")
@click.option(
    "--no-files",
    is_flag=True,
    help="Do not check whether each image file still exists and is unchanged.",
)
@quiet_option
@json_option
@library_option
def doctor(repair: bool, no_files: bool, quiet: bool, as_json: bool, directory: Path) -> int:
    """Report what is corrupt, missing, stale or orphaned in the library.

    \b
    sightline doctor
    sightline doctor --repair

    Reads the whole library. --repair deletes nothing that cannot be created again: a corrupt file
    is renamed. The exit status is 1 while there are problems.
    """
    from sightline.indexer.indexing import doctor as surgery

    if not directory.is_dir():
        raise LibraryError(
            f"there is no library in {directory}: create one with `sightline index FOLDER`"
            " or choose another with --library"
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


def print_findings(findings: list[Problem]) -> None:
    """Prints one line per finding."""
    for finding in findings:
        mark = "repaired" if finding.repaired else finding.kind
        line = printable(f"{finding.where}: {finding.text}: {finding.remedy}")
        click.echo(f"{mark:<9} {line}")
    if not findings:
        say("no problems found")
