"""Who a statement is about is not shown with it."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection

from common.questions.user_events import UserEvents
from config.database import Database, get_connection
from repo.events import EventsRepo
from repo.hide_from_pg_stat_activity import Hidden
from repo.lifecycle.erasure import EraseRepo
from repo.lifecycle.suppression import SuppressionRepo
from tests.events import insert

NOON = datetime(2026, 3, 20, 12, tzinfo=UTC)
WHO = "frodo of bag end, o'neill"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url, size=1, waiters=5, acquire_timeout_s=5, name="shown")
    yield opened
    opened.close()


def displayed(conn: connection) -> str:
    """What is shown of the statements of all sessions but this one."""
    with conn.cursor() as cur:
        cur.execute("select query from pg_stat_activity where pid <> pg_backend_pid()")
        return str(cur.fetchall())


def ask(database: Database, **more: Any) -> Any:
    repo = EventsRepo(get_connection(database, time.monotonic() + 10))
    return repo.get_user_events(UserEvents(user_id=WHO, limit=2, **more).query)


def test_a_session_does_not_show_whose_history_was_asked_for(
    database: Database, conn: connection
) -> None:
    insert(conn, *((WHO, "view", NOON + timedelta(hours=n)) for n in range(6)))
    first = ask(database)
    assert "bag end" not in displayed(conn)
    first = ask(database)
    assert ("user_events_first" in displayed(conn), "bag end" in displayed(conn)) == (True, False)
    older = ask(database, cursor=first.meta.next_cursor)
    assert len(older.data) == 2
    assert ("user_events_older" in displayed(conn), "bag end" in displayed(conn)) == (True, False)
    newer = ask(database, cursor=older.meta.previous_cursor)
    assert newer.data == first.data
    assert ("user_events_newer" in displayed(conn), "bag end" in displayed(conn)) == (True, False)
    assert len(ask(database, start="2026-03-20", end="2026-03-21").data) == 2
    assert "bag end" not in displayed(conn)
    ask(database, last="30d")
    assert "bag end" not in displayed(conn)


def test_nor_does_it_while_the_statement_runs(database: Database, conn: connection) -> None:
    insert(conn, (WHO, "view", NOON))
    ask(database)
    conn.cursor().execute("begin; lock table retention in access exclusive mode")
    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(ask, database)
        time.sleep(0.3)
        with conn.cursor() as cur:
            cur.execute(
                "select query from pg_stat_activity where wait_event_type = 'Lock' "
                "and datname = current_database()"
            )
            held_up = str(cur.fetchall())
        conn.cursor().execute("commit")
        asking.exception()
    assert ("user_events" in held_up, "bag end" in held_up) == (True, False)


def test_an_erasure_does_not_show_of_whom(
    database_url: str, conn: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each of its statements; the last one stays as long as the session does."""
    insert(conn, (WHO, "view", NOON))
    erasing = psycopg2.connect(database_url)
    erasing.autocommit = True
    monkeypatch.setattr("repo.lifecycle.erasure.SQL", Watched("repo.lifecycle.erasure.SQL", conn))
    assert EraseRepo(erasing).count([WHO, "sam"]) == 1
    assert "bag end" not in displayed(conn)
    SuppressionRepo(erasing).add([WHO], 5)
    assert EraseRepo(erasing).erase(WHO).events == 1
    assert "bag end" not in displayed(conn)
    erasing.close()


class Watched(dict[str, str]):
    """The statements of a module; whoever takes one sees what is shown of the one before."""

    def __init__(self, name: str, conn: connection) -> None:
        from repo.lifecycle.erasure import SQL

        super().__init__(SQL)
        self._conn = conn

    def __getitem__(self, name: str) -> str:
        assert "bag end" not in displayed(self._conn)
        return super().__getitem__(name)


@pytest.mark.parametrize("value", ["o'neill", "", ["a", "b'c"], b"\0\xff", 7])
def test_a_hidden_value_is_the_same_value(conn: connection, value: Any) -> None:
    with conn.cursor() as cur:
        cur.execute("select %s", (Hidden(value),))
        (stored_value,) = cur.fetchone() or ()
    assert (bytes(stored_value) if isinstance(value, bytes) else stored_value) == value
