"""Segment's tracking API: calls become events, and each is stored once."""

import base64
import gzip
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from psycopg2.extensions import connection

from tests.api.questions import ask
from tests.api.requests import stored_rows
from tests.api.test_keys import add_key
from tests.cli import run_cli
from tests.events import insert
from tests.live_server import scrape, value
from tests.problems import assert_problem
from tests.retention import drop
from tests.servers import KEY

SENT_AT = "2025-01-31T09:00:00.250Z"
OCCURRED_AT = datetime(2025, 1, 31, 9, 0, 0, 250_000, tzinfo=UTC)
HOUR = timedelta(hours=1)
TYPES = "must be one of track, page, screen, identify, group, alias"
NOT_STORED = {
    "context": {"library": {"name": "analytics-python", "version": "2.4.0"}},
    "integrations": {},
    "channel": "server",
    "originalTimestamp": SENT_AT,
    "sentAt": SENT_AT,
}


def basic(key: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{key}:'.encode()).decode()}"}


def call(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "timestamp": SENT_AT, **NOT_STORED, **more}


def post(service: httpx.Client, path: str, body: Any) -> httpx.Response:
    return service.post(f"/v1/{path}", json=body, headers=basic(KEY))


def post_json(service: httpx.Client, body: bytes) -> httpx.Response:
    headers = {"Content-Type": "application/json"}
    return service.post("/v1/batch", content=body, headers=headers)


CALLS: list[tuple[dict[str, Any], str, str, dict[str, Any]]] = [
    (
        call("track", event="Signed Up", userId="u", anonymousId="a", properties={"plan": "pro"}),
        "u",
        "Signed Up",
        {"plan": "pro"},
    ),
    (call("track", event="Viewed", anonymousId="a"), "a", "Viewed", {}),
    (call("track", event="Viewed", userId="", anonymousId=7), "7", "Viewed", {}),
    (
        call("page", userId=5, name="Home", category="Docs", properties={"name": "mine", "x": 1}),
        "5",
        "page",
        {"name": "mine", "category": "Docs", "x": 1},
    ),
    (call("screen", userId="u", name="Home"), "u", "screen", {"name": "Home"}),
    (call("identify", userId="u", traits={"plan": "pro"}), "u", "identify", {"plan": "pro"}),
    (
        call("group", userId="u", groupId="g", traits={"size": 3}),
        "u",
        "group",
        {"groupId": "g", "size": 3},
    ),
    (call("alias", userId="u", previousId="a"), "u", "alias", {"previousId": "a"}),
]


@pytest.mark.parametrize(("sent", "user", "name", "properties"), CALLS)
def test_a_call_becomes_an_event(
    service: httpx.Client,
    conn: connection,
    sent: dict[str, Any],
    user: str,
    name: str,
    properties: dict[str, Any],
) -> None:
    """At the paths of servers and of analytics.js."""
    kind, batch = sent["type"], {"batch": [sent], "writeKey": "x"}
    alone = {key: value for key, value in sent.items() if key != "type"}
    for path, body in ((kind, alone), (kind[0], alone), ("batch", batch), ("b", batch)):
        assert post(service, path, body).json() == {"accepted": 1, "duplicates": 0}
    row = (user, name, OCCURRED_AT, properties)
    assert stored_rows(conn, "user_id, event_name, occurred_at, properties") == [row] * 4


@pytest.mark.parametrize(
    ("message_id", "event_id"),
    [
        ("0197a2b4-5c6d-7e8f-9a0b-1c2d3e4f5a6b", "094c8713-bd73-5469-b162-39d83ad0ac5b"),
        ("ajs-1", "30b02e58-a697-52cb-ba4f-cbed957aa48f"),
    ],
)
def test_a_message_is_stored_once(
    service: httpx.Client, conn: connection, message_id: str, event_id: str
) -> None:
    sent = call("track", event="x", messageId=message_id)
    assert post(service, "track", sent).json() == {"accepted": 1, "duplicates": 0}
    again = {"batch": [sent, {**sent, "timestamp": None}]}
    assert post(service, "batch", again).json() == {"accepted": 0, "duplicates": 2}
    assert stored_rows(conn) == [event_id]


def test_an_export_of_segment_has_the_same_ids(
    service: httpx.Client, database_url: str, tmp_path: Path
) -> None:
    sent = [call("track", event="x", messageId="m-1"), call("page", messageId="m-2", userId="u")]
    assert post(service, "batch", {"batch": sent}).json()["accepted"] == 2
    file = tmp_path / "segment.ndjson"
    rows = [{"anonymousId": "a", **row} for row in [*sent, {**sent[0], "messageId": "m-3"}]]
    file.write_text("\n".join(map(json.dumps, rows)))
    done = run_cli("load", file, "--from", "segment", DATABASE_URL=database_url)
    assert "inserted 1, already there 2, rejected 0" in done.output


@pytest.mark.parametrize("is_batch", [False, True])
def test_the_clock_of_a_client_may_be_ahead(
    service: httpx.Client, conn: connection, is_batch: bool
) -> None:
    """Then `sentAt` shows by how much; a clock that is behind may be an old request."""
    now = datetime.now(UTC)

    def send(clock: timedelta, sent_at: Any) -> httpx.Response:
        sent = {"type": "track", "event": "x", "timestamp": (now + clock - HOUR).isoformat()}
        body = {"batch": [sent], "sentAt": sent_at} if is_batch else {**sent, "sentAt": sent_at}
        return post(service, "batch" if is_batch else "track", body)

    for clock in (timedelta(minutes=-90), timedelta(minutes=3), timedelta(days=400)):
        sent_at = (now + clock).isoformat().replace("+00:00", "Z")
        assert send(clock, sent_at).status_code == 200
    times = stored_rows(conn, "occurred_at")
    expected = (now - timedelta(minutes=150), now - HOUR, now - HOUR + timedelta(minutes=3))
    for instant, wanted in zip(sorted(times), expected, strict=True):
        assert abs(instant - wanted) < timedelta(minutes=1)
    others: tuple[Any, ...] = (None, 7, "canary", "2099-01-01T00:00:00", {"a": 1})
    for other in others:
        assert send(timedelta(days=400), other).status_code == 422


def test_the_time_is_now_if_there_is_none(service: httpx.Client) -> None:
    post(service, "track", {"event": "x", "messageId": "m", "userId": "u"})
    assert ask(service, "event-counts", last="1h")["data"] == {"events": 1, "users": 1}


def test_numbers_are_stored_exactly(service: httpx.Client, conn: connection) -> None:
    body = b'{"event": "x", "properties": {"n": 1.10, "m": 12345678901234567890.5}}'
    service.post("/v1/track", content=body, headers={"Content-Type": "application/json"})
    assert stored_rows(conn, "properties::text") == ['{"m": 12345678901234567890.5, "n": 1.10}']


@pytest.mark.parametrize(
    ("bad", "parameter", "message"),
    [
        ({"type": "canary"}, "type", TYPES),
        ({}, "type", TYPES),
        ({"type": "track"}, "event", "is missing"),
        ({"type": "track", "event": 7}, "event", "must be text"),
        ({"type": "track", "event": "x" * 201}, "event", "must be at most 200 bytes long"),
        ({"type": "track", "event": "\ud800"}, "event", "must not contain a lone surrogate"),
        ({"type": "track", "event": "\0"}, "event", "must not contain a NUL character"),
        (call("page", userId=True), "userId", "must be text or a whole number"),
        (call("page", anonymousId=1.5), "anonymousId", "must be text or a whole number"),
        (call("page", messageId=7), "messageId", "must be text"),
        (
            call("page", timestamp="canary"),
            "timestamp",
            "must be a time such as 2025-01-31T09:00:00+01:00",
        ),
        (call("page", name="x", properties=["canary"]), "properties", "must be an object"),
        (call("track", event="x", properties=["canary"]), "properties", "must be an object"),
        (call("identify", traits=["canary"]), "traits", "must be an object"),
        (call("group", groupId="g", traits="canary"), "traits", "must be an object"),
        (b'{"type":"page","userId":"canary","userId":"u"}', "(event)", "must not have a key twice"),
        (
            b'{"type":"page","properties":{"x":1e400}}',
            "properties",
            "must not hold numbers beyond 1.8e308",
        ),
        (b'{"type":"page","userId":"\xff"}', "(event)", "must be UTF-8"),
        (b"[]", "(event)", "must be a JSON object"),
    ],
)
def test_a_call_that_cannot_be_stored_is_named_and_the_others_are_stored(
    service: httpx.Client, conn: connection, bad: Any, parameter: str, message: str
) -> None:
    good = json.dumps(call("page", messageId="m")).encode()
    sent = bad if isinstance(bad, bytes) else json.dumps(bad).encode()
    fault = {"parameter": parameter, "message": message, "index": 1}
    answer = post_json(service, b'{"batch": [%s, %s], "sentAt": "canary"}' % (good, sent))
    assert "canary" not in answer.text
    assert answer.json() == {"accepted": 1, "duplicates": 0, "rejected": 1, "errors": [fault]}
    answer = post_json(service, b'{"batch": [%s, %s]}' % (sent, sent))
    assert_problem(answer, 422, "invalid-events", parameter, parameter, payload="canary")
    assert answer.json()["errors"] == [{**fault, "index": 0}, fault]
    assert len(stored_rows(conn)) == 1


def test_of_many_calls_that_cannot_be_stored_the_first_are_named(
    service: httpx.Client, conn: connection
) -> None:
    """Whether they are no calls, or no events; or more of them than a block."""
    refused = 'analytics_ingested_events_total{result="refused"}'
    before = value(scrape(service), refused)
    bad = [{"type": "x"}, call("track", event="x" * 201)] * 75
    answer = post(service, "batch", {"batch": [*bad, call("page"), {"type": "x"}]}).json()
    assert (answer["accepted"], answer["rejected"]) == (1, 151)
    assert [fault["index"] for fault in answer["errors"]] == list(range(100))
    assert [fault["parameter"] for fault in answer["errors"]] == ["type", "event"] * 50
    assert len(stored_rows(conn)) == 1
    assert value(scrape(service), refused) - before == 151


def test_what_postgresql_refuses_is_left_out_as_well(
    service: httpx.Client, conn: connection, database_url: str
) -> None:
    """Events of dropped times, and what is not known to be invalid before."""
    insert(conn, ("u", "view", datetime(2024, 1, 1, tzinfo=UTC)))
    drop(database_url, [], datetime(2025, 1, 1, tzinfo=UTC))
    expired = call("page", timestamp="2024-06-01T00:00:00Z")
    unreadable = '{"type": "page", "properties": {"x": 1e-140000}}'
    calls = [json.dumps(expired), json.dumps(call("page")), unreadable, json.dumps(call("screen"))]
    answer = post_json(service, f'{{"batch": [{",".join(calls)}]}}'.encode())
    errors = answer.json().pop("errors")
    assert answer.json() | {"errors": 0} == {
        "accepted": 2,
        "duplicates": 0,
        "rejected": 2,
        "errors": 0,
    }
    assert sorted((fault["index"], fault["parameter"]) for fault in errors) == [
        (0, "timestamp"),
        (2, "properties"),
    ]
    assert sorted(stored_rows(conn, "event_name")) == ["page", "screen"]
    answer = post(service, "batch", {"batch": [expired, expired]})
    assert_problem(answer, 422, "invalid-events", "timestamp", "timestamp")


def test_the_time_of_an_export_is_that_of_the_client(
    service: httpx.Client, conn: connection
) -> None:
    post(service, "track", {"event": "x", "originalTimestamp": SENT_AT})
    post(service, "track", {"event": "x", "originalTimestamp": "2024-01-01Z", "timestamp": SENT_AT})
    assert stored_rows(conn, "occurred_at") == [OCCURRED_AT] * 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{}", "must be an object with an array `batch`"),
        (b"[]", "must be an object with an array `batch`"),
        (b'{"batch": {}}', "must be an object with an array `batch`"),
        (b'{"batch": [], "batch": [{}]}', "must not have a key twice"),
        (b'{"batch": [', "must be valid JSON in UTF-8"),
    ],
)
def test_a_body_that_is_no_batch(service: httpx.Client, body: bytes, message: str) -> None:
    answer = post_json(service, body)
    assert_problem(answer, 400, "unreadable-body", "(body)")
    assert answer.json()["errors"][0]["message"] == message


def test_a_batch_has_at_most_10_000_calls(service: httpx.Client) -> None:
    answer = post(service, "batch", {"batch": [{}] * 10_001})
    assert_problem(answer, 413, "too-large", "(body)")


def test_other_forms_and_parameters(service: httpx.Client) -> None:
    lines = {"Content-Type": "application/x-ndjson"}
    answer = service.post("/v1/track", content=b"{}", headers=lines)
    assert_problem(answer, 415, "unsupported-media-type", "Content-Type")
    assert answer.headers["accept"] == "application/json, text/plain"
    answer = service.post("/v1/track?canary=1", json={"event": "x"})
    assert_problem(answer, 422, "invalid-parameter", "(unknown)", payload="canary")


def test_the_key_is_a_user_name(service: httpx.Client, conn: connection) -> None:
    """At each endpoint, with its scopes."""
    reader = add_key(conn, "a-reader", "read", name="reader")["Authorization"].split()[1]
    with httpx.Client(base_url=service.base_url) as stranger:

        def statuses(headers: dict[str, str]) -> list[int]:
            questions = stranger.get("/analytics/event-counts", headers=headers)
            sent = stranger.post("/v1/track", json={"event": "x"}, headers=headers)
            return [questions.status_code, sent.status_code]

        assert statuses(basic(KEY)) == [200, 200]
        assert statuses(basic(reader)) == [200, 403]
        assert statuses(basic(f"{KEY}2")) == [401, 401]
        assert statuses({"Authorization": f"Basic {KEY}"}) == [401, 401]


def test_10_000_events_as_the_python_sdk_sends_them(
    service: httpx.Client, conn: connection
) -> None:
    """100 a request, on several connections, each fifth twice because its response was lost."""
    events = [
        call("track", event=f"e{n % 3}", userId=f"u{n % 50}", messageId=f"m-{n}")
        for n in range(10_000)
    ]
    batches = [events[n : n + 100] for n in range(0, 10_000, 100)]
    send: Callable[[list[Any]], httpx.Response] = lambda batch: service.post(  # noqa: E731
        "/v1/batch",
        content=gzip.compress(json.dumps({"batch": batch, "writeKey": KEY}).encode()),
        headers={
            **basic(KEY),
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
            "User-Agent": "analytics-python/2.4.0",
        },
    )
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(send, [*batches, *batches[::5]]))
    assert {answer.status_code for answer in answers} == {200}
    assert sum(answer.json()["accepted"] for answer in answers) == 10_000
    assert sum(answer.json()["duplicates"] for answer in answers) == 2_000
    day = {"start": "2025-01-31", "end": "2025-02-01"}
    assert ask(service, "event-counts", **day)["data"] == {"events": 10_000, "users": 50}
