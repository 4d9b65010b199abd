"""The worker processes of `serve`: start, watch, replace those that die or hang, stop."""

import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from uvicorn.supervisors import Multiprocess

from commands._server import ServerConfig
from commands._worker import TICK_S, Worker

log = logging.getLogger("analytics.workers")

_MAX_PAUSE_S = 60.0
_TRIES = 3
_MAX_ROUND_S = 1.0
"""The most seconds that count between two checks: the whole machine may have been suspended."""


@dataclass
class Restart:
    """A rolling restart: the index of the next worker, and its replacement that is starting."""

    index: int = 0
    new: Worker | None = None


class Workers(Multiprocess):
    """Keeps the configured number of workers running. `failure`: why it gave up, else None.

    `when_ready` is called once, when all workers accept requests.
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
        self._restart: Restart | None = None
        self._stopping: list[Worker] = []
        self._checked_at = time.monotonic()

    def run(self) -> None:
        """Run until a signal stops it. Raises: OSError if the first workers cannot be started."""
        try:
            super().run()
        finally:
            for worker in self._all():  # else this process would wait for them at exit
                if worker.process.is_alive():
                    worker.end()

    def init_processes(self) -> None:
        for _ in range(self.processes_num):
            self.processes.append(self._start_worker(0))

    def handle_ttin(self) -> None:
        """SIGTTIN: add a worker."""
        try:
            self.processes.append(self._start_worker(0))
        except OSError as exc:
            log.error("no more workers can be started", extra={"reason": _reason(exc)})

    def handle_ttou(self) -> None:
        """SIGTTOU: stop a worker, but never the last one."""
        if len(self.processes) > 1:
            self._dismiss(self.processes.pop())

    def keep_subprocess_alive(self) -> None:
        now = time.monotonic()
        seconds, self._checked_at = min(now - self._checked_at, _MAX_ROUND_S), now
        for index, worker in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            if worker.replaced_at is None:
                self._check(worker, seconds)
            if worker.replaced_at is not None and now >= worker.replaced_at:
                self._replace(index, worker)
        self._stopping = [worker for worker in self._stopping if not worker.has_ended()]
        if self._restart and not self._stopping:
            self._continue(self._restart, seconds)
        if self._when_ready and all(worker.has_served for worker in self.processes):
            self._when_ready()
            self._when_ready = None

    def restart_all(self) -> None:
        """SIGHUP: restart one worker after the other, a step in each round of checks.

        A restart that is under way begins again.
        """
        if self._restart and self._restart.new:
            self._restart.new.end()
        self._restart = Restart()

    def terminate_all(self) -> None:
        for worker in self._all():
            worker.terminate()

    def join_all(self) -> None:
        """Wait for all workers; those that do not stop in time are killed."""
        while not all(worker.has_ended() for worker in self._all()):
            time.sleep(TICK_S)

    def _start_worker(self, failures: int) -> Worker:
        """Raises: OSError."""
        worker = Worker(self.config, self.sockets, failures)
        try:
            worker.start()
        except OSError:
            worker.close()
            raise
        return worker

    def _check(self, worker: Worker, seconds: float) -> None:
        reason = worker.failure(seconds)
        self._has_served = self._has_served or worker.has_served
        if reason is None:
            return
        worker.end()
        worker.failures = 0 if worker.is_steady else worker.failures + 1
        if worker.failures >= _TRIES and not self._has_served:
            self._give_up(reason)
        else:
            self._schedule_restart(worker, reason)

    def _schedule_restart(self, worker: Worker, reason: str) -> None:
        """Schedule the replacement, with a pause that doubles with each failure."""
        pause = min(2.0 ** (worker.failures - 1), _MAX_PAUSE_S) if worker.failures else 0.0
        worker.replaced_at = time.monotonic() + pause
        log.error(
            "a worker ended and is replaced",
            extra={"worker": worker.pid, "reason": reason, "after_s": pause},
        )

    def _replace(self, index: int, worker: Worker) -> None:
        try:
            self.processes[index] = self._start_worker(worker.failures)
        except OSError as exc:  # no memory, no file, no process left
            worker.failures += 1
            self._schedule_restart(worker, _reason(exc))

    def _give_up(self, reason: str) -> None:
        self.failure = reason
        self.should_exit.set()

    def _continue(self, restart: Restart, seconds: float) -> None:
        if restart.index >= len(self.processes):
            self._restart = None
        elif restart.new is None:
            try:
                restart.new = self._start_worker(0)
            except OSError as exc:
                self._abandon(_reason(exc))
        elif reason := restart.new.failure(seconds):
            restart.new.end()
            self._abandon(reason)
        elif restart.new.has_served:
            self._dismiss(self.processes[restart.index])
            self.processes[restart.index] = restart.new
            self._restart = Restart(restart.index + 1)

    def _abandon(self, reason: str) -> None:
        self._restart = None
        log.error(
            "a new worker did not become ready; the old workers keep running",
            extra={"reason": reason},
        )

    def _dismiss(self, worker: Worker) -> None:
        worker.terminate()
        self._stopping.append(worker)

    def _all(self) -> list[Worker]:
        new = self._restart.new if self._restart else None
        return [*self.processes, *self._stopping, *([new] if new else [])]


def _reason(exc: OSError) -> str:
    return exc.strerror or type(exc).__name__
