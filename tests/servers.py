"""Provides the servers of the tests. Without servers tests fail; none is skipped."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg2
from psycopg2.extensions import parse_dsn

from repo.api_keys import KeysRepo
from repo.migrate import migrate, migrations
from repo.roles import Role
from services.api_key_secrets import digest_of
from services.embedded import Endpoints, embedded_servers
from tests.tempdirs import temp_dir
from utils.session_options import in_schema

SCHEMA = os.environ.get("TEST_SCHEMA", "public")
"""Where the tables of the whole suite are."""

HOME = "(select oid from pg_namespace where nspname = current_schema())"

OLDER_POSTGRES = Path("/usr/lib/postgresql/15/bin")

KEY = "ask_the-key-of-the-tests-of-this-service"
PASSWORD = "the-password-of-the-tests"

# Logins for tests, as members of the roles, which the cluster may use for other databases too.
_LOGINS = """
do $$
declare
    role text;
begin
    foreach role in array array['reader', 'writer', 'rollup', 'grafana'] loop
        begin
            execute format('create role analytics_test_%s login password %L in role analytics_%s',
                           role, '{password}', role);
        exception when duplicate_object or unique_violation then null;
        end;
    end loop;
end
$$
"""

# An unusual zone of the server must not change any answer. Durability is not needed here.
OPTIONS = {
    "timezone": "Pacific/Auckland",
    "fsync": "off",
    "full_page_writes": "off",
    "max_wal_size": "256MB",
    "max_prepared_transactions": "4",
}


@contextmanager
def open_servers() -> Iterator[Endpoints]:
    """The servers of the environment, else containers if requested, else embedded servers."""
    database, redis = (os.environ.get(f"TEST_{name}_URL") for name in ("DATABASE", "REDIS"))
    if database and redis:
        yield Endpoints(database, redis)
    elif os.environ.get("TEST_CONTAINERS") == "1":
        with _containers() as endpoints:
            yield endpoints
    else:
        with _embedded(None) as endpoints:
            yield endpoints


@contextmanager
def older_postgres() -> Iterator[Endpoints]:
    with _embedded(OLDER_POSTGRES) as endpoints:
        yield endpoints


@contextmanager
def another_postgres() -> Iterator[Endpoints]:
    """A second PostgreSQL server of the same version."""
    with _embedded(None) as endpoints:
        yield endpoints


@contextmanager
def _embedded(binaries: Path | None) -> Iterator[Endpoints]:
    with (
        temp_dir("test") as folder,
        embedded_servers(folder, postgres_bin=binaries, postgres_options=OPTIONS) as endpoints,
    ):
        yield endpoints


@contextmanager
def _containers() -> Iterator[Endpoints]:
    from testcontainers.community.postgres import PostgresContainer
    from testcontainers.community.redis import RedisContainer

    server = PostgresContainer("postgres:18", driver=None)
    server.with_command("postgres -c max_prepared_transactions=4")
    with server as postgres, RedisContainer() as redis:
        host_and_port = f"{redis.get_container_host_ip()}:{redis.get_exposed_port(6379)}"
        yield Endpoints(postgres.get_connection_url(), f"redis://{host_and_port}/0")


class Cluster:
    """A PostgreSQL server, and the databases that tests create on it; their API key is KEY."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._template = self._create("template0")
        conn = psycopg2.connect(self._template)
        migrate(conn, migrations())
        KeysRepo(conn).create("tests", digest_of(KEY), KEY[:8], ["read", "write"])
        conn.close()
        self.execute(_LOGINS.replace("{password}", PASSWORD))

    def empty_database(self) -> str:
        return self._create("template0")

    def migrated_database(self) -> str:
        """A new database with the schema and no events."""
        return self._create(parse_dsn(self._template)["dbname"])

    def copy_of(self, url: str) -> str:
        """A copy of a database, to which nobody may be connected."""
        return self._create(parse_dsn(url)["dbname"])

    def drop(self, url: str) -> None:
        self.execute(f'drop database "{parse_dsn(url)["dbname"]}" with (force)')

    def _create(self, template: str) -> str:
        name = f"test_{uuid4().hex}"
        self.execute(f'create database "{name}" template "{template}" encoding utf8')
        return url_of(self._url, name)

    def execute(self, statement: str) -> None:
        conn = psycopg2.connect(self._url)
        try:
            conn.autocommit = True
            conn.cursor().execute(statement)
        finally:
            conn.close()


def url_of(url: str, database: str) -> str:
    """The URL of another database on the same server, with the same user."""
    parts = parse_dsn(url)
    login = f"{parts['user']}:{parts.get('password', '')}"
    return _with_schema(f"postgresql://{login}@{_host_and_port(parts)}/{database}")


def as_role(url: str, role: Role) -> str:
    """The URL of the same database with the login of a role."""
    return as_user(url, f"analytics_test_{role}", PASSWORD)


def as_user(url: str, user: str, password: str) -> str:
    """The URL of the same database with another login."""
    parts = parse_dsn(url)
    return _with_schema(f"postgresql://{user}:{password}@{_host_and_port(parts)}/{parts['dbname']}")


def _with_schema(url: str) -> str:
    """Sessions of tests, too, look for tables where the service has them."""
    return url if SCHEMA == "public" else in_schema(url, SCHEMA)


def _host_and_port(parts: dict[str, str]) -> str:
    return f"{parts.get('host', '127.0.0.1')}:{parts.get('port', '5432')}"
