"""What a Ray cluster has room for, and whether one shard will ever find a place on it.

Ray queues a task that no machine is large enough for and waits for one that is, without a word: a
cluster that grows on demand may still get one. One that does not would wait for ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

from sightline.indexer.errors import UsageError


@dataclass(frozen=True)
class Share:
    """What one task takes: cores and GPUs, of one machine."""

    cpus: float = 1
    gpus: float = 0

    def __str__(self) -> str:
        cores = f"{self.cpus:g} core{'' if self.cpus == 1 else 's'}"
        return f"{cores} and {self.gpus:g} GPU{'' if self.gpus == 1 else 's'}"

    def fits(self, machine: Share) -> bool:
        """Whether ``machine``, when it does nothing else, has so much."""
        return self.cpus <= machine.cpus and self.gpus <= machine.gpus


def machines(ray: ModuleType) -> list[Share]:
    """What each machine that is alive has in all, the largest first."""
    there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sorted(
        (Share(one.get("CPU", 0), one.get("GPU", 0)) for one in there),
        key=lambda one: (one.gpus, one.cpus),
        reverse=True,
    )


def at_once(ray: ModuleType, share: Share) -> int:
    """Tasks to have under way: twice what the cluster can run now, so that nothing idles and a
    cluster that grows on demand sees the demand."""
    there = ray.cluster_resources()
    counts = [int(there.get("CPU", 0) / share.cpus)] if share.cpus else []
    if share.gpus:
        counts.append(int(there.get("GPU", 0) / share.gpus))
    return max(2, 2 * min(counts, default=1))


class Patience:
    """Waits for a machine that is large enough for a task, and not for ever."""

    def __init__(
        self, ray: ModuleType, share: Share, *, seconds: float, warn: Callable[[str], None]
    ) -> None:
        """``seconds``: 0 for a cluster that nobody can join."""
        self._ray = ray
        self._share = share
        self._seconds = seconds
        self._warn = warn
        self._since: float | None = None

    def look(self) -> None:
        """UsageError when no machine has been large enough for ``seconds``; a warning when that
        begins."""
        there = machines(self._ray)
        if any(self._share.fits(one) for one in there):
            self._since = None
            return
        now = time.monotonic()
        if self._since is None:
            self._since = now
            if self._seconds > 0:
                self._warn(
                    f"a shard takes {self._share}, and {_largest(there)}: waiting"
                    f" {self._seconds:g} seconds for one to join"
                )
        if now - self._since >= self._seconds:
            raise UsageError(
                f"a shard takes {self._share}, and {_largest(there)}: ask for less with"
                " --cpus-per-task and --gpus-per-task, or add such a machine"
            )


def _largest(there: list[Share]) -> str:
    if not there:
        return "the cluster has no machine"
    if len(there) == 1:
        return f"the only machine has {there[0]}"
    return f"none of the {len(there)} machines has that (the largest: {there[0]})"
