"""Answers about what is over are kept for long, and a late event changes just those over it."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial

import httpx
import pytest
from psycopg2.extensions import connection

from common.metrics import ROLLUP_LAG_SECONDS
from repo.rollups.rollup_writer import RollupWriter
from tests.events import insert
from tests.live_server import running
from tests.wait_until import adjusted_for_load, wait_until
from utils.time.zones import zone

COUNTS = "/analytics/event-counts"
JANUARY = {"start": "2026-01-01", "end": "2026-02-01"}
MARCH = {"start": "2026-03-01", "end": "2026-04-01"}
IN_JANUARY = "2026-01-20T12:00:00Z"
IN_MARCH = "2026-03-20T12:00:00Z"


@pytest.fixture
def writer(conn: connection) -> RollupWriter:
    return RollupWriter(conn, [zone("UTC")])


@pytest.fixture
def workers(
    database_url: str, redis_url: str, conn: connection, writer: RollupWriter
) -> Iterator[list[httpx.Client]]:
    """Two that share a cache, over one event in each month; open answers are not kept."""
    insert(conn, ("u", "view", IN_JANUARY), ("u", "view", IN_MARCH))
    writer.catch_up()
    with ExitStack() as stack:
        open_ = (running(database_url, redis_url, cache_ttl_open_s=0) for _ in range(2))
        clients = [stack.enter_context(one) for one in open_]
        for client in clients:
            wait_until(partial(_is_cached, client, JANUARY), timeout_s=5)
            wait_until(partial(_is_cached, client, MARCH), timeout_s=5)
        yield clients


def _is_cached(client: httpx.Client, params: dict[str, str]) -> bool:
    return client.get(COUNTS, params=params).headers["x-cache"] == "hit"


def _events(client: httpx.Client, params: dict[str, str]) -> int:
    return int(client.get(COUNTS, params=params).json()["data"]["events"])


def _counts(client: httpx.Client, params: dict[str, str], events: int) -> bool:
    return _events(client, params) == events


def _mau(client: httpx.Client, params: dict[str, str]) -> int:
    answer = client.get("/analytics/active-users", params=params).json()
    return int(answer["data"]["series"][0]["mau"])


def test_a_late_event_changes_the_answers_over_its_month_everywhere(
    workers: list[httpx.Client], conn: connection, writer: RollupWriter
) -> None:
    insert(conn, ("late", "view", IN_JANUARY))
    writer.catch_up()
    began = time.monotonic()
    for client in workers:
        wait_until(partial(_counts, client, JANUARY, 2), timeout_s=1)
    assert time.monotonic() - began < adjusted_for_load(1)
    for client in workers:
        assert _is_cached(client, MARCH)


def test_ranges_that_reach_back_into_the_month_change_as_well(
    workers: list[httpx.Client], conn: connection, writer: RollupWriter
) -> None:
    february = {"start": "2026-02-01", "end": "2026-02-10"}
    assert _mau(workers[0], february) == 1
    insert(conn, ("late", "view", "2026-01-31T12:00:00Z"))
    writer.catch_up()
    wait_until(lambda: _mau(workers[0], february) == 2, timeout_s=1)


def test_responses_are_cached_briefly_without_a_rollup_worker(
    workers: list[httpx.Client], conn: connection
) -> None:
    """Late events are watched by the rollup worker; it is not relied on once it is seen to lag."""
    insert(conn, ("late", "view", IN_JANUARY))
    wait_until(lambda: _events(workers[0], JANUARY) == 2, timeout_s=5)


def test_rollup_lag_is_reported_without_a_rollup_worker(
    workers: list[httpx.Client], conn: connection, writer: RollupWriter
) -> None:
    wait_until(lambda: _wait_s() == 0, timeout_s=2)
    inserted_at = time.monotonic()
    insert(conn, ("late", "view", IN_JANUARY))
    wait_until(lambda: _wait_s() > 1, timeout_s=5)
    assert _wait_s() <= time.monotonic() - inserted_at
    writer.catch_up()
    wait_until(lambda: _wait_s() == 0, timeout_s=2)


def _wait_s() -> float:
    (metric,) = ROLLUP_LAG_SECONDS.collect()
    return float(metric.samples[0].value)


def test_an_event_after_an_idle_period_does_not_disable_cached_responses(
    workers: list[httpx.Client], conn: connection, writer: RollupWriter
) -> None:
    """The rollup worker has folded nothing for long since there was nothing to fold."""
    cur = conn.cursor()
    cur.execute("update fold_state set folded_at = folded_at - interval '1 minute'")
    wait_until(lambda: _is_cached(workers[0], MARCH), timeout_s=2)
    insert(conn, ("u", "view", datetime.now(UTC).isoformat()))
    end = time.monotonic() + 1
    while time.monotonic() < end:
        assert _is_cached(workers[0], MARCH)


def test_responses_are_cached_briefly_during_a_backfill(
    workers: list[httpx.Client], conn: connection
) -> None:
    insert(conn, *[("late", "view", IN_JANUARY)] * 3)
    sweeps = RollupWriter(conn, [zone("UTC")], max_events=1)
    sweeps.step()
    wait_until(lambda: _events(workers[0], JANUARY) == 4, timeout_s=1)
    assert not _is_cached(workers[0], MARCH)
    sweeps.catch_up()
    wait_until(partial(_is_cached, workers[0], MARCH), timeout_s=2)


def test_a_rebuild_invalidates_cached_responses(
    workers: list[httpx.Client], conn: connection, writer: RollupWriter
) -> None:
    writer.rebuild()
    wait_until(lambda: not _is_cached(workers[0], MARCH), timeout_s=2)
    assert _events(workers[0], MARCH) == 1


def test_late_events_are_seen_after_a_clock_was_put_right(
    workers: list[httpx.Client], conn: connection, writer: RollupWriter
) -> None:
    """Folds of a clock that was ahead have versions that are; a rebuild begins below them."""
    ahead = (
        "update fold_state set version = (extract(epoch from now() + interval '1h') * 1e6)::int8"
    )
    conn.cursor().execute(ahead)
    insert(conn, ("late", "view", IN_JANUARY))
    writer.catch_up()
    writer.rebuild()
    wait_until(partial(_counts, workers[0], JANUARY, 2), timeout_s=2)
    wait_until(partial(_is_cached, workers[0], JANUARY), timeout_s=2)
    insert(conn, ("later", "view", IN_JANUARY))
    writer.catch_up()
    wait_until(partial(_counts, workers[0], JANUARY, 3), timeout_s=2)


@pytest.mark.parametrize(
    ("question", "more"),
    [
        ("event-counts", {"end": "2099-12-31"}),
        ("event-counts", {"end": "2099-12-31", "where": "@user:u"}),
        ("retention", {"end": "2026-02-01", "count": "on_or_after"}),
    ],
)
def test_an_answer_that_is_not_final_is_found_again_for_a_short_time(
    database_url: str,
    redis_url: str,
    conn: connection,
    writer: RollupWriter,
    question: str,
    more: dict[str, str],
) -> None:
    insert(conn, ("u", "view", IN_JANUARY))
    writer.catch_up()
    path, params = f"/analytics/{question}", {"start": "2026-01-01", **more}
    with running(database_url, redis_url, cache_ttl_open_s=60) as service:
        answers = [service.get(path, params=params).headers["x-cache"] for _ in range(2)]
    assert answers == ["miss", "hit"]
    params["event"] = "view"
    with running(database_url, redis_url, cache_ttl_open_s=0) as service:
        answers = [service.get(path, params=params).headers["x-cache"] for _ in range(2)]
    assert answers == ["miss", "miss"]


def test_a_plan_is_kept_as_answers_about_open_ranges_are(
    database_url: str, redis_url: str, conn: connection, writer: RollupWriter
) -> None:
    """It tells what is not folded yet, whatever the range."""
    insert(conn, ("u", "view", IN_JANUARY))
    writer.catch_up()
    params = {**JANUARY, "explain": "true"}
    with running(database_url, redis_url, cache_ttl_open_s=60) as service:
        answers = [service.get(COUNTS, params=params).headers["x-cache"] for _ in range(2)]
    assert answers == ["miss", "hit"]
    with running(database_url, redis_url, cache_ttl_open_s=0) as service:
        assert not _is_cached(service, {**params, "event": "view"})
        assert not _is_cached(service, {**params, "event": "view"})
