"""The cache that search and the web server share."""

from __future__ import annotations

from threading import Barrier, Thread

from sightline.server.search.lru_cache import LruCache


def test_the_least_recently_used_entry_is_dropped_first() -> None:
    cache: LruCache[str] = LruCache(2)
    assert (cache.put(1, "one"), cache.put(2, "two"), cache.get(1)) == ("one", "two", "one")
    cache.put(3, "three")
    assert [cache.get(key) for key in (1, 2, 3)] == ["one", None, "three"]


def test_threads_that_create_one_key_at_once_get_the_same_value() -> None:
    cache: LruCache[object] = LruCache(2)
    together, found = Barrier(4), []

    def create() -> object:
        together.wait(60)  # all four are in here at the same time
        return object()

    threads = [Thread(target=lambda: found.append(cache.get_or_create(1, create))) for _ in "1234"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(map(id, found))) == 1
    assert cache.get_or_create(1, create) is found[0]


def test_a_cache_of_bytes_limits_their_number() -> None:
    cache: LruCache[bytes] = LruCache(10, size_of=len)
    cache.put(1, b"12345")
    cache.put(2, b"12345")
    cache.put(3, b"123")
    assert [cache.get(key) for key in (1, 2, 3)] == [None, b"12345", b"123"]
    assert cache.put(4, b"12345678901") == b"12345678901"
    assert cache.get_or_create(5, lambda: b"12345678901") == b"12345678901"
    assert [cache.get(key) for key in (2, 3, 4, 5)] == [b"12345", b"123", None, None]
