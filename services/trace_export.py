"""Export of traces to an OpenTelemetry collector, which may be unavailable."""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import Status

_STOP_TIMEOUT_S = 1.5
_LOG_EVERY_S = 10
_EXPORTED_ATTRIBUTES = frozenset(
    {"error.type", "http.request.method", "http.response.status_code", "http.route"}
)


class TraceExport(SpanProcessor):
    """Spans of an application, which are sent while it runs."""

    # Spans are sent by a thread, which would not survive a fork: it is started by the lifespan. The
    # provider is not installed globally, so that spans of libraries stay out of the traces.

    def __init__(self) -> None:
        self._batches: BatchSpanProcessor | None = None
        self.provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self.provider.add_span_processor(self)

    def on_end(self, span: ReadableSpan) -> None:
        if self._batches:
            self._batches.on_end(span)

    @contextmanager
    def sending(self, timeout_s: float) -> Iterator[None]:
        """Send spans that end within the block. The exporter reads `OTEL_*` variables itself."""
        rate_limit = _RateLimitFilter()
        for handler in logging.getLogger().handlers:
            handler.addFilter(rate_limit)
        batches = self._batches = BatchSpanProcessor(_ValueFreeExporter(timeout=timeout_s))
        try:
            yield
        finally:
            self._batches = None
            # In a thread with a time limit: `shutdown` waits for a collector that does not reply.
            thread = threading.Thread(target=batches.shutdown, daemon=True)
            thread.start()
            thread.join(_STOP_TIMEOUT_S)


class _ValueFreeExporter(OTLPSpanExporter):
    """Exports neither attributes that may hold values of a request nor messages of exceptions."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return super().export([_without_values(span) for span in spans])


def _without_values(span: ReadableSpan) -> ReadableSpan:
    attributes = span.attributes or {}
    return ReadableSpan(
        span.name,
        span.context,
        span.parent,
        span.resource,
        {name: attributes[name] for name in attributes.keys() & _EXPORTED_ATTRIBUTES},
        links=span.links,
        kind=span.kind,
        instrumentation_scope=span.instrumentation_scope,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
    )


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
