"""Migrations of the schema: SQL files that are applied once, in order and forward only."""

import hashlib
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Literal

from psycopg2 import errors
from psycopg2.extensions import connection, cursor

from common.decorators import DISK_FULL_MESSAGE, with_cursor
from config.database import Connection, Cursor
from config.database_errors import DiskFull
from config.invocation import invocation
from repo.engine.watermark import SQL
from repo.planner_statistics_privacy import disable_statistics
from repo.postgres_schema import (
    create_schema,
    has_ledger,
    has_schema,
    lock_schema,
    name_conflicts,
    other_schemas,
    own_schema,
)
from repo.roles import create_roles, owns_tables

_FILE = re.compile(r"(\d{4})_(\w+)\.sql")
_OWN_NAME = re.compile(
    r"^(?:create table|create view|alter table \w+ rename to) (\w+)", re.MULTILINE
)
_NAME_CONFLICTS = (
    errors.DuplicateTable,
    errors.DuplicateObject,
    errors.DuplicateFunction,
    errors.WrongObjectType,
)
_TABLE_LOCKED = (errors.LockNotAvailable, errors.DeadlockDetected)
# The time that each attempt waits for a lock. Queries of running services queue behind it, and are
# answered in the pause between two attempts, which is as long.
_LOCK_TIMEOUTS_S = (0.2, 0.2, 0.4, 0.8, 1.6, 3.2, *[3.2] * 8)
_LONGEST_TRANSACTION = """
select   format('process %s (%s), since %s', pid, coalesce(nullif(application_name, ''), usename),
                xact_start::timestamptz(0))
from     pg_stat_activity
where    datname = current_database()
and      pid <> pg_backend_pid()
and      xact_start is not null
order by xact_start
limit    1
"""
# Not a migration itself: its presence decides whether there is a schema.
_LEDGER = """
create table schema_migrations (
    number     integer     primary key,
    name       text        not null,
    checksum   text        not null,
    applied_at timestamptz not null default now()
)
"""


class MigrationError(Exception):
    """The schema of the database does not match the migrations of this program."""


@dataclass(frozen=True, slots=True)
class Migration:
    number: int
    name: str
    text: str = field(repr=False)

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def migrations() -> list[Migration]:
    """Return all migrations of this program, in order."""
    directory = files("repo").joinpath("migrations")
    named_files = ((_FILE.fullmatch(file.name), file) for file in directory.iterdir())
    parsed = [
        Migration(int(name[1]), name[2], file.read_text()) for name, file in named_files if name
    ]
    return sorted(parsed, key=lambda migration: migration.number)


def migrate(
    conn: connection,
    target: list[Migration],
    on_progress: Callable[[int], object] = lambda _: None,
    *,
    allow_second: bool = True,
) -> list[Migration]:
    """Apply the missing migrations in one transaction, and return them.

    Waits up to a minute for tables in use. `on_progress` is called with the number of migrations.
    Creates the schema if it is missing. If the session's role owns the tables, this also creates
    missing roles and privileges, and removes user data from the planner's statistics.
    `allow_second` permits a new installation in a database that has one in another schema.

    Raises: MigrationError if an applied migration was changed or is unknown, if tables of another
    program have names that the schema needs, or if a table stays in use; DiskFull; psycopg2.Error.
    """
    try:
        applied = _migrate_with_retries(conn, target, allow_second)
    except errors.InsufficientPrivilege as exc:
        raise MigrationError(f"this role may not change the schema: {exc}".strip()) from exc
    except errors.DiskFull as exc:
        raise DiskFull(DISK_FULL_MESSAGE) from exc
    except errors.ReadOnlySqlTransaction as exc:
        raise MigrationError(
            "the database is read-only, as a replica is: connect to the primary"
        ) from exc
    on_progress(len(applied))
    return applied


def check_schema(conn: connection, target: list[Migration]) -> None:
    """Check that the schema has at least the migrations of this program.

    Raises: MigrationError if it is missing or older, or if the tables belong to another program.
    """
    # A newer schema is fine, since migrations only add.
    with conn, conn.cursor() as cur:
        check_ledger(cur, target)
        if (missing := missing_migrations(cur, target)) > 0:
            raise MigrationError(
                f"the schema is older than this program, {missing} migrations are missing: "
                f"run `{invocation('migrate')}`"
            )


def check_ledger(cur: cursor, target: list[Migration]) -> None:
    """Raises: MigrationError if the schema is missing or belongs to another program."""
    schema = own_schema(cur)
    if not has_ledger(cur, schema):
        _refuse_foreign(cur, schema, target)
        _refuse_second(cur, schema)
        raise MigrationError(f"the schema is missing: run `{invocation('migrate')}`")


def check_schema_location(conn: connection, target: list[Migration]) -> None:
    """Raises: MigrationError if tables of another program have names that the schema needs, or if
    the tables of this service are in another schema."""
    with conn, conn.cursor() as cur:
        schema = own_schema(cur)
        if not has_ledger(cur, schema):
            _refuse_foreign(cur, schema, target)
            _refuse_second(cur, schema)


def _migrate_with_retries(
    conn: connection, target: list[Migration], allow_second: bool
) -> list[Migration]:
    for timeout_s in _LOCK_TIMEOUTS_S:
        with suppress(*_TABLE_LOCKED):
            return _migrate(conn, target, timeout_s, allow_second)
        time.sleep(timeout_s)
    raise MigrationError(
        "a table is in use by a long transaction, and nothing was changed. The longest one is that "
        f"of {_longest_transaction(conn)}. Run this again when it has ended"
    )


def _longest_transaction(conn: connection) -> str:
    with conn, conn.cursor() as cur:
        cur.execute(_LONGEST_TRANSACTION)
        (session,) = cur.fetchone() or ("a session that has ended meanwhile",)
        return str(session)


def _migrate(
    conn: connection, target: list[Migration], lock_timeout_s: float, allow_second: bool
) -> list[Migration]:
    with conn, conn.cursor() as cur:
        schema = own_schema(cur)
        lock_schema(cur, schema)
        cur.execute("set local lock_timeout = %s", (round(lock_timeout_s * 1000),))
        # Not `create table if not exists`: it needs the privilege even if the table exists.
        if not has_ledger(cur, schema):
            _refuse_foreign(cur, schema, target)
            if not allow_second:
                _refuse_second(cur, schema)
            _create_schema(cur, schema)
            cur.execute(_LEDGER)
        # All in one transaction: a migration that fails leaves the schema as it was.
        missing = target[count_applied(cur, target) :]
        for migration in missing:
            _apply(cur, migration)
        if owns_tables(cur):
            create_roles(cur)
            disable_statistics(cur)
    return missing


def missing_migrations(cur: cursor, target: list[Migration]) -> int:
    """Return how many migrations are missing; negative if the schema is newer."""
    if not has_ledger(cur, own_schema(cur)):
        return len(target)
    cur.execute("select count(*) from schema_migrations")
    (applied,) = cur.fetchone() or (0,)
    return len(target) - int(applied)


def _create_schema(cur: cursor, schema: str) -> None:
    """Create the schema unless it exists. Raises: MigrationError."""
    if has_schema(cur, schema):
        return
    try:
        create_schema(cur, schema)
    except errors.InsufficientPrivilege as exc:
        user = cur.connection.info.user
        raise MigrationError(
            f"this role may not create schemas: let an administrator run "
            f'`create schema "{schema}" authorization "{user}"`'
        ) from exc


def own_names(target: list[Migration]) -> list[str]:
    """Return the names of all tables and views that the migrations create."""
    created = (name for each in target for name in _OWN_NAME.findall(each.text))
    return ["schema_migrations", *created]


def _refuse_foreign(cur: cursor, schema: str, target: list[Migration]) -> None:
    if conflicts := name_conflicts(cur, schema, own_names(target)):
        listed_names = ", ".join(name for name, _ in conflicts)
        raise MigrationError(
            f"the schema {schema} has tables of another program, owned by {conflicts[0][1]}: "
            f"{listed_names}. This service needs these names: set ANALYTICS_SCHEMA to another "
            "schema, such as analytics, which `migrate` creates"
        )


def _refuse_second(cur: cursor, schema: str) -> None:
    """Raises: MigrationError if another schema has an installation of the service."""
    # A missing or wrong setting must not create a second, empty installation.
    if others := other_schemas(cur, schema):
        raise MigrationError(
            f"the schema {schema} has no tables of this service, which are in: "
            f"{', '.join(others)}. Set ANALYTICS_SCHEMA to the schema of your tables, or, for "
            f"another installation, set it to {schema} and run `{invocation('migrate')}`"
        )


def count_applied(cur: cursor, wanted: list[Migration]) -> int:
    """Return how many migrations are applied.

    Raises: MigrationError if an applied migration was changed, or is unknown to this program.
    """
    cur.execute("select number, name, checksum from schema_migrations order by number")
    applied = cur.fetchall()
    if len(applied) > len(wanted):
        raise MigrationError("the database is newer than this program: update the program")
    for (number, name, checksum), migration in zip(applied, wanted, strict=False):
        if (number, checksum) != (migration.number, migration.checksum):
            raise MigrationError(
                f"migration {number:04} {name} differs from the one that was applied: migrations "
                "must not be changed, only added"
            )
    return len(applied)


def _apply(cur: cursor, migration: Migration) -> None:
    try:
        cur.execute(migration.text)
    except _NAME_CONFLICTS as exc:
        raise MigrationError(
            f"migration {migration.number:04} {migration.name}: {exc.diag.message_primary}. "
            "It does not belong to this service: rename it, or set ANALYTICS_SCHEMA to another "
            "schema"
        ) from exc
    cur.execute(
        "insert into schema_migrations (number, name, checksum) values (%s, %s, %s)",
        (migration.number, migration.name, migration.checksum),
    )


StateOfRollups = Literal["ok", "none", "foreign"]
"""`foreign` are rollups of the cluster that this database was restored from."""


class SchemaRepo:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @with_cursor
    def get_missing_migrations(self, cur: Cursor) -> int:
        """Return how many migrations the database lacks; negative if its schema is newer."""
        return missing_migrations(cur, migrations())

    @with_cursor
    def get_rollups_state(self, cur: Cursor) -> StateOfRollups:
        return read_state_of_rollups(cur)


def read_state_of_rollups(cur: cursor) -> StateOfRollups:
    """Return whether there are rollups that can answer questions, made in this cluster."""
    cur.execute(SQL["rollups_generations"])
    is_there, is_foreign = cur.fetchone() or (False, False)
    if is_there:
        return "ok"
    return "foreign" if is_foreign else "none"
