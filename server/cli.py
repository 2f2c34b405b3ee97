"""The ``sightline`` command.

Subcommands are in ``server/commands``; each is imported when it is used, so that ``--help`` and
shell completion are fast. Errors become one line on standard error and an exit status: 0 success,
1 failure, 2 wrong usage.
"""

from __future__ import annotations

import atexit
import importlib
import keyword
import os
import sys
from contextlib import suppress
from typing import Any

import click

from sightline import __version__
from sightline.indexer.errors import SightlineError, UsageError
from sightline.server.commands.common import say
from sightline.server.commands.priority import OWN_PROCESS

COMMANDS = {
    "index": "sightline.server.commands.index",
    "reencode": "sightline.server.commands.reencode",
    "embed": "sightline.server.commands.embed",
    "search": "sightline.server.commands.search",
    "serve": "sightline.server.commands.serve",
    "mcp": "sightline.server.commands.mcp",
    "label": "sightline.server.commands.label",
    "ocr": "sightline.server.commands.ocr",
    "describe": "sightline.server.commands.describe",
    "eval": "sightline.server.commands.eval",
    "demo": "sightline.server.commands.demo",
    "status": "sightline.server.commands.manage",
    "failures": "sightline.server.commands.manage",
    "roots": "sightline.server.commands.manage",
    "rebuild": "sightline.server.commands.manage",
    "doctor": "sightline.server.commands.doctor",
    "backup": "sightline.server.commands.backup",
    "restore": "sightline.server.commands.backup",
    "models": "sightline.server.commands.models",
    "duplicates": "sightline.server.commands.duplicates",
    "collections": "sightline.server.commands.collections",
    "export": "sightline.server.commands.export",
    "import": "sightline.server.commands.import_",
}
"""The module of each subcommand, in the order of ``--help``."""

DEBUG_VARIABLE = "SIGHTLINE_DEBUG"


class Sightline(click.Group):
    """The group of subcommands, imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of ``COMMANDS``."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The subcommand ``cmd_name``, or None."""
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        # The function of a command named like a Python keyword (`import`) ends in an underscore.
        name = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=Sightline, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sightline")
def sightline() -> None:
    """Search your images by describing what they show.

    \b
    sightline demo                       try it on sample images, without a download
    sightline index ~/Pictures           create a library of your images
    sightline search "dog on a beach"    search it
    sightline serve                      search it in a browser
    """


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits with its status."""
    _statuses.append(run(arguments, obj=OWN_PROCESS))
    sys.exit(_statuses[0])


_statuses: list[int] = []
"""The exit status of the command, once it has ended."""


@atexit.register
def _end_process() -> None:
    """Ends the process of a command after the exit handlers of other modules. Python would first
    destroy the modules, which takes 0.1 s with torch."""
    if _statuses:
        with suppress(OSError, ValueError):  # else Python reports what it cannot write
            for stream in filter(None, (sys.stdout, sys.stderr)):  # None: closed at the start
                stream.flush()
            os._exit(_statuses[0])


def run(arguments: list[str] | None = None, *, obj: object = None) -> int:
    """Runs the command line; returns 0 success, 1 failure, 2 wrong usage.

    ``SIGHTLINE_DEBUG=1`` shows the traceback of an error. ``obj`` is ``OWN_PROCESS`` if the process
    ends with the command, which may then change process-wide settings.
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
        # The reader closed the pipe (`| head`): not an error. Nothing may be flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (SightlineError, OSError) as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        say(f"sightline: {one_line(error)}")
        return 2 if isinstance(error, UsageError) else 1


def one_line(error: Exception) -> str:
    """The message of ``error`` on one line."""
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}"
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    main()
