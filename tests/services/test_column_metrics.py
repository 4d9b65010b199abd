"""Metrics of columns, as the rollup worker publishes them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg2.extensions import connection

from common.metrics import REGISTRY
from repo.rollups.rollup_writer import RollupWriter
from services.background.column_metrics import ColumnMetrics
from tests.events import insert

NOW = datetime.now(UTC)


def value(name: str) -> float:
    number = REGISTRY.get_sample_value(f"analytics_column_{name}")
    assert number is not None
    return number


def test_what_is_in_columns_is_published(conn: connection) -> None:
    before = value("written_events_total"), value("write_seconds_total")
    insert(conn, *[("u", "view", NOW - timedelta(minutes=n), {"n": n}) for n in range(3)])
    writer = RollupWriter(conn, [])
    metrics = ColumnMetrics(writer, 50)
    metrics.publish()  # without rollups there is nothing to publish
    while writer.step().has_more:
        pass
    metrics.publish()
    assert (value("lag_events"), value("chunks"), value("paths")) == (3, 0, 0)
    writer.catch_up()
    metrics.publish()
    metrics.publish()
    assert (value("lag_events"), value("lag_seconds"), value("backfill_events")) == (0, 0, 0)
    assert (value("chunks"), value("paths"), value("path_limit")) == (1, 1, 50)
    assert value("bytes") > 8192
    assert (value("pending_erasures"), value("pending_erasure_seconds")) == (0, 0)
    assert value("written_events_total") == before[0] + 3
    assert value("write_seconds_total") > before[1]


def test_the_lag_begins_with_the_first_event_after_a_quiet_time(
    conn: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("services.background.column_metrics.time.monotonic", lambda: clock[0])
    writer = RollupWriter(conn, [])
    insert(conn, ("u", "view", NOW))
    writer.catch_up()
    metrics = ColumnMetrics(writer, 50)

    def lag_after(seconds: float) -> Any:
        clock[0] += seconds
        metrics.publish()
        return value("lag_seconds")

    assert lag_after(0) == 0
    insert(conn, ("u", "view", NOW))
    writer.step()
    assert [lag_after(5000), lag_after(20), lag_after(300)] == [0, 20, 320]
    writer.catch_up()
    assert lag_after(5) == 0
    insert(conn, ("u", "view", NOW))
    writer.step()
    assert [lag_after(5), lag_after(7)] == [0, 7]
