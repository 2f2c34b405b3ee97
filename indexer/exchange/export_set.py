"""A library's embeddings and what is known of each picture, written for other programs.

``embedding_files`` says what the layouts are, and reads them. What is being written has another
name until it is whole.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import numpy as np

from sightline.indexer.errors import UsageError
from sightline.indexer.exchange.formats import MODEL_KEY, REVISION_KEY, Row, pyarrow
from sightline.indexer.exchange.import_set import records
from sightline.indexer.library.library import Library
from sightline.indexer.types import Embeddings, Ids, Progress, no_progress

Format = Literal["parquet", "npy", "jsonl"]

BLOCK = 5_000
"""Pictures that are read and written at a time."""

PART = 100_000
"""Pictures in one pair of files of the npy layout: their rows are held in memory, some 200 MB."""


class Writer(Protocol):
    """Takes rows and their vectors, block after block; leaving the block puts it in place."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def write(self, rows: Sequence[Row], vectors: Embeddings) -> None:
        """``rows`` in the order of ``vectors`` ``(n, d)``."""
        ...


def write_set(
    library: Library,
    target: Path,
    *,
    format: Format,
    ids: Ids | None = None,
    progress: Progress = no_progress,
) -> int:
    """Writes ``ids`` (all images, unless given) of ``library`` to ``target``; how many there were.

    ``parquet`` and ``jsonl`` make a file, ``npy`` clip-retrieval's folder with float16 vectors, as
    the catalog has them. Raises UsageError when ``target`` is there already.
    """
    if target.exists():
        raise UsageError(f"{target} is there already: choose another name, or remove it")
    wanted = library.select() if ids is None else ids
    done = 0
    with _draft(target) as draft, _WRITERS[format](draft, library) as writer:
        for rows, vectors in _blocks(library, wanted):
            writer.write(rows, vectors)
            done += len(rows)
            progress("exporting", done, len(wanted))
    return done


def _blocks(library: Library, ids: Ids) -> Iterator[tuple[list[Row], Embeddings]]:
    for start in range(0, len(ids), BLOCK):
        rows = list(records(library, ids[start : start + BLOCK].tolist()))
        vectors = library.vectors(np.array([row["id"] for row in rows], np.int64))
        # A picture may leave in this very moment: then it has no vector.
        there = np.flatnonzero(np.isfinite(vectors).all(axis=1))
        yield [rows[place] for place in there.tolist()], vectors[there]


@contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """A hidden name beside ``target`` for the file or folder that becomes it when all went well,
    and is removed when not."""
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


class _Jsonl:
    """One object a line."""

    def __init__(self, path: Path, library: Library) -> None:
        self._made_by = {"model": library.model, "revision": library.revision}
        self._path = path

    def __enter__(self) -> Self:
        self._file = self._path.open("w", encoding="utf-8", newline="\n")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def write(self, rows: Sequence[Row], vectors: Embeddings) -> None:
        """See ``Writer``."""
        for row, vector in zip(rows, vectors, strict=True):
            taken_at = row["taken_at"].isoformat() if row["taken_at"] else None
            # Seven digits are more than it takes to bring a float16 back.
            numbers = [float(f"{value:.7g}") for value in vector.tolist()]
            line = {**row, "taken_at": taken_at, **self._made_by, "embedding": numbers}
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")


class _Parquet:
    """One file; the vectors as float32, which every reader of parquet knows."""

    def __init__(self, path: Path, library: Library) -> None:
        self._path = path
        self._arrow = pyarrow()
        vector = self._arrow.list_(self._arrow.float32(), library.dimension)
        self._schema = _schema(self._arrow, library).append(
            self._arrow.field("embedding", vector, nullable=False)
        )

    def __enter__(self) -> Self:
        self._writer = self._arrow.parquet.ParquetWriter(
            self._path, self._schema, compression="zstd"
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    def write(self, rows: Sequence[Row], vectors: Embeddings) -> None:
        """See ``Writer``."""
        columns = _columns(self._arrow, rows, self._schema)
        flat = self._arrow.array(vectors.astype(np.float32).ravel())
        columns.append(self._arrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1]))
        self._writer.write_table(self._arrow.table(columns, schema=self._schema))


class _Npy:
    """clip-retrieval's folder: ``img_emb/img_emb_0.npy`` and ``metadata/metadata_0.parquet``."""

    def __init__(self, path: Path, library: Library) -> None:
        self._path = path
        self._arrow = pyarrow()
        self._schema = _schema(self._arrow, library)
        self._part = 0
        self._rows: list[Row] = []
        self._vectors: list[np.ndarray[Any, Any]] = []

    def __enter__(self) -> Self:
        (self._path / "img_emb").mkdir(parents=True)
        (self._path / "metadata").mkdir()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None and self._rows:
            self._flush()

    def write(self, rows: Sequence[Row], vectors: Embeddings) -> None:
        """See ``Writer``."""
        self._rows += rows
        self._vectors.append(vectors.astype(np.float16))
        if len(self._rows) >= PART:
            self._flush()

    def _flush(self) -> None:
        np.save(self._path / f"img_emb/img_emb_{self._part}.npy", np.concatenate(self._vectors))
        columns = _columns(self._arrow, self._rows, self._schema)
        self._arrow.parquet.write_table(
            self._arrow.table(columns, schema=self._schema),
            self._path / f"metadata/metadata_{self._part}.parquet",
        )
        self._part += 1
        self._rows, self._vectors = [], []


def _schema(arrow: Any, library: Library) -> Any:
    """Columns of ``exchange.records``, with their types."""
    text, whole, number = arrow.string(), arrow.int32(), arrow.float64()
    types = {
        "id": arrow.int64(), "image_path": text, "root": text, "url": text, "title": text,
        "caption": text, "keywords": arrow.list_(text), "place": text, "rating": arrow.int8(),
        "width": whole, "height": whole, "format": text, "orientation": arrow.int8(),
        "taken_at": arrow.timestamp("us"), "camera": text, "lens": text, "latitude": number,
        "longitude": number, "size": arrow.int64(), "content_hash": text, "color": text,
        "phash": arrow.int64(),
    }  # fmt: skip
    facts = {MODEL_KEY: library.model, REVISION_KEY: library.revision}
    return arrow.schema(list(types.items()), metadata=facts)


def _columns(arrow: Any, rows: Sequence[Row], schema: Any) -> list[Any]:
    return [
        arrow.array([row[field.name] for row in rows], field.type)
        for field in schema
        if field.name != "embedding"
    ]


_WRITERS: dict[str, Callable[[Path, Library], Writer]] = {
    "parquet": _Parquet,
    "npy": _Npy,
    "jsonl": _Jsonl,
}
