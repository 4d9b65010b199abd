"""Columns that were replaced in PostgreSQL leave the memory and the files of services."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from psycopg2.extensions import connection

from repo.columns.cache import COLUMN_CACHE, ColumnFolder
from tests.column_writer import write_columns
from tests.events import fold, insert
from tests.wait_until import wait_until

COUNTS = "/analytics/event-counts"
PARAMS = {"start": "2025-01-01", "end": "2026-01-01", "where": "plan:pro"}
INSTANT = datetime(2025, 5, 5, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    COLUMN_CACHE.share(ColumnFolder(tmp_path, 2**20))
    yield tmp_path
    COLUMN_CACHE.share(None)


def test_replaced_chunks_leave_within_a_second(
    folder: Path, conn: connection, database_url: str, service: httpx.Client
) -> None:
    insert(conn, ("u", "view", INSTANT, {"plan": "pro"}))
    fold(database_url)
    write_columns(conn)
    answer = service.get(COUNTS, params=PARAMS, headers={"Cache-Control": "no-cache"}).json()
    assert (answer["data"]["events"], answer["meta"]["source"]) == (1, "columns")
    assert len(list(folder.iterdir())) == 1
    assert len(COLUMN_CACHE) == 1

    conn.cursor().execute(
        "delete from column_data; delete from column_chunks; "
        "update column_state set version = version + 1"
    )
    wait_until(lambda: list(folder.iterdir()) == [], timeout_s=1)
    assert len(COLUMN_CACHE) == 0
