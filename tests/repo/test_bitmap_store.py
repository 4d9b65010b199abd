"""Rows of slots and sealed spans: stored, read back, and merged with deltas."""

from collections.abc import Iterator

import pytest
from psycopg2.extensions import connection, cursor
from pyroaring import BitMap

from repo.rollups.aggregate import Delta
from repo.rollups.bitmap_store import (
    add_slots,
    add_spans,
    read_sealed_spans,
    read_slots,
    read_spans,
    write_slots,
    write_spans,
)
from repo.rollups.fold import begin, snapshot_locked
from utils.time.slots import Span

DAY = Span(0, 96)
# Rows are copied into temporary tables, which are emptied at the end of a transaction.
NEXT_TRANSACTION = "truncate fold_slots, fold_spans"


@pytest.fixture
def cur(conn: connection) -> Iterator[cursor]:
    with snapshot_locked(conn) as locked:
        yield locked


@pytest.fixture
def generation(cur: cursor) -> int:
    return begin(cur)


def slots(cur: cursor, generation: int) -> dict[tuple[int, int], tuple[int, list[int]]]:
    return {
        key: (events, list(BitMap.deserialize(users)))
        for key, events, users in read_slots(cur, generation, list(range(96)))
    }


def test_stored_slots_are_read_back(cur: cursor, generation: int) -> None:
    write_slots(cur, generation, {(5, 1): Delta(2, BitMap([3])), (6, 0): Delta(1, BitMap())})
    assert slots(cur, generation) == {(5, 1): (2, [3]), (6, 0): (1, [])}


def test_deltas_are_added_to_the_rows_of_slots(cur: cursor, generation: int) -> None:
    write_slots(cur, generation, {(5, 1): Delta(2, BitMap([3]))})
    cur.execute(NEXT_TRANSACTION)
    add_slots(cur, generation, {(5, 1): Delta(1, BitMap([4])), (5, 2): Delta(1, BitMap([4]))})
    assert slots(cur, generation) == {(5, 1): (3, [3, 4]), (5, 2): (1, [4])}


def test_stored_spans_are_sealed(cur: cursor, generation: int) -> None:
    write_spans(cur, generation, 1, {DAY: {1: Delta(2, BitMap([3]))}})
    assert read_sealed_spans(cur, generation, Span(95, 96)) == [DAY]
    assert read_sealed_spans(cur, generation, Span(96, 97)) == []
    assert read_spans(cur, generation, [DAY]) == {DAY: {1: Delta(2, BitMap([3]))}}


def test_late_events_are_added_to_sealed_spans(cur: cursor, generation: int) -> None:
    write_spans(cur, generation, 1, {DAY: {1: Delta(2, BitMap([3]))}})
    cur.execute(NEXT_TRANSACTION)
    late = {(95, 1): Delta(1, BitMap([4])), (96, 1): Delta(9, BitMap([9]))}
    assert add_spans(cur, generation, 2, late)
    assert read_spans(cur, generation, [DAY]) == {DAY: {1: Delta(3, BitMap([3, 4]))}}


def test_events_outside_of_sealed_spans_change_none(cur: cursor, generation: int) -> None:
    write_spans(cur, generation, 1, {DAY: {1: Delta(2, BitMap([3]))}})
    assert not add_spans(cur, generation, 2, {(96, 1): Delta(1, BitMap([4]))})
