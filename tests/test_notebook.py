"""Five lines of Python, and hits that show themselves."""

from __future__ import annotations

import ast
import base64
import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers_library import as_bytes, draw, make_library
from PIL import Image

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder

PAGE = Path(__file__).resolve().parent.parent / "docs" / "python.md"


@pytest.fixture
def directory(tmp_path: Path, tiny_encoder: Encoder) -> Path:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for seed in range(3):
        (pictures / f"{seed}.jpg").write_bytes(as_bytes(draw(seed)))
    (pictures / "<img src=x onerror=alert(1)>.jpg").write_bytes(as_bytes(draw(7)))
    make_library(tmp_path / "library", tiny_encoder, pictures).close()
    return tmp_path / "library"


def test_the_first_example_of_the_docs_shows_images(
    directory: Path, capsys: pytest.CaptureFixture
) -> None:
    example = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
    code = example.replace("~/.local/share/sightline/library", str(directory))
    assert len([line for line in code.strip().splitlines() if line]) <= 5
    names: dict = {}
    exec(code, names)
    html = names["hits"]._repr_html_()
    names["engine"].close()
    names["engine"].library.close()
    sources = re.findall(r'src="data:image/webp;base64,([^"]+)"', html)
    assert len(sources) == 4
    with Image.open(io.BytesIO(base64.b64decode(sources[0]))) as picture:
        assert picture.format == "WEBP"
    assert "<img src=x" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;.jpg" in html


def test_a_hit_is_displayed_even_without_a_thumbnail(
    directory: Path, tiny_encoder: Encoder
) -> None:
    from sightline import Library, SearchEngine

    with Library.open(directory) as library, SearchEngine(library) as engine:
        (hit,) = engine.search("red", k=1).hits
        assert "data:image/webp" in hit._repr_html_()
        library.remove_thumbnails([hit.id])
        assert "data:image" not in hit._repr_html_()
        assert "background:#" in hit._repr_html_()
        empty = engine.search("in:nowhere")._repr_html_()
        assert "No photos match these filters." in empty


def test_unknown_names_of_the_package_raise_attribute_error() -> None:
    import sightline

    with pytest.raises(AttributeError):
        _ = sightline.Nothing


def test_the_notebook_of_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = json.loads(PAGE.with_suffix(".ipynb").read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    shown = []
    for cell in notebook["cells"]:
        assert not cell.get("outputs"), "cells are stored without outputs"
        if cell["cell_type"] == "code":
            *first, last = ast.parse("".join(cell["source"])).body
            exec(compile(ast.Module(first, []), "cell", "exec"), names)
            if isinstance(last, ast.Expr):  # what Jupyter shows
                value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
                shown.append(value._repr_html_() if hasattr(value, "_repr_html_") else value)
            else:
                exec(compile(ast.Module([last], []), "cell", "exec"), names)
    assert shown[:2] == [24, (24, 0)]
    assert "data:image/webp;base64," in shown[2]
    assert (4, 28) in shown


def test_a_result_is_a_table_of_pandas(directory: Path, tiny_encoder: Encoder) -> None:
    from sightline.indexer.library import Library
    from sightline.server.search import SearchEngine

    with (
        Library.open(directory, read_only=True) as library,
        SearchEngine(library, tiny_encoder) as engine,
    ):
        result = engine.search("blots")
        table = result.to_pandas()
        assert table["id"].tolist() == [hit.id for hit in result.hits]
        assert table["absolute"].tolist() == [str(hit.record.absolute) for hit in result.hits]
        assert str(table["taken_at"].dtype).startswith("datetime64")
        assert engine.search("in:Nowhere").to_pandas().empty


def test_an_open_library_indexes_more_folders(
    directory: Path, tmp_path: Path, tiny_encoder: Encoder
) -> None:
    from sightline import Library

    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "new.jpg").write_bytes(as_bytes(draw(50)))
    with Library.open(directory) as library:
        before = library.count
        report = library.add(tmp_path / "more", encoder=tiny_encoder)
        assert (report.added, library.count) == (1, before + 1)
