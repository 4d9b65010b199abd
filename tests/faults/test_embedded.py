"""Embedded servers whose supervisor, users or processes are killed."""

import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.embedded import embedded_servers
from tests.embedded_servers import (
    Join,
    answers,
    joining,
    pid_of,
    postmaster,
    processes,
    query,
    server_dir,
)
from tests.faults.conftest import Check
from tests.wait_until import wait_until


@pytest.fixture
def folder() -> Iterator[Path]:
    with server_dir() as made:
        yield made


@pytest.fixture
def join(folder: Path) -> Iterator[Join]:
    with joining(folder) as start:
        yield start


def test_servers_stop_when_their_last_client_is_killed(folder: Path, join: Join) -> None:
    user = join()
    assert processes(folder)
    user.send_signal(signal.SIGKILL)
    wait_until(lambda: not processes(folder), timeout_s=10)


def test_servers_stop_with_their_supervisor_and_are_restarted(folder: Path, join: Join) -> None:
    join()
    with embedded_servers(folder) as endpoints:
        query(endpoints, "create table kept as select 42 as x")
        before = postmaster(folder)
        os.kill(pid_of(folder, "embedded.supervisor"), signal.SIGKILL)
        wait_until(lambda: before not in processes(folder), timeout_s=10)
        wait_until(lambda: answers(endpoints), timeout_s=20)
        assert query(endpoints, "select x from kept") == (42,)


@contextmanager
def no_file_left() -> Iterator[None]:
    """Nothing can be opened by this process."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.check(60)
def test_a_client_watches_its_supervisor_after_running_out_of_file_descriptors(
    folder: Path, check: Check
) -> None:
    """A supervisor that dies after its user had no file left for 3 s"""
    with embedded_servers(folder) as endpoints:
        query(endpoints, "create table kept as select 42 as x")
        with no_file_left():
            time.sleep(3)
        before = postmaster(folder)
        os.kill(pid_of(folder, "embedded.supervisor"), signal.SIGKILL)
        began = time.monotonic()
        wait_until(lambda: before not in processes(folder), timeout_s=10)
        wait_until(lambda: answers(endpoints), timeout_s=30)
        check.record(f"replaced after {time.monotonic() - began:.1f} s")
        assert query(endpoints, "select x from kept") == (42,)


@pytest.mark.check(60)
def test_a_supervisor_survives_running_out_of_file_descriptors(folder: Path, check: Check) -> None:
    """A supervisor that dies after its user had no file left for 3 s"""
    with embedded_servers(folder) as endpoints:
        query(endpoints, "create table kept as select 42 as x")
        supervisor = pid_of(folder, "embedded.supervisor")
        before = resource.prlimit(supervisor, resource.RLIMIT_NOFILE)
        resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (0, before[1]))
        os.kill(postmaster(folder), signal.SIGKILL)
        wait_until(lambda: not answers(endpoints), timeout_s=10)
        time.sleep(3)
        assert pid_of(folder, "embedded.supervisor") == supervisor
        resource.prlimit(supervisor, resource.RLIMIT_NOFILE, before)
        began = time.monotonic()
        wait_until(lambda: answers(endpoints), timeout_s=60)
        check.record(f"a server after {time.monotonic() - began:.1f} s, by the same supervisor")
        assert pid_of(folder, "embedded.supervisor") == supervisor
        assert query(endpoints, "select x from kept") == (42,)


def test_a_stale_pid_file_is_ignored(folder: Path) -> None:
    with embedded_servers(folder):
        pass
    wait_until(lambda: not processes(folder), timeout_s=10)
    for pid_file in (f"{os.getpid()}\n/elsewhere\n", ""):
        (folder / "postgres" / "postmaster.pid").write_text(pid_file)
        with embedded_servers(folder) as endpoints:
            assert answers(endpoints)
        wait_until(lambda: not processes(folder), timeout_s=10)


def test_a_server_that_is_killed_comes_back_where_it_was(folder: Path) -> None:
    with embedded_servers(folder) as endpoints:
        query(endpoints, "create table kept as select 42 as x")
        os.kill(postmaster(folder), signal.SIGKILL)
        wait_until(lambda: not answers(endpoints), timeout_s=5)
        wait_until(lambda: answers(endpoints), timeout_s=20)
        assert query(endpoints, "select x from kept") == (42,)
        os.kill(pid_of(folder, "valkey-server"), signal.SIGKILL)
        wait_until(lambda: not answers(endpoints), timeout_s=5)
        wait_until(lambda: answers(endpoints), timeout_s=20)


def test_an_incomplete_initialization_is_repeated(folder: Path) -> None:
    (folder / "postgres.new").mkdir()
    (folder / "postgres.new" / "PG_VERSION").write_text("18")
    with embedded_servers(folder) as endpoints:
        assert answers(endpoints)
