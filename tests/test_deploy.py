"""The files of docs/deploy.md say what the program accepts."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from sightline.server.cli import sightline

TOP = Path(__file__).resolve().parent.parent
COMPOSE = yaml.safe_load((TOP / "docs" / "compose.yaml").read_text(encoding="utf-8"))
WORKFLOW = yaml.safe_load((TOP / ".github/workflows/tests.yml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["indexer", "server"])
def test_the_containers_run_commands_that_exist(name: str) -> None:
    command, *arguments = COMPOSE["services"][name]["command"]
    found = sightline.get_command(click.Context(sightline), command)
    assert found is not None
    found.make_context(command, [re.sub(r"\$\{(\w+)[^}]*\}", r"\1", one) for one in arguments])


def test_the_containers_share_the_library_and_cannot_write_the_photos() -> None:
    for name in ("indexer", "server"):
        service = COMPOSE["services"][name]
        assert "library:/data" in service["volumes"]
        (photos,) = (one for one in service["volumes"] if one.endswith("/pictures:ro"))
        assert photos.startswith("${PHOTOS")
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]


def test_only_the_proxy_is_reachable_and_its_address_is_the_trusted_one() -> None:
    services = COMPOSE["services"]
    assert [name for name, service in services.items() if "ports" in service] == ["caddy"]
    address = services["caddy"]["networks"]["front"]["ipv4_address"]
    assert f"--trusted-proxy={address}" in services["server"]["command"]
    caddy = (TOP / "docs" / "Caddyfile").read_text(encoding="utf-8")
    assert "reverse_proxy server:8008" in caddy


def test_the_workflow_runs_the_commands_of_make_test() -> None:
    text = (TOP / "Makefile").read_text(encoding="utf-8")
    make = dict(re.findall(r"^(\w+) [?:]= (.+)$", text, flags=re.MULTILINE))
    steps = [step["run"] for step in WORKFLOW["jobs"]["tests"]["steps"] if "run" in step]
    target = re.search(r"^test: .*\n\t(.+)$", text, flags=re.MULTILINE)
    assert target is not None
    command = target[1].replace("$(BIN)/", "").replace("$(WORKERS)", make["WORKERS"])
    assert shlex.split(steps[-1]) == shlex.split(command)
    assert WORKFLOW["jobs"]["tests"]["strategy"]["matrix"]["os"] == [
        "ubuntu-latest",
        "macos-latest",
        "windows-latest",
    ]
