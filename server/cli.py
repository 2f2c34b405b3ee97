"""The ``sightline`` command: the one place that knows both halves.

Subcommands live in ``server/commands``; each is loaded when it is asked for, so that ``--help``
and shell completion stay instant. Errors become one line on standard error and an exit status:
0 done, 1 could not, 2 wrong usage.
"""

from __future__ import annotations

import importlib
import keyword
import os
import sys
from typing import Any

import click

from sightline import __version__
from sightline.indexer.errors import SightlineError, UsageError

COMMANDS = {
    "index": "sightline.server.commands.index",
    "embed": "sightline.server.commands.embed",
    "search": "sightline.server.commands.search",
    "serve": "sightline.server.commands.serve",
    "label": "sightline.server.commands.label",
    "describe": "sightline.server.commands.describe",
    "eval": "sightline.server.commands.eval",
    "demo": "sightline.server.commands.demo",
    "status": "sightline.server.commands.manage",
    "failures": "sightline.server.commands.manage",
    "roots": "sightline.server.commands.manage",
    "rebuild": "sightline.server.commands.manage",
    "doctor": "sightline.server.commands.doctor",
    "models": "sightline.server.commands.manage",
    "duplicates": "sightline.server.commands.duplicates",
    "export": "sightline.server.commands.export",
    "import": "sightline.server.commands.import_",
}
"""Name of each subcommand and the module that holds it, in the order of ``--help``."""

DEBUG_VARIABLE = "SIGHTLINE_DEBUG"

BACKGROUND = {"index", "rebuild", "import", "label"}
"""What takes every core for minutes or hours, while somebody may be searching the same library."""

NICENESS = 10
"""Of those: a core that nothing else wants is theirs as before; where a server wants it too, the
server gets nine tenths of it."""

OWN_PROCESS = "own process"


class Sightline(click.Group):
    """The group of subcommands, each imported when it is first needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order in which a person needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The subcommand of that name, or None."""
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        # A word of Python's own (`import`) has an underscore behind it there.
        name = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=Sightline, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sightline")
@click.pass_context
def sightline(context: click.Context) -> None:
    """Find your pictures by what is in them.

    \b
    sightline demo                       see it work, with nothing to download
    sightline index ~/Pictures           make a library of your pictures
    sightline search "dog on a beach"    find some
    sightline serve                      the same in a browser
    """
    if context.obj == OWN_PROCESS and context.invoked_subcommand in BACKGROUND:
        step_back()


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and ends the process with its exit status."""
    sys.exit(run(arguments, obj=OWN_PROCESS))


def step_back() -> None:
    """Lets other programs go first, where the system knows how."""
    if hasattr(os, "setpriority"):
        now = os.getpriority(os.PRIO_PROCESS, 0)
        os.setpriority(os.PRIO_PROCESS, 0, max(now, NICENESS))


def run(arguments: list[str] | None = None, *, obj: object = None) -> int:
    """Runs the command line; returns 0 done, 1 could not, 2 wrong usage.

    ``SIGHTLINE_DEBUG=1`` shows the traceback behind an error. ``obj`` is ``OWN_PROCESS`` where the
    process ends with the command, and so may change what holds for all of it.
    """
    try:
        result: Any = sightline.main(
            arguments, prog_name="sightline", standalone_mode=False, obj=obj
        )
        return result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        return 1
    except BrokenPipeError:
        # The reader of a pipe has gone (`| head`): not our error, and nothing left to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (SightlineError, OSError) as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        click.echo(f"sightline: {one_line(error)}", err=True)
        return 2 if isinstance(error, UsageError) else 1


def one_line(error: Exception) -> str:
    """The message of ``error`` on one line, whatever is in it."""
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}"
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    main()
