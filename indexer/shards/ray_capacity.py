"""Whether a Ray cluster has a node that is large enough for one shard.

Ray silently queues a task that no node can run, and waits: right for a cluster that grows on
demand, for ever on any other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

from sightline.indexer.errors import UsageError


@dataclass(frozen=True)
class Resources:
    """CPU cores and GPUs: of a node, or required by one task."""

    cpus: float = 1
    gpus: float = 0

    def __str__(self) -> str:
        cores = f"{self.cpus:g} core{'' if self.cpus == 1 else 's'}"
        return f"{cores} and {self.gpus:g} GPU{'' if self.gpus == 1 else 's'}"

    def fit(self, node: Resources) -> bool:
        """Whether an idle ``node`` has as many."""
        return self.cpus <= node.cpus and self.gpus <= node.gpus


def live_nodes(ray: ModuleType) -> list[Resources]:
    """What each live node has in total, the largest first."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sorted(
        (Resources(one.get("CPU", 0), one.get("GPU", 0)) for one in alive),
        key=lambda one: (one.gpus, one.cpus),
        reverse=True,
    )


def tasks_in_flight(ray: ModuleType, task: Resources) -> int:
    """How many tasks to submit at once: twice what the cluster can run now, so that no node idles
    and a cluster that grows on demand sees the demand."""
    total = ray.cluster_resources()
    counts = [int(total.get("CPU", 0) / task.cpus)] if task.cpus else []
    if task.gpus:
        counts.append(int(total.get("GPU", 0) / task.gpus))
    return max(2, 2 * min(counts, default=1))


class NodeWait:
    """Waits up to ``seconds`` for a node that is large enough for ``task``."""

    def __init__(
        self, ray: ModuleType, task: Resources, *, seconds: float, warn: Callable[[str], None]
    ) -> None:
        """``seconds``: 0 for a cluster that no node can join."""
        self._ray = ray
        self._task = task
        self._seconds = seconds
        self._warn = warn
        self._since: float | None = None

    def check(self) -> None:
        """Raises UsageError if no node has been large enough for ``seconds``; warns when that
        begins."""
        nodes = live_nodes(self._ray)
        if any(self._task.fit(one) for one in nodes):
            self._since = None
            return
        now = time.monotonic()
        if self._since is None:
            self._since = now
            if self._seconds > 0:
                self._warn(
                    f"a shard needs {self._task}, and {_largest(nodes)}: waiting"
                    f" {self._seconds:g} seconds for one to join"
                )
        if now - self._since >= self._seconds:
            raise UsageError(
                f"a shard needs {self._task}, and {_largest(nodes)}: ask for less with"
                " --cpus-per-task and --gpus-per-task, or add such a node"
            )


def _largest(nodes: list[Resources]) -> str:
    if not nodes:
        return "the cluster has no node"
    if len(nodes) == 1:
        return f"the only node has {nodes[0]}"
    return f"none of the {len(nodes)} nodes has that (the largest: {nodes[0]})"
