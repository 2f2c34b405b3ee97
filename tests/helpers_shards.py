"""Small sources for embedding, and a Ray cluster of two nodes on this machine."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE
from typing import IO, TYPE_CHECKING

from helpers_library import as_bytes, draw

if TYPE_CHECKING:
    from sightline.indexer.shards.place import Place
    from sightline.indexer.shards.shard_files import ShardRow


def make_archive(path: Path, seeds: range) -> Path:
    """A WebDataset archive: ``<seed>.jpg``, ``<seed>.txt`` and ``<seed>.json`` for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for seed in seeds:
            files = {
                "jpg": as_bytes(draw(seed), quality=85),
                "txt": f"blots number {seed}".encode(),
                "json": b'{"url": "https://example.org"}',
            }
            for suffix, data in files.items():
                member = tarfile.TarInfo(f"{seed:05}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


def make_drawings(folder: Path, count: int) -> Path:
    """``count`` small images."""
    folder.mkdir(parents=True)
    for seed in range(count):
        (folder / f"{seed:04}.jpg").write_bytes(as_bytes(draw(seed, (64, 48)), quality=80))
    return folder


def rows_of(place: Place) -> list[ShardRow]:
    """Every row of every shard."""
    from sightline.indexer.shards.shard_files import read_shard, whole_shards

    return [
        row for name in whole_shards(place).values() for rows in read_shard(place, name)
        for row in rows
    ]  # fmt: skip


@contextmanager
def two_nodes() -> Iterator[Cluster]:
    """Two nodes of one core each and a head without any, on loopback, which detect within seconds
    that one died.

    A separate process starts them: starting a node forks, and gRPC's threads do not survive a fork
    in a process that is connected to Ray.
    """
    command = [sys.executable, str(Path(__file__).with_name("ray_cluster.py"))]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            facts = next(line for line in process.stdout if line.startswith('{"address"'))
            yield Cluster(**json.loads(facts), orders=process.stdin)
        finally:
            process.stdin.close()  # it ends with us, however we end


@dataclass(frozen=True)
class Cluster:
    """A running Ray cluster."""

    address: str
    nodes: dict[str, list[int]]
    """The process ids of each working node, by node id."""
    orders: IO[str]
    """Standard input of the process that runs it."""

    def join(self, **resources: int) -> None:
        """Makes another node join soon."""
        print(json.dumps(resources), file=self.orders, flush=True)

    def lose(self, *, but: str) -> None:
        """Kills a node other than ``but``, like a machine that loses power."""
        other = next(node for node in self.nodes if node != but)
        for pid in self.nodes.pop(other):
            os.kill(pid, signal.SIGKILL)


def workers_of_ray() -> list[int]:
    """Process ids of this user's Ray workers that are embedding a shard."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                command = (process / "cmdline").read_bytes()
                owner = (process / "environ").stat().st_uid
            except OSError:
                continue
            if command.startswith(b"ray::embed_shard") and owner == os.getuid():
                found.append(int(process.name))
    return found
