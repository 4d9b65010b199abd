"""The catalog of columns: what is read in each snapshot, and what is cached until it changes."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg2.extensions import connection

from common.questions.event_counts import EventCounts
from config.database import Cursor, Database, get_connection
from repo.columns.chunk_table import ChunkHead, ColumnState, register_paths, write_chunk
from repo.engine.column_catalog import CatalogCache, ColumnCatalog
from repo.engine.watermark import read_watermark
from repo.events import EventsRepo
from repo.rollups.rollup_writer import RollupWriter
from tests.column_writer import write_columns
from tests.events import insert
from tests.source_comparison import connected, finished
from utils.time.calendar import Range

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = timedelta(hours=1)
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
DAY_US = 86_400_000_000
ALWAYS = Range(datetime(1999, 1, 1, tzinfo=UTC), datetime(2101, 1, 1, tzinfo=UTC))


class Reader:
    """Questions, each in a snapshot of its own, that share a cache."""

    def __init__(self, conn: connection) -> None:
        self.conn = conn
        self.cache = CatalogCache()

    def catalog(self, cur: Cursor) -> ColumnCatalog:
        watermark = read_watermark(cur)
        assert watermark
        return ColumnCatalog(cur, watermark, self.cache)

    def state(self) -> ColumnState | None:
        with self.conn.cursor(cursor_factory=Cursor) as cur:
            cur.execute("begin isolation level repeatable read")
            state = self.catalog(cur).state()
            cur.execute("commit")
            return state

    def chunk_ids(self, span: Range = ALWAYS, version: int | None = None) -> list[int]:
        with self.conn.cursor(cursor_factory=Cursor) as cur:
            state = self.columns()
            state = state if version is None else state._replace(version=version)
            return [chunk.chunk_id for chunk in self.catalog(cur).chunks(state, span)]

    def paths(self, *paths: tuple[str, ...]) -> dict[tuple[str, ...], int]:
        with self.conn.cursor(cursor_factory=Cursor) as cur:
            return self.catalog(cur).path_ids(paths)

    def columns(self) -> ColumnState:
        state = self.state()
        assert state
        return state


@pytest.fixture
def reader(conn: connection) -> Reader:
    fold(conn)
    return Reader(conn)


@pytest.fixture
def other(database_url: str) -> Iterator[connection]:
    with connected(database_url) as opened:
        opened.autocommit = False
        yield opened


def fold(conn: connection) -> None:
    writer = RollupWriter(conn, [])
    while writer.step().has_more:
        pass


def execute(conn: connection, statement: str, *values: Any) -> None:
    with conn.cursor() as cur:
        cur.execute(statement, values or None)


def write(conn: connection, first: int, last: int) -> int:
    with conn.cursor() as cur:
        head = ChunkHead(1, 0, False, True, 3, 40, first * DAY_US, last * DAY_US)
        return write_chunk(cur, 1, head, {})


def days(first: int, last: int) -> Range:
    return Range(EPOCH + timedelta(days=first), EPOCH + timedelta(days=last))


NEW_VERSION = "update column_state set version = version + 1"


def test_the_state_of_a_generation(conn: connection, reader: Reader) -> None:
    assert reader.state() is None
    execute(conn, "insert into column_state (generation) values (1)")
    columns = reader.columns()
    assert (columns.snapshot.text, columns.backfilled_from, columns.version) == (
        "3:3:",
        "-infinity",
        0,
    )
    assert (columns.columns_from, columns.left_out, columns.is_backfilling) == (
        "-infinity",
        False,
        False,
    )


def test_erased_users_are_read_although_the_version_is_the_same(
    conn: connection, reader: Reader
) -> None:
    execute(conn, "insert into column_state (generation) values (1)")
    for ordinals in ([], [4, 9]):
        if ordinals:
            execute(conn, "insert into columns_erasures values (9, 1), (4, 2)")
        assert reader.columns().erased == ordinals


def test_there_is_a_tail_while_an_event_is_unwritten(
    conn: connection, reader: Reader, other: connection
) -> None:
    """Events of transactions that were open when columns were written, too."""

    def has_tail() -> bool:
        return reader.columns().has_tail

    write_columns(conn)
    assert not has_tail()
    insert(conn, ("ada", "view", NOW - HOUR))
    assert has_tail()
    fold(conn)
    assert has_tail()
    write_columns(conn)
    assert not has_tail()
    insert(other, ("bob", "view", NOW - HOUR))
    insert(conn, ("ada", "view", NOW - HOUR))
    fold(conn)
    write_columns(conn)
    assert not has_tail(), "the transaction is still open"
    execute(conn, "create table anything ()")
    assert not has_tail(), "transactions have no events"
    other.commit()
    assert has_tail()
    fold(conn)
    write_columns(conn)
    assert not has_tail()


def test_chunks_are_read_again_when_their_version_changes(conn: connection, reader: Reader) -> None:
    execute(conn, "insert into column_state (generation) values (1)")
    late, early = write(conn, 5, 9), write(conn, 1, 5)
    assert reader.chunk_ids() == [early, late]
    new = write(conn, 7, 8)
    assert reader.chunk_ids() == [early, late]
    execute(conn, NEW_VERSION)
    assert reader.chunk_ids() == [early, late, new]


def test_a_snapshot_of_an_older_version_does_not_replace_cached_chunks(
    conn: connection, reader: Reader
) -> None:
    execute(conn, "insert into column_state (generation, version) values (1, 7)")
    first = write(conn, 1, 2)
    assert reader.chunk_ids() == [first]
    second = write(conn, 3, 4)
    assert reader.chunk_ids(version=6) == [first, second]
    assert reader.chunk_ids() == [first]


@pytest.mark.parametrize("max_chunks", [1, 3])
def test_chunks_of_a_range_are_listed(
    conn: connection, reader: Reader, monkeypatch: pytest.MonkeyPatch, max_chunks: int
) -> None:
    """Whether all chunks are cached or there are too many."""
    monkeypatch.setattr("repo.engine.column_catalog.MAX_CHUNKS", max_chunks)
    execute(conn, "insert into column_state (generation) values (1)")
    late, early, long = write(conn, 5, 9), write(conn, 1, 5), write(conn, 2, 7)
    for _ in range(2):
        assert reader.chunk_ids(days(0, 10)) == [early, long, late]
        assert reader.chunk_ids(days(5, 6)) == [early, long, late]
        assert reader.chunk_ids(days(6, 7)) == [long, late]
        assert reader.chunk_ids(days(0, 2)) == [early]
        assert reader.chunk_ids(days(9, 10)) == [late]
        assert reader.chunk_ids(days(0, 1)) == []
        assert reader.chunk_ids(days(10, 11)) == []


def test_paths_are_known_from_the_time_on_when_they_have_an_id(
    conn: connection, reader: Reader
) -> None:
    execute(conn, "insert into column_state (generation) values (1)")
    plan, country = ("plan",), ("address", "country")
    assert reader.paths(plan, country) == {}
    with conn.cursor() as cur:
        register_paths(cur, 1, [country])
    for _ in range(2):
        assert reader.paths(plan, country) == {country: 1}
    execute(conn, "delete from column_paths")
    assert reader.paths(plan, country) == {country: 1}, "ids do not change"


def test_statements_of_a_question(
    conn: connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a tail, what is cached takes no statement."""
    insert(conn, ("ada", "view", NOW - HOUR, {"plan": "pro"}))
    fold(conn)
    write_columns(conn)
    sent: list[str] = []
    monkeypatch.setattr("utils.tracing.statement_span", Recorder(sent))
    database = Database(database_url, size=1, waiters=0, acquire_timeout_s=1, name="columns")
    repo = EventsRepo(get_connection(database, time.monotonic() + 60))
    question = EventCounts(start=NOW - 2 * HOUR, end=NOW + HOUR, where=["plan:pro"], event=["view"])

    def statements() -> list[str]:
        sent.clear()
        assert finished(repo.get_event_counts(question.query)).data.events == events
        return [text.split("*/")[0].strip("/* ") for text in sent if text.startswith("/*")]

    events, warm = 1, ["rollups_state", "column_questions_state"]
    statements()
    assert statements() == warm
    insert(conn, ("ada", "view", NOW - HOUR, {"plan": "pro"}))
    events = 2
    assert statements() == [*warm, "column_questions_tail"]
    insert(conn, ("bob", "view", NOW - HOUR, {"plan": "pro"}))
    events = 3
    highest = "column_questions_highest_ids"
    assert statements() == [*warm, "column_questions_tail", highest], "bob has no ordinal yet"
    database.close()


class Recorder:
    """Stands in for the trace of a statement."""

    def __init__(self, sent: list[str]) -> None:
        self.sent = sent

    def __call__(self, text: str) -> "Recorder":
        self.sent.append(text)
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, *args: object) -> None: ...
