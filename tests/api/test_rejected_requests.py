"""Requests that are refused count against the rate of their key, as answered ones do."""

import time
from collections.abc import Iterator

import httpx
import pytest
from psycopg2.extensions import connection

from tests.api.requests import ndjson, send
from tests.api.test_keys import add_key
from tests.factories import event
from tests.live_server import AUTHORIZED, METRICS_TOKEN, running
from tests.problems import assert_problem

COUNTS = "/analytics/event-counts?start=2025-03-10&end=2025-03-12"
RATE = 5
TRIES = 40
REFUSED = [
    ("GET", "/analytics/event-counts?start=nonsense", 422),
    ("GET", "/analytics/event-counts?start=%FF", 422),
    ("GET", "/analytics/users/u/events?cursor=x", 400),
    ("GET", "/analytics/nothing", 404),
    ("GET", "/nothing", 404),
    ("POST", COUNTS, 405),
    ("HEAD", "/analytics/top-events?limit=0", 422),
    ("POST", "/events?x=1", 422),
    ("POST", "/events", 415),
    ("DELETE", "/analytics/users/u", 403),
    ("DELETE", "/analytics/users/u/events", 403),
    ("GET", "/metrics", 401),
]


@pytest.fixture
def limited(database_url: str, redis_url: str) -> Iterator[httpx.Client]:
    with running(database_url, redis_url, rate_limit=RATE) as service:
        yield service


def statuses(service: httpx.Client, method: str, path: str, **headers: str) -> list[int]:
    return [service.request(method, path, headers=headers).status_code for _ in range(TRIES)]


@pytest.mark.parametrize(("method", "path", "status"), REFUSED)
def test_a_refusal_counts(limited: httpx.Client, method: str, path: str, status: int) -> None:
    began = time.monotonic()
    counts = statuses(limited, method, path)
    elapsed_s = time.monotonic() - began
    assert set(counts) == {status, 429}
    # Redis may answer too late on a busy machine, and then a request is let through uncounted.
    assert RATE <= counts.count(status) <= RATE * (1 + elapsed_s) + TRIES / 2
    answers = (limited.get(COUNTS) for _ in range(TRIES))
    answer = next(answer for answer in answers if answer.status_code != 200)
    assert_problem(answer, 429, "too-many-requests")
    assert answer.headers["retry-after"] == "1"


def test_a_scope_that_is_missing_counts_on_the_fast_path(
    limited: httpx.Client, conn: connection
) -> None:
    assert limited.get(COUNTS).status_code == 200
    writer = add_key(conn, "a-writer", "write")
    counts = statuses(limited, "GET", COUNTS, **writer)
    assert set(counts) == {403, 429}
    assert send(limited, ndjson(event(1)), **writer).status_code == 429


def test_erasing_counts(limited: httpx.Client, conn: connection) -> None:
    admin = add_key(conn, "an-admin", "admin")
    counts = statuses(limited, "DELETE", "/analytics/users/u", **admin)
    assert set(counts) == {200, 429}
    assert counts.count(429) > 0


def test_each_request_is_counted_once(limited: httpx.Client) -> None:
    """A body that is refused was counted when it came."""
    limited.get(COUNTS)
    time.sleep(1.1)
    answer = limited.post("/events", content=b"{", headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert limited.get("/nothing").status_code == 404
    remaining = limited.get(COUNTS).headers["ratelimit"]
    assert remaining.startswith('"second";r=2;')


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/docs", "/redoc", "/openapi.json"])
def test_what_is_open_to_all_is_not_counted(limited: httpx.Client, path: str) -> None:
    """Also with a key whose rate is used up."""
    assert 429 in statuses(limited, "GET", "/nothing")
    assert set(statuses(limited, "GET", path)) == {200}


def test_who_has_no_key_is_refused_without_being_counted(limited: httpx.Client) -> None:
    with httpx.Client(base_url=limited.base_url) as stranger:
        assert set(statuses(stranger, "GET", COUNTS)) == {401}
        assert set(statuses(stranger, "GET", COUNTS, Authorization="Bearer wrong")) == {401}
    assert limited.get(COUNTS).status_code == 200


def test_without_redis_refusals_are_what_they_are(database_url: str) -> None:
    with running(database_url, "redis://127.0.0.1:1/0", rate_limit=RATE) as service:
        assert set(statuses(service, "GET", "/analytics/nothing")) == {404}


KEY = AUTHORIZED["Authorization"]


@pytest.mark.parametrize("path", [COUNTS, "/healthz", "/nothing", "/metrics/"])
@pytest.mark.parametrize(
    "given",
    [
        [KEY, KEY],
        [KEY, "Bearer another"],
        ["Bearer another", KEY],
        [f"{KEY}, {KEY}"],
        [f"Basic dTpw,bearer {KEY[7:]}"],
        [f"{KEY}, {KEY[7:]}"],
        [f"{KEY},"],
    ],
)
def test_two_keys_are_refused(service: httpx.Client, path: str, given: list[str]) -> None:
    """Also for a question that was asked before."""
    assert service.get(COUNTS).status_code == 200
    with httpx.Client(base_url=service.base_url) as client:
        answer = client.get(path, headers=[("Authorization", each) for each in given])
    assert_problem(answer, 400, "ambiguous-key", payload=KEY[7:])
    assert "must be sent once" in answer.json()["detail"]


@pytest.mark.parametrize("second", [f", {KEY}", f",bearer {KEY[7:]}"])
def test_two_tokens_of_metrics_are_refused(service: httpx.Client, second: str) -> None:
    answer = service.get("/metrics", headers={"Authorization": KEY + second})
    assert_problem(answer, 400, "ambiguous-key", payload=KEY[7:])


def test_a_token_of_metrics_may_hold_a_comma(database_url: str, redis_url: str) -> None:
    token = f"{METRICS_TOKEN}, b"
    with running(database_url, redis_url, metrics_token=token) as service:
        headers = {"Authorization": f"Bearer {token}"}
        assert service.get("/metrics", headers=headers).status_code == 200


@pytest.mark.parametrize("name", ["Content-Encoding", "Content-Type"])
def test_two_kinds_of_a_body_are_refused(service: httpx.Client, name: str) -> None:
    kinds = {"Content-Encoding": "identity", "Content-Type": "application/x-ndjson"}
    headers = [*kinds.items(), (name, kinds[name])]
    answer = service.post("/events", content=ndjson(event(1)), headers=headers)
    assert_problem(answer, 415, "unsupported-media-type", name)


def test_the_description_is_written_once(service: httpx.Client) -> None:
    first = service.get("/openapi.json")
    assert first.status_code == 200
    assert first.json()["components"]["schemas"]["Problem"]["title"] == "Problem"
    etag = first.headers["etag"]
    assert service.get("/openapi.json").content == first.content
    known = service.get("/openapi.json", headers={"If-None-Match": etag})
    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", etag)
    assert service.head("/openapi.json").headers["content-length"] == str(len(first.content))
