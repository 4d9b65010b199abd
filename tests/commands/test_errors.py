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
from tests.calling import called
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


class Place(NamedTuple):
    """A database with something wrong, for all who find it so."""

    url: str
    told: str
    """What the line says, among other things."""


Make = Callable[[Cluster, Endpoints], Place]


def _executed(url: str, text: str) -> str:
    with closing(psycopg2.connect(url)) as conn, conn, conn.cursor() as cur:
        cur.execute(text)
    return url


def _with(url: str, **parts: str) -> str:
    known = {**parse_dsn(url), **parts}
    return (
        f"postgresql://{known['user']}:{known.get('password', '')}@{known.get('host')}:"
        f"{known.get('port')}/{known['dbname']}"
    )


def unreachable(_: Cluster, __: Endpoints) -> Place:
    return Place("postgresql://nobody@127.0.0.1:1/none", "PostgreSQL cannot be reached")


def wrong_password(cluster: Cluster, found: Endpoints) -> Place:
    return Place(
        _with(found.database_url, user="analytics_test_reader", password="wrong"),
        "password authentication failed",
    )


def missing_database(_: Cluster, found: Endpoints) -> Place:
    return Place(_with(found.database_url, dbname="nothing"), 'database "nothing" does not exist')


def no_postgresql(_: Cluster, found: Endpoints) -> Place:
    port = found.redis_url.rpartition(":")[2].partition("/")[0]
    return Place(f"postgresql://x:y@127.0.0.1:{port}/z", "PostgreSQL cannot be reached")


def malformed_url(_: Cluster, __: Endpoints) -> Place:
    return Place("postgresql://[x/z", "PostgreSQL cannot be reached")


def foreign_tables(cluster: Cluster, _: Endpoints) -> Place:
    url = cluster.empty_database()
    tables = "create table events (id bigint); create table users (id bigint);"
    told = "tables of another program, owned by analytics: events, users."
    return Place(_executed(url, tables), told)


def foreign_ledger(cluster: Cluster, _: Endpoints) -> Place:
    """As Rails and golang-migrate have it."""
    url = cluster.empty_database()
    told = "tables of another program, owned by analytics: schema_migrations."
    return Place(_executed(url, "create table schema_migrations (version text)"), told)


def no_rights(cluster: Cluster, _: Endpoints) -> Place:
    url = cluster.migrated_database()
    cluster.execute(
        f"do $$ begin create role {NOBODY} login password '{PASSWORD}'; "
        "exception when duplicate_object then null; end $$"
    )
    return Place(_with(url, user=NOBODY, password=PASSWORD), "permission denied")


def reader_only(cluster: Cluster, _: Endpoints) -> Place:
    return Place(as_role(cluster.migrated_database(), "reader"), "permission denied")


def read_only(cluster: Cluster, _: Endpoints) -> Place:
    """A replica says the same, as tests/faults show."""
    url = cluster.migrated_database()
    name = parse_dsn(url)["dbname"]
    cluster.execute(f'alter database "{name}" set default_transaction_read_only = on')
    return Place(url, "read-only")


def not_migrated(cluster: Cluster, _: Endpoints) -> Place:
    return Place(cluster.empty_database(), "the schema is missing: run `")


def older(cluster: Cluster, _: Endpoints) -> Place:
    last = (
        "delete from schema_migrations where number = (select max(number) from schema_migrations)"
    )
    return Place(_executed(cluster.migrated_database(), last), "1 migrations are missing: run `")


def newer(cluster: Cluster, _: Endpoints) -> Place:
    more = "insert into schema_migrations (number, name, checksum) values (9999, 'later', 'x')"
    return Place(_executed(cluster.migrated_database(), more), "the database is newer than this")


def changed(cluster: Cluster, _: Endpoints) -> Place:
    other = "update schema_migrations set checksum = 'x' where number = 1"
    return Place(_executed(cluster.migrated_database(), other), "is not what was applied")


def damaged(cluster: Cluster, _: Endpoints) -> Place:
    """Whatever somebody did to it."""
    harm = (
        "alter table events rename column event_name to x; alter table retention rename to y; "
        "alter table api_keys rename column name to x; alter table erasures rename to z;"
        "alter table adopted_tables rename to w; alter table suppressed_users rename to v;"
        "alter table fold_state rename column version to x"
    )
    return Place(_executed(cluster.migrated_database(), harm), "")


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
def places(cluster: Cluster, endpoints: Endpoints) -> Iterator[Callable[[Make], Place]]:
    """Made once for all commands: none of them changes anything there."""
    made: dict[Make, Place] = {}

    def place(make: Make) -> Place:
        if make not in made:
            made[make] = make(cluster, endpoints)
        return made[make]

    yield place
    for name in re.findall(r"/(test_\w+)", " ".join(found.url for found in made.values())):
        cluster.execute(f'drop database "{name}" with (force)')


def is_one_line(done: Result) -> bool:
    """Besides how far it came."""
    reports = ("It broke off: ", "/")  # a file, of `load`
    lines = [line for line in done.stderr.splitlines() if not line.startswith(reports)]
    return len(lines) == 1 and lines[0].startswith("Error: ") and "Traceback" not in done.output


@pytest.mark.parametrize(("make", "words"), PAIRS)
def test_it_is_told_in_one_line(
    places: Callable[[Make], Place],
    endpoints: Endpoints,
    tmp_path: Path,
    make: Make,
    words: list[str],
) -> None:
    place = places(make)
    file = tmp_path / "events.ndjson"
    file.write_text(EVENT % "00000000-0000-4000-8000-000000000001")
    done = called(
        *(str(file) if word == "FILE" else word for word in words),
        given="ask_" + "x" * 40,
        DATABASE_URL=place.url,
        REDIS_URL=endpoints.redis_url,
        ANALYTICS_PORT="0",
    )
    assert done.exit_code == 1, done.output
    assert is_one_line(done), done.output
    assert place.told in done.stderr
