"""A transaction that writes very much, and is not over, costs those who ask nothing."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import psycopg2
import pytest
from psycopg2.extensions import connection

from common.questions.event_counts import EventCounts
from repo.engine.rollup_reader import RollupReader
from repo.engine.watermark import read_watermark
from repo.rollups.rollup_writer import RollupWriter
from tests.events import insert, insert_many
from tests.source_comparison import Asker, compute_answer, connected, rows_read
from utils.time.zones import zone

ZONES = [zone("UTC")]
NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)
FULL_RANGE = EventCounts(start=NOW - 4 * HOUR, end=NOW + HOUR, interval="hour")
WRITTEN = 20_000


def has_long_tail(asker: Asker) -> bool:
    with asker.snapshot() as cur:
        state = read_watermark(cur)
        return state is not None and state.has_long_tail


@pytest.fixture(params=["fold before it", "fold beside it"])
def writer(
    request: pytest.FixtureRequest, conn: connection, database_url: str
) -> Iterator[connection]:
    """Has written much; before it and after it others did, and the last event is not folded."""
    with closing(psycopg2.connect(database_url)) as writer, connected(database_url) as folding:
        rollup_writer = RollupWriter(folding, ZONES)
        insert(conn, ("u", "view", NOW - 3 * HOUR), ("u", "view", NOW - 2 * HOUR))
        if request.param == "fold before it":
            rollup_writer.catch_up()
        insert_many(writer, WRITTEN, NOW - 2 * HOUR)
        if request.param == "fold beside it":
            rollup_writer.catch_up()
        insert(conn, ("v", "view", NOW - HOUR))
        yield writer


def test_a_question_reads_none_of_its_rows(asker: Asker, writer: connection) -> None:
    with asker.snapshot() as cur:
        assert compute_answer(cur, FULL_RANGE).events == 3
        assert rows_read(cur) < WRITTEN
    assert asker.compare(FULL_RANGE).users == 2


def test_once_it_is_over_many_wait(asker: Asker, writer: connection) -> None:
    """Also where the last fold saw it at work."""
    assert not has_long_tail(asker)
    writer.commit()
    assert has_long_tail(asker)
    assert asker.compare(FULL_RANGE).events == 3 + WRITTEN


@pytest.mark.usefixtures("writer")
def test_neither_does_a_worker_that_looks_whether_events_wait(asker: Asker) -> None:
    with asker.snapshot() as cur:
        state = read_watermark(cur)
        assert state
        assert state.tail_events == 1
        assert rows_read(cur) < WRITTEN


def test_where_nothing_waits_no_event_is_asked_for(
    writer: connection, asker: Asker, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.rollback()
    with connected(database_url) as folding:
        RollupWriter(folding, ZONES).catch_up()
    over = EventCounts(start=NOW.date() - timedelta(days=3), end=NOW.date() + timedelta(days=1))
    monkeypatch.setattr(RollupReader, "_add_events", None)
    assert asker.answer(over).events == 3
    insert(writer, ("w", "view", NOW - HOUR))
    writer.commit()
    with pytest.raises(TypeError):
        asker.answer(over)
    monkeypatch.undo()
    assert asker.compare(over).events == 4


@pytest.mark.usefixtures("writer")
def test_the_rollup_worker_reads_no_uncommitted_rows(database_url: str) -> None:
    with closing(psycopg2.connect(database_url)) as folding, folding.cursor() as cur:
        assert RollupWriter(folding, ZONES).count_pending(10 * WRITTEN) == 1
        assert rows_read(cur) < WRITTEN


def test_it_is_folded_once_it_is_over(writer: connection, asker: Asker, database_url: str) -> None:
    with connected(database_url) as folding:
        rollup_writer = RollupWriter(folding, ZONES)
        assert rollup_writer.catch_up() == 1
        assert asker.compare(FULL_RANGE).events == 3
        writer.commit()
        assert rollup_writer.count_pending(10 * WRITTEN) == WRITTEN
        assert rollup_writer.catch_up() == WRITTEN
    assert asker.compare(FULL_RANGE).events == 3 + WRITTEN
