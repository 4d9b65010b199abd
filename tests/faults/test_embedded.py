"""Embedded servers whose keeper, users or processes are killed."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.embedded import embedded_servers
from tests.embedded import (
    Join,
    answers,
    joining,
    made_folder,
    postmaster,
    processes,
    query,
    the_one,
)
from tests.waiting import wait_until


@pytest.fixture
def folder() -> Iterator[Path]:
    with made_folder() as made:
        yield made


@pytest.fixture
def join(folder: Path) -> Iterator[Join]:
    with joining(folder) as start:
        yield start


def test_they_die_with_a_user_that_is_killed(folder: Path, join: Join) -> None:
    user = join()
    assert processes(folder)
    user.send_signal(signal.SIGKILL)
    wait_until(lambda: not processes(folder), within_s=10)


def test_they_die_with_their_keeper_and_come_back(folder: Path, join: Join) -> None:
    join()
    with embedded_servers(folder) as endpoints:
        query(endpoints, "create table kept as select 42 as x")
        before = postmaster(folder)
        os.kill(the_one(folder, "embedded.keeper"), signal.SIGKILL)
        wait_until(lambda: before not in processes(folder), within_s=10)
        wait_until(lambda: answers(endpoints), within_s=20)
        assert query(endpoints, "select x from kept") == (42,)


def test_the_number_of_a_dead_server_may_be_anothers(folder: Path) -> None:
    with embedded_servers(folder):
        pass
    wait_until(lambda: not processes(folder), within_s=10)
    for left in (f"{os.getpid()}\n/elsewhere\n", ""):
        (folder / "postgres" / "postmaster.pid").write_text(left)
        with embedded_servers(folder) as endpoints:
            assert answers(endpoints)
        wait_until(lambda: not processes(folder), within_s=10)


def test_a_server_that_is_killed_comes_back_where_it_was(folder: Path) -> None:
    with embedded_servers(folder) as endpoints:
        query(endpoints, "create table kept as select 42 as x")
        os.kill(postmaster(folder), signal.SIGKILL)
        wait_until(lambda: not answers(endpoints), within_s=5)
        wait_until(lambda: answers(endpoints), within_s=20)
        assert query(endpoints, "select x from kept") == (42,)
        os.kill(the_one(folder, "valkey-server"), signal.SIGKILL)
        wait_until(lambda: not answers(endpoints), within_s=5)
        wait_until(lambda: answers(endpoints), within_s=20)


def test_what_a_crash_left_half_made_is_made_anew(folder: Path) -> None:
    (folder / "postgres.new").mkdir()
    (folder / "postgres.new" / "PG_VERSION").write_text("18")
    with embedded_servers(folder) as endpoints:
        assert answers(endpoints)
