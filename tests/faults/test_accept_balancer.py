"""Workers take connections in turn."""

import os
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.conftest import Check
from tests.faults.service_process import Service
from tests.wait_until import wait_until

CONNECTIONS = 16


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
    before = {pid: sockets(pid) for pid in running.worker_pids()}
    opened = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(CONNECTIONS)]
    wait_until(lambda: sum(map(sockets, before)) >= sum(before.values()) + CONNECTIONS, timeout_s=5)
    accepted = sorted(sockets(pid) - count for pid, count in before.items())
    check.record(f"{accepted[0]} and {accepted[1]}")
    for each in opened:
        each.close()
    assert sum(accepted) == CONNECTIONS
    assert accepted[0] >= CONNECTIONS / 4
