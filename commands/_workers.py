"""The processes that answer: started, watched, replaced when they die or hang, and stopped."""

import logging
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.process import BaseProcess

from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from commands._server import STOP_WITHIN_S, ServerConfig

log = logging.getLogger("analytics.workers")

_READY_WITHIN_S = 300.0
_HANGS_AFTER_S = 30.0
_STEADY_AFTER_S = 5.0
"""Since it was ready; one that dies before is not replaced at once."""
_LONGEST_PAUSE_S = 60.0
_TRIES = 3
_ROUND_S = 1.0
"""At most so much of the time between two rounds counts: all may have been stopped meanwhile."""


class Worker(Process):
    """One of them. `failures`: of those before it in a row, in its place."""

    def __init__(self, config: ServerConfig, sockets: list[socket.socket], failures: int) -> None:
        super().__init__(config, sockets)
        self.failures = failures
        self.replaced_at: float | None = None
        self._is_ready = False
        self._is_asked = False
        self._seconds = 0.0  # without an answer, or on the way to be ready
        self._steady_s = 0.0

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        """What the new process does. The thread that answers for it must see its only server."""
        assert self.server
        super().target(sockets)

    @property
    def has_served(self) -> bool:
        return self._is_ready

    @property
    def is_steady(self) -> bool:
        return self._steady_s > _STEADY_AFTER_S

    def failure(self, seconds: float) -> str | None:
        """Why it has to be replaced, after so many seconds more; None if it need not."""
        if not self.process.is_alive():
            return _ending(self.process)
        self._seconds += seconds
        with suppress(OSError, EOFError):  # it has just died
            self._listen()
        if self._is_ready:
            self._steady_s += seconds
            return f"no sign of life for {_HANGS_AFTER_S:.0f} s" if self._hangs else None
        return f"not ready within {_READY_WITHIN_S:.0f} s" if self._is_late else None

    def end(self) -> None:
        self.kill()
        self.join()

    @property
    def _hangs(self) -> bool:
        return self._seconds > _HANGS_AFTER_S

    @property
    def _is_late(self) -> bool:
        return self._seconds > _READY_WITHIN_S

    def _listen(self) -> None:
        """Without waiting: others may need to be replaced. Raises: OSError, EOFError."""
        if self._is_asked and self.parent_conn.poll():
            is_ready: bool = self.parent_conn.recv()
            self._is_asked = False
            if is_ready or self._is_ready:
                self._is_ready = True
                self._seconds = 0.0
        if not self._is_asked:
            self.parent_conn.send(b"ping")
            self._is_asked = True


class Workers(Multiprocess):
    """As many as there shall be, until the end. `failure`: why it gave up, if it did.

    `when_ready` is called once, when all workers answer.
    """

    config: ServerConfig
    processes: list[Worker]  # type: ignore[assignment]

    def __init__(
        self, config: ServerConfig, sockets: list[socket.socket], when_ready: Callable[[], None]
    ) -> None:
        super().__init__(config, sockets)
        self._when_ready: Callable[[], None] | None = when_ready
        self.failure: str | None = None
        self._has_served = False
        self._looked_at = time.monotonic()

    def init_processes(self) -> None:
        for _ in range(self.processes_num):
            self.handle_ttin()

    def handle_ttin(self) -> None:
        """One more."""
        self.processes.append(self._started(0))

    def keep_subprocess_alive(self) -> None:
        now = time.monotonic()
        seconds, self._looked_at = min(now - self._looked_at, _ROUND_S), now
        for index, worker in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            if worker.replaced_at is None:
                self._look(worker, seconds)
            if worker.replaced_at is not None and now >= worker.replaced_at:
                self._replace(index, worker)
        if self._when_ready and all(worker.has_served for worker in self.processes):
            self._when_ready()
            self._when_ready = None

    def restart_all(self) -> None:
        """One after the other; the next is replaced once the new one is ready."""
        for index, old in enumerate(self.processes):
            new = self._started(0)
            if not self._becomes_ready(new):
                new.end()
                log.error("a new worker was not ready; the old ones go on")
                return
            old.terminate()
            old.join()
            self.processes[index] = new

    def join_all(self) -> None:
        """Whoever does not stop in time is ended."""
        deadline = time.monotonic() + STOP_WITHIN_S + 2
        for process in self.processes:
            process.process.join(max(0, deadline - time.monotonic()))
            if process.process.is_alive():
                process.process.kill()
                process.process.join()

    def _started(self, failures: int) -> Worker:
        """Raises: OSError."""
        worker = Worker(self.config, self.sockets, failures)
        worker.start()
        return worker

    def _look(self, worker: Worker, seconds: float) -> None:
        reason = worker.failure(seconds)
        self._has_served = self._has_served or worker.has_served
        if reason is None:
            return
        worker.end()
        worker.failures = 0 if worker.is_steady else worker.failures + 1
        if worker.failures >= _TRIES and not self._has_served:
            self._give_up(reason)
        else:
            self._put_off(worker, reason)

    def _put_off(self, worker: Worker, reason: str) -> None:
        """The more often it failed, the longer."""
        pause = min(2.0 ** (worker.failures - 1), _LONGEST_PAUSE_S) if worker.failures else 0.0
        worker.replaced_at = time.monotonic() + pause
        log.error(
            "a worker ended, and another one is started",
            extra={"worker": worker.pid, "reason": reason, "after_s": pause},
        )

    def _replace(self, index: int, worker: Worker) -> None:
        try:
            self.processes[index] = self._started(worker.failures)
        except OSError as exc:  # no memory, no file, no process left
            worker.failures += 1
            self._put_off(worker, exc.strerror or type(exc).__name__)

    def _give_up(self, reason: str) -> None:
        self.failure = reason
        self.should_exit.set()

    def _becomes_ready(self, worker: Worker) -> bool:
        """Within the time that it has, and unless the service is to stop."""
        while not {signal.SIGTERM, signal.SIGINT} & set(self.signal_queue):
            if worker.failure(0.1):
                return False
            if worker.has_served:
                return True
            time.sleep(0.1)
        return False


def _ending(process: BaseProcess) -> str:
    code = process.exitcode or 0
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return "it could not start" if code == STARTUP_FAILURE else f"ended with exit code {code}"
