"""``Decoder``: reads image files in worker processes.

An image that crashes a C library, never ends or needs too much memory ends one worker and becomes
one failure. Each worker is a Python process with Pillow and nothing heavier, and its own pair of
pipes, so that it is known which image a worker died of, and no death blocks another worker. Workers
do not import the main program, so scripts need no ``__main__`` guard.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, TypeVar, cast

from sightline.indexer.errors import PhotoError, SightlineError
from sightline.indexer.files.archives import Listing, Located
from sightline.indexer.files.beneath import mtime_of
from sightline.indexer.photo import messages
from sightline.indexer.types import Candidate, Geometry, Photo, PhotoInfo, Pixels, TextLine

TIMEOUT = 60.0
"""Seconds per image. A PNG of 250 megapixels takes about 20 on a slow core."""

MEMORY = 1536 * 2**20
"""Bytes that a worker may allocate beyond its idle size: 250 megapixels decode to 1,000 MB."""

MAX_READS = 5000
"""Images after which a worker is replaced, which bounds memory leaks of the C libraries."""

READ_AHEAD = 128
"""Images read ahead of the consumer, besides four per worker, so that no worker idles while a batch
is written, or torch is imported. Each takes 200 kB."""

PIPE_SIZE = 2**19
"""Bytes of a worker's output pipe, on Linux: a result fits in, so the worker need not wait."""

JOIN_TIMEOUT = 5.0
"""Seconds to wait for each reader thread at the end of ``each``."""

INTERRUPTED = "reading it was interrupted"

Box = tuple[float, float, float, float]
"""Left, top, right, bottom of a region, as fractions 0..1 of the upright image."""

File = Candidate | Path
"""A file of a root, whose links may not leave the root, or a file by name."""

Source = File | bytes | PhotoError
"""A file, the bytes of one, or the reason why there is neither."""

Outcome = Photo | PhotoError
"""A photo, or the reason why there is none."""

Key = TypeVar("Key")

ENVIRONMENT = (
    *("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "PYTHONHOME", "PYTHONUTF8"),
    *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "MALLOC_ARENA_MAX", "SYSTEMROOT", "TEMP", "TMP"),
)
"""Variables that a worker receives: neither the server's token nor other secrets."""

MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20)}
"""Bytes from which glibc returns memory to the kernel. By its own choice it returned the memory of
most images, and 3,000 page faults took 6 ms of the 66 of an image of 12 megapixels."""

READING_NICENESS = 10
"""Lowest niceness of workers that read text, which takes the cores for hours."""

START_TIMEOUT = 60.0
"""Seconds in which a worker starts; 0.2 on an idle machine."""

REAP_SECONDS = 5.0
"""Seconds to wait for a killed worker."""

STOP_SECONDS = 0.25
"""Seconds between checks of ``stop`` while a worker is awaited."""

MAX_OPEN_FILES = 64
"""In a worker: its pipes, a file, and libraries that are loaded on demand."""


class Stop(Protocol):
    """A ``threading.Event`` that ends reading."""

    def is_set(self) -> bool:
        """Whether to stop."""


_WORKER_SCRIPT = (
    "import sys; sys.path[:] = {path!r};"
    " from sightline.indexer.photo.decoder import _run_worker; _run_worker()"
)


class Decoder:
    """Reads images in ``workers`` processes. A context manager; thread-safe.

    ``timeout`` is in seconds per image, ``memory`` in bytes per worker (on Linux and macOS).
    ``thumbnails=False`` leaves the thumbnails of photos empty, which saves 3.4 ms per image, and
    ``details=False`` everything but pixels and content hash.
    ``reads_text`` loads the models that read text in images, for ``texts``.
    If ``stop`` is set, reading ends at once with a transient ``PhotoError``. Workers start on
    demand, in about 0.2 s, and end with the decoder or with this process.
    """

    def __init__(
        self,
        geometry: Geometry,
        *,
        workers: int = 1,
        timeout: float = TIMEOUT,
        memory: int = MEMORY,
        thumbnails: bool = True,
        details: bool = True,
        reads_text: bool = False,
        stop: Stop | None = None,
    ) -> None:
        config = _Config(geometry, memory, timeout, thumbnails, details, reads_text)
        self._workers = [_Worker(config, stop) for _ in range(max(1, workers))]
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._closed = False

    def __enter__(self) -> Decoder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the running workers."""
        return tuple(pid for worker in self._workers if (pid := worker.pid) is not None)

    def close(self) -> None:
        """Ends the workers, also while they read."""
        self._closed = True
        for worker in self._workers:
            worker.close()

    def photos(self, candidates: Iterable[Candidate]) -> Iterator[tuple[Candidate, Outcome]]:
        """Reads the files of ``candidates``; see ``each``."""
        return self.each((candidate, candidate) for candidate in candidates)

    def each(self, sources: Iterable[tuple[Key, Source]]) -> Iterator[tuple[Key, Outcome]]:
        """Reads images: yields each key with its photo or ``PhotoError``, in order of completion.

        ``sources`` is consumed in the calling thread, at most ``4 * workers + 128`` items ahead.
        Reading starts with this call, before the first item is requested.
        """
        outcomes = self._outcomes(sources)
        next(outcomes)
        return cast("Iterator[tuple[Key, Outcome]]", outcomes)

    def infos(
        self, candidates: Iterable[Candidate]
    ) -> Iterator[tuple[Candidate, PhotoInfo | PhotoError]]:
        """Reads the metadata of files, as ``photo.describe``, in order of completion."""
        found = self._outcomes(((one, one) for one in candidates), "describe")
        return (item for item in found if item is not None)

    def texts(
        self, candidates: Iterable[Candidate]
    ) -> Iterator[tuple[Candidate, list[TextLine] | PhotoError]]:
        """Reads the text in files (``reads_text``), in order of completion."""
        found = self._outcomes(((one, one) for one in candidates), "read_text")
        return (item for item in found if item is not None)

    def _outcomes(
        self, sources: Iterable[tuple[Key, Source]], function: str = "read"
    ) -> Iterator[tuple[Key, Any] | None]:
        """Yields None as soon as reading has started, then the items of ``each``."""
        # Simple queues and plain threads: Ctrl-C is raised in this thread, and inside a thread pool
        # or a queue.Queue it would leave a lock held.
        todo: queue.SimpleQueue[tuple[Key, Source] | None] = queue.SimpleQueue()
        done: queue.SimpleQueue[tuple[Key, Any]] = queue.SimpleQueue()

        def read() -> None:
            while (item := todo.get()) is not None:
                key, source = item
                try:
                    if isinstance(source, PhotoError):
                        done.put((key, source))
                    else:
                        name = "read_bytes" if isinstance(source, bytes) else function
                        done.put((key, self._call(name, source)))
                except BaseException as error:  # raised again in the calling thread
                    done.put((key, error))

        limit = 4 * len(self._workers) + READ_AHEAD
        items = iter(sources)
        pending = 0
        threads: list[threading.Thread] = []
        primed = False
        try:
            while True:
                while pending < limit and (item := next(items, None)) is not None:
                    todo.put(item)
                    pending += 1
                    if len(threads) < len(self._workers):
                        name = f"decode-{len(threads)}"
                        threads.append(threading.Thread(target=read, name=name, daemon=True))
                        threads[-1].start()
                if not primed:
                    primed = True
                    yield None
                if not pending:
                    return
                key, outcome = done.get()
                pending -= 1
                if isinstance(outcome, BaseException) and not isinstance(outcome, PhotoError):
                    raise outcome
                yield key, outcome
        finally:
            with contextlib.suppress(queue.Empty):
                while True:
                    todo.get_nowait()
            for _ in threads:
                todo.put(None)
            if pending:  # the caller stopped early: the images being read are not needed
                for worker in self._workers:
                    worker.kill()
            for thread in threads:
                thread.join(JOIN_TIMEOUT)

    def read_bytes(self, data: bytes) -> Photo:
        """Reads an image file given as bytes. Raises ``PhotoError``."""
        found: Photo = self._call("read_bytes", data)
        return found

    def hash(self, source: File) -> str:
        """``photo.hash_file``. Raises ``PhotoError``."""
        found: str = self._call("hash", source)
        return found

    def list_archive(self, archive: Candidate) -> Listing:
        """``photo.list_archive``. Raises ``PhotoError``."""
        found: Listing = self._call("list_archive", archive)
        return found

    def locate(self, image: Candidate) -> Located:
        """``photo.locate``. Raises ``PhotoError``."""
        found: Located = self._call("locate", image)
        return found

    def check(self, source: File) -> messages.Checked:
        """``photo.check``. Raises ``PhotoError``."""
        found: messages.Checked = self._call("check", source)
        return found

    def size_and_mtime(self, file: Candidate) -> tuple[int, int]:
        """``(size, mtime_ns)`` of a file of a root now; in an archive, its size and the archive's
        mtime. Raises ``OSError`` or ``PhotoError``."""
        try:
            status = file.absolute.stat()
        except NotADirectoryError:
            located = self.locate(file)
            return located.member.size, located.archive.mtime_ns
        return status.st_size, mtime_of(status)

    def crop(self, source: File | bytes, box: Box) -> Pixels:
        """``photo.crop`` for this decoder's geometry. Raises ``PhotoError``."""
        found: Pixels = self._call("crop", source, box)
        return found

    def preview(self, source: File, size: int) -> bytes:
        """``photo.preview``. Raises ``PhotoError``."""
        found: bytes = self._call("preview", source, size)
        return found

    def _call(self, name: str, *arguments: Any) -> Any:
        """Calls a function of ``photo`` in the next idle worker."""
        worker = self._idle.get()
        try:
            if self._closed:
                raise SightlineError("the decoder was closed")
            return worker.call(name, arguments)
        finally:
            self._idle.put(worker)


@dataclass(frozen=True)
class _Config:
    """Sent to a worker when it starts."""

    geometry: Geometry
    memory: int
    timeout: float
    thumbnails: bool
    details: bool
    reads_text: bool


class _WorkerDiedError(PhotoError):
    """A worker died while it read an image, which may be at fault."""


class _Worker:
    """One process, restarted when it has died. Used by one thread at a time, except ``kill``."""

    def __init__(self, config: _Config, stop: Stop | None) -> None:
        self._config = config
        self._stop = stop
        self._process: subprocess.Popen[bytes] | None = None
        self._reads = 0
        self._timed_out = False
        self._busy = False
        self._closed = False
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Process id, or None if no process runs."""
        with self._lock:
            return self._process.pid if self._process is not None else None

    def call(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """Calls a function of ``photo`` in the process. Raises ``PhotoError``.

        An image fails for the death of its worker only if a second, fresh process dies of it too:
        the system may have killed the first for memory that other programs used.
        """
        with contextlib.suppress(_WorkerDiedError):
            return self._attempt(name, arguments)
        return self._attempt(name, arguments)

    def _attempt(self, name: str, arguments: tuple[Any, ...]) -> Any:
        if self._process is None or self._reads >= MAX_READS:
            self.kill()
            self._start()
        with self._lock:
            process = self._process
            self._busy = process is not None
        if process is None:
            raise PhotoError(INTERRUPTED, transient=True)
        stdin, stdout = _pipes(process)
        self._reads += 1
        self._timed_out = False
        try:
            with self._time_limit(process):
                end = time.monotonic() + self._config.timeout
                self._send(process, stdin, (name, arguments), end)
                result = self._receive(process, stdout, end)
        except messages.InvalidMessageError:
            process.kill()
            self._death(process)
            raise PhotoError("it takes control of the decoder") from None
        except (EOFError, OSError):
            raise self._death(process) from None
        finally:
            with self._lock:
                self._busy = False
                killed = self._process is not process
            if killed:  # by another thread, which leaves the pipes to this one
                _close(process)
        if isinstance(result, messages.Failure):
            raise PhotoError(result.message, transient=result.transient)
        return result

    def kill(self) -> None:
        """Ends the process at once, if there is one. May be called from any thread."""
        with self._lock:
            process, self._process = self._process, None
            busy = self._busy
        if process is not None:
            process.kill()
            if not busy:  # otherwise the thread that waits for its result closes the pipes
                _close(process)

    def close(self) -> None:
        """Ends the process for good, also one that is being started by another thread."""
        with self._lock:
            self._closed = True
        self.kill()

    def _send(
        self, process: subprocess.Popen[bytes], pipe: IO[bytes], value: Any, end: float
    ) -> None:
        data = memoryview(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
        while data:
            self._wait(process, pipe, "POLLOUT", end)
            data = data[os.write(pipe.fileno(), data) :]

    def _receive(self, process: subprocess.Popen[bytes], pipe: IO[bytes], end: float) -> Any:
        def read(length: int) -> bytearray:
            data = bytearray(length)
            rest = memoryview(data)
            while rest:
                self._wait(process, pipe, "POLLIN", end)
                count = pipe.readinto(rest)  # type: ignore[attr-defined]  # not buffered
                if not count:
                    raise EOFError
                rest = rest[count:]
            return data

        return messages.receive(read)

    def _wait(
        self, process: subprocess.Popen[bytes], pipe: IO[bytes], event: str, end: float
    ) -> None:
        """Until ``pipe`` is ready. Raises ``EOFError`` after ``end``, or if reading is to stop."""
        if not hasattr(select, "poll"):
            return
        poll = select.poll()
        poll.register(pipe, getattr(select, event))
        while (left := end - time.monotonic()) > 0:
            if poll.poll(min(left, STOP_SECONDS) * 1000):
                return
            if self._stop is not None and self._stop.is_set():
                self.kill()
                raise EOFError
        self._expire(process)
        raise EOFError

    def _expire(self, process: subprocess.Popen[bytes]) -> None:
        self._timed_out = True
        process.kill()

    @contextlib.contextmanager
    def _time_limit(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        """Kills ``process`` after the timeout where ``_wait`` cannot (Windows has no poll for
        pipes). A timer thread per image takes longer than the transfer."""
        if hasattr(select, "poll"):
            yield
            return
        timer = threading.Timer(self._config.timeout, self._expire, (process,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _start(self) -> None:
        path = [entry for entry in sys.path if entry]
        # One thread per process: the processes fill the cores.
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        inherited = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        process = subprocess.Popen(
            [sys.executable, "-c", _WORKER_SCRIPT.format(path=path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=inherited | threads | MALLOC,
            # Ctrl-C in the terminal reaches the main program only, which ends the workers itself.
            process_group=0 if os.name == "posix" else None,
        )
        try:
            stdin, stdout = _pipes(process)
            _enlarge(stdout)
            if hasattr(select, "poll"):
                os.set_blocking(stdin.fileno(), False)
            end = time.monotonic() + max(START_TIMEOUT, self._config.timeout)
            self._send(process, stdin, self._config, end)
            self._receive(process, stdout, end)  # the worker is ready
        except (EOFError, OSError, messages.InvalidMessageError) as error:
            process.kill()
            _close(process)
            raise SightlineError(
                "the process that reads images could not be started: see above, or try "
                f"`{sys.executable} -c 'import sightline.indexer.photo.photo'`"
            ) from error
        with self._lock:
            self._process, self._reads = process, 0
            closed = self._closed
        if closed:
            self.kill()

    def _death(self, process: subprocess.Popen[bytes]) -> PhotoError:
        """The error for an image whose worker has died."""
        with self._lock:
            killed = self._process is not process
            self._process = None
        _close(process)
        if self._timed_out:
            return PhotoError(f"reading it took longer than {self._config.timeout:g} seconds")
        if killed:
            return PhotoError(INTERRUPTED, transient=True)
        code = process.returncode
        if os.name == "posix" and code == -signal.SIGKILL:
            return _WorkerDiedError(
                "reading it was ended by the system, probably for lack of memory", transient=True
            )
        return _WorkerDiedError(f"it crashes the decoder ({_exit_reason(code)})")


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


def _enlarge(pipe: IO[bytes]) -> None:
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_SIZE)


def _close(process: subprocess.Popen[bytes]) -> None:
    """Closes the pipes of a process that is ending, and waits for it."""
    for pipe in _pipes(process):
        with contextlib.suppress(OSError):
            pipe.close()
    try:
        process.wait(REAP_SECONDS)
    except subprocess.TimeoutExpired:
        # It waits for a disk that does not answer, which no signal ends.
        threading.Thread(target=process.wait, name="reap", daemon=True).start()


def _exit_reason(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit status {code}"


# --- in the worker process -----------------------------------------------------------------------

_NO_NEW_PRIVS = 38
"""PR_SET_NO_NEW_PRIVS of Linux's prctl."""


def _run_worker() -> None:
    """Answers calls from standard input on standard output, until the input is closed."""
    if os.name == "posix":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    calls, results = _take_standard_pipes()
    config: _Config = pickle.load(calls)
    import warnings

    from sightline.indexer.photo import formats, photo

    formats.decode_on_one_thread()
    warnings.simplefilter("ignore")  # Pillow's about corrupt files, which become a PhotoError
    _discard_output()
    reader = None
    if config.reads_text:
        from sightline.indexer.photo.ocr import TextReader

        if os.name == "posix":
            now = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, 0, max(now, READING_NICENESS))
        reader = TextReader()
    _confine(config.memory)
    geometry = config.geometry
    options = {"thumbnail": config.thumbnails, "details": config.details}
    functions: dict[str, Callable[..., Any]] = {
        "read": lambda source: photo.read(source, geometry, **options),
        "read_bytes": lambda data: photo.read_bytes(data, geometry, **options),
        "crop": lambda source, box: photo.crop(source, box, geometry),
        "preview": photo.preview,
        "describe": photo.describe,
        "check": photo.check,
        "hash": photo.hash_file,
        "list_archive": photo.list_archive,
        "locate": photo.locate,
    }
    if reader is not None:
        functions["read_text"] = lambda source: photo.read_text(source, reader)
    results.write(messages.encode("ready"))
    results.flush()
    while True:
        try:
            name, arguments = pickle.load(calls)
        except EOFError:
            return
        # If the main program is killed while this worker hangs in a C library, only the kernel can
        # end it. While the main program lives, its own timeout comes first.
        _set_alarm(config.timeout + 5)
        try:
            message = messages.encode(functions[name](*arguments))
        except PhotoError as error:
            message = messages.encode(messages.Failure(str(error), error.transient))
        except MemoryError:
            failure = messages.Failure("it needs more memory than an image may have", False)
            message = messages.encode(failure)
        except Exception as error:  # a bug must not end the run
            reason = f"reading it failed: {type(error).__name__}: {error}"
            message = messages.encode(messages.Failure(reason, False))
        _set_alarm(0)
        try:
            results.write(message)
            results.flush()
        except BrokenPipeError:
            return


def _set_alarm(seconds: float) -> None:
    """The kernel ends this process after ``seconds``; 0 cancels that."""
    if os.name == "posix":
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _take_standard_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Moves standard input and output to other descriptors, out of reach of C libraries' prints."""
    calls, results = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    return os.fdopen(calls, "rb"), os.fdopen(results, "wb")


def _discard_output() -> None:
    """Discards what C libraries print about corrupt files."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.close(null)


def _confine(memory: int) -> None:
    """Takes from this process what decoding does not need, where the system can: memory beyond
    ``memory`` bytes, writing to files, privileges of programs that it runs. A limit on processes
    would include threads, which the HEIC decoder starts."""
    if os.name != "posix":
        return
    import ctypes
    import resource

    _limit_memory(memory)
    for name, most in (
        ("RLIMIT_NOFILE", MAX_OPEN_FILES),
        ("RLIMIT_FSIZE", 0),
        ("RLIMIT_CORE", 0),
    ):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (most, most))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)


def _limit_memory(memory: int) -> None:
    """Makes allocations fail that exceed the current size by ``memory`` bytes, where possible."""
    import resource

    try:
        with Path("/proc/self/statm").open() as file:
            current = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        current = 512 * 2**20
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = current + memory if hard == resource.RLIM_INFINITY else min(current + memory, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
