"""The embedded servers: joined, kept as long as they are used, and never left behind."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest
import redis

from services.embedded import EmbeddedError, Endpoints, embedded_servers
from services.embedded.folder import ENDPOINTS
from tests.servers import OLDER_POSTGRES
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]

# Joins the servers of a folder, says so, and stays until its standard input ends.
USER = """
import sys
from pathlib import Path
from services.embedded import embedded_servers
with embedded_servers(Path(sys.argv[1])) as endpoints:
    print("joined", flush=True)
    sys.stdin.read()
"""

Join = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="analytics-embedded-"))
    made.chmod(0o711)  # as root the servers run as nobody, who has to get through
    yield made
    wait_until(lambda: not processes(made), within_s=20)
    shutil.rmtree(made)


@pytest.fixture
def join(folder: Path) -> Iterator[Join]:
    """Another program that uses the servers."""
    joined: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", USER, str(folder)]
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
    """The command lines of what runs in the folder: the keeper, and the servers."""
    found = {int(entry.name): command_line(entry) for entry in Path("/proc").glob("[0-9]*")}
    return {
        pid: line
        for pid, line in found.items()
        if working_folder(pid).startswith(str(folder))
        or (str(folder) in line and ("embedded.keeper" in line or "postgres -D" in line))
    }


def command_line(entry: Path) -> str:
    with contextlib.suppress(OSError):
        return (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def working_folder(pid: int) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/cwd")
    return ""


def the_one(folder: Path, name: str) -> int:
    (pid,) = (pid for pid, line in processes(folder).items() if name in line)
    return pid


def postmaster(folder: Path) -> int:
    return int((folder / "postgres" / "postmaster.pid").read_text().split()[0])


def query(endpoints: Endpoints, text: str) -> object:
    conn = psycopg2.connect(endpoints.database_url)
    try:
        with conn, conn.cursor() as cur:
            cur.execute(text)
            return cur.fetchone() if cur.description else None
    finally:
        conn.close()


def answers(endpoints: Endpoints) -> bool:
    try:
        with redis.Redis.from_url(endpoints.redis_url) as client:
            return bool(client.ping()) and query(endpoints, "select 1") == (1,)
    except (psycopg2.Error, redis.RedisError):
        return False


def test_both_servers_answer_and_stop(folder: Path) -> None:
    with embedded_servers(folder) as endpoints:
        assert answers(endpoints)
        assert query(endpoints, "select current_user, current_database()") == (
            "analytics",
            "analytics",
        )
    wait_until(lambda: not processes(folder), within_s=10)
    assert not (folder / ENDPOINTS).exists()


def test_passwords_are_needed_and_hidden(folder: Path) -> None:
    with embedded_servers(folder) as endpoints:
        urls = (endpoints.database_url, endpoints.redis_url)
        passwords = [url.split("@")[0].rsplit(":", 1)[1] for url in urls]
        shown = " ".join(processes(folder).values())
        assert not any(password in shown for password in passwords)
        for name in (ENDPOINTS, "places.json"):
            assert (folder / name).stat().st_mode & 0o077 == 0
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            psycopg2.connect(endpoints.database_url.replace(passwords[0], "wrong"))
        wrong = redis.Redis.from_url(endpoints.redis_url.replace(passwords[1], "wrong"))
        with wrong, pytest.raises(redis.AuthenticationError):
            wrong.ping()


def test_what_users_did_is_not_logged(folder: Path) -> None:
    statement = (
        "create table events (user_id text check (user_id <> 'canary'));"
        "insert into events values ('canary')"
    )
    with embedded_servers(folder) as endpoints:
        with pytest.raises(psycopg2.errors.CheckViolation):
            query(endpoints, statement)
        told = "".join(file.read_text() for file in folder.glob("*.log"))
    assert "violates check constraint" in told
    assert "canary" not in told


def test_data_outlives_a_stop(folder: Path) -> None:
    with embedded_servers(folder) as endpoints:
        query(endpoints, "create table kept as select 42 as x")
    with embedded_servers(folder) as again:
        assert query(again, "select x from kept") == (42,)
        assert again == endpoints


def test_the_servers_live_until_the_last_user_leaves(folder: Path, join: Join) -> None:
    first = join()
    with embedded_servers(folder) as endpoints:
        keeper = the_one(folder, "embedded.keeper")
        first.communicate()
        assert answers(endpoints)
        assert the_one(folder, "embedded.keeper") == keeper
    wait_until(lambda: not processes(folder), within_s=10)


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


def test_the_mode_of_a_folder_that_was_there_stays(folder: Path) -> None:
    shared = folder / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    with embedded_servers(shared) as endpoints:
        assert answers(endpoints)
    assert shared.stat().st_mode & 0o7777 == 0o1777


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


def test_a_long_path_is_no_hindrance(folder: Path) -> None:
    with embedded_servers(folder / ("long" * 40) / "data") as endpoints:
        assert answers(endpoints)


@pytest.mark.parametrize("binaries", [OLDER_POSTGRES] if OLDER_POSTGRES.exists() else [])
def test_an_older_postgresql_runs_as_well(folder: Path, binaries: Path) -> None:
    with embedded_servers(folder, postgres_bin=binaries) as endpoints:
        assert query(endpoints, "select current_setting('server_version_num')::int / 10000") == (
            15,
        )


def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    options = {"shared_buffers": "many"}
    with (
        pytest.raises(EmbeddedError, match='invalid value for parameter "shared_buffers"'),
        embedded_servers(folder, postgres_options=options),
    ):
        pass


def test_a_folder_that_cannot_be_used_is_told(folder: Path) -> None:
    """Root can write anywhere, but the user whom its servers run as cannot."""
    closed = folder / "closed"
    closed.mkdir(mode=0o700 if os.geteuid() == 0 else 0o500)
    with pytest.raises(EmbeddedError, match="ANALYTICS_DATA_DIR"), embedded_servers(closed / "in"):
        pass


def open_to_all(path: Path) -> bool:
    return path.exists() and all(folder.stat().st_mode & 0o001 for folder in path.parents)


PYTHONS = [
    path for path in map(Path, (sys.executable, "/usr/bin/python3")) if open_to_all(path.resolve())
]


@pytest.mark.parametrize("python", PYTHONS[:1])
def test_an_ordinary_user_needs_no_root(folder: Path, python: Path) -> None:
    """Whoever runs the tests, here it is nobody, with a copy of the code that nobody can read."""
    nobody = pwd.getpwnam("nobody")
    code = folder / "code"
    for floor in ("services", "repo", "common", "config", "utils"):
        shutil.copytree(ROOT / floor, code / floor)
    folder.chmod(0o777)
    other = nobody if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    done = subprocess.run(
        [python, "-c", USER, folder / "data"],
        cwd=code,
        env={"PYTHONPATH": str(Path(pytest.__file__).parents[1])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        user=other.pw_uid,
        group=other.pw_gid,
        extra_groups=[] if os.geteuid() == 0 else None,
    )
    assert (done.returncode, done.stdout) == (0, b"joined\n"), done.stderr.decode()
