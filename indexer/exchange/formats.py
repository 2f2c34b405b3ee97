"""Sets of embeddings as files, in the formats that other programs read and write.

    parquet   one file (or a folder of them), a row per image, the vector in a column of lists
    npy       clip-retrieval's folder: ``img_emb/img_emb_0.npy``, ``metadata/metadata_0.parquet``
    jsonl     one JSON object per line, the vector in ``embedding``

``open_set`` detects the format. A set is rows, with whatever columns it has, and vectors. pyarrow
is imported on first use of parquet.
"""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.errors import UsageError
from sightline.indexer.installation import install_command
from sightline.indexer.types import ImageRecord

FORMATS = ("parquet", "npy", "jsonl")

VECTOR_COLUMNS = ("embedding", "image_embedding", "img_emb", "clip_embedding", "vector", "emb")
"""Names of the column with the vectors, the most likely first."""

ROWS = 10_000
"""Rows read at a time: 30 MB at 768 dimensions."""

MAX_LINE = 2**24
"""Characters of a line of JSON; an embedding of 4,096 numbers has 90,000."""

MODEL_KEY, REVISION_KEY = "sightline.model", "sightline.revision"
"""Keys of parquet's schema metadata for the model that made the vectors."""

Row = dict[str, Any]
"""Column -> value; names in lower case."""

Vectors = NDArray[np.float32]
"""``(n, d) float32`` as in the file: of any length, perhaps not finite."""


def pyarrow() -> ModuleType:
    """pyarrow with its parquet module. Raises UsageError if it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError(
            f"parquet files are read and written by pyarrow: {install_command('exchange')}"
        ) from error
    return pyarrow


def in_order(paths: Iterator[Path]) -> list[Path]:
    """``paths`` by the numbers in their names: ``part_2`` before ``part_10``."""
    return sorted(
        paths, key=lambda p: [int(s) if s.isdigit() else s for s in re.split(r"(\d+)", p.name)]
    )


def to_row(image: ImageRecord) -> Row:
    """The metadata of an image, under the column names that sets of embeddings use."""
    info = image.info
    return {
        "id": image.id,
        "image_path": str(image.absolute),
        "root": image.root,
        "url": info.url,
        "title": info.title,
        "caption": info.caption,
        "keywords": list(info.keywords),
        "people": list(info.people),
        "place": info.place,
        "rating": info.rating,
        "width": info.width,
        "height": info.height,
        "format": info.format,
        "orientation": info.orientation,
        "taken_at": info.taken_at,
        "taken_precision": info.taken_precision if info.taken_at else None,
        "taken_from": info.taken_from,
        "camera": info.camera,
        "lens": info.lens,
        "latitude": info.latitude,
        "longitude": info.longitude,
        "size": image.size,
        "content_hash": image.content_hash,
        "color": info.color,
        "phash": image.phash,
    }


class EmbeddingSet(ABC):
    """Vectors of images, and the metadata of each."""

    path: Path
    dimension: int
    count: int | None
    """Rows; None if counting them requires reading the file."""
    model: str | None = None
    """The model that made the vectors; None if the set does not name it."""
    revision: str | None = None

    @abstractmethod
    def batches(self) -> Iterator[tuple[list[Row], Vectors]]:
        """Rows and their ``(n, dimension)`` vectors, in the order of the files."""

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        """The ``columns`` (lower case) of every row, as far as it has them, without the vectors."""
        for rows, _ in self.batches():
            yield from ({name: row[name] for name in columns if name in row} for row in rows)


def open_set(path: Path) -> EmbeddingSet:
    """The set at ``path``: a ``.parquet`` or ``.jsonl`` file, clip-retrieval's folder, a folder of
    ``.npy`` files, or one of ``.parquet`` files. Raises UsageError for anything else."""
    if path.is_dir():
        folder = path / "img_emb" if (path / "img_emb").is_dir() else path
        if arrays := in_order(folder.glob("*.npy")):
            return NpySet(path, arrays)
        if tables := in_order(path.glob("*.parquet")):
            return ParquetSet(path, tables)
    elif path.is_file():
        if path.suffix == ".parquet":
            return ParquetSet(path, [path])
        if path.suffix in (".jsonl", ".ndjson"):
            return JsonlSet(path)
        if path.suffix == ".npy":
            return NpySet(path, [path])
    else:
        raise UsageError(f"there is no file or folder {path}")
    raise UsageError(
        f"{path} holds no embeddings: give a folder with img_emb/*.npy (and metadata/*.parquet), a"
        " .parquet file with a column `embedding`, or a .jsonl file"
    )


class NpySet(EmbeddingSet):
    """clip-retrieval's folder. The metadata may be missing."""

    def __init__(self, path: Path, arrays: Sequence[Path]) -> None:
        self.path = path
        self._arrays = [self._open(array) for array in arrays]
        self.dimension = int(self._arrays[0].shape[1])
        self.count = sum(len(array) for array in self._arrays)
        self._tables: list[Any] = []
        tables = in_order((path / "metadata").glob("*.parquet")) if path.is_dir() else []
        if tables:
            self._pair(arrays, tables)

    def _open(self, path: Path) -> NDArray[Any]:
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise UsageError(f"{path} is not a numpy array: {error}") from error
        if array.ndim != 2 or array.dtype.kind != "f":
            raise UsageError(f"{path} holds {array.dtype} {array.shape}, not rows of floats")
        return array

    def _pair(self, arrays: Sequence[Path], tables: Sequence[Path]) -> None:
        """Opens the tables, and checks that each has as many rows as its array."""
        if len(arrays) != len(tables):
            raise UsageError(
                f"{self.path} has {len(arrays)} files of vectors and {len(tables)} of metadata"
            )
        if any(array.shape[1] != self.dimension for array in self._arrays):
            raise UsageError(f"the vectors in {self.path} have different dimensions")
        parquet = pyarrow().parquet
        for path, array in zip(tables, self._arrays, strict=True):
            table = _parquet_file(parquet, path)
            if table.metadata.num_rows != len(array):
                raise UsageError(
                    f"{path} has {table.metadata.num_rows:,} rows for {len(array):,} vectors"
                )
            self._tables.append(table)
        self.model, self.revision = _made_by(self._tables[0])

    def batches(self) -> Iterator[tuple[list[Row], Vectors]]:
        """See ``EmbeddingSet``."""
        for number, array in enumerate(self._arrays):
            if not self._tables:
                for start in range(0, len(array), ROWS):
                    part = np.asarray(array[start : start + ROWS], np.float32)
                    yield [{} for _ in part], part
                continue
            start = 0
            for batch in self._tables[number].iter_batches(batch_size=ROWS):
                rows = _rows(batch)
                yield rows, np.asarray(array[start : start + len(rows)], np.float32)
                start += len(rows)

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        """See ``EmbeddingSet``."""
        for table in self._tables:
            yield from _columns_of(table, columns)


class ParquetSet(EmbeddingSet):
    """Parquet files with the vectors in a column of lists."""

    def __init__(self, path: Path, files: Sequence[Path]) -> None:
        self.path = path
        parquet = pyarrow().parquet
        self._files = [_parquet_file(parquet, file) for file in files]
        self._column = self._vector_column()
        self.count = sum(file.metadata.num_rows for file in self._files)
        self.model, self.revision = _made_by(self._files[0])
        self.dimension = 0  # of the missing vectors before the first one
        first = next((vectors.shape[1] for _, vectors in self._read(ROWS) if vectors.size), None)
        if first is None:
            raise UsageError(f"{path} holds no vectors")
        self.dimension = first

    def _vector_column(self) -> str:
        names = {field.name.lower(): field.name for field in self._files[0].schema_arrow}
        for name in VECTOR_COLUMNS:
            if name in names:
                return names[name]
        raise UsageError(
            f"{self.path} has no column of vectors ({', '.join(VECTOR_COLUMNS[:3])}, ..); it has"
            f" {', '.join(names)}"
        )

    def _read(self, size: int) -> Iterator[tuple[list[Row], Vectors]]:
        for file in self._files:
            for batch in file.iter_batches(batch_size=size):
                number = batch.schema.get_field_index(self._column)
                yield _rows(batch, without=self._column), self._vectors(batch.column(number))

    def _vectors(self, column: Any) -> Vectors:
        """``(n, d)`` from a column of lists, without a Python object per number. Missing vectors
        and numbers become NaN."""
        from pyarrow import compute

        wrong = UsageError(
            f"{self.path}: the column {self._column} does not hold vectors, or some have different"
            " lengths"
        )
        try:
            lengths = compute.min_max(compute.list_value_length(column)).as_py()
        except (ValueError, NotImplementedError) as error:
            raise wrong from error
        present = column.is_valid().to_numpy(zero_copy_only=False)
        if lengths["min"] is None:
            return np.full((len(column), self.dimension), np.nan, np.float32)
        if lengths["min"] != lengths["max"]:
            raise wrong
        numbers = column.drop_null().flatten()
        values = numbers.to_numpy(zero_copy_only=False)
        vectors = np.full((len(column), lengths["max"]), np.nan, np.float32)
        vectors[present] = np.asarray(values, np.float32).reshape(-1, lengths["max"])
        return vectors

    def batches(self) -> Iterator[tuple[list[Row], Vectors]]:
        """See ``EmbeddingSet``."""
        for rows, vectors in self._read(ROWS):
            if vectors.shape[1] != self.dimension:
                raise UsageError(f"the vectors in {self.path} have different dimensions")
            yield rows, vectors

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        """See ``EmbeddingSet``."""
        for file in self._files:
            yield from _columns_of(file, columns)


class JsonlSet(EmbeddingSet):
    """One JSON object per line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = None
        first = next((line for line in self._lines() if line[1]), None)
        if first is None:
            raise UsageError(f"{path} holds no vectors")
        row, vector = first
        self.dimension = len(vector)
        self.model, self.revision = row.get("model"), row.get("revision")

    def _lines(self) -> Iterator[tuple[Row, list[float]]]:
        with self.path.open(encoding="utf-8") as lines:
            for number, line in enumerate(iter(lambda: lines.readline(MAX_LINE), ""), 1):
                if len(line) == MAX_LINE:
                    raise UsageError(
                        f"{self.path}, line {number} has more than {MAX_LINE:,} characters"
                    )
                if not line.strip():
                    continue
                try:
                    row = {name.lower(): value for name, value in json.loads(line).items()}
                    column = next(name for name in VECTOR_COLUMNS if name in row)
                    vector = [
                        math.nan if value is None else float(value)
                        for value in row.pop(column) or ()
                    ]
                except (
                    ValueError, TypeError, AttributeError, StopIteration,
                    OverflowError, RecursionError,
                ) as error:  # fmt: skip
                    raise UsageError(
                        f"{self.path}, line {number}: not a JSON object with an `embedding`"
                    ) from error
                yield row, vector

    def batches(self) -> Iterator[tuple[list[Row], Vectors]]:
        """See ``EmbeddingSet``."""
        rows: list[Row] = []
        vectors: list[list[float]] = []
        for row, vector in self._lines():
            if vector and len(vector) != self.dimension:
                raise UsageError(f"the vectors in {self.path} have different dimensions")
            rows.append(row)
            vectors.append(vector or [math.nan] * self.dimension)
            if len(rows) == ROWS:
                yield rows, np.array(vectors, np.float32)
                rows, vectors = [], []
        if rows:
            yield rows, np.array(vectors, np.float32)


def _parquet_file(parquet: Any, path: Path) -> Any:
    try:
        return parquet.ParquetFile(path)
    except (ValueError, OSError) as error:  # pyarrow's own errors are ValueErrors
        raise UsageError(f"{path} is not a parquet file: {' '.join(str(error).split())}") from error


def _made_by(file: Any) -> tuple[str | None, str | None]:
    """The model and revision in the metadata of a parquet file that Sightline wrote."""
    facts = file.schema_arrow.metadata or {}
    found = [facts.get(key.encode()) for key in (MODEL_KEY, REVISION_KEY)]
    model, revision = (value.decode("utf-8", "replace") if value else None for value in found)
    return model, revision


def _rows(batch: Any, *, without: str | None = None) -> list[Row]:
    if without is not None:
        batch = batch.drop_columns([without])
    names = [name.lower() for name in batch.schema.names]
    columns = [column.to_pylist() for column in batch.columns]
    if not columns:
        return [{} for _ in range(len(batch))]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _columns_of(file: Any, columns: Sequence[str]) -> Iterator[Row]:
    names = [field.name for field in file.schema_arrow if field.name.lower() in columns]
    for batch in file.iter_batches(batch_size=ROWS, columns=names):
        yield from _rows(batch)
