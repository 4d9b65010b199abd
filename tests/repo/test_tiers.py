"""Small chunks are merged into larger ones, which hold the same events."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from psycopg2.extensions import connection

from repo.columns.chunk_table import ALL_PATHS, ChunkRow
from repo.columns.consumer import Consumer
from repo.columns.tiers import next_merge
from repo.rollups.rollup_writer import RollupWriter
from tests.column_contents import chunk_rows, expected, query, read_chunk, written
from tests.events import insert

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def row(chunk_id: int, events: int, **fields: Any) -> ChunkRow:
    values = {"format": 1, "tier": 0, "is_late": False, "has_properties": True, "bytes": 100}
    return ChunkRow(chunk_id=chunk_id, events=events, first=0, last=1, **{**values, **fields})


def merged(*rows: ChunkRow) -> list[int]:
    return [row.chunk_id for row in next_merge(rows)]


def test_eight_chunks_of_a_tier_are_merged() -> None:
    rows = [row(number, 1_000) for number in range(9)]
    assert merged(*rows[:7]) == []
    assert merged(*rows[:8]) == merged(*rows) == list(range(8))


@pytest.mark.parametrize("other", [{"tier": 1}, {"is_late": True}, {"has_properties": False}])
def test_chunks_of_different_kinds_are_not_merged(other: dict[str, Any]) -> None:
    rows = [row(number, 1_000, **(other if number == 3 else {})) for number in range(8)]
    assert merged(*rows) == []
    assert merged(*rows, row(8, 1_000)) == [0, 1, 2, 4, 5, 6, 7, 8]


def test_chunks_that_fill_one_are_merged() -> None:
    assert merged(row(0, 60_000), row(1, 60_000)) == []
    assert merged(row(0, 60_000), row(1, 60_000), row(2, 11_072)) == []
    assert merged(row(0, 60_000), row(1, 60_000), row(2, 11_073)) == [0, 1]


def test_chunks_of_many_bytes_are_merged_sooner() -> None:
    half = 32 * 2**20
    assert merged(row(0, 9, bytes=half), row(1, 9, bytes=half)) == []
    assert merged(row(0, 9, bytes=half), row(1, 9, bytes=half), row(2, 9, bytes=1)) == [0, 1]


def test_lower_tiers_are_merged_first() -> None:
    high = [row(number, 1_000, tier=1) for number in range(8)]
    low = [row(number + 10, 1_000) for number in range(8)]
    assert merged(*high, *low) == list(range(10, 18))


class Batches:
    """Writes batches of events, one chunk each."""

    def __init__(self, conn: connection) -> None:
        self._conn = conn
        self._number = 0

    def write(self, *instants: datetime) -> None:
        rows = []
        for instant in instants:
            self._number += 1
            text = {"even": "x"} if self._number % 2 == 0 else {}
            rows.append(("ada", "view", instant, {"n": self._number, **text}))
        insert(self._conn, *rows)
        while RollupWriter(self._conn, []).step().has_more:
            pass
        assert Consumer(self._conn, 100).step(is_lazy=False) == 1

    def merge(self) -> int:
        """Merge all that is to be merged; return how often."""
        merges = 0
        while Consumer(self._conn, 100).step(is_lazy=False):
            merges += 1
            assert written(self._conn) == expected(self._conn)
        return merges


@pytest.fixture
def batches(conn: connection) -> Batches:
    return Batches(conn)


def tiers(conn: connection) -> list[tuple[int, bool, int]]:
    return sorted((row.tier, row.is_late, row.events) for row in chunk_rows(conn))


def test_each_event_is_written_once_a_tier(conn: connection, batches: Batches) -> None:
    for number in range(64):
        batches.write(NOW - number * timedelta(seconds=1))
        assert batches.merge() == (number % 8 == 7) + (number == 63)
    assert tiers(conn) == [(2, False, 64)]
    assert query(conn, "select count(*) from column_data") == [(1,)]
    assert query(conn, "select count(*) from column_chunks") == [(1,)]


def test_late_events_are_merged_apart(conn: connection, batches: Batches) -> None:
    for number in range(7):
        batches.write(NOW - number * HOUR)
        batches.write(NOW - (number + 2) * DAY)
    assert batches.merge() == 0
    batches.write(NOW - 90 * DAY)
    assert batches.merge() == 1
    assert tiers(conn) == [(0, False, 1)] * 7 + [(1, True, 8)]


def test_a_version_tells_that_chunks_have_changed(conn: connection, batches: Batches) -> None:
    state = "select version, written_at from column_state"
    for number in range(8):
        batches.write(NOW)
        assert query(conn, state)[0][0] == number + 1
    (before,) = query(conn, state)
    batches.merge()
    assert query(conn, state) == [(before[0] + 1, before[1])]


def ids(conn: connection) -> list[str | None]:
    (row,) = chunk_rows(conn)
    stored = read_chunk(conn, row.chunk_id).event_id
    zero = np.zeros(1, stored.dtype)[0]
    return [None if each == zero else each.tobytes().hex() for each in stored]


def ordered_ids(conn: connection) -> list[str]:
    text = "select replace(event_id::text, '-', '') from events order by occurred_at, event_id"
    return [event_id for (event_id,) in query(conn, text)]


def test_events_that_become_ties_get_their_ids(conn: connection, batches: Batches) -> None:
    for _ in range(8):
        batches.write(NOW)
    assert batches.merge() == 1
    assert ids(conn) == ordered_ids(conn)


def test_ids_of_events_that_are_no_ties_are_not_stored(conn: connection, batches: Batches) -> None:
    batches.write(NOW, NOW)
    for number in range(1, 8):
        batches.write(NOW + timedelta(seconds=number))
    batches.merge()
    assert ids(conn) == [*ordered_ids(conn)[:2], *[None] * 7]


def test_ties_of_dropped_events_stay_without_ids(conn: connection, batches: Batches) -> None:
    for _ in range(8):
        batches.write(NOW)
    query(conn, "begin; set local analytics.reason = 'retain'; delete from events; select 1")
    query(conn, "commit; select 1")
    while Consumer(conn, 100).step(is_lazy=False):
        pass
    assert ids(conn) == [None] * 8


def test_chunks_that_lack_properties_are_merged_apart(conn: connection, batches: Batches) -> None:
    """The merged chunk lacks what its parts lack."""
    incomplete = "update column_chunks set complete_to = 1 where chunk_id % 2 = 1 returning 1"
    for _ in range(14):
        batches.write(NOW)
    query(conn, incomplete)
    assert batches.merge() == 0
    batches.write(NOW)
    query(conn, incomplete)
    assert batches.merge() == 1
    lists = sorted((row.tier, row.complete_to) for row in chunk_rows(conn))
    assert lists == [(0, ALL_PATHS)] * 7 + [(1, 1)]
