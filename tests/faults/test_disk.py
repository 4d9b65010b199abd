"""Disks that are full: the next events are refused, what was acknowledged is there and answered."""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from common.errors import translate_database_error
from config.database import Database, get_connection
from config.database_errors import DiskFull
from services.embedded.binaries import chown_to_child
from tests.api.requests import ndjson
from tests.factories import event
from tests.faults.conftest import Check, DedicatedServers
from tests.faults.service_process import ROOT, Service
from tests.faults.test_ingest import NDJSON, post
from tests.problems import assert_problem
from tests.small_disk import MB, enlarge, fill, free, small_disk
from tests.wait_until import wait_until

SIZE_MB, MIN_FREE_MB = 640, 100
COUNTS = "/analytics/event-counts?start=2025-01-31&end=2025-02-01"
BATCH = 1_000
# So much of an event that a few requests fill a disk.
LONG = {"text": "x" * 1_000}


def batch() -> bytes:
    return ndjson(*(event(n, event_id=str(uuid4()), properties=LONG) for n in range(BATCH)))


def environment(folder: Path) -> dict[str, str]:
    """Embedded servers in this folder, whatever else is set."""
    remaining = {name: value for name, value in os.environ.items() if not name.endswith("_URL")}
    ours = {"DATA_DIR": str(folder), "MIN_FREE_MB": str(MIN_FREE_MB), "PORT": "0"}
    return remaining | {f"ANALYTICS_{name}": value for name, value in ours.items()}


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a service with embedded servers, once it is ready."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "main.py"), "serve"],
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        lines = (line for line in process.stdout if "/docs" in line)
        base = next(lines).split()[-1].removesuffix("/docs")
        wait_until(lambda: httpx.get(f"{base}/readyz", timeout=30).status_code == 200, timeout_s=60)
        yield base
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


def command(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Of `python main.py`, beside the service."""
    return subprocess.run(
        [sys.executable, str(ROOT / "main.py"), *arguments],
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=120,
    )


def send(base: str) -> httpx.Response:
    return httpx.post(f"{base}/events", content=batch(), headers=NDJSON, timeout=60)


def counted(base: str) -> tuple[int, int]:
    """The status, and how many events there are."""
    answer = httpx.get(base + COUNTS, headers={"Cache-Control": "no-cache"}, timeout=30)
    return answer.status_code, answer.json().get("data", {}).get("events")


def send_until_refused(base: str) -> tuple[int, httpx.Response]:
    """How many events were acknowledged, and the first refusal."""

    def keep_sending(_: int) -> tuple[int, httpx.Response]:
        accepted = 0
        while (answer := send(base)).status_code == 200:
            accepted += answer.json()["accepted"]
        return accepted, answer

    with ThreadPoolExecutor(3) as threads:
        done = list(threads.map(keep_sending, range(3)))
    return sum(accepted for accepted, _ in done), done[0][1]


def assert_refused(answer: httpx.Response) -> None:
    assert_problem(answer, 507, "insufficient-storage")
    assert answer.headers["retry-after"] == "30"
    # PostgreSQL may run out of room before the free space is looked at again.
    margin = (
        r"The disk of the data directory has \d+ MB left, .* \(ANALYTICS_MIN_FREE_MB\): free some "
    )
    full = r"PostgreSQL has no room left on its disk, "
    assert re.match(f"{margin}|{full}", answer.json()["detail"])


@pytest.fixture
def disk() -> Iterator[Path]:
    with small_disk(SIZE_MB) as folder:
        yield folder


@pytest.mark.check(51)
def test_events_stop_before_the_disk_is_full(disk: Path, check: Check, tmp_path: Path) -> None:
    """A full disk under the embedded servers: 507 for events, answers for questions"""
    ballast = disk / "ballast"
    ballast.write_bytes(b"\0" * (50 + MIN_FREE_MB) * MB)
    with serving(disk) as base:
        acknowledged, refusal = send_until_refused(base)
        assert_refused(refusal)
        assert acknowledged >= 10 * BATCH
        # What is written between two looks at the disk depends on how busy the machine is.
        assert free(disk) > MIN_FREE_MB * MB / 10
        assert counted(base) == (200, acknowledged)
        erased = httpx.delete(f"{base}/analytics/users/u1", timeout=60)
        assert erased.status_code == 200
        acknowledged -= erased.json()["events"]

        other = fill(disk)
        assert free(disk) < MB
        answered = answered_for(base, 20, acknowledged)
        assert_full(base, disk, tmp_path)
        assert "PANIC" not in (disk / "postgres.log").read_text()

        other.unlink()
        ballast.unlink()
        began = time.monotonic()
        wait_until(lambda: send(base).status_code == 200, timeout_s=30)
        healed_s = time.monotonic() - began
        assert counted(base) == (200, acknowledged + BATCH)
        wait_until(lambda: state(base) == "ok", timeout_s=30)
        assert httpx.delete(f"{base}/analytics/users/u2", timeout=60).status_code == 200
        verified = command(disk, "verify")
        assert verified.returncode == 0, verified.stdout
    check.record(
        f"{acknowledged} events, none lost; {answered} answers on a full disk; "
        f"healed in {healed_s:.1f} s"
    )


def answered_for(base: str, seconds: float, events: int) -> int:
    """How many questions were answered, each with so many events."""
    end, answered = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        assert counted(base) == (200, events)
        assert_refused(send(base))
        answered += 1
        time.sleep(0.2)
    return answered


def state(base: str) -> str:
    ready = httpx.get(f"{base}/readyz", timeout=30)
    assert ready.status_code == 200
    said: str = ready.json()["checks"]["storage"]
    return said


def assert_full(base: str, disk: Path, tmp_path: Path) -> None:
    """Whatever writes says so in one line, and the state of the service tells it."""
    assert state(base).startswith("full: The disk of the data directory has 0 MB left")
    page = httpx.get(f"{base}/metrics", timeout=30).text
    (headroom,) = re.findall(r'^analytics_storage_headroom_bytes\{limit="disk"\} (\S+)', page, re.M)
    assert -MIN_FREE_MB * MB <= float(headroom) < (1 - MIN_FREE_MB) * MB
    assert_problem(
        httpx.delete(f"{base}/analytics/users/u1", timeout=60), 507, "insufficient-storage"
    )
    file = tmp_path / "events.ndjson"
    file.write_bytes(batch())
    for arguments in (
        ("load", str(file)),
        ("demo", "--events", "10"),
        ("erase", "u1", "--yes"),
        ("retain", "--raw", "90d", "--yes"),
        ("rollup", "--rebuild"),
    ):
        done = command(disk, *arguments)
        assert done.returncode == 1, arguments
        last = done.stderr.splitlines()[-1]
        assert last.startswith("Error: The disk of the data directory has 0 MB left"), done.stderr


@pytest.mark.check(52)
def test_a_start_on_a_full_disk_says_so(disk: Path, check: Check) -> None:
    """A start on a full disk: one line that says it"""
    with serving(disk):
        pass
    fill(disk)
    done = command(disk, "serve")
    assert done.returncode == 1
    said = done.stderr.strip()
    assert said.startswith("Error: the embedded servers did not start: ")
    assert said.endswith(f"there is no room left on the disk of {disk}: free some space there")
    assert len(said.splitlines()) == 1
    check.record(said)


@pytest.fixture
def small_tables(own: DedicatedServers) -> Iterator[Path]:
    """A disk that has room for a few requests, as a tablespace of another's PostgreSQL."""
    with small_disk(24) as folder:
        chown_to_child(folder)
        own.cluster.execute(f"create tablespace small_disk location '{folder}'")
        yield folder
        own.cluster.execute("drop tablespace small_disk")


@pytest.mark.check(53)
def test_postgresql_says_that_its_disk_is_full(
    small_tables: Path, running: Service, fault_url: str, check: Check, tmp_path: Path
) -> None:
    """53100 from a PostgreSQL of others: 507, and nothing of the request is stored"""
    running.query("alter table events set tablespace small_disk")
    acknowledged = 0
    while (answer := sent(running)).status_code == 200:
        acknowledged += answer.json()["accepted"]
    assert acknowledged
    assert_problem(answer, 507, "insufficient-storage")
    assert "no event was stored" in answer.json()["detail"]
    assert running.query("select count(*) from events") == [(acknowledged,)]
    path = COUNTS + "&event=view"
    response = running.get(path, **{"Cache-Control": "no-cache"})
    assert response.json()["data"]["events"] == acknowledged
    storage = {running.get("/readyz").json()["checks"]["storage"] for _ in range(20)}
    assert any(message.startswith("full: PostgreSQL has no room left") for message in storage)
    file = tmp_path / "events.ndjson"
    file.write_bytes(batch())
    assert_load_says(fault_url, file)
    enlarge(small_tables, 64)
    assert sent(running).status_code == 200
    check.record(f"{acknowledged} events, none lost")


def sent(running: Service) -> httpx.Response:
    answer = post(running, batch())
    assert answer is not None
    return answer


def assert_load_says(url: str, file: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "load", str(file)],
        env={**os.environ, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert said.startswith("Error: PostgreSQL has no room left on its disk")


@pytest.mark.check(53)
def test_a_question_that_finds_no_room(small_tables: Path, fault_url: str) -> None:
    """53100 from a PostgreSQL of others: 507, and nothing of the request is stored"""
    with pytest.raises(DiskFull) as raised:
        asyncio.run(sort(fault_url))
    problem = translate_database_error(raised.value)
    assert (problem.status, problem.kind) == (507, "insufficient-storage")


async def sort(url: str) -> None:
    """What needs more temporary files than there is room for."""
    database = Database(url, size=1, waiters=1, acquire_timeout_s=5, name="full-disk")
    connection = get_connection(database, time.monotonic() + 60)

    def work() -> None:
        with connection.snapshot() as cur:
            cur.execute("set local temp_tablespaces = 'small_disk'; set local work_mem = '64kB'")
            cur.execute("select n from generate_series(1, 5000000) as n order by n desc")

    try:
        await connection.run(work)
    finally:
        database.close()
