"""The worker that counts properties as long as the service runs."""

import itertools
import logging
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from psycopg2.extensions import connection

from common.metrics import CATALOGUE_AGE, CATALOGUE_SECONDS
from repo.catalogue import count
from repo.rollups.rollup_writer import RollupWriter
from services.background import catalogue_worker
from services.background.catalogue_worker import count_forever
from tests.events import insert
from tests.services.background import pauses

NOON = datetime(2026, 3, 20, 12, tzinfo=UTC)


def test_the_pause_grows_with_the_duration_of_a_count(
    monkeypatch: pytest.MonkeyPatch, conn: connection, database_url: str
) -> None:
    """The second count is not due."""
    insert(conn, ("u", "view", NOON, {"plan": "pro"}))
    RollupWriter(conn, []).catch_up()
    monkeypatch.setattr(count, "MIN_EVENTS", 0)
    seconds = CATALOGUE_SECONDS._value.get()
    clock = iter([100.0, 101.0, 105.0, 106.0, 200.0, 200.0, 200.0])
    monkeypatch.setattr(catalogue_worker, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    assert pauses(monkeypatch, count_forever, database_url, 2, clock) == [10, 24, 10, 0]
    assert CATALOGUE_SECONDS._value.get() == seconds + 4
    with conn.cursor() as cur:
        cur.execute("select events from catalogue_properties")
        assert cur.fetchall() == [(1,)]


def test_it_goes_on_while_postgresql_is_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    away = "postgresql://nobody@127.0.0.1:1/none"
    assert pauses(monkeypatch, count_forever, away, 2, itertools.repeat(0.0)) == [10, 0] * 2
    assert caplog.messages == ["properties could not be counted"] * 2


def test_without_counts_there_is_no_age_and_a_shorter_pause(
    monkeypatch: pytest.MonkeyPatch, conn: connection, database_url: str
) -> None:
    insert(conn, ("u", "view", NOON, {"plan": "pro"}))
    clock = iter([100.0, 104.0])
    assert pauses(monkeypatch, count_forever, database_url, 1, clock) == [10, 4]
    samples = {sample.value for metric in CATALOGUE_AGE.collect() for sample in metric.samples}
    assert samples == {0}
