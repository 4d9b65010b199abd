"""uvicorn's HTTP protocol with limits on bytes and time, which uvicorn leaves to a proxy.

A rejected request is answered with a problem as everywhere else; then the connection is closed.
"""

import asyncio
import logging
import math
from random import getrandbits
from typing import Any, Final, Literal, cast

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle
from uvicorn.server import ServerState

from common.errors import AnalyticsError
from common.key_metrics import NO_KEY, key_requests
from common.metrics import CONNECTIONS, requests
from common.protocol_errors import HeadTooLarge, MalformedRequest, SlowHead
from config.logging import request_id
from routes.errors import analytics_problem
from routes.strict_protocol import StrictProtocol

log = logging.getLogger("analytics.access")

MAX_HEAD_BYTES = 64 * 1024
"""Limit of a request line with its headers, and of the framing between two bytes of a body."""
MAX_HEADERS = 100
MAX_PIPELINED = 64
HEAD_TIMEOUT_S = 10.0
REST_TIMEOUT_S = 10.0
"""For the rest of an unread body, after the response."""
SEND_TIMEOUT_S = 60.0
"""For a client that does not read any byte of its response."""
_CLOSE_TIMEOUT_S = 2.0
_BODY_PIECE_BYTES = 64 * 1024
"""The timeout of a body starts anew with each piece of this size."""
_MAX_DISCARDED_BYTES = 2**20
_UNENCODED_URL = (
    "The URL has characters that must be percent-encoded as UTF-8: `é` is written `%C3%A9`, and a "
    "space `%20`."
)

_Phase = Literal["head", "answer", "rest", "idle", "closing"]
"""The phase of a connection, which selects its timeout."""
_HEAD: Final = "head"
_ANSWER: Final = "answer"
_REST: Final = "rest"
_IDLE: Final = "idle"
_CLOSING: Final = "closing"


class BoundedProtocol(StrictProtocol):
    """One connection. Its server calls `check` every second, and `close` if it needs room."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._timeouts_s: dict[_Phase, float] = {
            _HEAD: HEAD_TIMEOUT_S,
            _ANSWER: math.inf,  # the application has a deadline
            _REST: REST_TIMEOUT_S,
            _IDLE: float(config.timeout_keep_alive),
            _CLOSING: _CLOSE_TIMEOUT_S,
        }
        self.url = b""
        self._phase: _Phase = _HEAD
        self._since = math.inf
        self._active_cycle: RequestResponseCycle | None = None
        self._piece_bytes = 0  # bytes of a body since `_since`
        self._bytes_read = 0  # since the last complete head, byte of a body, or end of a request
        self._has_begun = False  # a head has begun and is not complete
        self._is_complete = True  # the last request was read, its body included
        self._unsent = 0
        self._unsent_since = 0.0

    @property
    def is_active(self) -> bool:
        return self._phase in (_HEAD, _ANSWER)

    @property
    def waiting_since(self) -> float:
        return math.inf if self._phase is _ANSWER and not self._is_waiting else self._since

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._enter(_HEAD)
        CONNECTIONS.inc()

    def connection_lost(self, exc: Exception | None) -> None:
        CONNECTIONS.dec()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._bytes_read += len(data)
        if self.is_ignoring_input:
            self._discard()
            return
        try:
            self.feed(data)
        except httptools.HttpParserInvalidURLError:
            self._refuse(MalformedRequest(_UNENCODED_URL))
        except httptools.HttpParserError:
            self._refuse(self.error or MalformedRequest())
        else:
            if self._bytes_read:
                self._wait_for_more()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._has_begun = True
        if self._phase is _IDLE:
            self._enter(_HEAD)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header, within `MAX_HEADERS`."""
        # Trailers of a chunked body are ignored: they must not replace headers that were checked.
        if not self._is_complete:
            return
        if len(self.headers) >= MAX_HEADERS:
            self.fail(HeadTooLarge())
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._bytes_read > MAX_HEAD_BYTES and self._head_bytes() > MAX_HEAD_BYTES:
            self.fail(HeadTooLarge())
        if len(self.pipeline) >= MAX_PIPELINED:
            self.fail(MalformedRequest())  # ends the connection after the requests before it
        super().on_headers_complete()
        if not self.has_upgrade:
            self._has_begun = self._is_complete = False
            self._bytes_read = 0

    def on_body(self, body: bytes) -> None:
        self._bytes_read = 0
        self._piece_bytes += len(body)
        if self._piece_bytes >= _BODY_PIECE_BYTES:
            self._piece_bytes = 0
            self._since = self.loop.time()
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.has_upgrade:
            return
        self._is_complete = True
        self._bytes_read = 0
        if self._phase is _REST:
            self._enter(_IDLE)
        elif not self.cycle.response_complete:
            self.cycle.more_body = False
            self.cycle.message_event.set()

    def on_response_complete(self) -> None:
        """Like uvicorn's, without a keep-alive timer for each response."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline and self._is_unauthorized:
            self._half_close()
        elif self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._is_complete:
            self._enter(_HEAD if self._has_begun else _IDLE)
        else:
            self._enter(_REST)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._since = self.loop.time()

    def check(self, now: float) -> None:
        """Close the connection if a timeout has passed; called about once a second."""
        if self.transport.is_closing() and self._phase is not _CLOSING:
            self._enter(_CLOSING)
        unsent = self.transport.get_write_buffer_size()
        if unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, now
        if unsent:
            if now - self._unsent_since > SEND_TIMEOUT_S:
                self.close()
        elif now - self.waiting_since > self._timeouts_s[self._phase]:
            self._end()

    def close(self) -> None:
        """Close at once, without sending what is buffered."""
        self._enter(_CLOSING)
        self._since = math.inf
        if self.cycle is not None and not self.cycle.response_complete:
            # The application must not write to it any more.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.abort()

    @property
    def _is_waiting(self) -> bool:
        """Whether the active request waits for its client, or is not authorized yet."""
        cycle = self._active_cycle
        if cycle is None or "authorized" not in cycle.scope["state"]:
            return True
        is_read = not self.flow.read_paused and not cycle.waiting_for_100_continue
        return self.flow.write_paused or (cycle.more_body and is_read)

    @property
    def _is_unauthorized(self) -> bool:
        return (
            self._active_cycle is not None
            and self._active_cycle.scope["state"].get("status") == 401
        )

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._active_cycle = cycle
        self._piece_bytes = 0
        self._enter(_ANSWER)
        super()._start_asgi_task(cycle, app)

    def _wait_for_more(self) -> None:
        """More bytes of a head, or of the framing of a body, are needed."""
        if self._bytes_read > MAX_HEAD_BYTES:
            self._refuse(HeadTooLarge())
        elif self._phase is _IDLE:
            self._enter(_HEAD)

    def _end(self) -> None:
        if self._phase is _HEAD and (self._has_begun or self._bytes_read):
            self._refuse(SlowHead())
        else:
            self.close()

    def _enter(self, phase: _Phase) -> None:
        self._phase = phase
        self._since = self.loop.time()

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _discard(self) -> None:
        if self._bytes_read > _MAX_DISCARDED_BYTES and self._phase is _CLOSING:
            self.close()

    def _refuse(self, error: AnalyticsError) -> None:
        self.is_ignoring_input = True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if self._is_complete:  # respond to these first, then close
                cycle.keep_alive = False
                return
            if self.pipeline or cycle.response_started:
                self.close()
                return
            cycle.disconnected = True
            cycle.message_event.set()
        self._answer(error)

    def _answer(self, error: AnalyticsError) -> None:
        """Send a problem, and close the connection later."""
        # Closed at once with unread input, the kernel sends RST, and the response may be lost.
        token = request_id.set(f"{getrandbits(128):032x}")
        try:
            self.transport.write(self._encode(error))
            requests("other", "(none)", error.status).inc()
            key_requests(NO_KEY, error.status).inc()
            line = {"method": "other", "route": "(none)", "status": error.status, "key": NO_KEY}
            log.info("request", extra=line)
        finally:
            request_id.reset(token)
        self._half_close()

    def _half_close(self) -> None:
        """Stop writing; the connection closes when the client does, or after a timeout."""
        self.is_ignoring_input = True
        self.pipeline.clear()
        self.transport.write_eof()
        self._bytes_read = 0
        self._enter(_CLOSING)

    def _encode(self, error: AnalyticsError) -> bytes:
        response = analytics_problem(error)
        headers = [
            *self.server_state.default_headers,
            *response.raw_headers,
            (b"x-request-id", request_id.get().encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"connection", b"close"),
        ]
        lines = [part for name, value in headers for part in (name, b": ", value, b"\r\n")]
        return b"".join([STATUS_LINE[error.status], *lines, b"\r\n", cast(bytes, response.body)])
