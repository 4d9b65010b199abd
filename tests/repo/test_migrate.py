"""The schema grows forward, once, whoever comes first."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest
from psycopg2.extensions import connection

from repo.migrate import Migration, MigrationError, migrate, migrations
from tests.servers import SCHEMA, Cluster

ONE = Migration(1, "one", "create table one (x int)")
TWO = Migration(2, "two", "create table two (x int)")
BROKEN = Migration(2, "broken", "create table two (x int); select 1 / 0")


@pytest.fixture
def empty_url(cluster: Cluster) -> Iterator[str]:
    url = cluster.empty_database()
    yield url
    cluster.drop(url)


@pytest.fixture
def empty(empty_url: str) -> Iterator[connection]:
    conn = psycopg2.connect(empty_url)
    yield conn
    conn.close()


def tables(conn: connection) -> set[str]:
    with conn, conn.cursor() as cur:
        cur.execute("select tablename from pg_tables where schemaname = current_schema()")
        return {name for (name,) in cur}


def test_the_schema_is_made_from_nothing_once(empty: connection) -> None:
    assert migrate(empty, migrations()) == migrations()
    assert tables(empty) >= {"schema_migrations", "events"}
    assert migrate(empty, migrations()) == []


def test_numbers_are_in_a_row() -> None:
    assert [migration.number for migration in migrations()] == list(range(1, len(migrations()) + 1))


def test_only_what_is_missing_is_applied(empty: connection) -> None:
    assert migrate(empty, [ONE]) == [ONE]
    assert migrate(empty, [ONE, TWO]) == [TWO]
    assert tables(empty) == {"schema_migrations", "one", "two"}


def test_processes_that_start_at_once_take_turns(empty_url: str) -> None:
    def start(_: int) -> int:
        conn = psycopg2.connect(empty_url)
        try:
            return len(migrate(conn, migrations()))
        finally:
            conn.close()

    with ThreadPoolExecutor(8) as threads:
        applied = sorted(threads.map(start, range(8)))
    assert applied == [0] * 7 + [len(migrations())]


def test_a_failure_leaves_nothing(empty: connection) -> None:
    with pytest.raises(psycopg2.errors.DivisionByZero):
        migrate(empty, [ONE, BROKEN])
    assert tables(empty) == set()


def test_a_table_of_others_that_is_in_the_way_is_told(empty: connection) -> None:
    migrate(empty, [ONE])
    with empty, empty.cursor() as cur:
        cur.execute("create table two (mine text)")
    message = (
        'migration 0002 two: relation "two" already exists. It does not belong to this service'
    )
    with pytest.raises(MigrationError, match=message):
        migrate(empty, [ONE, TWO])
    assert tables(empty) == {"schema_migrations", "one", "two"}


def test_tables_of_another_program_are_left_alone(empty: connection) -> None:
    with empty, empty.cursor() as cur:
        cur.execute(f'create schema if not exists "{SCHEMA}"')
        cur.execute("create table one (mine text); create view two as select 1 as x")
    with pytest.raises(MigrationError, match=r"another program, owned by analytics: one, two\."):
        migrate(empty, [ONE, TWO])
    assert tables(empty) == {"one"}


def test_one_that_was_applied_is_never_changed(empty: connection) -> None:
    migrate(empty, [ONE])
    changed = Migration(1, "one", "create table one (x bigint)")
    with pytest.raises(MigrationError, match="0001 one differs from the one that was applied"):
        migrate(empty, [changed, TWO])
    assert tables(empty) == {"schema_migrations", "one"}


def test_a_newer_database_is_left_alone(empty: connection) -> None:
    migrate(empty, [ONE, TWO])
    with pytest.raises(MigrationError, match="update the program"):
        migrate(empty, [ONE])


def test_keys_that_have_ended_do_not_come_back(empty: connection) -> None:
    """Those that a version ended which did not write down what it revoked."""
    with empty, empty.cursor() as cur:
        cur.execute(f'create schema if not exists "{SCHEMA}"')
        for before in migrations()[:17]:
            cur.execute(before.text)
        cur.execute(
            "insert into api_keys (name, digest, hint, scopes, ends_at) "
            "select name, sha256(name::bytea), 'ask_', '{read}', now() + ends_in from (values "
            "('ended', interval '-1 day'), ('ending', '1 day'), ('endless', null)) "
            "as key (name, ends_in)"
        )
        cur.execute(migrations()[17].text)
        cur.execute("select name from api_keys where revoked_at = ends_at")
        assert cur.fetchall() == [("ended",)]


def test_each_table_and_view_has_a_comment(conn: connection) -> None:
    with conn.cursor() as cur:
        cur.execute(
            "select relname from pg_class where relnamespace = 'public'::regnamespace "
            "and relkind in ('r', 'p', 'v') and obj_description(oid, 'pg_class') is null"
        )
        assert cur.fetchall() == []
