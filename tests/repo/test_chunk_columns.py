"""Columns that a question needs are read once, and counted by where they came from."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import pytest
from psycopg2.extensions import connection

from common.metrics import REGISTRY
from config.database import Cursor
from repo.columns import cache as column_cache
from repo.columns.cache import ChunkColumns, ColumnCache
from repo.columns.codec import field_key
from tests.events import insert
from tests.written_columns import consume, fold

KEYS = [field_key("user"), field_key("time")]


def counts() -> tuple[float, ...]:
    """Return the hits and the misses."""
    name = "analytics_column_cache_columns_total"
    numbers = [REGISTRY.get_sample_value(name, {"result": result}) for result in ("hit", "miss")]
    return tuple(number or 0 for number in numbers)


def uncalled(_: Collection[int]) -> None:
    raise AssertionError


def test_columns_are_misses_once(conn: connection) -> None:
    insert(conn, ("u", "view", datetime(2026, 1, 1, tzinfo=UTC), {"n": 1}))
    fold(conn)
    consume(conn)
    cache, before = ColumnCache(), counts()
    with conn.cursor(cursor_factory=Cursor) as cur:
        for hits, misses in ((0, 2), (2, 2)):
            columns = ChunkColumns(cache, "db", 1)
            columns.read(cur, 1, [1], KEYS, uncalled)
            assert len(columns.open(1)) >= 2
            assert counts() == (before[0] + hits, before[1] + misses)
    size = REGISTRY.get_sample_value("analytics_column_cache_bytes")
    assert size is not None
    assert size > 0


def test_columns_are_used_and_dropped_while_others_are_read(
    conn: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in range(3):
        insert(conn, ("u", "view", datetime(2026, 1, 1, tzinfo=UTC) + timedelta(day), {"n": 1}))
        fold(conn)
        consume(conn)
    monkeypatch.setattr(column_cache, "_READ_CHUNKS", 1)
    monkeypatch.setattr(column_cache, "_MAX_PENDING_BYTES", 0)
    columns, used = ChunkColumns(ColumnCache(0), "db", 1), list[list[int]]()

    def use(chunk_ids: Collection[int]) -> None:
        assert columns.size > 0
        for chunk_id in chunk_ids:
            assert len(columns.open(chunk_id)) >= 2
            assert chunk_id not in columns
        assert columns.size == 0
        used.append(list(chunk_ids))

    with conn.cursor(cursor_factory=Cursor) as cur:
        columns.read(cur, 1, [1, 2, 3], KEYS, use)
    assert used == [[1], [2], [3]]
