"""The embedded servers: joined, kept as long as they are used, and never left behind.

What is killed is in tests/faults.
"""

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
import redis

from services.embedded import EmbeddedError, embedded_servers
from services.embedded.data_dir import ENDPOINTS
from tests.embedded_servers import (
    JOIN_SCRIPT,
    ROOT,
    Join,
    answers,
    joining,
    pid_of,
    processes,
    query,
    server_dir,
)
from tests.servers import OLDER_POSTGRES
from tests.wait_until import wait_until

VERSIONS = [(18, None), *([(15, OLDER_POSTGRES)] if OLDER_POSTGRES.exists() else [])]


@pytest.fixture
def folder() -> Iterator[Path]:
    with server_dir() as made:
        yield made


@pytest.fixture
def join(folder: Path) -> Iterator[Join]:
    with joining(folder) as start:
        yield start


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    """Of servers that run: at the end of a long path, it was there before and is open to all."""
    with server_dir() as made:
        folder = made / ("long" * 40)
        folder.mkdir()
        folder.chmod(0o1777)
        with embedded_servers(folder):
            yield folder


def test_both_servers_answer_and_stop(folder: Path) -> None:
    with embedded_servers(folder) as endpoints:
        assert answers(endpoints)
        assert query(endpoints, "select current_user, current_database()") == (
            "analytics",
            "analytics",
        )
    wait_until(lambda: not processes(folder), timeout_s=10)
    assert not (folder / ENDPOINTS).exists()


def test_passwords_are_needed_and_hidden(shared: Path) -> None:
    with embedded_servers(shared) as endpoints:
        urls = (endpoints.database_url, endpoints.redis_url)
        passwords = [url.split("@")[0].rsplit(":", 1)[1] for url in urls]
        command_lines = " ".join(processes(shared).values())
        assert not any(password in command_lines for password in passwords)
        for name in (ENDPOINTS, "places.json"):
            assert (shared / name).stat().st_mode & 0o077 == 0
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            psycopg2.connect(endpoints.database_url.replace(passwords[0], "wrong"))
        wrong = redis.Redis.from_url(endpoints.redis_url.replace(passwords[1], "wrong"))
        with wrong, pytest.raises(redis.AuthenticationError):
            wrong.ping()


def test_what_users_did_is_not_logged(shared: Path) -> None:
    statement = (
        "create table events (user_id text check (user_id <> 'canary'));"
        "insert into events values ('canary')"
    )
    with embedded_servers(shared) as endpoints:
        with pytest.raises(psycopg2.errors.CheckViolation):
            query(endpoints, statement)
        message = "".join(file.read_text() for file in shared.glob("*.log"))
    assert "violates check constraint" in message
    assert "canary" not in message


def test_the_mode_of_a_folder_that_was_there_stays(shared: Path) -> None:
    assert shared.stat().st_mode & 0o7777 == 0o1777


def test_a_long_data_directory_path_works(shared: Path) -> None:
    with embedded_servers(shared) as endpoints:
        assert answers(endpoints)


def test_data_outlives_a_stop(folder: Path) -> None:
    with embedded_servers(folder) as endpoints:
        query(endpoints, "create table kept as select 42 as x")
    with embedded_servers(folder) as again:
        assert query(again, "select x from kept") == (42,)
        assert again == endpoints


def test_the_servers_live_until_the_last_user_leaves(folder: Path, join: Join) -> None:
    first = join()
    with embedded_servers(folder) as endpoints:
        supervisor = pid_of(folder, "embedded.supervisor")
        first.communicate()
        assert answers(endpoints)
        assert pid_of(folder, "embedded.supervisor") == supervisor
    wait_until(lambda: not processes(folder), timeout_s=10)


@pytest.mark.parametrize(("version", "binaries"), VERSIONS)
def test_each_version_of_postgresql_runs(folder: Path, version: int, binaries: Path | None) -> None:
    with embedded_servers(folder, postgres_bin=binaries) as endpoints:
        major = query(endpoints, "select current_setting('server_version_num')::int / 10000")
        assert major == (version,)


def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    options = {"shared_buffers": "many"}
    with (
        pytest.raises(EmbeddedError, match='invalid value for parameter "shared_buffers"'),
        embedded_servers(folder, postgres_options=options),
    ):
        pass


def test_an_unusable_data_directory_is_reported(folder: Path) -> None:
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


def packages(folder: Path) -> Path:
    """Where an ordinary user can read them; a clone may be in a folder that is closed."""
    site_packages = Path(pytest.__file__).parents[1]
    if open_to_all(site_packages):
        return site_packages
    large = shutil.ignore_patterns("pyarrow*", "matplotlib*", "numpy*", "mypy*", "chdb*", "duckdb*")
    return Path(shutil.copytree(site_packages, folder / "packages", ignore=large))


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
        [python, "-c", JOIN_SCRIPT, folder / "data"],
        cwd=code,
        env={"PYTHONPATH": str(packages(folder))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        user=other.pw_uid,
        group=other.pw_gid,
        extra_groups=[] if os.geteuid() == 0 else None,
    )
    assert (done.returncode, done.stdout) == (0, b"joined\n"), done.stderr.decode()
