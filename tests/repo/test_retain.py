"""What is kept of dropped events, who is told of refused ones, and what verification can say."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection
from pyroaring import BitMap

from commands.verify import verify_all
from common.metrics import HORIZON as HORIZON_TOLD
from common.metrics import REFUSED
from common.questions.event_counts import EventCounts
from config.database_errors import DatabaseUnavailable
from repo.ingest import Event, IngestRepo, as_rows
from repo.lifecycle.retention import RetainRepo
from repo.rejection_reasons import EventsExpired
from repo.rollups.rollup_writer import RollupWriter
from repo.verify.sample import verify_sample
from services.background.rollup_worker import _publish_refused_events
from tests.events import insert
from tests.retention import drop
from tests.servers import SCHEMA, Cluster
from tests.source_comparison import connected, open_asker
from utils.time.zones import zone

ZONES = [zone("UTC"), zone("Europe/Berlin")]
NOW = datetime.now(UTC)
OLD = datetime(2026, 1, 31, 22, 50, tzinfo=UTC)
HORIZON = datetime(2026, 2, 2, tzinfo=UTC)
"""In the middle of a week of events, and of sealed months."""


def events() -> Iterator[tuple[str, str, datetime]]:
    for n in range(200):
        yield f"u{n % 7}", ("view", "buy")[n % 2], OLD + timedelta(minutes=30 * n)
    yield "", "view", OLD
    yield "w", "view", NOW - timedelta(minutes=1)


@pytest.fixture(scope="module")
def dropped_url(cluster: Cluster) -> str:
    url = cluster.migrated_database()
    with connected(url) as conn:
        insert(conn, *events())
        RollupWriter(conn, ZONES).catch_up()
    assert drop(url, ZONES, HORIZON) == 52
    return url


@pytest.fixture
def url(cluster: Cluster, dropped_url: str) -> Iterator[str]:
    """Of a database of which a part is dropped."""
    copy = cluster.copy_of(dropped_url)
    yield copy
    cluster.drop(copy)


@pytest.fixture
def dropped(url: str) -> Iterator[connection]:
    with connected(url) as conn:
        yield conn


def changed(conn: connection, text: str, *values: object) -> int:
    with conn.cursor() as cur:
        cur.execute(text, values)
        return cur.rowcount


def one(conn: connection, text: str) -> Any:
    with conn.cursor() as cur:
        cur.execute(text)
        (value,) = cur.fetchone() or (None,)
        return value


def differences(url: str) -> list[str]:
    return [str(difference) for difference in verify_all(url, ZONES).listed]


def test_whoever_inserts_old_events_goes_on_without_them(dropped: connection) -> None:
    before = one(dropped, "select count(*) from events")
    tick = timedelta.resolution
    insert(dropped, ("x", "view", HORIZON - tick), ("x", "view", HORIZON), ("x", "view", OLD))
    assert one(dropped, "select count(*) from events") == before + 1
    refused = REFUSED.labels("expired")._value.get()
    _publish_refused_events(RetainRepo(dropped))
    assert REFUSED.labels("expired")._value.get() == refused + 2
    assert HORIZON_TOLD._value.get() == HORIZON.timestamp()
    assert RetainRepo(dropped).read_refused_counts() == {}


def test_who_may_only_insert_needs_no_other_right(dropped: connection) -> None:
    """And cannot have what the owner may by tables of the same name."""
    name = "writer_of_events"
    changed(dropped, f"drop role if exists {name}; create role {name}")
    changed(dropped, f"grant insert on events to {name}")
    changed(dropped, f'grant usage on schema "{SCHEMA}" to {name}; set role {name}')
    changed(dropped, "create temporary table refused_events (reason int)")
    insert(dropped, ("x", "view", OLD))
    changed(dropped, f"reset role; drop owned by {name}; drop role {name}")
    assert RetainRepo(dropped).read_refused_counts() == {"expired": 1}


def test_a_batch_tells_which_of_it_are_too_old(dropped: connection) -> None:
    def batch(*moments: datetime) -> list[str]:
        ids = (f"00000000-0000-4000-8000-{9 - n:012}" for n in range(len(moments)))
        return as_rows(
            Event(i, "x", "view", m.isoformat(), "{}") for i, m in zip(ids, moments, strict=True)
        )

    repo = IngestRepo(dropped)
    with pytest.raises(EventsExpired, match="before 2026-02-02T00:00:00Z: older events") as refused:
        repo.insert(batch(NOW, OLD, HORIZON, HORIZON - timedelta.resolution))
    assert refused.value.indexes == {1, 3}
    assert repo.insert(batch(NOW, HORIZON)) == (2, 0)


def test_it_is_known_from_the_start_that_events_are_refused(
    conn: connection, database_url: str
) -> None:
    """The trigger is there before the horizon is told: nobody loses rows in between."""
    RetainRepo(conn).refuse_before(HORIZON)
    rows = as_rows([Event("0" * 32, "x", "view", OLD.isoformat(), "{}")])
    with connected(database_url) as other, pytest.raises(EventsExpired):
        IngestRepo(other).insert(rows)


def test_a_table_of_which_all_is_dropped_is_not_empty(conn: connection, database_url: str) -> None:
    insert(conn, ("u", "view", OLD))
    assert drop(database_url, ZONES, HORIZON) == 1
    assert not IngestRepo(conn).is_empty()
    assert differences(database_url) == []
    assert verify_sample(conn).differences == 0


def test_what_is_there_is_true_before_and_after(dropped: connection, url: str) -> None:
    assert differences(url) == []
    assert changed(dropped, "vacuum events") == -1
    insert(dropped, ("late", "view", HORIZON), ("late", "buy", HORIZON + timedelta(hours=3)))
    RollupWriter(dropped, ZONES).catch_up()
    assert differences(url) == []
    RollupWriter(dropped, ZONES).rebuild()
    assert differences(url) == []
    assert all(verify_sample(dropped).differences == 0 for _ in range(10))


def test_rows_that_are_not_gone_yet_count_once(conn: connection, database_url: str) -> None:
    """A rebuild finds them, and the slots that are kept."""
    insert(conn, *events())
    drop_nothing = HORIZON - timedelta(days=10)
    drop(database_url, ZONES, drop_nothing)
    changed(conn, "update retention set takes_from = %s, horizon = %s", HORIZON, HORIZON)
    for most in (500_000, 60):
        RollupWriter(conn, ZONES, most).rebuild()
        assert differences(database_url) == []
        assert one(conn, "select sum(events)::int from slots where name_id = 0") == 202


def test_rows_that_the_trigger_did_not_see_are_not_counted(dropped: connection, url: str) -> None:
    """Those of a data-only restore, say: neither before they are folded nor after."""
    question = EventCounts(start=OLD.date() - timedelta(days=1), end=HORIZON, interval="day")
    with open_asker(url) as asker:
        before = asker.answer(question)
        changed(dropped, "set session_replication_role = replica")
        insert(dropped, ("x", "view", OLD), ("x", "view", HORIZON - timedelta.resolution))
        changed(dropped, "reset session_replication_role")
        assert (before.events, asker.answer(question)) == (52, before)
        RollupWriter(dropped, ZONES).catch_up()
        assert asker.answer(question) == before
    assert differences(url) == []


def test_what_was_counted_is_not_made_up(dropped: connection) -> None:
    """Without what it is kept in, nobody begins anew as if there had been nothing."""
    changed(dropped, "truncate fold_state, slots, spans, sealed_spans")
    with pytest.raises(DatabaseUnavailable, match="only in a backup"):
        RollupWriter(dropped, ZONES).catch_up()
    assert one(dropped, "select count(*) from fold_state") == 0


BEFORE = "slot < extract(epoch from timestamptz '2026-02-02 00:00Z') / 900"
PLANTED = {
    "a count of all names": (
        f"update slots set events = 99 where name_id = 0 and {BEFORE}",
        "all names: stored 99 events",
    ),
    "a count of one name": (
        f"update slots set events = 99 where name_id = 1 and {BEFORE}",
        "all names: stored 1 event, 1 user; expected 99 events, 1 user",
    ),
    "a row of a slot is missing": (
        f"delete from slots where name_id = 0 and {BEFORE}",
        "all names: stored no row; expected",
    ),
    "a bitmap that is none": (
        f"update slots set users = '\\x00' where name_id = 1 and {BEFORE}",
        "a bitmap that cannot be read",
    ),
    "a day": (
        "update spans set events = 99 where end_slot - start_slot = 96",
        "spans 2026-02-01T00:00Z/2026-02-02T00:00Z all names: stored 99 events",
    ),
    "the month that is half dropped": (
        "update spans set events = 99 where end_slot - start_slot = 28 * 96",
        "spans 2026-02-01T00:00Z/2026-03-01T00:00Z all names: stored 99 events, 7 users; "
        "expected 197 events, 7 users",
    ),
    "a slot since": (
        f"update slots set events = 99 where not {BEFORE}",
        "slots 2026-02-02T00:15Z/2026-02-02T00:30Z all names: stored 99 events",
    ),
    "where slots begin": ("update fold_state set first_slot = first_slot + 1", "first_slot"),
    "dau": (
        "update day_users set dau = 99 where day = '2026-02-01'",
        "day_users UTC 2026-02-01: stored 48 events, 99, 7 and 7 users, 4 new or resurrected; "
        "expected 48 events, 7, 7 and 7 users, 4 new or resurrected",
    ),
    "mau": (
        "update day_users set mau = 99 where day = '2026-02-20'",
        "0, 0 and 99 users, 0 new or resurrected; expected",
    ),
    "who is new": (
        "update day_users set new_users = 9 where day = '2026-02-01'",
        "7, 7 and 7 users, 9 new or resurrected; "
        "expected 48 events, 7, 7 and 7 users, 4 new or resurrected",
    ),
    "mau later": ("update day_users set mau = 9 where day = '2026-03-05'", "0, 0 and 9 users"),
    "users of a name": (
        "update day_events set users = 99 where day = '2026-02-01' and event_name = 'buy'",
        "day_events UTC 2026-02-01 'buy': stored 24 events, 99 users; expected 24 events, 7 users",
    ),
    "a name of a day is missing": (
        "delete from day_events where day = '2026-02-01' and event_name = 'buy'",
        "day_events Europe/Berlin 2026-02-01 'buy': stored no row",
    ),
    "a name that no event has": (
        "insert into day_events values ('UTC', '2026-02-01', 'sold', 1, 1)",
        "day_events UTC 2026-02-01 'sold': stored 1 event, 1 user; expected no row",
    ),
    "a day is missing": (
        "delete from day_users where zone = 'UTC' and day = '2026-02-01'",
        "day_users UTC 2026-02-01: stored no row",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_contradicts_itself_is_found(dropped: connection, url: str, name: str) -> None:
    statement, line = PLANTED[name]
    assert changed(dropped, statement) > 0
    reported = differences(url)
    assert any(line in each for each in reported), reported


def test_one_bit_is_found(dropped: connection, url: str) -> None:
    """Of all names together, and of any span."""
    for table, where in (("slots", f"name_id = 0 and {BEFORE}"), ("spans", "true")):
        with dropped.cursor() as cur:
            cur.execute(f"select ctid, users from {table} where {where} order by random() limit 1")
            row, stored = cur.fetchone() or ("", b"")
        users = BitMap.deserialize(bytes(stored))
        users.add(1_000_000)
        changed(dropped, f"update {table} set users = %s where ctid = %s", users.serialize(), row)
        assert any(each.startswith(table) for each in differences(url))


def test_the_horizon_begins_a_day(conn: connection) -> None:
    text = "insert into retention (takes_from, horizon) values (%s, %s)"
    with pytest.raises(psycopg2.errors.CheckViolation, match="begins_a_day"):
        changed(conn, text, NOW, HORIZON + timedelta(hours=1))
    with pytest.raises(psycopg2.errors.CheckViolation):
        changed(conn, text, HORIZON, HORIZON + timedelta(days=1))
