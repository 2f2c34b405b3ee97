"""Five lines of Python, and hits that show themselves."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

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
