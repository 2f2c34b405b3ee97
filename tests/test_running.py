"""What keeps it running says nothing that the command line does not understand."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from server.cli import sightline

TOP = Path(__file__).resolve().parent.parent


def understood(arguments: list[str]) -> bool:
    """Whether the command line takes ``arguments``; nothing is done."""
    command = sightline.get_command(click.Context(sightline), arguments[0])
    assert command is not None
    command.make_context(arguments[0], arguments[1:]).close()
    return True


def test_the_container_runs_what_there_is() -> None:
    text = (TOP / "Dockerfile").read_text(encoding="utf-8")
    assert json.loads(re.findall(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)[0]) == ["sightline"]
    assert understood(json.loads(re.findall(r"^CMD (.*)$", text, re.MULTILINE)[0]))
    extras = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = re.findall(r'"\.\[\$KIND,([a-z,]+)\]"', text)[0].split(",")
    assert {*asked, "cpu", "gpu"} <= set(extras["optional-dependencies"])
    torch = next(one for one in extras["dependencies"] if one.startswith("torch>"))
    assert f'"{torch}"' in text


def test_what_the_wheel_needs_is_sent_to_the_container() -> None:
    left_out = (TOP / ".dockerignore").read_text(encoding="utf-8").split()
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))
    needed = project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    assert not {*needed, "README.md", "LICENSE", "pyproject.toml"} & set(left_out)


def test_the_unit_runs_what_there_is() -> None:
    text = (TOP / "docs" / "sightline.service").read_text(encoding="utf-8")
    (line,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    program, *arguments = shlex.split(line)
    assert program.endswith("/sightline")
    assert understood(arguments)


@pytest.mark.parametrize(
    ("words", "expected"),
    [("sightline ind", "plain,index"), ("sightline index --wat", "plain,--watch")],
)
def test_the_shell_completes(words: str, expected: str) -> None:
    environment = {
        "_SIGHTLINE_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
        "PYTHONPATH": str(TOP),
    }
    told = subprocess.run(
        [sys.executable, "-c", "from server.cli import main; main()"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == [expected]
