"""Redis client that multiplexes the commands of many requests over one connection.

Commands are pipelined: they are sent at once, and Redis replies in their order. This needs no task,
timer or connection per command. A command that is cancelled or times out stays in the queue, so
that later replies are matched correctly. Its late reply still tells what Redis did, and can be
undone with another command. If the connection is lost, it is unknown whether Redis executed the
pending commands.
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
_LATE_S = 10.0  # how long a retired connection may wait for late replies

Command = tuple[Any, ...]
# Takes a late reply, and returns the command that undoes what Redis did. The reply is None if the
# connection was lost; the returned command is not sent then.
Undo = Callable[[Any], Command | None]


class Script:
    """A Lua script, which is sent once and then executed by its digest."""

    def __init__(self, text: str, keys: int) -> None:
        self.text = text
        self.keys = keys
        self.digest = ""

    def command(self, *arguments: Any) -> Command:
        """The command that executes the script, with its text if it was not loaded yet."""
        if self.digest:
            return ("EVALSHA", self.digest, self.keys, *arguments)
        return ("EVAL", self.text, self.keys, *arguments)


def lua_script(name: str, keys: int) -> Script:
    """A script of the directory `services/lua`."""
    return Script(files("services").joinpath("lua", f"{name}.lua").read_text(), keys)


class _PendingReply(NamedTuple):
    """A command whose reply has not arrived; `due` is the time of its timeout."""

    due: float
    future: "asyncio.Future[Any]"
    undo: Undo | None


class _Connection(asyncio.Protocol):
    """One connection. After a timeout it is retired: it sends no new commands, and is only read
    for late replies."""

    def __init__(self, timeout_s: float, connections: "set[_Connection]") -> None:
        """The connection is in the set `connections` while it is open."""
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
        """Whether commands can be sent."""
        return self._transport is not None and not self._is_retired

    def send(self, *command: Any, undo: Undo | None = None) -> "asyncio.Future[Any]":
        """Send a command, and return a future of its reply. Raises: ConnectionError."""
        if self._transport is None:
            raise RedisConnectionError("Redis closed the connection")
        future: asyncio.Future[Any] = self._loop.create_future()
        due = self._loop.time() + self._timeout_s
        self._pending.append(_PendingReply(due, future, undo))
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._check_timeout)
        self._transport.write(hiredis.pack_command(command))
        return future

    def undo_reply(self, undo: Undo, answer: Any) -> None:
        """Undo what Redis did for a command whose caller has given up."""
        if self._transport is None:
            undo(None)
        elif command := undo(answer):
            self.send(*command).add_done_callback(partial(_on_undo_done, undo))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, since the transports of uvloop do not inherit from asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (answer := self._reader.gets()) is not False:
                self._resolve(answer)
        except (hiredis.HiredisError, IndexError):  # a malformed reply, or one without a command
            self._fail(RedisConnectionError("the server is not Redis: it sent an invalid reply"))
            self.close()

    def _resolve(self, answer: Any) -> None:
        _, future, undo = self._pending.popleft()
        is_error = isinstance(answer, ResponseError)
        if future.done():  # the caller was cancelled, or has timed out
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
        self._fail(RedisConnectionError("Redis closed the connection"))

    def _check_timeout(self) -> None:
        # One timer is enough for all commands: they have the same timeout, so the first is due
        # first.
        self._timer = None
        if not self._pending:
            return
        due = self._pending[0].due
        if due <= self._loop.time():
            self._retire()
        else:
            self._timer = self._loop.call_at(due, self._check_timeout)

    def _retire(self) -> None:
        """Fail all pending commands, but keep reading their late replies for 10 s."""
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
    """A client that connects at the first command, and again after the connection was lost."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """`url` has the form that redis-py takes: redis://, rediss:// or unix://."""
        self._parts: dict[str, Any] = dict(parse_url(url))
        self._timeout_s = timeout_s
        self._connection: _Connection | None = None
        self._connections: set[_Connection] = set()  # all that are open, including retired ones
        self._connecting = asyncio.Lock()

    async def call(self, *command: Any, undo: Undo | None = None) -> Any:
        """The reply to a command. If this call is cancelled or times out, a command that Redis has
        executed is undone with `undo`.

        Raises: RedisError, OSError.
        """
        connection = self._connection
        if connection is None or not connection.is_open:
            connection = await self._get_connection()
        future = connection.send(*command, undo=undo)
        try:
            return await future
        except asyncio.CancelledError:
            # The reply may have arrived just before the cancellation: nothing else would undo it.
            if undo and not future.cancelled() and not future.exception():
                connection.undo_reply(undo, future.result())
            raise

    async def run(self, script: Script, *arguments: Any, undo: Undo | None = None) -> Any:
        """The result of a script. Raises: RedisError, OSError."""
        if not script.digest:
            await self.load(script)
        try:
            return await self.call("EVALSHA", script.digest, script.keys, *arguments, undo=undo)
        except ResponseError as exc:
            # A Redis that was restarted, or replaced by its replica, has lost the script.
            if not str(exc).startswith(_NO_SCRIPT):
                raise
        return await self.call("EVAL", script.text, script.keys, *arguments, undo=undo)

    async def load(self, script: Script) -> None:
        """Load a script into Redis, unless that was done. Raises: RedisError, OSError."""
        if not script.digest:
            script.digest = (await self.call("SCRIPT", "LOAD", script.text)).decode()

    async def close(self) -> None:
        """Close all connections, and wait until they are closed: the event loop must not end
        before."""
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
        connection = _Connection(self._timeout_s, self._connections)
        try:
            await self._open(connection)
        except BaseException:
            # uvloop does not report the end of a connection that was cancelled while it opened,
            # and `close` would wait for it forever.
            self._connections.discard(connection)
            raise
        try:
            await self._authenticate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    async def _open(self, connection: _Connection) -> None:
        loop, parts = asyncio.get_running_loop(), self._parts
        if "path" in parts:
            await loop.create_unix_connection(lambda: connection, parts["path"])
        else:
            host, port = parts.get("host", "localhost"), parts.get("port", 6379)
            await loop.create_connection(
                lambda: connection, host, port, ssl=_tls(parts) if _wants_tls(parts) else None
            )

    async def _authenticate(self, connection: _Connection) -> None:
        if password := self._parts.get("password"):
            await connection.send("AUTH", self._parts.get("username") or "default", password)
        if database := self._parts.get("db"):
            await connection.send("SELECT", database)


def _wants_tls(parts: dict[str, Any]) -> bool:
    return "SSL" in getattr(parts.get("connection_class"), "__name__", "")


def _tls(parts: dict[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=parts.get("ssl_ca_certs"))
    if parts.get("ssl_cert_reqs") == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
