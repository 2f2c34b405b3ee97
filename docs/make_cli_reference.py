"""Writes docs/cli.md from the command line's own ``--help``; a test fails when it is stale.

python docs/make_cli_reference.py
"""

from __future__ import annotations

from pathlib import Path

import click

from sightline.server.cli import sightline

HERE = Path(__file__).resolve().parent

WIDTH = 88
"""Columns: fixed, so that the page does not depend on whose terminal wrote it."""


def reference() -> str:
    """The whole of docs/cli.md."""
    parts = [
        "# The command line",
        "Made by `docs/make_cli_reference.py` from `sightline --help`; do not edit by hand.",
        "Every command prints results on standard output, and progress and messages on standard"
        " error. Exit status: 0 done, 1 could not, 2 wrong usage.",
        "## sightline",
        block(sightline, "sightline"),
    ]
    context = click.Context(sightline)
    for name in sightline.list_commands(context):
        command = sightline.get_command(context, name)
        assert command is not None
        parts += [f"## sightline {name}", block(command, f"sightline {name}")]
        if isinstance(command, click.Group):
            for below, subcommand in command.commands.items():
                full = f"sightline {name} {below}"
                parts += [f"### {full}", block(subcommand, full)]
    return "\n\n".join(parts) + "\n"


def block(command: click.Command, name: str) -> str:
    """The help text of one command as a code block."""
    context = click.Context(
        command,
        info_name=name,
        max_content_width=WIDTH,
        terminal_width=WIDTH,
        help_option_names=sightline.context_settings["help_option_names"],
    )
    return f"```text\n{command.get_help(context).rstrip()}\n```"


if __name__ == "__main__":
    (HERE / "cli.md").write_text(reference(), encoding="utf-8")
