"""Very many events are folded in parts of a bounded size, and each of them once."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from psycopg2.extensions import connection

from common.questions.active_users import ActiveUsers
from common.questions.event_counts import EventCounts
from config.database_errors import DatabaseUnavailable
from repo.rollups import claim
from repo.rollups import rollup_writer as rollup_writer_module
from repo.rollups.rollup_writer import RollupWriter
from tests.events import insert
from tests.source_comparison import connected, open_asker
from tests.wait_until import wait_until
from utils.time.zones import zone

ZONES = [zone("UTC")]
NOW = datetime.now(UTC)
FULL_RANGE = EventCounts(
    start=NOW - timedelta(days=2), end=NOW + timedelta(days=1), interval="hour"
)
ACTIVE = ActiveUsers(last="3d")


@pytest.fixture(params=["dense", "sparse"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How a sweep is read: the next of all events, or all that is left of those that wait."""
    monkeypatch.setattr(claim, "_PROBE", 1)
    monkeypatch.setattr(claim, "_DENSE", 1 if request.param == "dense" else 2)


def parts(writer: RollupWriter, url: str, events: int) -> list[int]:
    """How many events each step folded; after each the answers are those of the events."""
    folded = []
    with open_asker(url) as asker:
        is_more = True
        while is_more:
            step = writer.step()
            folded.append(step.events)
            is_more = step.has_more
            assert asker.compare(FULL_RANGE).events == events
            asker.compare(ACTIVE)
    return [count for count in folded if count]


def test_events_of_one_moment_are_swept_in_parts(conn: connection, database_url: str) -> None:
    moments = [NOW - timedelta(hours=30)] * 7 + [NOW - timedelta(hours=5)]
    insert(conn, *((f"u{n}", "view", instant) for n, instant in enumerate(moments)))
    assert parts(RollupWriter(conn, ZONES, max_events=2), database_url, 8) == [2, 2, 2, 2]


def test_late_events_of_the_moment_that_a_sweep_has_come_to(
    conn: connection, database_url: str
) -> None:
    """They belong to the next sweep, whatever their ids."""
    instant = NOW - timedelta(hours=30)
    insert(conn, *((f"u{n}", "view", instant) for n in range(5)))
    writer = RollupWriter(conn, ZONES, max_events=2)
    writer.step()
    insert(conn, *((f"v{n}", "view", instant) for n in range(5)))
    assert parts(writer, database_url, 10) == [2, 1, 2, 2, 1]


def test_events_far_from_each_other(conn: connection, database_url: str) -> None:
    """Between them are more that are folded than a step reads."""
    near, far = NOW - timedelta(hours=30), NOW - timedelta(hours=20)
    insert(conn, *(("u", "view", near + timedelta(minutes=n)) for n in range(200)))
    writer = RollupWriter(conn, ZONES)
    writer.catch_up()
    writer = RollupWriter(conn, ZONES, max_events=2)
    insert(conn, *((f"v{n}", "view", near + timedelta(minutes=n)) for n in (-1, 60.5, 199.5)))
    insert(conn, *((f"w{n}", "buy", far) for n in range(5)))
    assert sum(parts(writer, database_url, 208)) == 8


def test_events_whose_time_has_come_are_folded_in_parts(
    conn: connection, database_url: str
) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1)
    moments = [soon + timedelta(milliseconds=n // 2) for n in range(9)]
    insert(conn, *((f"u{n}", "view", instant) for n, instant in enumerate(moments)))
    writer = RollupWriter(conn, ZONES, max_events=3)
    while writer.step().has_more:
        pass
    wait_until(lambda: datetime.now(UTC) > moments[-1], timeout_s=5)
    time.sleep(0.05)
    assert parts(writer, database_url, 9) == [4, 4, 1]  # with those of the same moment


def test_folds_that_fail_use_up_no_ordinals(
    conn: connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert(conn, ("u1", "view", NOW), ("u2", "buy", NOW))
    with monkeypatch.context() as patch:
        patch.setattr(rollup_writer_module, "write_progress", failing)
        for _ in range(3):
            with pytest.raises(DatabaseUnavailable):
                RollupWriter(conn, ZONES).step()
    RollupWriter(conn, ZONES).catch_up()
    insert(conn, ("u3", "sell", NOW))
    with connected(database_url) as another:
        RollupWriter(another, ZONES).catch_up()
    with conn.cursor() as cur:
        cur.execute("select array_agg(ordinal order by ordinal) from users")
        assert cur.fetchone() == ([1, 2, 3],)
        cur.execute("select array_agg(name_id order by name_id) from event_names")
        assert cur.fetchone() == ([1, 2, 3],)


def failing(*_: object) -> None:
    raise DatabaseUnavailable("in the middle")
