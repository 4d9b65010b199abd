"""The faults of the long run, each at a fixed part of its duration."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg2

from tests.faults.conftest import DedicatedServers
from tests.faults.http_load import Client
from tests.faults.long.model import Model, Victim
from tests.faults.service_process import ROOT, Service
from tests.wait_until import wait_until


@dataclass(frozen=True)
class Fault:
    """A fault, from its start until the killed process or server is back."""

    name: str
    began: float
    ended: float
    ends_connections: bool = False
    """Whether a worker process was killed, so that responses in progress are lost."""


@dataclass(frozen=True)
class Target:
    """The service and its servers, and the headers of a key that may erase."""

    own: DedicatedServers
    running: Service
    url: str
    admin: dict[str, str]


@dataclass(frozen=True)
class FaultPlan:
    """All faults of a run."""

    target: Target
    model: Model

    def steps(self) -> list[tuple[float, str, Callable[[], None]]]:
        """The faults in order: (part of the duration, name, function)."""
        return [
            (0.08, "Redis killed", lambda: self._end_redis(signal.SIGKILL)),
            (0.16, "PostgreSQL killed", lambda: self._end_postgresql(signal.SIGKILL)),
            (0.24, "rollup worker killed", lambda: _kill(self.target.running.rollup_worker_pids)),
            (0.32, "worker killed", lambda: _kill(self.target.running.worker_pids)),
            (0.40, "user erased by command", lambda: self._erase_by_command(self.model.victims[0])),
            (0.46, "PostgreSQL restarted", lambda: self._end_postgresql(signal.SIGINT)),
            (0.54, "Redis restarted", lambda: self._end_redis(signal.SIGTERM)),
            (0.62, "old events dropped", self._retain),
            (0.72, "worker and rollup worker killed", self._kill_worker_and_rollup_writer),
            (0.80, "user erased over HTTP", lambda: self._erase_over_http(self.model.victims[1])),
            (0.88, "PostgreSQL killed again", lambda: self._end_postgresql(signal.SIGKILL)),
        ]

    def _end_postgresql(self, how: signal.Signals) -> None:
        old = self.target.own.postmaster()
        os.kill(old, how)
        wait_until(lambda: not _accepts(self.target.url) or self._is_new(old), timeout_s=20)
        wait_until(lambda: _accepts(self.target.url), timeout_s=60)

    def _is_new(self, old: int) -> bool:
        try:
            return self.target.own.postmaster() != old
        except (OSError, ValueError, IndexError):
            return False

    def _end_redis(self, how: signal.Signals) -> None:
        old = self.target.own.valkey()
        os.kill(old, how)
        wait_until(lambda: _pid_or_none(self.target.own.valkey) not in (None, old), timeout_s=20)

    def _kill_worker_and_rollup_writer(self) -> None:
        _kill(self.target.running.rollup_worker_pids)
        _kill(self.target.running.worker_pids)

    def _erase_by_command(self, victim: Victim) -> None:
        victim.began = time.time()
        self._command("erase", victim.user, "--yes")
        victim.ended = time.time()

    def _erase_over_http(self, victim: Victim) -> None:
        victim.began = time.time()
        path = f"/analytics/users/{victim.user}"

        async def erase() -> int:
            client = Client(self.target.running.port, self.target.admin)
            reply = await client.ask("DELETE", path, b"", {})
            client.close()
            return reply.status

        wait_until(lambda: asyncio.run(erase()) == 200, timeout_s=30)
        victim.ended = time.time()

    def _retain(self) -> None:
        self._command("retain", "--raw", "6months", "--yes")

    def _command(self, *words: str) -> None:
        urls = {"DATABASE_URL": self.target.url, "REDIS_URL": self.target.own.endpoints.redis_url}
        command = [sys.executable, str(ROOT / "main.py"), *words]
        subprocess.run(command, env={**os.environ, **urls}, check=True, capture_output=True)


def _kill(pids: Callable[[], list[int]]) -> None:
    """Kill the first process, and wait for its replacement."""
    before = pids()
    os.kill(before[0], signal.SIGKILL)
    wait_until(
        lambda: before[0] not in pids() and len(pids()) == len(before),
        timeout_s=10,
    )


def _pid_or_none(lookup: Callable[[], int]) -> int | None:
    try:
        return lookup()
    except AssertionError:
        return None


def _accepts(url: str) -> bool:
    try:
        psycopg2.connect(url).close()
    except psycopg2.OperationalError:
        return False
    return True
