"""`python main.py verify`: silent about what is true, and nothing that is planted is missed."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from psycopg2.extensions import connection
from pyroaring import BitMap

from commands.verify import verify_all
from repo.rollups.rollup_writer import RollupWriter
from repo.verify.sample import verify_sample
from tests.cli import run_cli
from tests.events import insert
from tests.servers import Cluster
from tests.source_comparison import connected
from utils.time.zones import zone

ZONES = [zone("UTC"), zone("Europe/Berlin")]
NOW = datetime.now(UTC)
OLD = datetime(2026, 1, 31, 22, 50, tzinfo=UTC)
"""Of January in UTC; the next half of an hour is of February in Berlin."""


def events() -> Iterator[tuple[str, str, datetime]]:
    for n in range(200):
        yield f"u{n % 7}", ("view", "buy")[n % 2], OLD + timedelta(minutes=7 * n)
    yield "", "view", OLD
    yield "u1", "view", NOW - timedelta(minutes=1)
    yield "u2", "view", NOW + timedelta(days=2)


@pytest.fixture(scope="module")
def folded_once(cluster: Cluster) -> Iterator[str]:
    url = cluster.migrated_database()
    with connected(url) as conn:
        insert(conn, *events())
        RollupWriter(conn, ZONES).catch_up()
    yield url
    cluster.drop(url)


@pytest.fixture
def folded_url(cluster: Cluster, folded_once: str) -> Iterator[str]:
    """A database of its own for each test, in which these events are folded."""
    url = cluster.copy_of(folded_once)
    yield url
    cluster.drop(url)


@pytest.fixture
def folded(folded_url: str) -> Iterator[connection]:
    """Also what became due since it was made."""
    with connected(folded_url) as conn:
        RollupWriter(conn, ZONES).catch_up()
        yield conn


def changed(conn: connection, text: str, *values: object) -> int:
    with conn.cursor() as cur:
        cur.execute(text, values)
        return cur.rowcount


def differences(url: str) -> list[str]:
    return [str(difference) for difference in verify_all(url, ZONES).listed]


def test_the_command_is_quiet_about_what_is_true(folded: connection, folded_url: str) -> None:
    done = run_cli("verify", DATABASE_URL=folded_url)
    assert done.exit_code == 0, done.stderr
    pattern = r"Compared ([\d,]+) rows with 202 events in \d+\.\d s: all are equal\.\n"
    match = re.fullmatch(pattern, done.stdout)
    assert match is not None, done.stdout
    with folded.cursor() as cur:
        tables = (
            "slots",
            "spans",
            "future_events",
            "users",
            "event_names",
            "day_users",
            "day_events",
            "column_chunks",
        )
        cur.execute("select " + " + ".join(f"(select count(*) from {name})" for name in tables))
        assert int(match[1].replace(",", "")) == (cur.fetchone() or (0,))[0]


def test_the_command_tells_what_differs(folded: connection, folded_url: str) -> None:
    assert changed(folded, "update slots set events = events + 1") > 200
    done = run_cli("verify", DATABASE_URL=folded_url)
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[0] == (
        "slots 2026-01-31T22:45Z/2026-01-31T23:00Z all names: "
        "stored 4 events, 2 users; expected 3 events, 2 users"
    )
    assert re.fullmatch(r"\.\.\. and \d+ more\.", lines[-2])
    assert re.search(r": \d+ differ\.$", lines[-1])


def test_what_cannot_be_verified_does_not_pass(conn: connection, database_url: str) -> None:
    done = run_cli("verify", DATABASE_URL=database_url)
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: nothing was verified: there are no rollups")


PLANTED = {
    "a count of a slot": (
        "update slots set events = 9 where (slot, name_id) = (select slot, name_id from slots "
        "where name_id > 0 order by slot, name_id limit 1)",
        "slots 2026-01-31T22:45Z/2026-01-31T23:00Z '",
    ),
    "a count of a span": (
        "update spans set events = 9 where (start_slot, end_slot, name_id) = (select start_slot, "
        "end_slot, name_id from spans where name_id = 0 order by end_slot - start_slot desc, "
        "start_slot limit 1)",
        "spans 2026-01-01T00:00Z/2026-02-01T00:00Z all names: stored 9 events, 7 users; "
        "expected 11 events, 7 users",
    ),
    "a row of a slot is missing": (
        "delete from slots where name_id = 0 and slot = (select max(slot) from slots)",
        "all names: stored no row; expected 1 event, 1 user",
    ),
    "a row of a span is missing": (
        "delete from spans where name_id = 0 and (start_slot, end_slot) = (select start_slot, "
        "end_slot from spans order by end_slot - start_slot desc, start_slot limit 1)",
        "all names: stored no row; expected 11 events, 7 users",
    ),
    "a slot without events": (
        "insert into slots select generation, slot - 5, name_id, events, users from slots "
        "where name_id = 0 and slot = (select min(slot) from slots)",
        "all names: stored 3 events, 2 users; expected no row",
    ),
    "a slot of ages ago": (
        "insert into slots select generation, -2147483648, name_id, events, users from slots "
        "where name_id = 0 and slot = (select min(slot) from slots)",
        "slots slot -2147483648",
    ),
    "rows of a span that is not sealed": (
        "delete from sealed_spans where (start_slot, end_slot) = (select start_slot, end_slot "
        "from spans order by end_slot - start_slot desc, start_slot limit 1)",
        "stored rows; expected none, as it is not sealed",
    ),
    "a sealed span that has events and no rows": (
        "insert into sealed_spans select generation, min(slot), max(slot), 1 from slots group by 1",
        "all names: stored no row; expected 201 events, 7 users",
    ),
    "an ordinal of another user": (
        "update users set ordinal = 8 where user_id = 'u3'",
        "users (with 8)",
    ),
    "a user without ordinal": ("delete from users where user_id = 'u3'", "one without an ordinal"),
    "names that are exchanged": (
        "update event_names set event_name = case event_name when 'buy' then 'x' else 'buy' end",
        "'x': stored",
    ),
    "an event that waits": ("delete from future_events", "future_events "),
    "an event that waits twice": (
        "insert into future_events select * from future_events",
        "future_events ",
    ),
    "where slots begin": ("update fold_state set first_slot = first_slot + 1", "first_slot"),
    "when spans changed": ("update fold_state set sealed = 0", "fold_state sealed: stored 0"),
    "a generation nobody asks": (
        "update slots set generation = generation + 1 where slot = (select min(slot) from slots)",
        "stored no row",
    ),
    "a count of a day": (
        "update day_users set events = events + 1 where zone = 'UTC' and day = '2026-01-31'",
        "day_users UTC 2026-01-31: stored 12 events, 7, 7 and 7 users, 7 new or resurrected; "
        "expected 11 events, 7, 7 and 7 users, 7 new or resurrected",
    ),
    "dau": ("update day_users set dau = 3 where day = '2026-02-02'", "day_users UTC 2026-02-02"),
    "wau": ("update day_users set wau = 3 where day = '2026-02-05'", "day_users UTC 2026-02-05"),
    "mau": (
        "update day_users set mau = 3 where day = '2026-03-02'",
        "0, 0 and 3 users, 0 new or resurrected; expected",
    ),
    "who is new": (
        "update day_users set new_users = 0 where day = '2026-01-31'",
        "7, 7 and 7 users, 0 new or resurrected; "
        "expected 11 events, 7, 7 and 7 users, 7 new or resurrected",
    ),
    "who is new is not counted": (
        "update day_users set new_users = null where day = '2026-03-01'",
        "0, 0 and 7 users, uncounted new or resurrected; "
        "expected 0 events, 0, 0 and 7 users, 0 new or resurrected",
    ),
    "an edge of a day": (
        "update day_users set ends_at = ends_at + interval '1 second' "
        "where zone = 'Europe/Berlin' and day = '2026-02-01'",
        "day_users Europe/Berlin 2026-02-01: stored",
    ),
    "a day is missing": (
        "delete from day_users where zone = 'UTC' and day = '2026-03-02'",
        "day_users UTC 2026-03-02: stored no row",
    ),
    "a day too much": (
        "update day_users set day = day + 60 "
        "where (zone, day) = ('UTC', (select max(day) from day_users where zone = 'UTC'))",
        "day_users UTC",
    ),
    "a day of the future": (
        "insert into day_users select zone, day + 1, ends_at, ends_at + interval '1 day', 0, 0, "
        "wau, mau, counted_at from day_users where zone = 'UTC' order by day desc limit 1",
        "stored a row; expected no row for a future day",
    ),
    "a day of before the first event": (
        "insert into day_users select zone, day - 1, starts_at - interval '1 day', starts_at, 0, "
        "0, 0, 0, counted_at, 0 from day_users where zone = 'UTC' order by day limit 1",
        "stored a row; expected no row before the first event",
    ),
    "a day that was not over": (
        "update day_users set counted_at = starts_at where zone = 'UTC' and day = '2026-02-01'",
        "day_users UTC 2026-02-01: stored counted at 2026-02-01 00:00:00+00:00; expected after",
    ),
    "a zone that is none": (
        "update day_users set zone = 'Nowhere' where zone = 'UTC'",
        "day_users 'Nowhere': stored rows; expected none, as tzdata has no such zone",
    ),
    "all of a zone": (
        "with gone as (delete from day_events where zone = 'Europe/Berlin') "
        "delete from day_users where zone = 'Europe/Berlin'",
        "day_users Europe/Berlin 2026-01-31: stored no row",
    ),
    "users of a name": (
        "update day_events set users = users + 1 "
        "where (zone, day, event_name) = ('UTC', '2026-02-01', 'buy')",
        "day_events UTC 2026-02-01 'buy': stored",
    ),
    "a name of a day is missing": (
        "delete from day_events where (zone, day, event_name) = ('UTC', '2026-02-01', 'buy')",
        "day_events UTC 2026-02-01 'buy': stored no row",
    ),
    "a name that no event has": (
        "insert into day_events values ('UTC', '2026-03-01', 'sold', 1, 1)",
        "day_events UTC 2026-03-01 'sold': stored 1 event, 1 user; expected no row",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_is_found(folded: connection, folded_url: str, name: str) -> None:
    statement, line = PLANTED[name]
    assert changed(folded, statement) > 0
    reported = differences(folded_url)
    assert any(line in each for each in reported), reported


@pytest.mark.parametrize("table", ["slots", "spans"])
@pytest.mark.parametrize("bit", ["more", "less", "other"])
def test_one_bit_is_found(folded: connection, folded_url: str, table: str, bit: str) -> None:
    """In each table, whatever row it is in."""
    with folded.cursor() as cur:
        cur.execute(f"select ctid, users from {table} order by random() limit 1")
        row, stored = cur.fetchone() or ("", b"")
    users = BitMap.deserialize(bytes(stored))
    if bit != "more":
        users.remove(users.max() if users else 0)
    if bit != "less":
        users.add(1_000_000)
    changed(folded, f"update {table} set users = %s where ctid = %s", users.serialize(), row)
    (line,) = differences(folded_url)
    assert line.startswith(table)


def test_days_that_wait_are_not_compared(folded: connection, folded_url: str) -> None:
    """What came in since, folded or not, is true."""
    insert(folded, ("u9", "view", OLD), ("u9", "view", NOW - timedelta(seconds=30)))
    assert differences(folded_url) == []
    RollupWriter(folded, ZONES).step()
    assert differences(folded_url) == []


def test_a_sweep_under_way_is_true(conn: connection, database_url: str) -> None:
    insert(conn, *events())
    writer = RollupWriter(conn, ZONES, max_events=50)
    writer.catch_up()
    insert(conn, *events())
    for _ in range(6):
        writer.step()
        assert differences(database_url) == []


def test_a_sample_finds_what_it_looks_at(folded: connection) -> None:
    assert verify_sample(folded).differences == 0
    changed(folded, "update slots set events = events + 1")
    findings = verify_sample(folded)
    assert findings.differences > 0
    assert findings.rows > 0


def test_a_sample_compares_days_and_months_with_their_slots(conn: connection) -> None:
    insert(conn, *(event for event in events() if event[2] < NOW - timedelta(days=1)))
    RollupWriter(conn, ZONES).catch_up()
    changed(conn, "update spans set events = events + 1 where end_slot - start_slot > 4")
    assert any(verify_sample(conn).differences for _ in range(40))


def test_a_sample_of_nothing_finds_nothing(conn: connection) -> None:
    assert verify_sample(conn).rows == 0
    RollupWriter(conn, ZONES).catch_up()
    assert verify_sample(conn).differences == 0
