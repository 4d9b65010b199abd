"""Removal of a user from slots and from the sealed spans that contain them."""

from collections.abc import Iterator

import pytest
from psycopg2.extensions import connection, cursor
from pyroaring import BitMap

from repo.rollups.aggregate import ALL, Delta
from repo.rollups.bitmap_store import read_slots, read_spans, write_slots, write_spans
from repo.rollups.fold import begin, snapshot_locked
from repo.rollups.user_removal import UserRemoval
from utils.time.slots import Span

DAY = Span(0, 96)
SLOTS = {4: (5, BitMap([7, 8])), 9: (1, BitMap([7]))}
COUNTS = [((4, ALL), 2), ((4, 1), 2), ((9, ALL), 1), ((9, 1), 1)]


@pytest.fixture
def removal(conn: connection) -> Iterator[UserRemoval]:
    """The removal of the user 7 from a day of two slots; the last has no events of others."""
    with snapshot_locked(conn) as cur:
        generation = begin(cur)
        rows = {
            (slot, name): Delta(events, users.copy())
            for slot, (events, users) in SLOTS.items()
            for name in (ALL, 1)
        }
        write_slots(cur, generation, rows)
        write_spans(cur, generation, 1, {DAY: {1: Delta(6, BitMap([7, 8]))}})
        yield UserRemoval(cur, generation, version=2, ordinal=7)


def slots(cur: cursor, generation: int) -> dict[tuple[int, int], tuple[int, list[int]]]:
    return {
        key: (events, list(BitMap.deserialize(users)))
        for key, events, users in read_slots(cur, generation, list(range(96)))
    }


def test_events_are_subtracted_and_empty_rows_deleted(removal: UserRemoval) -> None:
    result = removal.remove(COUNTS)
    assert (result.slots, result.spans) == ({4, 9}, {DAY})
    assert slots(removal.cur, removal.generation) == {(4, ALL): (3, [8]), (4, 1): (3, [8])}
    spans = read_spans(removal.cur, removal.generation, [DAY])
    assert spans == {DAY: {1: Delta(3, BitMap([8]))}}


def test_rows_without_the_user_stay(removal: UserRemoval) -> None:
    result = UserRemoval(removal.cur, removal.generation, 2, ordinal=9).remove([((4, 1), 0)])
    assert (result.slots, result.spans) == (set(), set())
    assert slots(removal.cur, removal.generation)[4, 1] == (5, [7, 8])


def test_the_slots_of_a_user_are_found_by_their_sets(removal: UserRemoval) -> None:
    assert list(removal.slots_of_user(DAY)) == [4, 9]
    other = UserRemoval(removal.cur, removal.generation, 2, ordinal=8)
    assert list(other.slots_of_user(DAY)) == [4]
