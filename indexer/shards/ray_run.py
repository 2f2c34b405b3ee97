"""Embedding on Ray: one task per shard, on one machine or on a cluster.

    report = embed(["/photos", "s3://bucket/archives"], "/shared/output", address="10.0.0.5:6379")

Ray schedules the tasks and restarts those of a dead worker or a lost node; ``ray_task`` does the
work, and the shards on disk are the state: a run that was interrupted in any way resumes with the
shards that are missing. (Not Ray Data: its actor pools hung when a full cluster lost a node, three
times of three.)

By default Ray listens on every interface, and anyone who reaches its ports can run programs. A
cluster that is started here listens on loopback and requires a token; one that is joined is as open
as its owner made it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from sightline.indexer.errors import LibraryError, SightlineError, UsageError
from sightline.indexer.files import walk
from sightline.indexer.installation import install_command
from sightline.indexer.shards.place import Place
from sightline.indexer.shards.plan import Item, Shard, find_items, plan
from sightline.indexer.shards.ray_capacity import NodeWait, Resources, tasks_in_flight
from sightline.indexer.shards.ray_task import Job, ShardReport, embed_shard
from sightline.indexer.shards.retry import Retry
from sightline.indexer.shards.shard_files import (
    ORIGIN,
    Origin,
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

SHARD_SIZE = 2048
"""Images per shard, which is what a lost node costs: 50 MB, a minute of a core, 2 s of a GPU."""

MAX_RETRIES = 5
"""Times that a shard is started again after its worker or node was lost."""

STOP_INTERVAL = 0.5
"""Seconds between two checks of ``stop``."""

CONNECT_TIMEOUT = 10.0
"""Seconds for a cluster to accept a connection."""

NODE_TIMEOUT = 300.0
"""Seconds for a large enough node to join: a cloud starts one on demand in two to five minutes."""

MAX_FOLDER_NAME = 40
"""Characters of Ray's folder: it adds about 60, and the path of a socket may have 103."""

OBJECT_STORE = 128 * 2**20
"""Bytes of shared memory for Ray in a local run: only small reports pass through it."""


@dataclass(frozen=True)
class EmbedReport:
    """What one run did."""

    output: str
    model: str
    embedded: int = 0
    failed: int = 0
    """Images that this run could not read."""
    failures: int = 0
    """Rows of ``failures.parquet``: the same of the whole output."""
    shards: int = 0
    """Written or rewritten by this run."""
    retried: int = 0
    """Images that an earlier run could not read and this one tried again."""
    shards_before: int = 0
    """Present before this run."""
    shards_failed: tuple[tuple[int, str], ...] = ()
    """``(number, reason)`` of shards that were given up; the next run tries them again."""
    workers: int = 0
    """Processes that embedded, each with its own copy of the model."""
    load_seconds: float = 0.0
    """Spent on loading the model, summed over all workers."""
    interrupted: bool = False
    seconds: float = 0.0

    @property
    def images_per_second(self) -> float:
        """Over the whole run."""
        return self.embedded / self.seconds if self.seconds > 0 else 0.0


def embed(
    sources: Sequence[str],
    output: str,
    *,
    encoder: Encoder,
    address: str | None = None,
    cpus: float = 1,
    gpus: float = 0,
    shard_size: int = SHARD_SIZE,
    thumbnails: bool = True,
    exclude: Sequence[str] = (),
    include_nomedia: bool = False,
    retry_failures: bool = False,
    joining: float = NODE_TIMEOUT,
    progress: Progress = no_progress,
    warn: Callable[[str], None] = lambda line: None,
    stop: Event | None = None,
) -> EmbedReport:
    """Embeds every image of ``sources`` into shards in ``output``.

    ``encoder`` names the model; only the workers load its weights, and each machine must have them
    in the same revision. ``address`` is a Ray cluster's (``host:port``); None starts one on this
    machine. ``cpus`` and ``gpus`` are required by one task; if no node has as many, ``warn`` is
    called, and a cluster gets ``joining`` seconds for one to join. ``output`` and ``sources`` must
    be reachable under the same names from every machine. ``retry_failures`` reads every image again
    that could not be read; failures that may have passed are always retried.

    Raises UsageError for missing sources and for tasks that no node is large enough for,
    ModelMismatchError if ``output`` holds another model's shards, ModelError if a worker cannot
    load the model.
    """
    started = time.monotonic()
    place = Place.at(output)
    origin = _ensure_origin(place, encoder)
    progress("looking", 0, None)
    retry = Retry(place, every=retry_failures)
    found = retry.watching(_counted(sources, exclude, include_nomedia, progress, warn))
    shards, added = plan(place, found, size=max(1, shard_size))
    complete = whole_shards(place)
    new = [_Work(shard) for shard in shards if shard.number not in complete]
    retried = retry.rows_of(shards)
    todo = new + [_Work(one, retried[one.number]) for one in shards if one.number in retried]
    stop = stop or Event()
    job = Job(
        place.url,
        origin,
        device=encoder.requested_device,
        dtype=encoder.requested_dtype,
        decoders=max(1, round(cpus)),
        thumbnails=thumbnails,
    )
    tally = _Tally(progress, todo)
    if todo and not stop.is_set():
        with cluster(address) as ray:
            task = Resources(cpus, gpus)
            wait = NodeWait(ray, task, seconds=joining if address else 0, warn=warn)
            _run(ray, job, todo, tally, stop, task=task, wait=wait)
    complete = whole_shards(place)
    place.sweep([shard_name(number) for number in complete])
    old = superseded_rows(shards, complete) if len(added) < len(shards) else set()
    failures = write_failures(place, but=old)
    return EmbedReport(
        output=place.url,
        model=encoder.model,
        embedded=sum(done.embedded for done in tally.done),
        failed=sum(done.failed for done in tally.done),
        failures=failures,
        shards=len(tally.done),
        shards_before=len(shards) - len(new),
        retried=sum(len(retried.get(done.number, ())) for done in tally.done),
        shards_failed=tuple(sorted(tally.given_up)),
        workers=len({done.worker for done in tally.done}),
        load_seconds=sum(done.load_seconds for done in tally.done),
        interrupted=stop.is_set(),
        seconds=time.monotonic() - started,
    )


def _ensure_origin(place: Place, encoder: Encoder) -> Origin:
    """The origin of the output, which is written if this run is its first."""
    names = place.names()
    if ORIGIN in names:
        origin = read_origin(place)
        check_origin(place, origin, encoder.model, encoder.revision)
        return origin
    if others := {name for name in names if not name.startswith(".")}:
        raise LibraryError(
            f"{place.url} holds other things ({min(others)}) and no shards: give an empty or"
            " new folder to --output"
        )
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    origin = Origin(encoder.model, encoder.revision, encoder.dimension, uuid.uuid4().hex, moment)
    write_origin(place, origin)
    return origin


def _counted(
    sources: Sequence[str],
    exclude: Sequence[str],
    include_nomedia: bool,
    progress: Progress,
    warn: Callable[[str], None],
) -> Iterator[tuple[str, Item]]:
    count = 0
    left_out: Counter[str] = Counter()
    for source in sources:
        for found in find_items(
            source,
            exclude=exclude,
            include_nomedia=include_nomedia,
            on_left_out=lambda name: left_out.update([name]),
        ):
            count += 1
            if count % 1000 == 0:
                progress("looking", count, None)
            yield found
    for note in walk.left_out_notes(left_out):
        warn(note)


class _Work(NamedTuple):
    """A shard to be written, or one that exists and the rows of it to retry."""

    shard: Shard
    retry: frozenset[int] = frozenset()

    @property
    def images(self) -> int | None:
        """How many are to be read; None for an archive."""
        if self.retry:
            return len(self.retry)
        items = self.shard.items
        return None if any(item.is_archive for item in items) else len(items)


class _Tally:
    """The shards that are done, reported as progress."""

    def __init__(self, progress: Progress, todo: Sequence[_Work]) -> None:
        self.done: list[ShardReport] = []
        self.given_up: list[tuple[int, str]] = []
        self._progress = progress
        self._shards = len(todo)
        counts = [work.images for work in todo]
        known = [count for count in counts if count is not None]
        self._total = sum(known) if len(known) == len(counts) else None

    def add(self, report: ShardReport) -> None:
        """A shard is complete."""
        self.done.append(report)
        self._show()

    def give_up(self, number: int, reason: str) -> None:
        """A shard failed for good."""
        self.given_up.append((number, reason))
        self._show()

    def _show(self) -> None:
        images = sum(done.embedded + done.failed for done in self.done)
        self._progress(
            f"embedding ({len(self.done):,} of {self._shards:,} shards)", images, self._total
        )


def _run(
    ray: ModuleType,
    job: Job,
    todo: Sequence[_Work],
    tally: _Tally,
    stop: Event,
    *,
    task: Resources,
    wait: NodeWait,
) -> None:
    """Runs every shard of ``todo`` on the cluster, a few more in flight than it has room for."""
    options = {"num_cpus": task.cpus, "num_gpus": task.gpus, "max_retries": MAX_RETRIES}
    remote = ray.remote(**options)(embed_shard)
    waiting = iter(todo)
    running: dict[Any, Shard] = {}
    try:
        while not stop.is_set():
            limit = tasks_in_flight(ray, task)
            while len(running) < limit and (work := next(waiting, None)) is not None:
                running[remote.remote(job, work.shard, work.retry)] = work.shard
            if not running:
                return
            finished, _ = ray.wait(list(running), timeout=STOP_INTERVAL)
            if not finished:
                wait.check()
            for ref in finished:
                shard = running.pop(ref)
                try:
                    tally.add(ray.get(ref))
                except ray.exceptions.RayTaskError as error:
                    if isinstance(error.cause, SightlineError):
                        raise error.cause from None  # the same on every node and for every shard
                    tally.give_up(shard.number, _one_line(error.cause or error))
                except ray.exceptions.RayError as error:
                    tally.give_up(shard.number, _one_line(error))
    finally:
        for ref in running:
            with suppress(Exception):
                ray.cancel(ref, force=True)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


# the cluster --------------------------------------------------------------------------------------


@contextmanager
def cluster(address: str | None) -> Iterator[ModuleType]:
    """The ``ray`` module, connected to the cluster at ``address``, or to a new one on this machine.
    If this process is connected to a cluster already, that one is used, and stays connected.

    Raises UsageError if Ray is not installed, LibraryError if the cluster cannot be reached.
    """
    if address is not None:
        _check_reachable(address)
    connected = sys.modules.get("ray")
    if connected is not None and connected.is_initialized():
        yield connected
        return
    # Before Ray is imported: no usage statistics.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    token = {}
    if address is None:
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    before = {name: os.environ.get(name) for name in token}
    os.environ.update(token)
    try:
        try:
            import ray
        except ImportError as error:
            raise UsageError(
                f"`sightline embed` needs Ray, on one machine too: {install_command('ray')}"
            ) from error
        with _ray_folder(address) as folder:
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
def _ray_folder(address: str | None) -> Iterator[str | None]:
    """A temporary folder for the sockets and logs of a new cluster; None for one that is joined,
    and if the path of a socket there would be too long for the system."""
    folder = tempfile.mkdtemp(prefix="ray-") if address is None else None
    try:
        yield folder if folder and len(folder) <= MAX_FOLDER_NAME else None
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def _check_reachable(address: str) -> None:
    """Raises LibraryError unless something listens at ``host:port``: Ray itself tries for minutes.
    Other forms of an address are left to Ray."""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT).close()
    except OSError as error:
        raise LibraryError(
            f"the Ray cluster at {address} cannot be reached: {error.strerror or error}"
        ) from error


def _connect(ray: ModuleType, address: str | None, folder: str | None) -> None:
    # Ray replaces the handler with which the command ends a run in good order.
    handler = signal.getsignal(signal.SIGTERM)
    quiet = {"include_dashboard": None, "log_to_driver": False, "configure_logging": False}
    try:
        _stay_on_loopback(address)
        if address is not None:
            ray.init(address=address, **quiet)
        else:
            ray.init(
                address="local",
                **{**quiet, "include_dashboard": False},
                object_store_memory=OBJECT_STORE,
                _node_ip_address="127.0.0.1",
                _temp_dir=folder,
            )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = f"the Ray cluster at {address}" if address else "Ray on this machine"
        raise LibraryError(f"{where} cannot be reached: {_one_line(error)}") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _stay_on_loopback(address: str | None) -> None:
    """Keeps Ray from replacing ``127.0.0.1`` by this machine's outer address, where a cluster on
    loopback does not listen: ``ray.init`` would then wait for minutes. Ray has no public setting
    for that (``resolve_ip_for_localhost``)."""
    from ray._private import ray_constants

    host = address.rpartition(":")[0].strip("[]") if address else "127.0.0.1"
    ray_constants.ENABLE_RAY_CLUSTER = host not in ("127.0.0.1", "localhost", "::1")
