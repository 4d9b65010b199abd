"""The LRU cache holds the values that were used last."""

from utils.lru_cache import LruCache


def test_the_oldest_value_is_evicted() -> None:
    cache = LruCache[str, int](2)
    for key, value in (("a", 1), ("b", 2), ("c", 3)):
        cache.put(key, value)
    assert [cache.get(key) for key in "abc"] == [None, 2, 3]


def test_reading_a_value_keeps_it() -> None:
    cache = LruCache[str, int](2)
    cache.put("a", 1)
    cache.put("b", 2)
    cache.get("a")
    cache.put("c", 3)
    assert [cache.get(key) for key in "abc"] == [1, None, 3]


def test_a_replaced_value_takes_no_second_place() -> None:
    cache = LruCache[str, int](2)
    cache.put("a", 1)
    cache.put("b", 2)
    cache.put("a", 9)
    assert (len(cache), cache.get("a"), cache.get("b")) == (2, 9, 2)
