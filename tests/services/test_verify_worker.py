"""Samples are verified beside the rollup worker, and take a small part of the time."""

import itertools
import logging
from datetime import UTC, datetime

import pytest
from psycopg2.extensions import connection

from common.metrics import VERIFIED_ROWS, VERIFY_DIFFERENCES
from repo.rollups.rollup_writer import RollupWriter
from services.background.verify_worker import verify_forever
from tests.events import insert
from tests.services.background import pauses
from utils.time.zones import zone

NOON = datetime(2026, 3, 20, 12, tzinfo=UTC)


@pytest.fixture
def folded(conn: connection) -> connection:
    insert(conn, ("u", "view", NOON), ("v", "view", NOON))
    RollupWriter(conn, [zone("UTC")]).catch_up()
    return conn


def test_the_pause_grows_with_the_duration_of_a_sample(
    monkeypatch: pytest.MonkeyPatch, folded: connection, database_url: str
) -> None:
    """Samples take at most a thirtieth of the time."""
    clock = iter([100.0, 100.0, 200.0, 216.0, 300.0, 3900.0])
    rows = VERIFIED_ROWS._value.get()
    assert pauses(monkeypatch, verify_forever, database_url, 3, clock) == [15, 0, 15, 480, 15, 900]
    assert VERIFIED_ROWS._value.get() > rows


def test_differences_are_counted_and_logged(
    monkeypatch: pytest.MonkeyPatch,
    folded: connection,
    database_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folded.cursor().execute("update slots set events = events + 1")
    drift = VERIFY_DIFFERENCES._value.get()
    pauses(monkeypatch, verify_forever, database_url, 1, itertools.repeat(0))
    assert VERIFY_DIFFERENCES._value.get() > drift
    assert "rollups differ from the events" in caplog.messages


def test_it_goes_on_while_postgresql_is_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    away = "postgresql://nobody@127.0.0.1:1/none"
    assert pauses(monkeypatch, verify_forever, away, 3, itertools.repeat(0)) == [15, 0] * 3
    assert caplog.messages == ["a sample could not be verified"] * 3
