"""A new generation has the columns of events that were dropped."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg2.extensions import connection

from repo.columns import consumer
from repo.lifecycle.erasure import EraseRepo
from repo.rollups.rollup_writer import RollupWriter
from tests.column_contents import chunk_rows, query, read_chunk, written
from tests.events import insert
from tests.repo.test_rewriter import erase, fold, pending, rewrite, texts, write_each
from tests.retention import drop

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
DAY = timedelta(days=1)
HORIZON = TODAY - 2 * DAY
PROPERTIES = ["day 0", "day 1", "day 2", "day 3", "day 4", "day 5"]
FOREIGN = "update fold_state set cluster = cluster + 1"


def events() -> list[tuple[Any, ...]]:
    return [("uv"[n % 2], "view", TODAY - n * DAY, {"name": f"day {n}"}) for n in range(6)]


@pytest.fixture
def dropped(conn: connection, database_url: str) -> connection:
    """Columns of dropped events, one chunk of which is on both sides of the horizon."""
    oldest, *others = reversed(events())
    write_each(conn, oldest)
    insert(conn, *others)
    RollupWriter(conn, []).catch_up()
    assert drop(database_url, [], HORIZON, keeps_properties=True) == 3
    assert [row.events for row in chunk_rows(conn)] == [1, 4, 1]
    return conn


def current(conn: connection) -> int:
    ((generation,),) = query(conn, "select generation from fold_state where is_current")
    return int(generation)


def state(conn: connection) -> tuple[Any, ...]:
    ((generation, *horizons),) = query(
        conn,
        "select generation, events_from::text, columns_from::text, paths_from::text "
        "from column_state",
    )
    assert generation == current(conn)
    return tuple(horizons)


def test_a_rebuild_takes_over_what_cannot_be_built(dropped: connection) -> None:
    before = written(dropped)
    RollupWriter(dropped, []).rebuild()
    assert current(dropped) == 2
    assert written(dropped, 2) == before
    assert sorted(texts(dropped, 2)) == PROPERTIES
    assert chunk_rows(dropped, 1) == []
    assert query(dropped, "select distinct generation from column_data") == [(2,)]
    assert query(dropped, "select distinct generation from column_paths") == [(2,)]
    assert state(dropped) == ("-infinity",) * 3


def test_a_restore_into_another_cluster_takes_it_over_as_well(dropped: connection) -> None:
    """The transaction ids of the other cluster are replaced."""
    before = written(dropped)
    dropped.cursor().execute(FOREIGN)
    RollupWriter(dropped, []).catch_up()
    assert [event[:3] for event in sorted(written(dropped, 2))] == [e[:3] for e in sorted(before)]
    assert sorted(texts(dropped, 2)) == PROPERTIES
    xids = {
        int(xid)
        for row in chunk_rows(dropped, 2)
        for chunk in [read_chunk(dropped, row.chunk_id, 2)]
        for xid in chunk.xid[chunk.time < _microseconds(HORIZON)]
    }
    assert xids == {3}


def test_dropped_properties_stay_dropped(conn: connection, database_url: str) -> None:
    insert(conn, *events())
    RollupWriter(conn, []).catch_up()
    drop(database_url, [], HORIZON)
    RollupWriter(conn, []).rebuild()
    assert sorted(texts(conn, 2)) == ["day 0", "day 1", "day 2"]
    assert written(conn, 2).total() == 6
    horizon = str(query(conn, "select horizon::text from retention")[0][0])
    assert state(conn) == ("-infinity", horizon, "-infinity")


def test_events_that_were_dropped_before_there_were_columns(
    conn: connection, database_url: str
) -> None:
    """Nothing is known of them but counts."""
    insert(conn, *events())
    RollupWriter(conn, []).catch_up()
    drop(database_url, [], HORIZON)
    for table in ("column_state", "column_chunks", "column_data", "column_paths"):
        conn.cursor().execute(f"delete from {table}")
    horizon = str(query(conn, "select horizon::text from retention")[0][0])
    for generation in (1, 2, 3):
        RollupWriter(conn, []).catch_up()
        assert written(conn, generation).total() == 3
        assert state(conn) == (horizon, horizon, "-infinity")
        RollupWriter(conn, []).rebuild()


def test_properties_that_were_left_out_are_unknown_before_the_horizon(
    dropped: connection,
) -> None:
    dropped.cursor().execute("update column_state set left_out = true")
    RollupWriter(dropped, []).rebuild()
    write_each(dropped, ("w", "view", TODAY, {"new": 1}))
    assert query(dropped, "select path, since = %s from column_paths order by 1", HORIZON) == [
        (["name"], False),
        (["new"], True),
    ]
    assert query(dropped, "select left_out from column_state") == [(False,)]


def test_users_who_are_erased_leave_all_generations(dropped: connection) -> None:
    """Those who were erased before, or while the new generation is written."""
    erase(dropped, "u")
    writer = RollupWriter(dropped, [])
    writer._begin()
    assert "day 4" in texts(dropped, 2)
    erase(dropped, "v")
    rewrite(dropped)
    assert (pending(dropped), texts(dropped, 1), texts(dropped, 2)) == ([], set(), set())
    writer.catch_up()
    assert (written(dropped, 2).total(), current(dropped)) == (0, 2)


def test_the_current_generation_answers_until_the_new_one_is_written(
    conn: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert(conn, *events())
    RollupWriter(conn, []).catch_up()
    monkeypatch.setattr(consumer, "LAZY_EVENTS", 3)
    writer = RollupWriter(conn, [])
    writer._begin()
    for _ in range(3):
        writer.step()
    assert current(conn) == 1
    assert written(conn, 1).total() == 6
    writer.catch_up()
    assert current(conn) == 2
    assert written(conn, 2).total() == 6


def test_the_first_generation_answers_at_once(
    conn: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert(conn, *events())
    monkeypatch.setattr(consumer, "LAZY_EVENTS", 3)
    fold(conn)
    assert current(conn) == 1


def test_an_erasure_deletes_columns_of_another_cluster(conn: connection) -> None:
    insert(conn, *events())
    RollupWriter(conn, []).catch_up()
    conn.cursor().execute(FOREIGN)
    EraseRepo(conn).erase("u")
    RollupWriter(conn, []).catch_up()
    assert query(conn, "select distinct generation from column_data") == [(2,)]
    assert {event[1] for event in written(conn, 2)} == {"v"}
    assert pending(conn) == []


def _microseconds(instant: datetime) -> int:
    return int((instant - datetime(2000, 1, 1, tzinfo=UTC)).total_seconds()) * 1_000_000
