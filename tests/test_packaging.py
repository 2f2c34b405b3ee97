"""The wheel: one top-level package, complete, usable without the checkout."""

from __future__ import annotations

import ast
import os
import re
import runpy
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent
SETTINGS = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


DIST = runpy.run_path(str(TOP / ".ci" / "dist.py"))

tracked = DIST["tracked"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the source distribution, built from a copy of what git tracks."""
    wheel, sdist = DIST["build"](tmp_path_factory.mktemp("dist"))
    return wheel, sdist


@pytest.fixture(scope="module")
def wheel(built: tuple[Path, Path]) -> Path:
    return built[0]


def test_two_builds_of_one_commit_are_equal_byte_for_byte(
    built: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    before = os.umask(0o077)
    try:
        again = DIST["build"](tmp_path / "again")
    finally:
        os.umask(before)
    for one, other in zip(built, again, strict=True):
        assert one.name == other.name
        assert one.read_bytes() == other.read_bytes()


def test_the_source_distribution_is_complete(built: tuple[Path, Path], tmp_path: Path) -> None:
    wheel, sdist = built
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        archive.extractall(tmp_path, filter="data")
    assert {"pyproject.toml", "README.md", "LICENSE", "py.typed"} <= names
    (source,) = tmp_path.iterdir()
    code = "import sys, setuptools.build_meta as b; b.build_wheel(sys.argv[1])"
    command = [sys.executable, "-c", code, str(tmp_path)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (again,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert {n for n in one.namelist() if ".dist-info/" not in n} == {
            n for n in other.namelist() if ".dist-info/" not in n
        }


def test_there_is_one_version(wheel: Path) -> None:
    from sightline import __version__

    changelog = (TOP / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)", changelog, flags=re.MULTILINE)[0] == __version__
    assert wheel.name == f"sightline-{__version__}-py3-none-any.whl"
    for path in (TOP / "pyproject.toml", TOP / "Dockerfile"):
        assert __version__ not in re.findall(r"\d+\.\d+\.\d+", path.read_text(encoding="utf-8"))


def test_every_package_directory_is_listed() -> None:
    found = {
        "sightline." + ".".join(path.relative_to(TOP).parent.parts)
        for top in ("indexer", "server", "data")
        for path in (TOP / top).rglob("__init__.py")
    }
    assert set(SETTINGS["packages"]) == found | {"sightline"}


def test_every_imported_package_is_declared() -> None:
    """What another package happens to install may be gone with its next release."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        lines += extra
    declared = {re.split(r"[^\w.-]", line)[0].lower().replace("_", "-") for line in lines}
    # Tests of the extra openclip install it beside the environment.
    owners = {"open_clip": ["open_clip_torch"], **packages_distributions()}
    for top in ("indexer", "server", "data"):
        for path in (TOP / top).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and not node.level:
                    names.append(node.module or "")
                for name in {name.partition(".")[0] for name in names}:
                    if name in sys.stdlib_module_names or name in ("sightline", "_typeshed"):
                        continue
                    found = {one.lower().replace("_", "-") for one in owners.get(name, [name])}
                    assert found & declared, f"{path}: {name} is not declared in pyproject.toml"


def test_the_wheel_contains_one_top_level_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"sightline"}


def test_the_wheel_contains_every_file_needed_at_run_time(wheel: Path) -> None:
    needed = {
        f"sightline/{name}"
        for name in tracked()
        if name.startswith(("indexer/", "server/", "data/", "templates/"))
        or name in {"__init__.py", "__main__.py", "py.typed"}
    }
    assert needed
    with zipfile.ZipFile(wheel) as archive:
        assert needed <= set(archive.namelist())


def test_the_installed_wheel_works_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    photos = tmp_path / "photos"
    photos.mkdir()
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import sightline, numpy;"
        f"assert sightline.__file__.startswith({str(tmp_path)!r});"
        "from PIL import Image; from sightline.server.cli import run;"
        f"Image.new('RGB', (64, 48), 'red').save({str(photos / 'red.jpg')!r});"
        f"place = ['--library', {str(tmp_path / 'library')!r}];"
        f"assert run(['index', {str(photos)!r}, '--model', 'builtin', '--quiet', *place]) == 0;"
        "assert run(['search', 'red', '--paths-only', *place]) == 0;"
        "from sightline import Library, SearchEngine;"
        "from sightline.server.web.app import create_app;"
        f"library = Library.open({str(tmp_path / 'library')!r}); engine = SearchEngine(library);"
        "page = create_app(engine).test_client().get('/'); assert page.status_code == 200;"
        "engine.close(); library.close()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert str(photos / "red.jpg") in result.stdout


def test_python_dash_m_sightline_is_the_command() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "sightline", "--version"], capture_output=True, text=True, cwd="/"
    )
    assert (result.returncode, result.stdout.split()[:2]) == (0, ["sightline,", "version"])
