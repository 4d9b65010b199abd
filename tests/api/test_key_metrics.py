"""Requests by the name of their key: in the metrics, and in the lines of the log."""

import io
import logging
from typing import Any

import httpx
import pytest
from psycopg2.extensions import connection

from config.logging import TextFormatter
from tests.api.test_caching import COUNTS
from tests.api.test_keys import add_key, guess, store_key
from tests.faults.service_process import service as started
from tests.live_server import running, scrape, value
from tests.wait_until import wait_until

RANGE = {"start": "2025-03-10", "end": "2025-03-12"}


def series(key: str, status: int) -> str:
    return f'analytics_key_requests_total{{key="{key}",status="{status}"}}'


def counted(service: httpx.Client, before: str, key: str, status: int) -> float:
    """How many were counted since the page `before`."""
    return value(scrape(service), series(key, status)) - value(before, series(key, status))


def send(service: httpx.Client, **headers: str) -> int:
    return service.get(COUNTS, params=RANGE, headers=headers).status_code


def labels(page: str) -> set[str]:
    """The keys that a page shows."""
    found = [line for line in page.splitlines() if line.startswith("analytics_key_requests_total{")]
    return {line.split('key="')[1].split('",status=')[0] for line in found}


def lines_of(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if record.name == "analytics.access"]


def test_answers_are_counted_by_key(service: httpx.Client, conn: connection) -> None:
    """Computed and cached ones."""
    other = add_key(conn, "of-a-job", "read", name="nightly job")
    wait_until(lambda: send(service, **other) == 200, timeout_s=3)
    before = scrape(service)
    assert [send(service) for _ in range(3)] == [200] * 3
    assert [send(service, **other) for _ in range(2)] == [200] * 2
    wait_until(lambda: counted(service, before, "tests", 200) == 3, timeout_s=2)
    wait_until(lambda: counted(service, before, "nightly job", 200) == 2, timeout_s=2)


def test_refusals_are_counted_by_key(service: httpx.Client, conn: connection) -> None:
    writer = add_key(conn, "a-writer", "write", name="writer")
    before = scrape(service)
    assert service.get(COUNTS, params={"last": "never"}).status_code == 422
    assert service.get("/analytics/nothing").status_code == 404
    assert send(service, **writer) == 403
    wait_until(lambda: counted(service, before, "tests", 422) == 1, timeout_s=2)
    wait_until(lambda: counted(service, before, "tests", 404) == 1, timeout_s=2)
    wait_until(lambda: counted(service, before, "writer", 403) == 1, timeout_s=2)


def test_a_key_over_its_limit_is_named(database_url: str, redis_url: str) -> None:
    with running(database_url, redis_url, rate_limit=1) as service:
        before = scrape(service)
        refused = [send(service) for _ in range(9)].count(429)
        assert refused > 0
        wait_until(lambda: counted(service, before, "tests", 429) == refused, timeout_s=2)


def test_what_has_no_key_is_counted_as_such(service: httpx.Client) -> None:
    """Without one, with one that is not known, and on paths that need none."""
    with httpx.Client(base_url=service.base_url) as stranger:
        before = scrape(service)
        assert stranger.get(COUNTS).status_code == 401
        assert stranger.get(COUNTS, headers=guess(1)).status_code == 401
        assert stranger.get("/healthz").status_code == 200
    wait_until(lambda: counted(service, before, "(none)", 401) == 2, timeout_s=2)
    wait_until(lambda: counted(service, before, "(none)", 200) >= 1, timeout_s=2)
    assert "guess" not in scrape(service)


def test_at_most_50_names_are_counted(service: httpx.Client, conn: connection) -> None:
    """`tests` is the first; a revoked key makes room for the next name."""
    # No other test uses these names: a page shows those of all services of this process.
    many = [add_key(conn, f"seat-{n}", "read", name=f"seat {n}") for n in range(1, 53)]
    wait_until(lambda: send(service, **many[-1]) == 200, timeout_s=3)
    before = scrape(service)
    assert {send(service, **key) for key in many} == {200}
    wait_until(lambda: counted(service, before, "(other)", 200) == 3, timeout_s=2)
    shown = {label for label in labels(scrape(service)) if label.startswith("seat")}
    assert shown == {f"seat {n}" for n in range(1, 50)}
    conn.cursor().execute("update api_keys set revoked_at = now() where name = 'seat 7'")
    wait_until(lambda: "seat 7" not in labels(scrape(service)), timeout_s=5)
    assert send(service, **many[49]) == 200
    wait_until(lambda: "seat 50" in labels(scrape(service)), timeout_s=2)


def test_a_rotated_key_is_counted_under_its_name(service: httpx.Client, conn: connection) -> None:
    with conn.cursor() as cur:
        add_key(conn, "the-first", "read", name="job")
        for n in range(60):
            add_key(conn, f"number-{n}", "read", name=f"number {n}")
        cur.execute("update api_keys set ends_at = now() - interval '1s' where name = 'job'")
    new = add_key(conn, "the-second", "read", name="job")
    before = scrape(service)
    wait_until(lambda: send(service, **new) == 200, timeout_s=3)
    wait_until(lambda: counted(service, before, "job", 200) == 1, timeout_s=2)


def test_a_name_cannot_make_lines_or_labels(
    service: httpx.Client, conn: connection, caplog: pytest.LogCaptureFixture
) -> None:
    name = 'x",status="200"} 7\nforged{a="1\x1b[31m\u2028 key=tests'
    forging = store_key(conn, "ask_" + "f" * 40, "read", name=name)
    before = scrape(service)
    # Cache hits have their line at the level debug.
    with caplog.at_level("DEBUG", "analytics.access"):
        wait_until(lambda: send(service, **forging) == 200, timeout_s=3)
        wait_until(lambda: len(answer_records(caplog)) == 1, timeout_s=2)
    label = r"x\",status=\"200\"} 7?forged{a=\"1?[31m? key=tests"
    wait_until(lambda: counted(service, before, label, 200) == 1, timeout_s=2)
    assert "\nforged" not in scrape(service)
    (record,) = answer_records(caplog)
    line = TextFormatter().format(record)
    assert r'key="x\",status=\"200\"} 7?forged{a=\"1?[31m? key=tests"' in line
    assert len(io.StringIO(line).readlines()) == len(line.splitlines()) == 1


def answer_records(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """The access lines of answers, without those of `/metrics`, which may come late."""
    return [
        record
        for record in caplog.records
        if vars(record).get("status") == 200 and vars(record).get("route") == COUNTS
    ]


def test_lines_of_the_log_have_the_name(
    service: httpx.Client, conn: connection, caplog: pytest.LogCaptureFixture
) -> None:
    """Of computed answers, of hits (at the level debug), of refusals, and of no key."""
    writer = add_key(conn, "a-writer", "write", name="writer")
    with caplog.at_level("DEBUG", "analytics.access"):
        assert [send(service), send(service)] == [200, 200]
        assert service.get("/analytics/nothing").status_code == 404
        assert send(service, **writer) == 403
        assert send(service, Authorization="Bearer wrong") == 401
        assert service.get("/healthz").status_code == 200
        wait_until(lambda: len(lines_of(caplog)) == 6, timeout_s=2)
    assert [(line["levelno"], line["status"], line["key"]) for line in lines_of(caplog)] == [
        (logging.INFO, 200, "tests"),
        (logging.DEBUG, 200, "tests"),
        (logging.INFO, 404, "tests"),
        (logging.INFO, 403, "writer"),
        (logging.INFO, 401, "(none)"),
        (logging.INFO, 200, "(none)"),
    ]


def test_no_secret_is_in_a_line(service: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        assert [send(service), send(service, **guess(1))] == [200, 401]
        wait_until(lambda: len(lines_of(caplog)) == 2, timeout_s=2)
    assert "ask_" not in str([vars(record) for record in caplog.records])


def test_all_workers_count(database_url: str, redis_url: str, conn: connection) -> None:
    """Whichever is asked shows the sum, and no name of a key that has ended."""
    brief = add_key(conn, "for-a-while", "read", name="brief")
    with started(database_url, redis_url) as service:
        assert {service.get(f"{COUNTS}?last={n}d").status_code for n in range(1, 31)} == {200}
        wait_until(lambda: service.metrics()[series("tests", 200)] == 30, timeout_s=5)
        assert {service.get(COUNTS, **brief).status_code for _ in range(20)} == {200}
        wait_until(lambda: service.metrics()[series("brief", 200)] == 20, timeout_s=5)
        named = [line for line in service.log_lines() if line.get("key") == "tests"]
        assert {line["route"] for line in named} == {COUNTS}
        conn.cursor().execute("update api_keys set revoked_at = now() where name = 'brief'")
        for _ in range(20):
            wait_until(lambda: series("brief", 200) not in service.metrics(), timeout_s=5)
