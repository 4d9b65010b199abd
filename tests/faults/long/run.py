"""The long run: measures the capacity, then causes faults at 70 % of it."""

import asyncio
import gc
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2

from tests.faults.conftest import DedicatedServers
from tests.faults.http_load import Client
from tests.faults.long.faults import Fault, FaultPlan, Target
from tests.faults.long.model import Model
from tests.faults.long.queries import Outcome, Question, ask, questions
from tests.faults.long.writes import batch, send, send_victims
from tests.faults.service_process import Service

ASKERS = 12
SENDERS = 2
PART_OF_CAPACITY = 0.7
_BATCHES_PER_QUESTION = 1 / 80  # batches of 200 events per sender, beside the queries


@dataclass
class Sample:
    """The memory of the service in MB, and its PostgreSQL sessions, at one time."""

    at: float
    largest_mb: float
    sessions: int


@dataclass
class Run:
    """The results of a run."""

    seconds: float
    model: Model
    capacity: float
    """Requests per second of the same mix without pauses."""
    outcomes: list[Outcome] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)


class Load:
    """Clients that query and send events at a given rate, over persistent connections."""

    def __init__(self, running: Service, model: Model, fixed_answers: dict[str, Any]) -> None:
        today = datetime.now(UTC).date()
        self._span = f"start={today}&end={today + timedelta(days=2)}"
        self._running = running
        self._model = model
        self._fixed_answers = fixed_answers

    def go(self, seconds: float, per_second: float | None) -> list[Outcome]:
        """Query and send for so many seconds, at full speed unless a rate is given."""
        gc.disable()  # collecting all kept responses would look like a slow service
        try:
            return asyncio.run(self._go(time.monotonic() + seconds, per_second))
        finally:
            gc.enable()

    async def _go(self, end: float, per_second: float | None) -> list[Outcome]:
        outcomes: list[Outcome] = []
        upcoming = questions(self._model, self._fixed_answers, self._span)
        pace = Pace(per_second)
        askers = (self._ask(upcoming, pace, end, outcomes, n) for n in range(ASKERS))
        senders = (
            self._send(pace.slower(_BATCHES_PER_QUESTION), end, outcomes) for _ in range(SENDERS)
        )
        await asyncio.gather(*askers, *senders)
        return outcomes

    async def _ask(
        self,
        upcoming: Iterator[Question],
        pace: "Pace",
        end: float,
        outcomes: list[Outcome],
        n: int,
    ) -> None:
        client = self._client()
        while time.monotonic() < end:
            await pace.turn()
            outcomes.append(await ask(client, next(upcoming), fresh=n % 2 == 0))
        client.close()

    async def _send(self, pace: "Pace", end: float, outcomes: list[Outcome]) -> None:
        client = self._client()
        while time.monotonic() < end:
            await pace.turn()
            outcomes += await send(client, self._model, batch())
        client.close()

    def _client(self) -> Client:
        return Client(self._running.port, self._running.headers)

    async def victims(self, number: int) -> None:
        client = self._client()
        await send_victims(client, self._model, number)
        client.close()


class Pace:
    """Limits the rate of turns; missed turns are not made up for."""

    def __init__(self, per_second: float | None) -> None:
        self._gap = 1 / per_second if per_second else 0.0
        self._next = time.monotonic()

    def slower(self, part: float) -> "Pace":
        return Pace(part / self._gap) if self._gap else Pace(10)

    async def turn(self) -> None:
        self._next = max(self._next + self._gap, time.monotonic() - 1)
        await asyncio.sleep(max(self._next - time.monotonic(), 0))


def long_run(target: Target, fixed_answers: dict[str, Any], seconds: float) -> Run:
    model = Model()
    load = Load(target.running, model, fixed_answers)
    asyncio.run(load.victims(2))
    load.go(min(seconds / 10, 10), None)  # warm-up
    measured = min(seconds / 10, 20)
    capacity = len(load.go(measured, None)) / measured
    run = Run(seconds, model, capacity)
    with ThreadPoolExecutor(2) as threads:
        injecting = threads.submit(_inject, FaultPlan(target, model), run)
        watching = threads.submit(_watch, target, run)
        run.outcomes = load.go(seconds, capacity * PART_OF_CAPACITY)
        injecting.result()
        watching.result()
    return run


def _inject(plan: FaultPlan, run: Run) -> None:
    start = time.monotonic()
    for part, name, do in plan.steps():
        time.sleep(max(start + part * run.seconds - time.monotonic(), 0))
        began = time.time()
        do()
        run.faults.append(Fault(name, began, time.time(), "worker" in name))


def _watch(target: Target, run: Run) -> None:
    end = time.monotonic() + run.seconds
    while time.monotonic() < end:
        time.sleep(2)
        pids = [*target.running.worker_pids(), *target.running.rollup_worker_pids()]
        largest = max((_resident_mb(pid) for pid in pids), default=0.0)
        run.samples.append(Sample(time.time(), largest, _sessions(target.own)))


def _resident_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)


def _sessions(own: DedicatedServers) -> int:
    """The sessions of all processes of the service; 0 while PostgreSQL is unreachable."""
    try:
        conn = psycopg2.connect(own.endpoints.database_url)
    except psycopg2.OperationalError:
        return 0
    with closing(conn), conn.cursor() as cur:
        cur.execute("select count(*) from pg_stat_activity where application_name ~ '^analytics'")
        (sessions,) = cur.fetchone() or (0,)
        return int(sessions)
