"""The store of columns: what folds, erasures, retention and rebuilds do to it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from psycopg2.extensions import connection

from repo.columns.codec import CorruptColumn
from repo.columns.consumer import Consumer
from repo.columns.rewriter import Rewriter
from repo.columns.store import ColumnStore
from repo.lifecycle.erasure import EraseRepo
from repo.lifecycle.retention import RetainRepo
from repo.rollups.rollup_writer import RollupWriter
from repo.rollups.store import Horizon
from tests.column_contents import chunk_rows, expected, query, written
from tests.events import insert
from tests.servers import as_role
from tests.source_comparison import connected

NOW = datetime.now(UTC).replace(microsecond=0)
TODAY = NOW.replace(hour=0, minute=0, second=0)
DAY = timedelta(days=1)


def fold(conn: connection) -> None:
    writer = RollupWriter(conn, [])
    while writer.step().has_more:
        pass


def test_folds_write_no_columns(conn: connection) -> None:
    insert(conn, ("ada", "open", NOW, {"n": 1}))
    fold(conn)
    assert query(conn, "select * from column_state") == []
    assert chunk_rows(conn) == []


def test_maintenance_writes_columns(conn: connection) -> None:
    insert(conn, ("ada", "open", NOW, {"n": 1}))
    fold(conn)
    store = ColumnStore([])
    assert store.maintain(conn, is_lazy=True) == 1
    assert store.maintain(conn, is_lazy=False) == 0
    assert written(conn) == expected(conn)


def test_work_that_is_not_lazy_ends_although_others_go_on_folding(conn: connection) -> None:
    store, written_chunks = ColumnStore([]), []
    for n in range(3):
        insert(conn, ("ada", "open", NOW, {"n": n}))
        fold(conn)
        written_chunks.append(store.maintain(conn, is_lazy=False))
    assert written_chunks == [1, 0, 1]


def test_catching_up_ends_when_columns_hold_all_that_is_folded(conn: connection) -> None:
    insert(conn, *(("ada", "open", NOW - n * DAY, {"n": n}) for n in range(20)))
    units: dict[str, int] = {}
    RollupWriter(conn, []).catch_up(
        lambda unit, count: units.update({unit: units.get(unit, 0) + count})
    )
    assert units["chunks"] == 2
    assert written(conn).total() == 20
    insert(conn, ("ada", "open", NOW, {"n": 21}))
    RollupWriter(conn, []).catch_up()
    assert written(conn).total() == 21


def test_the_rollup_worker_may_write_columns(conn: connection, database_url: str) -> None:
    insert(conn, *(("ada", "open", NOW - n * DAY, {"n": n}) for n in range(20)))
    with connected(as_role(database_url, "rollup")) as rollup:
        for number in range(9):
            RollupWriter(rollup, []).catch_up()
            insert(conn, (f"user {number}", "open", NOW, {"n": number}))
        EraseRepo(conn).erase("ada")
        RollupWriter(rollup, []).rebuild()
    assert query(conn, "select generation from column_state") == [(2,)]
    assert query(conn, "select * from columns_erasures") == []
    assert written(conn, 2) == expected(conn, 2)
    assert written(conn, 2).total() == 9


def test_paths_are_limited_by_a_parameter(conn: connection) -> None:
    insert(conn, ("ada", "open", NOW, {"a": 1, "b": 2, "c": 3}))
    RollupWriter(conn, [], max_paths=2).catch_up()
    assert query(conn, "select count(*) from column_paths") == [(2,)]
    assert query(conn, "select left_out from column_state") == [(True,)]


def test_an_erased_user_is_left_out_at_once(conn: connection) -> None:
    insert(conn, ("ada", "open", NOW, {"n": 1}), ("bob", "open", NOW, {"n": 2}))
    RollupWriter(conn, []).catch_up()
    ((ordinal,),) = query(conn, "select ordinal from users where user_id = 'ada'")
    receipt = EraseRepo(conn).erase("ada")
    assert receipt.columns_pending
    erased = "select columns_erasures.ordinal, erasures.erasure_id::text from columns_erasures "
    joined = "join erasures on number = erasure"
    assert query(conn, erased + joined) == [(ordinal, receipt.erasure_id)]
    assert not EraseRepo(conn).erase("nobody").columns_pending


def test_users_leave_the_chunks_during_a_backfill(
    conn: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert(conn, ("ada", "open", NOW, {"n": 1}), ("bob", "open", NOW, {"n": 2}))
    writer = RollupWriter(conn, [])
    writer.catch_up()
    EraseRepo(conn).erase("ada")
    monkeypatch.setattr(Consumer, "step", lambda *_, **__: 1)
    assert writer.write_columns() > 1
    assert query(conn, "select * from columns_erasures") == []
    assert {event[1] for event in written(conn)} == {"bob"}


@pytest.mark.parametrize(("failing", "other"), [(Consumer, Rewriter), (Rewriter, Consumer)])
def test_a_failure_does_not_stop_other_work_on_columns(
    conn: connection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failing: type,
    other: type,
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise CorruptColumn("the file is empty")

    steps = iter([1, 1, 0])
    monkeypatch.setattr(failing, "step", fail)
    monkeypatch.setattr(other, "step", lambda *_, **__: next(steps))
    store = ColumnStore([])
    assert [store.maintain(conn, is_lazy=True) for _ in range(2)] == [1, 1]
    assert [record.message for record in caplog.records] == [
        "a part of the columns cannot be maintained"
    ]
    with pytest.raises(CorruptColumn):
        store.maintain(conn, is_lazy=True)


@pytest.fixture
def retain(conn: connection, database_url: str) -> Iterator[RetainRepo]:
    with connected(database_url) as own:
        yield RetainRepo(own)


def test_events_are_not_dropped_before_columns_hold_them(
    conn: connection, retain: RetainRepo
) -> None:
    insert(conn, ("ada", "open", TODAY - DAY, {"n": 1}))
    fold(conn)
    retain.refuse_before(TODAY)
    horizon = Horizon(TODAY, TODAY)
    assert not retain.publish(horizon)
    assert retain.get().horizon is None
    RollupWriter(conn, []).flush()
    assert retain.publish(horizon)


def test_events_are_not_dropped_during_a_backfill(conn: connection, retain: RetainRepo) -> None:
    insert(conn, ("ada", "open", TODAY - DAY, {"n": 1}))
    RollupWriter(conn, []).catch_up()
    query(conn, "update column_state set backfilled_from = now() returning 1")
    retain.refuse_before(TODAY)
    assert not retain.publish(Horizon(TODAY, TODAY))


def test_newer_events_do_not_delay_the_horizon(conn: connection, retain: RetainRepo) -> None:
    insert(conn, ("ada", "open", TODAY - DAY, {"n": 1}))
    RollupWriter(conn, []).catch_up()
    insert(conn, ("ada", "open", TODAY, {"n": 2}))
    fold(conn)
    retain.refuse_before(TODAY)
    assert retain.publish(Horizon(TODAY, TODAY))


def test_columns_of_a_replaced_generation_are_deleted(conn: connection) -> None:
    insert(conn, ("ada", "open", NOW, {"n": 1}))
    writer = RollupWriter(conn, [])
    writer.catch_up()
    writer.rebuild()
    for table in ColumnStore.tables:
        text = f"select distinct generation from {table}"
        assert query(conn, text) == [(2,)], table
