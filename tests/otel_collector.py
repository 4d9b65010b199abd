"""A minimal OpenTelemetry collector that stores the spans it receives."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Status


class ReceivedSpan(NamedTuple):
    """A received span."""

    name: str
    parent: str | None
    """The name of the parent; None if the collector has not received it."""
    parent_id: str
    """In hexadecimal digits, as `trace_id`; empty if the trace begins with the span."""
    trace_id: str
    links: list[str]
    """The ids of linked traces."""
    attributes: dict[str, str]
    is_error: bool
    library: str
    """What created the span."""


class Collector:
    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self.requests: list[ExportTraceServiceRequest] = []
        self.paths: set[str] = set()
        self.headers: dict[str, str] = {}
        """The headers of the last request, by lower-case names."""

    def spans(self) -> list[ReceivedSpan]:
        exported = [
            (scope.scope.name, span)
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        names = {span.span_id: span.name for _, span in exported}
        return [
            ReceivedSpan(
                span.name,
                names.get(span.parent_span_id),
                span.parent_span_id.hex(),
                span.trace_id.hex(),
                [link.trace_id.hex() for link in span.links],
                {pair.key: _text(pair.value) for pair in span.attributes},
                span.status.code == Status.STATUS_CODE_ERROR,
                library,
            )
            for library, span in exported
        ]


def _text(value: AnyValue) -> str:
    return str(getattr(value, value.WhichOneof("value") or "string_value"))


@contextmanager
def running_collector() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.paths.add(self.path)
            collector.headers = {name.lower(): text for name, text in self.headers.items()}
            collector.requests.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
