"""Events of one user at one instant are ordered by their ids, whichever chunks they are in."""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg2.extensions import connection
from psycopg2.extras import Json, execute_values

from common.errors import TooExpensive
from common.questions.answer import MoreToRead, Reading
from common.questions.funnel import Funnel
from common.questions.retention import Retention
from config.database import Database, get_connection
from repo.columns import column_tail
from repo.events import EventsRepo
from tests.column_contents import query
from tests.factories import ID
from tests.source_comparison import finished, no_checkpoint
from tests.written_columns import consume, fold

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
OLD = datetime(2025, 3, 10, 12, tzinfo=UTC)

Row = tuple[int, str, dict[str, Any]]
"""The number of the id, the name and the properties of an event."""
Step = Callable[[connection], None]

PRO, FREE = {"plan": "pro"}, {"plan": "free"}


def insert(conn: connection, at: datetime, *rows: Row, user: str = "ada") -> None:
    records = [(ID.format(number), user, name, at, Json(more)) for number, name, more in rows]
    statement = "insert into events (event_id, user_id, event_name, occurred_at, properties) "
    with conn.cursor() as cur:
        execute_values(cur, statement + "values %s", records)


def write(conn: connection) -> None:
    fold(conn)
    consume(conn)


def leave(conn: connection) -> None:
    """Leave new events in the tail that is not folded."""


STATES: dict[str, Sequence[Step]] = {
    "two chunks": [write, write],
    "a chunk and the folded tail": [write, fold],
    "a chunk and the tail": [write, leave],
    "the tail": [fold, leave],
}


@pytest.fixture
def repo(database_url: str) -> Iterator[EventsRepo]:
    database = Database(database_url, size=1, waiters=0, acquire_timeout_s=1, name="ties")
    yield EventsRepo(get_connection(database, time.monotonic() + 600))
    database.close()


def store(conn: connection, state: str, at: datetime, later: Row, earlier: Row) -> None:
    """Store an event, and then one at the same instant whose id comes before."""
    assert later[0] > earlier[0]
    for row, step in zip((later, earlier), STATES[state], strict=True):
        insert(conn, at, row)
        step(conn)


def reached(repo: EventsRepo, at: datetime, *steps: str, **others: Any) -> list[int]:
    question = Funnel(start=at - DAY, end=at + DAY, step=steps, **others)
    data = finished(repo.get_funnel(question.query), repo).data
    return [step.users for step in data.steps]


@pytest.mark.parametrize("order", ["sequence", "strict"])
@pytest.mark.parametrize("at", [NOW - HOUR, OLD])
@pytest.mark.parametrize("state", STATES)
def test_steps_of_one_instant(
    conn: connection, repo: EventsRepo, state: str, at: datetime, order: str
) -> None:
    store(conn, state, at, (2, "view", PRO), (1, "view", FREE))
    assert reached(repo, at, "view", "view plan:pro", order=order) == [1, 1]
    assert reached(repo, at, "view", "view plan:free", order=order) == [1, 0]


@pytest.mark.parametrize("state", STATES)
def test_the_value_of_the_first_event_of_a_chain(
    conn: connection, repo: EventsRepo, state: str
) -> None:
    store(conn, state, OLD, (2, "view", PRO), (1, "view", FREE))
    insert(conn, OLD + HOUR, (3, "buy", {}))
    steps = ["view", "buy"]
    question = Funnel(start=OLD - DAY, end=OLD + DAY, step=steps, by="plan")
    (row,) = finished(repo.get_funnel(question.query), repo).data.rows
    assert (row.value, row.entered, row.converted) == ("free", 1, 1)


@pytest.mark.parametrize("entry", ["first_ever", "first_in_range", "each"])
@pytest.mark.parametrize("state", STATES)
def test_the_value_of_an_entry(conn: connection, repo: EventsRepo, state: str, entry: str) -> None:
    store(conn, state, OLD, (2, "view", PRO), (1, "view", FREE))
    more: dict[str, Any] = {"from": "view", "by": "plan", "entry": entry}
    question = Retention(start=OLD - DAY, end=OLD + DAY, interval="day", periods=1, **more)
    (row,) = finished(repo.get_retention(question.query), repo).data.rows
    assert (row.value, row.users) == ("free", 1)


@pytest.mark.parametrize("entry", ["first_in_range", "each"])
@pytest.mark.parametrize("state", STATES)
def test_an_entry_that_does_not_count_as_a_return(
    conn: connection, repo: EventsRepo, state: str, entry: str
) -> None:
    """The window begins with the entry, and the other event at this instant is in it."""
    store(conn, state, OLD, (2, "both", {}), (1, "enter", {}))
    names: dict[str, Any] = {"from": "enter,both", "to": "both", "entry": entry, "clock": "24h"}
    question = Retention(start=OLD - DAY, end=OLD + DAY, interval="day", periods=1, **names)
    (cell,) = finished(repo.get_retention(question.query), repo).data.total
    assert (cell.users, cell.of) == (1, 1)


def test_events_of_the_instant_that_are_stored_meanwhile_do_not_count(
    conn: connection, repo: EventsRepo
) -> None:
    store(conn, "two chunks", OLD, (3, "view", FREE), (2, "view", PRO))
    steps = ["view", "view plan:pro"]
    question = Funnel(start=OLD - DAY, end=OLD + DAY, step=steps)
    reading = repo.get_funnel(question.query)
    assert isinstance(reading, Reading)
    more = reading.evaluate(no_checkpoint)
    assert isinstance(more, MoreToRead)
    insert(conn, OLD, (1, "view", FREE), (4, "view", PRO))
    write(conn)
    data = finished(repo.read_more(more), repo).data
    assert [step.users for step in data.steps] == [1, 0]
    assert reached(repo, OLD, *steps) == [1, 1]


def test_chunks_are_in_their_own_order_where_the_events_were_dropped(
    conn: connection, repo: EventsRepo
) -> None:
    store(conn, "two chunks", OLD, (2, "view", PRO), (1, "view", FREE))
    query(conn, "begin; set local analytics.reason = 'retain'; delete from events; select 1")
    query(conn, "commit; select 1")
    assert reached(repo, OLD, "view", "view plan:pro") == [1, 0]


def test_nothing_is_read_again_where_the_order_does_not_matter(
    conn: connection, repo: EventsRepo
) -> None:
    store(conn, "two chunks", OLD, (2, "view", PRO), (1, "view", FREE))
    for steps in (["view", "buy"], ["view plan:pro", "view plan:free"], ["buy", "view"]):
        question = Funnel(start=OLD - DAY, end=OLD + DAY, step=steps)
        reading = repo.get_funnel(question.query)
        assert isinstance(reading, Reading)
        assert not isinstance(reading.evaluate(no_checkpoint), MoreToRead)


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("MAX_TIES", "1 pairs of a user and an instant with events in several chunks"),
        ("MAX_EVENTS", "1 events, or 64 MB of properties, of the same users and instants"),
        ("MAX_BYTES", "0 events, or 64 MB of properties, of the same users and instants"),
    ],
)
def test_too_many_ties_are_refused(
    conn: connection, repo: EventsRepo, monkeypatch: pytest.MonkeyPatch, limit: str, message: str
) -> None:
    store(conn, "two chunks", OLD, (2, "view", PRO), (1, "view", FREE))
    monkeypatch.setattr(column_tail, limit, 0)
    with pytest.raises(TooExpensive, match=message):
        reached(repo, OLD, "view", "view plan:pro")
