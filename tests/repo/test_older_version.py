"""Processes of version 0.1.0 read and write the schema of this version by the old table names."""

import io
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection

from repo import migrate as migrate_module
from repo.migrate import MigrationError, migrate, migrations
from repo.rollups.aggregate import Rows, decode_rows
from repo.rollups.rollup_writer import RollupWriter
from tests.events import insert
from tests.servers import Cluster, as_role
from tests.source_comparison import connected
from tests.wait_until import wait_until
from utils.time.zones import zone

LAST_MIGRATION = 18
"""Of the schema that version 0.1.0 expects; all later ones are those of this version."""
_TEXT = Path(__file__).with_name("statements_of_0_1_0.sql").read_text()
_PARTS = re.split(r"^-- name: (\w+)$", _TEXT, flags=re.MULTILINE)
OLD = dict(zip(_PARTS[1::2], _PARTS[2::2], strict=True))
NOW = datetime.now(UTC).replace(microsecond=0)
TOMORROW = NOW + timedelta(days=1)

OLD_TABLES = """
insert into ahead values (1, '2030-01-01Z', 'open', 'ada'), (1, '2030-01-02Z', 'view', 'bob');
insert into numbers_due values ('UTC', '2026-01-01');
insert into untold_events values (1, 7);
"""


def rows(
    conn: connection, text: str, values: dict[str, Any] | None = None
) -> list[tuple[Any, ...]]:
    with conn.cursor() as cur:
        cur.execute(text, values)
        return cur.fetchall() if cur.description else []


def fold_batch(conn: connection, source: str, until: datetime, **values: object) -> Rows:
    """The rows that the fold of the old version reads."""
    text = OLD["fold_batch"].replace("{source}", source)
    text = text.replace("{users}", OLD["fold_users_each"])
    stream = io.BytesIO()
    with conn.cursor() as cur:
        params = {"generation": 1, "until": until, **values}
        cur.copy_expert(cur.mogrify(text, params).decode(), stream)
    return decode_rows(stream.getvalue())


@pytest.fixture
def folder(database_url: str) -> Iterator[connection]:
    with connected(as_role(database_url, "rollup")) as opened:
        yield opened


SOURCE = """
select gen_random_uuid() as event_id, occurred_at, 'open' as event_name, user_id
from   (values (%(now)s::timestamptz, 'ada'), (%(tomorrow)s, 'bob')) as new (occurred_at, user_id)
"""


def test_folds_keep_future_events_and_take_them_back(conn: connection, folder: connection) -> None:
    until = NOW + timedelta(seconds=1)
    assert len(fold_batch(folder, SOURCE, until, now=NOW, tomorrow=TOMORROW)) == 2
    future = [(1, TOMORROW, "open", "bob")]
    assert rows(conn, "select * from future_events") == future
    assert rows(conn, "select * from ahead") == future
    later = TOMORROW + timedelta(seconds=1)
    limit = {"generation": 1, "until": later, "most": 1}
    assert rows(folder, OLD["fold_ripe_until"], limit) == [(TOMORROW + timedelta(microseconds=1),)]
    assert len(fold_batch(folder, OLD["fold_take_ripe"], later)) == 1
    assert rows(conn, "select * from future_events") == []
    assert rows(conn, "select user_id, ordinal from users order by 2") == [("ada", 1), ("bob", 2)]
    insert_future(conn)
    rows(folder, OLD["fold_forget"], {"generation": 2})
    assert rows(conn, "select * from future_events") == []


def insert_future(conn: connection) -> None:
    rows(conn, "insert into future_events values (1, %(at)s, 'open', 'ada')", {"at": TOMORROW})


def test_counts_for_metrics_are_added_and_taken(conn: connection, folder: connection) -> None:
    insert(conn, ("ada", "open", NOW - timedelta(hours=1)))
    RollupWriter(folder, [zone("UTC")]).catch_up()
    assert rows(conn, "select * from metrics_outbox") == [(1, 1)]
    rows(folder, OLD["telling_add"], {"name_ids": [1], "events": [4]})
    assert rows(conn, "select * from metrics_outbox") == [(1, 5)]
    insert(conn, ("bob", "open", NOW - timedelta(hours=1)))
    rows(folder, OLD["telling_add_missed"], {"generation": 1, "until": NOW})
    assert rows(conn, "select * from metrics_outbox") == [(1, 6)]
    labels = {"names": ["open"], "other": "other"}
    assert rows(folder, OLD["telling_take"], labels) == [("open", 6)]
    assert rows(folder, OLD["telling_take"], labels) == []
    assert rows(conn, "select * from metrics_outbox") == []


def test_days_are_queued_and_taken(conn: connection, folder: connection) -> None:
    days = {"zone": "UTC", "days": ["2026-01-01", "2026-01-02", "2026-01-09"]}
    for _ in "twice":
        rows(folder, OLD["numbers_mark"], days)
    queue = "select day::text from daily_stats_queue order by 1"
    assert rows(conn, queue) == [("2026-01-01",), ("2026-01-02",), ("2026-01-09",)]
    postponed = {"zones": ["UTC"], "days": ["2026-01-02"]}
    assert rows(folder, OLD["numbers_count_due"], postponed) == [(2,)]
    taken = rows(folder, OLD["numbers_take"], {**postponed, "most": 5})
    assert [(name, str(day)) for name, day in taken] == [("UTC", "2026-01-01")]
    assert len(rows(folder, OLD["numbers_settled"], {"zone": "UTC"})) == 2
    zones = rows(folder, OLD["verify_zones"], {"declared": ["UTC", "Asia/Tokyo"]})
    assert [name for name, *_ in zones] == ["Asia/Tokyo", "UTC"]
    rows(folder, OLD["numbers_done"], {"zone": "UTC", "days": ["2026-01-02"]})
    assert rows(conn, queue) == [("2026-01-09",)]
    rows(folder, OLD["numbers_forget"], {"zones": ["Asia/Tokyo"]})
    assert rows(conn, queue) == []


def test_daily_statistics_are_written(conn: connection, folder: connection) -> None:
    day = {
        "zone": "UTC", "counted_at": NOW, "days": ["2026-01-01"], "starts": ["2026-01-01Z"],
        "ends": ["2026-01-02Z"], "events": [9], "dau": [5], "wau": [6], "mau": [7],
        "new": [2],
    }  # fmt: skip
    rows(folder, OLD["numbers_users"], day)
    assert rows(conn, "select dau, new_users, returning_users from daily_users") == [(5, 2, 3)]


def test_users_are_erased(conn: connection) -> None:
    insert_future(conn)
    rows(conn, OLD["erase_ahead"], {"user_id": "ada"})
    rows(conn, OLD["statistics_settle"])
    insert(conn, ("bob", "open", NOW))
    RollupWriter(conn, [zone("UTC")]).catch_up()
    insert_future(conn)
    rows(conn, "update fold_state set cluster = cluster + 1")
    rows(conn, OLD["erase_forget_others"])
    assert rows(conn, "select * from future_events") == []
    rows(conn, OLD["statistics_settle"])


def test_events_are_not_dropped_while_future_events_are_of_that_time(conn: connection) -> None:
    insert(conn, ("bob", "open", NOW - timedelta(hours=1)))
    RollupWriter(conn, [zone("UTC")]).catch_up()
    tail: dict[str, list[object]] = {
        "firsts": [],
        "untils": [],
        "swept_untils": [],
        "swept_ids": [],
    }
    values = {**tail, "generation": 1, "until": TOMORROW + timedelta(days=1)}
    assert rows(conn, OLD["retain_is_counted"], values) == [(True,)]
    insert_future(conn)
    assert rows(conn, OLD["retain_is_counted"], values) == [(False,)]


@pytest.fixture
def old_url(cluster: Cluster) -> Iterator[str]:
    """A database with the schema of version 0.1.0."""
    url = cluster.empty_database()
    conn = psycopg2.connect(url)
    migrate(conn, migrations()[:LAST_MIGRATION])
    conn.close()
    yield url
    cluster.drop(url)


def test_a_process_goes_on_while_the_schema_is_migrated(old_url: str) -> None:
    """Its prepared statements name the tables as they were called when it prepared them."""
    with connected(old_url) as owner:
        rows(owner, OLD_TABLES)
        rows(owner, "grant select on ahead to analytics_reader")
    with connected(as_role(old_url, "reader")) as reader:
        rows(reader, "prepare future as select user_id from ahead order by 1")
        assert rows(reader, "execute future") == [("ada",), ("bob",)]
        conn = psycopg2.connect(old_url)
        migrate(conn, migrations())
        conn.close()
        assert rows(reader, "execute future") == [("ada",), ("bob",)]
        assert rows(reader, "select to_regclass('ahead') is not null") == [(True,)]


QUESTION = "select count(*) from ahead"


def test_questions_are_answered_while_migrate_waits_for_a_long_transaction(
    old_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as that of `verify`, which has read a table and goes on."""
    monkeypatch.setattr(migrate_module, "_LOCK_TIMEOUTS_S", [0.2] * 100)
    with connected(old_url) as verifier, connected(old_url) as reader:
        rows(verifier, f"begin; {QUESTION}")
        with ThreadPoolExecutor() as threads:
            applied = threads.submit(migrate_all, old_url)
            wait_until(lambda: rows(verifier, WAITING) == [(1,)], timeout_s=10)
            assert rows(reader, QUESTION) == [(0,)]
            assert not applied.done()
            rows(verifier, "commit")
            assert applied.result() == len(migrations()) - LAST_MIGRATION


def test_a_transaction_that_does_not_end_is_named(
    old_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate_module, "_LOCK_TIMEOUTS_S", [0.1, 0.1])
    with connected(old_url) as verifier:
        rows(verifier, f"set application_name = 'nightly'; begin; {QUESTION}")
        with pytest.raises(MigrationError, match=r"process \d+ \(nightly\), since 20") as raised:
            migrate_all(old_url)
        assert "nothing was changed" in str(raised.value)
        rows(verifier, "commit; insert into ahead values (1, now(), 'open', 'ada')")
    assert migrate_all(old_url) == len(migrations()) - LAST_MIGRATION


WAITING = "select count(*)::int from pg_locks where not granted and mode = 'AccessExclusiveLock'"


def migrate_all(url: str) -> int:
    """How many migrations were applied."""
    with closing(psycopg2.connect(url)) as conn:
        return len(migrate(conn, migrations()))


def test_rows_and_names_move_with_the_tables(old_url: str) -> None:
    with connected(old_url) as conn:
        rows(conn, OLD_TABLES)
        conn.autocommit = False
        migrate(conn, migrations())
        assert rows(conn, "select user_id from future_events order by 1") == [("ada",), ("bob",)]
        assert rows(conn, "select * from metrics_outbox") == [(1, 7)]
        assert rows(conn, "select zone, day::text from daily_stats_queue") == [
            ("UTC", "2026-01-01")
        ]
        assert rows(conn, "select name from storage where name ~ 'ahead|future'") == [
            ("future_events",)
        ]
        assert rows(conn, OLD_NAMES) == [("ahead",), ("numbers_due",), ("untold_events",)]


OLD_NAMES = """
select   name
from     (select relname from pg_class where relnamespace = 'public'::regnamespace
          union all
          select conname from pg_constraint
          where  connamespace = 'public'::regnamespace and conrelid <> to_regclass('ahead')
         ) as names (name)
where    name ~ '^(ahead|numbers_due|untold_events)'
order by name
"""
