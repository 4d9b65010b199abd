"""Questions count each event of the tail once, while processes keep the part that is folded."""

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest
from psycopg2.extensions import connection

from common.questions.event_counts import EventCounts
from config.database import Cursor, Database, get_connection
from repo.engine import folded_tail
from repo.events import EventsRepo
from repo.lifecycle.erasure import EraseRepo
from repo.rollups.rollup_writer import RollupWriter
from tests.column_contents import query
from tests.column_writer import write_columns
from tests.events import insert
from tests.source_comparison import connected, finished

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
_COUNTS = """
select count(*), count(distinct nullif(user_id, ''))
from   events
where  properties->>'plan' = 'pro'
and    occurred_at >= %s
and    occurred_at < least(%s, now())
"""


class Questions:
    """Asks for counts of a plan, and compares them with SQL."""

    def __init__(self, conn: connection, repo: EventsRepo) -> None:
        self.conn = conn
        self.repo = repo
        self.reads = 0
        """How often the tail was read, by questions or to be kept."""

    def count(self, start: datetime = NOW - 9 * DAY, end: datetime = NOW + 9 * DAY) -> int:
        question = EventCounts(start=start, end=end, where=["plan:pro"])
        data = finished(self.repo.get_event_counts(question.query)).data
        assert query(self.conn, _COUNTS, start, end) == [(data.events, data.users)]
        return data.events


@pytest.fixture
def questions(
    conn: connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Questions]:
    database = Database(database_url, size=1, waiters=0, acquire_timeout_s=1, name="columns")
    asked = Questions(conn, EventsRepo(get_connection(database, time.monotonic() + 600)))
    copy_out = Cursor.copy_out

    def counted(self: Cursor, statement: str, params: dict[str, object]) -> bytes:
        asked.reads += statement.startswith("/* column_questions_tail */")
        return copy_out(self, statement, params)

    monkeypatch.setattr(Cursor, "copy_out", counted)
    fold(conn)
    write_columns(conn)
    yield asked
    database.close()


def fold(conn: connection) -> None:
    writer = RollupWriter(conn, [])
    while writer.step().has_more:
        pass


def insert_plans(conn: connection, *users: str, age: timedelta = HOUR) -> None:
    insert(conn, *((user, "view", NOW - age, {"plan": "pro"}) for user in users))


def test_folded_events_are_read_once(conn: connection, questions: Questions) -> None:
    insert_plans(conn, "ada", "bob")
    fold(conn)
    for _ in range(3):
        assert questions.count() == 2
    assert questions.reads == 1
    insert_plans(conn, "ada", "carl")
    assert questions.count() == 4
    assert questions.count() == 4
    assert questions.reads == 3, "events that are not folded are read each time"
    fold(conn)
    for _ in range(2):
        assert questions.count() == 4
    assert questions.reads == 4
    write_columns(conn)
    assert questions.count() == 4
    assert questions.reads == 4


def test_a_kept_tail_has_events_of_all_times(conn: connection, questions: Questions) -> None:
    for days in (1, 2, 3):
        insert_plans(conn, "ada", age=days * DAY)
    insert_plans(conn, "ada", age=-DAY)
    fold(conn)
    assert questions.count(NOW - 2 * DAY, NOW) == 2
    assert questions.count(NOW - 9 * DAY, NOW - 2 * DAY) == 1
    assert questions.count() == 3
    assert questions.reads == 1


def test_an_erased_user_leaves_the_kept_tail(conn: connection, questions: Questions) -> None:
    insert_plans(conn, "ada", "bob")
    fold(conn)
    assert questions.count() == 2
    EraseRepo(conn).erase("ada")
    query(conn, "delete from columns_erasures returning 1")  # as after rewriting chunks
    assert questions.count() == 1


def test_dropped_events_leave_the_kept_tail(conn: connection, questions: Questions) -> None:
    insert_plans(conn, "ada", age=5 * DAY)
    insert_plans(conn, "ada")
    fold(conn)
    assert questions.count() == 2
    midnight = (NOW - 3 * DAY).replace(hour=0, minute=0, second=0)
    query(
        conn, "insert into retention (takes_from, horizon) values (%s, %s) returning 1",
        midnight, midnight,
    )  # fmt: skip
    question = EventCounts(start=NOW - 9 * DAY, end=NOW, where=["plan:pro"])
    assert finished(questions.repo.get_event_counts(question.query)).data.events == 1


@pytest.mark.parametrize("limit", [{"MAX_EVENTS": 2}, {"MAX_BYTES": 40}])
def test_a_long_tail_is_not_kept(
    conn: connection,
    questions: Questions,
    monkeypatch: pytest.MonkeyPatch,
    limit: dict[str, int],
) -> None:
    for name, value in limit.items():
        monkeypatch.setattr(folded_tail, name, value)
    for number in range(4):
        insert_plans(conn, "ada", "bob")
        fold(conn)
        assert questions.count() == 2 * number + 2
        assert questions.count() == 2 * number + 2
    assert questions.reads > 4


def test_a_user_without_an_ordinal_is_one_user(conn: connection, questions: Questions) -> None:
    """As of future events that an older version has folded."""
    insert_plans(conn, "ada", age=-DAY)
    insert_plans(conn, "ada", "bob")
    fold(conn)
    query(conn, "delete from users where user_id = 'ada' returning 1")
    for _ in range(2):
        assert questions.count() == 2
    assert questions.reads == 3


@pytest.mark.parametrize("seed", range(3))
def test_counts_agree_whatever_happens(
    conn: connection, database_url: str, questions: Questions, seed: int
) -> None:
    with ExitStack() as stack:
        writers = [stack.enter_context(connected(database_url)) for _ in range(2)]
        for writer in writers:
            writer.autocommit = False
        rng = random.Random(seed)

        def add() -> None:
            users = rng.choices(
                ["", "ada", "bob", f"user {rng.randrange(9)}"], k=rng.choice((1, 5))
            )
            insert_plans(rng.choice([conn, *writers]), *users, age=rng.choice((-30, 1, 50)) * HOUR)

        def end() -> None:
            writer = rng.choice(writers)
            rng.choice((writer.commit, writer.rollback))()

        def erase() -> None:
            for writer in writers:
                writer.commit()
            EraseRepo(conn).erase(rng.choice(["ada", "bob"]))

        steps = [add, add, add, end, lambda: fold(conn), lambda: fold(conn), erase]
        for number in range(60):
            rng.choice(steps)()
            if number % 13 == 12:
                fold(conn)
                write_columns(conn)
            questions.count()
            questions.count(NOW - DAY, NOW)
