"""The cost of a transaction that writes columns: time, write-ahead log, and dead rows."""

import time
from collections.abc import Callable
from typing import NamedTuple

from psycopg2.extensions import connection

_WAL = "select pg_current_wal_insert_lsn() - '0/0'"
# Dead rows of the tables of columns and of their TOAST tables, which hold values over a few kB.
_DEAD = """
select coalesce(sum(n_tup_upd + n_tup_del), 0)
from   pg_class
join   pg_stat_all_tables on relid in (pg_class.oid, reltoastrelid)
where  pg_class.oid in ('column_state'::regclass, 'column_chunks'::regclass,
                        'column_data'::regclass, 'column_paths'::regclass, 'batch_log'::regclass,
                        'columns_erasures'::regclass)
"""


class Usage(NamedTuple):
    """The sum over transactions."""

    ms: float
    wal_bytes: int
    dead_rows: int


def usage_of(conn: connection, work: Callable[[], object]) -> Usage:
    """Return what work on a connection in autocommit costs, while nothing else is written."""
    wal, dead, began = _value(conn, _WAL), _dead_rows(conn), time.perf_counter()
    work()
    ms = (time.perf_counter() - began) * 1000
    return Usage(ms, _value(conn, _WAL) - wal, _dead_rows(conn) - dead)


def total(usages: list[Usage]) -> Usage:
    ms, wal_bytes, dead_rows = (sum(column) for column in zip(*usages, strict=True))
    return Usage(ms, int(wal_bytes), int(dead_rows))


def _value(conn: connection, statement: str) -> int:
    with conn.cursor() as cur:
        cur.execute(statement)
        (number,) = cur.fetchone() or (0,)
        return int(number)


def _dead_rows(conn: connection) -> int:
    _value(conn, "select pg_stat_force_next_flush() is null")
    return _value(conn, _DEAD)
