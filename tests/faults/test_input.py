"""Input that is meant to break, and questions that are too large."""

import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_from_bytes

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from common.questions import QUESTIONS
from tests.api.questions import parameters_of, path_of
from tests.events import insert
from tests.faults.conftest import Check
from tests.faults.http_load import ask_all, percentile
from tests.faults.service_process import COUNTS, Service
from tests.faults.test_postgres import statuses

MINUTE = "/analytics/event-counts?start=2025-03-10T09:01:00Z&end=2025-03-10T09:02:00Z"
"""Events are read for it, whatever is folded."""
PARAMETERS = {path_of(question): parameters_of(question) for question in QUESTIONS}
CORPUS: list[bytes] = [
    b"NaN",
    b"1e400",
    b"\x00",
    b"\xed\xa0\x80",
    str(2**63).encode(),
    b"0001-01-01T00:00:00+14:00",
    b"9999-12-31T23:59:59-12:00",
    b"20000000001",
    b"{a,b}",
    b"%",
    b"\\",
    b"[" * 20_000,
    b"\xff\xfe",
    "ü".encode() * 1_000,
    b"-1",
    b"5.5",
    b"1_000",
    b"",
]
INJECTIONS = [
    "' or 1=1 --",
    "'; drop table events; --",
    '" or ""="',
    "') union select secret from api_keys --",
    "1; select pg_sleep(5)",
    "%' and 1=(select count(*) from events) --",
    "$$; truncate events; $$",
    "\\'; delete from events; --",
    "{{7*7}}",
    "%(start)s",
    "::text",
    "/*!*/",
]
CAPS = [
    "/analytics/event-counts?start=2000-01-01&end=2027-01-01&interval=hour",
    "/analytics/top-events?limit=1001",
    "/analytics/active-users?window=367",
    "/analytics/users/u/events?limit=1001",
    "/analytics/event-counts?" + "&".join(f"event=e{n}" for n in range(2000)),
    "/analytics/event-counts?event=" + "x" * 5000,
    "/analytics/event-counts?start=1000-01-01&end=2026-01-01",
]


@pytest.mark.check(34)
def test_bad_input(running: Service, check: Check) -> None:
    """What is meant to break, in every parameter"""
    requests = [
        f"{path}?{name}={quote_from_bytes(bad)}"
        for path, names in PARAMETERS.items()
        for name in names
        for bad in CORPUS
    ]
    requests += [f"/analytics/users/{quote_from_bytes(bad)}/events" for bad in CORPUS if bad]
    replies = ask_all(running.port, requests, running.headers, at_once=4)
    refused = [reply for reply in replies if 400 <= reply.status < 500]
    check.record(f"{len(refused)} of {len(replies)} refused, none 5xx, none echoed")
    # An event or a user may be called nearly anything, so some of these are questions.
    assert {reply.status for reply in replies} <= {200, 400, 414, 422}
    assert len(refused) > len(replies) / 2
    for reply in refused:
        assert b"\\ud800" not in reply.body
        assert b"20000000001" not in reply.body
        assert b"[[[" not in reply.body


@pytest.mark.check(35)
def test_schemathesis(running: Service, check: Check) -> None:
    """Schemathesis, 300 examples of each operation"""
    schema = schemathesis.openapi.from_url(f"{running.base}/openapi.json")
    requests = 0
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        requests += fuzz(result.ok().as_strategy(), running)
    check.record(f"{requests} requests")
    assert requests >= 300


def fuzz(cases: "SearchStrategy[Any]", running: Service) -> int:
    """How many requests were made."""
    requests = [0]

    @given(case=cases)
    @settings(
        max_examples=300,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def each(case: Any) -> None:
        requests[0] += 1
        case.call_and_validate(
            base_url=running.base,
            headers=running.headers,
            # OpenAPI cannot say that `last` excludes `start`, or which zones there are today.
            excluded_checks=[positive_data_acceptance],
        )

    each()
    return requests[0]


@pytest.mark.check(39)
def test_questions_above_limits_run_no_query(running: Service, check: Check) -> None:
    """Questions that are too large are refused without a query"""
    for path in CAPS:
        running.get(path)
    before = statements(running)
    paths = [path for path in CAPS for _ in range(5)]
    replies = ask_all(running.port, paths, running.headers, at_once=1)
    check.record(f"{statuses(replies)} within {percentile(replies, 90) * 1000:.0f} ms, no query")
    assert set(statuses(replies)) <= {413, 414, 422}
    assert percentile(replies, 90) <= 0.05
    assert statements(running) == before


def statements(running: Service) -> dict[str, int]:
    """How often each statement about events was called, by its text."""
    running.query("create extension if not exists pg_stat_statements")
    rows = running.query(
        "select query, calls from pg_stat_statements join pg_database on oid = dbid "
        "where datname = current_database() and query like '/* %' and query not like '%api_keys%'"
    )
    return {str(query): int(calls) for query, calls in rows}


@pytest.mark.check(40)
def test_injections(running: Service, check: Check) -> None:
    """SQL in every text parameter"""
    insert(running.conn, *[("u", text, "2025-03-10T12:00:00Z") for text in INJECTIONS])
    running.get(f"{COUNTS}&event=known")
    running.get("/analytics/users/u/events?event=known")
    expected = set(statements(running))
    matches = 0
    for text in INJECTIONS:
        answer = running.get(f"{COUNTS}&event={quote(text)}")
        matches += answer.json()["data"]["events"]
        for path in (f"/analytics/users/{quote(text)}/events", *other_texts(text)):
            assert running.get(path).status_code in (200, 400, 422)
    check.record(f"{matches} of {len(INJECTIONS)} taken literally, no unknown statement")
    assert matches == len(INJECTIONS)
    assert set(statements(running)) == expected
    assert running.query("select count(*) from events") == [(len(INJECTIONS),)]


def other_texts(text: str) -> Iterator[str]:
    for path, names in PARAMETERS.items():
        for name in names:
            if name != "event":
                yield f"{path}?{name}={quote(text)}"


@pytest.mark.check(41)
def test_no_secrets(running: Service, check: Check) -> None:
    """Nothing that was sent comes back out"""
    canary = "canary7f3a"
    sent = {"X-Forwarded-For": canary, "User-Agent": canary, "Cookie": f"a={canary}"}
    insert(running.conn, ("u", "view", "2025-03-10T09:01:30Z"))
    running.conn.cursor().execute("alter table events rename column user_id to who")
    bodies = [
        running.get(f"/analytics/users/{canary}/events", **sent),
        running.get(f"{COUNTS}&tz={canary}", **sent),
        running.get(f"{COUNTS}&{canary}=1", **sent),
        running.get(f"{COUNTS}&event={canary}", **sent),
        running.get(f"{COUNTS}", Authorization=f"Bearer {canary}"),
        running.get(f"/{canary}", **sent),
        httpx.post(
            f"{running.base}/events",
            json={"event_name": canary, "user_id": canary, "properties": {canary: canary}},
            headers={**running.headers, **sent},
        ),
    ]
    password = running.conn.info.password
    outputs = running.log.read_text() + str(running.metrics()) + "".join(b.text for b in bodies)
    check.record(f"{[body.status_code for body in bodies]}, no canary in logs, metrics, bodies")
    assert [body.status_code for body in bodies] == [500, 422, 422, 500, 401, 404, 500]
    assert canary not in outputs
    assert password
    assert password not in outputs
    failed = bodies[0]
    assert failed.headers["content-type"] == "application/problem+json"
    assert failed.json()["request_id"] == failed.headers["x-request-id"]
    assert "Traceback" not in failed.text


@pytest.mark.check(42)
def test_half_requests(running: Service, check: Check) -> None:
    """200 clients send half a request and wait"""
    baseline = percentile(running.ask_repeatedly(500, at_once=2), 95)
    halves = []
    for _ in range(200):
        half = socket.create_connection(("127.0.0.1", running.port))
        half.sendall(b"GET /analytics/event-counts HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        halves.append(half)
    time.sleep(2)
    replies = running.ask_repeatedly(500, at_once=2)
    for half in halves:
        half.close()
    p95 = percentile(replies, 95)
    check.record(f"p95 {p95 * 1000:.1f} ms (without them {baseline * 1000:.1f})")
    assert statuses(replies) == {200: 500}
    assert p95 <= baseline * 1.5 + 0.005
