"""POST /events: how much a request may hold, and who may send how often."""

import gzip
import json
import socket
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from psycopg2.extensions import connection

from common.errors import TooLarge
from services.ingest import http_body as bodies
from services.ingest.http_body import MAX_BODY_BYTES, MAX_INFLATED_BYTES, Coding, inflate
from tests.api.questions import ask
from tests.api.requests import ENCODERS, array, ndjson, send, stored_rows
from tests.api.test_keys import NEEDED, add_key
from tests.factories import event
from tests.live_server import AUTHORIZED, running, scrape, value
from tests.problems import assert_problem
from tests.wait_until import adjusted_for_load, wait_until

JSON = "application/json"
MAX_EVENTS = 10_000
LINE = b'{"event_name":"view"}'
TOO_MANY = "must hold at most 10,000 events"
TOO_LARGE = "must be at most 8 MB as sent, and 16 MB decompressed"


def assert_too_large(answer: httpx.Response, message: str) -> None:
    assert_problem(answer, 413, "too-large", "(body)")
    assert answer.json()["errors"][0]["message"] == message


def test_as_many_as_are_allowed_and_one_more(service: httpx.Client, conn: connection) -> None:
    lines = [LINE] * MAX_EVENTS
    for media_type, body in ((JSON, array(*lines, LINE)), ("application/x-ndjson", b"")):
        assert_too_large(send(service, body or ndjson(*lines, LINE), media_type), TOO_MANY)
    assert stored_rows(conn) == []
    blank = b"\n\n".join(lines)
    assert send(service, blank).json() == {"accepted": MAX_EVENTS, "duplicates": 0}
    assert send(service, array(*lines), JSON).json() == {"accepted": MAX_EVENTS, "duplicates": 0}
    assert len(stored_rows(conn)) == 2 * MAX_EVENTS


@pytest.mark.parametrize(
    "body",
    [
        b"\n" * MAX_BODY_BYTES,
        b"[" + b"{}," * (MAX_BODY_BYTES // 3 - 2) + b"{}]",
        b"[" + b"1," * (MAX_BODY_BYTES // 2 - 2) + b"1]",
    ],
    ids=["blank lines", "empty objects", "numbers"],
)
def test_small_bodies_of_very_many_values_are_rejected(service: httpx.Client, body: bytes) -> None:
    """It is given up without being held; a machine at rest takes 0.1 s for it."""
    form = "application/x-ndjson" if body.isspace() else JSON
    began = time.monotonic()
    answer = send(service, body, form)
    assert answer.status_code == (400 if body.startswith(b"[1") else 413), answer.text
    assert time.monotonic() - began < adjusted_for_load(2)


def test_commas_inside_of_events_are_no_events(service: httpx.Client) -> None:
    many = [event(n, properties={"n": [0] * 8_000}) for n in range(70)]
    assert send(service, array(*many), JSON).json() == {"accepted": 70, "duplicates": 0}


def test_a_body_that_says_it_is_too_large_is_not_read(service: httpx.Client) -> None:
    port = service.base_url.port or 0
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(head(f"Content-Length: {MAX_BODY_BYTES + 1}"))
        assert line.recv(100).startswith(b"HTTP/1.1 413 ")


def head(*more: str) -> bytes:
    lines = ["POST /events HTTP/1.1", "Host: x", f"Content-Type: {JSON}", *more]
    named = [f"{name}: {value}" for name, value in AUTHORIZED.items()]
    return "\r\n".join([*lines, *named, "", ""]).encode()


def test_a_body_without_a_length_is_read_up_to_the_limit(service: httpx.Client) -> None:
    sent_bytes = [0]

    def chunks() -> Iterator[bytes]:
        while sent_bytes[0] < 10 * MAX_BODY_BYTES:
            sent_bytes[0] += 2**20
            yield b" " * 2**20

    assert_too_large(send(service, chunks(), JSON), TOO_LARGE)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_decompression_bomb_is_rejected(service: httpx.Client, coding: str) -> None:
    bomb = ENCODERS[coding](b" " * (MAX_INFLATED_BYTES + 1))
    assert len(bomb) < 100_000
    assert_too_large(send(service, bomb, JSON, coding), TOO_LARGE)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_bomb_costs_no_more_than_what_is_allowed(coding: Coding) -> None:
    bomb = ENCODERS[coding](bytes(128 * 2**20))
    tracemalloc.start()
    with pytest.raises(TooLarge):
        inflate(bomb, coding)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * MAX_INFLATED_BYTES


@pytest.mark.parametrize("coding", ["identity", "gzip", "zstd"])
@pytest.mark.parametrize("form", [JSON, "application/x-ndjson"])
def test_one_event_of_millions_of_lists(service: httpx.Client, form: str, coding: str) -> None:
    """Its objects would take 430 MB."""
    size = MAX_BODY_BYTES if coding == "identity" else MAX_INFLATED_BYTES
    lists = b",".join([b"[]"] * (size // 3 - 50))
    body = ENCODERS[coding](b'{"event_name":"x","properties":{"a":[' + lists + b"]}}")
    answer = send(service, body, form, coding)
    assert_problem(answer, 422, "invalid-events", "(event)")
    assert answer.json()["errors"][0]["message"] == "must be at most 256 kB long"


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_several_files_in_a_row_are_one(coding: Coding) -> None:
    part = ENCODERS[coding](b"abc")
    assert inflate(part * 99, coding) == b"abc" * 99
    began = time.monotonic()
    with pytest.raises(TooLarge):
        inflate(ENCODERS[coding](b"") * 200_000, coding)
    assert time.monotonic() - began < adjusted_for_load(2)


def test_all_of_a_real_size_is_taken(service: httpx.Client) -> None:
    body = gzip.compress(
        ndjson(*(event(n, properties={"x": "y" * 1_400}) for n in range(MAX_EVENTS)))
    )
    assert send(service, body, coding="gzip").json() == {"accepted": MAX_EVENTS, "duplicates": 0}


def test_a_body_that_does_not_come(database_url: str, redis_url: str) -> None:
    with running(database_url, redis_url, request_timeout_s=0.5) as service:
        # Until the keys were read, which may take longer than a request of this service may.
        wait_until(lambda: service.get("/analytics/event-counts").status_code != 503, timeout_s=10)
        with socket.create_connection(("127.0.0.1", service.base_url.port or 0)) as line:
            line.sendall(head("Content-Length: 100") + b"[")
            answer = b""
            while b"}" not in answer:
                answer += line.recv(10_000)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"].endswith(":request-timeout")


def test_a_client_that_disconnects_during_the_body_counts_as_499(service: httpx.Client) -> None:
    gone = 'http_requests_total{method="POST",route="/events",status="499"}'
    before = value(scrape(service), gone)
    with socket.create_connection(("127.0.0.1", service.base_url.port or 0)) as line:
        line.sendall(head("Content-Length: 100") + b"[")
        time.sleep(0.1)
    wait_until(lambda: value(scrape(service), gone) - before == 1, timeout_s=5)


@contextmanager
def incomplete_body(service: httpx.Client, size: int) -> Iterator[None]:
    """A request whose body the service has buffered but for the last byte."""
    with socket.create_connection(("127.0.0.1", service.base_url.port or 0)) as line:
        line.sendall(head(f"Content-Length: {size + 1}") + b" " * size)
        # The service may accept the connection of the next request first.
        line.settimeout(0.3)
        with pytest.raises(TimeoutError):
            line.recv(1)
        yield


def test_buffered_bodies_have_a_total_limit(
    service: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "_MAX_BUFFERED_BYTES", 1_000)
    with incomplete_body(service, 900):
        wait_until(lambda: send(service, ndjson(event(1))).status_code == 503, timeout_s=5)
        answer = send(service, ndjson(event(1)))
        assert_problem(answer, 503, "busy")
        assert answer.headers["retry-after"] == "1"
        assert ask(service, "event-counts")["data"]["events"] == 0
    wait_until(lambda: send(service, ndjson(event(1))).status_code == 200, timeout_s=5)


def test_bodies_of_one_key_leave_room_for_others(
    service: httpx.Client, conn: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "_MAX_BUFFERED_BYTES", 1_000)
    monkeypatch.setattr(bodies, "_MAX_CALLER_BYTES", 750)
    another = add_key(conn, "another", "write")
    with incomplete_body(service, 700):
        wait_until(lambda: send(service, ndjson(event(1))).status_code == 503, timeout_s=5)
        assert send(service, ndjson(event(1)), **another).status_code == 200
        assert_problem(send(service, ndjson(event(2))), 503, "busy")


class TestKeys:
    @pytest.mark.parametrize(
        ("sent", "challenge"),
        [
            ({}, NEEDED),
            ({"Authorization": "Bearer wrong"}, f'{NEEDED}, error="invalid_token"'),
        ],
    )
    def test_sending_events_needs_a_key(
        self, service: httpx.Client, sent: dict[str, str], challenge: str
    ) -> None:
        with httpx.Client(base_url=service.base_url) as stranger:
            answer = stranger.post("/events", content=b"[", headers=sent)
        assert_problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == challenge

    @pytest.mark.parametrize(("scope", "status"), [("read", 403), ("write", 200), ("admin", 200)])
    def test_its_scope_is_write(
        self, service: httpx.Client, conn: connection, scope: str, status: int
    ) -> None:
        key = add_key(conn, "another", scope)
        answer = send(service, ndjson(event(1)), **key)
        assert answer.status_code == status
        if status == 403:
            assert_problem(answer, 403, "forbidden")
            assert 'scope="write"' in answer.headers["www-authenticate"]
            assert stored_rows(conn) == []

    def test_requests_are_counted_with_the_questions(
        self, database_url: str, redis_url: str
    ) -> None:
        with running(database_url, redis_url, rate_limit=5, concurrency_limit=1) as service:
            answers = [send(service, ndjson(event(n))) for n in range(12)]
            refused = [answer for answer in answers if answer.status_code == 429]
            assert 4 <= len(refused) <= 7
            assert_problem(refused[0], 429, "too-many-requests")
            assert refused[0].headers["retry-after"] == "1"
            assert answers[0].headers["ratelimit-policy"] == '"second";q=5;w=1'
            assert answers[0].headers["ratelimit"] == '"second";r=4;t=1'
            counts = [service.get("/analytics/event-counts").status_code for _ in range(8)]
            assert 429 in counts
            time.sleep(1.1)
            assert send(service, ndjson(event(20))).status_code == 200

    def test_without_redis_all_are_let_through(self, database_url: str) -> None:
        with running(database_url, "redis://127.0.0.1:1/0", rate_limit=1) as service:
            sent = [send(service, ndjson(event(n))).status_code for n in range(5)]
            assert sent == [200] * 5
