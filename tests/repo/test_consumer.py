"""The consumer writes each folded event to columns exactly once."""

import random
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg2.extensions import connection

from repo.columns.chunk import ColumnKey, TextValues
from repo.columns.chunk_writer import ChunkWriter
from repo.columns.consumer import Consumer
from repo.columns.unwritten_events import Limits
from repo.rollups.rollup_writer import RollupWriter
from tests.column_contents import chunk_rows, expected, query, read_chunk, written
from tests.events import insert
from tests.source_comparison import connected

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def other(database_url: str) -> Iterator[connection]:
    with connected(database_url) as opened:
        yield opened


def fold(conn: connection) -> None:
    """Fold all events, and write none to columns."""
    writer = RollupWriter(conn, [])
    while writer.step().has_more:
        pass


def consumer(conn: connection, **limits: Any) -> Consumer:
    return Consumer(conn, 2_000, **limits)


def consume(conn: connection, **limits: Any) -> int:
    """Write all folded events; return the number of chunks."""
    chunks, more = 0, 1
    while more:
        chunks += more
        more = consumer(conn, **limits).step(is_lazy=False)
        assert written(conn) == expected(conn)
    return chunks - 1


def count(conn: connection) -> int:
    return sum(row.events for row in chunk_rows(conn))


def insert_numbers(conn: connection, *instants: datetime) -> None:
    insert(conn, *(("u", "view", instant, {"n": n}) for n, instant in enumerate(instants)))


def test_events_are_written_with_their_properties(conn: connection) -> None:
    insert(
        conn,
        ("ada", "open", NOW - HOUR, {"plan": "pro", "n": 5}),
        ("", "view", NOW - 2 * HOUR, {"n": 7, "items": [{"sku": "a"}, {"sku": "b"}]}),
    )
    fold(conn)
    assert consume(conn) == 1
    (row,) = chunk_rows(conn)
    assert (row.tier, row.is_late, row.has_properties, row.events) == (0, False, True, 2)
    chunk = read_chunk(conn, row.chunk_id)
    texts = {key.path: column for key, column in chunk.properties.items()}
    assert set(texts) == {("plan",), ("n",), ("items", "sku")}
    items = chunk.properties[ColumnKey(("items", "sku"), "text")]
    assert items.rows is not None
    assert items.rows.tolist() == [0, 0]
    assert isinstance(items.values, TextValues)
    assert items.values.dictionary.to_pylist() == ["a", "b"]
    assert consume(conn) == 0


def test_only_folded_events_are_written(conn: connection) -> None:
    insert_numbers(conn, NOW - HOUR)
    assert consumer(conn).step(is_lazy=False) == 0
    fold(conn)
    insert_numbers(conn, NOW - 2 * HOUR)
    consume(conn)
    assert count(conn) == 1
    fold(conn)
    consume(conn)
    assert count(conn) == 2


def test_late_events_are_in_chunks_of_their_own(conn: connection) -> None:
    insert_numbers(conn, NOW, NOW - 23 * HOUR, NOW - 25 * HOUR, NOW - 90 * DAY, NOW + 2 * DAY)
    fold(conn)
    consume(conn)
    rows = {(row.is_late, row.events) for row in chunk_rows(conn)}
    assert rows == {(False, 3), (True, 2)}


def test_future_events_are_written_at_once(conn: connection) -> None:
    insert(conn, ("ada", "later", NOW + DAY, {"n": 1}), ("", "later", NOW + DAY, {"n": 2}))
    fold(conn)
    consume(conn)
    assert {(event[1], event[2], event[4]) for event in written(conn)} == {
        ("ada", "later", 1),
        ("", "later", 2),
    }


@pytest.mark.parametrize("limits", [{}, {"max_new_events": 1}])
def test_future_events_that_an_older_version_has_folded_get_ids(
    conn: connection, limits: dict[str, Any]
) -> None:
    insert(conn, ("ada", "later", NOW + DAY, {"n": 1}), ("bob", "open", NOW - HOUR, {"n": 2}))
    fold(conn)
    query(conn, "delete from users where user_id = 'ada' returning 1")
    query(conn, "delete from event_names where event_name = 'later' returning 1")
    query(conn, "update erased_ordinals set highest = 40 returning 1")
    consume(conn, **limits)
    assert {event[1] for event in written(conn)} == {"ada", "bob"}
    assert query(conn, "select ordinal from users where user_id = 'ada'") == [(41,)]


def test_an_open_transaction_is_written_when_it_is_over(
    conn: connection, other: connection
) -> None:
    other.autocommit = False
    insert_numbers(other, NOW - HOUR)
    insert_numbers(conn, NOW - 2 * HOUR)
    fold(conn)
    consume(conn)
    assert count(conn) == 1
    other.commit()
    assert consume(conn) == 0
    fold(conn)
    consume(conn)
    assert count(conn) == 2


def test_few_events_wait_for_more(conn: connection) -> None:
    lazy = consumer(conn)
    insert_numbers(conn, NOW)
    fold(conn)
    assert lazy.step(is_lazy=True) == 1, "nothing was written before"
    insert_numbers(conn, NOW - HOUR)
    fold(conn)
    assert lazy.step(is_lazy=True) == 0
    query(conn, "update column_state set written_at = now() - interval '61 s' returning 1")
    assert lazy.step(is_lazy=True) == 1
    query(conn, "update column_state set written_at = now() - interval '59 s' returning 1")
    assert lazy.step(is_lazy=True) == 0
    insert(conn, *(("u", "view", NOW, {"n": n}) for n in range(999)))
    fold(conn)
    assert lazy.step(is_lazy=True) == 0
    insert_numbers(conn, NOW)
    fold(conn)
    assert lazy.step(is_lazy=True) == 1
    assert written(conn) == expected(conn)


PAGES = {
    "few events": {"limits": Limits(events=3)},
    "few bytes": {"limits": Limits(bytes=20)},
    "one byte": {"limits": Limits(bytes=1)},
    "a backfill": {"limits": Limits(events=3), "max_new_events": 10},
    "a backfill in one page": {"max_new_events": 10},
}


@pytest.mark.parametrize("chunk_events", [4, 131_072])
@pytest.mark.parametrize("limits", PAGES.values(), ids=PAGES)
def test_events_are_read_in_pages(
    conn: connection, limits: dict[str, Any], chunk_events: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where many events have one time, one transaction or both."""
    monkeypatch.setattr("repo.columns.chunk_writer.MAX_CHUNK_EVENTS", chunk_events)
    instants = [NOW - HOUR] * 7 + [NOW - 3 * DAY] * 4 + [NOW - n * HOUR for n in range(5)]
    insert_numbers(conn, *instants)
    insert_numbers(conn, *instants[:9])
    insert_numbers(conn, NOW)
    fold(conn)
    consume(conn, **limits)
    assert count(conn) == 26


def test_a_backfill_begins_with_the_latest_events(
    conn: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repo.columns.chunk_writer.MAX_CHUNK_EVENTS", 4)
    limits: dict[str, Any] = {"limits": Limits(events=2), "max_new_events": 5}
    insert_numbers(conn, *(NOW - n * DAY for n in range(9)))
    fold(conn)
    steps = consumer(conn, **limits)
    steps.step(is_lazy=True)
    assert query(conn, "select backfilled_from::text from column_state") == [("infinity",)]
    for days in (3, 7):
        steps.step(is_lazy=True)
        (row,) = query(conn, "select backfilled_from from column_state")
        assert row == (NOW - days * DAY,)
        assert written(conn) == expected(conn)
    insert_numbers(conn, NOW - 8 * DAY, NOW)
    fold(conn)
    steps.step(is_lazy=False)
    assert count(conn) == 10, "new events are written first"
    assert written(conn) == expected(conn)
    consume(conn, **limits)
    assert count(conn) == 11
    state = (
        "select backfilled_from::text, backfill_to::text, backfill_since::text from column_state"
    )
    assert query(conn, state) == [("-infinity", "3:3:", "3:3:")]


def test_a_backfill_reads_what_is_sparse(conn: connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most events in the order of time are written already."""
    monkeypatch.setattr("repo.columns.unwritten_events._PROBE", 10)
    insert_numbers(conn, *(NOW - n * HOUR for n in range(40)))
    fold(conn)
    consume(conn)
    insert_numbers(conn, *(NOW - 8 * n * HOUR for n in range(8)))
    fold(conn)
    consume(conn, limits=Limits(events=3), max_new_events=5)
    assert count(conn) == 48


class Crash(Exception):
    pass


@pytest.mark.parametrize("limits", [{}, {"limits": Limits(events=3), "max_new_events": 5}])
def test_what_fails_is_written_later(
    conn: connection, monkeypatch: pytest.MonkeyPatch, limits: dict[str, Any]
) -> None:
    monkeypatch.setattr("repo.columns.chunk_writer.MAX_CHUNK_EVENTS", 6)
    insert_numbers(conn, *(NOW - n * HOUR for n in range(30)))
    fold(conn)
    write = ChunkWriter.write

    def crash(self: ChunkWriter, *args: Any, **options: Any) -> None:
        write(self, *args, **options)
        raise Crash

    for _ in range(3):
        if limits:  # begin or continue the backfill
            consumer(conn, **limits).step(is_lazy=False)
        with monkeypatch.context() as patch:
            patch.setattr(ChunkWriter, "write", crash)
            with pytest.raises(Crash):
                consumer(conn, **limits).step(is_lazy=False)
        assert written(conn) == expected(conn)
    consume(conn, **limits)
    assert count(conn) == 30


POISON = [
    '"digits": ' + "9" * 60_000,
    '"text": "' + "x" * 65_000 + '"',
    ",".join(f'"key {number}": {number}' for number in range(3_000)),
    '"' + "k" * 60_000 + '": "long"',
    '"deep": ' + "[" * 2_000 + "1" + "]" * 2_000,
    '"": {"": [null, true, "", {}, []]}, "a.b": 1, "a": {"b": "\u00e9\U0001f600\\\\"}',
    '"huge": 1e400, "tiny": 1e-300, "big": 36893488147419103233',
]
INSERT = """
insert into events (event_id, user_id, event_name, occurred_at, properties)
values (gen_random_uuid(), 'ada', 'x', %s, %s) returning 1
"""


def test_no_event_stops_the_consumer(conn: connection) -> None:
    for number, properties in enumerate(POISON):
        query(conn, INSERT, NOW, f'{{"n": {number}, {properties}}}')
    fold(conn)
    consume(conn)
    assert sorted(event[4] for event in written(conn)) == list(range(7))
    assert query(conn, "select count(*), max(path_id) from column_paths") == [(2_000, 2_000)]
    assert query(conn, "select left_out from column_state") == [(True,)]


def test_paths_above_the_limit_are_left_out(conn: connection) -> None:
    insert(
        conn,
        ("u", "view", NOW - HOUR, {"n": 1, "a": 1}),
        ("u", "view", NOW, {"n": 2, "b": 1, "a": "x"}),
    )
    fold(conn)
    Consumer(conn, 2).step(is_lazy=False)
    assert query(conn, "select left_out from column_state") == [(True,)]
    assert query(conn, "select path from column_paths order by 1") == [(["a"],), (["n"],)]
    insert(conn, ("u", "view", NOW + DAY, {"n": 3, "a": 1, "b": 3, "c": 3}))
    fold(conn)
    Consumer(conn, 3).step(is_lazy=False)
    since = dict(query(conn, "select path_id, since::text from column_paths"))
    assert (since[1], since[2]) == ("-infinity", "-infinity")
    assert query(conn, "select since from column_paths where path_id = 3") == [(NOW,)]


def test_a_batch_is_logged_each_minute(conn: connection) -> None:
    for age, *instants in ((0, NOW), (61, NOW - HOUR, NOW - DAY), (59, NOW)):
        query(
            conn, f"update batch_log set written_at = written_at - interval '{age} s' returning 1"
        )
        insert_numbers(conn, *instants)
        fold(conn)
        consume(conn)
    counts = """
        select (select count(*) from events where pg_visible_in_snapshot(ingested_xid, snapshot))
        from   batch_log
        order  by written_at
    """
    assert query(conn, counts) == [(1,), (3,)]
    assert query(conn, "select version from column_state") == [(3,)]


def test_all_generations_are_written(conn: connection) -> None:
    insert_numbers(conn, NOW, NOW - HOUR)
    writer = RollupWriter(conn, [])
    writer.catch_up()
    writer.rebuild()
    assert query(conn, "select generation from column_state") == [(2,)]
    assert query(conn, "select distinct generation from column_chunks") == [(2,)]
    assert written(conn, 2) == expected(conn, 2)
    assert sum(written(conn, 2).values()) == 2


@pytest.mark.parametrize("limits", [{}, {"max_new_events": 1}])
def test_events_before_the_horizon_are_not_written(
    conn: connection, limits: dict[str, Any]
) -> None:
    midnight = NOW.replace(hour=0, minute=0, second=0)
    insert_numbers(conn, NOW, midnight, midnight - HOUR, midnight - DAY)
    fold(conn)
    horizon = "insert into retention (takes_from, horizon) values (%s, %s) returning 1"
    query(conn, horizon, midnight, midnight)
    consume(conn, **limits)
    assert count(conn) == 2


class World:
    """Writers, the fold and the consumer, in a random order of steps."""

    def __init__(self, conn: connection, writers: list[connection], seed: int) -> None:
        self.random = random.Random(seed)
        self.conn = conn
        self.writers = writers
        self.number = 0

    def step(self) -> None:
        steps = (
            self.insert,
            self.insert,
            self.insert,
            self.end,
            self.fold,
            self.consume,
            self.consume,
        )
        self.random.choice(steps)()

    def insert(self) -> None:
        rows = []
        for _ in range(self.random.choice((1, 2, 12))):
            self.number += 1
            age = self.random.choice((-30, 0, 0, 0, 1, 2, 30, 3_000)) * HOUR
            user = self.random.choice(("", "ada", "bob", f"user {self.random.randrange(9)}"))
            rows.append((user, self.random.choice("abc"), NOW - age, {"n": self.number}))
        insert(self.random.choice([self.conn, *self.writers]), *rows)

    def end(self) -> None:
        writer = self.random.choice(self.writers)
        self.random.choice((writer.commit, writer.commit, writer.rollback))()

    def fold(self) -> None:
        RollupWriter(self.conn, [], max_events=self.random.choice((5, 1_000))).step()

    def consume(self) -> None:
        limits = Limits(self.random.choice((1, 4, 100)), self.random.choice((30, 10_000)))
        most = self.random.choice((6, 1_000))
        consumer(self.conn, limits=limits, max_new_events=most).step(is_lazy=False)
        assert written(self.conn) == expected(self.conn)

    def finish(self) -> None:
        for writer in self.writers:
            writer.commit()
        fold(self.conn)
        consume(self.conn, limits=Limits(4), max_new_events=6)


@pytest.mark.parametrize("seed", range(4))
def test_each_event_is_written_once_whatever_happens(
    conn: connection, database_url: str, seed: int
) -> None:
    with ExitStack() as stack:
        writers = [stack.enter_context(connected(database_url)) for _ in range(3)]
        for writer in writers:
            writer.autocommit = False
        world = World(conn, writers, seed)
        for _ in range(60):
            world.step()
        world.finish()
    assert sum(written(conn).values()) == query(conn, "select count(*) from events")[0][0]
