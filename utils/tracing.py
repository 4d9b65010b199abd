"""Traces: where the time of a request goes. Names are fixed, and no value of a user is in them."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from opentelemetry import trace
from opentelemetry.propagate import extract
from opentelemetry.trace import Link, Span, SpanKind, Tracer, TracerProvider

_NO_SPAN: AbstractContextManager[None] = nullcontext()
_tracer: Tracer | None = None


def trace_to(provider: TracerProvider | None) -> None:
    """From now on spans go to this provider; without one there are none, and they cost nothing.

    The provider is ours alone: what libraries do by themselves stays out of the traces.
    """
    global _tracer
    _tracer = provider.get_tracer("analytics") if provider else None


def trace_span(name: str) -> AbstractContextManager[Span | None]:
    """A part of what the request is doing."""
    return _start_span(_tracer, name) if _tracer else _NO_SPAN


@contextmanager
def _start_span(tracer: Tracer, name: str) -> Iterator[Span]:
    """Of an error the kind alone is told: its message may hold values, and SQL with them."""
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
    """A request. Whoever sends one cannot choose what is traced: its own trace is only linked."""
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
    """Name it by its route, in the terms of OpenTelemetry's conventions for HTTP."""
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
    """The present trace and span, for log lines."""
    context = trace.get_current_span().get_span_context() if _tracer else None
    if context is None or not context.is_valid:
        return {}
    return {
        "trace_id": trace.format_trace_id(context.trace_id),
        "span_id": trace.format_span_id(context.span_id),
    }
