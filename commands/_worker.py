"""One worker process of `serve`: whether it is ready, alive, or has ended."""

import signal
import socket
import time
from contextlib import suppress
from multiprocessing.process import BaseProcess

from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Process

from commands._server import STOP_TIMEOUT_S, Server, ServerConfig

_READY_TIMEOUT_S = 300.0
_HANGS_AFTER_S = 30.0
_STEADY_AFTER_S = 5.0
"""Seconds after which a ready worker counts as steady; one that dies earlier is replaced later."""
TICK_S = 0.1


class Worker(Process):
    """A worker process. `failures`: how many workers before it failed in a row."""

    _server: Server | None

    def __init__(self, config: ServerConfig, sockets: list[socket.socket], failures: int) -> None:
        super().__init__(config, sockets)
        self.failures = failures
        self.replaced_at: float | None = None
        self._is_ready = False
        self._is_pinged = False
        self._ends_at = 0.0
        self._seconds = 0.0  # without a reply to a ping, or until it was ready
        self._steady_s = 0.0

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        """Run in the new process."""
        # Created here, so that the thread that replies to pings sees the same server.
        assert self.server
        super().target(sockets)

    @property
    def server(self) -> Server:
        if self._server is None:
            self._server = Server(self.config)
        return self._server

    def pong(self) -> None:
        """Reply to one ping, from a thread; a started server only after its event loop has run."""
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
        """Why to replace the worker, `seconds` after the last call; None if there is no reason."""
        if not self.process.is_alive():
            return _exit_reason(self.process)
        self._seconds += seconds
        with suppress(OSError, EOFError):  # the process has just died
            self._exchange_ping()
        if self._is_ready:
            self._steady_s += seconds
            return f"no sign of life for {_HANGS_AFTER_S:.0f} s" if self._is_hanging else None
        return f"not ready within {_READY_TIMEOUT_S:.0f} s" if self._is_late else None

    def end(self) -> None:
        self.kill()
        self.join()

    def terminate(self) -> None:
        """Ask it to stop; requests in flight have some seconds to finish."""
        super().terminate()
        self._ends_at = time.monotonic() + STOP_TIMEOUT_S + 2

    def close(self) -> None:
        """Close the pipes of a worker that was not started."""
        self.parent_conn.close()
        self.child_conn.close()

    def has_ended(self) -> bool:
        """Whether it has ended after `terminate`; it is killed once its time is over."""
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
        """Receive a reply if there is one, and send the next ping. Raises: OSError, EOFError."""
        # Never blocks: other workers must be checked as well.
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
    return "could not start" if code == STARTUP_FAILURE else f"ended with exit code {code}"
