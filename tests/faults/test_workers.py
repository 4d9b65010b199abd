"""Workers that are starved, stopped, or cannot start."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.faults.conftest import Check, DedicatedServers
from tests.faults.service_process import COUNTS, ROOT, Service, service
from tests.wait_until import wait_until

BUSY = 8

# What a worker imports first: it ends there for as long as the file is there.
ENDS = """
import os, sys
if "spawn_main" in " ".join(sys.orig_argv) and os.path.exists({flag!r}):
    os._exit(7)
"""

# SIGUSR1 stops the event loop of a worker, and none of its other threads.
BLOCKS = """
import signal, sys, time
if "spawn_main" in " ".join(sys.orig_argv):
    signal.signal(signal.SIGUSR1, lambda *_: time.sleep(600))
"""


@contextmanager
def busy(cpu: int, count: int) -> Iterator[None]:
    """So many processes that want this processor for themselves."""
    command = ["taskset", "-c", str(cpu), sys.executable, "-c", "while True: pass"]
    with ExitStack() as stack:
        for _ in range(count):
            process = stack.enter_context(subprocess.Popen(command))
            stack.callback(process.kill)
        yield


def ended(running: Service) -> list[dict[str, object]]:
    """What the supervisor says of workers that ended."""
    lines = running.log_lines()
    return [line for line in lines if line["logger"] == "analytics.workers"]


@pytest.mark.check(57)
def test_one_busy_core(own: DedicatedServers, fault_url: str, check: Check) -> None:
    """Workers start and answer on one core that 8 others keep busy"""
    with service(fault_url, own.endpoints.redis_url) as running:
        for pid in [running.process.pid, *running.worker_pids()]:
            os.sched_setaffinity(pid, {0})
        with busy(0, BUSY):
            victim, other = running.worker_pids()
            began = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: bool(set(running.worker_pids()) - {victim, other}), timeout_s=60)
            (new,) = set(running.worker_pids()) - {victim, other}
            wait_until(lambda: listens(new), timeout_s=240)
            took = time.monotonic() - began
            answered = running.get(COUNTS).status_code
        lines = ended(running)
    check.record(f"ready after {took:.0f} s, {len(lines)} ended: {lines[0].get('reason')}")
    assert answered == 200
    assert [line["reason"] for line in lines] == ["ended by SIGKILL"]


def listens(pid: int) -> bool:
    """Whether this worker accepts connections: then it has connections to the database as well."""
    files = Path(f"/proc/{pid}/fd")
    with_sockets = [file for file in files.iterdir() if "socket:" in _target(file)]
    return len(with_sockets) >= 5


def _target(file: Path) -> str:
    try:
        return os.readlink(file)
    except OSError:
        return ""


@pytest.mark.check(58)
def test_a_worker_that_hangs(running: Service, check: Check) -> None:
    """A worker that is stopped (SIGSTOP) is replaced, not within seconds and not never"""
    wait_until(lambda: all(map(listens, running.worker_pids())), timeout_s=60)
    time.sleep(2)  # the supervisor knows it by now
    stopped, other = running.worker_pids()
    os.kill(stopped, signal.SIGSTOP)
    began = time.monotonic()
    time.sleep(15)
    assert set(running.worker_pids()) == {stopped, other}
    wait_until(lambda: stopped not in running.worker_pids(), timeout_s=60)
    took = time.monotonic() - began
    wait_until(lambda: len(running.worker_pids()) == 2, timeout_s=10)
    (line,) = ended(running)
    check.record(f"replaced after {took:.0f} s: {line['reason']}")
    assert 25 <= took <= 60
    assert line["reason"] == "no sign of life for 30 s"
    assert other in running.worker_pids()


@pytest.fixture
def blockable(own: DedicatedServers, fault_url: str, tmp_path: Path) -> Iterator[Service]:
    """A service whose workers' event loops can be blocked."""
    (tmp_path / "sitecustomize.py").write_text(BLOCKS)
    with service(fault_url, own.endpoints.redis_url, PYTHONPATH=str(tmp_path)) as running:
        wait_until(lambda: all(map(listens, running.worker_pids())), timeout_s=60)
        time.sleep(2)  # the supervisor knows them by now
        yield running


@pytest.mark.check(58)
def test_an_event_loop_that_hangs(blockable: Service, check: Check) -> None:
    """A worker that is stopped (SIGSTOP) is replaced, not within seconds and not never"""
    blocked, other = blockable.worker_pids()
    began = time.monotonic()
    os.kill(blocked, signal.SIGUSR1)
    wait_until(lambda: blocked not in blockable.worker_pids(), timeout_s=60)
    took = time.monotonic() - began
    wait_until(lambda: len(blockable.worker_pids()) == 2, timeout_s=10)
    (line,) = ended(blockable)
    check.record(f"event loop blocked: replaced after {took:.0f} s")
    assert 25 <= took <= 60
    assert line["reason"] == "no sign of life for 30 s"
    assert other in blockable.worker_pids()


@pytest.mark.check(58)
def test_a_restart_does_not_wait_for_what_hangs(blockable: Service, check: Check) -> None:
    """A worker that is stopped (SIGSTOP) is replaced, not within seconds and not never"""
    old = set(blockable.worker_pids())
    os.kill(min(old), signal.SIGUSR1)
    began = time.monotonic()
    os.kill(blockable.process.pid, signal.SIGHUP)
    wait_until(lambda: not old & set(blockable.worker_pids()), timeout_s=90)
    took = time.monotonic() - began
    assert blockable.get(COUNTS).status_code == 200
    blockable.process.terminate()
    assert blockable.process.wait(timeout=30) == 0
    check.record(f"SIGHUP with a blocked event loop: all replaced after {took:.0f} s")


@pytest.mark.check(58)
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTTIN])
def test_no_file_for_a_new_worker(running: Service, check: Check, number: signal.Signals) -> None:
    """A worker that is stopped (SIGSTOP) is replaced, not within seconds and not never"""
    pids = set(running.worker_pids())
    pid = running.process.pid
    _, most = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (8, most))
    os.kill(pid, number)
    wait_until(lambda: len(ended(running)) == 1, timeout_s=20)
    (line,) = ended(running)
    assert line["reason"] == "Too many open files"
    assert set(running.worker_pids()) == pids
    assert running.get(COUNTS).status_code == 200
    running.process.terminate()
    assert running.process.wait(timeout=30) == 0
    check.record(f"{number.name} without a file left: the old workers go on")


@contextmanager
def ending_at_will(folder: Path) -> Iterator[Path]:
    """Workers end at their start while a file is there."""
    flag = folder / "flag"
    (folder / "sitecustomize.py").write_text(ENDS.format(flag=str(flag)))
    yield flag


@pytest.mark.check(59)
def test_a_crash_loop(own: DedicatedServers, fault_url: str, check: Check, tmp_path: Path) -> None:
    """A worker that dies at its start again and again is started ever more rarely"""
    with (
        ending_at_will(tmp_path) as flag,
        service(fault_url, own.endpoints.redis_url, PYTHONPATH=str(tmp_path)) as running,
    ):
        time.sleep(6)
        flag.touch()
        victim, other = running.worker_pids()
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(ended(running)) == 5, timeout_s=60)
        answers = [running.get(COUNTS).status_code for _ in range(10)]
        pauses = [line["after_s"] for line in ended(running)]
        reasons = [line["reason"] for line in ended(running)]
        flag.unlink()
        wait_until(lambda: len(running.worker_pids()) == 2, timeout_s=30)
        assert other in running.worker_pids()
    check.record(f"after {pauses} s; the other one answered {answers.count(200)} of 10")
    assert pauses == [0.0, 1.0, 2.0, 4.0, 8.0]
    assert reasons == ["ended by SIGKILL", *["ended with exit code 7"] * 4]
    assert answers == [200] * 10


@pytest.mark.check(59)
def test_no_worker_starts(
    own: DedicatedServers, fault_url: str, check: Check, tmp_path: Path
) -> None:
    """A worker that dies at its start again and again is started ever more rarely"""
    with ending_at_will(tmp_path) as flag:
        flag.touch()
        settings = {
            "DATABASE_URL": fault_url,
            "REDIS_URL": own.endpoints.redis_url,
            "ANALYTICS_PORT": "0",
            "PYTHONPATH": str(tmp_path),
        }
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, str(ROOT / "main.py"), "serve"],
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        took = time.monotonic() - began
    last = done.stderr.strip().splitlines()[-1]
    check.record(f"no worker starts: exit {done.returncode} after {took:.0f} s")
    assert done.returncode == 1
    assert last == ("Error: no worker starts; see the log. The last one: ended with exit code 7")
    assert "Traceback" not in done.stderr


@pytest.mark.check(61)
def test_slot_directories_after_kill(
    own: DedicatedServers, fault_url: str, check: Check, tmp_path: Path
) -> None:
    """Slot directories after kill -9 of the service, and a directory of another program"""
    others = tmp_path / "gauge_livesum_0.db"
    others.write_bytes(b"of another program")
    with service(
        fault_url, own.endpoints.redis_url, PROMETHEUS_MULTIPROC_DIR=str(tmp_path)
    ) as killed:
        remaining = rollup_worker_of(killed)
        assert killed.metrics()["http_requests_in_flight"] == 1
        pids = [*killed.worker_pids(), *killed.rollup_worker_pids()]
        killed.process.kill()
        wait_until(lambda: not any(map(runs, pids)), timeout_s=20)
    assert remaining.is_dir()
    with service(fault_url, own.endpoints.redis_url) as running:
        mine = rollup_worker_of(running)
        assert not remaining.exists()
        assert mine.is_dir()
    check.record(f"{remaining.parent}: removed by the next; that of another program is as it was")
    assert not mine.exists()
    assert [file.name for file in tmp_path.iterdir()] == [others.name]
    assert others.read_bytes() == b"of another program"


def rollup_worker_of(running: Service) -> Path:
    """Where its workers count."""
    files = Path(f"/proc/{running.worker_pids()[0]}/fd").iterdir()
    return next(
        Path(_target(file)).parent for file in files if "analytics-workers" in _target(file)
    )


def runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
