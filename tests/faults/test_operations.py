"""What docs/operations.md tells to do, done: each of its commands, on real servers."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg2
import pytest

from common.questions.active_users import ActiveUsers
from common.questions.base import Counting
from common.questions.event_counts import EventCounts
from common.questions.top_events import TopEvents
from repo.api_keys import KeysRepo
from repo.migrate import migrate, migrations
from services.api_key_secrets import digest_of
from services.embedded import Endpoints, embedded_servers
from services.embedded.binaries import chown_to_child
from tests.events import fold, insert
from tests.faults.conftest import DedicatedServers
from tests.live_server import AUTHORIZED
from tests.replica import PostgresServer, free_port, postgres_owned_dir, postgres_programs
from tests.runbooks import PAGE, Shell, blocks
from tests.servers import KEY, OLDER_POSTGRES, OPTIONS
from tests.source_comparison import connected, open_asker
from tests.wait_until import wait_until
from utils.postgres_releases import Release, find_release
from utils.session_options import in_schema

BLOCKS = blocks()
NOW = datetime.now(UTC)
QUESTIONS: list[Counting] = [
    EventCounts(last="10d", interval="day"),
    TopEvents(last="10d"),
    ActiveUsers(last="10d", tz="Europe/Berlin"),
]
LOGINS = ("ingestion", "questions", "rollup", "dashboards")


def test_every_command_is_run_by_a_test_here() -> None:
    source = Path(__file__).read_text()
    for heading, texts in BLOCKS.items():
        assert f'BLOCKS["{heading}"]' in source, (
            f"{len(texts)} commands under {heading} are not run"
        )
    fenced = PAGE.read_text().count("\n```sh\n")
    assert sum(map(len, BLOCKS.values())) == fenced


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path, since a socket may be in it, that PostgreSQL's user can use."""
    with postgres_owned_dir("ops") as made:
        yield made


@pytest.fixture
def url(own: DedicatedServers, fault_url: str) -> str:
    """A database with events, all of them folded, and a key."""
    with connected(fault_url) as conn:
        insert(
            conn, *((f"u{n % 7}", f"e{n % 3}", NOW - n * timedelta(hours=1)) for n in range(150))
        )
    fold(fault_url)
    return fault_url


@pytest.fixture
def shell(own: DedicatedServers, folder: Path, url: str) -> Shell:
    variables = {
        "DATABASE_URL": url,
        "REDIS_URL": own.endpoints.redis_url,
        "HOST_PORT_DB": host_and_port(url),
    }
    return Shell(folder, postgres_programs(own.folder), variables)


@pytest.fixture
def logins(own: DedicatedServers) -> Iterator[None]:
    yield
    own.cluster.execute("".join(f"drop role if exists {name};" for name in LOGINS))


def host_and_port(url: str) -> str:
    """Host, port and database."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}{parts.path}"


def server(url: str) -> str:
    return url.rsplit("/", 1)[0]


def answers(url: str, *, rolled: bool = True) -> list[object]:
    """Those to some questions, each compared with the events."""
    with open_asker(url) as asker:
        compared = [asker.compare(question) for question in QUESTIONS]
        assert asker.rollup_answers == (len(QUESTIONS) if rolled else 0)
        return compared


def users(url: str) -> set[str]:
    """Who asks and folds there."""
    with connected(url) as conn, conn.cursor() as cur:
        cur.execute(
            "select usename from pg_stat_activity "
            "where datname = current_database() and application_name like 'analytics-%'"
        )
        return {name for (name,) in cur}


def responses(base: str) -> dict[str, str]:
    """What the service tells beside an answer, once it is ready."""
    wait_until(lambda: is_ready(base), timeout_s=20)
    answer = httpx.get(f"{base}/analytics/event-counts?last=10d", headers=AUTHORIZED, timeout=20)
    assert answer.json()["data"] == {"events": 150, "users": 7}
    meta: dict[str, str] = answer.json()["meta"]
    return meta


def is_let_in(base: str) -> bool:
    address = f"{base}/analytics/event-counts?last=1d"
    return httpx.get(address, headers=AUTHORIZED, timeout=20).status_code == 200


def is_ready(base: str) -> bool:
    try:
        return httpx.get(f"{base}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def test_status(shell: Shell, url: str) -> None:
    (look,) = BLOCKS["Status"]
    assert "all events folded" in shell.run(look)
    checks = json.loads((shell.folder / "status.json").read_text())["checks"]
    assert {check["state"] for check in checks} == {"ok"}
    told = PAGE.read_text()
    assert [check["name"] for check in checks if f"\n| `{check['name']}` |" not in told] == []
    with connected(url) as conn:
        conn.cursor().execute("update fold_state set folded_at = now() - interval '2 hours'")
    assert "-> no rollup worker is connected: start `" in shell.run(look, fails=True)


def test_a_schema_of_its_own(own: DedicatedServers, shell: Shell) -> None:
    create, dump = BLOCKS["A schema of its own"]
    shared = shell.variables["DATABASE_URL"] = own.cluster.empty_database()
    with connected(shared) as conn:
        conn.cursor().execute("create table public.events (id int); create table public.users ()")
        conn.cursor().execute("insert into public.events select generate_series(1, 5)")
    assert "owned by analytics: events, users." in shell.run("python main.py migrate", fails=True)
    shell.run(create)
    ours = in_schema(shared, "analytics")
    with connected(ours) as conn:
        insert(conn, *((f"u{n % 7}", "view", NOW - n * timedelta(hours=1)) for n in range(150)))
    fold(ours)
    before = answers(ours)
    assert "   150\n" in shell.run(dump)
    shell.variables.update(ANALYTICS_SCHEMA="analytics", NEW_SERVER_URL=server(shared))
    assert ": all are equal." in shell.run(BLOCKS["With pg_dump"][1])
    restored = f"{server(shared)}/restored"
    assert answers(in_schema(restored, "analytics")) == before
    with connected(restored) as conn, conn.cursor() as cur:
        cur.execute("select to_regclass('public.events')")
        assert cur.fetchone() == (None,)
    own.cluster.execute("drop database restored with (force)")
    own.cluster.drop(shared)


@pytest.mark.usefixtures("logins")
def test_roles_and_grafana(shell: Shell, url: str) -> None:
    make, serve, grafana = BLOCKS["Roles and Grafana"]
    shell.run(make)
    with connected(url) as conn:
        conn.cursor().execute("delete from api_keys")
    with shell.serving(serve) as base:  # without a key it would not start
        with connected(url) as conn:
            KeysRepo(conn).create("tests", digest_of(KEY), KEY[:8], ["read"])
        wait_until(lambda: is_let_in(base), timeout_s=10)
        assert responses(base)["source"] == "rollups"
        wait_until(lambda: users(url) == {"ingestion", "questions", "rollup"}, timeout_s=10)
    assert f"{NOW.date() - timedelta(days=1)} 00:00:00 |   7 |   7 |   7" in shell.run(grafana)


@contextmanager
def another_server(own: DedicatedServers, *, elsewhere: bool) -> Iterator[str]:
    """Or the same, without what was restored there."""
    if not elsewhere:
        yield own.endpoints.database_url
        own.cluster.execute("drop database restored with (force)")
        return
    folder = Path(tempfile.mkdtemp(prefix="analytics-other-"))
    folder.chmod(0o711)
    with embedded_servers(folder, postgres_options=OPTIONS) as endpoints:
        yield endpoints.database_url
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("elsewhere", [True, False])
def test_backup_and_restore_by_dump(
    own: DedicatedServers, shell: Shell, url: str, *, elsewhere: bool
) -> None:
    dump, restore = BLOCKS["With pg_dump"]
    before = answers(url)
    shell.run(dump)
    with another_server(own, elsewhere=elsewhere) as other:
        shell.variables["NEW_SERVER_URL"] = server(other)
        assert ": all are equal." in shell.run(restore)
        assert answers(f"{server(other)}/restored") == before


def test_backup_and_restore_by_copy(shell: Shell, url: str) -> None:
    (copy,) = BLOCKS["With pg_basebackup"]
    backup = shell.folder / "backup"
    shell.variables.update(SERVER_URL=url, BACKUP=str(backup))
    before = answers(url)
    assert "backup successfully verified" in shell.run(copy, as_server=True)
    with PostgresServer(shell.programs, backup, free_port()).running(url) as restored:
        assert answers(restored) == before


def test_upgrade_of_the_service(own: DedicatedServers, shell: Shell) -> None:
    (upgrade,) = BLOCKS["The service"]
    older = own.cluster.empty_database()
    with closing(psycopg2.connect(older)) as conn:
        migrate(conn, migrations()[:4])
    with connected(older) as conn:
        insert(conn, ("u", "view", NOW - timedelta(days=1)))
    shell.variables["DATABASE_URL"] = older
    assert f"Applied migration {len(migrations()):04}" in shell.run(upgrade)
    fold(older)
    answers(older)
    own.cluster.drop(older)


def test_upgrade_of_postgresql(shell: Shell, folder: Path) -> None:
    (check,) = BLOCKS["PostgreSQL, with pg_dump"]
    upgrade, after = BLOCKS["PostgreSQL, with pg_upgrade"]
    old = upgradable(shell, check)
    with embedded_servers(folder / "old", postgres_bin=old) as endpoints:
        with closing(psycopg2.connect(endpoints.database_url)) as conn:
            migrate(conn, migrations())
        with connected(endpoints.database_url) as conn:
            insert(conn, *((f"u{n}", "view", NOW - n * timedelta(hours=7)) for n in range(20)))
        fold(endpoints.database_url)
        before = answers(endpoints.database_url)
    data = folder / "old" / "postgres"
    wait_until(lambda: not (data / "postmaster.pid").exists(), timeout_s=20)
    shell.variables.update(variables_of_upgrade(endpoints, shell, data, old))
    assert "Upgrade Complete" in shell.run(upgrade, as_server=True)
    new = PostgresServer(shell.programs, folder / "new", free_port())
    with new.running(endpoints.database_url) as url:
        assert answers(url, rolled=False) == before
        shell.variables["DATABASE_URL"] = url
        assert ": all are equal." in shell.run(after)
        assert answers(url) == before


def upgradable(shell: Shell, check: str) -> Path:
    """The programs to upgrade from: the older version, unless it is of a more recent release than
    the embedded one, which the check must tell; then, or without any, the embedded ones."""
    shell.variables.update(NEW_BIN=str(shell.programs), OLD_BIN=str(OLDER_POSTGRES))
    if OLDER_POSTGRES.exists():
        old, new = release_date(OLDER_POSTGRES), release_date(shell.programs)
        if new.rank >= old.rank:
            assert f"PostgreSQL {old} " in shell.run(check)
            return OLDER_POSTGRES
        said = shell.run(check, fails=True)
        assert said.startswith(f"Error: PostgreSQL {new} ")
        assert said.endswith(f"Install the newest minor release of PostgreSQL {new.major}.\n")
    shell.variables["OLD_BIN"] = str(shell.programs)
    assert "can be upgraded to" in shell.run(check)
    return shell.programs


def release_date(programs: Path) -> Release:
    printed = subprocess.check_output([programs / "postgres", "--version"], text=True)
    release = find_release(printed)
    assert release is not None, printed
    return release


def variables_of_upgrade(
    endpoints: Endpoints, shell: Shell, data: Path, old: Path
) -> dict[str, str]:
    password = urlsplit(endpoints.database_url).password or ""
    file = shell.folder / "password"
    file.write_text(password)
    chown_to_child(file)
    return {
        "OLD_BIN": str(old),
        "OLD_DATA": str(data),
        "NEW_BIN": str(shell.programs),
        "NEW_DATA": str(shell.folder / "new"),
        "PGUSER": "analytics",
        "PGPASSWORD": password,
        "PASSWORD_FILE": str(file),
    }


def test_disk_and_autovacuum(shell: Shell) -> None:
    (sizes,), (snapshots,) = BLOCKS["Sizes"], BLOCKS["Autovacuum"]
    assert " events " in shell.run(sizes)
    assert "holds_back" in shell.run(snapshots)


@pytest.mark.usefixtures("logins")
def test_read_replica(shell: Shell, url: str) -> None:
    copy, serve, behind = BLOCKS["Read replica"]
    make, _, _ = BLOCKS["Roles and Grafana"]
    replica = shell.folder / "replica"
    shell.run(make)
    shell.variables.update(SERVER_URL=url, REPLICA_DATA=str(replica))
    shell.run(copy, as_server=True)
    options = {"max_connections": "80"}
    with PostgresServer(shell.programs, replica, free_port()).running(url, **options) as there:
        shell.variables.update(REPLICA_HOST_PORT_DB=host_and_port(there), REPLICA_URL=there)
        with shell.serving(serve) as base:
            assert responses(base)["source"] == "rollups"
            wait_until(lambda: "questions" in users(there), timeout_s=10)
            moment = responses(base)["computed_at"]
            wait_until(lambda: responses(base)["computed_at"] > moment, timeout_s=10)
        assert "behind" in shell.run(behind)


def test_erasing_users(shell: Shell, url: str) -> None:
    erase, suppress = BLOCKS["Erasing users"]
    before = counted(url)
    receipts = [json.loads(line) for line in shell.run(erase).splitlines()]
    assert [receipt["events"] for receipt in receipts] == [before["u1"], before["u2"]]
    output = shell.run(suppress)
    assert "1 users are suppressed" in output
    assert "1 of 1 users were suppressed and no longer are." in output
    assert counted(url) == {user: before[user] for user in before if user not in ("u1", "u2", "u3")}
    answers(url)


def test_old_events(shell: Shell, url: str) -> None:
    (retain,) = BLOCKS["Old events"]
    with connected(url) as conn:
        insert(conn, ("old", "view", NOW - timedelta(days=500)))
    shell.variables["ANALYTICS_REQUEST_TIMEOUT_S"] = "1"
    assert "Dropped 1 event before" in shell.run(retain)
    assert "old" not in counted(url)
    answers(url)


def counted(url: str) -> dict[str, int]:
    """The events of each user."""
    with connected(url) as conn, conn.cursor() as cur:
        cur.execute("select user_id, count(*) from events group by 1")
        return dict(cur.fetchall())
