"""Small sources for embedding, and a Ray cluster of two nodes in this machine."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers_library import as_bytes, draw

if TYPE_CHECKING:
    from indexer.shards import Place, ShardRow


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
    """``count`` small pictures."""
    folder.mkdir(parents=True)
    for seed in range(count):
        (folder / f"{seed:04}.jpg").write_bytes(as_bytes(draw(seed, (64, 48)), quality=80))
    return folder


def rows_of(place: Place) -> list[ShardRow]:
    """Every row of every shard."""
    from indexer.shards import read_shard, whole_shards

    return [
        row for name in whole_shards(place).values() for rows in read_shard(place, name)
        for row in rows
    ]  # fmt: skip


@contextmanager
def two_nodes() -> Iterator[tuple[str, Any, list[Any]]]:
    """``(address, cluster, the two)``: two nodes of one core each beside a head without any, on
    loopback, that notice within seconds when the other is gone."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    soon = {
        "health_check_initial_delay_ms": 0,
        "health_check_period_ms": 1000,
        # Patient with one that is merely busy: a node taken for dead would leave nobody to work.
        "health_check_timeout_ms": 20_000,
        "health_check_failure_threshold": 5,
    }
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            **small,
            "num_cpus": 0,
            "node_ip_address": "127.0.0.1",
            "_system_config": soon,
        },
    )
    try:
        both = [cluster.add_node(**small, node_ip_address="127.0.0.1") for _ in range(2)]
        cluster.wait_for_nodes()
        yield cluster.address, cluster, both
    finally:
        cluster.shutdown()


def workers_of_ray() -> list[int]:
    """Process ids of the Ray workers of this user that embed a shard right now."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                command = (process / "cmdline").read_bytes()
                parent_of = (process / "environ").stat().st_uid
            except OSError:
                continue
            if command.startswith(b"ray::embed_shard") and parent_of == os.getuid():
                found.append(int(process.name))
    return found
