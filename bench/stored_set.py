"""The event set in PostgreSQL, DuckDB and chDB, built once and reused."""

import io
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import chdb.session
import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from psycopg2.extensions import connection

from bench.event_set import COUNTRIES, PATHS, PLANS, PLATFORMS, days_of_events
from bench.set_state import describe_set, forget_copy, forget_set, has_set
from repo.migrate import migrate, migrations
from services.embedded import Endpoints, embedded_servers
from tests.servers import url_of
from tests.source_comparison import connected

SET = "event_set"
"""The database that holds nothing but the set; queries run on a copy."""
COPY = "asked"
"""The copy that is folded and queried."""

_OPTIONS = {
    "shared_buffers": "1GB",
    "maintenance_work_mem": "1GB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
}
_COPY = (
    "copy events (event_id, user_id, event_name, occurred_at, properties) from stdin (format csv)"
)
_CSV = pa.csv.WriteOptions(include_header=False, quoting_style="all_valid")
_INDEXES = """
select indexrelid::regclass::text, pg_get_indexdef(indexrelid), pg_get_constraintdef(c.oid)
from   pg_index
left   join pg_constraint c on c.conindid = indexrelid
where  indrelid = 'events'::regclass
"""
_DUCKDB = """
create table events (
    event_id UUID, user_id VARCHAR, event_name VARCHAR, occurred_at TIMESTAMP, properties JSON,
    country country, platform platform, plan plan, path path, amount DECIMAL(18, 2)
)
"""
_DUCKDB_INSERT = """
insert into events
select *, properties->>'country', properties->>'platform', properties->>'plan',
       properties->>'path', properties->>'amount'
from   read_parquet('{file}')
"""
_ENUMS = {"country": COUNTRIES, "platform": PLATFORMS, "plan": PLANS, "path": PATHS}
"""The types of DuckDB's columns: filters on them are faster than on texts."""
_CHDB = """
create table events (
    event_id UUID, user_id String, event_name LowCardinality(String),
    occurred_at DateTime64(6, 'UTC'), properties String,
    country LowCardinality(String), platform LowCardinality(String), plan LowCardinality(String),
    path LowCardinality(String), amount Nullable(Decimal(18, 2))
) engine = MergeTree order by occurred_at
"""
_CHDB_INSERT = """
insert into events
select *, JSONExtractString(properties, 'country'), JSONExtractString(properties, 'platform'),
       JSONExtractString(properties, 'plan'), JSONExtractString(properties, 'path'),
       toDecimal64OrNull(JSONExtractRaw(properties, 'amount'), 2)
from   file('{file}', Parquet)
"""


@dataclass(frozen=True, slots=True)
class Stores:
    """The locations of the three stores."""

    folder: Path
    endpoints: Endpoints

    @property
    def set_url(self) -> str:
        return url_of(self.endpoints.database_url, SET)

    @property
    def duckdb(self) -> Path:
        return self.folder / "events.duckdb"

    @property
    def chdb(self) -> Path:
        return self.folder / "chdb"


@contextmanager
def open_stores(
    folder: Path, events: int, say: Callable[[str], None], *, copy_suffices: bool = False
) -> Iterator[Stores]:
    """Open the stored set; build it if it is missing, or from an earlier version of the events.

    With `copy_suffices` a set that was used up is not built while its folded copy is current.

    Raises: AssertionError if the folder holds another number of events.
    """
    with embedded_servers(folder / "servers", postgres_options=_OPTIONS) as endpoints:
        stores = Stores(folder, endpoints)
        if not has_set(folder, events, copy_suffices=copy_suffices):
            forget_set(folder)
            forget_copy(folder)
            _build(stores, events, say)
            describe_set(folder, events)
        yield stores


@contextmanager
def working_copy(stores: Stores, name: str, *, use_up: bool, keep: bool = False) -> Iterator[str]:
    """A copy of the set with the current schema, dropped at the end of the block unless `keep`.

    `use_up` uses the set itself, which the next run builds again.
    """
    create_statement = _template_statement(name, SET)
    if use_up:
        forget_set(stores.folder)
        create_statement = f"alter database {SET} rename to {name}"
    with _database(stores, name, create_statement, keep=keep) as url:
        with connected(url) as conn:
            conn.autocommit = False
            migrate(conn, migrations())
            conn.commit()
            conn.autocommit = True
            conn.cursor().execute("vacuum analyze events")
        yield url


def fresh_database(stores: Stores, name: str) -> AbstractContextManager[str]:
    """An empty database, dropped at the end of the block."""
    return _database(stores, name, _template_statement(name, "template0"))


def _template_statement(name: str, template: str) -> str:
    return f"create database {name} template {template} strategy file_copy"


@contextmanager
def _database(
    stores: Stores, name: str, create_statement: str, *, keep: bool = False
) -> Iterator[str]:
    server = stores.endpoints.database_url
    drop_statement = f"drop database if exists {name} with (force)"
    execute(server, drop_statement, create_statement)
    try:
        yield url_of(server, name)
    finally:
        if not keep:
            execute(server, drop_statement)


def execute(url: str, *statements: str) -> None:
    with connected(url) as conn:
        for statement in statements:
            conn.cursor().execute(statement)


def as_csv(table: pa.Table) -> io.BytesIO:
    """The table as CSV. All texts are quoted, since COPY reads an unquoted empty one as null."""
    text = io.BytesIO()
    pa.csv.write_csv(table, text, _CSV)
    text.seek(0)
    return text


def copy(conn: connection, table: pa.Table) -> None:
    conn.cursor().copy_expert(_COPY, as_csv(table), 1 << 20)


def _build(stores: Stores, events: int, say: Callable[[str], None]) -> None:
    """Fill all three stores day by day; create PostgreSQL's indexes after all rows."""
    began = time.monotonic()
    server = stores.endpoints.database_url
    drop_statements = [f"drop database if exists {name} with (force)" for name in (SET, COPY)]
    execute(server, *drop_statements, f"create database {SET}")
    for path in (stores.duckdb, stores.duckdb.with_name("events.duckdb.wal"), stores.chdb):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    with connected(stores.set_url) as conn:
        conn.autocommit = False
        migrate(conn, migrations())
        conn.commit()
        conn.autocommit = True
        _fill(stores, conn, events, say)
        say(f"built {events:,} events in {time.monotonic() - began:.0f} s")


def _fill(stores: Stores, conn: connection, events: int, say: Callable[[str], None]) -> None:
    index_statements = _drop_indexes(conn)
    columns = duckdb.connect(str(stores.duckdb))
    for name, values in _ENUMS.items():
        columns.execute(f"create type {name} as enum {values}")
    columns.execute(_DUCKDB)
    session = chdb.session.Session(str(stores.chdb))
    session.query(_CHDB)
    part = stores.folder / "day.parquet"
    for day, table in enumerate(days_of_events(events), 1):
        copy(conn, table)
        pa.parquet.write_table(table, part)
        columns.execute(_DUCKDB_INSERT.format(file=part))
        session.query(_CHDB_INSERT.format(file=part))
        if day % 10 == 0:
            say(f"day {day}")
    part.unlink()
    columns.close()
    session.query("optimize table events final")
    session.close()
    for statement in (*index_statements, "vacuum (analyze) events", "checkpoint"):
        conn.cursor().execute(statement)


def _drop_indexes(conn: connection) -> list[str]:
    """Drop all indexes of events; return the statements that create them again."""
    statements = []
    with conn.cursor() as cur:
        cur.execute(_INDEXES)
        for name, index, constraint in cur.fetchall():
            if constraint:
                cur.execute(f"alter table events drop constraint {name}")
                statements.append(f"alter table events add constraint {name} {constraint}")
            else:
                cur.execute(f"drop index {name}")
                statements.append(index)
    return statements
