"""Each role may do what it needs and nothing else, and that is enough for it."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import psycopg2
import pytest
from psycopg2 import errors
from psycopg2.extensions import connection

from common.questions.active_users import ActiveUsers
from common.questions.event_counts import EventCounts
from common.questions.top_events import TopEvents
from config.database_errors import RightsMissing
from repo.api_keys import KeysRepo
from repo.ingest import Event, IngestRepo, as_rows
from repo.migrate import migrate, migrations
from repo.roles import ROLES, Role, role_name
from repo.rollups.rollup_writer import RollupWriter
from repo.verify.sample import verify_sample
from tests.events import insert
from tests.repo.test_restores import ROWS_OF_ELSEWHERE, WITH_CONSTRAINT, WITHOUT_CONSTRAINT
from tests.servers import HOME, as_role
from tests.source_comparison import connected, open_asker
from utils.time.zones import zone

ZONES = [zone("UTC"), zone("Europe/Berlin")]
HOUR_AGO = datetime.now(UTC) - timedelta(hours=1)
DEFINED = Path(__file__).parents[2] / "repo" / "sql" / "roles.sql"

FOLDED = {"users", "event_names", "fold_state", "slots", "sealed_spans", "spans", "future_events"}
NUMBERS = {"day_events", "day_users", "daily_stats_queue"}
DEPRECATED = {"ahead", "numbers_due", "untold_events"}
CHUNKS = {"column_state", "column_chunks", "column_data", "column_paths", "batch_log"}
CHUNKS |= {"columns_erasures", "catalogue_counts", "catalogue_names", "catalogue_properties"}
READ = CHUNKS | FOLDED
READ |= {
    "ahead",
    "events",
    "installation",
    "month_versions",
    "retention",
    "schema_migrations",
}
WRITTEN = FOLDED | CHUNKS | NUMBERS | DEPRECATED
WRITTEN |= {"month_versions", "refused_events", "metrics_outbox"}

# All rights on whole tables; those on columns are below.
RIGHTS: dict[Role, dict[str, set[str]]] = {
    "reader": {"SELECT": READ},
    "writer": {
        "SELECT": {"event_checks", "retention", "schema_migrations", "suppressed_users"},
        "INSERT": {"events"},
    },
    "rollup": {
        "SELECT": WRITTEN | {"erased_ordinals", "events", "retention", "schema_migrations"},
        **dict.fromkeys(["INSERT", "UPDATE", "DELETE"], WRITTEN),
    },
    "grafana": {"SELECT": {"daily_events", "daily_users", "storage"}},
}
READ_OF_KEYS = {
    f"api_keys.{name}"
    for name in (
        *("key_id", "name", "digest", "scopes", "ends_at", "revoked_at"),
        *("origins", "rate"),
    )
}
COLUMNS: dict[Role, dict[str, set[str]]] = {
    "reader": {"SELECT": READ_OF_KEYS | {"erasures.number", "erasures.erasure_id"}},
    "writer": {
        "SELECT": READ_OF_KEYS
        | {"api_keys.last_used_at", "events.event_id", "events.ingested_xid"},
        "UPDATE": {"api_keys.last_used_at"},
    },
    "rollup": {
        "SELECT": {"rejected_rows.adoption_id", "erasures.number", "erasures.unknown_before"},
        "UPDATE": {"events.ingested_xid"},
    },
    "grafana": {},
}


def names(conn: connection, text: str, *values: object) -> set[str]:
    with conn.cursor() as cur:
        cur.execute(text, values or None)
        return {name for (name,) in cur}


def tables(conn: connection) -> set[str]:
    return names(
        conn,
        f"select relname from pg_class where relnamespace = {HOME} "
        "and relkind in ('r', 'v', 'p', 'm', 'f')",
    )


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "right", ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"]
)
def test_a_role_has_these_rights_and_no_others(conn: connection, role: Role, right: str) -> None:
    on_tables = names(
        conn,
        "select name from unnest(%s) as name where has_table_privilege(%s, name, %s)",
        list(tables(conn)), role_name(role), right,
    )  # fmt: skip
    assert on_tables == RIGHTS[role].get(right, set())
    if right in ("SELECT", "INSERT", "UPDATE", "REFERENCES"):
        on_columns = names(
            conn,
            "select table_name || '.' || column_name from information_schema.columns "
            "where table_schema = current_schema() and table_name <> all(%s) "
            "and has_column_privilege(%s, table_name, column_name, %s)",
            list(on_tables), role_name(role), right,
        )  # fmt: skip
        assert on_columns == COLUMNS[role].get(right, set())


MAKES = """
select what
from   (values ('tables', has_schema_privilege(%(role)s, current_schema(), 'create')),
               ('schemas', has_database_privilege(%(role)s, current_database(), 'create')),
               ('roles', (select rolcreaterole or rolcreatedb or rolsuper or rolbypassrls
                          from   pg_roles
                          where  rolname = %(role)s))) as rights (what, has)
where  has
"""


@pytest.mark.parametrize("role", ROLES)
def test_no_role_makes_anything(conn: connection, role: Role) -> None:
    with conn.cursor() as cur:
        cur.execute(MAKES, {"role": role_name(role)})
        assert cur.fetchall() == []


def test_every_table_is_somebodys(conn: connection) -> None:
    text = DEFINED.read_text()
    for table in tables(conn) - {"day_events", "day_users"}:
        assert table in text, f"say in repo/sql/roles.sql who may read or write {table}"


def test_what_a_role_lost_it_gets_back(conn: connection, database_url: str) -> None:
    conn.cursor().execute("revoke all on slots, events from analytics_reader")
    with closing(psycopg2.connect(database_url)) as other:
        assert migrate(other, migrations()) == []
    with open_asker(as_role(database_url, "reader")) as asker:
        assert asker.compare(EventCounts(last="1d")).events == 0


def test_nothing_is_granted_again(conn: connection, database_url: str) -> None:
    """Catalogs are shared with others who change tables at the same time."""
    version = "select max(xmin::text::bigint) from pg_class"
    with conn.cursor() as cur:
        cur.execute(version)
        before = cur.fetchone()
        with closing(psycopg2.connect(database_url)) as other:
            migrate(other, migrations())
        cur.execute(version)
        assert cur.fetchone() == before


@pytest.fixture
def reader(database_url: str) -> Iterator[connection]:
    with connected(as_role(database_url, "reader")) as opened:
        yield opened


@pytest.mark.parametrize(
    "statement",
    [
        "insert into events (event_id, event_name) values (gen_random_uuid(), 'x')",
        "update events set user_id = ''",
        "delete from events",
        "truncate events",
        "update fold_state set version = 0",
        "create table mine (x int)",
        "select hint from api_keys",
        "copy events to program 'cat'",
    ],
)
def test_a_reader_cannot_write_though_it_lifts_what_is_only_a_default(
    reader: connection, statement: str
) -> None:
    cur = reader.cursor()
    cur.execute("begin read write")
    with pytest.raises(errors.InsufficientPrivilege):
        cur.execute(statement)


def test_events_are_stored_folded_and_asked_by_three_roles(
    database_url: str, conn: connection
) -> None:
    rows = as_rows([Event(str(uuid4()), "u", "view", HOUR_AGO.isoformat(), "{}")])
    with closing(psycopg2.connect(as_role(database_url, "writer"))) as writer:
        repo = IngestRepo(writer)
        assert [repo.is_empty(), repo.insert(rows).inserted, repo.insert(rows).inserted] == [
            True,
            1,
            0,
        ]
        KeysRepo(writer).record_last_used({1: HOUR_AGO.timestamp()})
        assert KeysRepo(writer).has_any()
    with connected(as_role(database_url, "rollup")) as folding:
        rollup_writer = RollupWriter(folding, ZONES)
        rollup_writer.delete_undeclared_zones()
        assert rollup_writer.catch_up() == 1
        assert rollup_writer.rebuild() == 1
        rollup_writer.heartbeat()
        assert verify_sample(folding).differences == 0
    with open_asker(as_role(database_url, "reader")) as asker:
        for question in (EventCounts(last="3d"), TopEvents(last="3d"), ActiveUsers(last="3d")):
            asker.compare(question)
        assert asker.rollup_answers == 3
    with connected(as_role(database_url, "grafana")) as grafana:
        numbers = "select distinct events::text from daily_users where events > 0"
        assert names(grafana, numbers) == {"1"}
        assert names(grafana, "select event_name from daily_events") == {"view"}
        assert names(grafana, "select name from storage where table_bytes > 0") >= {"events"}
        with pytest.raises(errors.InsufficientPrivilege):
            grafana.cursor().execute("select * from day_users")
    assert names(conn, "select user_id from events") == {"u"}


def test_the_rollup_worker_folds_restored_events(database_url: str, conn: connection) -> None:
    for text in (WITHOUT_CONSTRAINT, ROWS_OF_ELSEWHERE, WITH_CONSTRAINT):
        conn.cursor().execute(text)
    insert(conn, ("u", "view", HOUR_AGO))
    with connected(as_role(database_url, "rollup")) as folding:
        assert RollupWriter(folding, ZONES).catch_up() == 401
        with pytest.raises(errors.InsufficientPrivilege):
            folding.cursor().execute("update events set user_id = 'another'")


def test_what_a_writer_may_not_read_is_checked_like_events(conn: connection) -> None:
    checks = (
        "select conname || pg_get_constraintdef(oid) from pg_constraint "
        "where conrelid = %s::regclass and contype = 'c'"
    )
    # What is not valid for old rows is valid where there are none.
    of_events = {text.removesuffix(" NOT VALID") for text in names(conn, checks, "events")}
    assert names(conn, checks, "event_checks") == of_events
    assert len(of_events) == 5


def test_who_may_not_is_told(database_url: str) -> None:
    event = Event(str(uuid4()), "u", "view", HOUR_AGO.isoformat(), "{}")
    with connected(as_role(database_url, "grafana")) as grafana:
        with pytest.raises(RightsMissing, match="may not fold"):
            RollupWriter(grafana, ZONES).step()
        with pytest.raises(RightsMissing, match="may not store events"):
            IngestRepo(grafana).insert(as_rows([event]))
        with pytest.raises(RightsMissing, match="keys"):
            KeysRepo(grafana).get_all()
