"""`python main.py serve` as a process: where it tells to look, and how it stops."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from psycopg2.extensions import connection

from tests.column_writer import write_columns
from tests.events import fold, insert
from tests.live_server import METRICS_TOKEN
from tests.servers import KEY
from tests.wait_until import adjusted_for_load, wait_until

ROOT = Path(__file__).parents[2]

Serve = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def serve(database_url: str, redis_url: str) -> Iterator[Serve]:
    started: list[subprocess.Popen[str]] = []

    def start(**settings: str) -> subprocess.Popen[str]:
        urls = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "ANALYTICS_PORT": "0"}
        urls["ANALYTICS_METRICS_TOKEN"] = METRICS_TOKEN
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "main.py"), "serve"],
            env={**os.environ, **urls, **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def where_to_look(process: subprocess.Popen[str]) -> list[str]:
    """The addresses that it prints, up to the last."""
    assert process.stdout is not None
    addresses: list[str] = []
    while not addresses or not addresses[-1].endswith("/metrics"):
        line = process.stdout.readline()
        assert line, process.stderr.read() if process.stderr else ""
        addresses += re.findall(r"http://[^\s']+", line)
    return addresses


def answers(address: str) -> bool:
    token = METRICS_TOKEN if address.endswith("/metrics") else KEY
    try:
        return httpx.get(address, headers={"Authorization": f"Bearer {token}"}).status_code == 200
    except httpx.TransportError:
        return False


def test_it_tells_where_to_look_and_answers_there(serve: Serve) -> None:
    addresses = where_to_look(serve())
    assert len(addresses) == 4
    for address in addresses:
        wait_until(lambda address=address: answers(address), timeout_s=10)  # type: ignore[misc]


def banner(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    lines: list[str] = []
    while not lines or "/metrics" not in lines[-1]:
        lines.append(process.stdout.readline())
        assert lines[-1], process.stderr.read() if process.stderr else ""
    return "".join(lines)


def test_it_tells_so_last_when_it_answers(serve: Serve) -> None:
    """What is in the pipe of errors when the banner is there was written before it."""
    process = serve(ANALYTICS_LOG_FORMAT="text", ANALYTICS_ROLLUP_WORKER="false")
    output = banner(process)
    assert process.stderr is not None
    os.set_blocking(process.stderr.fileno(), False)
    before = os.read(process.stderr.fileno(), 1 << 20).decode()
    assert before.count("Application startup complete") == 2
    assert answers(re.findall(r"http://\S+/docs", output)[0])  # at once


def test_what_it_tells_to_paste_works(serve: Serve) -> None:
    """A key is needed: how to make one, and how to ask with it."""
    process = serve(ANALYTICS_ROLLUP_WORKER="false")
    output = banner(process)
    assert KEY not in output
    assert METRICS_TOKEN not in output
    (key,) = re.findall(r"(KEY=\$\(.*\))", output)
    first, metrics = re.findall(r"(curl .*)", output)
    environment = Path(f"/proc/{process.pid}/environ").read_text().split("\0")
    done = subprocess.run(
        ["bash", "-c", f"{key}; {first}; {metrics}"],
        cwd=os.getcwd(),
        env=dict(line.split("=", 1) for line in environment if line),
        capture_output=True,
        text=True,
    )
    assert '{"data":' in done.stdout, done.stderr
    assert "# TYPE http_requests_total counter" in done.stdout


def test_it_starts_while_postgresql_is_away_and_says_so(serve: Serve) -> None:
    process = serve(
        DATABASE_URL="postgresql://nobody@127.0.0.1:1/none", ANALYTICS_ROLLUP_WORKER="false"
    )
    output = banner(process)
    assert process.stdout is not None
    assert "PostgreSQL is unreachable" in process.stdout.readline()
    assert 'curl -H "Authorization: Bearer $KEY"' in output


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_when_told(serve: Serve, signal_number: int) -> None:
    process = serve()
    *_, metrics = where_to_look(process)
    wait_until(lambda: answers(metrics), timeout_s=10)
    began = time.monotonic()
    process.send_signal(signal_number)
    process.communicate(timeout=10)
    assert time.monotonic() - began < adjusted_for_load(5)
    assert process.returncode == 0


def rollup_sessions(conn: connection) -> int:
    with conn.cursor() as cur:
        cur.execute(
            "select from pg_stat_activity "
            "where datname = current_database() and application_name ~ '^analytics-rollup'"
        )
        return cur.rowcount


@pytest.mark.parametrize(("setting", "expected"), [("true", 1), ("false", 0)])
def test_it_folds_unless_told_not_to(
    serve: Serve, conn: connection, setting: str, expected: int
) -> None:
    process = serve(ANALYTICS_ROLLUP_WORKER=setting)
    *_, metrics = where_to_look(process)
    wait_until(lambda: answers(metrics), timeout_s=10)
    wait_until(lambda: rollup_sessions(conn) == expected, timeout_s=10)
    assert ("rollup" in children(process)) == bool(expected)


def test_deprecated_names_work_and_are_logged_once(serve: Serve, conn: connection) -> None:
    process = serve(
        ANALYTICS_FOLDER="true", ANALYTICS_CACHE_OPEN_S="5", ANALYTICS_LOG_FORMAT="text"
    )
    *_, metrics = where_to_look(process)
    wait_until(lambda: answers(metrics), timeout_s=10)
    wait_until(lambda: rollup_sessions(conn) == 1, timeout_s=10)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=20)
    warnings = [line for line in stderr.splitlines() if "deprecated" in line]
    assert [line.partition(" WARNING ")[2] for line in warnings] == [
        "settings: ANALYTICS_FOLDER is deprecated and will be refused by the next release: "
        "use ANALYTICS_ROLLUP_WORKER",
        "settings: ANALYTICS_CACHE_OPEN_S is deprecated and will be refused by the next release: "
        "use ANALYTICS_CACHE_TTL_OPEN_S",
    ]


def test_a_deprecated_name_with_another_value_is_refused_in_one_line(serve: Serve) -> None:
    process = serve(ANALYTICS_FOLDER="true", ANALYTICS_ROLLUP_WORKER="false")
    _, stderr = process.communicate(timeout=adjusted_for_load(10))
    assert process.returncode == 1
    assert stderr == (
        "Error: ANALYTICS_FOLDER is the deprecated name of ANALYTICS_ROLLUP_WORKER, and their "
        "values differ: remove ANALYTICS_FOLDER\n"
    )


def test_workers_share_files_of_columns_while_it_runs(
    serve: Serve, conn: connection, database_url: str, tmp_path: Path
) -> None:
    insert(conn, *(("u", "view", datetime(2025, 1, 1, tzinfo=UTC), {"plan": "pro"}),) * 3)
    fold(database_url)
    write_columns(conn)
    process = serve(TMPDIR=str(tmp_path))
    base = where_to_look(process)[0].split("/docs")[0].rstrip("/")
    url = f"{base}/analytics/event-counts?start=2025-01-01&end=2026-01-01&where=plan:pro"
    response = httpx.get(url, headers={"Authorization": f"Bearer {KEY}"}, timeout=10)
    assert response.json()["data"] == {"events": 3, "users": 1}
    (directory,) = tmp_path.glob("analytics-columns-*")
    assert [file.suffix for file in directory.iterdir() if file.name != "service.lock"] == [
        ".arrow"
    ]
    process.terminate()
    process.wait(20)
    assert list(tmp_path.glob("analytics-columns-*")) == []


def children(process: subprocess.Popen[str]) -> str:
    """The command lines of those that it started."""
    threads = Path(f"/proc/{process.pid}/task").glob("*/children")
    pids = [pid for thread in threads for pid in thread.read_text().split()]
    return " ".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in pids)


def test_a_port_in_use_is_told_in_one_line(serve: Serve) -> None:
    *_, metrics = where_to_look(serve(ANALYTICS_ROLLUP_WORKER="false"))
    wait_until(lambda: answers(metrics), timeout_s=10)
    port = str(httpx.URL(metrics).port)
    second = serve(ANALYTICS_PORT=port)
    _, stderr = second.communicate(timeout=10)
    assert second.returncode == 1
    assert stderr == f"Error: 127.0.0.1:{port} is in use: set ANALYTICS_PORT to another port\n"


def test_a_bad_setting_is_told_in_one_line(serve: Serve) -> None:
    process = serve(ANALYTICS_POOL_SIZE="many")
    _, stderr = process.communicate(timeout=10)
    assert process.returncode == 1
    assert stderr.startswith("Error: ANALYTICS_POOL_SIZE: ")
    assert stderr.count("\n") == 1
