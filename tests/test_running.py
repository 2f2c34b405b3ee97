"""What keeps it running says nothing that the command line does not understand."""

from __future__ import annotations

import gc
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from sightline.server.cli import sightline
from sightline.server.commands.serve import keep_products_single, spare_the_collector

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
    packages = project["tool"]["setuptools"]["packages"]
    needed = {name.split(".")[1] for name in packages if "." in name} | {"templates"}
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
    environment = os.environ | {
        "_SIGHTLINE_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    told = subprocess.run(
        [sys.executable, "-c", "from sightline.server.cli import main; main()"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == [expected]


def test_a_server_multiplies_small_matrices_on_one_thread() -> None:
    with threadpool_limits(2, user_api="blas"):  # what was before is put back at its end
        keep_products_single()
        assert (np.eye(2) @ np.eye(2)).trace() == 2  # numpy's products are loaded
        own = [pool for pool in threadpool_info() if pool.get("threading_layer") == "pthreads"]
        assert {pool["num_threads"] for pool in own} <= {1}


def test_a_server_does_not_look_for_garbage_among_what_it_was_started_with() -> None:
    before = len(gc.get_objects())
    try:
        spare_the_collector()
        assert gc.get_freeze_count() > 0.9 * before
        assert len(gc.get_objects()) < 0.1 * before
    finally:
        gc.unfreeze()


def test_indexing_lets_a_server_go_first() -> None:
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, sys, atexit; from sightline.server.cli import main;"
            "atexit.register(lambda: print(os.getpriority(os.PRIO_PROCESS, 0)));"
            "main(sys.argv[1:])",
            "index",
            "--library",
            "nowhere",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert int(told.stdout) == max(10, os.getpriority(os.PRIO_PROCESS, 0))
