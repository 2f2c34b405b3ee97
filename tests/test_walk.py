"""``walk.scan``: which files are found, which are skipped, what is reported."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import helpers_photos as photos
import pytest
from helpers_photos import named_files, write

from sightline.indexer.files import walk
from sightline.indexer.files.sidecars import NO_SIDECARS
from sightline.indexer.installation import install_command
from sightline.indexer.photo import Decoder
from sightline.indexer.types import Candidate, Failure, Geometry, Photo


def grow(root: Path, *paths: str) -> Path:
    """Files of five bytes at ``paths`` below ``root``."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"12345")
    return root


def paths(root: Path, *, below: str = "", exclude: Sequence[str] = ()) -> list[str]:
    """What is found; nothing may be reported."""
    failures: list[Failure] = []
    found = [
        c.path for c in walk.scan(root, below=below, exclude=exclude, on_error=failures.append)
    ]
    assert not failures
    return found


def reports(root: Path, *, below: str = "") -> dict[str, str]:
    """Path -> reason of what is reported."""
    failures: list[Failure] = []
    list(walk.scan(root, below=below, on_error=failures.append))
    assert {failure.root for failure in failures} <= {str(root)}
    return {failure.path: failure.reason for failure in failures}


# --- what is found -------------------------------------------------------------------------------


def test_images_are_found_by_suffix_sorted_by_name(tmp_path: Path) -> None:
    grow(tmp_path, "b/2.PNG", "b/1.jpeg", "a.heic", "c.Tiff", "notes.txt", "jpg", "b/x.jpg.part")
    assert paths(tmp_path) == ["a.heic", "c.Tiff", "b/1.jpeg", "b/2.PNG"]


def test_a_candidate_has_path_size_and_mtime(tmp_path: Path) -> None:
    grow(tmp_path, "a/b.jpg")
    os.utime(tmp_path / "a/b.jpg", ns=(1, 1_600_000_000_123_456_700))
    [found] = walk.scan(tmp_path)
    assert found == Candidate(tmp_path, "a/b.jpg", 5, 1_600_000_000_123_456_700, *NO_SIDECARS)
    assert found.absolute == tmp_path / "a" / "b.jpg"


def test_names_may_be_any_utf8_text(tmp_path: Path) -> None:
    write(tmp_path, named_files())
    write(tmp_path / "50% #1?\n'x'", named_files())
    found = paths(tmp_path)
    assert set(found) == {
        *named_files(),
        *(f"50% #1?\n'x'/{name}" for name in named_files()),
    }


def test_folders_may_be_thousands_deep(tmp_path: Path) -> None:
    folder = tmp_path / "deep"
    path = "/".join(["d"] * 1200)
    subprocess.run(["mkdir", "-p", str(folder / path)], check=True)
    (folder / path / "x.jpg").write_bytes(b"1")
    assert paths(folder) == [path + "/x.jpg"]
    # Python cannot make it or remove it: both end at its limit of recursion.
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def test_a_scan_can_be_limited_to_a_folder_or_file(tmp_path: Path) -> None:
    grow(tmp_path, "a/1.jpg", "a/b/2.jpg", "c/3.jpg", "a.jpg")
    assert paths(tmp_path, below="a") == ["a/1.jpg", "a/b/2.jpg"]
    assert paths(tmp_path, below="a/b") == ["a/b/2.jpg"]
    assert paths(tmp_path, below="a/b/2.jpg") == ["a/b/2.jpg"]
    assert paths(tmp_path, below="a.jpg") == ["a.jpg"]


# --- what is skipped -----------------------------------------------------------------------------


def test_hidden_and_system_folders_are_skipped(tmp_path: Path) -> None:
    grow(
        tmp_path,
        *(".git/a.png", ".Trash-1000/files/a.jpg", "x/.thumbnails/a.jpg", "._IMG_1.jpg"),
        *("@eaDir/IMG_1.jpg/SYNOPHOTO_THUMB_XL.jpg", "#recycle/a.jpg", "$RECYCLE.BIN/a.jpg"),
        *("System Volume Information/a.jpg", "web/node_modules/p/a.png", "x/__MACOSX/a.jpg"),
        *("Catalog Previews.lrdata/a.jpg", "My.photoslibrary/resources/a.jpg"),
        *("My.photoslibrary/originals/A/a.heic", "kept/a.jpg"),
    )
    assert paths(tmp_path) == ["My.photoslibrary/originals/A/a.heic", "kept/a.jpg"]


def test_a_root_may_be_hidden(tmp_path: Path) -> None:
    grow(tmp_path / ".private", "a.jpg")
    assert paths(tmp_path / ".private") == ["a.jpg"]


def test_a_raw_file_with_a_jpeg_or_heic_beside_it_is_skipped(tmp_path: Path) -> None:
    grow(
        tmp_path,
        *("1.CR2", "1.JPG", "2.dng", "2.heic", "3.nef", "4.arw", "4.png", "x/5.raf", "5.jpg"),
    )
    assert paths(tmp_path) == ["1.JPG", "2.heic", "3.nef", "4.arw", "4.png", "5.jpg", "x/5.raf"]
    assert paths(tmp_path, below="1.CR2") == []


def test_exclude_patterns_work_as_in_gitignore(tmp_path: Path) -> None:
    grow(tmp_path, "a/x.png", "a/y.jpg", "b/x.png", "b/a/z.jpg", "keep.png", "tmp/q/1.jpg")
    assert paths(tmp_path, exclude=["*.png", "!keep.png"]) == [
        *("keep.png", "a/y.jpg", "b/a/z.jpg", "tmp/q/1.jpg")
    ]
    assert paths(tmp_path, exclude=["/a/", "tmp"]) == ["keep.png", "b/x.png", "b/a/z.jpg"]
    assert paths(tmp_path, exclude=["a/"]) == ["keep.png", "b/x.png", "tmp/q/1.jpg"]
    assert paths(tmp_path, exclude=["**/q/*.jpg"]) == [
        *("keep.png", "a/x.png", "a/y.jpg", "b/x.png", "b/a/z.jpg")
    ]


def test_ignore_files_apply_to_their_folder_and_below(tmp_path: Path) -> None:
    grow(tmp_path, "a/x.png", "a/y.jpg", "a/deep/x.png", "a/deep/y.jpg", "b/y.jpg")
    (tmp_path / ".sightlineignore").write_text("# comment\n*.png\n", encoding="utf-8")
    (tmp_path / "a" / ".sightlineignore").write_text("/y.jpg\n", encoding="utf-8")
    (tmp_path / "a" / "deep" / ".sightlineignore").write_text("!x.png\n", encoding="utf-8")
    assert paths(tmp_path) == ["a/deep/x.png", "a/deep/y.jpg", "b/y.jpg"]
    assert paths(tmp_path, below="a/deep") == ["a/deep/x.png", "a/deep/y.jpg"]
    # ``exclude`` precedes ignore files.
    assert paths(tmp_path, exclude=["x.png"]) == ["a/deep/y.jpg", "b/y.jpg"]


def test_scanning_a_skipped_folder_is_reported(tmp_path: Path) -> None:
    grow(tmp_path, ".hidden/a.jpg", "b/a.jpg")
    assert list(reports(tmp_path, below=".hidden")) == [".hidden"]
    (tmp_path / ".sightlineignore").write_text("b/\n", encoding="utf-8")
    assert list(reports(tmp_path, below="b/a.jpg")) == ["b"]


# --- links ---------------------------------------------------------------------------------------


def test_links_to_files_and_folders_of_the_root_are_followed(tmp_path: Path) -> None:
    grow(tmp_path, "a.jpg", ".hidden/b.jpg", ".hidden/sub/c.jpg", ".single.jpg")
    (tmp_path / "away").symlink_to(tmp_path / ".hidden")
    (tmp_path / "one.jpg").symlink_to(".single.jpg")
    assert paths(tmp_path) == ["a.jpg", "one.jpg", "away/b.jpg", "away/sub/c.jpg"]


def test_cycles_of_links_end(tmp_path: Path) -> None:
    grow(tmp_path, "a/b/1.jpg")
    (tmp_path / "a" / "b" / "up").symlink_to("..")
    (tmp_path / "a" / "self").symlink_to(".")
    (tmp_path / "top").symlink_to(tmp_path)
    assert paths(tmp_path) == ["a/b/1.jpg"]


def test_a_folder_is_listed_under_its_real_path(tmp_path: Path) -> None:
    grow(tmp_path, "z/1.jpg")
    (tmp_path / "a").symlink_to("z")
    (tmp_path / "b").symlink_to("z")
    assert paths(tmp_path) == ["z/1.jpg"]


# --- what is reported ----------------------------------------------------------------------------


def test_broken_links_and_pipes_are_reported(tmp_path: Path) -> None:
    grow(tmp_path, "a.jpg")
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    (tmp_path / "round.jpg").symlink_to("round.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder.jpg").mkdir()
    found = reports(tmp_path)
    assert found == {
        "gone.jpg": "it is a broken link",
        "pipe.jpg": "it is a pipe, not a file",
        "round.jpg": found["round.jpg"],
    }
    assert "link" in found["round.jpg"]


def test_names_that_are_not_utf8_are_reported(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    for name in (b"caf\xe9.jpg", b"caf\xe9.txt"):
        with open(folder + b"/" + name, "wb") as file:  # noqa: PTH123
            file.write(b"1")
    os.mkdir(folder + b"/f\xff")  # noqa: PTH102
    found = reports(tmp_path)
    assert set(found) == {"caf\\xe9.jpg", "f\\xff"}
    assert all("rename" in reason for reason in found.values())


def test_a_folder_that_cannot_be_listed_is_reported(tmp_path: Path) -> None:
    grow(tmp_path, "a.jpg")
    failures: list[Failure] = []
    found = walk.scan(tmp_path / "gone", on_error=failures.append)
    assert not list(found)
    assert failures[0].path == ""
    assert failures[0].reason == "this folder no longer exists"


def test_an_invalid_ignore_file_is_reported_and_the_images_are_found(
    tmp_path: Path,
) -> None:
    grow(tmp_path, "a.jpg")
    (tmp_path / ".sightlineignore").write_bytes(b"\xff\xfe\xff")
    failures: list[Failure] = []
    assert [c.path for c in walk.scan(tmp_path, on_error=failures.append)] == ["a.jpg"]
    assert failures[0].path == ".sightlineignore"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(13, "Permission denied"), "no permission to read this folder"),
        (OSError(5, "Input/output error"), "cannot be read: Input/output error"),
    ],
)
def test_the_reason_for_an_unreadable_folder_names_the_cause(error: OSError, reason: str) -> None:
    assert reason in walk._reason(error, "folder")


# --- what the content decides, what is not supported, .nomedia ------------------------------------


def left_out(root: Path, **options: bool) -> tuple[list[str], list[str]]:
    """What is found, and the notes on what is left out."""
    counts: Counter[str] = Counter()
    found = walk.scan(root, on_left_out=lambda name: counts.update([name]), **options)
    return [candidate.path for candidate in found], walk.left_out_notes(counts)


def test_images_of_unusual_suffixes_are_found_by_content(tmp_path: Path) -> None:
    jpeg, png = photos.saved(photos.scene()), photos.saved(photos.scene(), "PNG")
    images = {
        "a.img": jpeg,
        "b.jpg_large": jpeg,
        "c.jpg:orig": png,
        "d.psd": jpeg,
        "e": photos.saved(photos.scene(), "WEBP"),
        "f.JP2": photos.saved(photos.scene(), "TIFF"),
        "g.mpo": jpeg,
        "h.INSP": jpeg,
        "i.pjpeg": jpeg,
        "j.apng": png,
    }
    others = {
        "disk.img": bytes(9000),
        "README": b"text",
        "x.jpg_original": jpeg,
        "y.txt": jpeg,
        "z.jpg~": jpeg,
    }
    photos.write(tmp_path, images | others)
    found, notes = left_out(tmp_path)
    assert found == sorted(images)
    assert not notes
    with Decoder(Geometry(32, 32, 32)) as decoder:
        outcomes = list(decoder.photos(list(walk.scan(tmp_path))))
    assert all(isinstance(outcome, Photo) for _, outcome in outcomes)


def test_formats_that_are_not_supported_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)  # as if it were not installed
    grow(tmp_path, *(f"{n}.jxl" for n in range(12)), "a.psd", "b/c.PSD", "x.svg", "old.tar.gz")
    grow(tmp_path, ".hidden/a.psd", "@eaDir/a.psd", "a.jpg")
    found, notes = left_out(tmp_path)
    assert found == ["a.jpg"]
    assert notes == [
        f"12 .jxl: not supported without `{install_command('jxl')}`",
        "2 .psd: not supported",
        "1 .svg: not supported",
        "1 .tar.gz: not supported (decompress the archive to .tar)",
    ]


def test_excluded_files_are_not_counted(tmp_path: Path) -> None:
    grow(tmp_path, "a.psd", "drafts/b.psd")
    (tmp_path / ".sightlineignore").write_text("drafts/")
    assert left_out(tmp_path) == ([], ["1 .psd: not supported"])


def test_a_folder_with_nomedia_is_left_out_with_everything_below(tmp_path: Path) -> None:
    grow(tmp_path, "a.jpg", "voice/b.jpg", "voice/deep/c.jpg", "kept/d.jpg")
    (tmp_path / "voice" / ".nomedia").touch()
    note = "folders left out for a .nomedia file: 1 (--include-nomedia)"
    assert left_out(tmp_path) == (["a.jpg", "kept/d.jpg"], [note])
    found, notes = left_out(tmp_path, include_nomedia=True)
    assert (found, notes) == (["a.jpg", "kept/d.jpg", "voice/b.jpg", "voice/deep/c.jpg"], [])
    assert list(walk.scan(tmp_path, below="voice/deep")) == []


def test_patterns_beside_nomedia_may_bring_files_back(tmp_path: Path) -> None:
    grow(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / ".nomedia").touch()
    (tmp_path / ".sightlineignore").write_text("!b.jpg")
    assert left_out(tmp_path)[0] == ["b.jpg"]
