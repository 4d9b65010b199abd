"""Traces: what a request did, by stable names, and nothing of what it was about."""

import logging

import pytest
from psycopg2.extensions import connection

from config.logging import configure_logging
from config.settings import Settings
from tests.api.requests import ndjson, send
from tests.factories import event
from tests.live_server import running
from tests.otel_collector import Collector, running_collector

PATH = "/analytics/users/canary-user/events"
COUNTS = "/analytics/event-counts"
CANARY = {"event": "canary-event", "start": "2025-03-10"}


def traced(
    database_url: str, redis_url: str, *paths: str, where: str = "", **variables: str
) -> Collector:
    """What the collector was sent, after the service has stopped."""
    params = CANARY | ({"where": where} if where else {})
    with running_collector() as collector:
        with pytest.MonkeyPatch.context() as environment:  # which the exporter reads itself
            environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
            for name, text in variables.items():
                environment.setenv(name, text)
            with running(database_url, redis_url) as service:
                for path in paths:
                    service.get(path, params=params, headers={"X-Canary": "canary-header"})
        return collector


def test_a_miss_shows_where_the_time_went(database_url: str, redis_url: str) -> None:
    collector = traced(database_url, redis_url, COUNTS)
    spans = {(span.name, span.parent) for span in collector.spans()}
    route = f"GET {COUNTS}"
    assert spans >= {
        (route, None),
        ("key check", route),
        ("cache look_up", route),
        ("flight", route),
        ("pool wait", route),
        ("raw_events", route),
        ("write", route),
        ("cache settle", route),
    }
    (server,) = [span for span in collector.spans() if span.name == route]
    assert sorted(server.attributes) == [
        "http.request.method",
        "http.response.status_code",
        "http.route",
    ]


def test_a_hit_asks_the_cache_alone(database_url: str, redis_url: str) -> None:
    collector = traced(database_url, redis_url, COUNTS, COUNTS)
    second = [span for span in collector.spans() if span.name == f"GET {COUNTS}"][1]
    inner = [span.name for span in collector.spans() if span.trace_id == second.trace_id]
    assert sorted(inner) == ["GET /analytics/event-counts", "cache look_up", "key check"]


def test_events_show_where_the_time_went_and_nothing_of_them(
    database_url: str, redis_url: str
) -> None:
    with running_collector() as collector, pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        with running(database_url, redis_url, rate_limit=9) as service:
            for body in (event(1, event_name="canary"), event(2, canary=1)):
                send(service, ndjson(body))
    spans = {(span.name, span.parent) for span in collector.spans()}
    route = "POST /events"
    inner = (
        "key check",
        "cache count",
        "pool wait",
        "read events",
        "ingest_stage",
        "ingest_insert",
    )
    assert spans >= {(route, None), *((name, route) for name in inner)}
    assert not any("canary" in str(request) for request in collector.requests)


def test_no_value_of_a_user_is_in_a_trace(database_url: str, redis_url: str) -> None:
    collector = traced(database_url, redis_url, PATH, COUNTS, "/nothing/canary-path")
    assert len(collector.spans()) > 10
    assert not any("canary" in str(request) for request in collector.requests)


def test_no_value_of_a_filter_is_in_a_trace(database_url: str, redis_url: str) -> None:
    where = "canary-name:~canary-value or @user:canary-user -@event:canary-name"
    collector = traced(database_url, redis_url, COUNTS, COUNTS, where=where)
    assert "evaluation" in {span.name for span in collector.spans()}
    assert not any("canary" in str(request) for request in collector.requests)


def test_failed_statements_put_no_values_into_traces(
    database_url: str, redis_url: str, conn: connection
) -> None:
    """PostgreSQL's messages quote the statement, and psycopg2 has put the values into it."""
    conn.cursor().execute("alter table events rename column user_id to somebody")
    collector = traced(database_url, redis_url, PATH)
    kinds = {span.name: span.attributes.get("error.type") for span in collector.spans()}
    assert "UndefinedColumn" in str(kinds["flight"])
    assert not any("canary" in str(request) for request in collector.requests)


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, "analytics-service"),
        ({"OTEL_SERVICE_NAME": "counts"}, "counts"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=counts,deployment=blue"}, "counts"),
    ],
)
def test_the_service_is_called_as_it_is_set(
    database_url: str, redis_url: str, variables: dict[str, str], name: str
) -> None:
    collector = traced(database_url, redis_url, COUNTS, **variables)
    (resource,) = collector.requests[0].resource_spans
    named = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
    assert named["service.name"] == name


def test_without_an_endpoint_there_are_none(database_url: str, redis_url: str) -> None:
    with running_collector() as collector, running(database_url, redis_url) as service:
        service.get(COUNTS)
    assert collector.requests == []


def test_log_lines_tell_the_trace(
    database_url: str, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logging("info", "json")
    collector = traced(database_url, redis_url, COUNTS)
    root.handlers[:], root.level = handlers, level
    (server,) = [span for span in collector.spans() if span.name == f"GET {COUNTS}"]
    assert f'"trace_id":"{server.trace_id}"' in capsys.readouterr().err


class TestWhereTracesGo:
    """By the variables of OpenTelemetry."""

    @staticmethod
    def exports(database_url: str, redis_url: str, **variables: str) -> Collector:
        """What the collector was sent; {} stands for its address."""
        with running_collector() as collector, pytest.MonkeyPatch.context() as environment:
            for name, text in variables.items():
                environment.setenv(name, text.format(collector.endpoint))
            with running(database_url, redis_url) as service:
                service.get(COUNTS, params=CANARY)
        return collector

    def test_to_the_address_of_traces_alone(self, database_url: str, redis_url: str) -> None:
        """Which is used as it is, whatever the general one says."""
        collector = self.exports(
            database_url,
            redis_url,
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="{}/of/traces",
            OTEL_EXPORTER_OTLP_TRACES_HEADERS="x-team=analytics",
        )
        assert collector.spans()
        assert collector.paths == {"/of/traces"}
        assert collector.headers["x-team"] == "analytics"

    def test_to_a_path_of_the_general_one(self, database_url: str, redis_url: str) -> None:
        collector = self.exports(database_url, redis_url, OTEL_EXPORTER_OTLP_ENDPOINT="{}/all/")
        assert collector.paths == {"/all/v1/traces"}

    @pytest.mark.parametrize(
        "off", [{"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_SDK_DISABLED": "true"}]
    )
    def test_disabled_export_sends_no_traces(
        self, database_url: str, redis_url: str, off: dict[str, str]
    ) -> None:
        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "{}"}
        assert not self.exports(database_url, redis_url, **endpoint, **off).requests

    @pytest.mark.parametrize(
        ("variables", "seconds"),
        [
            ({}, 2.0),
            ({"OTEL_EXPORTER_OTLP_TIMEOUT": "5"}, 5.0),
            ({"OTEL_EXPORTER_OTLP_TIMEOUT": "5", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "7"}, 7.0),
        ],
    )
    def test_within_the_time_that_is_set(
        self, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], seconds: float
    ) -> None:
        for name, text in variables.items():
            monkeypatch.setenv(name, text)
        assert Settings().trace_timeout_s == seconds
