"""The same question, asked of rollups and of the events in one snapshot."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection, cursor

from common.base_questions import Counting
from common.questions import ActiveUsers, EventCounts, TopEvents
from config.database import Cursor, Database, get_connection
from repo import answering
from repo.events import _source, query_of
from repo.raw import Raw
from repo.rollups import memory, reader, seal
from repo.rollups.rolled import Rolled
from repo.rollups.state import MANY
from repo.sources import Source
from utils.slots import HOUR

ANSWERS: dict[type[Counting], Any] = {
    EventCounts: answering.event_counts,
    TopEvents: answering.top_events,
    ActiveUsers: answering.active_users,
}

_ROWS_READ = """
select pg_stat_get_xact_tuples_returned('events'::regclass)
       + (select sum(pg_stat_get_xact_tuples_returned(indexrelid))
          from   pg_index
          where  indrelid = 'events'::regclass)
"""


class Asker:
    """Asks on one connection."""

    def __init__(self, database: Database) -> None:
        self._connection = get_connection(database, time.monotonic() + 600)
        self.rolled = 0
        """Answers that came from rollups."""

    @contextmanager
    def snapshot(self) -> Iterator[Cursor]:
        with self._connection.snapshot() as cur:
            yield cur

    def answer(self, question: Counting) -> Any:
        """As those who ask get it."""
        with self.snapshot() as cur:
            return answered(_source(cur, question), question, cur)

    def compare(self, question: Counting) -> Any:
        """The answer, which both must give; so must what reads very many that are not folded."""
        with self.snapshot() as cur:
            source = _source(cur, question)
            expected = answered(Raw(cur, query_of(question)), question, cur)
            if isinstance(source, Rolled):
                self.rolled += 1
                long = Rolled(cur, query_of(question), replace(source._state, waiting=MANY))
                assert answered(long, question, cur) == expected, f"{question!r}, as if many waited"
            found = answered(source, question, cur)
            assert found == expected, f"{question!r} as of {cur.as_of}"
            return found


def answered(source: Source, question: Counting, cur: Cursor) -> Any:
    asked = question.range(cur.as_of)
    return ANSWERS[type(question)](source, question, asked, cur.as_of)


@contextmanager
def asking(url: str) -> Iterator[Asker]:
    database = Database(url, size=1, waiters=0, acquire_timeout_s=1, name="asker")
    try:
        yield Asker(database)
    finally:
        database.close()


@contextmanager
def hours_kept(days: int) -> Iterator[None]:
    """Hours are sealed for so many days and not for 100, which takes as much longer."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (memory, reader, seal):
            patch.setattr(module, "HOURS_KEPT", days * 24 * HOUR)
        yield


@contextmanager
def connected(url: str) -> Iterator[connection]:
    """What it does is committed at once."""
    conn = psycopg2.connect(url)
    conn.autocommit = True
    try:
        yield conn
    finally:
        conn.close()


def rows_read(cur: cursor) -> int:
    """Entries of the indexes of events, and events that are seen, in this transaction."""
    cur.execute(_ROWS_READ)
    (count,) = cur.fetchone() or (0,)
    return int(count)
