"""Statements whose plans sessions keep, and those that are a snapshot by themselves."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from psycopg2.extensions import connection

from common.questions import EventCounts, UserEvents
from config.database import Database, get_connection
from config.failures import DeadlineExceeded
from repo.events import EventsRepo
from repo.rollups.folder import Folder
from tests.events import insert
from utils.kept import kept
from utils.zones import zone

NOON = datetime(2026, 3, 20, 12, tzinfo=UTC)
HISTORY = UserEvents(user_id="u")
COUNTS = EventCounts(start=NOON, end=datetime(2026, 3, 21, tzinfo=UTC))


@pytest.fixture
def database(database_url: str, conn: connection) -> Iterator[Database]:
    """One connection, so that it is known which."""
    insert(conn, ("u", "view", NOON), ("v", "view", NOON))
    Folder(conn, [zone("UTC")]).catch_up()
    opened = Database(database_url, size=1, waiters=0, acquire_timeout_s=1, name="kept")
    yield opened
    opened.close()


def repo(database: Database, within_s: float = 10) -> EventsRepo:
    return EventsRepo(get_connection(database, time.monotonic() + within_s))


def in_session(database: Database, text: str) -> list[Any]:
    conn = database.pool.getconn()
    with conn.cursor() as cur:
        cur.execute(text)
        found = cur.fetchall() if cur.description else []
    database.pool.putconn(conn)
    return found


def names(database: Database) -> list[str]:
    rows = in_session(database, "select name from pg_prepared_statements order by name")
    return [name.rpartition("_")[0] for (name,) in rows]


def answers(database: Database) -> tuple[int, int]:
    """Events of a history and of a count."""
    counted = repo(database).get_event_counts(COUNTS)
    assert counted.meta.source == "rollups"
    return len(repo(database).get_user_events(HISTORY).data), counted.data.events


def test_the_three_forms_say_the_same() -> None:
    made = kept("/* some */ select %(b)s::int, 100 %% %(a)s::int, %(b)s")
    assert made.preparing == f"prepare {made.name} as /* some */ select $1::int, 100 % $2::int, $1"
    assert made.calling == f"/* some */ execute {made.name} (%(b)s, %(a)s)"
    assert made.name.startswith("some_")
    assert kept("/* some */ select 1").name != made.name


def test_a_session_plans_once(database: Database) -> None:
    for _ in range(8):
        assert answers(database) == (1, 2)
    assert names(database) == ["rollups_state", "user_events_first"]
    ((generic,),) = in_session(
        database, "select sum(generic_plans) from pg_prepared_statements where generic_plans > 0"
    )
    assert generic >= 4


@pytest.mark.parametrize("_", range(2))
def test_a_session_that_forgets_is_no_error(database: Database, _: int) -> None:
    """As behind a pooler, where each transaction may have another session."""
    assert answers(database) == (1, 2)
    in_session(database, "deallocate all")
    assert answers(database) == (1, 2)
    assert names(database) == []
    assert answers(database) == (1, 2)


def test_a_session_that_knows_it_already_is_no_error(database: Database) -> None:
    assert answers(database) == (1, 2)
    held = database.pool.getconn()
    held.session.names.clear()
    database.pool.putconn(held)
    assert answers(database) == (1, 2)


def test_the_first_question_of_a_connection_learns_whether_it_is_a_replica(
    database: Database,
) -> None:
    first = repo(database).get_user_events(HISTORY).meta
    second = repo(database).get_user_events(HISTORY).meta
    assert first.computed_at < second.computed_at
    with get_connection(database, time.monotonic() + 10).statement() as cur:
        assert cur.is_alone
        cur.execute("select now(), current_setting('transaction_read_only')")
        assert (cur.fetchone() or ())[1] == "on"
    assert in_session(database, "select current_setting('statement_timeout')") == [("1min",)]


def test_a_statement_alone_ends_with_the_deadline(database: Database) -> None:
    repo(database).get_user_events(HISTORY)
    began = time.monotonic()
    with (
        pytest.raises(DeadlineExceeded),
        get_connection(database, began + 0.3).statement() as cur,
    ):
        cur.execute("select pg_sleep(20)")
    assert time.monotonic() - began < 2
    assert len(repo(database).get_user_events(HISTORY).data) == 1
