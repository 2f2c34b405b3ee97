"""Embedding on Ray: a task a shard, on one machine or on a cluster of them.

    report = embed(["/photos", "s3://bucket/archives"], "/shared/output", address="10.0.0.5:6379")

Ray schedules, restarts what a dead worker or a lost node had in hand, and knows nothing of
pictures; ``shard_worker`` does the work and the shards on the disk are the state: a run that was
broken off in any way goes on with the shards that are not there yet. (One task a shard, not Ray
Data: a pipeline of actor pools hung when a node was lost on a full cluster, each time of three.)

Ray listens on every interface unless told otherwise, and whoever reaches its ports can run
programs. A cluster that is started here listens on loopback and asks for a token; one that is
joined is as open as those who started it made it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from sightline.indexer.errors import LibraryError, SightlineError, UsageError
from sightline.indexer.shards.plan import Item, Shard, look, plan
from sightline.indexer.shards.ray_capacity import Patience, Share, at_once
from sightline.indexer.shards.ray_task import Job, ShardDone, embed_shard
from sightline.indexer.shards.retry import Retry
from sightline.indexer.shards.shard_files import (
    ORIGIN,
    Origin,
    Place,
    check_origin,
    read_origin,
    shard_name,
    whole_shards,
    write_failures,
    write_origin,
)
from sightline.indexer.shards.superseded import superseded_rows
from sightline.indexer.types import Progress, no_progress

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder

SHARD = 2048
"""Pictures of a shard: a minute of one core, a second or two of a large GPU, 50 MB with
thumbnails. What a lost machine costs."""

RETRIES = 5
"""Times that a shard is begun again after the worker or node that had it is lost."""

WAIT = 0.5
"""Seconds between two looks at whether a person wants the run to end."""

CONNECT = 10.0
"""Seconds that a cluster has to answer."""

JOINING = 300.0
"""Seconds that a machine large enough for a shard may take to join: one in a cloud that is started
on demand takes two to five minutes."""

LONGEST = 40
"""Characters of such a folder: Ray adds some 60, and a socket's name may have 103."""

STORE = 128 * 2**20
"""Bytes of shared memory for Ray's own store in a local run: only small reports pass through it."""


@dataclass(frozen=True)
class EmbedReport:
    """What one run did."""

    output: str
    model: str
    embedded: int = 0
    failed: int = 0
    """Pictures that could not be read, in this run."""
    failures: int = 0
    """The same in the whole output: rows of ``failures.parquet``."""
    shards: int = 0
    """Written by this run, or written anew."""
    retried: int = 0
    """Pictures that an earlier run could not read and this one tried again."""
    shards_before: int = 0
    """There already."""
    shards_failed: tuple[tuple[int, str], ...] = ()
    """Shards that were given up, and why; the next run tries them again."""
    workers: int = 0
    """Processes that worked, each with its own copy of the model."""
    load_seconds: float = 0.0
    """Spent on loading the model, over all workers."""
    interrupted: bool = False
    seconds: float = 0.0

    @property
    def images_per_second(self) -> float:
        """Pictures embedded a second, over the whole run."""
        return self.embedded / self.seconds if self.seconds > 0 else 0.0


def embed(
    sources: Sequence[str],
    output: str,
    *,
    encoder: Encoder,
    address: str | None = None,
    cpus: float = 1,
    gpus: float = 0,
    shard_size: int = SHARD,
    thumbnails: bool = True,
    exclude: Sequence[str] = (),
    retry_failures: bool = False,
    joining: float = JOINING,
    progress: Progress = no_progress,
    warn: Callable[[str], None] = lambda line: None,
    stop: Event | None = None,
) -> EmbedReport:
    """Embeds every picture of ``sources`` into shards in ``output``.

    ``encoder`` says which model; its weights are loaded by the workers only, which must have them
    too: each machine its own, in the same revision. ``address`` is a Ray cluster's
    (``host:port``); without one, this machine is the cluster. ``cpus`` and ``gpus`` are what one
    task takes; a cluster on which no machine has so much is given ``joining`` seconds for one to
    join, and ``warn`` is told of it. ``output`` and ``sources`` must be the same places from every
    machine. ``retry_failures`` reads again every picture that could not be read; what may have
    passed since (a store that did not answer) is read again anyway.

    Raises UsageError for sources that are not there and for tasks that no machine is large enough
    for, ModelMismatchError where ``output`` holds
    another model's shards, ModelError where a worker cannot load the model.
    """
    started = time.monotonic()
    place = Place.at(output)
    origin = _origin(place, encoder)
    progress("looking", 0, None)
    retry = Retry(place, every=retry_failures)
    found = retry.watching(_counted(sources, exclude, progress))
    shards, added = plan(place, found, size=max(1, shard_size))
    there = whole_shards(place)
    new = [_Work(shard) for shard in shards if shard.number not in there]
    again = retry.of(shards)
    todo = new + [_Work(one, again[one.number]) for one in shards if one.number in again]
    stop = stop or Event()
    job = Job(
        place.url,
        origin,
        device=encoder.requested_device,
        decoders=max(1, round(cpus)),
        thumbnails=thumbnails,
    )
    tally = _Tally(progress, todo)
    if todo and not stop.is_set():
        with cluster(address) as ray:
            share = Share(cpus, gpus)
            patience = Patience(ray, share, seconds=joining if address else 0, warn=warn)
            _run(ray, job, todo, tally, stop, share=share, patience=patience)
    there = whole_shards(place)
    place.sweep([shard_name(number) for number in there])
    old = superseded_rows(shards, there) if len(added) < len(shards) else set()
    failures = write_failures(place, but=old)
    return EmbedReport(
        output=place.url,
        model=encoder.model,
        embedded=sum(done.embedded for done in tally.done),
        failed=sum(done.failed for done in tally.done),
        failures=failures,
        shards=len(tally.done),
        shards_before=len(shards) - len(new),
        retried=sum(len(again[done.number]) for done in tally.done if done.number in again),
        shards_failed=tuple(sorted(tally.given_up)),
        workers=len({done.worker for done in tally.done}),
        load_seconds=sum(done.load_seconds for done in tally.done),
        interrupted=stop.is_set(),
        seconds=time.monotonic() - started,
    )


def _origin(place: Place, encoder: Encoder) -> Origin:
    """What the output is made with: as it was begun, or as it begins now."""
    names = place.names()
    if ORIGIN in names:
        origin = read_origin(place)
        check_origin(place, origin, encoder.model, encoder.revision)
        return origin
    if strangers := {name for name in names if not name.startswith(".")}:
        raise LibraryError(
            f"{place.url} holds other things ({min(strangers)}) and no shards: give an empty or"
            " new folder to --output"
        )
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    origin = Origin(encoder.model, encoder.revision, encoder.dimension, uuid.uuid4().hex, moment)
    write_origin(place, origin)
    return origin


def _counted(
    sources: Sequence[str], exclude: Sequence[str], progress: Progress
) -> Iterator[tuple[str, Item]]:
    count = 0
    for source in sources:
        for found in look(source, exclude=exclude):
            count += 1
            if count % 1000 == 0:
                progress("looking", count, None)
            yield found


class _Work(NamedTuple):
    """A shard to be made, or one that is there and of which some rows are to be tried again."""

    shard: Shard
    again: frozenset[int] = frozenset()

    @property
    def pictures(self) -> int | None:
        """How many are to be read; None for those in an archive."""
        if self.again:
            return len(self.again)
        items = self.shard.items
        return None if any(item.is_archive for item in items) else len(items)


class _Tally:
    """What has been done, and the showing of it."""

    def __init__(self, progress: Progress, todo: Sequence[_Work]) -> None:
        self.done: list[ShardDone] = []
        self.given_up: list[tuple[int, str]] = []
        self._progress = progress
        self._shards = len(todo)
        counts = [work.pictures for work in todo]
        known = [count for count in counts if count is not None]
        self._total = sum(known) if len(known) == len(counts) else None

    def add(self, done: ShardDone) -> None:
        """A shard is whole."""
        self.done.append(done)
        self.show()

    def give_up(self, number: int, reason: str) -> None:
        """A shard was tried often enough."""
        self.given_up.append((number, reason))
        self.show()

    def show(self) -> None:
        """Says how far the run is."""
        pictures = sum(done.embedded + done.failed for done in self.done)
        self._progress(
            f"embedding ({len(self.done):,} of {self._shards:,} shards)",
            pictures,
            self._total,
        )


def _run(
    ray: ModuleType,
    job: Job,
    todo: Sequence[_Work],
    tally: _Tally,
    stop: Event,
    *,
    share: Share,
    patience: Patience,
) -> None:
    """Has every shard of ``todo`` done by the cluster, a few more at once than it has room for."""
    of = {"num_cpus": share.cpus, "num_gpus": share.gpus, "max_retries": RETRIES}
    task = ray.remote(**of)(embed_shard)
    waiting = iter(todo)
    running: dict[Any, Shard] = {}
    try:
        while not stop.is_set():
            room = at_once(ray, share)
            while len(running) < room and (work := next(waiting, None)) is not None:
                running[task.remote(job, work.shard, work.again)] = work.shard
            if not running:
                return
            finished, _ = ray.wait(list(running), timeout=WAIT)
            if not finished:
                patience.look()
            for ref in finished:
                shard = running.pop(ref)
                try:
                    tally.add(ray.get(ref))
                except ray.exceptions.RayTaskError as error:
                    if isinstance(error.cause, SightlineError):
                        raise error.cause from None  # the same on every machine and every shard
                    tally.give_up(shard.number, _one_line(error.cause or error))
                except ray.exceptions.RayError as error:
                    tally.give_up(shard.number, _one_line(error))
    finally:
        for ref in running:
            with suppress(Exception):
                ray.cancel(ref, force=True)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


@contextmanager
def cluster(address: str | None) -> Iterator[ModuleType]:
    """A connection to the Ray cluster at ``address``, or to one of this machine alone."""
    # Before Ray is imported: nothing is reported to anybody.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    token = (
        {}
        if address
        else {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }
    )
    before = {name: os.environ.get(name) for name in token}
    os.environ.update(token)
    try:
        try:
            import ray
        except ImportError as error:
            raise UsageError(
                'embedding on many machines needs Ray: pip install "sightline[ray]"'
            ) from error
        with _logs(address) as folder:
            _connect(ray, address, folder)
            try:
                yield ray
            finally:
                ray.shutdown()
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _logs(address: str | None) -> Iterator[str | None]:
    """A folder for the sockets and logs of a cluster of our own, which goes with it. None where
    the cluster is another's, or a socket's name there would be too long for the system."""
    folder = tempfile.mkdtemp(prefix="ray-") if address is None else None
    try:
        yield folder if folder and len(folder) <= LONGEST else None
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def _answers(address: str) -> None:
    """LibraryError unless something listens at ``host:port``: Ray itself goes on asking for
    minutes. Other forms of an address are Ray's to judge."""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT).close()
    except OSError as error:
        raise LibraryError(
            f"the Ray cluster at {address} cannot be reached: {error.strerror or error}"
        ) from error


def _connect(ray: ModuleType, address: str | None, folder: str | None) -> None:
    if address is not None:
        _answers(address)
    # Ray puts a handler of its own in the place of the one that ends a run in good order.
    handler = signal.getsignal(signal.SIGTERM)
    try:
        _init(ray, address, folder)
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _stay_on_loopback(address: str | None) -> None:
    """Keeps Ray from asking for ``127.0.0.1`` at this machine's outer address, where a cluster that
    listens on loopback only is not to be found, and `ray.init` waits for it for minutes. Ray has
    no public word for that (`resolve_ip_for_localhost`)."""
    from ray._private import ray_constants

    host = address.rpartition(":")[0].strip("[]") if address else "127.0.0.1"
    ray_constants.ENABLE_RAY_CLUSTER = host not in ("127.0.0.1", "localhost", "::1")


def _init(ray: ModuleType, address: str | None, folder: str | None) -> None:
    quiet = {"include_dashboard": None, "log_to_driver": False, "configure_logging": False}
    try:
        _stay_on_loopback(address)
        if address is not None:
            ray.init(address=address, **quiet)
        else:
            ray.init(
                address="local",
                **{**quiet, "include_dashboard": False},
                object_store_memory=STORE,
                _node_ip_address="127.0.0.1",
                _temp_dir=folder,
            )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = f"the Ray cluster at {address}" if address else "Ray on this machine"
        raise LibraryError(f"{where} cannot be reached: {_one_line(error)}") from error
