"""The spans of whole requests: their names, their place in the client's trace, and no values."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import httpx
import pytest
from psycopg2.extensions import connection

from config.settings import Settings
from main import create_app
from services.answering.answer_service import AnswerService
from tests.api.requests import ndjson, send
from tests.factories import event
from tests.live_server import AUTHORIZED, METRICS_TOKEN, running, scrape, value
from tests.otel_collector import Collector, ReceivedSpan, running_collector
from tests.wait_until import wait_until

COUNTS = "/analytics/event-counts"
HISTORY = "/analytics/users/canary-user/events"
TEMPLATE = "/analytics/users/{user_id:text}/events"
TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE_ID}-{SPAN_ID}-01"
UNSAMPLED = f"00-{TRACE_ID}-{SPAN_ID}-00"
REQUESTS = [
    ("GET", COUNTS, f"GET {COUNTS}", 200),
    ("HEAD", COUNTS, f"HEAD {COUNTS}", 200),
    ("GET", f"{COUNTS}?event=canary&nonsense=1", f"GET {COUNTS}", 422),
    ("GET", f"{COUNTS}?event=%E9", "GET", 422),
    ("HEAD", HISTORY, f"HEAD {TEMPLATE}", 200),
    ("GET", HISTORY, f"GET {TEMPLATE}", 200),
    ("GET", "/analytics/users/canary-user", "GET /analytics/users/{user_id:text}", 200),
    ("PUT", "/analytics/users/canary-user", "PUT /analytics/users/{user_id:text}", 405),
    ("GET", "/canary", "GET", 404),
    ("GET", "/analytics/canary-user/events", "GET", 404),
    ("PROPFIND", "/canary", "HTTP", 404),
]
"""Method, URL, name of the span, and status."""
CANARIES = {
    "User-Agent": "canary-agent",
    "X-Canary": "canary-header",
    "X-Forwarded-For": "192.0.2.77",
    "Baggage": "user=canary-baggage",
    "Tracestate": "vendor=canary-state",
}


@contextmanager
def traced(
    database_url: str, redis_url: str, **settings: Any
) -> Iterator[tuple[httpx.Client, Collector]]:
    """A service with a collector, which has all spans once the block has ended."""
    with running_collector() as collector, pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        with running(database_url, redis_url, **settings) as service:
            yield service, collector


def address(service: httpx.Client) -> tuple[str, int]:
    return service.base_url.host, service.base_url.port or 0


def server_spans(collector: Collector) -> list[ReceivedSpan]:
    return [span for span in collector.spans() if "http.request.method" in span.attributes]


def test_they_come_from_the_instrumentation(database_url: str, redis_url: str) -> None:
    with traced(database_url, redis_url) as (service, collector):
        service.get(COUNTS)
    (span,) = server_spans(collector)
    assert span.library == "opentelemetry.instrumentation.fastapi"
    assert {each.library for each in collector.spans() if each != span} == {"analytics"}


def test_they_have_the_names_of_routes_and_nothing_else(database_url: str, redis_url: str) -> None:
    """For the first request, which is computed, and for the second, which may be a cache hit."""
    with traced(database_url, redis_url) as (service, collector):
        for method, path, _, status in REQUESTS:
            for _ in range(2):
                assert service.request(method, path, headers=CANARIES).status_code == status
    spans = server_spans(collector)
    assert [(span.name, span.attributes) for span in spans] == [
        (name, expected_attributes(name, status)) for _, _, name, status in REQUESTS for _ in "12"
    ]
    assert not any(span.parent_id or span.links or span.is_error for span in spans)
    assert_no_values(collector)


def expected_attributes(name: str, status: int) -> dict[str, str]:
    method, _, route = name.partition(" ")
    return {
        "http.request.method": "_OTHER" if method == "HTTP" else method,
        "http.response.status_code": str(status),
        **({"http.route": route} if route else {}),
    }


def assert_no_values(collector: Collector) -> None:
    sent = str(collector.requests)
    assert sent
    for text in ("canary", "127.0.0.1", "192.0.2", "python-httpx"):
        assert text not in sent, text


def test_events_are_no_values_of_them(database_url: str, redis_url: str) -> None:
    rows = ndjson(event(1, event_name="canary"), event(2, properties={"canary": "canary"}))
    with traced(database_url, redis_url) as (service, collector):
        assert send(service, rows, **CANARIES).status_code == 200
        assert send(service, b'[{"canary": ', "application/json").status_code == 400
    assert [span.name for span in server_spans(collector)] == ["POST /events"] * 2
    assert_no_values(collector)


def test_headers_are_not_recorded_even_if_the_environment_asks_for_them(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for side in ("REQUEST", "RESPONSE"):
        monkeypatch.setenv(f"OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_{side}", ".*")
    with traced(database_url, redis_url) as (service, collector):
        service.get(HISTORY, headers={**CANARIES, "X-Request-Id": "canary-id"})
    assert len(server_spans(collector)) == 1
    assert_no_values(collector)


def test_an_unforeseen_exception_leaves_no_message(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> NoReturn:
        raise RuntimeError("canary in a message")

    monkeypatch.setattr(AnswerService, "current", fail)
    with traced(database_url, redis_url) as (service, collector):
        assert service.get(HISTORY).status_code == 500
    (span,) = server_spans(collector)
    assert span.name == f"GET {TEMPLATE}"
    assert span.is_error
    assert span.attributes["http.response.status_code"] == "500"
    assert span.attributes["error.type"] == "500"
    assert_no_values(collector)


def test_server_errors_are_errors_of_the_span(
    database_url: str, redis_url: str, conn: connection
) -> None:
    conn.cursor().execute("alter table events rename column user_id to somebody")
    with traced(database_url, redis_url) as (service, collector):
        assert service.get(HISTORY).status_code == 500
    (span,) = server_spans(collector)
    assert span.is_error
    assert_no_values(collector)


def test_a_client_that_disconnects_has_499(database_url: str, redis_url: str) -> None:
    """A code of nginx: no response was sent."""
    head = f"POST /events HTTP/1.1\r\nHost: a\r\nAuthorization: {AUTHORIZED['Authorization']}\r\n"
    with traced(database_url, redis_url) as (service, collector):
        gone = 'http_requests_total{method="POST",route="/events",status="499"}'
        before = value(scrape(service), gone)
        with socket.create_connection(address(service)) as client:
            client.sendall(f"{head}Content-Type: application/json\r\n".encode())
            client.sendall(b"Content-Length: 100\r\n\r\n[")
            time.sleep(0.1)
        wait_until(lambda: value(scrape(service), gone) - before == 1, timeout_s=5)
    (span,) = server_spans(collector)
    assert (span.name, span.attributes["http.response.status_code"]) == ("POST /events", "499")


def test_headers_that_cannot_be_decoded_are_no_failure(database_url: str, redis_url: str) -> None:
    headers: Any = dict.fromkeys(("User-Agent", "X-Other", "Tracestate"), b"\xff\\x")
    with traced(database_url, redis_url) as (service, collector):
        assert service.get(COUNTS, headers=headers).status_code == 200
    assert len(server_spans(collector)) == 1


def test_probes_and_scrapes_have_no_spans(database_url: str, redis_url: str) -> None:
    token = {"Authorization": f"Bearer {METRICS_TOKEN}"}
    with traced(database_url, redis_url) as (service, collector):
        for path, headers in (("/healthz", {}), ("/readyz", {}), ("/metrics", token)):
            response = service.get(path, headers={**headers, "traceparent": SAMPLED})
            assert response.status_code == 200
        service.get(COUNTS)
    (span,) = server_spans(collector)
    assert {each.trace_id for each in collector.spans()} == {span.trace_id}


class TestContext:
    """What the `traceparent` of a client does."""

    def test_its_trace_is_continued(self, database_url: str, redis_url: str) -> None:
        with traced(database_url, redis_url) as (service, collector):
            for _ in range(2):
                service.get(COUNTS, headers={**CANARIES, "traceparent": SAMPLED})
        for span in server_spans(collector):
            assert (span.trace_id, span.parent_id, span.links) == (TRACE_ID, SPAN_ID, [])
        assert len(collector.spans()) > 5
        assert {span.trace_id for span in collector.spans()} == {TRACE_ID}
        assert_no_values(collector)

    def test_its_flag_decides_what_is_recorded(self, database_url: str, redis_url: str) -> None:
        with traced(database_url, redis_url) as (service, collector):
            service.get(COUNTS, headers={"traceparent": UNSAMPLED})
        assert collector.requests == []

    @pytest.mark.parametrize("header", [SAMPLED, UNSAMPLED])
    def test_with_links_only_it_decides_nothing(
        self, database_url: str, redis_url: str, header: str
    ) -> None:
        with traced(database_url, redis_url, trace_link_only=True) as (service, collector):
            service.get(COUNTS, headers={"traceparent": header, "tracestate": "canary=1"})
        (span,) = server_spans(collector)
        assert (span.parent_id, span.links) == ("", [TRACE_ID])
        assert span.trace_id != TRACE_ID
        assert {each.trace_id for each in collector.spans()} == {span.trace_id}
        assert_no_values(collector)

    @pytest.mark.parametrize("link_only", [False, True])
    def test_nonsense_begins_a_trace(
        self, database_url: str, redis_url: str, link_only: bool
    ) -> None:
        nonsense: list[Any] = ["canary", "00-0-0-01", b"\xff\\x", b"\xe9" * 55]
        with traced(database_url, redis_url, trace_link_only=link_only) as (service, collector):
            for header in nonsense:
                assert service.get(COUNTS, headers={"traceparent": header}).status_code == 200
        spans = server_spans(collector)
        assert [(span.parent_id, span.links) for span in spans] == [("", [])] * len(nonsense)
        assert_no_values(collector)

    def test_the_setting_is_a_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert not Settings().trace_link_only
        monkeypatch.setenv("ANALYTICS_TRACE_LINK_ONLY", "true")
        assert Settings().trace_link_only


def test_pipelined_requests_have_traces_of_their_own(database_url: str, redis_url: str) -> None:
    head = f"GET {COUNTS} HTTP/1.1\r\nHost: a\r\nAuthorization: {AUTHORIZED['Authorization']}\r\n"
    pipeline = f"{head}\r\n" * 2 + f"{head}Connection: close\r\n\r\n"
    with (
        traced(database_url, redis_url) as (service, collector),
        socket.create_connection(address(service)) as client,
    ):
        client.sendall(pipeline.encode())
        while client.recv(65536):
            pass
    spans = server_spans(collector)
    assert [span.parent_id for span in spans] == ["", "", ""]
    assert len({span.trace_id for span in spans}) == 3


def test_two_services_in_one_process_have_their_own_collectors(
    database_url: str, redis_url: str
) -> None:
    with traced(database_url, redis_url) as (first, first_collector):
        with traced(database_url, redis_url) as (second, second_collector):
            second.get(COUNTS)
            first.get(HISTORY)
        first.get(HISTORY)
    assert {span.name for span in server_spans(second_collector)} == {f"GET {COUNTS}"}
    assert [span.name for span in server_spans(first_collector)] == [f"GET {TEMPLATE}"] * 2
    for collector in (first_collector, second_collector):
        servers = {span.trace_id for span in server_spans(collector)}
        assert {span.trace_id for span in collector.spans()} == servers


def test_without_an_endpoint_nothing_of_it_is_imported() -> None:
    code = """
import sys
from config.settings import Settings
from main import create_app
create_app(Settings())
import services.container
print([name for name in sys.modules if name.startswith(
    ("opentelemetry.instrumentation", "opentelemetry.sdk.trace", "opentelemetry.exporter"))])
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_an_application_may_be_started_again(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by tests, and by servers that reload."""
    with running_collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        app = create_app(Settings())
        monkeypatch.setattr("tests.live_server.create_app", lambda _: app)
        for number in (1, 2):
            with running(database_url, redis_url) as service:
                service.get(COUNTS)
            assert len(server_spans(collector)) == number
