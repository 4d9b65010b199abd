"""`python main.py load` of large compressed files: memory, interruption, and the repeated load."""

import gzip
import json
import os
import re
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
from psycopg2.extensions import connection

from tests.adoption import run_sql
from tests.cli import handle_signals
from tests.events import GIT_HISTORY
from tests.factories import event
from tests.wait_until import wait_until

ROOT = Path(__file__).parents[2]
MB = 2**20
MEMBER_ROWS = 500


@pytest.fixture
def environment(database_url: str, redis_url: str) -> dict[str, str]:
    return {**os.environ, "DATABASE_URL": database_url, "REDIS_URL": redis_url}


def command(file: Path, *options: str) -> list[str]:
    return [sys.executable, str(ROOT / "main.py"), "load", str(file), *options]


def write_members(file: Path, members: int) -> None:
    """A gzip file of members of 2 MB, which all hold the same rows."""
    text = "x" * 4_000
    lines = [json.dumps(event(n, properties={"text": text})) + "\n" for n in range(MEMBER_ROWS)]
    file.write_bytes(gzip.compress("".join(lines).encode()) * members)


def loaded(file: Path, environment: dict[str, str]) -> tuple[str, int]:
    """The report of a load, and the most memory that it took, in bytes."""
    with subprocess.Popen(command(file), env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout
        report = process.stdout.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return report, usage.ru_maxrss * 1024


def test_the_memory_of_a_load_does_not_grow_with_the_file(
    environment: dict[str, str], conn: connection, tmp_path: Path
) -> None:
    small, large = tmp_path / "small.ndjson.gz", tmp_path / "large.ndjson.gz"
    write_members(small, 10)
    write_members(large, 60)
    _, least = loaded(small, environment)
    report, most = loaded(large, environment)
    assert "read 30,000, inserted 0, already there 30,000, rejected 0" in report
    assert most < least + 32 * MB


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_load_is_reported_and_continued(
    environment: dict[str, str], conn: connection, tmp_path: Path, number: int
) -> None:
    file = tmp_path / "events.ndjson.gz"
    with gzip.open(GIT_HISTORY, "rb") as history:
        file.write_bytes(gzip.compress(b"".join(islice(history, 50_000))))
    with subprocess.Popen(
        command(file, "--batch", "1000"),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=handle_signals,
    ) as process:
        wait_until(lambda: count(conn) > 5_000, timeout_s=30)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=30)
    inserted = count(conn)
    assert process.returncode == 128 + number
    assert stdout.count("\n") == 1
    assert re.findall(r"inserted ([\d,]+), already there 0, rejected 0", stdout) == [
        f"{inserted:,}"
    ]
    assert stderr.splitlines()[-1] == (
        f"{file}: interrupted: run the same command again, which stores no event twice"
    )
    again = subprocess.run(command(file), env=environment, capture_output=True, text=True)
    rest = 50_000 - inserted
    assert 0 < rest < 45_000
    assert f"read 50,000, inserted {rest:,}, already there {inserted:,}, rejected 0" in again.stdout


def count(conn: connection) -> int:
    return int(run_sql(conn, "select count(*) from events")[0][0])
