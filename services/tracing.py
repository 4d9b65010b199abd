"""Sending traces to an OpenTelemetry collector, which may be away."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from config.trace_settings import TraceSettings
from utils.tracing import trace_to

_STOP_WITHIN_S = 1.5
_ONE_LINE_IN_S = 10


@contextmanager
def traced(settings: TraceSettings) -> Iterator[None]:
    """Trace requests, if they are to be sent; the exporter reads `OTEL_*` variables as well."""
    if not settings.sends_traces:
        yield
        return
    quiet = _Quiet()
    for handler in logging.getLogger().handlers:
        handler.addFilter(quiet)
    provider = TracerProvider(resource=_resource())
    provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(timeout=settings.trace_timeout_s))
    )
    trace_to(provider)
    try:
        yield
    finally:
        trace_to(None)
        # It would wait for a collector that is away.
        stopping = threading.Thread(target=provider.shutdown, daemon=True)
        stopping.start()
        stopping.join(_STOP_WITHIN_S)


def _resource() -> Resource:
    """As the `OTEL_*` variables have it; only a service without a name gets ours."""
    given = Resource.create()
    unnamed = str(given.attributes.get(SERVICE_NAME)).startswith("unknown_service")
    return given.merge(Resource({SERVICE_NAME: "analytics-service"})) if unnamed else given


class _Quiet(logging.Filter):
    """Of what the exporter complains about, one line now and then."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("opentelemetry"):
            return True
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + _ONE_LINE_IN_S
        record.exc_info = None
        return True
