"""The cost of single changes: a late event, a merge of chunks, the erasure of an active user."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from statistics import median

import pyarrow as pa
from psycopg2.extensions import connection

from bench.columns.usage import Usage, usage_of
from bench.columns.writers import fold, write_columns
from bench.event_set import START, sample, user_at, with_times
from bench.stored_set import copy
from repo.columns.chunk_writer import FAN_IN
from repo.columns.store import ColumnStore
from repo.lifecycle.erasure import EraseRepo

_LATE_EVENTS = FAN_IN - 1
"""One more would be a merge."""
_MERGES = 3
_MERGED_EVENTS = 15_000
"""Events of each of the chunks that are merged."""


def change_costs(conn: connection) -> dict[str, float]:
    """Return times in ms and bytes of write-ahead log. All events of `conn` are in columns."""
    late, merged = list(_late_events(conn)), list(_merges(conn))
    return {
        **_medians("late_event", late),
        **_medians(f"merge_of_{FAN_IN}_chunks_of_{_MERGED_EVENTS}", merged),
        **_erasure(conn),
    }


def _late_events(conn: connection) -> Iterator[Usage]:
    """Yield what single events that are months old cost."""
    events = sample(_LATE_EVENTS, seed=6)
    for number in range(_LATE_EVENTS):
        _insert(conn, events.slice(number, 1), START + timedelta(days=number))
        yield _usage_of_step(conn)


def _merges(conn: connection) -> Iterator[Usage]:
    """Yield what merges of chunks of new events cost."""
    events = sample(_MERGES * FAN_IN * _MERGED_EVENTS, seed=7)
    for number in range(_MERGES * FAN_IN):
        part = events.slice(number * _MERGED_EVENTS, _MERGED_EVENTS)
        _insert(conn, part, datetime.now(UTC) - timedelta(hours=1))
        _usage_of_step(conn)
        if (number + 1) % FAN_IN == 0:
            yield _usage_of_step(conn)


def _insert(conn: connection, events: pa.Table, occurred_at: datetime) -> None:
    copy(conn, with_times(events, [occurred_at] * events.num_rows))
    fold(conn)


def _usage_of_step(conn: connection) -> Usage:
    store = ColumnStore([])
    return usage_of(conn, lambda: store.maintain(conn, is_lazy=False))


def _erasure(conn: connection) -> dict[str, float]:
    """Return the cost of erasing the most active user, and of rewriting the chunks after that."""
    user_id = user_at(0)
    repo = EraseRepo(conn)
    events = repo.count([user_id])
    erased = usage_of(conn, lambda: repo.erase(user_id))
    rewritten = usage_of(conn, lambda: write_columns(conn))
    return {
        "erased_user_events": events,
        "erase_ms": erased.ms,
        "erase_columns_ms": rewritten.ms,
        "erase_columns_wal_bytes": rewritten.wal_bytes,
    }


def _medians(name: str, usages: list[Usage]) -> dict[str, float]:
    return {
        f"{name}_ms": median(usage.ms for usage in usages),
        f"{name}_wal_bytes": median(usage.wal_bytes for usage in usages),
    }
