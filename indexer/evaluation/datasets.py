"""Reads image sets to measure a model on.

Captioned: Karpathy's JSON (``dataset_flickr8k.json``, ``dataset_coco.json``), COCO's captions JSON,
Flickr8k's and Flickr30k's token files, CSV. Classified: one folder per class, or a list of files
with their classes.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.indexer.errors import UsageError
from sightline.indexer.zero_shot.labels import Label, label, read_text

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".ppm")
)
"""Of images in class folders. Differs from ``files.walk``: benchmark sets have PPM, not RAW."""

FILE_COLUMNS = ("filepath", "filename", "file_name", "image_name", "image", "file", "path")
TEXT_COLUMNS = ("caption", "title", "comment", "text", "sentence", "raw")


@dataclass(frozen=True)
class Captioned:
    """Images, and captions that describe them."""

    images: tuple[Path, ...]
    captions: tuple[str, ...]
    targets: tuple[int, ...]
    """The index in ``images`` of the image that each caption describes."""
    format: str
    """``karpathy``, ``coco``, ``flickr`` or ``csv``."""


@dataclass(frozen=True)
class Classified:
    """Images, and the class of each."""

    images: tuple[Path, ...]
    truth: tuple[int, ...]
    """The index in ``labels`` of each image's class."""
    labels: tuple[Label, ...]
    folders: tuple[str, ...]
    """The classes' names on disk."""


# --- captioned -----------------------------------------------------------------------------------


def read_captioned(
    path: Path,
    images: Path,
    *,
    split: str | None = None,
    per_image: int | None = None,
    tidy: bool = False,
) -> Captioned:
    """The set in the file ``path``, with its images below the folder ``images``.

    ``split`` is the name of a split of the file (in Karpathy's JSON ``test`` by default), or a file
    that lists the names of the images, one per line. ``per_image`` is how many captions of an image
    are kept; ``tidy`` removes final full stops, which queries do not have.

    Raises ``UsageError`` for an unknown format, and for missing images.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    if not images.is_dir():
        raise UsageError(f"there is no folder {images}")
    listed = None
    if split and Path(split).is_file():
        listed = {line.strip() for line in read_text(Path(split)).splitlines()}
    format, rows = _rows(path, split if listed is None else None)
    found: dict[str, list[str]] = {}
    for file, text in rows:
        if text and (listed is None or file in listed or Path(file).name in listed):
            found.setdefault(file, []).append(text)
    if not found:
        raise UsageError(f"{path} has no caption" + (f" of the split {split!r}" if split else ""))
    paths = {file: _find(images, file) for file in found}
    missing = [file for file, place in paths.items() if place is None]
    if missing:
        raise UsageError(
            f"{len(missing):,} of the {len(found):,} images are not below {images}, the first is"
            f" {missing[0]}: name their folder with --images"
        )
    kept = {file: texts[:per_image] for file, texts in found.items()}
    if tidy:
        kept = {file: [text.rstrip(" .") or text for text in kept[file]] for file in kept}
    return Captioned(
        tuple(place for place in paths.values() if place is not None),
        tuple(text for texts in kept.values() for text in texts),
        tuple(row for row, texts in enumerate(kept.values()) for _ in texts),
        format,
    )


def _find(images: Path, file: str) -> Path | None:
    """``file`` below ``images``, with its folder or without."""
    for path in (images / file, images / Path(file).name):
        if path.is_file():
            return path
    return None


def _rows(path: Path, split: str | None) -> tuple[str, Iterable[tuple[str, str]]]:
    """The format's name, and pairs of (file, caption)."""
    text = read_text(path)
    if text.lstrip()[:1] in ("{", "["):
        return _from_json(path, text, split)
    first = text.lstrip().split("\n", 1)[0]
    if re.match(r"[^\t#]+#\d+\t", first):
        _require_no_split(path, split)
        return "flickr", _from_tokens(text)
    return "csv", _from_csv(path, text, split)


def _require_no_split(path: Path, split: str | None) -> None:
    if split is not None:
        raise UsageError(
            f"{path} has no splits, and there is no file {split}: give --split a file that lists"
            " the names of the images"
        )


def _from_json(path: Path, text: str, split: str | None) -> tuple[str, Iterable[tuple[str, str]]]:
    try:
        given: Any = json.loads(text)
        if "annotations" in given:
            _require_no_split(path, split)
            names = {one["id"]: one["file_name"] for one in given["images"]}
            return "coco", [
                (names[one["image_id"]], _clean(one["caption"])) for one in given["annotations"]
            ]
        chosen = [one for one in given["images"] if one.get("split") == (split or "test")]
        return "karpathy", [
            (f"{one.get('filepath', '')}/{one['filename']}".lstrip("/"), _clean(sentence["raw"]))
            for one in chosen
            for sentence in one["sentences"]
        ]
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} is neither Karpathy's JSON (images with sentences and a split) nor COCO's"
            f" captions JSON (images and annotations): {type(error).__name__} {error}"
        ) from error


def _from_tokens(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, tab, caption = line.partition("\t")
        if tab:
            yield name.rpartition("#")[0].strip(), _clean(caption)


def _from_csv(path: Path, text: str, split: str | None) -> list[tuple[str, str]]:
    header = text.lstrip().split("\n", 1)[0]
    delimiter = max(",\t|;", key=header.count)
    reader = csv.DictReader(text.splitlines(), delimiter=delimiter, skipinitialspace=True)
    columns = {(name or "").strip().lower(): name for name in reader.fieldnames or ()}
    file = next((columns[name] for name in FILE_COLUMNS if name in columns), None)
    caption = next((columns[name] for name in TEXT_COLUMNS if name in columns), None)
    if file is None or caption is None:
        raise UsageError(
            f"{path} is not of a known format: a CSV file needs a header with a column for the"
            f" file ({', '.join(FILE_COLUMNS)}) and one for the caption ({', '.join(TEXT_COLUMNS)})"
        )
    if split is not None and "split" not in columns:
        _require_no_split(path, split)
    return [
        (row[file].strip(), _clean(row[caption] or ""))
        for row in reader
        if row[file] and (split is None or row[columns["split"]] == split)
    ]


def _clean(text: str) -> str:
    return " ".join(text.split())


# --- classified ----------------------------------------------------------------------------------


def read_classified(
    path: Path,
    *,
    images: Path | None = None,
    names: Path | None = None,
    shots: int | None = None,
    classes: Sequence[str] | None = None,
) -> Classified:
    """The images below the folder ``path``, one folder per class, or those that the file ``path``
    lists: per line a file below ``images``, a tab or comma, and its class (more is ignored).

    ``names`` is a file with the classes' names in words: per line a class, a tab and names with
    commas between them (WordNet's ``words.txt``), or JSON. By default they are the folders' names,
    with blanks for underscores. ``shots`` is how many images of a class are kept, ``classes`` the
    order of the classes. Raises ``UsageError``.
    """
    if path.is_dir():
        found = _from_folders(path)
    elif path.is_file():
        found = _from_list(path, images or path.parent)
    else:
        raise UsageError(f"there is no folder or file {path}")
    if len(found) < 2:
        raise UsageError(f"{path} holds images of {len(found)} classes: at least two are needed")
    if classes is not None and set(found) - set(classes):
        unknown = min(set(found) - set(classes))
        raise UsageError(f"{path} has the class {unknown!r}, which the test set does not have")
    folders = tuple(classes or sorted(found))
    words = _class_names(names) if names else {}
    unnamed = [folder for folder in folders if names and folder not in words]
    if unnamed:
        raise UsageError(f"{names} has no name for the class {unnamed[0]!r}")
    labels = tuple(
        label(*words[folder]) if folder in words else label(folder.replace("_", " ").strip())
        for folder in folders
    )
    files = [found.get(folder, [])[:shots] for folder in folders]
    return Classified(
        tuple(file for group in files for file in group),
        tuple(row for row, group in enumerate(files) for _ in group),
        labels,
        folders,
    )


def _from_folders(path: Path) -> Mapping[str, list[Path]]:
    found = {}
    for folder in sorted(one for one in path.iterdir() if one.is_dir()):
        files = sorted(one for one in folder.rglob("*") if one.suffix.lower() in IMAGE_SUFFIXES)
        if files:
            found[folder.name] = files
    return found


def _from_list(path: Path, images: Path) -> Mapping[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        parts = [part.strip() for part in re.split(r"[\t,]", line)]
        if len(parts) < 2:
            raise UsageError(f"{path}, line {number}: not a file, a tab or comma, and a class")
        file = images / parts[0]
        if not file.is_file():
            raise UsageError(f"{path}, line {number}: there is no file {file}")
        found.setdefault(parts[1], []).append(file)
    return found


def _class_names(path: Path) -> dict[str, list[str]]:
    text = read_text(path)
    if text.lstrip()[:1] == "{":
        try:
            given: Any = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path} is not JSON: {error}") from error
        return {key: [value] if isinstance(value, str) else value for key, value in given.items()}
    rows = (line.partition("\t") for line in text.splitlines() if "\t" in line)
    return {
        key.strip(): [name.strip() for name in words.split(",") if name.strip()]
        for key, _, words in rows
    }
