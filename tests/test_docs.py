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


def test_the_pictures_and_queries_of_the_readme_are_what_the_demo_shows(gallery: Path) -> None:
    """Every query that the README suggests, or that a picture of docs/make_screenshots.py shows,
    has strong matches in the gallery that ``make demo`` draws."""
    from sightline.indexer.indexing.encoders import encoder_for
    from sightline.indexer.library import Library
    from sightline.server.search import SearchEngine

    text = (TOP / "README.md").read_text(encoding="utf-8")
    shots = runpy.run_path(str(TOP / "docs" / "make_screenshots.py"))["SHOTS"]
    suggested = re.findall(r"Try `([^`]+)`", text)
    assert suggested
    pictures = {Path(name).name for name in re.findall(r"docs/images/(\w+\.jpg)", text)}
    assert pictures <= set(shots)
    with (
        Library.open(gallery / "library", read_only=True) as library,
        SearchEngine(library, encoder_for(library)) as engine,
    ):
        for query in [*suggested, *(query for query, _ in shots.values())]:
            assert engine.search(query, k=1).good, query


def test_the_table_of_models_has_the_facts_of_the_registry() -> None:
    from sightline.indexer.encoder.registry import MODELS

    text = (TOP / "docs" / "models.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .+ \| `([\w-]+)` \| (.+) \| [\d.]+ \|$", text, flags=re.MULTILINE)
    known = {model.name: model for model in MODELS}
    assert len(rows) >= 8
    for name, facts in rows:
        model = known[name]
        recall = "-" if model.recall is None else f"{model.recall}"
        assert facts.split(" | ") == [
            model.languages,
            model.licence,
            f"{model.download_mb:,} MB",
            recall,
            str(model.dimension),
        ]
