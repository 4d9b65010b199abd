"""One process that answers: whether it is ready, lives, and has ended."""

import signal
import socket
import time
from contextlib import suppress
from multiprocessing.process import BaseProcess

from uvicorn.config import STARTUP_FAILURE
from uvicorn.server import Server
from uvicorn.supervisors.multiprocess import Process

from commands._server import STOP_TIMEOUT_S, ServerConfig

_READY_TIMEOUT_S = 300.0
_HANGS_AFTER_S = 30.0
_STEADY_AFTER_S = 5.0
"""Since it was ready; one that dies before is not replaced at once."""
TICK_S = 0.1


class TickingServer(Server):
    """The server of a worker, whose event loop tells that it turns."""

    ticked_at = 0.0

    async def on_tick(self, counter: int) -> bool:
        self.ticked_at = time.monotonic()
        return await super().on_tick(counter)


class Worker(Process):
    """One of them. `failures`: of those before it in a row, in its place."""

    _server: TickingServer | None

    def __init__(self, config: ServerConfig, sockets: list[socket.socket], failures: int) -> None:
        super().__init__(config, sockets)
        self.failures = failures
        self.replaced_at: float | None = None
        self._is_ready = False
        self._is_pinged = False
        self._ends_at = 0.0
        self._seconds = 0.0  # without an answer, or on the way to be ready
        self._steady_s = 0.0

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        """What the new process does. The thread that answers for it must see its only server."""
        assert self.server
        super().target(sockets)

    @property
    def server(self) -> TickingServer:
        if self._server is None:
            self._server = TickingServer(self.config)
        return self._server

    def pong(self) -> None:
        """A thread answers; once requests are, only if the event loop has turned since it was
        asked."""
        self.child_conn.recv()
        pinged_at = time.monotonic()
        while self.server.started and self.server.ticked_at < pinged_at:
            time.sleep(TICK_S)
        self.child_conn.send(self.server.started)

    @property
    def has_served(self) -> bool:
        return self._is_ready

    @property
    def is_steady(self) -> bool:
        return self._steady_s > _STEADY_AFTER_S

    def failure(self, seconds: float) -> str | None:
        """Why it has to be replaced, after so many seconds more; None if it need not."""
        if not self.process.is_alive():
            return _exit_reason(self.process)
        self._seconds += seconds
        with suppress(OSError, EOFError):  # it has just died
            self._exchange_ping()
        if self._is_ready:
            self._steady_s += seconds
            return f"no sign of life for {_HANGS_AFTER_S:.0f} s" if self._is_hanging else None
        return f"not ready within {_READY_TIMEOUT_S:.0f} s" if self._is_late else None

    def end(self) -> None:
        self.kill()
        self.join()

    def terminate(self) -> None:
        """It has some seconds to answer what it began."""
        super().terminate()
        self._ends_at = time.monotonic() + STOP_TIMEOUT_S + 2

    def close(self) -> None:
        """Give back the files of one that does not run."""
        self.parent_conn.close()
        self.child_conn.close()

    def has_ended(self) -> bool:
        """Whether it has, after `terminate`; it is killed where it did not in time."""
        if self.process.is_alive() and time.monotonic() > self._ends_at:
            self.end()
        return not self.process.is_alive()

    @property
    def _is_hanging(self) -> bool:
        return self._seconds > _HANGS_AFTER_S

    @property
    def _is_late(self) -> bool:
        return self._seconds > _READY_TIMEOUT_S

    def _exchange_ping(self) -> None:
        """Without waiting: others may need to be replaced. Raises: OSError, EOFError."""
        if self._is_pinged and self.parent_conn.poll():
            is_ready: bool = self.parent_conn.recv()
            self._is_pinged = False
            if is_ready or self._is_ready:
                self._is_ready = True
                self._seconds = 0.0
        if not self._is_pinged:
            self.parent_conn.send(b"ping")
            self._is_pinged = True


def _exit_reason(process: BaseProcess) -> str:
    code = process.exitcode or 0
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return "it could not start" if code == STARTUP_FAILURE else f"ended with exit code {code}"
