"""The command that adds an extra, for every way in which Sightline is installed. ``.ci/run``
installs the wheel with pipx and uv themselves (``.ci/install_tools.sh``)."""

from __future__ import annotations

import json
import shlex
import sys
from importlib import metadata
from pathlib import Path

import pytest

from sightline.indexer import installation
from sightline.indexer.installation import install_command, installed_extras, requirements

TOP = Path(__file__).resolve().parent.parent


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The site-packages of an environment in ``tmp_path`` into which the wheel of a package index
    was installed."""
    info = tmp_path / "lib" / "site-packages" / "sightline-9.dist-info"
    info.mkdir(parents=True)
    lines = [
        "Metadata-Version: 2.4",
        "Name: sightline",
        "Version: 9",
        "Requires-Dist: mcp<3,>=2.3; extra == 'mcp'",
        "Requires-Dist: pydantic>=2.12; extra == 'mcp'",
        "Requires-Dist: nothing-like-this>=1; extra == 'raw'",
        "Requires-Dist: numpy>=2; extra == 'raw'",
    ]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    own = metadata.PathDistribution(info)
    other = metadata.distribution
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(metadata, "requires", lambda name: own.requires)
    monkeypatch.setattr(
        metadata, "distribution", lambda name: own if name == "sightline" else other(name)
    )
    return info


def test_pip_adds_the_extra_with_the_python_of_this_installation(site: Path) -> None:
    assert (
        install_command("mcp") == f"{shlex.quote(sys.executable)} -m pip install 'sightline[mcp]'"
    )


def test_pipx_injects_the_packages_of_the_extra_that_are_missing(
    site: Path, tmp_path: Path
) -> None:
    (tmp_path / "pipx_metadata.json").write_text("{}")
    assert requirements("raw") == ["nothing-like-this>=1", "numpy>=2"]
    assert install_command("raw") == "pipx inject sightline 'nothing-like-this>=1'"


def test_uv_tool_repeats_the_extras_it_was_given(site: Path, tmp_path: Path) -> None:
    (tmp_path / "uv-receipt.toml").write_text(
        '[tool]\nrequirements = [{ name = "sightline", extras = ["cpu", "raw"] }]\n'
    )
    assert install_command("mcp") == "uv tool install 'sightline[cpu,mcp,raw]'"


def test_uvx_repeats_the_extras_that_are_installed(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "archive-v0" / "Xy12"))
    assert installed_extras() == {"mcp"}
    assert install_command("raw") == "uvx --from 'sightline[mcp,raw]' sightline"


def test_a_file_that_was_installed_is_named(site: Path) -> None:
    url = "file:///tmp/dist/sightline-9-py3-none-any.whl"
    (site / "direct_url.json").write_text(json.dumps({"url": url, "archive_info": {}}))
    assert install_command("mcp").endswith(f"-m pip install 'sightline[mcp] @ {url}'")


def test_a_checkout_stays_editable(site: Path) -> None:
    facts = {"url": "file:///home/ana/my%20sightline", "dir_info": {"editable": True}}
    (site / "direct_url.json").write_text(json.dumps(facts))
    assert install_command("mcp").endswith("install --editable '/home/ana/my sightline[mcp]'")


def test_an_environment_without_pip_is_one_of_uv(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "find_spec", lambda name: None)
    python = shlex.quote(sys.executable)
    assert install_command("mcp") == f"uv pip install --python {python} 'sightline[mcp]'"


def test_every_missing_extra_is_reported_with_that_command() -> None:
    for top in ("indexer", "server"):
        for path in (TOP / top).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert 'pip install "sightline[' not in text, path
            assert "pip install 'sightline[" not in text, path
