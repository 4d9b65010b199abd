"""Compares the answers of rollups and of raw events in one snapshot."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection, cursor

from common.questions.active_users import ActiveUsers
from common.questions.base import Counting
from common.questions.event_counts import EventCounts
from common.questions.top_events import TopEvents
from config.database import Cursor, Database, get_connection
from repo.engine import rollup_reader, span_cache
from repo.engine.raw_source import RawSource
from repo.engine.rollup_source import RollupSource
from repo.engine.source import Source
from repo.engine.watermark import LONG_TAIL_EVENTS
from repo.events import _source, query_of
from repo.queries.active_users import active_users
from repo.queries.event_counts import event_counts
from repo.queries.top_events import top_events
from repo.rollups import seal
from utils.time.slots import HOUR

ANSWERS: dict[type[Counting], Any] = {
    EventCounts: event_counts,
    TopEvents: top_events,
    ActiveUsers: active_users,
}

_ROWS_READ = """
select pg_stat_get_xact_tuples_returned('events'::regclass)
       + (select sum(pg_stat_get_xact_tuples_returned(indexrelid))
          from   pg_index
          where  indrelid = 'events'::regclass)
"""


class Asker:
    """Runs queries on one connection."""

    def __init__(self, database: Database) -> None:
        self._connection = get_connection(database, time.monotonic() + 600)
        self.rollup_answers = 0
        """The number of answers from rollups."""

    @contextmanager
    def snapshot(self) -> Iterator[Cursor]:
        with self._connection.snapshot() as cur:
            yield cur

    def answer(self, question: Counting) -> Any:
        """The answer that callers get."""
        with self.snapshot() as cur:
            return compute_answer(_source(cur, question), question, cur)

    def compare(self, question: Counting) -> Any:
        """The answer, after checking that both sources and the path for a long tail agree on it."""
        with self.snapshot() as cur:
            source = _source(cur, question)
            expected = compute_answer(RawSource(cur, query_of(question)), question, cur)
            if isinstance(source, RollupSource):
                self.rollup_answers += 1
                long_tail = RollupSource(
                    cur,
                    query_of(question),
                    replace(source._watermark, tail_events=LONG_TAIL_EVENTS),
                )
                assert compute_answer(long_tail, question, cur) == expected, (
                    f"{question!r}, with a long tail"
                )
            answer = compute_answer(source, question, cur)
            assert answer == expected, f"{question!r} as of {cur.as_of}"
            return answer


def compute_answer(source: Source, question: Counting, cur: Cursor) -> Any:
    time_range = question.range(cur.as_of)
    return ANSWERS[type(question)](source, question, time_range, cur.as_of)


@contextmanager
def open_asker(url: str) -> Iterator[Asker]:
    database = Database(url, size=1, waiters=0, acquire_timeout_s=1, name="asker")
    try:
        yield Asker(database)
    finally:
        database.close()


@contextmanager
def limited_hour_spans(days: int) -> Iterator[None]:
    """Seal hours for fewer days than 100, which saves time in tests."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (span_cache, rollup_reader, seal):
            patch.setattr(module, "SEALED_HOURS", days * 24 * HOUR)
        yield


@contextmanager
def connected(url: str) -> Iterator[connection]:
    """A connection in autocommit."""
    conn = psycopg2.connect(url)
    conn.autocommit = True
    try:
        yield conn
    finally:
        conn.close()


def rows_read(cur: cursor) -> int:
    """The index entries and rows of events that this transaction has read."""
    cur.execute(_ROWS_READ)
    (count,) = cur.fetchone() or (0,)
    return int(count)
