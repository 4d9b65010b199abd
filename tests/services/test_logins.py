"""Roles of a fresh cluster: who makes them, and how they come in."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import pytest

from common.roles import ROLES, Role, role_name
from config.settings import Settings
from repo.migrate import migrate, migrations
from services.embedded import Databases, Endpoints, embedded_servers
from services.servers import databases
from tests.calling import called
from tests.rollups import connected
from tests.rooms import room
from tests.servers import OLDER_POSTGRES, OPTIONS, as_role, url_of

VERSIONS = [None, *([OLDER_POSTGRES] if OLDER_POSTGRES.exists() else [])]


@pytest.fixture
def folder() -> Iterator[Path]:
    with room("logins") as made:
        yield made


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Path, Databases]]:
    """A folder whose servers run."""
    with room("logins") as made, databases(Settings(data_dir=made)) as found:
        assert called("migrate", ANALYTICS_DATA_DIR=str(made)).exit_code == 0
        yield made, found


@pytest.fixture
def fresh(folder: Path, request: pytest.FixtureRequest) -> Iterator[Endpoints]:
    """A cluster without roles, of the version that the test names."""
    binaries = getattr(request, "param", None)
    with embedded_servers(folder, postgres_bin=binaries, postgres_options=OPTIONS) as found:
        yield found


def created(url: str, name: str, owner: str) -> str:
    with connected(url) as conn:
        conn.cursor().execute(f"create database {name} owner {owner}")
    return url_of(url, name)


def who(url: str) -> str:
    with connected(url) as conn, conn.cursor() as cur:
        cur.execute("select current_user::text")
        (name,) = cur.fetchone() or ("",)
        return str(name)


@pytest.mark.parametrize("fresh", VERSIONS, ids=str, indirect=True)
def test_databases_of_one_cluster_make_them_at_once(fresh: Endpoints) -> None:
    urls = [created(fresh.database_url, f"d{n}", "analytics") for n in range(4)]

    def start(url: str) -> None:
        with closing(psycopg2.connect(url)) as conn:
            migrate(conn, migrations())

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(start, urls))
    assert {role for role in ROLES if can_read(urls[3], role, "events")} == {"reader", "folder"}


def can_read(url: str, role: Role, table: str) -> bool:
    with connected(url) as conn, conn.cursor() as cur:
        cur.execute("select has_table_privilege(%s, %s, 'select')", (role_name(role), table))
        return cur.fetchone() == (True,)


def test_an_owner_who_may_not_make_them_is_told_what_to_do(fresh: Endpoints) -> None:
    with connected(fresh.database_url) as admin:
        admin.cursor().execute("create role plain login password 'x'")
        created(fresh.database_url, "plains", "plain")
        place = urlsplit(fresh.database_url).netloc.split("@")[1]
        url = f"postgresql://plain:x@{place}/plains"
        told = called("migrate", DATABASE_URL=url)
        statements = " ".join(f"create role {role_name(role)};" for role in ROLES)
        assert told.exit_code == 0
        assert f"let an administrator run\n  {statements}\nand run" in told.stderr
        assert called("rollup", "--once", DATABASE_URL=url).exit_code == 0
        admin.cursor().execute(statements)
    told = called("migrate", DATABASE_URL=url)
    assert (told.exit_code, told.stdout, told.stderr) == (0, "The schema is up to date.\n", "")
    assert can_read(url, "reader", "events")


def test_each_role_of_the_embedded_servers_has_a_login(served: tuple[Path, Databases]) -> None:
    _, found = served
    assert {role: who(found.url(role)) for role in ROLES} == {
        role: role_name(role) for role in ROLES
    }
    with (
        connected(found.url("reader")) as reader,
        pytest.raises(psycopg2.errors.InsufficientPrivilege),
    ):
        reader.cursor().execute("create temporary table mine (x int)")
    with connected(found.owner) as owner:
        owner.cursor().execute("create role stranger login password 'x'")
    stranger = found.owner.replace(f"analytics:{urlsplit(found.owner).password}", "stranger:x")
    with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
        psycopg2.connect(stranger)


def test_a_folder_of_before_gets_logins(folder: Path) -> None:
    with embedded_servers(folder) as before:
        pass
    places = json.loads((folder / "places.json").read_text())
    del places["role_passwords"]
    (folder / "places.json").write_text(json.dumps(places))
    with databases(Settings(data_dir=folder)) as found:
        assert found.owner == before.database_url
        assert called("migrate", ANALYTICS_DATA_DIR=str(folder)).exit_code == 0
        assert who(found.url("folder")) == "analytics_folder"


def test_events_are_made_and_folded_by_their_roles(served: tuple[Path, Databases]) -> None:
    folder, found = served
    place = {"ANALYTICS_DATA_DIR": str(folder)}
    assert "inserted 1,000" in called("demo", "--events", "1000", **place).stdout
    assert called("rollup", "--once", **place).stdout.startswith("Folded 1,000 events")
    with connected(found.url("reader")) as conn, conn.cursor() as cur:
        cur.execute("select sum(events)::int from slots where name_id = 0")
        assert cur.fetchone() == (1000,)


def test_a_writer_needs_no_owner(database_url: str, tmp_path: Path) -> None:
    """`load` migrates where it may; where nothing is missing it need not."""
    file = tmp_path / "events.csv"
    file.write_text(
        "event_id,event_name,occurred_at\n"
        "00000000-0000-0000-0000-000000000001,view,2026-01-01T00:00:00Z\n"
    )
    told = called("load", str(file), DATABASE_URL=as_role(database_url, "writer"))
    assert (told.exit_code, told.stderr) == (0, "")
    assert "inserted 1," in told.stdout
    told = called("load", str(file), DATABASE_URL=as_role(database_url, "grafana"))
    assert told.exit_code == 1
    assert told.stderr.startswith("Error: ")
    assert "Traceback" not in told.stderr
