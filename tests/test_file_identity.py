"""One file is one image and one copy, whatever its paths; only true spares are offered."""

from __future__ import annotations

import os
import tarfile
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers_library import as_bytes, draw, empty_library, make_library

from sightline.indexer.errors import UsageError
from sightline.indexer.files import identity
from sightline.indexer.indexing.run import update_library
from sightline.indexer.types import Candidate
from sightline.server.cli import run
from sightline.server.commands.hits import print_hits
from sightline.server.search import SearchEngine
from sightline.server.search.duplicate_groups import find_groups

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder
    from sightline.indexer.library import Library
    from sightline.indexer.types import IndexReport


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three photos in ``originals``."""
    folder = tmp_path / "pictures"
    (folder / "originals").mkdir(parents=True)
    for seed, name in enumerate("abc"):
        (folder / "originals" / f"{name}.jpg").write_bytes(as_bytes(draw(seed)))
    return folder


def spares(library: Library, capsys: pytest.CaptureFixture, *options: str) -> list[Path]:
    """What ``duplicates --paths-only`` offers."""
    capsys.readouterr()
    where = ["--library", str(library.directory), *options]
    assert run(["duplicates", "--paths-only", "--null", *where]) == 0
    return [Path(path) for path in capsys.readouterr().out.split("\0")[:-1]]


def link_to_file(originals: Path, album: Path) -> None:
    album.mkdir()
    (album / "best.jpg").symlink_to("../originals/a.jpg")


def hard_link(originals: Path, album: Path) -> None:
    album.mkdir()
    os.link(originals / "a.jpg", album / "best.jpg")


def chain_of_links(originals: Path, album: Path) -> None:
    album.mkdir()
    (album / "best.jpg").symlink_to("also.jpg")
    (album / "also.jpg").symlink_to(originals / "a.jpg")


PATHS = [link_to_file, hard_link, chain_of_links]


@pytest.mark.parametrize("other_path", PATHS)
def test_another_path_of_a_file_is_no_copy(
    other_path: object,
    pictures: Path,
    tmp_path: Path,
    tiny_encoder: Encoder,
    capsys: pytest.CaptureFixture,
) -> None:
    other_path(pictures / "originals", pictures / "album")
    with make_library(tmp_path / "library", tiny_encoder, pictures) as library:
        assert find_groups(library) == []
        assert spares(library, capsys) == spares(library, capsys, "--copies") == []


@pytest.mark.parametrize("other_path", PATHS)
def test_deleting_the_spares_keeps_every_content(
    other_path: object,
    pictures: Path,
    tmp_path: Path,
    tiny_encoder: Encoder,
    capsys: pytest.CaptureFixture,
) -> None:
    other_path(pictures / "originals", pictures / "album")
    (pictures / "copy.jpg").write_bytes((pictures / "originals/a.jpg").read_bytes())
    contents = {path.read_bytes() for path in pictures.rglob("*.jpg")}
    with make_library(tmp_path / "library", tiny_encoder, pictures) as library:
        [group] = find_groups(library, similar=False)
        assert (group.kind, len(group.ids)) == ("copies", 2)
        [spare] = spares(library, capsys, "--copies")
    spare.unlink()
    assert {path.read_bytes() for path in pictures.rglob("*.jpg") if path.exists()} == contents


def test_hard_links_in_two_roots_are_no_copies(
    pictures: Path, tmp_path: Path, tiny_encoder: Encoder
) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        os.link(pictures / "originals/a.jpg", tmp_path / name / "a.jpg")
    with empty_library(tmp_path / "library", tiny_encoder) as library:
        update_library(library, tiny_encoder, [tmp_path / "first", tmp_path / "second"], workers=1)
        assert library.count == 2
        assert find_groups(library) == []


def test_the_command_says_how_many_similar_images_are_folded_under_a_hit(
    pictures: Path, tmp_path: Path, tiny_encoder: Encoder, capsys: pytest.CaptureFixture
) -> None:
    for name in ("copy.jpg", "again.jpg"):
        (pictures / name).write_bytes((pictures / "originals/a.jpg").read_bytes())
    with (
        make_library(tmp_path / "library", tiny_encoder, pictures) as library,
        SearchEngine(library, tiny_encoder) as engine,
    ):
        print_hits(engine.search("red"), previews=False)
        lines = capsys.readouterr().out.splitlines()
        assert [line.endswith(".jpg  +2 similar") for line in lines].count(True) == 1
        assert len(lines) == 3
        print_hits(engine.search("red", fold=False), previews=False)
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 5
        assert not any("similar" in line for line in lines)


# changes after indexing ---------------------------------------------------------------------------


@pytest.fixture
def two_copies(pictures: Path, tmp_path: Path, tiny_encoder: Encoder) -> Library:
    (pictures / "copy.jpg").write_bytes((pictures / "originals/a.jpg").read_bytes())
    return make_library(tmp_path / "library", tiny_encoder, pictures)


def kept_and_spare(library: Library) -> tuple[Path, Path]:
    [group] = find_groups(library, similar=False)
    kept, spare = (record.absolute for record in library.images(group.ids))
    return kept, spare


def rewrite(path: Path) -> None:
    """Changes one byte and neither size nor mtime."""
    status, data = path.stat(), bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("options", [(), ("--copies",)])
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("change", [Path.unlink, rewrite])
def test_a_file_is_no_spare_once_it_or_the_best_file_has_changed(
    two_copies: Library,
    change: object,
    which: int,
    options: tuple[str, ...],
    capsys: pytest.CaptureFixture,
) -> None:
    with two_copies:
        kept, spare = kept_and_spare(two_copies)
        assert spares(two_copies, capsys, *options) == [spare]
        change((kept, spare)[which])
        assert spares(two_copies, capsys, *options) == []


def test_a_copy_replaced_by_a_link_is_no_spare(
    two_copies: Library, capsys: pytest.CaptureFixture
) -> None:
    with two_copies:
        kept, spare = kept_and_spare(two_copies)
        kept.unlink()
        kept.symlink_to(spare)
        assert spares(two_copies, capsys, "--copies") == []


def test_a_spare_with_a_line_break_in_its_path_is_listed_with_null_only(
    pictures: Path, tmp_path: Path, tiny_encoder: Encoder, capsys: pytest.CaptureFixture
) -> None:
    """``xargs rm`` without ``-0`` would delete the file that the second line names."""
    copy = pictures / f"x\n{pictures}" / "originals" / "a.jpg"
    copy.parent.mkdir(parents=True)
    copy.write_bytes((pictures / "originals/a.jpg").read_bytes())
    with make_library(tmp_path / "library", tiny_encoder, pictures) as library:
        assert spares(library, capsys, "--copies") == [copy]
        where = ["--library", str(library.directory)]
        assert run(["duplicates", "--copies", "--paths-only", *where]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "use -0" in printed.err


def test_images_whose_files_are_missing_are_left_out_and_counted(
    two_copies: Library, capsys: pytest.CaptureFixture
) -> None:
    with two_copies:
        kept_and_spare(two_copies)[0].unlink()
        assert find_groups(two_copies) == []
        assert run(["duplicates", "--library", str(two_copies.directory)]) == 0
    assert "1 images left out" in capsys.readouterr().err


def test_memory_grows_linearly_with_the_copies_of_one_file(
    two_copies: Library, pictures: Path
) -> None:
    data, n = as_bytes(draw(0)), 2000
    with two_copies:
        root = two_copies.ensure_root(pictures)
        [image] = [r.id for r in two_copies.images(two_copies.select()) if r.path == "copy.jpg"]
        (pictures / "many").mkdir()
        copies = [Candidate(pictures, f"many/{i}.jpg", len(data), 1) for i in range(n)]
        for copy in copies:
            copy.absolute.write_bytes(data)
        two_copies.catalog.write(root, copied=[(image, copy) for copy in copies])
        tracemalloc.start()
        try:
            [group] = find_groups(two_copies, similar=False)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert len(group.ids) == n + 2
    assert peak < 40e6  # two million pairs are more than 300 MB


# roots --------------------------------------------------------------------------------------------


def index(library: Library, encoder: Encoder, *paths: Path) -> IndexReport:
    return update_library(library, encoder, paths, workers=1)


@pytest.mark.parametrize("below", ["", "originals"])
def test_a_root_under_another_path_is_named_and_not_indexed_twice(
    below: str, pictures: Path, tmp_path: Path, tiny_encoder: Encoder
) -> None:
    (tmp_path / "link").symlink_to(pictures)
    with make_library(tmp_path / "library", tiny_encoder, pictures) as library:
        report = index(library, tiny_encoder, tmp_path / "link" / below)
        assert (library.count, library.root_paths()) == (3, [pictures])
        assert (report.found, report.added, report.unchanged) == (3, 0, 3)
        [note] = report.notes
        assert str(tmp_path / "link") in note
        assert str(pictures / below) in note


def test_a_root_takes_over_a_folder_in_it_that_was_indexed_under_another_path(
    pictures: Path, tmp_path: Path, tiny_encoder: Encoder
) -> None:
    (tmp_path / "link").symlink_to(pictures / "originals")
    with make_library(tmp_path / "library", tiny_encoder, tmp_path / "link") as library:
        before = library.select().tolist()
        report = index(library, tiny_encoder, pictures)
        assert library.root_paths() == [pictures]
        assert library.select().tolist() == before
        assert (report.added, report.unchanged) == (0, 3)
        [note] = report.notes
        assert str(tmp_path / "link") in note
        assert library.catalog.check() == []


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("target", ["", "originals"])
def test_two_paths_of_one_folder_in_one_run_are_one_root(
    order: int, target: str, pictures: Path, tmp_path: Path, tiny_encoder: Encoder
) -> None:
    (tmp_path / "link").symlink_to(pictures / target)
    with empty_library(tmp_path / "library", tiny_encoder) as library:
        report = index(library, tiny_encoder, *[pictures, tmp_path / "link"][::order])
        assert (library.count, len(library.root_paths()), len(report.notes)) == (3, 1, 1)
        assert index(library, tiny_encoder).unchanged == 3


def test_folders_side_by_side_are_two_roots_without_a_note(
    pictures: Path, tmp_path: Path, tiny_encoder: Encoder
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "d.jpg").write_bytes(as_bytes(draw(9)))
    with make_library(tmp_path / "library", tiny_encoder, pictures) as library:
        report = index(library, tiny_encoder, tmp_path / "other")
        assert (library.count, len(library.root_paths()), report.notes) == (4, 2, ())


def test_a_path_that_does_not_exist_is_still_an_error(
    pictures: Path, tmp_path: Path, tiny_encoder: Encoder
) -> None:
    with (
        make_library(tmp_path / "library", tiny_encoder, pictures) as library,
        pytest.raises(UsageError, match="there is no folder"),
    ):
        index(library, tiny_encoder, tmp_path / "nowhere")


def test_the_identity_of_a_file_in_an_archive_includes_its_name(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.jpg").write_bytes(as_bytes(draw(1)))
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in "ab":
            tar.add(tmp_path / f"{name}.jpg", f"{name}.jpg")
    (tmp_path / "link.tar").symlink_to("x.tar")
    found = [
        identity.file_identity(tmp_path / path)
        for path in ("x.tar/a.jpg", "link.tar/a.jpg", "x.tar/b.jpg", "y.tar/a.jpg", "nowhere.jpg")
    ]
    assert found[0] == found[1] != found[2]
    assert found[3:] == [None, None]
