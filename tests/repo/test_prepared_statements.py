"""Statements whose plans sessions keep, and those that are a snapshot by themselves."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from psycopg2.extensions import connection
from psycopg2.sql import SQL, Literal

from common.questions.event_counts import EventCounts
from common.questions.user_events import UserEvents
from config.database import Database, get_connection
from config.database_errors import DeadlineExceeded, SerializationFailure
from repo.events import EventsRepo
from repo.rollups.rollup_writer import RollupWriter
from tests.events import insert
from tests.source_comparison import finished
from tests.wait_until import adjusted_for_load
from utils import postgres, tracing
from utils.postgres import PooledConnection, execute_command, prepare_command
from utils.prepared_statements import prepared_statement
from utils.session_options import statement_name
from utils.time.zones import zone

NOON = datetime(2026, 3, 20, 12, tzinfo=UTC)
PREPARED = "select prepare_time from pg_prepared_statements order by name"
HISTORY = UserEvents(user_id="u")
COUNTS = EventCounts(start=NOON, end=datetime(2026, 3, 21, tzinfo=UTC))


@pytest.fixture
def database(database_url: str, conn: connection) -> Iterator[Database]:
    """One connection, so that it is known which."""
    insert(conn, ("u", "view", NOON), ("v", "view", NOON))
    RollupWriter(conn, [zone("UTC")]).catch_up()
    opened = Database(database_url, size=1, waiters=0, acquire_timeout_s=1, name="kept")
    yield opened
    opened.close()


def repo(database: Database, timeout_s: float = 10) -> EventsRepo:
    return EventsRepo(get_connection(database, time.monotonic() + timeout_s))


@contextmanager
def lent(database: Database) -> Iterator[PooledConnection]:
    conn = database.pool.getconn()
    yield conn
    database.pool.putconn(conn)


def in_session(database: Database, text: str) -> list[Any]:
    with lent(database) as conn, conn.cursor() as cur:
        cur.execute(text)
        return cur.fetchall()


def names(database: Database) -> list[str]:
    rows = in_session(database, "select name from pg_prepared_statements order by name")
    return [name.rpartition("_")[0] for (name,) in rows]


def history(database: Database) -> int:
    return len(repo(database).get_user_events(HISTORY.query).data)


def counts(database: Database) -> int:
    counted = finished(repo(database).get_event_counts(COUNTS.query))
    assert counted.meta.source == "rollups"
    return counted.data.events


def answers(database: Database) -> tuple[int, int]:
    return history(database), counts(database)


Break = Callable[[PooledConnection], None]


def _forgets(conn: PooledConnection) -> None:
    conn.cursor().execute("deallocate all")


def _is_prepared(conn: PooledConnection) -> None:
    conn.prepared_at.clear()


def test_the_three_forms_say_the_same(conn: connection) -> None:
    made = prepared_statement("/* some */ select %(b)s::int, 100 %% %(a)s::int, %(b)s")
    prepare = f'prepare "{made.name}" as /* some */ select $1::int, 100 % $2::int, $1'
    assert prepare_command(made).as_string(conn) == prepare
    again = prepare_command(made, is_prepared=True).as_string(conn)
    assert again == f'deallocate "{made.name}"; {prepare}'
    execute = execute_command(made).as_string(conn)
    assert execute == f'/* some */ execute "{made.name}" (%(b)s, %(a)s)'
    assert made.name.startswith("some_")
    assert prepared_statement("/* some */ select 1").name != made.name


def test_a_session_plans_once(database: Database) -> None:
    for _ in range(8):
        assert answers(database) == (1, 2)
    assert names(database) == ["rollups_state", "user_events_first"]
    ((generic,),) = in_session(
        database, "select sum(generic_plans) from pg_prepared_statements where generic_plans > 0"
    )
    assert generic >= 4


@pytest.mark.parametrize("ask", [history, counts], ids=["alone", "in a snapshot"])
@pytest.mark.parametrize("spoil", [_forgets, _is_prepared], ids=["forgets", "knows"])
def test_a_strange_session_is_no_error(
    database: Database,
    ask: Callable[[Database], int],
    spoil: Break,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As behind a pooler, where each transaction may have another one."""
    expected = ask(database), ask(database)
    with lent(database) as conn:
        spoil(conn)
    assert (ask(database), ask(database)) == expected
    assert caplog.messages == [
        "a connection pooler changes the session for each transaction: statements are not prepared"
    ]
    assert not database.pool._sessions.is_direct


def test_plans_are_made_anew_for_tables_that_grow(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of an empty table read all of it."""
    assert answers(database) == (1, 2)
    before = in_session(database, PREPARED)
    assert answers(database) == (1, 2)
    assert in_session(database, PREPARED) == before
    monkeypatch.setattr(postgres, "_PLAN_LIFETIME_S", 0)
    assert answers(database) == (1, 2)
    assert all(new > old for new, old in zip(in_session(database, PREPARED), before, strict=True))


def test_the_first_question_of_a_connection_learns_whether_it_is_a_replica(
    database: Database,
) -> None:
    first = repo(database).get_user_events(HISTORY.query).meta
    second = repo(database).get_user_events(HISTORY.query).meta
    assert first.computed_at < second.computed_at
    with get_connection(database, time.monotonic() + 10).statement() as cur:
        assert cur.prefix
        cur.execute("select now(), current_setting('transaction_read_only')")
        now, is_read_only = cur.fetchone() or ()
        cur.set_snapshot_time(now, is_replica=False)
        assert (cur.now, is_read_only) == (now, "on")
    assert in_session(database, "select current_setting('statement_timeout')") == [("1min",)]


def test_a_statement_alone_ends_with_the_deadline(database: Database) -> None:
    repo(database).get_user_events(HISTORY.query)
    began = time.monotonic()
    with (
        pytest.raises(DeadlineExceeded),
        get_connection(database, began + 0.3).statement() as cur,
    ):
        cur.execute("select pg_sleep(20)")
    assert time.monotonic() - began < adjusted_for_load(2)
    assert len(repo(database).get_user_events(HISTORY.query).data) == 1


def test_a_session_that_is_a_replica_by_now_is_asked_as_one(database: Database) -> None:
    """Behind a pooler, after a failover."""
    assert history(database) == 1
    with (
        pytest.raises(SerializationFailure),
        get_connection(database, time.monotonic() + 10).statement() as cur,
    ):
        cur.set_snapshot_time(NOON, is_replica=True)
    with get_connection(database, time.monotonic() + 10).statement() as cur:
        assert not cur.prefix
        assert cur.now > NOON


def test_composed_statements_have_their_name_in_traces(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a transaction, and as a transaction by themselves, which has SQL before them."""
    spans: list[str] = []

    def statement_span(text: str) -> AbstractContextManager[None]:
        spans.append(statement_name(text))
        return nullcontext()

    one = SQL("/* one */ select {} || %s").format(Literal("1"))
    copy = SQL("/* copied */ copy (select {}) to stdout").format(Literal("it's"))
    repo(database).get_user_events(HISTORY.query)
    deadline = time.monotonic() + 10
    monkeypatch.setattr(tracing, "statement_span", statement_span)
    with get_connection(database, deadline).statement() as cur:
        assert cur.prefix
        cur.execute(one, ("!",))
        assert cur.fetchone() == ("1!",)
    assert spans == ["one"]
    with get_connection(database, deadline).snapshot() as cur:
        cur.execute(cur.mogrify(one, ("?",)))
        assert cur.fetchone() == ("1?",)
        cur.copy_expert(copy, copied := StringIO())
        assert copied.getvalue() == "it's\n"
    assert spans == ["one", "sql", "one", "copied", "sql"]
