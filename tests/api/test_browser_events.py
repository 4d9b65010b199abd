"""POST /events/browser: events of web pages, with a key in the URL that is limited."""

import json
import time
from collections.abc import Iterator

import httpx
import pytest
import redis
from psycopg2.extensions import connection

from tests.api.requests import stored_rows
from tests.api.test_keys import key_in, store_key
from tests.api.test_server_spans import server_spans, traced
from tests.factories import ID, event
from tests.live_server import running, scrape
from tests.problems import assert_problem
from tests.servers import KEY
from tests.wait_until import wait_until

PATH = "/events/browser"
PAGE = "https://www.example.com"
SECRET = key_in("canary-of-a-page")
TEXT = "text/plain;charset=UTF-8"


def store_page_key(conn: connection, key: str = SECRET, rate: int | None = None) -> None:
    name = "page" if key == SECRET else "another page"
    store_key(conn, key, "write", name=name)
    with conn.cursor() as cur:
        cur.execute(
            "update api_keys set origins = %s, rate = %s where name = %s",
            (["https://other.example", PAGE], rate, name),
        )


@pytest.fixture
def pages(database_url: str, redis_url: str, conn: connection) -> Iterator[httpx.Client]:
    """A service that accepts events of pages; its client has no other key."""
    store_page_key(conn)
    with running(database_url, redis_url, browser_events=True) as service:
        del service.headers["Authorization"]
        yield service


def beacon(
    service: httpx.Client, body: bytes, key: str = SECRET, origin: str | None = PAGE
) -> httpx.Response:
    """A request as `navigator.sendBeacon` makes it."""
    headers = {"Content-Type": TEXT} | ({"Origin": origin} if origin else {})
    return service.post(PATH, params={"key": key}, content=body, headers=headers)


def test_a_page_sends_events(pages: httpx.Client, conn: connection) -> None:
    one, several = json.dumps(event(1)).encode(), json.dumps([event(1), event(2)]).encode()
    answer = beacon(pages, one)
    assert answer.json() == {"accepted": 1, "duplicates": 0}
    assert answer.headers["access-control-allow-origin"] == "*"
    assert beacon(pages, several).json() == {"accepted": 1, "duplicates": 1}
    assert stored_rows(conn) == [ID.format(1), ID.format(2)]


def test_what_is_invalid_is_a_problem_that_the_page_can_read(pages: httpx.Client) -> None:
    answer = beacon(pages, b'[{"event_name": "x"}, {"event_name": ""}]')
    assert_problem(answer, 422, "invalid-events", "event_name")
    assert answer.headers["access-control-allow-origin"] == "*"
    answer = pages.post(PATH, params={"key": SECRET}, content=b"{}", headers={"Origin": PAGE})
    assert_problem(answer, 415, "unsupported-media-type", "Content-Type", payload=SECRET)


@pytest.mark.parametrize(
    "origin", [None, "null", "https://www.example.com.evil.example", "http://www.example.com"]
)
def test_other_origins_are_refused(pages: httpx.Client, conn: connection, origin: str) -> None:
    """At each endpoint, also with the key in a header."""
    answer = beacon(pages, b'{"event_name": "x"}', origin=origin)
    assert_problem(answer, 403, "forbidden", payload=SECRET)
    headers = {"Authorization": f"Bearer {SECRET}"} | ({"Origin": origin} if origin else {})
    for path in ("/events", "/v1/track"):
        answer = pages.post(path, json={"event_name": "x", "event": "x"}, headers=headers)
        assert_problem(answer, 403, "forbidden", payload=SECRET)
    assert stored_rows(conn) == []


def test_a_key_of_origins_only_writes(pages: httpx.Client) -> None:
    headers = {"Authorization": f"Bearer {SECRET}", "Origin": PAGE}
    assert pages.post("/events", json={"event_name": "x"}, headers=headers).status_code == 200
    assert pages.get("/analytics/event-counts", headers=headers).status_code == 403
    assert pages.get("/analytics/event-counts", params={"key": SECRET}).status_code == 401


@pytest.mark.parametrize(
    ("query", "status", "kind"),
    [
        ("", 401, "unauthorized"),
        ("?canary=1", 401, "unauthorized"),
        (f"?key={key_in('canary-unknown')}", 401, "unauthorized"),
        ("?key=canary", 401, "unauthorized"),
        (f"?key={KEY}", 403, "forbidden"),
        (f"?key={SECRET}&key={SECRET}", 422, "invalid-parameter"),
        (f"?key={SECRET}&canary=1", 422, "invalid-parameter"),
    ],
)
def test_what_is_no_key_of_a_page(pages: httpx.Client, query: str, status: int, kind: str) -> None:
    """Such as the key of the tests, which has no origins."""
    headers = {"Content-Type": TEXT, "Origin": PAGE}
    answer = pages.post(PATH + query, content=b'{"event_name": "x"}', headers=headers)
    parameters = ["(unknown)"] if status == 422 else []
    assert_problem(answer, status, kind, *parameters, payload="canary")


def test_it_is_off_by_default(service: httpx.Client, conn: connection) -> None:
    store_page_key(conn)
    answer = beacon(service, b'{"event_name": "x"}')
    assert_problem(answer, 403, "forbidden", payload=SECRET)
    assert "ANALYTICS_BROWSER_EVENTS=true" in answer.json()["detail"]
    assert "access-control-allow-origin" not in answer.headers


def test_without_keys_no_page_may_write(
    database_url: str, redis_url: str, conn: connection
) -> None:
    """It needs no preflight, so that any page could send events to a service on this machine."""
    conn.cursor().execute("truncate api_keys")
    with running(database_url, redis_url, browser_events=True) as service:
        del service.headers["Authorization"]
        assert beacon(service, b'{"event_name": "x"}').status_code == 401
    assert stored_rows(conn) == []


def test_browsers_may_send_json_after_a_preflight(pages: httpx.Client) -> None:
    preflight = {
        "Origin": PAGE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    answer = pages.options(PATH, params={"key": SECRET}, headers=preflight)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "*"
    answer = pages.options("/events", headers=preflight)
    assert "access-control-allow-origin" not in answer.headers


def test_a_key_has_a_rate_of_its_own(pages: httpx.Client, conn: connection) -> None:
    """The service has no limit for others."""
    slow = key_in("slow")
    store_page_key(conn, slow, rate=3)
    body = b'{"event_name": "x"}'
    wait_until(lambda: beacon(pages, body, slow).status_code != 401, timeout_s=5)
    answers = [beacon(pages, body, slow) for _ in range(20)]
    assert {answer.status_code for answer in answers} == {200, 429}
    assert answers[-1].headers["ratelimit-policy"] == '"second";q=3;w=1'
    assert {beacon(pages, body).status_code for _ in range(20)} == {200}


def test_the_key_is_in_no_log_span_metric_or_cache(
    database_url: str, redis_url: str, conn: connection, caplog: pytest.LogCaptureFixture
) -> None:
    store_page_key(conn, rate=100)
    with caplog.at_level("DEBUG"), traced(database_url, redis_url, browser_events=True) as traces:
        service, collector = traces
        del service.headers["Authorization"]
        for body in (b'{"event_name": "x"}', b'{"event_name": ""}', b"["):
            beacon(service, body)
        beacon(service, b"{}", origin=None)
        service.get(PATH, params={"key": SECRET})
        assert SECRET not in scrape(service)
        time.sleep(0.1)
    assert [span.name for span in server_spans(collector)] == [f"POST {PATH}"] * 4 + [f"GET {PATH}"]
    lines = [vars(record) for record in caplog.records if record.name == "analytics.access"]
    assert [line["status"] for line in lines if line["route"] == PATH] == [200, 422, 400, 403, 405]
    cache = redis.Redis.from_url(redis_url)
    cached = [(key, cache.dump(key)) for key in cache.scan_iter()]
    ours = [vars(record) for record in caplog.records if not record.name.startswith("http")]
    for everything in (collector.requests, ours, cached):
        assert everything
        assert SECRET not in str(everything)
