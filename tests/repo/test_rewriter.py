"""Erased users and dropped properties leave the chunks, in any number of transactions."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg2.extensions import connection

from common.receipts import Receipt
from repo.columns import consumer, rewriter
from repo.columns.chunk import TextValues
from repo.columns.rewriter import Rewriter
from repo.columns.unwritten_events import EventPages
from repo.lifecycle.erasure import EraseRepo
from repo.rollups.rollup_writer import RollupWriter
from tests.column_contents import chunk_rows, query, read_chunk, written
from tests.events import insert
from tests.retention import drop
from tests.source_comparison import connected

NOW = datetime.now(UTC).replace(microsecond=0)
TODAY = NOW.replace(hour=0, minute=0, second=0)
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


def write(conn: connection) -> None:
    """Fold all events, and write them to columns."""
    fold(conn)
    while consumer.Consumer(conn, 2_000).step(is_lazy=False):
        pass


def write_each(conn: connection, *events: tuple[Any, ...]) -> None:
    """Write each of less than 8 events to a chunk of its own."""
    for event in events:
        insert(conn, event)
        write(conn)


def texts(conn: connection, generation: int = 1) -> set[str]:
    """All texts in all dictionaries."""
    found: set[str] = set()
    for row in chunk_rows(conn, generation):
        for column in read_chunk(conn, row.chunk_id, generation).properties.values():
            if isinstance(column.values, TextValues):
                found |= set(column.values.dictionary.to_pylist())
    return found


def users(conn: connection, generation: int = 1) -> set[int]:
    """All ordinals in all chunks."""
    chunks = (read_chunk(conn, row.chunk_id, generation) for row in chunk_rows(conn, generation))
    return {ordinal for chunk in chunks for ordinal in chunk.user.tolist()}


def ordinal(conn: connection, user: str) -> int:
    ((number,),) = query(conn, "select ordinal from users where user_id = %s", user)
    return int(number)


def pending(conn: connection) -> list[int]:
    return [n for (n,) in query(conn, "select ordinal from columns_erasures order by 1")]


def erase(conn: connection, user: str) -> Receipt:
    return EraseRepo(conn).erase(user)


def rewrite(conn: connection) -> int:
    """Return the number of transactions."""
    worker, steps = Rewriter(), 0
    while worker.step(conn):
        steps += 1
        assert steps < 100
    return steps


def test_an_erased_user_leaves_the_chunks(conn: connection) -> None:
    insert(conn, ("u", "view", NOW - HOUR, {"name": "Ursula", "plan": "pro"}))
    insert(conn, ("v", "view", NOW - HOUR, {"name": "Vera", "plan": "pro"}))
    insert(conn, ("", "view", NOW - HOUR, {"name": "nobody"}))
    write(conn)
    before = query(conn, "select version from column_state")
    number = ordinal(conn, "u")
    assert erase(conn, "u").columns_pending
    assert query(conn, "select ordinal, erasure from columns_erasures") == query(
        conn, "select %s, number from erasures", number
    )
    assert "Ursula" in texts(conn)
    assert rewrite(conn) == 1
    assert pending(conn) == []
    assert texts(conn) == {"Vera", "nobody", "pro"}
    assert {event[1] for event in written(conn)} == {"v", ""}
    assert query(conn, "select version from column_state") > before
    assert query(conn, "select count(*) from column_chunks") == [(1,)]


def test_the_rollup_worker_rewrites_chunks(conn: connection) -> None:
    insert(conn, ("u", "view", NOW - HOUR, {"name": "Ursula"}))
    write(conn)
    erase(conn, "u")
    RollupWriter(conn, []).maintain()
    assert (pending(conn), chunk_rows(conn)) == ([], [])
    assert query(conn, "select from column_data") == []


def test_users_who_are_in_no_chunk(conn: connection) -> None:
    """Unknown, not folded, and with events in the future only."""
    write_each(conn, ("v", "view", NOW - HOUR))
    insert(conn, ("later", "view", NOW - HOUR))
    assert not erase(conn, "unknown").columns_pending
    assert not erase(conn, "later").columns_pending
    write_each(conn, ("future", "view", NOW + DAY, {"name": "Fatima"}))
    assert erase(conn, "future").columns_pending
    rewrite(conn)
    assert ({event[1] for event in written(conn)}, texts(conn)) == ({"v"}, set())


@pytest.mark.parametrize("limit", ["MAX_SEARCHED", "MAX_EVENTS"])
def test_many_chunks_are_rewritten_in_many_transactions(
    conn: connection, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """For several users at once; an interrupted run is continued, and later chunks are included."""
    monkeypatch.setattr(rewriter, limit, 1)
    monkeypatch.setattr(rewriter, "_AT_ONCE", 2)
    chunks = [(user, "view", NOW - n * HOUR, {"name": user}) for n in range(2) for user in "uvw"]
    write_each(conn, *chunks)
    u, v, w = (ordinal(conn, user) for user in "uvw")
    erase(conn, "u")
    first = Rewriter()
    assert first.step(conn) == 1
    erase(conn, "w")
    write_each(conn, ("v", "view", NOW, {"name": "v"}))
    assert first.step(conn) >= 1
    assert pending(conn) == [u, w]
    assert rewrite(conn) >= 3
    assert (pending(conn), texts(conn), users(conn)) == ([], {"v"}, {v})
    assert written(conn).total() == 3


def test_chunks_of_a_rolled_back_transaction_are_searched_again(
    conn: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_each(conn, *(("u", "view", NOW - n * DAY) for n in range(3)))
    erase(conn, "u")
    worker = Rewriter()
    monkeypatch.setattr(rewriter, "MAX_SEARCHED", 2)
    with monkeypatch.context() as patch:
        patch.setattr(rewriter, "_raise_version", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            worker.step(conn)
    while worker.step(conn):
        pass
    assert (pending(conn), chunk_rows(conn)) == ([], [])


def test_a_chunk_that_is_written_during_the_erasure(
    conn: connection, other: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The consumer's snapshot is older, so it writes events that are erased when it commits."""
    new_events = EventPages.new_events

    def erase_first(*arguments: Any) -> Any:
        assert erase(other, "u").columns_pending
        return new_events(*arguments)

    insert(conn, ("u", "view", NOW, {"name": "Ursula"}), ("v", "view", NOW, {"name": "Vera"}))
    fold(conn)
    number = ordinal(conn, "u")
    with monkeypatch.context() as patch:
        patch.setattr(EventPages, "new_events", erase_first)
        consumer.Consumer(conn, 2_000).step(is_lazy=False)
    assert (texts(conn), pending(conn)) == ({"Ursula", "Vera"}, [number])
    rewrite(conn)
    assert (texts(conn), pending(conn)) == ({"Vera"}, [])


def test_properties_of_dropped_events_are_dropped(conn: connection, database_url: str) -> None:
    """A chunk on both sides of the horizon is cut."""
    insert(conn, *(("u", "view", TODAY - n * DAY, {"name": f"day {n}"}) for n in range(6)))
    write(conn)
    assert drop(database_url, [], TODAY - 2 * DAY) == 3
    assert texts(conn) == {"day 0", "day 1", "day 2"}
    assert written(conn).total() == 6
    assert {row.has_properties for row in chunk_rows(conn)} == {True, False}
    assert query(conn, "select columns_from from column_state") == [(TODAY - 2 * DAY,)]
    assert drop(database_url, [], TODAY) == 2
    assert texts(conn) == {"day 0"}
    assert written(conn).total() == 6


def test_properties_can_outlive_their_events(conn: connection, database_url: str) -> None:
    insert(conn, *(("u", "view", TODAY - n * DAY, {"name": f"day {n}"}) for n in range(4)))
    write(conn)
    before = written(conn)
    assert drop(database_url, [], TODAY - DAY, keeps_properties=True) == 2
    assert texts(conn) == {"day 0", "day 1", "day 2", "day 3"}
    assert written(conn) == before
    assert query(conn, "select columns_from::text from column_state") == [("-infinity",)]
    insert(conn, ("v", "view", TODAY - DAY / 2))
    write(conn)
    erase(conn, "u")
    rewrite(conn)
    assert texts(conn) == set()
    assert [event[1] for event in written(conn)] == ["v"]


def test_dropped_properties_do_not_come_back(conn: connection, database_url: str) -> None:
    insert(conn, *(("u", "view", TODAY - n * DAY, {"name": f"day {n}"}) for n in range(4)))
    write(conn)
    drop(database_url, [], TODAY - DAY)
    drop(database_url, [], TODAY, keeps_properties=True)
    assert query(conn, "select columns_from from column_state") == [(TODAY - DAY,)]
    assert texts(conn) == {"day 0", "day 1"}
