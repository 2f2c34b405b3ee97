"""Photo reading in processes of its own: a picture that crashes a C library, never ends or wants
all the memory takes down one worker, is named as a failure, and the others go on.

Each worker is a Python of its own that has loaded Pillow and nothing heavier, with a pipe of its
own, so that the death of one cannot hold up another (pools that share one queue lose it when a
worker dies holding its lock), and it is always known which picture a worker died of. Workers do not
import the program that started them, so a script that uses this needs no guard.
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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeVar, cast

from sightline.indexer.errors import PhotoError, SightlineError
from sightline.indexer.types import Candidate, Geometry, Photo, Pixels

TIMEOUT = 60.0
"""Seconds that one picture may take. 250 megapixels of PNG take about 20 on a slow core."""

MEMORY = 1536 * 2**20
"""Bytes that a worker may take beyond what an idle one has: 250 megapixels are 1,000 MB decoded."""

READS_BEFORE_RENEWAL = 5000
"""Pictures after which a worker is replaced: whatever a C library leaks is bounded."""

AHEAD = 32
"""Pictures under way or waiting to be taken, beyond four a worker: a consumer that is busy for a
moment, writing a batch, leaves no worker idle. Each is 200 kB."""

PIPE = 2**19
"""Bytes that a worker's pipe holds, where that can be chosen: an answer passes in one piece, and
the worker need not wait until it is fetched."""

PATIENCE = 5.0
"""Seconds that the end of ``photos`` waits for a thread of its own; they need a moment."""

BROKEN_OFF = "reading it was broken off"

Task = tuple[str, tuple[Any, ...]]
"""The name of a function of ``photo``, and its arguments but for the geometry."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom of a part, as fractions 0..1 of the picture as it is seen."""

Key = TypeVar("Key")

_START = (
    "import sys; sys.path[:] = {path!r}; from sightline.indexer.photo.decoder import _work; _work()"
)


class Decoder:
    """Reads photos in ``workers`` processes. A context manager; usable from several threads.

    ``timeout`` is in seconds a picture, ``memory`` in bytes a worker (kept on Linux and macOS).
    Without ``thumbnails`` those of the photos are ``b""``: 3.4 ms less for each.
    Workers start when they are first needed, in about a fifth of a second, and end with the decoder
    or with the process that made it, however that ends.
    """

    def __init__(
        self,
        geometry: Geometry,
        *,
        workers: int = 1,
        timeout: float = TIMEOUT,
        memory: int = MEMORY,
        thumbnails: bool = True,
    ) -> None:
        self._setting = _Setting(geometry, memory, timeout, thumbnails)
        self._workers = max(1, workers)
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._all = [_Worker(self._setting) for _ in range(self._workers)]
        for worker in self._all:
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
        """Process ids of the workers that are running now."""
        return tuple(pid for worker in self._all if (pid := worker.pid) is not None)

    def close(self) -> None:
        """Ends the workers, also in the middle of a picture."""
        self._closed = True
        for worker in self._all:
            worker.kill()

    def photos(
        self, candidates: Iterable[Candidate]
    ) -> Iterator[tuple[Candidate, Photo | PhotoError]]:
        """Reads ``candidates``: yields each with its photo, or with the reason why there is none.

        As ``each``, for files on this machine.
        """
        return self.each((candidate, candidate.absolute) for candidate in candidates)

    def each(
        self, sources: Iterable[tuple[Key, Path | bytes | PhotoError]]
    ) -> Iterator[tuple[Key, Photo | PhotoError]]:
        """Reads pictures from files or from their bytes: yields each key with its photo, or with
        the reason why there is none (which may be known already).

        In the order in which they are done. ``sources`` is taken from in the calling thread, at
        most ``4 * workers + 32`` ahead of what was yielded, and the first so many now: reading goes
        on while the caller gets ready to take the first.
        """
        reading = self._reading(sources)
        next(reading)
        return cast("Iterator[tuple[Key, Photo | PhotoError]]", reading)

    def _reading(
        self, sources: Iterable[tuple[Key, Path | bytes | PhotoError]]
    ) -> Iterator[tuple[Key, Photo | PhotoError] | None]:
        """What ``each`` gives, after one None."""
        # Simple queues and plain threads, because Ctrl-C comes to this thread, and in the middle of
        # a pool's or another queue's code it would leave a lock held that all then wait for.
        todo: queue.SimpleQueue[tuple[Key, Path | bytes | PhotoError] | None] = queue.SimpleQueue()
        done: queue.SimpleQueue[tuple[Key, Photo | PhotoError | BaseException]]
        done = queue.SimpleQueue()

        def read() -> None:
            while (item := todo.get()) is not None:
                key, picture = item
                try:
                    if isinstance(picture, PhotoError):
                        done.put((key, picture))
                    elif isinstance(picture, bytes):
                        done.put((key, self.read_bytes(picture)))
                    else:
                        done.put((key, self._ask("read", picture)))
                except BaseException as error:  # raised again where it can be caught
                    done.put((key, error))

        threads = [
            threading.Thread(target=read, name=f"decode-{number}", daemon=True)
            for number in range(self._workers)
        ]
        source = iter(sources)
        room = 4 * self._workers + AHEAD
        under_way = 0
        started: list[threading.Thread] = []
        ready = False
        try:
            while True:
                while under_way < room and (item := next(source, None)) is not None:
                    todo.put(item)
                    under_way += 1
                    if threads:
                        started.append(threads.pop())
                        started[-1].start()
                if not ready:
                    ready = True
                    yield None
                if not under_way:
                    return
                key, outcome = done.get()
                under_way -= 1
                if isinstance(outcome, BaseException) and not isinstance(outcome, PhotoError):
                    raise outcome
                yield key, outcome
        finally:
            with contextlib.suppress(queue.Empty):
                while True:
                    todo.get_nowait()
            for _ in started:
                todo.put(None)
            if under_way:
                # Left before the end: nobody waits for the pictures in hand.
                for worker in self._all:
                    worker.kill()
            for thread in started:
                thread.join(PATIENCE)

    def read_bytes(self, data: bytes) -> Photo:
        """Reads the picture that ``data`` is the file of. Raises ``PhotoError``."""
        found: Photo = self._ask("read_bytes", data)
        return found

    def crop(self, source: Path | bytes, box: Box) -> Pixels:
        """``photo.crop`` for this decoder's geometry. Raises ``PhotoError``."""
        found: Pixels = self._ask("crop", source, box)
        return found

    def preview(self, path: Path, size: int) -> bytes:
        """``photo.preview``. Raises ``PhotoError``."""
        found: bytes = self._ask("preview", path, size)
        return found

    def _ask(self, name: str, *arguments: Any) -> Any:
        """What a function of ``photo`` answers in a worker."""
        worker = self._idle.get()
        try:
            if self._closed:
                raise SightlineError("the decoder was closed")
            answer = worker.ask((name, arguments))
        finally:
            self._idle.put(worker)
        if isinstance(answer, PhotoError):
            raise answer
        return answer


@dataclass(frozen=True)
class _Setting:
    """What a worker is told when it starts."""

    geometry: Geometry
    memory: int
    timeout: float
    thumbnails: bool


class _DiedError(PhotoError):
    """A worker died with a picture in hand; the message is the reason if it was the picture."""


class _Worker:
    """One process, started when needed and again when it died. Used by one thread at a time, but
    ``kill`` may come from any."""

    def __init__(self, setting: _Setting) -> None:
        self._setting = setting
        self._process: subprocess.Popen[bytes] | None = None
        self._reads = 0
        self._late = False
        self._busy = False
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        with self._lock:
            return self._process.pid if self._process is not None else None

    def ask(self, task: Task) -> Any:
        """Does one thing with one picture. Whatever happens to the process, there is an answer: a
        ``PhotoError`` is one too.

        A picture is blamed for a death only when a second, fresh process dies of it as well: the
        first may have been ended by the system for the memory that others took.
        """
        try:
            return self._attempt(task)
        except _DiedError:
            pass
        try:
            return self._attempt(task)
        except _DiedError as error:
            return PhotoError(str(error), passing=error.passing)

    def _attempt(self, task: Task) -> Any:
        if self._process is None or self._reads >= READS_BEFORE_RENEWAL:
            self.kill()
            self._start()
        with self._lock:
            process = self._process
            self._busy = process is not None
        if process is None:
            return PhotoError(BROKEN_OFF, passing=True)
        assert process.stdin is not None
        assert process.stdout is not None
        self._reads += 1
        self._late = False
        try:
            _send(process.stdin, task)
            with self._limit(process, process.stdout):
                kind, value = pickle.load(process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            return self._after_death(process)
        finally:
            with self._lock:
                self._busy = False
                abandoned = self._process is not process
            if abandoned:  # killed from another thread, which left the rest to this one
                _close(process)
        if kind == "error":
            message, passing = value
            return PhotoError(message, passing=passing)
        return value

    def kill(self) -> None:
        """Ends the process at once, if there is one."""
        with self._lock:
            process, self._process = self._process, None
            busy = self._busy
        if process is not None:
            process.kill()
            if not busy:  # or else the thread that waits for its answer sees the end and closes
                _close(process)

    @contextlib.contextmanager
    def _limit(self, process: subprocess.Popen[bytes], answer: IO[bytes]) -> Iterator[None]:
        """Ends ``process`` if its answer does not come in time, so that the end of its output does.

        Where a pipe can be waited for with a limit that is done; starting a thread to watch each
        picture, as elsewhere, costs more than fetching the answer.
        """

        def end() -> None:
            self._late = True
            process.kill()

        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(answer, select.POLLIN)
            if not poll.poll(self._setting.timeout * 1000):
                end()
            yield
            return
        watch = threading.Timer(self._setting.timeout, end)
        watch.daemon = True
        watch.start()
        try:
            yield
        finally:
            watch.cancel()

    def _start(self) -> None:
        path = [entry for entry in sys.path if entry]
        # One thread each: it is processes that fill the cores.
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        process = subprocess.Popen(
            [sys.executable, "-c", _START.format(path=path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | one,
            # Ctrl-C at the terminal is for the program: it ends the workers when it is ready.
            process_group=0 if os.name == "posix" else None,
        )
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            _widen(process.stdout)
            _send(process.stdin, self._setting)
            pickle.load(process.stdout)  # it has loaded Pillow and waits
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            process.kill()
            _close(process)
            raise SightlineError(
                "the process that reads pictures could not be started: see above, or try "
                f"`{sys.executable} -c 'import sightline.indexer.photo.photo'`"
            ) from error
        with self._lock:
            self._process, self._reads = process, 0

    def _after_death(self, process: subprocess.Popen[bytes]) -> PhotoError:
        """What to say of the picture that ``process`` had in hand; ``_DiedError`` if it may be at
        fault."""
        with self._lock:
            wanted = self._process is not process
            self._process = None
        _close(process)
        if self._late:
            return PhotoError(f"reading it took longer than {self._setting.timeout:g} seconds")
        if wanted:
            return PhotoError(BROKEN_OFF, passing=True)
        code = process.returncode
        if os.name == "posix" and code == -signal.SIGKILL:
            raise _DiedError(
                "reading it was ended by the system, probably for want of memory", passing=True
            )
        raise _DiedError(f"it crashes the decoder ({_exit(code)})")


def _widen(pipe: IO[bytes]) -> None:
    """Lets ``pipe`` hold a whole answer, where the system can and may do that."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE)


def _send(pipe: IO[bytes], value: Any) -> None:
    pickle.dump(value, pipe, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.flush()


def _close(process: subprocess.Popen[bytes]) -> None:
    """Waits for a process that is ending and closes its pipes."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    process.wait()


def _exit(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit status {code}"


# in the worker ------------------------------------------------------------------------------------


def _work() -> None:
    """The whole life of a worker: pictures in, photos out, until the pipe is closed."""
    if os.name == "posix":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    into, out = _own_pipes()
    setting = pickle.load(into)
    import warnings

    from sightline.indexer.photo import formats, photo

    formats.decode_on_one_thread()
    warnings.simplefilter("ignore")  # damaged files make Pillow talk; the reason says enough
    _limit_memory(setting.memory)
    _quiet()
    geometry, thumbnail = setting.geometry, setting.thumbnails
    does: dict[str, Callable[..., Any]] = {
        "read": lambda path: photo.read(path, geometry, thumbnail=thumbnail),
        "read_bytes": lambda data: photo.read_bytes(data, geometry, thumbnail=thumbnail),
        "crop": lambda source, box: photo.crop(source, box, geometry),
        "preview": photo.preview,
    }
    _send(out, "ready")
    while True:
        try:
            name, arguments = pickle.load(into)
        except EOFError:
            return
        _let_live(setting.timeout)
        try:
            answer: tuple[str, Any] = ("done", does[name](*arguments))
        except PhotoError as error:
            answer = ("error", (str(error), error.passing))
        except MemoryError:
            answer = ("error", ("it needs more memory than a picture may have", False))
        except Exception as error:  # a mistake of this program is no reason to end the run
            answer = ("error", (f"reading it failed: {type(error).__name__}: {error}", False))
        _let_live(None)
        try:
            _send(out, answer)
        except BrokenPipeError:
            return


def _let_live(timeout: float | None) -> None:
    """The kernel ends a worker that hangs in a C library after its program has been killed: nobody
    else would. While the program lives, it is the first to notice."""
    if os.name == "posix":
        signal.setitimer(signal.ITIMER_REAL, timeout + 5 if timeout is not None else 0)


def _own_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Standard input and output under other numbers, so that nothing a C library prints gets in."""
    into, out = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return os.fdopen(into, "rb"), os.fdopen(out, "wb")


def _quiet() -> None:
    """From here on, what C libraries say about damaged files goes nowhere."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    os.close(nothing)


def _limit_memory(memory: int) -> None:
    """Lets allocations beyond ``memory`` fail, where the system can be told."""
    try:
        import resource
    except ImportError:
        return
    try:
        with Path("/proc/self/statm").open() as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        now = 512 * 2**20
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = now + memory if hard == resource.RLIM_INFINITY else min(now + memory, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
