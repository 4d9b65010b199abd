"""Export of traces to an OpenTelemetry collector, which may be unavailable."""

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

_STOP_TIMEOUT_S = 1.5
_LOG_EVERY_S = 10


@contextmanager
def trace_requests(settings: TraceSettings) -> Iterator[None]:
    """Trace requests, if an endpoint is set. The exporter also reads `OTEL_*` variables itself."""
    if not settings.sends_traces:
        yield
        return
    rate_limit = _RateLimitFilter()
    for handler in logging.getLogger().handlers:
        handler.addFilter(rate_limit)
    provider = TracerProvider(resource=_resource())
    provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(timeout=settings.trace_timeout_s))
    )
    trace_to(provider)
    try:
        yield
    finally:
        trace_to(None)
        # In a thread with a time limit: `shutdown` waits for a collector that does not reply.
        thread = threading.Thread(target=provider.shutdown, daemon=True)
        thread.start()
        thread.join(_STOP_TIMEOUT_S)


def _resource() -> Resource:
    """The resource of the `OTEL_*` variables, with our service name if they set none."""
    resource = Resource.create()
    is_unnamed = str(resource.attributes.get(SERVICE_NAME)).startswith("unknown_service")
    return resource.merge(Resource({SERVICE_NAME: "analytics-service"})) if is_unnamed else resource


class _RateLimitFilter(logging.Filter):
    """Lets through one log line of the exporter every 10 s, without its traceback."""

    def __init__(self) -> None:
        super().__init__()
        self._next_log_at = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("opentelemetry"):
            return True
        now = time.monotonic()
        if now < self._next_log_at:
            return False
        self._next_log_at = now + _LOG_EVERY_S
        record.exc_info = None
        return True
