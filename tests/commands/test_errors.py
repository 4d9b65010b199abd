"""Whatever is wrong, a command says so in one line, exits with 1 and shows no traceback."""

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import psycopg2
import pytest
from click.testing import Result
from psycopg2.extensions import parse_dsn

from main import COMMANDS
from services.embedded import Endpoints
from tests.cli import run_cli
from tests.servers import Cluster, as_role

EVENT = '{"event_id": "%s", "event_name": "e", "occurred_at": "2025-01-31T09:00:00Z"}\n'
NOBODY = "analytics_test_nobody"
PASSWORD = "the-password-of-nobody"

# Each command in each of its ways, and what it needs: a schema that is there, or any database.
MIGRATING = {
    "migrate": ["migrate"],
    "load": ["load", "FILE"],
    "demo": ["demo", "--events", "1"],
    "adopt": ["adopt", "--table", "nothing", "--map", "event_name=x", "--yes"],
    "adopt --check": ["adopt", "--table", "nothing", "--check"],
    "adopt --release": ["adopt", "--table", "nothing", "--release", "--yes"],
    "keys create": ["keys", "create", "name", "--scope", "read"],
    "keys first": ["keys", "first", "name", "--scope", "read"],
    "keys list": ["keys", "list"],
    "keys rotate": ["keys", "rotate", "name"],
    "keys revoke": ["keys", "revoke", "name"],
}
MIGRATED = {
    "rollup --once": ["rollup", "--once"],
    "rollup --rebuild": ["rollup", "--rebuild"],
    "verify": ["verify"],
    "export": ["export", "--to", "FOLDER"],
    "erase": ["erase", "u", "--yes"],
    "erase --suppress": ["erase", "u", "--yes", "--suppress"],
    "erase --unsuppress": ["erase", "u", "--unsuppress"],
    "erase --suppressed": ["erase", "--suppressed"],
    "retain": ["retain", "--raw", "90d", "--yes"],
}
SERVE = {"serve": ["serve"]}
# What else may be wrong they tell among other things: tests/commands/test_status.py.
STATUS = {"status": ["status"], "status --json": ["status", "--json"]}
ADOPTING = ("", " --check", " --release")
LINES = MIGRATING | MIGRATED | SERVE | STATUS
NEEDS_NO_DATABASE = {"check-upgrade"}


def test_each_command_is_here() -> None:
    assert {words[0] for words in LINES.values()} | NEEDS_NO_DATABASE == set(COMMANDS)


class BrokenDatabase(NamedTuple):
    """A database with something wrong, for all who find it so."""

    url: str
    message: str
    """What the line says, among other things."""


Make = Callable[[Cluster, Endpoints], BrokenDatabase]


def _run_sql(url: str, text: str) -> str:
    with closing(psycopg2.connect(url)) as conn, conn, conn.cursor() as cur:
        cur.execute(text)
    return url


def _changed_url(url: str, **parts: str) -> str:
    parameters = {**parse_dsn(url), **parts}
    return (
        f"postgresql://{parameters['user']}:{parameters.get('password', '')}@"
        f"{parameters.get('host')}:{parameters.get('port')}/{parameters['dbname']}"
    )


def unreachable(_: Cluster, __: Endpoints) -> BrokenDatabase:
    return BrokenDatabase("postgresql://nobody@127.0.0.1:1/none", "PostgreSQL cannot be reached")


def wrong_password(cluster: Cluster, endpoints: Endpoints) -> BrokenDatabase:
    return BrokenDatabase(
        _changed_url(endpoints.database_url, user="analytics_test_reader", password="wrong"),
        "password authentication failed",
    )


def missing_database(_: Cluster, endpoints: Endpoints) -> BrokenDatabase:
    return BrokenDatabase(
        _changed_url(endpoints.database_url, dbname="nothing"), 'database "nothing" does not exist'
    )


def no_postgresql(_: Cluster, endpoints: Endpoints) -> BrokenDatabase:
    port = endpoints.redis_url.rpartition(":")[2].partition("/")[0]
    return BrokenDatabase(f"postgresql://x:y@127.0.0.1:{port}/z", "PostgreSQL cannot be reached")


def malformed_url(_: Cluster, __: Endpoints) -> BrokenDatabase:
    return BrokenDatabase("postgresql://[x/z", "PostgreSQL cannot be reached")


def foreign_tables(cluster: Cluster, _: Endpoints) -> BrokenDatabase:
    url = cluster.empty_database()
    tables = "create table events (id bigint); create table users (id bigint);"
    message = "tables of another program, owned by analytics: events, users."
    return BrokenDatabase(_run_sql(url, tables), message)


def foreign_ledger(cluster: Cluster, _: Endpoints) -> BrokenDatabase:
    """As Rails and golang-migrate have it."""
    url = cluster.empty_database()
    message = "tables of another program, owned by analytics: schema_migrations."
    return BrokenDatabase(_run_sql(url, "create table schema_migrations (version text)"), message)


def no_rights(cluster: Cluster, _: Endpoints) -> BrokenDatabase:
    url = cluster.migrated_database()
    cluster.execute(
        f"do $$ begin create role {NOBODY} login password '{PASSWORD}'; "
        "exception when duplicate_object then null; end $$"
    )
    return BrokenDatabase(_changed_url(url, user=NOBODY, password=PASSWORD), "permission denied")


def reader_only(cluster: Cluster, _: Endpoints) -> BrokenDatabase:
    return BrokenDatabase(as_role(cluster.migrated_database(), "reader"), "permission denied")


def read_only(cluster: Cluster, _: Endpoints) -> BrokenDatabase:
    """A replica says the same, as tests/faults show."""
    url = cluster.migrated_database()
    name = parse_dsn(url)["dbname"]
    cluster.execute(f'alter database "{name}" set default_transaction_read_only = on')
    return BrokenDatabase(url, "read-only")


def not_migrated(cluster: Cluster, _: Endpoints) -> BrokenDatabase:
    return BrokenDatabase(cluster.empty_database(), "the schema is missing: run `")


def older(cluster: Cluster, _: Endpoints) -> BrokenDatabase:
    last = (
        "delete from schema_migrations where number = (select max(number) from schema_migrations)"
    )
    return BrokenDatabase(
        _run_sql(cluster.migrated_database(), last), "1 migrations are missing: run `"
    )


def newer(cluster: Cluster, _: Endpoints) -> BrokenDatabase:
    more = "insert into schema_migrations (number, name, checksum) values (9999, 'later', 'x')"
    return BrokenDatabase(
        _run_sql(cluster.migrated_database(), more), "the database is newer than this"
    )


def changed(cluster: Cluster, _: Endpoints) -> BrokenDatabase:
    other = "update schema_migrations set checksum = 'x' where number = 1"
    return BrokenDatabase(
        _run_sql(cluster.migrated_database(), other), "differs from the one that was applied"
    )


def damaged(cluster: Cluster, _: Endpoints) -> BrokenDatabase:
    """Whatever somebody did to it."""
    damage = (
        "alter table events rename column event_name to x; alter table retention rename to y; "
        "alter table api_keys rename column name to x; alter table erasures rename to z;"
        "alter table adopted_tables rename to w; alter table suppressed_users rename to v;"
        "alter table fold_state rename column version to x"
    )
    return BrokenDatabase(_run_sql(cluster.migrated_database(), damage), "")


FAULTS: list[tuple[Make, dict[str, list[str]]]] = [
    (unreachable, MIGRATING | MIGRATED | STATUS),
    (wrong_password, MIGRATING | MIGRATED | STATUS),
    (missing_database, MIGRATING | MIGRATED | STATUS),
    (no_postgresql, MIGRATING | MIGRATED | STATUS),
    (malformed_url, MIGRATING | MIGRATED | STATUS),
    (foreign_tables, LINES),
    (foreign_ledger, LINES),
    (no_rights, MIGRATING | MIGRATED | SERVE | STATUS),
    (reader_only, MIGRATING | MIGRATED),
    (read_only, MIGRATING | MIGRATED),
    (not_migrated, MIGRATED | SERVE | STATUS),
    (older, MIGRATED),
    (newer, MIGRATING),
    (changed, MIGRATING | STATUS),
    (damaged, MIGRATING | MIGRATED | SERVE),
]
# What goes well there, as it should, and what finds nothing before it comes to this.
OTHERWISE = {
    *((fault, "migrate") for fault in ("no_rights", "reader_only", "read_only", "damaged")),
    *((fault, f"adopt{way}") for fault in ("reader_only", "read_only") for way in ADOPTING),
    *((fault, "verify") for fault in ("reader_only", "read_only")),
    *((fault, "export") for fault in ("reader_only", "read_only")),
    ("read_only", "keys list"),
    ("read_only", "erase --suppressed"),
}
PAIRS = [
    pytest.param(make, words, id=f"{make.__name__}-{name}")
    for make, lines in FAULTS
    for name, words in lines.items()
    if (make.__name__, name) not in OTHERWISE
]


@pytest.fixture(scope="module")
def places(cluster: Cluster, endpoints: Endpoints) -> Iterator[Callable[[Make], BrokenDatabase]]:
    """Made once for all commands: none of them changes anything there."""
    made: dict[Make, BrokenDatabase] = {}

    def place(make: Make) -> BrokenDatabase:
        if make not in made:
            made[make] = make(cluster, endpoints)
        return made[make]

    yield place
    for name in re.findall(r"/(test_\w+)", " ".join(database.url for database in made.values())):
        cluster.execute(f'drop database "{name}" with (force)')


def is_one_line(done: Result) -> bool:
    """Besides how far it came."""
    reports = ("Interrupted: ", "/")  # a file, of `load`
    lines = [line for line in done.stderr.splitlines() if not line.startswith(reports)]
    return len(lines) == 1 and lines[0].startswith("Error: ") and "Traceback" not in done.output


@pytest.mark.parametrize(("make", "words"), PAIRS)
def test_it_is_told_in_one_line(
    places: Callable[[Make], BrokenDatabase],
    endpoints: Endpoints,
    tmp_path: Path,
    make: Make,
    words: list[str],
) -> None:
    database = places(make)
    file = tmp_path / "events.ndjson"
    file.write_text(EVENT % "00000000-0000-4000-8000-000000000001")
    done = run_cli(
        *(
            {"FILE": str(file), "FOLDER": str(tmp_path / "folder")}.get(word, word)
            for word in words
        ),
        stdin="ask_" + "x" * 40,
        DATABASE_URL=database.url,
        REDIS_URL=endpoints.redis_url,
        ANALYTICS_PORT="0",
    )
    assert done.exit_code == 1, done.output
    assert is_one_line(done), done.output
    assert database.message in done.stderr
