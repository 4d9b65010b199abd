"""Questions about aggregates are answered from columns under a filter, in chunks and their tail."""

from datetime import UTC, date, datetime, timedelta

from psycopg2.extensions import connection

from common.questions.active_users import ActiveUsers
from common.questions.top_events import TopEvents
from tests.column_writer import write_columns
from tests.events import fold, insert
from tests.source_comparison import Asker

NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)
RANGE = {"start": "2025-03-10", "end": "2025-03-12"}


def put(conn: connection, *events: tuple[str, str, datetime, str]) -> None:
    """Insert events: user, name, time, plan."""
    insert(conn, *((*event, {"plan": plan}) for *event, plan in events))


def store_half(conn: connection, database_url: str) -> None:
    """Write some events to chunks of two events, and leave others in the tail."""
    put(
        conn,
        ("u1", "view", NOON, "pro"),
        ("u1", "click", NOON, "pro"),
        ("u2", "view", NOON, "free"),
        ("u2", "view", NOON + timedelta(days=1), "pro"),
    )
    fold(database_url)
    write_columns(conn, 2)
    put(
        conn,
        ("u3", "click", NOON + timedelta(hours=1), "pro"),
        ("u3", "buy", NOON + timedelta(hours=1), "pro"),
        ("u1", "buy", NOON + timedelta(hours=1), "free"),
    )


def test_top_events_under_a_filter(conn: connection, asker: Asker, database_url: str) -> None:
    store_half(conn, database_url)
    answer = asker.answer(TopEvents(**RANGE, where=("plan:pro",), limit=2))
    assert (answer.events, answer.users) == (5, 3)
    rows = [(row.event_name, row.events, row.users, row.share) for row in answer.rows]
    assert rows == [("click", 2, 2, 0.4), ("view", 2, 2, 0.4)]
    other = answer.other
    assert (other.event_names, other.events, other.users, other.share) == (1, 1, 1, 0.2)


def test_active_users_under_a_filter(conn: connection, asker: Asker, database_url: str) -> None:
    store_half(conn, database_url)
    answer = asker.answer(ActiveUsers(**RANGE, where=("plan:pro",)))
    days = [(day.date, day.dau, day.wau, day.calendar_week) for day in answer.series]
    assert days == [(date(2025, 3, 10), 2, 2, 2), (date(2025, 3, 11), 1, 3, 3)]
