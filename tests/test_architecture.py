"""The rooms of the house: which package may import which, and what may be loaded when."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent

SHARED = {"indexer.dates", "indexer.errors", "indexer.installation", "indexer.types", ""}
"""Modules that every room may import; "" is the root package, which holds the version."""

ARROWS: dict[str, set[str]] = {
    "indexer.dates": set(),
    "indexer.errors": set(),
    "indexer.installation": set(),
    "indexer.types": set(),
    "indexer.files": set(),
    "indexer.catalog": set(),
    "indexer.vector_index": set(),
    "indexer.encoder": set(),
    "indexer.photo": {"indexer.files"},
    "indexer.places": set(),
    "indexer.zero_shot": {"indexer.encoder"},
    "indexer.library": {
        "indexer.catalog",
        "indexer.vector_index",
        "indexer.files",
        "indexer.places",
    },
    "indexer.indexing": {
        "indexer.library",
        "indexer.catalog",
        "indexer.photo",
        "indexer.files",
        "indexer.encoder",
        "indexer.zero_shot",
    },
    "indexer.evaluation": {
        "indexer.encoder",
        "indexer.photo",
        "indexer.zero_shot",
        "indexer.library",
    },
    "indexer.exchange": {"indexer.library", "indexer.catalog", "indexer.photo", "indexer.files"},
    "indexer.shards": {
        "indexer.library",
        "indexer.catalog",
        "indexer.photo",
        "indexer.files",
        "indexer.encoder",
    },
    "indexer.milvus": {
        "indexer.shards",
        "indexer.library",
        "indexer.catalog",
        "indexer.places",
        "indexer.vector_index",
    },
    "server.search": {
        "indexer.encoder",
        "indexer.photo",
        "indexer.files",
        "indexer.zero_shot",
        "indexer.catalog",
        "indexer.library",
    },
    "server.mcp": {"server.search", "indexer.library"},
    "server.web": {"server.mcp", "server.search", "indexer.library", "indexer.files"},
    "data.scenes": set(),
    "data.training": {"data.scenes", "indexer.encoder"},
}
"""The packages that each package may import, beyond itself and ``SHARED``. ``server.commands``,
``server.cli`` and the root may import everything."""

TOPMOST = {"", "__main__", "server.cli", "server.commands", "indexer", "server", "data"}

HEAVY = {
    "torch": {"indexer.encoder", "data.training"},
    "transformers": {"indexer.encoder", "data.training"},
    "faiss": {"indexer.vector_index"},
    "sqlite3": {"indexer.catalog"},
    "sqlite_utils": {"indexer.catalog"},
    "flask": {"server.web"},
    "waitress": {"server.web"},
    "mcp": {"server.mcp"},
    "ray": {"indexer.shards"},
    "fsspec": {"indexer.shards"},
    "pymilvus": {"indexer.milvus"},
}
"""Third-party packages that only these packages import."""

MODULES = sorted(
    path
    for top in ("indexer", "server", "data")
    for path in (TOP / top).rglob("*.py")
    if "__pycache__" not in path.parts
)


def module_name(path: Path) -> str:
    """``indexer/files/walk.py`` -> ``indexer.files.walk``; a package's name for ``__init__.py``."""
    parts = path.relative_to(TOP).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


KNOWN = {module_name(path) for path in MODULES} | {"", "__main__"}


def package_of(module: str) -> str:
    """The package that a module is judged by: two levels, such as ``indexer.files``."""
    return ".".join(module.split(".")[:2])


def imports(path: Path) -> tuple[set[str], set[str]]:
    """What a file imports at run time: (modules of this project, top-level third-party names).

    Lazy imports count, relative ones are resolved, imports for type checking are left out.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    here = ["sightline", *module_name(path).split(".")]
    if path.name != "__init__.py":
        here.pop()
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{source}.{alias.name}"
                inside = full.removeprefix("sightline.")
                found.add(full if inside != full and inside in KNOWN else source)
    own = {name.removeprefix("sightline").lstrip(".") for name in found if is_own(name)}
    return own, {name.split(".")[0] for name in found if not is_own(name)}


def is_own(name: str) -> bool:
    """Whether a dotted name is a module of this project."""
    return name == "sightline" or name.startswith("sightline.")


def test_every_module_is_checked() -> None:
    assert len(MODULES) > 100
    assert {package_of(module_name(path)) for path in MODULES} == set(ARROWS) | TOPMOST - {
        "",
        "__main__",
    }


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_run_downwards_only(path: Path) -> None:
    here = package_of(module_name(path))
    own, foreign = imports(path)
    assert own <= KNOWN, f"imports what does not exist: {own - KNOWN}"
    assert not foreign & {"indexer", "server", "data"}, "the one import name is sightline"
    if here not in TOPMOST:
        upwards = {m for m in own if m not in SHARED and package_of(m) not in ARROWS[here] | {here}}
        assert not upwards, f"{here} must not import {sorted(upwards)}"
    misplaced = {name for name in foreign if here not in HEAVY.get(name, {here})}
    assert not misplaced, f"{here} must not import {sorted(misplaced)}"


def test_arrows_have_no_cycle() -> None:
    remaining = dict(ARROWS)
    while remaining:
        free = {room for room, below in remaining.items() if not below & set(remaining)}
        assert free, f"a cycle among {sorted(remaining)}"
        for room in free:
            del remaining[room]


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from sightline.server.cli import run; run(['--help']);"
        "heavy = {'torch', 'transformers', 'faiss', 'flask', 'numpy', 'PIL', 'sqlite_utils'};"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, f"--help loads {result.stderr}"
    assert "sightline index" in result.stdout


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, sightline;"
        "sys.exit(', '.join(sorted({'torch', 'numpy', 'faiss', 'sqlite3', 'flask'}"
        " & set(sys.modules))) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, f"importing sightline loads {result.stderr}"


def test_creating_a_library_does_not_import_pandas(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from sightline.indexer.library import Library;"
        "Library.create(pathlib.Path(sys.argv[1]), model='toy', revision='1', dimension=4).close();"
        "assert 'sqlite_utils' in sys.modules and 'pandas' not in sys.modules;"
        "import importlib.util; importlib.util.find_spec('pandas') and __import__('pandas')"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "library")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
