"""The tables of columns: chunks, their columns, and the ids of paths."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg2.extensions import connection

from config.database import Cursor
from repo.columns.chunk_table import (
    ChunkHead,
    ChunkRow,
    delete_chunks,
    read_all_columns,
    read_chunks,
    read_columns,
    read_erased_users,
    read_paths,
    register_paths,
    write_chunk,
)
from repo.columns.codec import PACKED, StoredKey

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
DAY_US = 86_400_000_000
TIME, USER = StoredKey(0, 1), StoredKey(0, 2)
PLAN = StoredKey(7, 1)


def head(first: int, last: int, **fields: Any) -> ChunkHead:
    values = {"format": 1, "tier": 0, "is_late": False, "has_properties": True, "events": 3}
    return ChunkHead(**{**values, "bytes": 40, "first": first, "last": last, **fields})


@pytest.fixture
def cur(conn: connection) -> Iterator[Cursor]:
    with conn.cursor(cursor_factory=Cursor) as opened:
        opened.execute("insert into column_state (generation) values (1)")
        yield opened


def chunks(cur: Cursor, start_us: int, end_us: int, generation: int = 1) -> list[ChunkRow]:
    start, end = (EPOCH + timedelta(microseconds=us) for us in (start_us, end_us))
    return read_chunks(cur, generation, start, end)


def test_chunks_are_found_by_the_times_of_their_events(cur: Cursor) -> None:
    old = head(-1, DAY_US + 1, tier=2, is_late=True, has_properties=False)
    new = head(DAY_US, 2 * DAY_US)
    new_id, old_id = (write_chunk(cur, 1, chunk, {}) for chunk in (new, old))
    assert chunks(cur, -10, 3 * DAY_US) == [ChunkRow(old_id, *old), ChunkRow(new_id, *new)]
    assert [row.chunk_id for row in chunks(cur, -10, DAY_US)] == [old_id]
    assert [row.chunk_id for row in chunks(cur, DAY_US + 1, DAY_US + 2)] == [old_id, new_id]
    assert [row.chunk_id for row in chunks(cur, 2 * DAY_US, 3 * DAY_US)] == [new_id]
    assert chunks(cur, 2 * DAY_US + 1, 3 * DAY_US) == []
    assert chunks(cur, -10, -1) == []
    assert chunks(cur, -10, 3 * DAY_US, generation=2) == []


def read(cur: Cursor, chunk_ids: list[int], *columns: StoredKey) -> dict[Any, bytes]:
    rows = read_columns(cur, 1, chunk_ids, columns)
    return {(chunk_id, column): bytes(data) for chunk_id, column, data in rows}


def test_columns_are_read_as_they_were_written(cur: Cursor) -> None:
    columns = {TIME: b"times", USER: bytes(range(256)) * 300, PLAN: b""}
    large = write_chunk(cur, 1, head(0, 1), columns)
    small = write_chunk(cur, 1, head(0, 1), {PACKED: b"packed"})
    other = write_chunk(cur, 1, head(0, 1), {TIME: b"other"})
    packed = {(small, PACKED): b"packed"}
    assert read(cur, [large, small], TIME) == {(large, TIME): b"times"} | packed
    wide = {(large, USER): columns[USER], (large, PLAN): b""}
    assert read(cur, [small, large], USER, PLAN, StoredKey(8, 1)) == wide | packed
    assert read(cur, [large, small]) == packed
    assert read(cur, [], TIME) == {}
    everything = {
        (row.chunk_id, row.column): bytes(row.data)
        for row in read_all_columns(cur, 1, [large, other])
    }
    assert everything == {(large, column): data for column, data in columns.items()} | {
        (other, TIME): b"other"
    }
    assert list(read_all_columns(cur, 2, [large])) == []


def test_deleted_chunks_are_gone_and_their_ids_are_not_used_again(cur: Cursor) -> None:
    first, second = (write_chunk(cur, 1, head(0, 1), {TIME: b"t"}) for _ in "ab")
    delete_chunks(cur, 1, [second])
    assert [row.chunk_id for row in chunks(cur, 0, 9)] == [first]
    assert read(cur, [first, second], TIME) == {(first, TIME): b"t"}
    assert write_chunk(cur, 1, head(0, 1), {}) > second


def test_paths_keep_their_ids(cur: Cursor) -> None:
    paths = [
        ("plan",),
        ("a", "b"),
        ("a.b",),
        ("",),
        ("\u00e9\U0001f600", "{x},\"'\\"),
        ("x" * 60_000,),
    ]
    assert register_paths(cur, 1, paths[:2]) == {paths[0]: 1, paths[1]: 2}
    assert register_paths(cur, 1, paths[2:]) == dict(zip(paths[2:], range(3, 7), strict=True))
    expected = {path: number for number, path in enumerate(paths, start=1)}
    unknown = [("b", "a"), ("a",), (), ("a\0",), ("\ud800",)]
    assert read_paths(cur, 1, [*unknown, *paths]) == expected
    assert read_paths(cur, 2, paths) == {}
    assert register_paths(cur, 1, []) == {}


def test_a_path_that_was_left_out_is_known_since_the_last_event(cur: Cursor) -> None:
    write_chunk(cur, 1, head(0, DAY_US), {})
    register_paths(cur, 1, [("early",)])
    cur.execute("update column_state set left_out = true")
    register_paths(cur, 1, [("late",)])
    cur.execute("select path_id, since from column_paths where since <> '-infinity'")
    assert cur.fetchall() == [(2, datetime(2000, 1, 2, tzinfo=UTC))]


def test_erased_users_are_listed(cur: Cursor) -> None:
    assert read_erased_users(cur) == []
    cur.execute("insert into columns_erasures values (9, 1), (4, 2)")
    assert read_erased_users(cur) == [4, 9]
