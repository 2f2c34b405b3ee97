"""The house: which module may know which, and what may be loaded when."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent

SHARED = {"errors", "types"}
"""Modules of the indexer that everyone may use: they hold words, not machinery."""

ARROWS: dict[str, set[str]] = {
    "errors": set(),
    "types": set(),
    "discover": {"archives"},
    "photo": {"archives"},
    "decode": {"photo"},
    "models": set(),
    "encoder": {"models"},
    "catalog": set(),
    "thumbnails": {"catalog"},
    "vector_index": set(),
    "library": {"catalog", "thumbnails", "vector_index"},
    "captions": set(),
    "prompts": set(),
    "zero_shot": {"encoder", "prompts", "captions"},
    "evaluation": {
        *("library", "encoder", "encoding", "photo", "decode", "prompts", "zero_shot", "captions"),
    },
    "scopes": {"discover", "archives"},
    "encoding": set(),
    "pipeline": {
        *("library", "catalog", "scopes", "photo", "decode", "models", "encoder", "encoding"),
        *("captions", "redraw"),
    },
    "redraw": {"library", "decode"},
    "watch": {"discover", "archives"},
    "archives": set(),
    "embedding_files": set(),
    "exchange": {"library", "catalog", "decode", "embedding_files", "archives"},
    "exporting": {"library", "embedding_files", "exchange"},
    "doctor": {"library", "catalog", "thumbnails", "redraw", "archives"},
    "shards": {"discover", "photo", "decode", "encoding", "encoder", "models", "archives"},
    "shards_to_library": {"shards", "library", "catalog"},
    "library_interface": {"catalog"},
    "milvus": {"catalog", "vector_index", "library", "thumbnails", "shards", "shards_to_library"},
}
"""Who may import whom inside the indexer, beyond errors and types. A module split off another
(``vector_index`` -> ``index_files``) belongs to the same room and shares its arrows."""

ROOMS = {
    "catalog_": "catalog",
    "model_": "encoder",
    "index_": "vector_index",
    "photo_": "photo",
    "evaluation_": "evaluation",
    "shard_": "shards",
    "milvus_": "milvus",
}
"""How the names of modules that were split off begin, and the room they belong to."""

SPLIT_OFF = {
    "batching": "encoder",
    "database": "catalog",
    "migrations": "catalog",
    "sqlite": "catalog",
}
"""Modules that were split off under a name of their own."""

HEAVY = {
    "torch": {"encoder"},
    "transformers": {"encoder"},
    "faiss": {"vector_index"},
    "sqlite3": {"catalog", "thumbnails"},
    "sqlite_utils": {"catalog", "thumbnails"},
    "flask": set(),
    "ray": {"shards"},
    "pymilvus": {"milvus"},
    "fsspec": {"shards"},
}
"""Packages that are imported in one room of the indexer only."""


def imports(path: Path) -> set[str]:
    """Dotted names of everything that the file imports at run time."""
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(module: str) -> str:
    """The room that a module of the indexer belongs to."""
    prefix, _, rest = module.partition("_")
    return SPLIT_OFF.get(module) or (rest and ROOMS.get(f"{prefix}_")) or module


@pytest.mark.parametrize("path", sorted((TOP / "indexer").glob("*.py")), ids=lambda path: path.stem)
def test_arrows_run_one_way_inside_the_indexer(path: Path) -> None:
    if path.stem == "__init__":
        return
    here = room(path.stem)
    assert here in ARROWS, f"say in this test where {path.name} stands"
    for name in imports(path):
        package, _, rest = name.partition(".")
        assert package != "server", f"{path.name} imports {name}: the indexer is below the server"
        if package == "indexer" and rest:
            module = rest.split(".")[0]
            if (TOP / "indexer" / f"{module}.py").exists() and module not in SHARED:
                assert room(module) in ARROWS[here] | {here}, f"{path.name} imports {name}"
        if package in HEAVY:
            assert here in HEAVY[package], f"{path.name} imports {package}"


@pytest.mark.parametrize("path", sorted((TOP / "server").glob("*.py")), ids=lambda path: path.stem)
def test_the_server_knows_nothing_of_the_command_line(path: Path) -> None:
    names = imports(path)
    if path.stem != "cli":
        assert not any(name.startswith(("server.cli", "server.commands")) for name in names)
    heavy = {"torch", "transformers", "faiss", "sqlite3", "sqlite_utils"}
    assert not {name.split(".")[0] for name in names} & heavy


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from server.cli import run; run(['--help']);"
        "heavy = {'torch', 'transformers', 'faiss', 'flask', 'numpy', 'PIL', 'sqlite_utils'};"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=TOP)
    assert result.returncode == 0, f"--help loads {result.stderr}"
    assert "sightline index" in result.stdout


def test_a_library_is_opened_without_pandas_and_it_can_be_had_afterwards() -> None:
    code = (
        "import sys, indexer.library; assert 'pandas' not in sys.modules;"
        "import importlib.util; importlib.util.find_spec('pandas') and __import__('pandas')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=TOP)
    assert result.returncode == 0, result.stderr


def test_no_file_grows_beyond_one_sitting() -> None:
    large = [
        f"{path.relative_to(TOP)}: {path.stat().st_size}"
        for folder in ("indexer", "server", "data", "tests", "benchmarks")
        for path in (TOP / folder).rglob("*.py")
        if path.stat().st_size > 30_000
    ]
    assert not large
