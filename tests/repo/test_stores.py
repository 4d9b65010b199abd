"""Whoever writes, erases, drops or rebuilds reaches all stores, and all of their tables."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg2.extensions import connection

from config.database import Cursor
from repo.lifecycle.erasure import EraseRepo
from repo.lifecycle.retention import RetainRepo
from repo.rollups import stores
from repo.rollups.fold import begin, snapshot_locked
from repo.rollups.rollup_writer import RollupWriter
from repo.rollups.store import Horizon, Store, StoreBehind
from repo.rollups.stores import FROM_EVENTS, FROM_ROLLUPS, Stores, delete_generations
from repo.rollups.subtract_user import ErasedUser
from tests.events import insert
from utils.time.slots import slot_of

NOW = datetime.now(UTC)
TODAY = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
DAY = timedelta(days=1)
NOT_STORES = {
    # What stores are derived from, and how far they are. `ahead` is the old name of future_events.
    *("events", "users", "event_names", "fold_state", "future_events", "ahead", "retention"),
    # What outlasts erasures on purpose.
    *("erasures", "erased_ordinals", "suppressed_users", "installation", "schema_migrations"),
    # What names no user.
    *("month_versions", "metrics_outbox", "refused_events", "event_checks", "api_keys"),
    *("adopted_tables", "adopted_parts", "rejected_rows", "columns_erasures"),
}


def column(conn: connection, text: str, *values: object) -> set[Any]:
    with conn.cursor() as cur:
        cur.execute(text, values)
        return {value for (value,) in cur}


def test_each_table_belongs_to_a_store_or_to_none(conn: connection) -> None:
    tables = column(
        conn,
        "select table_name::text from information_schema.tables "
        "where table_schema = current_schema() and table_type = 'BASE TABLE'",
    )
    of_stores = {table for store in (*FROM_EVENTS, *FROM_ROLLUPS) for table in store.tables}
    assert tables == of_stores | NOT_STORES, "a new table belongs to a store, or is listed here"
    assert not of_stores & NOT_STORES


def test_rows_of_a_generation_are_those_of_stores_from_events(conn: connection) -> None:
    tables = column(
        conn,
        "select table_name::text from information_schema.columns join information_schema.tables "
        "using (table_schema, table_name) where table_schema = current_schema() "
        "and column_name = 'generation' and table_type = 'BASE TABLE'",
    )
    of_stores = {table for store in FROM_EVENTS for table in store.tables}
    assert tables == of_stores | {"fold_state", "future_events", "ahead"}


def test_all_rows_of_a_generation_are_deleted(conn: connection) -> None:
    insert(conn, ("u", "view", NOW - DAY), ("u", "view", NOW + DAY))
    RollupWriter(conn, []).catch_up()
    with conn.cursor() as cur:
        for table in ("slots", "spans", "sealed_spans", "future_events"):
            delete_generations(cur, [])
            cur.execute(f"select distinct generation from {table}")
            assert cur.fetchall() == [(1,)]
            delete_generations(cur, [2])
        delete_generations(cur, [1, 2])
        for table in ("slots", "spans", "sealed_spans", "future_events"):
            cur.execute(f"select from {table}")
            assert cur.fetchall() == []


class Recorder:
    """Records the calls of a store that is only in the registry."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.is_behind = False

    def store(self) -> type[Store]:
        def recording(method: str, result: object) -> Callable[..., Any]:
            def call(_: Store, first: Any, *rest: Any, **more: Any) -> Any:
                self.calls.append((method, (*rest, *more.values())))
                if method == "drop_before" and self.is_behind:
                    raise StoreBehind
                return result

            return call

        results = {"apply": None, "seal": 0, "erase": 1, "drop_before": None, "rebuild": None}
        members = {method: recording(method, result) for method, result in results.items()}
        members["maintain"] = recording("maintain", 0)
        return type("Recorded", (Store,), {**members, "name": "r", "unit": "r", "tables": ()})

    def taken(self) -> list[str]:
        methods = [method for method, _ in self.calls]
        self.calls.clear()
        return methods


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(stores, "FROM_EVENTS", [*FROM_EVENTS, recorder.store()])
    return recorder


def test_a_fold_reaches_each_store(conn: connection, recorder: Recorder) -> None:
    writer = RollupWriter(conn, [])
    writer.step()
    assert recorder.taken() == ["rebuild", "seal"]
    insert(conn, ("u", "view", NOW))
    writer.step()
    (_, (progress, batch)), _ = recorder.calls
    assert (progress.generation, len(batch), batch.slots) == (1, 1, {slot_of(NOW)})
    assert recorder.taken() == ["apply", "seal"]
    writer.rebuild()
    assert recorder.taken()[:3] == ["rebuild", "seal", "apply"]


def test_maintenance_reaches_each_store(conn: connection, recorder: Recorder) -> None:
    writer = RollupWriter(conn, [])
    writer.catch_up()
    assert recorder.calls[-1] == ("maintain", (False,))
    writer.maintain()
    assert recorder.calls[-1] == ("maintain", (True,))
    assert not writer.flush()
    assert recorder.calls[-1] == ("maintain", (False,))


def test_a_store_that_fails_does_not_stop_the_maintenance_of_others(
    conn: connection, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> int:
        raise ValueError("a broken store")

    writer = RollupWriter(conn, [])
    writer.catch_up()
    recorder.taken()
    monkeypatch.setattr(FROM_EVENTS[0], "maintain", fail)
    with pytest.raises(ValueError, match="a broken store"):
        writer.maintain()
    assert recorder.taken() == ["maintain"]


def test_an_erasure_reaches_each_store(conn: connection, recorder: Recorder) -> None:
    for user_id in "uv":
        insert(conn, (user_id, "view", NOW))
        RollupWriter(conn, []).catch_up()
    recorder.taken()
    EraseRepo(conn).erase("u")
    ((method, (user,)),) = recorder.calls
    assert method == "erase"
    assert isinstance(user, ErasedUser)
    assert (user.ordinal, user.changed_slots) == (1, {slot_of(NOW)})


def test_retention_reaches_each_store(conn: connection, recorder: Recorder) -> None:
    insert(conn, ("u", "view", NOW))
    RollupWriter(conn, []).catch_up()
    recorder.taken()
    repo = RetainRepo(conn)
    repo.refuse_before(TODAY)
    recorder.is_behind = True
    horizon = Horizon(TODAY, None)
    assert not repo.publish(horizon)
    assert repo.get().horizon is None
    recorder.is_behind = False
    assert repo.publish(horizon)
    assert repo.get().horizon == TODAY
    assert recorder.calls == [("drop_before", (horizon,))] * 2


def test_a_rebuild_begins_with_stores_from_events(conn: connection, recorder: Recorder) -> None:
    with snapshot_locked(conn) as cur:
        assert isinstance(cur, Cursor)
        begin(cur, Stores().from_events)
    assert recorder.taken() == ["rebuild"]
