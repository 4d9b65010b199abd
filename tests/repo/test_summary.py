"""The summary of columns, for metrics and `status`."""

from datetime import UTC, datetime, timedelta

from psycopg2.extensions import connection

from repo.columns.consumer import Consumer
from repo.columns.summary import read_summary
from repo.columns.unwritten_events import Limits
from tests.events import insert
from tests.written_columns import consume, execute, fold

NOW = datetime.now(UTC)


def test_there_is_none_without_rollups(conn: connection) -> None:
    assert read_summary(conn, 10) is None


def test_nothing_is_written_before_the_first_batch(conn: connection) -> None:
    insert(conn, *[("u", "view", NOW - timedelta(hours=n)) for n in range(5)])
    fold(conn)
    found = read_summary(conn, 3)
    assert found is not None
    assert (found.lag_events, found.written_at, found.chunks, found.paths) == (3, None, 0, 0)


def test_what_is_written_is_counted(conn: connection) -> None:
    insert(conn, *[("u", "view", NOW - timedelta(hours=n), {"n": n}) for n in range(5)])
    fold(conn)
    consume(conn)
    execute(conn, "insert into columns_erasures values (7, 1, now() - interval '1 h')")
    insert(conn, ("u", "view", NOW))
    fold(conn)
    found = read_summary(conn, 100)
    assert found is not None
    assert (found.lag_events, found.chunks, found.paths, found.left_out) == (1, 1, 1, False)
    assert (found.is_backfilling, found.backfill_events) == (False, 0)
    assert found.written_age_s is not None
    assert 0 <= found.written_age_s < 600
    assert found.bytes > 8192
    assert (found.pending_erasures, round(found.pending_erasure_age_s / 60)) == (1, 60)


def test_the_rest_of_a_backfill_is_counted_from_the_rollups(conn: connection) -> None:
    insert(conn, *[("u", "view", NOW - timedelta(hours=n)) for n in range(40)])
    fold(conn)
    consumer = Consumer(conn, 10, max_new_events=20, limits=Limits(events=10, bytes=10**6))
    consumer.step(is_lazy=False)
    found = read_summary(conn, 100)
    assert found is not None
    assert (found.is_backfilling, found.backfilled_from) == (True, None)
    assert (found.lag_events, found.backfill_events) == (0, 40)
    execute(conn, "update column_state set backfilled_from = %s", NOW - timedelta(hours=9.5))
    found = read_summary(conn, 100)
    assert found is not None
    assert found.backfill_events == 30
    execute(conn, "update column_state set backfilled_from = 'infinity'")
    while consumer.step(is_lazy=False):
        pass
    assert consumer.written_events == 40
    found = read_summary(conn, 100)
    assert found is not None
    assert (found.is_backfilling, found.backfill_events) == (False, 0)
