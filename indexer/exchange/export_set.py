"""Writes a library's embeddings and metadata for other programs, in the formats of ``formats``.

The output has a hidden name until it is complete.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sightline.indexer.errors import UsageError
from sightline.indexer.exchange.formats import MODEL_KEY, REVISION_KEY, Row, pyarrow, to_row
from sightline.indexer.library import Library
from sightline.indexer.types import Embeddings, Ids, Progress, no_progress

Format = Literal["parquet", "npy", "jsonl"]

BLOCK = 5_000
"""Images read and written at a time."""

NPY_ROWS = 100_000
"""Images in one pair of files of the npy format: about 200 MB in memory."""


Write = Callable[[Sequence[Row], Embeddings], None]
"""Writes rows and their ``(n, d)`` vectors."""


def write_set(
    library: Library,
    target: Path,
    *,
    format: Format,
    ids: Ids | None = None,
    progress: Progress = no_progress,
) -> int:
    """Writes ``ids`` (None: all images) of ``library`` to ``target``, and returns their number.

    ``parquet`` and ``jsonl`` write a file, ``npy`` clip-retrieval's folder with float16 vectors, as
    the catalog stores them. Raises UsageError if ``target`` exists, or its folder does not.
    """
    if target.exists():
        raise UsageError(f"{target} is there already: choose another name, or remove it")
    if not target.parent.is_dir():
        raise UsageError(f"there is no folder {target.parent}")
    wanted = library.select() if ids is None else ids
    done = 0
    with _hidden(target) as path, _WRITERS[format](path, library) as write:
        for rows, vectors in _blocks(library, wanted):
            write(rows, vectors)
            done += len(rows)
            progress("exporting", done, len(wanted))
    return done


def _blocks(library: Library, ids: Ids) -> Iterator[tuple[list[Row], Embeddings]]:
    for start in range(0, len(ids), BLOCK):
        rows = [to_row(image) for image in library.images(ids[start : start + BLOCK].tolist())]
        vectors = library.vectors(np.array([row["id"] for row in rows], np.int64))
        # An image that is deleted at this very moment has no vector.
        present = np.flatnonzero(np.isfinite(vectors).all(axis=1))
        yield [rows[n] for n in present.tolist()], vectors[present]


@contextmanager
def _hidden(target: Path) -> Iterator[Path]:
    """A hidden name beside ``target`` for a file or folder that is renamed to it on success, and
    deleted otherwise."""
    path = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield path
        path.rename(target)
    except BaseException:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        raise


@contextmanager
def _jsonl(path: Path, library: Library) -> Iterator[Write]:
    """One object per line."""
    made_by = {"model": library.model, "revision": library.revision}
    with path.open("w", encoding="utf-8", newline="\n") as file:

        def write(rows: Sequence[Row], vectors: Embeddings) -> None:
            for row, vector in zip(rows, vectors, strict=True):
                taken_at = row["taken_at"].isoformat() if row["taken_at"] else None
                # Seven digits restore every float16 exactly.
                numbers = [float(f"{value:.7g}") for value in vector.tolist()]
                line = {**row, "taken_at": taken_at, **made_by, "embedding": numbers}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")

        yield write


@contextmanager
def _parquet(path: Path, library: Library) -> Iterator[Write]:
    """One file; the vectors as float32, which every parquet reader supports."""
    arrow = pyarrow()
    vector = arrow.field("embedding", arrow.list_(arrow.float32(), library.dimension), False)
    schema = _schema(arrow, library).append(vector)
    with arrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:

        def write(rows: Sequence[Row], vectors: Embeddings) -> None:
            flat = arrow.array(vectors.astype(np.float32).ravel())
            embedding = arrow.FixedSizeListArray.from_arrays(flat, library.dimension)
            writer.write_table(
                arrow.table([*_columns(arrow, rows, schema), embedding], schema=schema)
            )

        yield write


@contextmanager
def _npy(path: Path, library: Library) -> Iterator[Write]:
    """clip-retrieval's folder: ``img_emb/img_emb_0.npy`` and ``metadata/metadata_0.parquet``."""
    arrow = pyarrow()
    schema = _schema(arrow, library)
    (path / "img_emb").mkdir(parents=True)
    (path / "metadata").mkdir()
    waiting: list[Row] = []
    arrays: list[Any] = []
    parts = count()

    def flush() -> None:
        part = next(parts)
        np.save(path / f"img_emb/img_emb_{part}.npy", np.concatenate(arrays))
        arrow.parquet.write_table(
            arrow.table(_columns(arrow, waiting, schema), schema=schema),
            path / f"metadata/metadata_{part}.parquet",
        )
        waiting.clear()
        arrays.clear()

    def write(rows: Sequence[Row], vectors: Embeddings) -> None:
        waiting.extend(rows)
        arrays.append(vectors.astype(np.float16))
        if len(waiting) >= NPY_ROWS:
            flush()

    yield write
    if waiting:
        flush()


def _schema(arrow: Any, library: Library) -> Any:
    """The columns of ``to_row`` with their types."""
    text, whole, number = arrow.string(), arrow.int32(), arrow.float64()
    types = {
        "id": arrow.int64(), "image_path": text, "root": text, "url": text, "title": text,
        "caption": text, "keywords": arrow.list_(text), "people": arrow.list_(text),
        "place": text, "rating": arrow.int8(),
        "width": whole, "height": whole, "format": text, "orientation": arrow.int8(),
        "taken_at": arrow.timestamp("us"), "taken_precision": text, "taken_from": text,
        "camera": text, "lens": text, "latitude": number,
        "longitude": number, "size": arrow.int64(), "content_hash": text, "color": text,
        "phash": arrow.int64(),
    }  # fmt: skip
    metadata = {MODEL_KEY: library.model, REVISION_KEY: library.revision}
    return arrow.schema(list(types.items()), metadata=metadata)


def _columns(arrow: Any, rows: Sequence[Row], schema: Any) -> list[Any]:
    return [
        arrow.array([row[field.name] for row in rows], field.type)
        for field in schema
        if field.name != "embedding"
    ]


_WRITERS: dict[Format, Callable[[Path, Library], AbstractContextManager[Write]]] = {
    "parquet": _parquet,
    "npy": _npy,
    "jsonl": _jsonl,
}
