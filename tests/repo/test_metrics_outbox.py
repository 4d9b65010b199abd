"""What the rollup worker tells in the metrics: each event once, whatever becomes of rollups."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg2.extensions import connection

from common.metrics import ACTIVE_USERS, EVENTS, REJECTED_ROWS
from repo.rollups import rollup_writer as rollup_writer_module
from repo.rollups.rollup_writer import RollupWriter
from services.background.rollup_worker import (
    _publish_active_users,
    _publish_business_metrics,
    _publish_rejected_rows,
)
from tests.events import insert
from tests.servers import as_role
from tests.source_comparison import connected
from tests.wait_until import wait_until
from utils.time.zones import zone

ZONES = [zone("UTC")]
NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@pytest.fixture
def writer(conn: connection) -> RollupWriter:
    return RollupWriter(conn, ZONES)


def published(writer: RollupWriter) -> dict[str, int]:
    """What is told of views, and of all others."""
    return writer.take_outbox(["view", "never seen"])


def execute(conn: connection, text: str, *values: object) -> None:
    with conn.cursor() as cur:
        cur.execute(text, values)


def test_events_are_told_once_by_name(conn: connection, writer: RollupWriter) -> None:
    insert(conn, ("u", "view", NOW), ("", "view", NOW - 400 * DAY), ("u", "buy", NOW))
    assert published(writer) == {}
    writer.step()
    insert(conn, ("u", "view", NOW), ("u", "left", NOW))
    writer.step()
    assert published(writer) == {"view": 3, "other": 2}
    assert published(writer) == {}


def test_events_folded_by_another_process_are_published(
    conn: connection, writer: RollupWriter
) -> None:
    insert(conn, ("u", "view", NOW))
    RollupWriter(conn, ZONES).catch_up()
    writer.catch_up()
    assert published(writer) == {"view": 1}


def test_a_fold_that_fails_tells_nothing(
    conn: connection, writer: RollupWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert(conn, ("u", "view", NOW))
    monkeypatch.setattr(rollup_writer_module, "write_progress", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        writer.step()
    monkeypatch.undo()
    writer.catch_up()
    assert published(writer) == {"view": 1}


def test_an_event_of_the_future_is_told_when_its_time_comes(
    conn: connection, writer: RollupWriter
) -> None:
    insert(conn, ("u", "view", datetime.now(UTC) + timedelta(seconds=1)))
    writer.step()
    assert published(writer) == {}
    counts: list[dict[str, int]] = []

    def come() -> bool:
        writer.step()
        counts.append(published(writer))
        return bool(counts[-1])

    wait_until(come, timeout_s=3)
    assert counts[-1] == {"view": 1}


def test_a_rebuild_tells_nothing_again(conn: connection, writer: RollupWriter) -> None:
    insert(conn, *[("u", "view", NOW)] * 3)
    writer.catch_up()
    assert published(writer) == {"view": 3}
    writer.rebuild()
    assert published(writer) == {}


def test_what_comes_in_at_the_end_of_a_rebuild_is_told(
    conn: connection, database_url: str, writer: RollupWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the last step of the old rollups, and before that of the new ones."""
    now = datetime.now(UTC)  # no span is over: there is one step
    insert(conn, *[("u", "view", now)] * 3)
    writer.catch_up()
    published(writer)
    step, once = RollupWriter._step, iter([True])

    def late(self: RollupWriter, generation: int) -> Any:
        if generation == 2 and next(once, False):
            with connected(database_url) as other:
                insert(other, ("u", "view", now), ("u", "buy", now))
        return step(self, generation)

    monkeypatch.setattr(RollupWriter, "_step", late)
    writer.rebuild()
    monkeypatch.undo()
    writer.catch_up()
    assert published(writer) == {"view": 1, "other": 1}


def test_an_event_whose_time_comes_at_the_end_of_a_rebuild_is_told(
    conn: connection, writer: RollupWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    instant = datetime.now(UTC) + timedelta(seconds=1)
    insert(conn, ("u", "view", instant))
    writer.step()
    step = RollupWriter._step

    def late(self: RollupWriter, generation: int) -> Any:
        if generation == 2:
            wait_until(lambda: datetime.now(UTC) > instant, timeout_s=3)
        return step(self, generation)

    monkeypatch.setattr(RollupWriter, "_step", late)
    writer.rebuild()
    monkeypatch.undo()
    writer.catch_up()
    assert published(writer) == {"view": 1}


def test_what_was_told_before_a_rebuild_came_to_it_is_not_told_again(
    conn: connection, writer: RollupWriter
) -> None:
    """The new rollups sweep up to a moment that the old ones have long passed."""
    insert(conn, *[("u", "view", NOW)] * 3)
    writer.catch_up()
    slow = RollupWriter(conn, ZONES, max_events=2)
    slow._begin()
    slow.step()
    insert(conn, ("u", "view", NOW), ("u", "buy", NOW))
    writer._step(1)
    slow.catch_up()
    slow.catch_up()
    assert published(slow) == {"view": 4, "other": 1}


def test_what_was_restored_is_not_told(conn: connection, writer: RollupWriter) -> None:
    """What comes in while rollups are made anew is; what was about to be told was, elsewhere."""
    insert(conn, *[("u", "view", NOW)] * 3)
    writer.catch_up()
    execute(conn, "update fold_state set cluster = 1")
    anew = RollupWriter(conn, ZONES, max_events=2)
    anew.step()
    insert(conn, ("u", "view", NOW), ("u", "buy", NOW))
    anew.catch_up()
    assert published(anew) == {"view": 1, "other": 1}
    insert(conn, ("u", "view", NOW))
    anew.catch_up()
    assert published(anew) == {"view": 1}


class TestActiveUsers:
    def test_are_those_of_today(self, conn: connection, writer: RollupWriter) -> None:
        for days, users in ((0, 1), (3, 2), (20, 4), (40, 8)):
            insert(conn, *((f"{days}-{n}", "view", NOW - days * DAY) for n in range(users)))
        assert writer.active_users() == {}
        writer.catch_up()
        assert writer.active_users() == {"today": 1, "7d": 3, "30d": 7}

    def test_are_of_the_first_zone(self, conn: connection) -> None:
        """Where it is another day already, or still."""
        now = datetime.now(UTC)
        insert(conn, *((f"{n}", "view", now - n * timedelta(hours=1)) for n in range(24)))
        zones = [zone("Pacific/Kiritimati"), zone("Pacific/Pago_Pago")]
        RollupWriter(conn, zones).catch_up()
        for tz in zones:
            hours_begun = now.astimezone(tz).hour + 1
            assert RollupWriter(conn, [tz]).active_users()["today"] == hours_begun

    def test_active_users_of_yesterday_are_not_published(
        self, conn: connection, writer: RollupWriter
    ) -> None:
        insert(conn, ("u", "view", NOW), ("u", "view", NOW - DAY))
        writer.catch_up()
        execute(conn, "delete from day_users where ends_at > now()")
        assert writer.active_users() == {}

    def test_are_not_shown_while_nobody_knows(self) -> None:
        _publish_active_users({"today": 1, "7d": 2, "30d": 3})
        assert exported() == {"today": 1, "7d": 2, "30d": 3}
        _publish_active_users({})
        assert exported() == {}


def exported() -> dict[str, float]:
    (metric,) = ACTIVE_USERS.collect()
    values = {sample.labels["period"]: sample.value for sample in metric.samples}
    return {period: value for period, value in values.items() if not math.isnan(value)}


def test_the_role_of_the_rollup_worker_may_publish(conn: connection, database_url: str) -> None:
    insert(conn, ("u", "view", NOW))
    execute(conn, "insert into adopted_tables (table_name, fields) values ('t', '{}')")
    execute(conn, "insert into rejected_rows select 1, n, 'because' from generate_series(1, 3) n")
    with connected(as_role(database_url, "rollup")) as folding:
        writer = RollupWriter(folding, ZONES)
        writer.catch_up()
        before = EVENTS.labels("view")._value.get()
        for _ in range(2):
            _publish_business_metrics(writer, ["view"])
        _publish_rejected_rows(writer)
    assert EVENTS.labels("view")._value.get() == before + 1
    assert REJECTED_ROWS._value.get() == 3
    assert exported() == {"today": 1, "7d": 1, "30d": 1}
