"""What is in columns, and what their state says must be in them."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg2.extensions import connection

from config.database import Cursor
from repo.columns.chunk import Chunk, ColumnKey, ScaledNumbers
from repo.columns.chunk_table import ChunkRow, all_paths, read_all_columns, read_chunks
from repo.columns.codec import decode_chunk

FIRST, LAST = datetime(1999, 1, 1, tzinfo=UTC), datetime(2101, 1, 1, tzinfo=UTC)
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)

Event = tuple[datetime, str, str, int, Any]
"""Time, user, name, transaction, and the property `n`, which is an integer."""

_EXPECTED = """
select occurred_at, user_id, event_name, ingested_xid::text::bigint, (properties ->> 'n')::int
from   column_state as state, events
where  generation = %s
and    occurred_at >= coalesce((select horizon from retention), '-infinity')
and    pg_visible_in_snapshot(ingested_xid, snapshot)
and    not (pg_visible_in_snapshot(ingested_xid, backfill_to)
            and not pg_visible_in_snapshot(ingested_xid, backfill_since)
            and (occurred_at, event_id) < (backfilled_from, backfilled_id))
"""
_TEXTS = "select ordinal, user_id from users union all select 0, ''"
_NAMES = "select name_id, event_name from event_names"


def query(conn: connection, text: str, *values: object) -> list[tuple[Any, ...]]:
    with conn.cursor() as cur:
        cur.execute(text, values or None)
        return cur.fetchall()


def chunk_rows(conn: connection, generation: int = 1) -> list[ChunkRow]:
    """Return the list of chunks."""
    with conn.cursor(cursor_factory=Cursor) as cur:
        return read_chunks(cur, generation, FIRST, LAST)


def read_chunk(conn: connection, chunk_id: int, generation: int = 1) -> Chunk:
    """Return a chunk with all of its columns."""
    with conn.cursor(cursor_factory=Cursor) as cur:
        paths = {path_id: path for path, path_id in all_paths(cur, generation).items()}
        rows = read_all_columns(cur, generation, [chunk_id])
        return decode_chunk({row.column: bytes(row.data) for row in rows}, paths)


def written(conn: connection, generation: int = 1) -> Counter[Event]:
    """Return the events that are in chunks."""
    users, names = dict(query(conn, _TEXTS)), dict(query(conn, _NAMES))
    events: Counter[Event] = Counter()
    for row in chunk_rows(conn, generation):
        chunk = read_chunk(conn, row.chunk_id, generation)
        assert (row.events, row.first, row.last) == (len(chunk), chunk.time[0], chunk.time[-1])
        numbers = _numbers(chunk)
        for position, time in enumerate(chunk.time.tolist()):
            user, name = users[int(chunk.user[position])], names[int(chunk.name[position])]
            xid, number = int(chunk.xid[position]), numbers.get(position)
            events[EPOCH + timedelta(microseconds=time), user, name, xid, number] += 1
    return events


def _numbers(chunk: Chunk) -> dict[int, int]:
    """Return the values of the property `n` by position."""
    column = chunk.properties.get(ColumnKey(("n",), "number"))
    if column is None:
        return {}
    assert isinstance(column.values, ScaledNumbers)
    assert column.values.scale == 0
    rows = range(len(chunk)) if column.rows is None else column.rows.tolist()
    return dict(zip(rows, column.values.scaled.tolist(), strict=True))


def expected(conn: connection, generation: int = 1) -> Counter[Event]:
    """Return the events that must be in chunks, according to the state."""
    return Counter(query(conn, _EXPECTED, generation))
