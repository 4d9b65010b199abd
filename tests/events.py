"""Inserts events by SQL, because the loader is under test itself."""

import gzip
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg2
from psycopg2.extensions import connection
from psycopg2.extras import Json, execute_values

from repo.rollups.rollup_writer import RollupWriter
from utils.time.zones import zone

GIT_HISTORY = Path(__file__).parent / "data" / "git-history.ndjson.gz"

_INSERT = "insert into events (event_id, user_id, event_name, occurred_at, properties) values %s"
_INSERT_MANY = """
insert into events (event_id, user_id, event_name, occurred_at)
select gen_random_uuid(), 'w', 'view', %s from generate_series(1, %s)
"""

# Delimiters that no line contains: each line is one value.
_COPY_LINES = r"copy lines from stdin (format csv, quote e'\x01', delimiter e'\x02')"
_INSERT_LINES = """
insert into events (event_id, user_id, event_name, occurred_at, properties)
select (line ->> 'event_id')::uuid, line ->> 'user_id', line ->> 'event_name',
       (line ->> 'occurred_at')::timestamptz, line -> 'properties'
from   lines
"""


def insert(conn: connection, *rows: tuple[Any, ...]) -> None:
    """Insert rows of (user_id, event_name, occurred_at[, properties]) with generated ids."""
    with conn.cursor() as cur:
        records = [(str(uuid4()), *row[:3], Json(row[3] if len(row) > 3 else {})) for row in rows]
        execute_values(cur, _INSERT, records)


def insert_many(conn: connection, count: int, instant: datetime) -> None:
    """Insert `count` events of one user at one instant."""
    with conn.cursor() as cur:
        cur.execute(_INSERT_MANY, (instant, count))


def insert_git_history(url: str) -> None:
    conn = psycopg2.connect(url)
    with conn, conn.cursor() as cur, gzip.open(GIT_HISTORY, "rb") as file:
        cur.execute("create temporary table lines (line jsonb) on commit drop")
        cur.copy_expert(_COPY_LINES, file)
        cur.execute(_INSERT_LINES)
    conn.autocommit = True
    conn.cursor().execute("analyze events")
    conn.close()


def insert_folded(
    conn: connection, url: str, events: Sequence[tuple[Any, ...]], folded: int
) -> None:
    """Insert rows as `insert` does, and fold before all but this number of them come."""
    insert(conn, *events[:folded])
    fold(url)
    insert(conn, *events[folded:])


def fold(url: str) -> None:
    conn = psycopg2.connect(url)
    conn.autocommit = True
    RollupWriter(conn, [zone("UTC")]).catch_up()
    conn.close()
