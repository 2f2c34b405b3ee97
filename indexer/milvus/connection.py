"""A connection to Milvus: addresses, credentials, errors, and what each kind of server can do.

    milvus+http://host:19530/photos      a server or a cluster (milvus+https:// likewise)
    milvus+file:///data/photos.db/photos Milvus Lite: one file of this machine, for trying things
    /data/photos.db                      the same, collection "sightline"

Credentials come from the environment, never from an address: ``SIGHTLINE_MILVUS_TOKEN``, a token or
``user:password``. pymilvus is imported when it is used; the ``milvus`` extra brings it.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.indexer.errors import LibraryAwayError, LibraryError, QueryError, UsageError

TOKEN_VARIABLE = "SIGHTLINE_MILVUS_TOKEN"

COLLECTION = "sightline"
"""Where an address names none."""

SECONDS = 20.0
"""That one question may take: a search takes some milliseconds, and one that waits for all writes
before it a fifth of a second more."""

LONG = 3600.0
"""Seconds for what a server may work at long: an index, a flush."""

WINDOW = 16_384
"""Rows that Milvus gives to one search or query at most."""

STRONG, BOUNDED = "Strong", "Bounded"
"""Consistency levels. A bounded read may miss the last seconds' writes (after an upsert it gave the
row as it had been); a strong one waits for all of them, up to a fifth of a second."""

_ADDRESS = re.compile(r"(?:milvus\+)?(https?://[^/]+)/*([^/]*)/*")
_FILE = re.compile(r"(?:milvus\+)?(?:file://)?(.+?\.db)(?:/([^/]+))?/*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,200}")


@dataclass(frozen=True)
class Address:
    """A collection, and where it is."""

    uri: str
    """For pymilvus: ``http://host:19530``, or the path of Milvus Lite's file."""
    collection: str

    @classmethod
    def parse(cls, text: str) -> Address:
        """UsageError for what is no address of a collection."""
        found = _ADDRESS.fullmatch(text) or _FILE.fullmatch(text)
        if not found:
            raise UsageError(
                f"{text} is no Milvus address: milvus+http://host:19530/collection, or a file"
                " whose name ends in .db"
            )
        if "@" in found[1] and found[1].startswith("http"):
            raise UsageError(f"put user and password into ${TOKEN_VARIABLE}, not into the address")
        uri = found[1]
        if not uri.startswith("http"):
            uri = str(Path(uri).expanduser().absolute())
        name = found[2] or COLLECTION
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name} is no name of a collection: letters, digits and _ only")
        return cls(uri, name)

    @property
    def is_file(self) -> bool:
        """Whether it is Milvus Lite."""
        return not self.uri.startswith("http")

    def __str__(self) -> str:
        return f"{self.uri}/{self.collection}"


def is_address(text: str) -> bool:
    """Whether ``text`` names a Milvus collection rather than a folder."""
    return text.startswith(("milvus+", "http://", "https://")) or (
        text.endswith(".db") and not Path(text).is_dir()
    )


class Milvus:
    """An open connection. Any thread may use it; every error is one of the project's own.

    ``LibraryAwayError`` when the server cannot be reached or does not answer in time,
    ``QueryError`` for a question that this server cannot answer, ``LibraryError`` for whatever else
    it refuses.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._lock = threading.Lock()
        try:
            import pymilvus
        except ImportError as error:
            raise UsageError('Milvus needs its client: pip install "sightline[milvus]"') from error
        if address.is_file:
            with suppress(FileNotFoundError):
                Path(address.uri).parent.mkdir(parents=True, exist_ok=True)
        # Its log repeats, with tracebacks, what is raised.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        logging.getLogger("milvus_lite").setLevel(logging.CRITICAL)
        self._errors: tuple[type[Exception], ...] = (pymilvus.MilvusException,)
        self.types = pymilvus.DataType
        with self.told():
            self.client = pymilvus.MilvusClient(
                uri=address.uri, token=os.environ.get(TOKEN_VARIABLE, ""), timeout=SECONDS
            )
            self.version = str(self.client.get_server_version())

    @property
    def looks_inside(self) -> bool:
        """Whether LIKE finds a text anywhere in another: in Milvus from 2.4 on, and in Lite."""
        found = re.match(r"v?(\d+)\.(\d+)", self.version)
        return self.address.is_file or not found or (int(found[1]), int(found[2])) >= (2, 4)

    def has_field(self, collection: str, field: str) -> bool:
        """Whether the rows of a collection have a field."""
        with self.told():
            found = self.client.describe_collection(collection, timeout=SECONDS)
        return field in {one["name"] for one in found["fields"]}

    def close(self) -> None:
        """Lets go of the server."""
        with suppress(Exception):
            self.client.close()

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turns what the client raises into one line."""
        try:
            yield
        except self._errors as error:
            raise self._meant(error) from error
        except Exception as error:
            import grpc

            if isinstance(error, (grpc.RpcError, ConnectionError, ValueError)) and not isinstance(
                error, UnicodeError
            ):
                raise self._away(error) from error
            raise

    def _away(self, error: Exception) -> LibraryAwayError:
        reason = re.sub(r"<[^>]*message=|\s+", " ", str(error))[:160].strip(" <>")
        return LibraryAwayError(
            f"Milvus at {self.address.uri} cannot be reached ({reason}): see whether it runs"
        )

    def _meant(self, error: Exception) -> Exception:
        text = " ".join(str(getattr(error, "message", "") or error).split())
        lower = text.lower()
        away = ("unavailable", "fail connecting", "failed to connect", "deadline", "timeout",
                "not ready", "no available", "cannot complete", "connection refused", "channel",
                "server id mismatch", "node offline", "not healthy", "not loaded",
                "collection on recovering", "rpc")  # fmt: skip
        if "auth" in lower or "permission" in lower:
            return LibraryError(f"Milvus at {self.address.uri} wants a token: set {TOKEN_VARIABLE}")
        if "only prefix pattern" in lower:
            return QueryError(
                f"name: cannot look inside names in this collection (Milvus {self.version}): fill"
                " another one with `sightline import DIR --to milvus`"
            )
        if any(word in lower for word in away):
            return self._away(Exception(text))
        return LibraryError(f"Milvus refuses: {text[:300]}")

    # questions ------------------------------------------------------------------------------------

    def exists(self, collection: str) -> bool:
        """Whether there is a collection of that name."""
        with self.told():
            return bool(self.client.has_collection(collection, timeout=SECONDS))

    def count(self, collection: str, expression: str = "", *, level: str = BOUNDED) -> int:
        """How many rows meet an expression."""
        with self.told():
            (row,) = self.client.query(
                collection,
                filter=expression,
                output_fields=["count(*)"],
                consistency_level=level,
                timeout=SECONDS,
            )
        return int(row["count(*)"])

    def rows(
        self, collection: str, key: str, keys: Sequence[Any], fields: Sequence[str], *, level: str
    ) -> list[dict[str, Any]]:
        """The rows with these keys, in any order; asked for in parts."""
        found: list[dict[str, Any]] = []
        for start in range(0, len(keys), 2048):
            part = list(keys[start : start + 2048])
            listed = ", ".join(quoted(k) if isinstance(k, str) else str(int(k)) for k in part)
            with self.told():
                found += self.client.query(
                    collection,
                    filter=f"{key} in [{listed}]",
                    output_fields=list(fields),
                    consistency_level=level,
                    timeout=SECONDS,
                )
        return found

    def every(
        self,
        collection: str,
        expression: str,
        fields: Sequence[str],
        *,
        level: str = STRONG,
        batch: int = 8192,
    ) -> Iterator[list[dict[str, Any]]]:
        """All rows that meet an expression, by their key, in parts: an iterator over queries, which
        is complete (one over searches is not)."""
        with self.told():
            iterator = self.client.query_iterator(
                collection,
                batch_size=batch,
                filter=expression,
                output_fields=list(fields),
                consistency_level=level,
                timeout=SECONDS,
            )
        try:
            while True:
                with self.told():
                    rows = iterator.next()
                if not rows:
                    return
                yield rows
        finally:
            with suppress(Exception):
                iterator.close()

    def write(self, collection: str, rows: Sequence[dict[str, Any]], *, new: bool = False) -> None:
        """Puts rows in, over those that have their keys. ``new``: none has, which is faster."""
        put: Callable[..., Any] = self.client.insert if new else self.client.upsert
        for start in range(0, len(rows), 1000):
            with self.told():
                put(collection, list(rows[start : start + 1000]), timeout=LONG)

    def remove(self, collection: str, ids: Sequence[int]) -> None:
        """Takes rows out by their keys."""
        for start in range(0, len(ids), 2048):
            with self.told():
                self.client.delete(
                    collection, ids=[int(i) for i in ids[start : start + 2048]], timeout=SECONDS
                )


def quoted(text: str) -> str:
    """``text`` as a string of Milvus' expressions."""
    clean = text.encode("utf-8", "replace").decode()
    return '"' + clean.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
