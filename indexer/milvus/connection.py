"""A connection to Milvus: addresses, credentials, errors, and what each kind of server can do.

    milvus+http://host:19530/photos      a server or a cluster (milvus+https:// likewise)
    milvus+file:///data/photos.db/photos Milvus Lite: local files, for trying things out
    /data/photos.db                      the same, collection "sightline"

Credentials come from the environment, never from an address: ``SIGHTLINE_MILVUS_TOKEN``, a token or
``user:password``. pymilvus is imported on first use; the ``milvus`` extra installs it.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from sightline.indexer.errors import LibraryAwayError, LibraryError, QueryError, UsageError
from sightline.indexer.installation import install_command

TOKEN_VARIABLE = "SIGHTLINE_MILVUS_TOKEN"

DEFAULT_COLLECTION = "sightline"
"""Used when an address names no collection."""

TIMEOUT = 20.0
"""Seconds for one read: a search takes milliseconds, a strongly consistent one 0.2 s more."""

LONG_TIMEOUT = 3600.0
"""Seconds for operations that take long on a server: building an index, a flush."""

MAX_LIMIT = 16_384
"""Rows that Milvus returns for one search or query at most."""

STRONG, BOUNDED = "Strong", "Bounded"
"""Consistency levels. A bounded read may miss the last seconds' writes (after an upsert it returned
the old row); a strong one waits for all of them, up to 0.2 s."""

_SERVER_ADDRESS = re.compile(r"(?:milvus\+)?(https?://[^/]+)/*([^/]*)/*")
_FILE_ADDRESS = re.compile(r"(?:milvus\+)?(?:file://)?(.+?\.db)(?:/([^/]+))?/*")
_COLLECTION_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,200}")

_UNREACHABLE = (
    "unavailable", "fail connecting", "failed to connect", "deadline", "timeout", "not ready",
    "no available", "cannot complete", "connection refused", "channel", "server id mismatch",
    "node offline", "not healthy", "not loaded", "collection on recovering", "rpc",
)  # fmt: skip
"""Parts of Milvus' messages, in lower case, that mean that the server cannot answer now."""


@dataclass(frozen=True)
class Address:
    """A collection and the server or file that holds it."""

    uri: str
    """For pymilvus: ``http://host:19530``, or the path of Milvus Lite's file."""
    collection: str

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address in ``text``. Raises UsageError if it is not one."""
        found = _SERVER_ADDRESS.fullmatch(text) or _FILE_ADDRESS.fullmatch(text)
        if not found:
            raise UsageError(
                f"{text} is not a Milvus address: use milvus+http://host:19530/collection, or a"
                " file whose name ends in .db"
            )
        if "@" in found[1] and found[1].startswith("http"):
            raise UsageError(f"put user and password into ${TOKEN_VARIABLE}, not into the address")
        uri = found[1]
        if not uri.startswith("http"):
            uri = str(Path(uri).expanduser().absolute())
        name = found[2] or DEFAULT_COLLECTION
        if not _COLLECTION_NAME.fullmatch(name):
            raise UsageError(f"{name} is not a collection name: letters, digits and _ only")
        return cls(uri, name)

    @property
    def is_file(self) -> bool:
        """Whether it is Milvus Lite."""
        return not self.uri.startswith("http")

    def __str__(self) -> str:
        return f"{self.uri}/{self.collection}"


def is_address(text: str) -> bool:
    """Whether ``text`` is the address of a collection rather than a library's folder:
    ``milvus+...``, or a ``.db`` file or folder of Milvus Lite, with or without a collection."""
    if text.startswith("milvus+"):
        return True
    _, _, collection = text.partition(".db/")
    return text.endswith(".db") or (bool(collection) and "/" not in collection.rstrip("/"))


class Milvus:
    """An open connection. Thread-safe.

    Every method raises LibraryAwayError if the server cannot be reached or does not answer in time,
    QueryError for a query that this version cannot answer, LibraryError for any other refusal.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        try:
            import pymilvus
        except ImportError as error:
            raise UsageError(f"Milvus needs its client: {install_command('milvus')}") from error
        if address.is_file:
            with suppress(FileNotFoundError):
                Path(address.uri).parent.mkdir(parents=True, exist_ok=True)
        # Their logs repeat, with tracebacks, what is raised.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        logging.getLogger("milvus_lite").setLevel(logging.CRITICAL)
        self._error_type: type[Exception] = pymilvus.MilvusException
        self.types = pymilvus.DataType
        with self.translated_errors():
            self.client = pymilvus.MilvusClient(
                uri=address.uri, token=os.environ.get(TOKEN_VARIABLE, ""), timeout=TIMEOUT
            )
            self.version = str(self.client.get_server_version())

    @property
    def has_infix_like(self) -> bool:
        """Whether ``LIKE "%text%"`` works: in Milvus from 2.4 on, and in Lite."""
        found = re.match(r"v?(\d+)\.(\d+)", self.version)
        return self.address.is_file or not found or (int(found[1]), int(found[2])) >= (2, 4)

    def has_field(self, collection: str, field: str) -> bool:
        """Whether a collection's schema has a field."""
        with self.translated_errors():
            found = self.client.describe_collection(collection, timeout=TIMEOUT)
        return field in {one["name"] for one in found["fields"]}

    def close(self) -> None:
        """Closes the connection."""
        with suppress(Exception):
            self.client.close()

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Turns what the client raises into one of the project's errors, in one line."""
        try:
            yield
        except self._error_type as error:
            raise self._translated(error) from error
        except Exception as error:
            import grpc

            if isinstance(error, (grpc.RpcError, ConnectionError, ValueError)) and not isinstance(
                error, UnicodeError
            ):
                raise self._away(str(error)) from error
            raise

    def _away(self, reason: str) -> LibraryAwayError:
        reason = re.sub(r"<[^>]*message=|\s+", " ", reason)[:160].strip(" <>")
        return LibraryAwayError(
            f"Milvus at {self.address.uri} cannot be reached ({reason}): check that it is running"
        )

    def _translated(self, error: Exception) -> Exception:
        text = " ".join(str(getattr(error, "message", "") or error).split())
        lower = text.lower()
        if "auth" in lower or "permission" in lower:
            return LibraryError(
                f"Milvus at {self.address.uri} requires a token: set {TOKEN_VARIABLE}"
            )
        if "only prefix pattern" in lower:
            return QueryError(
                f"name: cannot find parts of names in this collection (Milvus {self.version}): fill"
                " another one with `sightline import DIR --to milvus`"
            )
        if any(part in lower for part in _UNREACHABLE):
            return self._away(text)
        return LibraryError(f"Milvus refuses: {text[:300]}")

    # reading --------------------------------------------------------------------------------------

    def exists(self, collection: str) -> bool:
        """Whether there is a collection of that name."""
        with self.translated_errors():
            return bool(self.client.has_collection(collection, timeout=TIMEOUT))

    def describe_index(self, collection: str) -> dict[str, Any]:
        """Type, parameters and state of the index on ``embedding``; empty if there is none."""
        with self.translated_errors():
            return dict(self.client.describe_index(collection, "embedding") or {})

    def count(self, collection: str, expression: str = "", *, level: str = BOUNDED) -> int:
        """How many rows match an expression."""
        (row,) = self._query(collection, expression, ["count(*)"], level)
        return int(row["count(*)"])

    def by_keys(
        self, collection: str, key: str, keys: Sequence[Any], fields: Sequence[str], *, level: str
    ) -> list[dict[str, Any]]:
        """The rows with these primary keys, in any order."""
        found: list[dict[str, Any]] = []
        for start in range(0, len(keys), 2048):
            expression = is_among(key, keys[start : start + 2048])
            found += self._query(collection, expression, fields, level)
        return found

    def at_most(
        self, collection: str, expression: str, fields: Sequence[str], limit: int, *, level: str
    ) -> list[dict[str, Any]]:
        """The rows that match an expression, or the first ``limit`` of them by primary key."""
        first = min(limit, MAX_LIMIT)
        found = self._query(collection, expression, fields, level, limit=first)
        if len(found) < first:
            return found
        # There may be more, and a query with a limit returns any of them.
        with closing(self.iterate(collection, expression, fields, level=level)) as batches:
            return list(islice(chain.from_iterable(batches), limit))

    def _query(
        self, collection: str, expression: str, fields: Sequence[str], level: str, **options: Any
    ) -> list[dict[str, Any]]:
        with self.translated_errors():
            return list(
                self.client.query(
                    collection,
                    filter=expression,
                    output_fields=list(fields),
                    consistency_level=level,
                    timeout=TIMEOUT,
                    **options,
                )
            )

    def iterate(
        self, collection: str, expression: str, fields: Sequence[str], *, level: str = STRONG
    ) -> Generator[list[dict[str, Any]]]:
        """All rows that match an expression, by primary key, in batches."""
        # pymilvus' iterator over a search is incomplete; this one over a query is not.
        with self.translated_errors():
            iterator = self.client.query_iterator(
                collection,
                batch_size=8192,
                filter=expression,
                output_fields=list(fields),
                consistency_level=level,
                timeout=TIMEOUT,
            )
        try:
            while True:
                with self.translated_errors():
                    rows = iterator.next()
                if not rows:
                    return
                yield rows
        finally:
            with suppress(Exception):
                iterator.close()

    # writing --------------------------------------------------------------------------------------

    def write(self, collection: str, rows: Sequence[dict[str, Any]], *, new: bool = False) -> None:
        """Upserts rows. ``new`` promises that none of their keys exists: a faster insert."""
        put: Callable[..., Any] = self.client.insert if new else self.client.upsert
        for start in range(0, len(rows), 1000):
            with self.translated_errors():
                put(collection, list(rows[start : start + 1000]), timeout=LONG_TIMEOUT)

    def delete(self, collection: str, ids: Sequence[int] | Sequence[str]) -> None:
        """Deletes rows by primary key."""
        for start in range(0, len(ids), 2048):
            with self.translated_errors():
                self.client.delete(collection, ids=list(ids[start : start + 2048]), timeout=TIMEOUT)


def quoted(text: str) -> str:
    """``text`` as a string literal of a Milvus expression."""
    clean = text.encode("utf-8", "replace").decode()
    return '"' + clean.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def is_among(field: str, values: Sequence[int | str]) -> str:
    """The expression for rows whose ``field`` is one of ``values``."""
    listed = ", ".join(quoted(v) if isinstance(v, str) else str(int(v)) for v in values)
    return f"{field} in [{listed}]"


def all_of(*expressions: str) -> str:
    """The conjunction of expressions; empty ones are left out."""
    return " and ".join(f"({one})" for one in expressions if one)
