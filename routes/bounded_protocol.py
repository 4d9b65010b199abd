"""How requests come in: within limits of bytes and of time, which uvicorn leaves to a proxy.

What is refused here is a problem like any other. The connection ends with it.
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
from utils.accept_balancer import Loop

log = logging.getLogger("analytics.access")

MAX_HEAD_BYTES = 64 * 1024
"""Of a request line and its headers, and of what stands between two bytes of a chunked body."""
MAX_HEADERS = 100
MAX_PIPELINED = 64
HEAD_TIMEOUT_S = 10.0
REST_TIMEOUT_S = 10.0
"""For the rest of a body that is not needed, after the answer."""
SEND_TIMEOUT_S = 60.0
"""Without a byte of the answer that the client takes."""
_CLOSE_TIMEOUT_S = 2.0
_BODY_PIECE_BYTES = 64 * 1024
"""Of a body: with each the client is given a moment again."""
_MAX_DISCARDED_BYTES = 2**20


_Phase = Literal["head", "answer", "rest", "idle", "closing"]
"""What a connection waits for."""
_HEAD: Final = "head"
_ANSWER: Final = "answer"
_REST: Final = "rest"
_IDLE: Final = "idle"
_CLOSING: Final = "closing"


class BoundedProtocol(StrictProtocol):
    """One connection, on an event loop of `utils.accept_balancer`, which checks it now and then."""

    loop: Loop

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._connections = self.loop.connections
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
        self._bytes_read = 0  # bytes since the last head, byte of a body, or end of a request
        self._has_begun = False  # a head that is not complete
        self._is_complete = True  # the request that was read last, its body included
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
        self._connections.add(self)
        CONNECTIONS.inc()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        CONNECTIONS.dec()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._bytes_read += len(data)
        if self.is_ignoring_input:
            self._discard()
            return
        try:
            self.feed(data)
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
        """What comes after a body is no header: nothing that is checked before may change."""
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
            self.fail(MalformedRequest())  # which ends the connection after what came before
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
        """As uvicorn's, without a timer for each answer."""
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
        """Close it if its client has let it wait for too long; called about once a second."""
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
        """At once: what the client has not taken by now is lost."""
        self._enter(_CLOSING)
        self._since = math.inf
        if self.cycle is not None and not self.cycle.response_complete:
            # Nothing is to be written to it any more.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.abort()

    @property
    def _is_waiting(self) -> bool:
        """Whether the request that is answered waits for its client, or its key is not known."""
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
        """Of a head, or between two bytes of a body."""
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
            if self._is_complete:  # these are answered, and then the connection ends
                cycle.keep_alive = False
                return
            if self.pipeline or cycle.response_started:
                self.close()
                return
            cycle.disconnected = True
            cycle.message_event.set()
        self._answer(error)

    def _answer(self, error: AnalyticsError) -> None:
        """The client is given a moment to read it: closed at once, it could be lost on the way."""
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
        """Once the client has read what was answered, or a moment later."""
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
