"""The LRU cache that threads share: its bound, in entries or by size, and what it evicts."""

from concurrent.futures import ThreadPoolExecutor

from utils.lru_cache import SharedLruCache


def test_the_oldest_entry_is_evicted() -> None:
    cache = SharedLruCache[str, int](2)
    for key, value in (("a", 1), ("b", 2), ("c", 3)):
        cache.put(key, value)
    assert [cache.get(key) for key in "abc"] == [None, 2, 3]


def test_entries_that_are_read_stay() -> None:
    cache = SharedLruCache[str, int](3)
    cache.put_many({"a": 1, "b": 2, "c": 3})
    assert cache.get("a") == 1
    assert cache.get_many("bx") == {"b": 2}
    cache.put("d", 4)
    assert cache.get_many("abcd") == {"a": 1, "b": 2, "d": 4}


def test_a_replaced_entry_counts_once() -> None:
    cache = SharedLruCache[str, str](10, size_of=len)
    cache.put_many({"a": "1234", "b": "1234"})
    cache.put("a", "123456")
    assert cache.get_many("ab") == {"a": "123456", "b": "1234"}


def test_entries_are_evicted_until_a_new_one_fits() -> None:
    cache = SharedLruCache[str, str](10, size_of=len)
    cache.put_many({"a": "1234", "b": "1234", "c": "12"})
    cache.put("d", "12345")
    assert cache.get_many("abcd") == {"c": "12", "d": "12345"}


def test_an_entry_that_is_larger_than_the_bound_is_not_stored() -> None:
    cache = SharedLruCache[str, str](10, size_of=len)
    cache.put_many({"a": "1234", "b": "1234"})
    cache.put("a", "12345678901")
    cache.put("c", "12345678901")
    assert cache.get_many("abc") == {"b": "1234"}


def test_threads_share_a_cache() -> None:
    """Without the lock, eviction fails with KeyError, or the size drifts."""
    cache = SharedLruCache[int, int](50, size_of=lambda value: value % 3 + 1)

    def use(seed: int) -> None:
        for n in range(20_000):
            key = (n * 7 + seed * 13) % 101
            cache.put(key, n)
            cache.get((key + 1) % 101)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(8)))
    values = cache.get_many(range(101)).values()
    assert sum(value % 3 + 1 for value in values) == cache._entries.currsize <= 50
