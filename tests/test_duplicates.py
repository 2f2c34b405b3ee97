"""Groups of duplicates: copies first, the best file of each group first, nothing deleted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers_client import client_of
from helpers_library import as_bytes, draw, make_library
from PIL import ImageEnhance

from sightline.indexer.types import Condition, Filters
from sightline.server.cli import run
from sightline.server.mcp.tools import PhotoTools
from sightline.server.search import SearchEngine, duplicate_groups
from sightline.server.search.duplicate_groups import find_groups
from sightline.server.web.app import create_app

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder
    from sightline.indexer.library import Library


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder) -> Iterator[Library]:
    """Twelve images, and duplicates of three of them."""
    folder = tmp_path_factory.mktemp("duplicates")
    pictures = folder / "pictures"
    (pictures / "more").mkdir(parents=True)
    for seed in range(12):
        (pictures / f"{seed}.jpg").write_bytes(as_bytes(draw(seed), quality=90))
    # Of the first: an equal file, and one that is larger, brighter and saved again.
    (pictures / "more/0 copy.jpg").write_bytes((pictures / "0.jpg").read_bytes())
    brighter = ImageEnhance.Brightness(draw(0, (640, 480))).enhance(1.03)
    (pictures / "more/0 large.jpg").write_bytes(as_bytes(brighter, quality=92))
    # Of the second: an equal file. Of the third: one saved smaller.
    (pictures / "more/1 copy.jpg").write_bytes((pictures / "1.jpg").read_bytes())
    (pictures / "more/2 small.jpg").write_bytes(as_bytes(draw(2, (200, 150)), quality=70))
    with make_library(folder / "library", tiny_encoder, pictures) as made:
        yield made


def named(library: Library, **options: bool) -> list[tuple[str, list[str]]]:
    """Kind and file names of each group."""
    return [
        (group.kind, [record.path for record in library.images(group.ids)])
        for group in find_groups(library, **options)
    ]


def test_copies_come_first_and_groups_begin_with_their_best_file(library: Library) -> None:
    groups = named(library)
    assert [kind for kind, _ in groups] == ["copies", "similar", "similar"]
    by_best = {paths[0]: paths[1:] for _, paths in groups}
    assert sorted(by_best.pop("more/0 large.jpg")) == ["0.jpg", "more/0 copy.jpg"]
    assert by_best.pop("2.jpg") == ["more/2 small.jpg"]
    assert by_best in ({"1.jpg": ["more/1 copy.jpg"]}, {"more/1 copy.jpg": ["1.jpg"]})


def test_copies_are_found_without_similar_images(library: Library) -> None:
    assert sorted(sorted(paths) for _, paths in named(library, similar=False)) == [
        ["0.jpg", "more/0 copy.jpg"],
        ["1.jpg", "more/1 copy.jpg"],
    ]


def test_only_images_that_match_the_filters_are_compared(library: Library) -> None:
    more = Filters((Condition("in", "more"),))
    (group,) = find_groups(library, more)
    paths = {record.path for record in library.images(group.ids)}
    assert paths == {"more/0 copy.jpg", "more/0 large.jpg"}


def test_every_file_is_near_identical_to_the_best_of_its_group(library: Library) -> None:
    for group in find_groups(library):
        vectors = library.vectors(np.array(group.ids))
        assert (vectors[1:] @ vectors[0] >= 0.95).all()
        assert len(set(group.ids)) == len(group.ids)
    sizes = {record.id: record.size for record in library.images(library.select().tolist())}
    for group in find_groups(library):
        assert group.spare == sum(sizes[id] for id in group.ids[1:])


def test_a_group_may_be_larger_than_the_first_search(tmp_path: Path, tiny_encoder: Encoder) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for n in range(40):
        (pictures / f"{n}.jpg").write_bytes(as_bytes(draw(5), quality=60 + n))
    with make_library(tmp_path / "library", tiny_encoder, pictures) as made:
        (group,) = find_groups(made)
        assert len(group.ids) == 40


def test_the_command_lists_duplicates_and_deletes_nothing(
    library: Library, capsys: pytest.CaptureFixture
) -> None:
    where = ["--library", str(library.directory)]
    before = sorted(path for path in library.root_paths()[0].rglob("*"))
    assert run(["duplicates", "--json", *where]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (len(told["groups"]), told["spare_files"]) == (3, 4)
    assert told["groups"][0]["kind"] == "copies"
    assert run(["duplicates", "--paths-only", "--null", *where]) == 0
    paths = capsys.readouterr().out.split("\0")[:-1]
    best = {group["images"][0]["absolute"] for group in told["groups"]}
    others = {one["absolute"] for group in told["groups"] for one in group["images"][1:]}
    assert set(paths) == others
    assert not set(paths) & best
    assert run(["duplicates", *where]) == 0
    assert "copies:" in capsys.readouterr().out
    assert run(["duplicates", "dog", *where]) == 2
    assert sorted(path for path in library.root_paths()[0].rglob("*")) == before


def test_the_page_and_the_api_show_the_same_groups(library: Library, tiny_encoder: Encoder) -> None:
    with SearchEngine(library, tiny_encoder) as engine:
        client = client_of(create_app(engine))
        told = client.get("/api/duplicates?k=1").get_json()
        assert (told["total"], told["spare_files"], len(told["groups"])) == (3, 4, 1)
        assert client.get("/api/duplicates?copies=1").get_json()["spare_files"] == 2
        assert client.get("/api/duplicates?q=dog").status_code == 400
        page = client.get("/duplicates?k=2", headers={"Accept": "text/html"}).get_data(as_text=True)
        assert page.count("<section") == 2
        assert "Identical files" in page
        assert "offset=2" in page


def test_page_and_assistants_share_candidates_until_something_changes(
    library: Library, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, find = [], duplicate_groups.find_candidates

    def counted(*arguments: Any, **options: Any) -> duplicate_groups.Candidates:
        found.append(arguments)
        return find(*arguments, **options)

    monkeypatch.setattr(duplicate_groups, "find_candidates", counted)
    with SearchEngine(library, tiny_encoder) as engine:
        client, tools = client_of(create_app(engine)), PhotoTools(engine)
        assert client.get("/api/duplicates").get_json()["total"] == 3
        client.get("/duplicates?k=2")
        assert tools.find_duplicates().structured_content["total"] == 3
        assert len(found) == 1
        # A collection changes without a new version of the library.
        more = library.select(Filters((Condition("in", "more"),))).tolist()
        collection = library.kept.create_collection("Twins")
        library.kept.add(collection.id, more)
        assert client.get("/api/duplicates?q=collection:Twins").get_json()["total"] == 2
        library.kept.remove(collection.id, more)
        assert client.get("/api/duplicates?q=collection:Twins").get_json()["total"] == 0
        assert tools.find_duplicates("collection:Twins").structured_content["total"] == 0
        library.kept.delete_collection(collection.id)
