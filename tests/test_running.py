"""Deployment files agree with the command line and pyproject; process-wide tuning of the server."""

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
from platformdirs import user_cache_path
from threadpoolctl import threadpool_info, threadpool_limits

from sightline.server.cli import run, sightline
from sightline.server.commands.priority import NEW_OBJECTS
from sightline.server.web.tuning import freeze_heap, limit_blas_threads

TOP = Path(__file__).resolve().parent.parent

EXTRAS = ("raw", "exchange", "watch")
"""Of the Docker image."""


def accepts(arguments: list[str]) -> bool:
    """Whether the command line parses ``arguments``; the command is not run."""
    # With the group's settings: click caches the help option of the first context.
    group = click.Context(sightline, **sightline.context_settings)
    command = sightline.get_command(group, arguments[0])
    assert command is not None
    command.make_context(arguments[0], arguments[1:], parent=group).close()
    return True


def test_dockerfile_uses_existing_commands_and_extras() -> None:
    text = (TOP / "Dockerfile").read_text(encoding="utf-8")
    assert json.loads(re.findall(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)[0]) == ["sightline"]
    assert accepts(json.loads(re.findall(r"^CMD (.*)$", text, re.MULTILINE)[0]))
    extras = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = re.findall(r'"\.\[\$KIND,([a-z,]+)\]"', text)[0].split(",")
    assert {*asked, "cpu", "gpu"} <= set(extras["optional-dependencies"])
    torch = next(one for one in extras["dependencies"] if one.startswith("torch>"))
    assert f'"{torch}"' in text


def test_dockerignore_keeps_what_the_wheel_needs() -> None:
    left_out = (TOP / ".dockerignore").read_text(encoding="utf-8").split()
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["setuptools"]["packages"]
    needed = {name.split(".")[1] for name in packages if "." in name} | {"templates"}
    assert not {*needed, "README.md", "LICENSE", "pyproject.toml"} & set(left_out)


def test_systemd_unit_uses_an_existing_command() -> None:
    text = (TOP / "docs" / "sightline.service").read_text(encoding="utf-8")
    (line,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    program, *arguments = shlex.split(line)
    assert program.endswith("/sightline")
    assert accepts(arguments)


@pytest.mark.parametrize(
    ("words", "expected"),
    [("sightline ind", "plain,index"), ("sightline index --wat", "plain,--watch")],
)
def test_shell_completion_suggests_commands_and_options(words: str, expected: str) -> None:
    environment = os.environ | {
        "_SIGHTLINE_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    result = subprocess.run(
        [sys.executable, "-c", "from sightline.server.cli import main; main()"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == [expected]


def test_numpy_products_are_single_threaded_in_a_server() -> None:
    with threadpool_limits(2, user_api="blas"):  # restores the limits at its end
        limit_blas_threads()
        assert (np.eye(2) @ np.eye(2)).trace() == 2  # loads OpenBLAS
        own = [pool for pool in threadpool_info() if pool.get("threading_layer") == "pthreads"]
        assert {pool["num_threads"] for pool in own} <= {1}


def test_frozen_objects_are_excluded_from_garbage_collection() -> None:
    gc.collect()  # garbage of earlier tests is not frozen
    before = len(gc.get_objects())
    try:
        freeze_heap()
        assert gc.get_freeze_count() > 0.9 * before
        assert len(gc.get_objects()) < 0.1 * before
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("command", [["index"], ["search", "dog"]], ids=lambda words: words[0])
def test_garbage_is_collected_rarely_until_the_process_ends(command: list[str]) -> None:
    code = (
        "import atexit, gc, sys; from sightline.server.cli import main;"
        "atexit.register(lambda: print(gc.isenabled(), gc.get_threshold()[0]));"
        "main([*sys.argv[1:], '--library', 'nowhere'])"
    )
    arguments = [sys.executable, "-c", code, *command]
    result = subprocess.run(arguments, capture_output=True, text=True)
    assert result.stdout.split() == ["True", str(NEW_OBJECTS)]


@pytest.mark.parametrize("command", [["index"], ["search", "dog"]], ids=lambda words: words[0])
def test_the_garbage_collection_of_a_process_that_goes_on_is_left(command: list[str]) -> None:
    before = gc.get_threshold()
    assert run([*command, "--library", "nowhere"]) != 0
    assert gc.get_threshold() == before


def niceness_of_index(*options: str, terminal: bool = False) -> int:
    """The niceness at which ``sightline index`` runs without a terminal or in the foreground of
    one."""
    code = (
        "import os, sys, atexit; from sightline.server.cli import main;"
        "atexit.register(lambda: print(os.getpriority(os.PRIO_PROCESS, 0)));"
        "main(['index', '--library', 'nowhere', *sys.argv[1:]])"
    )
    in_a_terminal = (
        "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
    )
    command = [sys.executable, "-c", code, *options]
    if terminal:
        command = [sys.executable, "-c", in_a_terminal, *command]
    environment = {k: v for k, v in os.environ.items() if k != "SIGHTLINE_NICE"}
    result = subprocess.run(
        command,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        env=environment,
        start_new_session=True,
    )
    return int(result.stdout.split()[-1])


@pytest.mark.parametrize(
    ("options", "terminal", "niceness"),
    [
        ([], False, 10),
        ([], True, 0),
        (["--watch"], True, 10),
        (["--nice", "0"], False, 0),
        (["--nice", "4"], True, 4),
    ],
)
def test_index_runs_at_low_priority_in_the_background_only(
    options: list[str], terminal: bool, niceness: int
) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert niceness_of_index(*options, terminal=terminal) == max(niceness, own)


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_every_package_of_the_docker_image_is_locked_with_hashes(kind: str) -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    needed = [*project["dependencies"], *(one for name in EXTRAS for one in optional[name])]
    locked: set[str] = set()
    for name in ("torch", kind):
        text = (TOP / ".docker" / f"{name}.txt").read_text(encoding="utf-8")
        assert "://" not in text
        for entry in text.replace("\\\n", " ").splitlines():
            found = re.match(r"([a-z0-9.-]+)==\S+", entry)
            assert found, entry
            assert "--hash=sha256:" in entry
            locked.add(found[1])
    # The lock spells names as the package index does: lower case, with dashes.
    names = {
        re.split(r"[^A-Za-z0-9_.-]", one)[0].lower().replace("_", "-")
        for one in (*needed, *optional[kind])
    }
    assert names | {"setuptools"} <= locked


def test_docker_image_and_systemd_unit_run_with_few_rights() -> None:
    docker = (TOP / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^USER (\d+)$", docker, re.MULTILINE) == ["10001"]
    assert docker.count("--require-hashes") == 2
    assert "--read-only" in docker
    unit = (TOP / "docs" / "sightline.service").read_text(encoding="utf-8").splitlines()
    assert {"NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=read-only"} <= set(unit)


def test_docker_image_and_systemd_unit_can_write_the_cache() -> None:
    docker = (TOP / "Dockerfile").read_text(encoding="utf-8")
    [volume] = re.findall(r"^VOLUME (\S+)$", docker, re.MULTILINE)
    [cache] = re.findall(r"XDG_CACHE_HOME=(\S+)", docker)
    assert cache.startswith(f"{volume}/")
    unit = (TOP / "docs" / "sightline.service").read_text(encoding="utf-8").splitlines()
    assert f"CacheDirectory={user_cache_path('sightline', appauthor=False).name}" in unit
