"""A thread-safe cache of the most recently used entries."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from cachetools import LRUCache

V = TypeVar("V")


class LruCache(Generic[V]):
    """At most ``size`` values by key; the least recently used one is dropped first. Safe to use
    from several threads."""

    def __init__(self, size: int) -> None:
        self._entries: LRUCache[Hashable, V] = LRUCache(size)
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> V | None:
        """The value of ``key``, or None."""
        with self._lock:
            return self._entries.get(key)

    def put(self, key: Hashable, value: V) -> V:
        """Stores ``value`` and returns it."""
        with self._lock:
            self._entries[key] = value
        return value

    def get_or_create(self, key: Hashable, create: Callable[[], V]) -> V:
        """The value of ``key``, created if there is none. Threads that ask for one key at the same
        time may each create a value; all get the first one that was stored."""
        found = self.get(key)
        if found is not None:
            return found
        created = create()  # not under the lock: it may take seconds
        with self._lock:
            return self._entries.setdefault(key, created)
