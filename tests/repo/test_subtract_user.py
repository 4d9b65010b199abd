"""What stores must know of a user to erase: the user's events, and the rows that change."""

from collections.abc import Iterator

import pytest
from psycopg2.extensions import connection
from pyroaring import BitMap

from config.database import Cursor
from repo.rollups.aggregate import ALL, Delta
from repo.rollups.bitmap_rows import write_slots, write_spans
from repo.rollups.fold import begin, snapshot_locked
from repo.rollups.subtract_user import (
    ErasedUser,
    UserCounts,
    emptied,
    filled,
    part_size,
    slots_of_user,
    subtract,
)
from utils.time.slots import Span

MONTH, NEXT_MONTH = Span(0, 31 * 96), Span(31 * 96, 59 * 96)


@pytest.fixture
def cur(conn: connection) -> Iterator[Cursor]:
    with snapshot_locked(conn) as locked:
        yield locked


def test_counts_come_in_parts() -> None:
    counts = UserCounts([((4, ALL), 0), ((9, ALL), 2**40), ((9, 1), 1)])
    assert list(counts.parts(2)) == [{(4, ALL): 0, (9, ALL): 2**40}, {(9, 1): 1}]
    assert list(UserCounts().parts(2)) == []


def test_a_part_has_fewer_rows_if_there_are_more_users() -> None:
    assert part_size(0) == part_size(10) == 20_000
    assert 500 < part_size(100_000) < 20_000
    assert part_size(100_000_000) == 500


def test_rows_without_the_user_stay() -> None:
    rows = {1: Delta(5, BitMap([7, 8])), 2: Delta(1, BitMap([7])), 3: Delta(4, BitMap([8]))}
    changed = subtract(rows.items(), {1: 2, 2: 1, 3: 0}, 7)
    assert changed == {1: Delta(3, BitMap([8])), 2: Delta(0, BitMap())}
    assert filled(changed) == {1: Delta(3, BitMap([8]))}
    assert emptied(changed) == [2]


def test_events_without_a_set_are_subtracted_too() -> None:
    assert subtract([(1, Delta(5, BitMap([8])))], {1: 5}, 0) == {1: Delta(0, BitMap([8]))}


def test_slots_of_a_user_are_found_by_their_sets(cur: Cursor) -> None:
    generation = begin(cur, [])
    users = {4: BitMap([7, 8]), 9: BitMap([7]), NEXT_MONTH.start: BitMap([8]), 6000: BitMap([7])}
    write_slots(cur, generation, {(slot, ALL): Delta(1, users[slot]) for slot in users})
    # Of sealed months only the sets are read, unless they contain the user.
    write_spans(cur, generation, 1, {MONTH: {ALL: Delta(2, BitMap([7, 8]))}})
    write_spans(cur, generation, 1, {NEXT_MONTH: {ALL: Delta(1, BitMap([8]))}})
    assert list(slots_of_user(cur, generation, 7, Span(0, 6001))) == [4, 9, 6000]
    assert list(slots_of_user(cur, generation, 8, Span(0, 6001))) == [4, NEXT_MONTH.start]


def test_changed_slots_are_those_of_dropped_and_deleted_events() -> None:
    user = ErasedUser(1, 7, 500, [], dropped_slots={1}, event_slots={1, 2})
    assert user.changed_slots == {1, 2}
