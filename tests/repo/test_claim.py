"""Which events a fold claims: the whole tail, or the next chunk of a backfill."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from psycopg2.extensions import connection, cursor

from repo.rollups.claim import BatchClaimer
from repo.rollups.fold import begin, locked, snapshot_locked
from repo.rollups.fold_state import Progress
from repo.rollups.rollup_writer import RollupWriter
from tests.events import insert

START = datetime(2025, 3, 1, tzinfo=UTC)
Fold = tuple[cursor, Progress]


@pytest.fixture
def fold(conn: connection) -> Iterator[Fold]:
    insert(conn, *(("u", "view", START + timedelta(days=n)) for n in (2, 0, 1)))
    with snapshot_locked(conn) as cur:
        generation = begin(cur, [])
    with locked(conn, generation) as opened:
        yield opened


def claimed(fold: Fold, max_events: int) -> list[int]:
    return [len(rows) for rows in BatchClaimer(max_events).claim(*fold)]


def test_the_whole_tail_is_claimed_at_once(fold: Fold) -> None:
    assert claimed(fold, 3) == [3, 0]
    assert fold[1].is_caught_up
    assert claimed(fold, 3) == [0, 0]


def test_a_longer_tail_is_a_backfill_in_the_order_of_time(fold: Fold) -> None:
    progress = fold[1]
    assert claimed(fold, 2) == [2, 0]
    assert progress.is_backfilling
    until = datetime.fromisoformat(progress.backfill_cursor.until)
    assert until == datetime(2025, 3, 2, tzinfo=UTC)


def test_a_backfill_ends_with_its_last_chunk(fold: Fold) -> None:
    progress = fold[1]
    claimed(fold, 2)
    assert claimed(fold, 2) == [1, 0]
    assert (progress.is_backfilling, progress.is_caught_up) == (False, True)


def test_users_and_names_of_future_events_get_ids_at_once(conn: connection) -> None:
    """Columns hold these events before they are due."""
    insert(conn, ("ada", "open", START), ("bob", "later", datetime.now(UTC) + timedelta(days=1)))
    RollupWriter(conn, []).catch_up()
    with conn.cursor() as cur:
        cur.execute("select user_id from users union all select event_name from event_names")
        assert {text for (text,) in cur} == {"ada", "bob", "open", "later"}
        cur.execute("select event_name from slots join event_names using (name_id)")
        assert cur.fetchall() == [("open",)]
