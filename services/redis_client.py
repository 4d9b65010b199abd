"""A connection to Redis that many requests share, so that each costs little.

Commands go out as they come and answers come back in their order (pipelining), without a task, a
timer or a connection for each. Whoever gives up waiting leaves its place, so an answer never
reaches another one than who asked. An answer that comes too late tells what Redis did all the same,
and may be followed by a command that undoes it; so may the loss of a connection, after which nobody
can tell whether Redis did it.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from typing import Any, NamedTuple, cast

import hiredis
from redis.asyncio.connection import parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError, TimeoutError

_NO_SCRIPT = "NOSCRIPT"
_LATE_S = 10.0  # after that, nobody waits for what a connection still owes

Command = tuple[Any, ...]
Undo = Callable[[Any], Command | None]
"""From an answer that came too late to the command that undoes what Redis did. The answer is None
where it is lost, as is the connection: nothing can be sent then."""


class Script:
    """A Lua script: sent once, then named by its digest."""

    def __init__(self, text: str, keys: int) -> None:
        self.text = text
        self.keys = keys
        self.digest = ""

    def command(self, *arguments: Any) -> Command:
        """As it is sent, whether Redis knows the script or not."""
        if self.digest:
            return ("EVALSHA", self.digest, self.keys, *arguments)
        return ("EVAL", self.text, self.keys, *arguments)


def lua_script(name: str, keys: int) -> Script:
    """One of those in the folder `lua`."""
    return Script(files("services").joinpath("lua", f"{name}.lua").read_text(), keys)


class _PendingReply(NamedTuple):
    """An answer to come."""

    due: float
    future: "asyncio.Future[Any]"
    undo: Undo | None


class _Connection(asyncio.Protocol):
    """One open connection. One that was too slow is retired: it only takes the answers to come."""

    def __init__(self, timeout_s: float, connections: "set[_Connection]") -> None:
        """It stands among `lines` for as long as it is open."""
        self._timeout_s = timeout_s
        self._connections = connections
        self._is_retired = False
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(replyError=ResponseError)
        self._pending: deque[_PendingReply] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self.closed = asyncio.Event()

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._is_retired

    def send(self, *command: Any, undo: Undo | None = None) -> "asyncio.Future[Any]":
        """The answer to come. Raises: ConnectionError."""
        if self._transport is None:
            raise RedisConnectionError("Redis hung up")
        future: asyncio.Future[Any] = self._loop.create_future()
        due = self._loop.time() + self._timeout_s
        self._pending.append(_PendingReply(due, future, undo))
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._check_timeout)
        self._transport.write(hiredis.pack_command(command))
        return future

    def undo_reply(self, undo: Undo, answer: Any) -> None:
        """Undo what Redis did for nobody."""
        if self._transport is None:
            undo(None)
        elif command := undo(answer):
            self.send(*command).add_done_callback(partial(_on_undo_done, undo))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not one by its class
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (answer := self._reader.gets()) is not False:
                self._resolve(answer)
        except (hiredis.HiredisError, IndexError):  # no answer, or one that nobody asked for
            self._fail(RedisConnectionError("this is not Redis"))
            self.close()

    def _resolve(self, answer: Any) -> None:
        _, future, undo = self._pending.popleft()
        is_error = isinstance(answer, ResponseError)
        if future.done():  # nobody waits any more
            if undo and not is_error:
                self.undo_reply(undo, answer)
        elif is_error:
            future.set_exception(answer)
        else:
            future.set_result(answer)
        if self._is_retired and not self._pending:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._connections.discard(self)
        self.closed.set()
        if self._timer:
            self._timer.cancel()
        self._fail(RedisConnectionError("Redis hung up"))

    def _check_timeout(self) -> None:
        """One timer for all who wait: the first of them has waited longest."""
        self._timer = None
        if not self._pending:
            return
        due = self._pending[0].due
        if due <= self._loop.time():
            self._retire()
        else:
            self._timer = self._loop.call_at(due, self._check_timeout)

    def _retire(self) -> None:
        """Nobody waits any more, but what Redis has done becomes known."""
        self._is_retired = True
        for reply in self._pending:
            if not reply.future.done():
                reply.future.set_exception(TimeoutError("Redis did not answer in time"))
        self._timer = self._loop.call_later(_LATE_S, self.close)

    def _fail(self, error: Exception) -> None:
        while self._pending:
            _, future, undo = self._pending.popleft()
            if not future.done():
                future.set_exception(error)
            if undo:
                undo(None)


def _on_undo_done(undo: Undo, future: "asyncio.Future[Any]") -> None:
    if future.exception():
        undo(None)


class MultiplexedRedis:
    """Connects when it is needed, and again when the connection was lost."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """`url` is one of redis-py's: redis://, rediss:// or unix://."""
        self._parts: dict[str, Any] = dict(parse_url(url))
        self._timeout_s = timeout_s
        self._connection: _Connection | None = None
        self._connections: set[_Connection] = set()
        """All that are open, retired ones as well."""
        self._connecting = asyncio.Lock()

    async def call(self, *command: Any, undo: Undo | None = None) -> Any:
        """The answer to a command; where nobody waits for it any more, it is undone.

        Raises: RedisError, OSError.
        """
        connection = self._connection
        if connection is None or not connection.is_open:
            connection = await self._get_connection()
        future = connection.send(*command, undo=undo)
        try:
            return await future
        except asyncio.CancelledError:  # perhaps after the answer came
            if undo and not future.cancelled() and not future.exception():
                connection.undo_reply(undo, future.result())
            raise

    async def run(self, script: Script, *arguments: Any, undo: Undo | None = None) -> Any:
        """What a script returns. Raises: RedisError, OSError."""
        await self.load(script)
        try:
            return await self.call("EVALSHA", script.digest, script.keys, *arguments, undo=undo)
        except ResponseError as exc:
            if not str(exc).startswith(_NO_SCRIPT):
                raise
        return await self.call("EVAL", script.text, script.keys, *arguments, undo=undo)

    async def load(self, script: Script) -> None:
        """Send a script that was not sent yet. Raises: RedisError, OSError."""
        if not script.digest:
            script.digest = (await self.call("SCRIPT", "LOAD", script.text)).decode()

    async def close(self) -> None:
        """Wait until it is closed: a loop must not end before."""
        self._connection = None
        for connection in list(self._connections):
            connection.close()
            await connection.closed.wait()

    async def _get_connection(self) -> _Connection:
        async with asyncio.timeout(self._timeout_s), self._connecting:
            if self._connection is None or not self._connection.is_open:
                self._connection = await self._connect()
            return self._connection

    async def _connect(self) -> _Connection:
        loop, parts = asyncio.get_running_loop(), self._parts
        if "path" in parts:
            _, connection = await loop.create_unix_connection(self._new_connection, parts["path"])
        else:
            host, port = parts.get("host", "localhost"), parts.get("port", 6379)
            _, connection = await loop.create_connection(
                self._new_connection, host, port, ssl=_tls(parts) if _wants_tls(parts) else None
            )
        try:
            await self._authenticate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    async def _authenticate(self, connection: _Connection) -> None:
        if password := self._parts.get("password"):
            await connection.send("AUTH", self._parts.get("username") or "default", password)
        if database := self._parts.get("db"):
            await connection.send("SELECT", database)

    def _new_connection(self) -> _Connection:
        return _Connection(self._timeout_s, self._connections)


def _wants_tls(parts: dict[str, Any]) -> bool:
    return "SSL" in getattr(parts.get("connection_class"), "__name__", "")


def _tls(parts: dict[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=parts.get("ssl_ca_certs"))
    if parts.get("ssl_cert_reqs") == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
