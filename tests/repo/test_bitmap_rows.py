"""Rows of slots and sealed spans, stored and read back."""

from collections.abc import Iterator

import pytest
from psycopg2.extensions import connection
from pyroaring import BitMap

from config.database import Cursor
from repo.rollups.aggregate import Delta
from repo.rollups.bitmap_rows import (
    read_sealed_spans,
    read_slots,
    read_spans,
    sum_by_name,
    write_slots,
    write_spans,
)
from repo.rollups.fold import begin, snapshot_locked
from utils.time.slots import Span

DAY = Span(0, 96)


@pytest.fixture
def cur(conn: connection) -> Iterator[Cursor]:
    with snapshot_locked(conn) as locked:
        yield locked


@pytest.fixture
def generation(cur: Cursor) -> int:
    return begin(cur, [])


def test_stored_slots_are_read_back(cur: Cursor, generation: int) -> None:
    write_slots(cur, generation, {(5, 1): Delta(2, BitMap([3])), (6, 0): Delta(1, BitMap())})
    rows = {key: (events, users) for key, events, users in read_slots(cur, generation, [5, 6])}
    assert {
        key: (events, list(BitMap.deserialize(users))) for key, (events, users) in rows.items()
    } == {
        (5, 1): (2, [3]),
        (6, 0): (1, []),
    }


def test_stored_spans_are_sealed(cur: Cursor, generation: int) -> None:
    write_spans(cur, generation, 1, {DAY: {1: Delta(2, BitMap([3]))}})
    assert read_sealed_spans(cur, generation, Span(95, 96)) == [DAY]
    assert read_sealed_spans(cur, generation, Span(96, 97)) == []
    assert read_spans(cur, generation, [DAY]) == {DAY: {1: Delta(2, BitMap([3]))}}


def test_rows_of_one_name_are_summed() -> None:
    rows = [(1, Delta(2, BitMap([3]))), (2, Delta(1, BitMap())), (1, Delta(1, BitMap([3, 4])))]
    assert sum_by_name(rows) == {1: Delta(3, BitMap([3, 4])), 2: Delta(1, BitMap())}
