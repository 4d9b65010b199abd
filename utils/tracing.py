"""Tracing with OpenTelemetry; span names are fixed, and no span holds values of a request."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from opentelemetry import trace
from opentelemetry.propagate import extract
from opentelemetry.trace import Link, Span, SpanKind, Tracer, TracerProvider

_NO_SPAN: AbstractContextManager[None] = nullcontext()
_tracer: Tracer | None = None


def trace_to(provider: TracerProvider | None) -> None:
    """Send spans to this provider from now on; None turns tracing off."""
    # The provider is not installed globally, so that spans of libraries stay out of the traces.
    global _tracer
    _tracer = provider.get_tracer("analytics") if provider else None


def trace_span(name: str) -> AbstractContextManager[Span | None]:
    """Return a context manager that records a span; it does nothing if tracing is off."""
    return _start_span(_tracer, name) if _tracer else _NO_SPAN


@contextmanager
def _start_span(tracer: Tracer, name: str) -> Iterator[Span]:
    # Of an exception only the type is recorded: its message may hold SQL with values of a request.
    span_manager = tracer.start_as_current_span(
        name, record_exception=False, set_status_on_exception=False
    )
    with span_manager as span:
        try:
            yield span
        except Exception as exc:
            span.set_status(trace.StatusCode.ERROR)
            span.set_attribute("error.type", type(exc).__name__)
            raise


def server_span(
    method: str, headers: Iterable[tuple[bytes, bytes]]
) -> AbstractContextManager[Span | None]:
    """Return a context manager that records the span of a request, linked to the client's trace."""
    # A link instead of a parent: clients must not decide which requests are sampled.
    if _tracer is None:
        return _NO_SPAN
    carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
    client_context = trace.get_current_span(extract(carrier)).get_span_context()
    links = [Link(client_context)] if client_context.is_valid else []
    return _tracer.start_as_current_span(
        method,
        kind=SpanKind.SERVER,
        links=links,
        record_exception=False,
        set_status_on_exception=False,
    )


def finish_server_span(span: Span | None, method: str, route: str, status: int) -> None:
    """Name the span by its route and set attributes by OpenTelemetry's HTTP conventions."""
    if span:
        span.update_name(f"{method} {route}")
        span.set_attributes(
            {
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
            }
        )
        if status >= 500:
            span.set_status(trace.StatusCode.ERROR)


def trace_ids() -> dict[str, str]:
    """Return the ids of the current trace and span for log lines; empty outside a span."""
    context = trace.get_current_span().get_span_context() if _tracer else None
    if context is None or not context.is_valid:
        return {}
    return {
        "trace_id": trace.format_trace_id(context.trace_id),
        "span_id": trace.format_span_id(context.span_id),
    }
