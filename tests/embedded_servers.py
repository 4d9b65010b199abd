"""Embedded servers for tests that start, stop and kill them."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import redis

from services.embedded import Endpoints
from tests.tempdirs import temp_dir
from tests.wait_until import wait_until

ROOT = Path(__file__).parents[1]

# Uses the servers of a directory, prints a line, and runs until its standard input ends.
JOIN_SCRIPT = """
import sys
from pathlib import Path
from services.embedded import embedded_servers
with embedded_servers(Path(sys.argv[1])) as endpoints:
    print("joined", flush=True)
    sys.stdin.read()
"""

Join = Callable[[], subprocess.Popen[bytes]]


@contextmanager
def server_dir() -> Iterator[Path]:
    """A data directory; fails if a server still runs in it at the end."""
    with temp_dir("embedded") as path:
        yield path
        wait_until(lambda: not processes(path), timeout_s=20)


@contextmanager
def joining(folder: Path) -> Iterator[Join]:
    """Starts other programs that use the servers."""
    joined: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", JOIN_SCRIPT, str(folder)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe)
        joined.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"joined\n"
        return process

    yield start
    for process in joined:
        process.kill()
        process.communicate()


def processes(folder: Path) -> dict[int, str]:
    """The command lines of the supervisor and servers of a data directory, by process id."""
    command_lines = {int(entry.name): command_line(entry) for entry in Path("/proc").glob("[0-9]*")}
    return {
        pid: line
        for pid, line in command_lines.items()
        if working_folder(pid).startswith(str(folder))
        or (str(folder) in line and ("embedded.supervisor" in line or "postgres -D" in line))
    }


def command_line(entry: Path) -> str:
    with contextlib.suppress(OSError):
        return (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def working_folder(pid: int) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/cwd")
    return ""


def pid_of(folder: Path, name: str) -> int:
    (pid,) = (pid for pid, line in processes(folder).items() if name in line)
    return pid


def postmaster(folder: Path) -> int:
    return int((folder / "postgres" / "postmaster.pid").read_text().split()[0])


def query(endpoints: Endpoints, text: str) -> object:
    conn = psycopg2.connect(endpoints.database_url)
    try:
        with conn, conn.cursor() as cur:
            cur.execute(text)
            return cur.fetchone() if cur.description is not None else None
    finally:
        conn.close()


def answers(endpoints: Endpoints) -> bool:
    try:
        with redis.Redis.from_url(endpoints.redis_url) as client:
            return bool(client.ping()) and query(endpoints, "select 1") == (1,)
    except (psycopg2.Error, redis.RedisError):
        return False
