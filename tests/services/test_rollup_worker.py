"""The rollup worker writes events to columns as it folds them."""

import threading
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from psycopg2.extensions import connection

from services.background import rollup_worker
from services.background.rollup_worker import _PeriodicTask, _repeat, fold_forever
from tests.column_contents import expected, query, written
from tests.events import insert
from tests.wait_until import wait_until

NOW = datetime.now(UTC)


class Stopped(BaseException):
    """The test is over."""


def test_events_reach_columns_while_the_worker_runs(conn: connection, database_url: str) -> None:
    is_over = threading.Event()

    def check_reserve() -> None:
        if is_over.is_set():
            raise Stopped

    def fold() -> None:
        with pytest.raises(Stopped):
            fold_forever(database_url, [ZoneInfo("UTC")], (), check_reserve)

    insert(conn, *(("u", "view", NOW - timedelta(hours=n), {"n": n}) for n in range(30)))
    folding = threading.Thread(target=fold)
    folding.start()
    try:
        events = "select coalesce(sum(events), 0) from column_chunks"
        wait_until(lambda: query(conn, events) == [(30,)], timeout_s=60)
    finally:
        is_over.set()
        folding.join(30)
    assert written(conn) == expected(conn)


def test_steps_are_repeated_until_there_is_nothing_to_do() -> None:
    results = [3, 1, 0, 9]
    assert not _repeat(lambda: results.pop(0))
    assert results == [9]


def test_steps_end_after_some_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollup_worker, "_MAINTAIN_BUDGET_S", 0)
    results = [3, 1, 0]
    assert _repeat(lambda: results.pop(0))
    assert results == [1, 0]


def test_a_task_with_more_to_do_is_due_at_once() -> None:
    results = [True, False, None]
    task = _PeriodicTask("do something", 1e6, lambda: results.pop(0))
    task.run_if_due()
    assert len(results) == 3
    task.has_more = True
    task.run_if_due()
    task.run_if_due()
    task.run_if_due()
    assert results == [None]
    assert not task.has_more
