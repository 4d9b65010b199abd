"""Which variables of OpenTelemetry decide whether, where and how long traces are sent."""

import pytest

from config.trace_settings import TraceSettings

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


def read(monkeypatch: pytest.MonkeyPatch, **variables: str) -> TraceSettings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return TraceSettings()


@pytest.mark.parametrize(
    ("variables", "is_sent"),
    [
        ({}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector/traces"}, True),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_traces_are_sent_to_an_endpoint(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], is_sent: bool
) -> None:
    assert read(monkeypatch, **variables).sends_traces is is_sent


@pytest.mark.parametrize(
    ("variables", "timeout_s"),
    [
        ({}, 2),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "7"}, 7),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "7", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "5"}, 5),
    ],
)
def test_the_timeout_of_traces_takes_precedence(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], timeout_s: float
) -> None:
    assert read(monkeypatch, **variables).trace_timeout_s == timeout_s
