"""Workers take connections in turn."""

import os
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.conftest import Check
from tests.faults.service import Service
from tests.waiting import wait_until

MANY = 16


def sockets(pid: int) -> int:
    """Open ones, of a process."""
    found = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found += os.readlink(descriptor).startswith("socket:")
    return found


@pytest.mark.check(50)
def test_connections_that_come_at_once(running: Service, check: Check) -> None:
    """16 connections that come at once are shared by both workers"""
    running.fresh(40, at_once=10, mark="warm")
    wait_until(lambda: len(running.backends()) >= 2, within_s=5)
    time.sleep(2)  # what was opened for these questions is closed
    before = {pid: sockets(pid) for pid in running.worker_pids()}
    opened = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(MANY)]
    wait_until(lambda: sum(map(sockets, before)) >= sum(before.values()) + MANY, within_s=5)
    taken = sorted(sockets(pid) - count for pid, count in before.items())
    check.measured(f"{taken[0]} and {taken[1]}")
    for each in opened:
        each.close()
    assert sum(taken) == MANY
    assert taken[0] >= MANY / 4
