"""The store of slots: events added and subtracted, and what a rebuild copies."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from psycopg2.extensions import connection
from pyroaring import BitMap

from config.database import Cursor
from repo.rollups.aggregate import ALL, Batch, Delta
from repo.rollups.bitmap_rows import read_slots, write_slots
from repo.rollups.fold import begin, snapshot_locked
from repo.rollups.fold_state import read_progress
from repo.rollups.rollup_writer import RollupWriter
from repo.rollups.slot_store import SlotStore
from repo.rollups.store import Horizon, StoreBehind
from repo.rollups.subtract_user import ErasedGeneration, ErasedUser, UserCounts
from tests.events import insert
from tests.unit.test_aggregate import LATER, SLOT, rows

STORE = SlotStore([])
MARCH = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def cur(conn: connection) -> Iterator[Cursor]:
    with snapshot_locked(conn) as locked:
        yield locked


def stored(
    cur: Cursor, generation: int, *slots: int
) -> dict[tuple[int, int], tuple[int, list[int]]]:
    return {
        key: (events, list(BitMap.deserialize(users)))
        for key, events, users in read_slots(cur, generation, list(slots))
    }


def test_events_are_added_to_rows(cur: Cursor) -> None:
    progress = read_progress(cur, begin(cur, []))
    first, second = Batch([rows((0, 1, 5))], LATER), Batch([rows((1, 1, 6), (2, 2, 5))], LATER)
    for batch in (first, second):
        STORE.apply(cur, progress, batch)
        cur.execute("truncate fold_slots")
    assert stored(cur, progress.generation, SLOT) == {
        (SLOT, ALL): (3, [5, 6]),
        (SLOT, 1): (2, [5, 6]),
        (SLOT, 2): (1, [5]),
    }
    # Other stores add the same batch.
    assert second.deltas[SLOT, 1] == Delta(1, BitMap([6]))


@pytest.mark.parametrize("part_size", [1, 100])
def test_events_are_subtracted_and_empty_rows_deleted(cur: Cursor, part_size: int) -> None:
    generation = begin(cur, [])
    rows_by_slot = {4: Delta(5, BitMap([7, 8])), 9: Delta(1, BitMap([7]))}
    contents = {(slot, name): row for slot, row in rows_by_slot.items() for name in (ALL, 1)}
    write_slots(cur, generation, contents)
    cur.execute("truncate fold_slots")
    counts = UserCounts([((4, ALL), 2), ((4, 1), 2), ((9, ALL), 1), ((9, 1), 1)])
    user = ErasedUser(1, 7, part_size, [ErasedGeneration(generation, True, 4, 1, counts)])
    assert STORE.erase(cur, user) == 2
    assert stored(cur, generation, 4, 9) == {(4, ALL): (3, [8]), (4, 1): (3, [8])}


def test_a_rebuild_copies_the_slots_of_dropped_events(cur: Cursor) -> None:
    first = begin(cur, [])
    horizon = datetime(1970, 1, 2, tzinfo=UTC)
    write_slots(cur, first, {(slot, ALL): Delta(slot, BitMap()) for slot in (95, 96)})
    cur.execute("update fold_state set is_current = true")
    cur.execute("insert into retention (takes_from, horizon) values (%s, %s)", (horizon, horizon))
    assert stored(cur, begin(cur, [STORE]), 95, 96) == {(95, ALL): (95, [])}


def test_nothing_is_dropped_before_it_is_counted(conn: connection) -> None:
    insert(conn, ("u", "view", MARCH))
    with snapshot_locked(conn) as cur, pytest.raises(StoreBehind):
        STORE.drop_before(cur, Horizon(MARCH + timedelta(days=1), None))
    RollupWriter(conn, []).catch_up()
    insert(conn, ("u", "view", MARCH + timedelta(days=5)))
    with snapshot_locked(conn) as cur:
        STORE.drop_before(cur, Horizon(MARCH + timedelta(days=1), None))
        with pytest.raises(StoreBehind):
            STORE.drop_before(cur, Horizon(MARCH + timedelta(days=6), None))
