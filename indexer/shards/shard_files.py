"""Shards: parquet files of embedded images, as ``sightline embed`` writes them.

    <output>/
        embedding.json            model, dimension, time of creation
        plan-00001.parquet        which image is in which shard
        shard-000001.parquet      a row per image: embedding (float16), metadata, thumbnail, or the
                                  reason why it could not be read
        failures.parquet          the rows with such a reason from all shards, without those whose
                                  file was embedded again since

Any parquet reader can read them. A shard is written under a hidden name and renamed, so one that is
there is complete. pyarrow is imported on first use; the ``ray`` extra installs it.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from types import ModuleType, TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.errors import LibraryError, ModelMismatchError, UsageError
from sightline.indexer.installation import install_command
from sightline.indexer.shards.place import Place
from sightline.indexer.types import PhotoInfo

FORMAT = "sightline-shards-1"
ORIGIN, FAILURES = "embedding.json", "failures.parquet"

ROW_GROUP = 256
"""Rows of a row group, the least that can be read: 6 MB with thumbnails."""

MAX_ROWS = 2**20
"""Rows of a shard. An image's id is ``shard * MAX_ROWS + row``: below 2**53, which JavaScript reads
exactly, for 8 billion shards."""

PARALLEL_READS = 16
"""Shards whose failures are read at the same time: a request to a store takes about 50 ms."""


@dataclass(frozen=True)
class Origin:
    """What made all shards of one output."""

    model: str
    revision: str
    dimension: int
    identity: str
    """Random, of this output: the same ids mean different images in another one."""
    created_at: str
    """UTC, to the second."""
    format: str = FORMAT


@dataclass(frozen=True)
class ShardRow:
    """One image of a shard: embedded, or with the reason why not."""

    id: int
    source: str
    """The folder that was embedded, or its address."""
    path: str
    """Relative to ``source``; for an image in an archive ``archive.tar/its/name.jpg``."""
    size: int
    mtime_ns: int
    """0 if the store has no dates; for an image in an archive the archive's."""
    vector: NDArray[np.float32] | None = None
    """``(d,) float32, unit norm``; None if the image could not be read."""
    info: PhotoInfo | None = None
    content_hash: str | None = None
    phash: int | None = None
    thumbnail: bytes | None = None
    failure: str | None = None
    passing: bool = False
    """Whether the failure may disappear although the file does not change."""


def image_id(shard: int, row: int) -> int:
    """The id of an image in the output, and in a collection filled from it."""
    return shard * MAX_ROWS + row


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"shard-{number:06}.parquet"


def pyarrow() -> ModuleType:
    """pyarrow with its parquet module. Raises UsageError if it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError(f"shards need pyarrow: {install_command('ray')}") from error
    return pyarrow


# the origin ---------------------------------------------------------------------------------------


def read_origin(place: Place) -> Origin:
    """What made the shards at ``place``. Raises LibraryError if there are none."""
    try:
        with place.store_errors(), place.fs.open(place.join(ORIGIN), "rb") as file:
            text = file.read()
        facts = json.loads(text)
        if facts.get("format") != FORMAT:
            raise LibraryError(
                f"{place.url} was written by another version of Sightline"
                f" ({facts.get('format')}): embed again into another folder"
            )
        return Origin(**{field.name: facts[field.name] for field in fields(Origin)})
    except (FileNotFoundError, NotADirectoryError):
        raise LibraryError(
            f"there are no shards in {place.url}: make some with"
            " `sightline embed FOLDER --output DIR`"
        ) from None
    except (ValueError, KeyError, AttributeError) as error:
        raise LibraryError(
            f"{place.join(ORIGIN)} is corrupt ({error}): embed again into another folder"
        ) from error


def write_origin(place: Place, origin: Origin) -> None:
    """Writes what makes the shards at ``place``. Raises LibraryError if that is impossible."""
    try:
        with place.store_errors(), place.writing(ORIGIN) as file:
            file.write(json.dumps(asdict(origin), indent=2).encode())
    except FileNotFoundError as error:
        raise LibraryError(f"{place.url} cannot be written: {error}") from error


def check_origin(place: Place, origin: Origin, model: str, revision: str) -> None:
    """Raises ModelMismatchError unless this model makes the shards at ``place``."""
    if (origin.model, origin.revision) != (model, revision):
        raise ModelMismatchError(
            f"the shards in {place.url} are made with {origin.model} ({origin.revision[:12]}), not"
            f" {model} ({revision[:12]}): use that model, or give another --output"
        )


def whole_shards(place: Place) -> dict[int, str]:
    """The shards that are complete: number -> file name, ascending."""
    found = {}
    for name in place.names():
        if name.startswith("shard-") and name.endswith(".parquet"):
            with suppress(ValueError):
                found[int(name[6:-8])] = name
    return dict(sorted(found.items()))


# writing ------------------------------------------------------------------------------------------


def schema(dimension: int, pa: ModuleType) -> Any:
    """The columns of a shard."""
    return pa.schema(
        [
            ("id", pa.int64()),
            ("source", pa.dictionary(pa.int32(), pa.string())),
            ("path", pa.string()),
            ("size", pa.int64()),
            ("mtime_ns", pa.int64()),
            ("embedding", pa.list_(pa.float16(), dimension)),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("format", pa.string()),
            ("orientation", pa.int8()),
            ("taken_at", pa.timestamp("s")),
            ("taken_precision", pa.string()),
            ("taken_from", pa.string()),
            ("camera", pa.string()),
            ("lens", pa.string()),
            ("latitude", pa.float64()),
            ("longitude", pa.float64()),
            ("title", pa.string()),
            ("caption", pa.string()),
            ("place", pa.string()),
            ("keywords", pa.list_(pa.string())),
            ("people", pa.list_(pa.string())),
            ("rating", pa.int8()),
            ("color", pa.string()),
            ("url", pa.string()),
            ("content_hash", pa.string()),
            ("phash", pa.int64()),
            ("thumbnail", pa.binary()),
            ("failure", pa.string()),
            ("passing", pa.bool_()),
        ]
    )


INFO_COLUMNS = (
    "width", "height", "format", "orientation", "taken_at", "camera", "lens", "latitude",
    "longitude", "title", "caption", "place", "keywords", "people", "rating", "color", "url",
    "taken_precision", "taken_from",
)  # fmt: skip
"""The columns that are fields of ``PhotoInfo``."""

ADDED_COLUMNS = ("taken_precision", "taken_from")
"""Those that shards of earlier versions lack."""

ROW_COLUMNS = tuple(
    field.name for field in fields(ShardRow) if field.name not in ("vector", "info")
)
"""The columns that are fields of ``ShardRow``."""


class ShardWriter:
    """Writes one shard row group by row group. A context manager: the shard is there under its name
    after an exit without an error, and not otherwise."""

    def __init__(self, place: Place, number: int, dimension: int) -> None:
        self._pa = pyarrow()
        self._schema = schema(dimension, self._pa)
        self._dimension = dimension
        self._rows: list[ShardRow] = []
        self._file = place.writing(shard_name(number))
        self._parquet: Any = None

    def __enter__(self) -> Self:
        self._parquet = self._pa.parquet.ParquetWriter(
            self._file.__enter__(),
            self._schema,
            # Vectors and thumbnails are incompressible; the other columns are small.
            compression=dict.fromkeys(("path", "camera", "lens", "caption", "title"), "zstd"),
            use_dictionary=["source", "format", "camera", "lens"],
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._flush()
            self._parquet.close()
        except BaseException as failed:
            self._file.__exit__(type(failed), failed, failed.__traceback__)
            raise
        self._file.__exit__(kind, error, trace)

    def write(self, row: ShardRow) -> None:
        """Adds one row."""
        self._rows.append(row)
        if len(self._rows) >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._parquet.write_table(self._table(self._rows))
            self._rows = []

    def _table(self, rows: Sequence[ShardRow]) -> Any:
        pa = self._pa
        vectors = np.zeros((len(rows), self._dimension), np.float16)
        for n, row in enumerate(rows):
            if row.vector is not None:
                vectors[n] = row.vector
        embedding = pa.FixedSizeListArray.from_arrays(
            pa.array(vectors.reshape(-1)),
            self._dimension,
            mask=pa.array([row.vector is None for row in rows]),
        )
        arrays = [
            embedding
            if field.name == "embedding"
            else pa.array([_value(row, field.name) for row in rows], field.type)
            for field in self._schema
        ]
        return pa.Table.from_arrays(arrays, schema=self._schema)


def _value(row: ShardRow, name: str) -> Any:
    if name in ROW_COLUMNS:
        return getattr(row, name)
    value = getattr(row.info, name) if row.info is not None else None
    return value.replace(tzinfo=None) if name == "taken_at" and value is not None else value


# reading ------------------------------------------------------------------------------------------


@contextmanager
def _opened(place: Place, name: str) -> Iterator[IO[bytes]]:
    """A shard's file. Raises LibraryError for one that is corrupt."""
    pa = pyarrow()
    try:
        with place.fs.open(place.join(name), "rb") as file:
            yield file
    except (pa.ArrowException, KeyError) as error:
        text = " ".join(str(error).split())[:200]
        raise LibraryError(
            f"{place.join(name)} is corrupt ({text}): delete it and run `sightline embed` again"
        ) from error


def read_shard(place: Place, name: str, *, thumbnails: bool = True) -> Iterator[list[ShardRow]]:
    """The rows of one shard, a row group at a time. Raises LibraryError for a corrupt one."""
    columns = [*ROW_COLUMNS, *INFO_COLUMNS, "embedding"]
    if not thumbnails:
        columns.remove("thumbnail")
    with _opened(place, name) as file:
        parquet = pyarrow().parquet.ParquetFile(file)
        for group in range(parquet.num_row_groups):
            yield _rows(parquet.read_row_group(group, columns=columns))


def _rows(table: Any) -> list[ShardRow]:
    column = table.column("embedding").combine_chunks()
    embedded = ~np.asarray(column.is_null())
    dimension = column.type.list_size
    vectors = np.empty((len(column), dimension), np.float32)
    # ``flatten`` leaves out the lists that are null.
    vectors[embedded] = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, dimension)
    values = {
        name: table.column(name).to_pylist() for name in table.column_names if name != "embedding"
    }
    rows = []
    for n in range(table.num_rows):
        info = None
        if embedded[n]:
            # Shards of earlier versions lack some columns.
            known = {name: values[name][n] for name in INFO_COLUMNS if name in values}
            lists = {name: tuple(known.get(name) or ()) for name in ("keywords", "people")}
            known["taken_precision"] = known.get("taken_precision") or "second"
            info = PhotoInfo(**known | lists)
        own = {name: values[name][n] for name in ROW_COLUMNS if name in values}
        rows.append(ShardRow(**own, vector=vectors[n] if embedded[n] else None, info=info))
    return rows


def row_numbers(place: Place, name: str) -> set[int]:
    """The row numbers in a shard, with or without an embedding."""
    with _opened(place, name) as file:
        ids = pyarrow().parquet.read_table(file, columns=["id"]).column(0).to_pylist()
    return {id % MAX_ROWS for id in ids}


def embedded_rows(place: Place, name: str) -> int:
    """How many rows of a shard have an embedding, from the statistics in its footer."""
    with _opened(place, name) as file:
        facts = pyarrow().parquet.ParquetFile(file).metadata
    column = facts.schema.names.index("failure")
    groups = (facts.row_group(number).column(column) for number in range(facts.num_row_groups))
    return sum(group.statistics.null_count for group in groups)


# failures -----------------------------------------------------------------------------------------


def failed_rows(place: Place) -> dict[int, dict[int, bool]]:
    """By shard, the rows without an embedding: ``row -> passing``. Shards without any are left
    out."""
    found: dict[int, dict[int, bool]] = {}
    for table in _failures(place, ["id", "passing"]):
        for id, passing in zip(*(table.column(n).to_pylist() for n in (0, 1)), strict=True):
            found.setdefault(id // MAX_ROWS, {})[id % MAX_ROWS] = bool(passing)
    return found


def write_failures(place: Place, *, but: Container[int] = ()) -> int:
    """Writes the failures of all shards, without the ids ``but``, into one file; their number."""
    table = _every_failure(place, but)
    if table is None:
        return 0
    with place.writing(FAILURES) as file:
        pyarrow().parquet.write_table(table, file)
    return int(table.num_rows)


def read_failures(place: Place, *, but: Container[int] = ()) -> list[ShardRow]:
    """The failures of all shards, without the ids ``but``, from the shards themselves."""
    table = _every_failure(place, but)
    return [] if table is None else [ShardRow(**row) for row in table.to_pylist()]


def _every_failure(place: Place, but: Container[int]) -> Any:
    """None if there is no shard."""
    pa = pyarrow()
    tables = _failures(place, ["id", "source", "path", "size", "mtime_ns", "failure"])
    if not tables:
        return None
    table = pa.concat_tables(tables).unify_dictionaries()
    kept = [id not in but for id in table.column("id").to_pylist()]
    return table.filter(pa.array(kept, pa.bool_()))


def _failures(place: Place, columns: list[str]) -> list[Any]:
    """These columns of every row that has a failure, a table per shard. Of a shard without failures
    only the footer is read."""

    def read(name: str) -> Any:
        with _opened(place, name) as file:
            return pyarrow().parquet.read_table(
                file, columns=columns, filters=[("failure", "!=", "")]
            )

    with ThreadPoolExecutor(PARALLEL_READS, thread_name_prefix="failures") as pool:
        return list(pool.map(read, whole_shards(place).values()))
