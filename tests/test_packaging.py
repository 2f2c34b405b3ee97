"""The wheel: one top-level package, complete, usable without the checkout."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent
SETTINGS = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what git tracks."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in tracked():
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((TOP / name).read_bytes())
    build = "import setuptools.build_meta as b, sys; b.build_wheel(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", build, str(folder)], cwd=source, check=True, capture_output=True
    )
    (built,) = folder.glob("*.whl")
    return built


def tracked() -> list[str]:
    """Paths of the files that git tracks and that exist."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=TOP,
        check=True,
        capture_output=True,
        text=True,
    )
    return [name for name in listed.stdout.split("\0") if name and (TOP / name).is_file()]


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
    owners = packages_distributions()
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
        or name in {"__init__.py", "__main__.py"}
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
