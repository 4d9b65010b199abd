"""Spans of what a request does; their names are fixed, and none holds values of a request."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

from opentelemetry import trace
from opentelemetry.trace import Span, Tracer

from utils.session_options import statement_name

_NO_SPAN: AbstractContextManager[None] = nullcontext()
# Set for the time of a request that is traced, so that background tasks record no spans.
_tracer: ContextVar[Tracer | None] = ContextVar("tracer", default=None)


@contextmanager
def child_spans(tracer: Tracer) -> Iterator[None]:
    """Let `trace_span` record spans with this tracer within the block, also in its threads."""
    token = _tracer.set(tracer)
    try:
        yield
    finally:
        _tracer.reset(token)


def trace_span(name: str) -> AbstractContextManager[Span | None]:
    """Return a context manager that records a span; it does nothing if the request has no trace."""
    tracer = _tracer.get()
    return _start_span(tracer, name) if tracer else _NO_SPAN


def trace_statement(text: str | bytes) -> AbstractContextManager[Span | None]:
    """Like `trace_span`, for an SQL statement: the span has the name in the comment before it."""
    tracer = _tracer.get()
    return _start_span(tracer, statement_name(text)) if tracer else _NO_SPAN


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


def trace_ids() -> dict[str, str]:
    """Return the ids of the current trace and span for log lines; empty outside a span."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {
        "trace_id": trace.format_trace_id(context.trace_id),
        "span_id": trace.format_span_id(context.span_id),
    }
