"""Workers accept connections in turn from one socket."""

import os
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.faults.conftest import Check
from tests.faults.http_load import BROKEN
from tests.faults.service_process import COUNTS, Service
from tests.wait_until import wait_until

CONNECTIONS = 16
BURSTS = 7


def sockets(pid: int) -> int:
    """Open ones, of a process."""
    number = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            number += os.readlink(descriptor).startswith("socket:")
    return number


@pytest.mark.check(50)
def test_connections_that_come_at_once(running: Service, check: Check) -> None:
    """16 connections that come at once are shared by both workers"""
    running.ask_fresh(40, at_once=10, mark="warm")
    wait_until(lambda: len(running.backends()) >= 2, timeout_s=5)
    time.sleep(2)  # what was opened for these questions is closed
    shares = sorted(smaller_share(running) for _ in range(BURSTS))
    check.record(f"the smaller share of {CONNECTIONS}, in {BURSTS} bursts: {shares}")
    assert shares[BURSTS // 2] >= CONNECTIONS / 4


def smaller_share(running: Service) -> int:
    """Open connections that come at once; returns how many the worker with fewer accepted."""
    before = {pid: sockets(pid) for pid in running.worker_pids()}
    total = sum(before.values())
    opened = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(CONNECTIONS)]
    wait_until(lambda: sum(map(sockets, before)) >= total + CONNECTIONS, timeout_s=5)
    accepted = [sockets(pid) - count for pid, count in before.items()]
    for each in opened:
        each.close()
    wait_until(lambda: sum(map(sockets, before)) <= total, timeout_s=5)
    assert sum(accepted) == CONNECTIONS
    return min(accepted)


@pytest.mark.check(50)
def test_a_stopped_worker_delays_no_new_connection(running: Service, check: Check) -> None:
    """Connections wait in the one queue that all workers accept from"""
    running.ask_repeatedly(50, at_once=4)
    stopped, _ = running.worker_pids()
    os.kill(stopped, signal.SIGSTOP)
    try:
        began = time.monotonic()
        replies = [running.get(COUNTS) for _ in range(40)]
        longest = max(reply.elapsed.total_seconds() for reply in replies)
        assert time.monotonic() - began < 20, "the stopped worker would have been replaced"
    finally:
        os.kill(stopped, signal.SIGCONT)
    check.record(f"40 of 40 answered by the other, the slowest after {longest * 1000:.0f} ms")
    assert [reply.status_code for reply in replies] == [200] * 40


@pytest.mark.check(50)
def test_a_restart_loses_no_connection(running: Service, check: Check) -> None:
    """Old workers leave waiting connections to the new ones"""
    old = set(running.worker_pids())
    statuses: list[int] = []
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            try:
                statuses.append(running.get(COUNTS).status_code)
            except httpx.TransportError:
                statuses.append(BROKEN)

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    os.kill(running.process.pid, signal.SIGHUP)
    wait_until(lambda: not old & set(running.worker_pids()), timeout_s=90)
    is_over.set()
    for client in clients:
        client.join()
    lost = len(statuses) - statuses.count(200)
    check.record(f"{lost} of {len(statuses)} new connections lost while both workers are replaced")
    assert lost == 0
