"""One SQLite file of a library: opened with care, read by many threads, written by one.

``catalog`` and ``thumbnails`` stand on this. What it promises:

- A file that is not what it should be (another program's database, a newer Sightline's, cut short,
  damaged) is a LibraryError of one line, and the file is left as it was: its first bytes are looked
  at before SQLite is let near it.
- A new file appears whole or not at all: it is made beside its place and renamed.
- WAL with ``synchronous=FULL``. NORMAL would survive ``kill -9`` as well, but a power cut may then
  take back the last commits; ids that were already in the vector index's files could be given out
  a second time. One fsync a batch of pictures is nothing beside encoding them.
- No memory mapping: it would halve the time of a random read (0.8 to 0.45 ms for 300 rows), but an
  error of the disk under a mapping is a signal that ends the process, and not an error to report.
- Readers borrow a connection and give it back, so that threads may come and go and every
  connection is closed when the file is.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from sightline.indexer.catalog.sqlite import Database, Migrations
from sightline.indexer.errors import DamagedError, LibraryBusyError, LibraryError
from sightline.indexer.types import Ids

MAGIC = b"SQLite format 3\x00"

PAGE_SIZE = 8192
"""Bytes. A 512-dimensional float16 vector and its row are 1,036 bytes: 3 fit a page of 4 KiB (76%
used), 7 one of 8 KiB (88%); of 1,024 dimensions 1 (51%) and 3 (76%). 16 KiB fills better still
but makes a random read of 300 rows a fifth slower."""

PATIENCE = 10.0
"""Seconds to wait for another process's commit."""

CHECKING = 10.0
"""Seconds that a file is checked for, when a value in it makes no sense, before it is blamed."""

IDLE = 16
"""Reading connections kept open between uses."""

JOURNAL_LIMIT = 64 << 20
"""Bytes that the write-ahead log keeps on disk after a large transaction has passed."""

LOOKED_AT = 100_000
"""Rows of each index that ``tidy`` looks at. With SQLite's usual thousand a camera seems to have
made a thousand pictures of any million, and a month's pictures with it are looked for among all of
the camera's: 90 ms, where those of the month take 8. A million rows are tidied in 0.3 s."""

Prepare = Callable[[sqlite3.Connection], None]


@dataclass(frozen=True)
class Kind:
    """What a file must be."""

    name: str
    """As in "is not <name>"."""
    application_id: int
    """SQLite's number for the program that owns a file, at byte 68 of its header."""
    migrations: Migrations
    """Every step from an empty file to today's tables."""
    remedy: str
    """What a person does about a damaged one."""


@contextmanager
def explained(path: Path, kind: Kind) -> Iterator[None]:
    """Turns what SQLite says of the file at ``path`` into a LibraryError. Mistakes of this program
    (a wrong statement, a broken constraint) pass as they are."""
    try:
        yield
    except sqlite3.Error as error:
        explanation = _explanation(error, path, kind)
        if explanation is None:
            raise
        raise explanation from error
    except UnicodeDecodeError as error:  # SQLite's own message holds bytes that are no text
        raise DamagedError(f"{path} is damaged ({error}): {kind.remedy}") from error


_DAMAGE = (
    "Could not decode to UTF-8",
    "fts5 file format",
    "vtable constructor failed",
    "no such table",
)
"""What damage looks like where SQLite gives it no code of its own."""


def _explanation(error: sqlite3.Error, path: Path, kind: Kind) -> LibraryError | None:
    code = getattr(error, "sqlite_errorcode", 0)
    primary = code & 0xFF
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return LibraryBusyError(f"{path} is being written by another program: try again later")
    if primary == sqlite3.SQLITE_FULL or (primary == sqlite3.SQLITE_IOERR and _disk_is_full(path)):
        return LibraryError(
            f"no space left on the disk for {path}: free some and run again; what it holds is kept"
        )
    unreadable = any(words in str(error) for words in _DAMAGE)
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or unreadable:
        return DamagedError(f"{path} is damaged ({' '.join(str(error).split())}): {kind.remedy}")
    cannot_open = primary in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)
    if primary == sqlite3.SQLITE_READONLY or (cannot_open and not os.access(path.parent, os.W_OK)):
        return LibraryError(
            f"{path} cannot be written: the file, its folder or its disk is read-only"
        )
    if cannot_open:
        return LibraryError(f"{path} cannot be opened: are it and its folder readable?")
    if primary == sqlite3.SQLITE_IOERR:
        return LibraryError(
            f"the disk failed under {path} ({error}): is it full, unplugged or broken?"
        )
    return None


def _disk_is_full(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free < 1 << 20
    except OSError:
        return False


def look(path: Path, kind: Kind) -> None:
    """Raises LibraryError unless the file at ``path`` may be of ``kind``. SQLite is not involved,
    so nothing is changed."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        raise LibraryError(f"there is no {path}") from None
    except OSError as error:
        raise LibraryError(f"{path} cannot be read: {error.strerror or error}") from error
    if not header:
        raise DamagedError(f"{path} is empty: {kind.remedy}")
    if header[:16] != MAGIC[: len(header)]:
        raise DamagedError(f"{path} is not {kind.name}: it is not an SQLite file, or damaged")
    if len(header) < 100:
        raise DamagedError(f"{path} is cut short ({size} bytes): {kind.remedy}")
    if int.from_bytes(header[68:72], "big") != kind.application_id:
        raise LibraryError(f"{path} is not {kind.name}: it is another program's SQLite file")
    page = int.from_bytes(header[16:18], "big")
    whole = (65536 if page == 1 else page) * int.from_bytes(header[28:32], "big")
    log = path.with_name(path.name + "-wal")
    if size < whole and not (log.exists() and log.stat().st_size):
        raise DamagedError(f"{path} is cut short ({size:,} of {whole:,} bytes): {kind.remedy}")


def create(path: Path, kind: Kind, fill: Callable[[Database], None]) -> None:
    """Makes a new file of ``kind`` and lets ``fill`` put its first rows in.

    It is made under another name and renamed when it is whole, so that a crash leaves nothing that
    looks like a library. Raises LibraryError when there is a file at ``path`` already.
    """
    if path.exists():
        raise LibraryError(f"{path} is there already")
    if not path.parent.is_dir():
        raise LibraryError(f"{path} cannot be made: there is no folder {path.parent}")
    draft = path.with_name(path.name + ".new")
    try:
        for name in (draft, *_companions(draft), *_companions(path)):
            # A log left behind by a file that was deleted would be played into the new one.
            name.unlink(missing_ok=True)
        with (
            explained(path, kind),
            closing(sqlite3.connect(draft, isolation_level=None)) as connection,
        ):
            connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
            connection.execute(f"PRAGMA application_id = {kind.application_id}")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            database = Database(connection)
            kind.migrations.apply(database)
            fill(database)
            # Makes the table that `tidy` fills. Made later, it would split the list of tables, and
            # a part of that would lie at the end of the file: cut short, nothing could be read.
            connection.execute("ANALYZE")
            connection.execute("COMMIT")
            # Not before: what a log holds is put into the file when it is closed, and a disk that
            # is full by then is told to nobody.
            connection.execute("PRAGMA journal_mode = WAL")
        draft.rename(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise LibraryError(f"{path} cannot be made: {error.strerror or error}") from error
    finally:
        for name in (draft, *_companions(draft)):
            with suppress(OSError):
                name.unlink(missing_ok=True)


def _companions(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal")]


def _sync_folder(folder: Path) -> None:
    """Makes a rename last through a power cut, where folders can be synced (not on Windows)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Store:
    """An open SQLite file of a library. Safe to use from any thread; see the module's text."""

    def __init__(
        self, path: Path, kind: Kind, *, read_only: bool = False, prepare: Prepare | None = None
    ) -> None:
        """Opens the file at ``path``, brings an older one up to date, and refuses a wrong one.

        ``prepare`` is called with every new connection.
        """
        self.path = path
        self.kind = kind
        self.read_only = read_only
        self.note: str | None = None
        """What a person should know about how it was opened."""
        self._prepare = prepare
        self._immutable = False
        self._idle: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        self._write_lock = threading.RLock()
        self._writer: sqlite3.Connection | None = None
        self._watcher: sqlite3.Connection | None = None
        self._closed = False
        look(path, kind)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        if self.read_only:
            with explained(self.path, self.kind):
                try:
                    self._give(self._connect())
                except sqlite3.OperationalError as error:
                    codes = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
                    if error.sqlite_errorcode & 0xFF not in codes:
                        raise
                    self._open_as_it_lies()
        else:
            with explained(self.path, self.kind):
                self._writer = self._connect(writing=True)
        connection = self._writer or self._take()
        try:
            with explained(self.path, self.kind):
                self._bring_up_to_date(connection)
        finally:
            if connection is not self._writer:
                self._give(connection)

    def _open_as_it_lies(self) -> None:
        """On a read-only disk SQLite cannot keep the shared memory that WAL needs. When no log is
        waiting, the file itself is the whole truth, and nothing can change it."""
        log = self.path.with_name(self.path.name + "-wal")
        if log.exists() and log.stat().st_size:
            raise LibraryError(
                f"{self.path} has changes waiting in {log.name} that cannot be read on a read-only"
                " disk: open it once where it can be written"
            )
        self._immutable = True
        self.note = f"{self.path.name} was opened as it lies on a read-only disk"
        self._give(self._connect())

    def _connect(self, *, writing: bool = False) -> sqlite3.Connection:
        uri = self.path.absolute().as_uri() + (
            "?mode=ro&immutable=1" if self._immutable else "?mode=rw"
        )
        connection = sqlite3.connect(
            uri, uri=True, timeout=PATIENCE, isolation_level=None, check_same_thread=False
        )
        try:
            if writing:
                connection.execute("PRAGMA foreign_keys = ON")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_LIMIT}")
            else:
                connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA cell_size_check = ON")  # damage is found early
            connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
            if self._prepare is not None:
                self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _bring_up_to_date(self, connection: sqlite3.Connection) -> None:
        migrations = self.kind.migrations
        steps = [migration.name for migration in migrations._migrations]
        ours = set(steps)

        try:
            rows = connection.execute(
                f"SELECT name FROM {migrations.migrations_table} WHERE migration_set = ?",
                [migrations.name],
            )
            there = {name for (name,) in rows}
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) not in (0, sqlite3.SQLITE_ERROR):
                raise
            raise self.damaged(str(error)) from error
        if newer := there - ours:
            raise LibraryError(
                f"{self.path} was written by a newer Sightline (it knows {min(newer)!r}):"
                " update this one with `pip install --upgrade sightline`"
            )
        if there != set(steps[: len(there)]):
            raise self.damaged("its list of migrations has a hole")
        if there == ours:
            self._hold_against(connection, _columns_of(self.kind))
            return
        if self.read_only:
            raise LibraryError(
                f"{self.path} was written by an older Sightline and must be brought up to date:"
                " open it once where it can be written, for example with `sightline index`"
            )
        connection.execute("BEGIN IMMEDIATE")  # so that two programs do not both do it
        try:
            migrations.apply(Database(connection))
            connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_ERROR:
                raise self.damaged(f"it cannot be brought up to date: {error}") from error
            raise

    def _hold_against(
        self, connection: sqlite3.Connection, expected: dict[str, frozenset[str]]
    ) -> None:
        """Raises LibraryError unless every table has its columns: damage to the schema would
        otherwise look like a mistake of this program. What a person has added is left alone."""
        for table, columns in expected.items():
            if missing := columns - _columns(connection, table):
                raise self.damaged(f"{table} has no {min(missing)}")

    def damaged(self, how: str) -> LibraryError:
        """The error that says that this file is damaged."""
        return DamagedError(f"{self.path} is damaged ({' '.join(how.split())}): {self.kind.remedy}")

    # borrowing ------------------------------------------------------------------------------------

    def _take(self) -> sqlite3.Connection:
        with self._guard:
            if self._closed:
                raise LibraryError(f"{self.path} has been closed")
            if self._idle:
                return self._idle.pop()
        return self._connect()

    def _give(self, connection: sqlite3.Connection) -> None:
        with suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        with self._guard:
            if not self._closed and len(self._idle) < IDLE:
                self._idle.append(connection)
                return
        connection.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection for reading. Every statement sees what was committed last."""
        with explained(self.path, self.kind):
            connection = self._take()
            try:
                yield connection
            except (TypeError, ValueError, LookupError, ArithmeticError) as error:
                if self._is_whole(connection):
                    raise  # a mistake of this program
                raise self.damaged(f"a value cannot be: {error}") from error
            finally:
                self._give(connection)

    @staticmethod
    def _is_whole(connection: sqlite3.Connection) -> bool:
        """Whether nothing is damaged for certain: found out within some seconds."""
        end = time.monotonic() + CHECKING
        connection.set_progress_handler(lambda: time.monotonic() > end, 100_000)
        try:
            return connection.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",)
        except sqlite3.Error:
            return False
        finally:
            connection.set_progress_handler(None, 0)

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """A connection of which all statements see the same moment. Keep it short: the log cannot
        be emptied past it."""
        with self.reading() as connection:
            connection.execute("BEGIN")
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The writing connection, inside a transaction that is committed at the end and rolled
        back on any error. One thread at a time; others wait."""
        with self._write_lock, explained(self.path, self.kind):
            connection = self._writer
            if connection is None:
                reason = "has been closed" if self._closed else "was opened for reading only"
                raise LibraryError(f"{self.path} {reason}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # SQLite has rolled back by itself when the disk is full or broken.
                with suppress(sqlite3.Error):
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                raise

    def stamp(self) -> int:
        """A number that changes when anybody commits anything to the file: some microseconds."""
        with explained(self.path, self.kind), self._guard:
            if self._closed:
                raise LibraryError(f"{self.path} has been closed")
            if self._watcher is None:
                self._watcher = self._connect()
            return int(self._watcher.execute("PRAGMA data_version").fetchone()[0])

    def tidy(self) -> None:
        """Lets SQLite look at how the tables are filled, so that it chooses indexes well, and
        empties the log. For the end of a run."""
        with self._write_lock, explained(self.path, self.kind):
            if self._writer is not None:
                self._writer.execute(f"PRAGMA analysis_limit = {LOOKED_AT}")
                self._writer.execute("ANALYZE")
                self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def settle(self) -> None:
        """Puts what the log holds into the file itself, so that the file alone is the whole truth.
        Closing does the same, but a disk that is full by then is told to nobody."""
        with self._write_lock, explained(self.path, self.kind):
            if self._writer is not None:
                self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Closes every connection; one in another thread's hands is closed when it is given back.
        The writer goes last, so that SQLite puts the log away."""
        with self._guard:
            self._closed = True
            idle, self._idle = self._idle, []
            watcher, self._watcher = self._watcher, None
        for connection in (*idle, *([watcher] if watcher else [])):
            connection.close()
        with self._write_lock:
            writer, self._writer = self._writer, None
            if writer is not None:
                writer.close()


def _columns(connection: sqlite3.Connection, table: str) -> frozenset[str]:
    return frozenset(row[1] for row in connection.execute(f"PRAGMA table_info('{table}')"))


@cache
def _columns_of(kind: Kind) -> dict[str, frozenset[str]]:
    """The columns of each table that the migrations come to; full-text tables are left out, which
    cannot always be opened and are not needed for most."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        kind.migrations.apply(Database(connection))
        names = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'words%'"
        )
        return {name: _columns(connection, name) for (name,) in names.fetchall()}


def ids_of(connection: sqlite3.Connection, sql: str, parameters: Sequence = ()) -> Ids:
    """The ids that ``sql`` (one column, ``id``) gives, in no order that may be relied on.

    As one text from SQLite to numpy: a million in 0.09 s, where fetching rows takes 0.25 s.
    """
    (text,) = connection.execute(f"SELECT group_concat(id) FROM ({sql})", parameters).fetchone()
    return np.fromstring(text, dtype=np.int64, sep=",") if text else np.empty(0, np.int64)
