"""A thread-safe cache of the most recently used entries."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Generic, TypeVar

from cachetools import LRUCache

V = TypeVar("V")


class LruCache(Generic[V]):
    """At most ``size`` values by key; the least recently used one is dropped first. Safe to use
    from several threads.

    With ``size_of``, the sizes of the values are limited instead of their number; a value larger
    than ``size`` is not stored."""

    def __init__(self, size: int, *, size_of: Callable[[V], int] | None = None) -> None:
        self._entries: LRUCache[Hashable, V] = LRUCache(size, getsizeof=size_of)
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> V | None:
        """The value of ``key``, or None."""
        with self._lock:
            return self._entries.get(key)

    def put(self, key: Hashable, value: V) -> V:
        """Stores ``value`` and returns it."""
        with self._lock, suppress(ValueError):  # too large
            self._entries[key] = value
        return value

    def get_or_create(self, key: Hashable, create: Callable[[], V]) -> V:
        """The value of ``key``, created if there is none. Threads that ask for one key at the same
        time may each create a value; all get the first one that was stored."""
        found = self.get(key)
        if found is not None:
            return found
        created = create()  # not under the lock: it may take seconds
        with self._lock, suppress(ValueError):
            return self._entries.setdefault(key, created)
        return created
