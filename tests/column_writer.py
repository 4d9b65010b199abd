"""Writes events to columns at once, in chunks of any size."""

from collections.abc import Sequence
from typing import Any

from psycopg2.extensions import connection

from config.database import Cursor
from repo.columns.builder import EventRecord, PathLimit, build_chunk
from repo.columns.chunk_table import ALL_PATHS, ChunkHead, read_paths, register_paths, write_chunk
from repo.columns.codec import FORMAT, encode_chunk

_UNWRITTEN = """
select (extract(epoch from occurred_at) * 1000000)::bigint - 946684800000000,
       coalesce(ordinal, 0), name_id, ingested_xid::text::bigint, uuid_send(event_id),
       properties::text
from   events
join   event_names using (event_name)
left   join users using (user_id)
where  pg_visible_in_snapshot(ingested_xid, %(to)s)
and    not pg_visible_in_snapshot(ingested_xid, %(since)s)
order  by ingested_xid, event_id
"""
_STATE = """
insert into column_state (generation)
select generation from fold_state where is_current
on     conflict do nothing;
select generation, column_state.snapshot::text, fold_state.snapshot::text
from   column_state
join   fold_state using (generation)
where  is_current;
"""


def write_columns(conn: connection, size: int = 131_072, limit: int = 2_000) -> None:
    """Write what is folded and in no chunk yet, in chunks of `size` events in any order."""
    with conn.cursor(cursor_factory=Cursor) as cur:
        cur.execute(_STATE)
        generation, since, to = cur.fetchone() or (0, "", "")
        cur.execute(_UNWRITTEN, {"since": since, "to": to})
        events = [_record(*row) for row in cur]
        paths = PathLimit({tuple(path) for path in _paths(cur, generation)}, limit)
        for start in range(0, len(events), size):
            _write(cur, generation, events[start : start + size], paths)
        cur.execute(
            "update column_state set snapshot = %s, version = version + 1, left_out = %s "
            "where generation = %s",
            (to, paths.left_out, generation),
        )


def _record(time: int, user: int, name: int, xid: int, event_id: Any, text: str) -> EventRecord:
    return EventRecord(time, user, name, xid, bytes(event_id), text)


def _paths(cur: Cursor, generation: int) -> list[list[str]]:
    cur.execute("select path from column_paths where generation = %s", (generation,))
    return [path for (path,) in cur]


def _write(cur: Cursor, generation: int, events: Sequence[EventRecord], paths: PathLimit) -> None:
    chunk = build_chunk(events, paths)
    if paths.new:
        register_paths(cur, generation, paths.new)
        paths.new.clear()
    ids = read_paths(cur, generation, {key.path for key in chunk.properties})
    stored = encode_chunk(chunk, ids)
    size = sum(map(len, stored.values()))
    first, last = int(chunk.time[0]), int(chunk.time[-1])
    complete_to = len(_paths(cur, generation)) if paths.left_out else ALL_PATHS
    head = ChunkHead(FORMAT, 0, False, True, len(chunk), size, first, last, complete_to)
    write_chunk(cur, generation, head, stored)
