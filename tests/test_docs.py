"""The documents say what the program does."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent
PAGES = [TOP / "README.md", TOP / "CONTRIBUTING.md", TOP / "CHANGELOG.md", *TOP.glob("docs/*.md")]


def test_the_command_line_reference_is_what_the_command_line_says() -> None:
    reference = runpy.run_path(str(TOP / "docs" / "make_cli_reference.py"))["reference"]
    assert (TOP / "docs" / "cli.md").read_text(encoding="utf-8") == reference(), (
        "docs/cli.md is stale: run `make docs`"
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_the_pages_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)", text) + re.findall(r'(?:src|href)="([^"#]+)"', text)
    for target in targets:
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page.name} points to {target}"


def test_every_command_of_the_readme_exists() -> None:
    from sightline.server.cli import COMMANDS

    text = (TOP / "README.md").read_text(encoding="utf-8")
    for name in re.findall(r"^\$? ?sightline ([a-z]+)", text, flags=re.MULTILINE):
        assert name in COMMANDS
    assert "make test" in text
    assert "make demo" in text
