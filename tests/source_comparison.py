"""Compares the answers of rollups and of raw events in one snapshot."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import psycopg2
import pytest
from psycopg2.extensions import connection, cursor

from common.questions.answer import Answer, MoreToRead, Reading, Result
from common.questions.base import Counting
from config.database import Cursor, Database, get_connection
from repo.engine import rollup_source, span_cache
from repo.engine.cardinality import Aggregates
from repo.engine.column_source import ColumnSource
from repo.engine.raw_source import RawSource
from repo.engine.rollup_source import RollupSource
from repo.engine.source import Source
from repo.engine.watermark import LONG_TAIL_EVENTS
from repo.events import EventsRepo
from repo.queries.answers import open_sources, open_watermark
from repo.queries.base import REDUCTIONS, Reduction
from repo.rollups import seal
from tests import sql_oracle
from utils.time.slots import HOUR

D = TypeVar("D")

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
            return compute_answer(cur, question)

    def compare(self, question: Counting) -> Any:
        """The answer, after checking that all sources agree on it with PostgreSQL itself.

        Rollups answer twice, the second time as if the tail was long.
        """
        with self.snapshot() as cur:
            watermark = open_watermark(cur, question.query)
            expected = sql_oracle.answer(cur, question.query, cur.now)
            sources: list[Source[Any]] = [
                *open_sources(cur, watermark),
                RawSource(cur),
                ColumnSource(cur, watermark, None),
            ]
            if watermark:
                self.rollup_answers += 1
                long_tail = replace(watermark, tail_events=LONG_TAIL_EVENTS, has_tail=True)
                sources.append(RollupSource(cur, long_tail))
            for number, each in enumerate(sources):
                answer = run(cur, each, question)
                assert answer == expected, f"{question!r} as of {cur.now}, source {number}"
            return expected


def no_checkpoint() -> None:
    """Let a computation run to its end."""


def finished(result: Result[D], repo: EventsRepo | None = None) -> Answer[D]:
    """The answer that a repository's method returns, or the one that is computed from a reading.

    `repo` reads what an evaluation needs besides.
    """
    while isinstance(result, Reading):
        evaluated = result.evaluate(no_checkpoint)
        if isinstance(evaluated, MoreToRead):
            assert repo, "the evaluation needs to read more"
            result = repo.read_more(evaluated)
        else:
            result = evaluated
    return result


def compute_answer(cur: Cursor, question: Counting) -> Any:
    """The data of the answer that callers get."""
    query = question.query
    watermark = open_watermark(cur, query)
    source, *_ = open_sources(cur, watermark, is_filtered=query.where is not None)
    return run(cur, source, question)


def run(cur: Cursor, source: Source[Any], question: Counting) -> Any:
    """The data of the answer that is computed from this source."""
    query = question.query
    reduction = REDUCTIONS[type(query)](query, query.range_at(cur.now), cur.now)
    assert isinstance(reduction, Reduction)
    plan = source.plan(reduction.aggregation())
    plan.check()
    result = source.read(plan)
    aggregates = result if isinstance(result, Aggregates) else result(no_checkpoint)
    return reduction.data(aggregates)


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
        for module in (span_cache, rollup_source, seal):
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
