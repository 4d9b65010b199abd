"""Spans of what a request does; their names are fixed, and none holds values of a request.

Call `tracing.span(...)` by way of the module: `enable_spans` replaces it.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

from opentelemetry import trace
from opentelemetry.trace import Span, Tracer

from utils.session_options import statement_name

# Set for the time of a request that is traced, so that background tasks record no spans.
_tracer: ContextVar[Tracer | None] = ContextVar("tracer", default=None)

span: Callable[[str], AbstractContextManager[object]] = nullcontext
"""Return a context manager that records a span of this name.

It does nothing until traces are enabled, and where the current request has none.
"""
statement_span: Callable[[str | bytes], AbstractContextManager[object]] = nullcontext
"""Like `span`, for an SQL statement: the span has the name in the comment before it."""


def enable_spans() -> None:
    """Let `span` and `statement_span` record spans in this process, within `child_spans`."""
    global span, statement_span
    span, statement_span = _span, _statement_span


@contextmanager
def child_spans(tracer: Tracer) -> Iterator[None]:
    """Record spans with this tracer within the block, also in its threads."""
    token = _tracer.set(tracer)
    try:
        yield
    finally:
        _tracer.reset(token)


def _span(name: str) -> AbstractContextManager[object]:
    tracer = _tracer.get()
    return _start_span(tracer, name) if tracer else nullcontext()


def _statement_span(text: str | bytes) -> AbstractContextManager[object]:
    tracer = _tracer.get()
    return _start_span(tracer, statement_name(text)) if tracer else nullcontext()


@contextmanager
def _start_span(tracer: Tracer, name: str) -> Iterator[Span]:
    # Only the type of an exception is recorded: its message may hold SQL with values of a request.
    span_manager = tracer.start_as_current_span(
        name, record_exception=False, set_status_on_exception=False
    )
    with span_manager as recorded:
        try:
            yield recorded
        except Exception as exc:
            recorded.set_status(trace.StatusCode.ERROR)
            recorded.set_attribute("error.type", type(exc).__name__)
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
