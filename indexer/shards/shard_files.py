"""Shards: parquet files of embedded pictures, as a run on many machines writes them.

    <output>/
        embedding.json            which model, how many dimensions, when
        plan-00001.parquet        which picture is in which shard
        shard-000001.parquet      a row a picture: embedding (float16), what is known of it,
                                  thumbnail, or the reason why it could not be read
        failures.parquet          the rows of all shards that have such a reason, but for those
                                  whose file was embedded again since

Any tool that reads parquet reads them. A shard is written under a hidden name and renamed when it
is whole, so one that is there is whole. Places are folders or what fsspec opens (``s3://...``);
what fsspec has no driver for is left to pyarrow's own.

pyarrow is imported when it is used; the ``ray`` extra brings it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import ModuleType, TracebackType
from typing import IO, Any, Self
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.errors import LibraryError, ModelMismatchError, SightlineError, UsageError
from sightline.indexer.types import PhotoInfo

FORMAT = "sightline-shards-1"
ORIGIN, FAILURES = "embedding.json", "failures.parquet"

ROWS = 256
"""Rows of a row group: 6 MB with thumbnails. What one picture of a page costs to look up."""

MOST_ROWS = 2**20
"""Rows of a shard: a picture's id is ``shard * MOST_ROWS + row``, and below 2**53 every program
that reads numbers as JavaScript does reads it right: 8 billion shards."""


BUCKETS = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"}
"""Stores without folders. What their drivers make there is a bucket: one with a mistyped name."""

READ_AT_ONCE = 16
"""Shards whose failures are looked up at the same time: in a store a request takes some 50 ms."""


@dataclass(frozen=True)
class Origin:
    """What made the shards of one output; all of them or none."""

    model: str
    revision: str
    dimension: int
    identity: str
    """Of this output: ids of two outputs are not of one space."""
    created_at: str
    """UTC, to the second."""
    format: str = FORMAT


@dataclass(frozen=True)
class ShardRow:
    """One picture of a shard: embedded, or with the reason why not."""

    id: int
    source: str
    """The folder, or the address of a folder, that was embedded."""
    path: str
    """Below ``source``; for a picture in an archive ``archive.tar/its/name.jpg``."""
    size: int
    mtime_ns: int
    """0 where the place knows no dates; for a picture in an archive the archive's."""
    vector: NDArray[np.float32] | None = None
    """``(d,) float32, unit norm``; None when it could not be read."""
    info: PhotoInfo | None = None
    content_hash: str | None = None
    phash: int | None = None
    thumbnail: bytes | None = None
    failure: str | None = None
    passing: bool = False
    """Whether the failure may be gone next time although the file has not changed."""


def image_id(shard: int, row: int) -> int:
    """The id of a picture in the output: also its key in a collection filled from there."""
    return shard * MOST_ROWS + row


def shard_name(number: int) -> str:
    """Of its file."""
    return f"shard-{number:06}.parquet"


def pyarrow() -> ModuleType:
    """pyarrow with its parquet module. UsageError, with what to install, where it is not there."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError('shards need pyarrow: pip install "sightline[ray]"') from error
    return pyarrow


# places -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A folder, on this machine or in a store. Any thread may use it."""

    url: str
    """As people give it; absolute for a folder of this machine."""
    fs: Any
    """The fsspec file system."""
    path: str
    """Of the folder in ``fs``."""

    @classmethod
    def at(cls, url: str) -> Self:
        """The place at a path or an address. UsageError for a kind of address nobody knows."""
        fs, path = filesystem(url)
        url = path if is_local(fs) else url.rstrip("/")
        return cls(url, fs, path.rstrip("/") or "/")

    @property
    def local(self) -> bool:
        """Whether it is a folder of this machine."""
        return is_local(self.fs)

    def join(self, name: str) -> str:
        """``name`` below the folder, for ``fs``."""
        return f"{self.path.rstrip('/')}/{name}" if name else self.path

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Turns whatever a store's driver raises into one line with the address in it."""
        try:
            yield
        except (SightlineError, FileNotFoundError, NotADirectoryError):
            raise
        except Exception as error:
            if self.local:
                raise
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise LibraryError(f"{self.url} cannot be reached: {reason}") from error

    def names(self) -> set[str]:
        """What lies in the folder; empty where there is none. LibraryError where a store does not
        answer."""
        return {_base(path) for path in self._listed(detail=False)}

    def sizes(self) -> dict[str, int]:
        """Bytes of each file in the folder; like ``names``."""
        return {_base(one["name"]): int(one["size"] or 0) for one in self._listed(detail=True)}

    def _listed(self, *, detail: bool) -> list[Any]:
        """As the store has it now, where the driver remembers listings."""
        try:
            with self.answering():
                try:
                    found = self.fs.ls(self.path, detail=detail, refresh=True)
                except TypeError:
                    found = self.fs.ls(self.path, detail=detail)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return list(found)

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """A new file: there under its name, whole and on the disk, or not at all."""
        if self.url.partition("://")[0] not in BUCKETS:
            self.fs.makedirs(self.path, exist_ok=True)
        hidden = self.join(f".{name}.{uuid.uuid4().hex}")
        try:
            with self.fs.open(hidden, "wb") as file:
                yield file
                if self.local:
                    import os

                    file.flush()
                    os.fsync(file.fileno())
            if self.local:
                Path(hidden).replace(self.join(name))
            else:
                self.fs.mv(hidden, self.join(name))
        except BaseException:
            with suppress(Exception):
                self.fs.rm(hidden)
            raise

    def sweep(self, names: Sequence[str]) -> None:
        """Removes what attempts that were killed left of the files called so."""
        for name in sorted(self.names()):
            if name.startswith(".") and name[1:].rpartition(".")[0] in names:
                with suppress(FileNotFoundError):
                    self.fs.rm(self.join(name))


def is_local(fs: Any) -> bool:
    """Whether an fsspec file system is this machine's disk."""
    protocol = fs.protocol if isinstance(fs.protocol, (tuple, list)) else (fs.protocol,)
    return "file" in protocol


def _base(path: str) -> str:
    """The name of a file or folder without what is above it."""
    return path.rstrip("/").rpartition("/")[2]


def filesystem(url: str) -> tuple[Any, str]:
    """``(fsspec file system, path in it)`` of a path or an address: fsspec's own drivers first,
    pyarrow's (S3, Google Cloud Storage, HDFS) where theirs is not installed."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise UsageError('shards need fsspec: pip install "sightline[ray]"') from error
    if "://" in url and ":" in urlsplit(url).netloc.rpartition("@")[0]:
        raise UsageError(
            "an address with a password in it would be written into every shard: put the password"
            " where the store's driver looks for it (environment, its configuration file)"
        )
    try:
        fs, path = url_to_fs(str(Path(url).expanduser()) if "://" not in url else url)
    except ImportError as missing:
        from fsspec.implementations.arrow import ArrowFSWrapper
        from pyarrow import ArrowInvalid
        from pyarrow.fs import FileSystem

        try:
            inner, path = FileSystem.from_uri(url)
        except ArrowInvalid:
            raise UsageError(f"{url} cannot be opened: {missing}") from missing
        return ArrowFSWrapper(inner), path
    except ValueError as error:
        raise UsageError(f"{url} cannot be opened: {error}") from error
    return fs, path


# what made them -----------------------------------------------------------------------------------


def read_origin(place: Place) -> Origin:
    """What made the shards at ``place``. LibraryError where there are none."""
    try:
        with place.answering(), place.fs.open(place.join(ORIGIN), "rb") as file:
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
        raise LibraryError(f"{place.join(ORIGIN)} is damaged: {error}") from error


def write_origin(place: Place, origin: Origin) -> None:
    """Says what makes the shards at ``place``."""
    try:
        with place.answering(), place.writing(ORIGIN) as file:
            file.write(json.dumps(asdict(origin), indent=2).encode())
    except FileNotFoundError as error:
        raise LibraryError(f"{place.url} cannot be written: {error}") from error


def check_origin(place: Place, origin: Origin, model: str, revision: str) -> None:
    """ModelMismatchError unless this model, in this revision, makes the shards at ``place``."""
    if (origin.model, origin.revision) != (model, revision):
        raise ModelMismatchError(
            f"the shards in {place.url} are made with {origin.model} ({origin.revision[:12]}), not"
            f" {model} ({revision[:12]}): use that model, or give another --output"
        )


def whole_shards(place: Place) -> dict[int, str]:
    """The shards that are there, by number: their files' names."""
    found = {}
    for name in place.names():
        if name.startswith("shard-") and name.endswith(".parquet"):
            with suppress(ValueError):
                found[int(name[6:-8])] = name
    return dict(sorted(found.items()))


# rows ---------------------------------------------------------------------------------------------


def schema(dimension: int, pa: ModuleType) -> Any:
    """Columns of a shard."""
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
            ("camera", pa.string()),
            ("lens", pa.string()),
            ("latitude", pa.float64()),
            ("longitude", pa.float64()),
            ("title", pa.string()),
            ("caption", pa.string()),
            ("place", pa.string()),
            ("keywords", pa.list_(pa.string())),
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


OF_INFO = (
    "width", "height", "format", "orientation", "taken_at", "camera", "lens", "latitude",
    "longitude", "title", "caption", "place", "keywords", "rating", "color", "url",
)  # fmt: skip
"""Columns that are ``PhotoInfo``'s."""

OF_ROW = (
    "id", "source", "path", "size", "mtime_ns", "content_hash", "phash", "thumbnail", "failure",
    "passing",
)  # fmt: skip


class ShardWriter:
    """Writes one shard, row group by row group, so that a large one needs little memory.

    A context manager: leaving it without an error puts the file in its place.
    """

    def __init__(self, place: Place, number: int, dimension: int) -> None:
        self._pa = pyarrow()
        self._schema = schema(dimension, self._pa)
        self._dimension = dimension
        self._rows: list[ShardRow] = []
        self._place = place.writing(shard_name(number))
        self._parquet: Any = None

    def __enter__(self) -> Self:
        file = self._place.__enter__()
        self._parquet = self._pa.parquet.ParquetWriter(
            file,
            self._schema,
            # Vectors and thumbnails do not get smaller; the rest is small as it is.
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
            self._place.__exit__(type(failed), failed, failed.__traceback__)
            raise
        self._place.__exit__(kind, error, trace)

    def write(self, row: ShardRow) -> None:
        """Adds one row."""
        self._rows.append(row)
        if len(self._rows) >= ROWS:
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
        columns: dict[str, Any] = {
            name: [getattr(row, name) for row in rows] for name in OF_ROW
        } | {name: [_info(row, name) for row in rows] for name in OF_INFO}
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(
            pa.array(vectors.reshape(-1)),
            self._dimension,
            mask=pa.array([row.vector is None for row in rows]),
        )
        arrays = [
            columns[field.name]
            if field.name == "embedding"
            else pa.array(columns[field.name], field.type)
            for field in self._schema
        ]
        return pa.Table.from_arrays(arrays, schema=self._schema)


def _info(row: ShardRow, name: str) -> Any:
    value = getattr(row.info, name) if row.info is not None else None
    return value.replace(tzinfo=None) if name == "taken_at" and value is not None else value


def read_shard(place: Place, name: str, *, thumbnails: bool = True) -> Iterator[list[ShardRow]]:
    """The rows of one shard, a row group at a time. LibraryError for one that is damaged."""
    pa = pyarrow()
    columns = [*OF_ROW, *OF_INFO, "embedding"]
    if not thumbnails:
        columns.remove("thumbnail")
    with damaged(place, name, pa), place.fs.open(place.join(name), "rb") as file:
        parquet = pa.parquet.ParquetFile(file)
        for group in range(parquet.num_row_groups):
            yield _rows(parquet.read_row_group(group, columns=columns))


@contextmanager
def damaged(place: Place, name: str, pa: ModuleType) -> Iterator[None]:
    """Turns what pyarrow says of a broken file into one line."""
    try:
        yield
    except (pa.ArrowException, KeyError) as error:
        text = " ".join(str(error).split())[:200]
        raise LibraryError(
            f"{place.join(name)} is damaged ({text}): delete it and run `sightline embed` again"
        ) from error


def _rows(table: Any) -> list[ShardRow]:
    column = table.column("embedding").combine_chunks()
    there = ~np.asarray(column.is_null())
    dimension = column.type.list_size
    vectors = np.empty((len(column), dimension), np.float32)
    # ``flatten`` leaves out the lists that are null.
    vectors[there] = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, dimension)
    values = {
        name: table.column(name).to_pylist() for name in table.column_names if name != "embedding"
    }
    rows = []
    for n in range(table.num_rows):
        info = None
        if there[n]:
            known = {name: values[name][n] for name in OF_INFO}
            info = PhotoInfo(**{**known, "keywords": tuple(known["keywords"] or ())})
        own = {name: values[name][n] for name in OF_ROW if name in values}
        rows.append(ShardRow(**own, vector=vectors[n] if there[n] else None, info=info))
    return rows


def failed_rows(place: Place) -> dict[int, dict[int, bool]]:
    """Of each shard that has any, the rows without an embedding: whether that may have passed."""
    found: dict[int, dict[int, bool]] = {}
    for table in _failures(place, ["id", "passing"]):
        for id, passing in zip(*(table.column(n).to_pylist() for n in (0, 1)), strict=True):
            found.setdefault(id // MOST_ROWS, {})[id % MOST_ROWS] = bool(passing)
    return found


def write_failures(place: Place, *, but: Container[int] = ()) -> int:
    """Puts the failures of all shards together in one table, without those of the rows ``but``; how
    many they are."""
    table = _every_failure(place, but)
    if table is None:
        return 0
    with place.writing(FAILURES) as file:
        pyarrow().parquet.write_table(table, file)
    return int(table.num_rows)


def read_failures(place: Place, *, but: Container[int] = ()) -> list[ShardRow]:
    """The same as rows, from the shards themselves."""
    table = _every_failure(place, but)
    return [] if table is None else [ShardRow(**row) for row in table.to_pylist()]


def _every_failure(place: Place, but: Container[int]) -> Any:
    """None where there is no shard."""
    pa = pyarrow()
    tables = _failures(place, ["id", "source", "path", "size", "mtime_ns", "failure"])
    if not tables:
        return None
    table = pa.concat_tables(tables).unify_dictionaries()
    kept = [id not in but for id in table.column("id").to_pylist()]
    return table.filter(pa.array(kept, pa.bool_()))


def _failures(place: Place, columns: list[str]) -> list[Any]:
    """These columns of every row that has a failure, a table a shard. Of a shard without failures
    only the statistics at its end are read."""
    pa = pyarrow()

    def of(name: str) -> Any:
        with damaged(place, name, pa), place.fs.open(place.join(name), "rb") as file:
            return pa.parquet.read_table(file, columns=columns, filters=[("failure", "!=", "")])

    with ThreadPoolExecutor(READ_AT_ONCE, thread_name_prefix="failures") as pool:
        return list(pool.map(of, whole_shards(place).values()))


def row_numbers(place: Place, name: str) -> set[int]:
    """The rows that a shard holds, with or without an embedding."""
    pa = pyarrow()
    with damaged(place, name, pa), place.fs.open(place.join(name), "rb") as file:
        ids = pa.parquet.read_table(file, columns=["id"]).column(0).to_pylist()
    return {id % MOST_ROWS for id in ids}


def embedded_rows(place: Place, name: str) -> int:
    """How many rows of a shard have an embedding, from the statistics at its end."""
    pa = pyarrow()
    with damaged(place, name, pa), place.fs.open(place.join(name), "rb") as file:
        facts = pa.parquet.ParquetFile(file).metadata
    column = facts.schema.names.index("failure")
    groups = (facts.row_group(number).column(column) for number in range(facts.num_row_groups))
    return sum(group.statistics.null_count for group in groups)
