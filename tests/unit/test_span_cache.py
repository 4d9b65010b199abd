"""The cache of rows of sealed spans: its limit, and which rows it evicts."""

import pytest
from pyroaring import BitMap

from repo.engine.span_cache import Row, Rows, SpanCache, SpanKey, size_of
from utils.time.slots import Span


def key(start: int, version: int = 1) -> SpanKey:
    return SpanKey("memory", Span(start, start + 4), version, "all")


def put(cache: SpanCache, span_key: SpanKey, rows: Rows, size: int) -> Rows:
    return cache.put_many({span_key: (rows, size)})[span_key]


def test_cached_rows_have_ids_of_their_own() -> None:
    cache = SpanCache()
    first = put(cache, key(0), {0: Row(2, BitMap([1]))}, 10)
    second = put(cache, key(4), {0: Row(2, BitMap([1]))}, 10)
    assert (first[0].events, first[0].users) == (2, BitMap([1]))
    assert (first[0].row_id, second[0].row_id) == (1, 2)
    assert cache.get_many([key(0), key(8)]) == {key(0): first}


def test_rows_of_another_version_are_not_found() -> None:
    cache = SpanCache()
    put(cache, key(0, version=1), {0: Row(2, BitMap())}, 10)
    assert cache.get_many([key(0, version=2)]) == {}


def test_the_least_recently_used_rows_are_evicted() -> None:
    # An entry of one row has 1,000 bytes in addition to its set.
    cache = SpanCache(max_bytes=2_300)
    for start in (0, 4):
        put(cache, key(start), {0: Row(1, BitMap())}, 100)
    cache.get_many([key(0)])
    put(cache, key(8), {0: Row(1, BitMap())}, 100)
    assert list(cache.get_many([key(0), key(4), key(8)])) == [key(0), key(8)]


def test_replaced_rows_do_not_count_twice() -> None:
    cache = SpanCache(max_bytes=2_300)
    for start in (0, 4, 4, 4):
        put(cache, key(start), {0: Row(1, BitMap())}, 100)
    assert list(cache.get_many([key(0), key(4)])) == [key(0), key(4)]


@pytest.mark.parametrize(
    ("users", "size"),
    [(BitMap(), 0), (BitMap([1, 2, 3]), 6), (BitMap(range(80_000)), 9_999 + 8_192)],
)
def test_the_size_of_a_set_has_a_limit_by_its_highest_ordinal(users: BitMap, size: int) -> None:
    assert size_of(users) == size
