"""`python main.py adopt`: each row of a platform's table is an event once, whoever writes."""

import json
import os
import re
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import connection

from repo.adopt.adoption import AdoptRepo, LockHeld
from repo.adopt.mapping import make_mapping
from repo.catalogue import count
from repo.lifecycle.erasure import EraseRepo
from repo.lifecycle.suppression import SuppressionRepo
from services.lifecycle import adoption as steps
from tests.adoption import (
    MAIN,
    MAP,
    Adopt,
    adopt_command,
    event_id_of,
    expected_events,
    fill_table,
    make_table,
    platform_role,
    run_sql,
    stored_events,
    writers,
)
from tests.cli import run_cli
from tests.retention import drop
from tests.source_comparison import connected
from tests.wait_until import wait_until
from tests.zone_rules import VERSION, make_tzdata
from utils.time.zones import zone

DOCS = Path(__file__).parents[2] / "docs" / "adopt.md"
ADOPT = ("--table=app_events", *MAP)
GOOD = "insert into app_events (account_id, type, created_at) values (7, 'view', '2025-06-01')"
COUNTED = r"public\.app_events: ([\d,]+) rows, ([\d,]+) events, rejected ([\d,]+)\n"


@pytest.fixture
def adopt(database_url: str) -> Adopt:
    return adopt_command(database_url)


@pytest.fixture
def platform_url(conn: connection, database_url: str) -> Iterator[str]:
    """Of the role that writes app_events, which has some rows."""
    make_table(conn, 3000)
    with platform_role(conn, database_url) as url:
        yield url


def counted(text: str) -> tuple[int, ...]:
    """Rows, events and rejected ones, as the command tells them."""
    match = re.search(COUNTED, text)
    assert match is not None, text
    return tuple(int(number.replace(",", "")) for number in match.groups())


def assert_each_row_is_an_event(conn: connection) -> None:
    expected = expected_events(conn)
    assert len(expected) > 1000
    assert stored_events(conn) == expected


def test_a_table_is_adopted_while_writers_are_at_work(
    adopt: Adopt, platform_url: str, conn: connection
) -> None:
    with writers(platform_url, 6):
        done = adopt(*ADOPT, "--batch=300")
        assert done.exit_code == 0, done.stderr
        time.sleep(0.5)
    assert_each_row_is_an_event(conn)
    checked = adopt("--table=app_events", "--check")
    assert checked.exit_code == 0, checked.stdout
    events = len(expected_events(conn))
    ((rows,),) = run_sql(conn, "select count(*) from app_events")
    assert counted(checked.stdout) == (rows, events, rows - events)
    # The table had 2,970 of them at the beginning, and writers went on before and after.
    assert events > counted(done.stdout)[1] > 2970


def test_an_adoption_that_was_killed_is_gone_on_with(
    adopt: Adopt, platform_url: str, conn: connection, database_url: str
) -> None:
    copied = "select 1 from adopted_parts where copied > 0"
    with writers(platform_url, 4):
        environment = {**os.environ, "DATABASE_URL": database_url}
        command = [*MAIN, "adopt", *ADOPT, "--yes", "--batch=100", "--pace=3000"]
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
            wait_until(lambda: bool(run_sql(conn, copied)), timeout_s=20)
            process.send_signal(signal.SIGKILL)
        done = adopt(*ADOPT)
        assert done.exit_code == 0, done.stderr
    assert_each_row_is_an_event(conn)
    match = re.search(r"^Copied ([\d,]+) events", done.stdout, re.MULTILINE)
    assert match is not None
    assert 0 < int(match[1].replace(",", "")) < 2970 - 300


def test_what_is_adopted_is_folded(adopt: Adopt, platform_url: str, conn: connection) -> None:
    done = adopt(*ADOPT)
    assert re.search(r"^Folded 2,970 events in \d+\.\d s; none waits\.$", done.stdout, re.MULTILINE)
    again = adopt(*ADOPT)
    assert re.search(r"^Copied 0 events in", again.stdout, re.MULTILINE)
    assert counted(again.stdout) == (3000, 2970, 30)
    assert "  30 rejected: event_name is missing\n" in again.stdout
    assert len(run_sql(conn, "select * from rejected_rows")) == 30


def test_the_properties_of_what_is_adopted_are_counted(
    adopt: Adopt, platform_url: str, conn: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(count, "MIN_EVENTS", 1)
    assert adopt(*ADOPT).exit_code == 0
    counts = "path, events, users, numbers, texts, distinct_values"
    assert run_sql(conn, f"select {counts} from catalogue_properties") == [
        (["n"], 2970, 50, 2970, 0, 2970)
    ]


def test_it_shows_what_it_does_and_asks(adopt: Adopt, conn: connection) -> None:
    make_table(conn, 3)
    refused = adopt(*ADOPT, asked="n\n")
    assert refused.exit_code == 1
    assert "  occurred_at  created_at (timestamp without time zone, of Europe/Berlin)\n" in (
        refused.stdout
    )
    assert f'"event_id": "{event_id_of("2")}"' in refused.stdout
    assert run_sql(conn, "select from pg_trigger where tgname = 'analytics_adopt'") == []
    assert run_sql(conn, "select from adopted_tables") == []
    assert adopt(*ADOPT, asked="y\n").exit_code == 0
    assert len(stored_events(conn)) == 3


def test_the_platform_needs_no_rights_on_our_tables(
    adopt: Adopt, platform_url: str, conn: connection
) -> None:
    adopt(*ADOPT)
    with connected(platform_url) as platform:
        run_sql(platform, GOOD)
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            run_sql(platform, "select from events")
        run_sql(platform, "create temp table own (like app_events)")
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            run_sql(
                platform,
                "create trigger forged after insert on own referencing new table as arriving "
                "for each statement execute function adopted_rows_1()",
            )
    assert_each_row_is_an_event(conn)


REJECTED = {
    "event_name is missing": "(1, null, '2025-01-01', '{}')",
    "event_name must be at most 200 bytes long": "(1, repeat('ä', 101), '2025-01-01', '{}')",
    "occurred_at is missing": "(1, 'view', null, '{}')",
    "occurred_at must be within the years 2000 to 2099": "(1, 'view', '1999-12-31 23:00', '{}')",
    "properties must be an object": "(1, 'view', '2025-01-01', '[1]')",
    "properties must be an object of less than 64 kB": (
        "(1, 'view', '2025-01-01', jsonb_build_object('a', repeat('x', 65536)))"
    ),
}
FAR = ("infinity", "-infinity", "4713-01-01 BC", "294276-01-01", "2100-01-01 01:00")


@pytest.mark.parametrize("first", ["rows", "adopt"])
def test_what_cannot_be_an_event_is_left_out_and_told(
    adopt: Adopt, conn: connection, first: str
) -> None:
    """Whether it was there before, or comes in: the platform's transaction goes on."""
    make_table(conn)
    if first == "adopt":
        adopt(*ADOPT)
    bad = [*REJECTED.values(), *(f"(1, 'view', '{far}', '{{}}')" for far in FAR)]
    run_sql(
        conn,
        "insert into app_events (account_id, type, created_at, payload) values "
        + ", ".join([*bad, "(1, 'view', '2025-01-01', '{}')"]),
    )
    done = adopt(*ADOPT)
    assert counted(done.stdout) == (12, 1, 11)
    assert list(stored_events(conn)) == [event_id_of("12")]
    rejected = run_sql(conn, "select key, reason from rejected_rows order by key::int")
    years = "occurred_at must be within the years 2000 to 2099"
    reasons = [*REJECTED, *[years] * len(FAR)]
    assert rejected == [(str(n), reason) for n, reason in enumerate(reasons, 1)]
    for reason in REJECTED:
        assert f"rejected: {reason}\n" in done.stdout


def test_rejected_rows_take_little_room(adopt: Adopt, conn: connection) -> None:
    make_table(conn)
    adopt(*ADOPT)
    run_sql(conn, "insert into app_events (type) select null from generate_series(1, 5000)")
    ((rejected,),) = run_sql(conn, "select count(*) from rejected_rows")
    assert rejected == 1000
    run_sql(
        conn,
        "insert into rejected_rows select 1, n, repeat('x', 500) from generate_series(1, 20000) n",
    )
    run_sql(conn, "insert into app_events (type) values (null)")
    ((now,),) = run_sql(conn, "select count(*) from rejected_rows")
    assert now == 21_000
    assert counted(adopt("--table=app_events", "--check").stdout) == (5001, 0, 5001)


@pytest.mark.parametrize(
    "change",
    [
        "alter table app_events drop column payload",
        "alter table app_events rename column type to kind",
        "alter table app_events alter created_at type timestamptz",
        "alter table app_events alter payload type text",
    ],
)
def test_a_table_that_changes_its_shape_is_written_on(
    adopt: Adopt, platform_url: str, conn: connection, change: str
) -> None:
    adopt(*ADOPT)
    with connected(platform_url) as platform:
        run_sql(platform, GOOD)
        run_sql(conn, change)
        run_sql(platform, "insert into app_events (account_id) values (7)")
        run_sql(platform, "insert into app_events (account_id) values (7), (8)")
    assert len(stored_events(conn)) == 2971
    assert (
        run_sql(conn, "select reason from rejected_rows where key = ''")
        == [("the columns of the table have changed since it was adopted",)] * 2
    )


def test_other_changes_of_the_table_change_nothing(
    adopt: Adopt, platform_url: str, conn: connection
) -> None:
    adopt(*ADOPT)
    with connected(platform_url) as platform:
        run_sql(platform, GOOD)
        run_sql(conn, "alter table app_events add more int default 1, drop column seen")
        run_sql(platform, GOOD)
    run_sql(conn, "alter table app_events rename to happenings")
    run_sql(conn, GOOD.replace("app_events", "happenings"))
    done = adopt("--table=happenings", *MAP)
    assert counted(done.stdout) == (3003, 2973, 30)


def test_updates_and_deletes_are_not_followed(adopt: Adopt, conn: connection) -> None:
    make_table(conn, 2000)
    adopt(*ADOPT)
    before = stored_events(conn)
    run_sql(conn, "update app_events set type = 'other' where id = 1")
    run_sql(conn, "delete from app_events where id = 2")
    run_sql(conn, GOOD + " on conflict do nothing")
    assert len(stored_events(conn)) == len(before) + 1
    run_sql(
        conn,
        "insert into app_events (id, type, created_at) values (3, 'view', '2025-06-01'), "
        "(9000, 'view', '2025-06-01') on conflict (id) do update set type = 'again'",
    )
    assert stored_events(conn).items() >= before.items()
    assert len(stored_events(conn)) == len(before) + 2
    checked = adopt("--table=app_events", "--check")
    assert checked.exit_code == 1
    assert "  2 have no event: their event_id belongs to another row" in checked.stdout
    run_sql(conn, "truncate app_events")
    assert len(stored_events(conn)) == len(before) + 2


def test_what_comes_in_past_the_trigger_is_taken_by_the_next_adopt(
    adopt: Adopt, conn: connection
) -> None:
    make_table(conn, 2000)
    adopt(*ADOPT)
    run_sql(conn, "set session_replication_role = replica")
    run_sql(conn, GOOD)
    checked = adopt("--table=app_events", "--check")
    assert checked.exit_code == 1
    assert "  2025-06-01: 1 rows, 0 events, missing 1, taken 0\n" not in checked.stdout
    assert "  2025-05-31: 1 rows, 0 events, missing 1, taken 0\n" in checked.stdout
    assert "Copied 1 event" in adopt(*ADOPT).stdout
    assert adopt("--table=app_events", "--check").exit_code == 0


def test_what_is_dropped_or_suppressed_is_left_out_and_not_missing(
    adopt: Adopt, conn: connection, database_url: str
) -> None:
    """Of its minutes 721 are on 2025-03-31, of which 8 cannot be events; a user has one in 50."""
    make_table(conn, 3000)
    adopt(*ADOPT)
    drop(database_url, [zone("UTC")], datetime(2025, 3, 31, tzinfo=UTC))
    suppressing, erasing = SuppressionRepo(conn), EraseRepo(conn)
    suppressing.add(["7"], 1)
    assert (erasing.erase("7").events, erasing.erase("8").events) == (14, 14)
    run_sql(conn, "set session_replication_role = replica; " + GOOD.replace("7", "9"))
    run_sql(conn, "set session_replication_role = origin; delete from refused_events")

    checked = adopt("--table=app_events", "--check")
    assert checked.exit_code == 1
    assert counted(checked.stdout) == (3001, 685, 30)
    assert "  15 have no event: the trigger was bypassed, or their users " in checked.stdout
    assert "  2,257 have no event: they are older than the horizon\n" in checked.stdout
    assert "  14 have no event: their users are suppressed\n" in checked.stdout
    assert re.findall(r"^  (2025.*)$", checked.stdout, re.MULTILINE) == [
        "2025-03-31: 713 rows, 685 events, missing 14, taken 0",
        "2025-05-31: 1 rows, 0 events, missing 1, taken 0",
    ]

    again = adopt(*ADOPT)
    assert re.search(r"^Copied 15 events in", again.stdout, re.MULTILINE)
    assert run_sql(conn, "select from refused_events") == []
    checked = adopt("--table=app_events", "--check")
    assert (checked.exit_code, counted(checked.stdout)) == (0, (3001, 700, 30))


def test_a_released_table_is_left_alone_until_it_is_adopted_again(
    adopt: Adopt, platform_url: str, conn: connection
) -> None:
    adopt(*ADOPT)
    done = adopt("--table=app_events", "--release")
    assert done.stdout == ("public.app_events is released. The events of its rows stay.\n")
    run_sql(conn, GOOD)
    assert len(stored_events(conn)) == 2970
    assert run_sql(conn, "select from pg_proc where proname = 'adopted_rows_1'") == []
    assert "Error: public.app_events is not adopted" in (
        adopt("--table=app_events", "--release").stderr
    )
    adopt(*ADOPT)
    assert_each_row_is_an_event(conn)


def test_another_map_needs_a_release_and_another_key_is_refused(
    adopt: Adopt, platform_url: str, conn: connection
) -> None:
    adopt(*ADOPT)
    other = ("--table=app_events", *MAP[:1], *MAP[2:])
    assert "adopted with another mapping: run adopt with --release first" in adopt(*other).stderr
    adopt("--table=app_events", "--release")
    assert adopt(*other).exit_code == 0
    run_sql(conn, GOOD)
    assert stored_events(conn)[event_id_of("3001")][0] == ""
    adopt("--table=app_events", "--release")
    keyed = adopt(*ADOPT, "--map=event_id=seen")
    assert (
        "its rows are events by the key id: by another key they would count twice" in keyed.stderr
    )


def test_two_tables_with_the_same_keys_do_not_meet(adopt: Adopt, conn: connection) -> None:
    make_table(conn, 10)
    run_sql(conn, "create schema app; create table app.app_events (like app_events including all)")
    run_sql(conn, "insert into app.app_events select * from app_events")
    adopt(*ADOPT)
    adopt("--table=app.app_events", *MAP)
    events = stored_events(conn)
    keys = map(str, range(1, 11))
    assert set(events) == {
        event_id_of(n, f"{s}.app_events") for n in keys for s in ("public", "app")
    }


SIGN_UPS = """
create table members (
    id int primary key, email text, plan text, invited_by text, signed_up_at timestamptz
)
"""
NAME = "it's a %s {0} sign-up\\"
SIGN_UP = "insert into members values (%s, 'a@shop.example', 'pro', %s, '2025-06-01Z')"


def test_a_table_of_sign_ups_has_no_event_name(adopt: Adopt, conn: connection) -> None:
    run_sql(conn, SIGN_UPS)
    run_sql(conn, SIGN_UP, 1, "")
    options = (
        "--table=members",
        f"--set=event_name={NAME}",
        "--set=user_id=nobody",
        "--map=user_id=invited_by",
        "--map=occurred_at=signed_up_at",
        "--property=plan=Plan's name",
    )
    shown = adopt(*options, "--dry-run")
    assert shown.exit_code == 0
    assert f"  event_name   {json.dumps(NAME)}\n" in shown.stdout
    assert '  user_id      invited_by, or else "nobody"\n' in shown.stdout
    assert "  properties   plan as Plan's name\n" in shown.stdout
    assert "  not stored   email (--property '*' stores all columns)\n" in shown.stdout
    assert run_sql(conn, "select from pg_trigger where tgname = 'analytics_adopt'") == []
    done = adopt(*options)
    assert done.exit_code == 0, done.stderr
    run_sql(conn, SIGN_UP, 2, "u1")
    run_sql(conn, SIGN_UP, 3, None)
    instant = datetime(2025, 6, 1, tzinfo=UTC)
    assert [stored_events(conn)[event_id_of(str(n), "public.members")] for n in (1, 2, 3)] == [
        (user, NAME, instant, {"Plan's name": "pro"}) for user in ("nobody", "u1", "nobody")
    ]
    assert "Copied 0 events" in adopt(*options).stdout
    assert adopt("--table=members", "--check").exit_code == 0


def test_all_columns_are_properties(adopt: Adopt, conn: connection) -> None:
    run_sql(conn, SIGN_UPS)
    options = ("--set=event_name=x", "--map=occurred_at=signed_up_at", "--ignore=email")
    assert "not stored" not in adopt("--table=members", *options, "--property=*").stdout
    run_sql(conn, SIGN_UP, 1, "u1")
    ((user, _, _, properties),) = stored_events(conn).values()
    assert (user, properties) == ("", {"plan": "pro", "invited_by": "u1"})


ODD = """
create schema "app Ä";
create table "app Ä"."Odd %s {0} ""Table"" " (
    "ID" uuid, "a ""b" text, "%s" varchar(10), "select" timestamptz, "$1 {x}" json, "found" int
)
"""


def test_names_of_any_kind_are_names(adopt: Adopt, conn: connection) -> None:
    run_sql(conn, ODD.replace("%s", "%s"))
    options = (
        '--table=app Ä.Odd %s {0} "Table" ',
        "--map=event_id=ID",
        '--map=event_name=a "b',
        "--map=user_id=%s",
        "--map=occurred_at=select",
        "--map=properties=$1 {x}",
        "--property=found",
    )
    conn.cursor().execute(
        'insert into "app Ä"."Odd %s {0} ""Table"" " values '
        "('00000000-0000-4000-8000-000000000001', 'view', 'u''1', '2025-06-01Z', '{\"a\": 1}', 5)"
    )
    done = adopt(*options)
    assert done.exit_code == 0, done.stderr
    conn.cursor().execute(
        'insert into "app Ä"."Odd %s {0} ""Table"" " values '
        "('00000000-0000-4000-8000-000000000002', 'buy', null, '2025-06-01Z', null, null)"
    )
    instant = datetime(2025, 6, 1, tzinfo=UTC)
    assert stored_events(conn) == {
        "00000000-0000-4000-8000-000000000001": ("u'1", "view", instant, {"a": 1, "found": 5}),
        "00000000-0000-4000-8000-000000000002": ("", "buy", instant, {"found": None}),
    }
    assert adopt(options[0], "--check").exit_code == 0


def test_a_name_is_never_sql(adopt: Adopt, conn: connection) -> None:
    make_table(conn)
    run_sql(conn, "alter table app_events add \"x', '') or true; drop table users; --\" text")
    done = adopt(*ADOPT, "--property=x', '') or true; drop table users; --")
    assert done.exit_code == 0, done.stderr
    run_sql(conn, GOOD)
    ((_, _, _, properties),) = stored_events(conn).values()
    assert properties == {"x', '') or true; drop table users; --": None}
    assert run_sql(conn, "select from users") == []


PARTITIONED = """
create table happenings (
    id bigserial, who uuid, what text, at timestamptz,
    primary key (id, at)
) partition by range (at);
create table happenings_old partition of happenings
    for values from ('2024-01-01') to ('2025-01-01');
insert into happenings (what, at) select 'view', timestamptz '2024-05-01' from generate_series(1, 9)
"""


def test_partitions_are_adopted_however_rows_come_into_them(adopt: Adopt, conn: connection) -> None:
    run_sql(conn, PARTITIONED)
    options = ("--table=happenings", "--map=event_name=what", "--map=occurred_at=at")
    done = adopt(*options, "--map=user_id=who")
    assert done.exit_code == 0, done.stderr
    run_sql(
        conn,
        "create table happenings_new partition of happenings "
        "for values from ('2025-01-01') to ('2026-01-01')",
    )
    run_sql(
        conn, "insert into happenings (what, at) values ('a', '2024-06-01'), ('b', '2025-02-01')"
    )
    run_sql(conn, "insert into happenings_new (what, at) values ('c', '2025-03-01')")
    assert (
        sorted(name for _, name, *_ in stored_events(conn).values())
        == ["a", "b", "c"] + ["view"] * 9
    )
    run_sql(conn, "create table apart (like happenings including defaults)")
    run_sql(conn, "insert into apart values (1000, null, 'd', '2026-05-01Z')")
    run_sql(
        conn,
        "alter table happenings attach partition apart "
        "for values from ('2026-01-01') to ('2027-01-01')",
    )
    assert adopt("--table=happenings", "--check").exit_code == 1
    assert "Copied 1 event" in adopt(*options, "--map=user_id=who").stdout
    seconds = int(datetime(2026, 5, 1, tzinfo=UTC).timestamp())
    by_hand = event_id_of(f"{{1000,{seconds}.000000}}", "public.happenings")
    assert stored_events(conn)[by_hand][1] == "d"
    refused = adopt("--table=happenings_old", *options[1:])
    assert "happenings_old is a partition: adopt its partitioned table" in refused.stderr


TYPES = [
    ("bigint", "1748736000123", ("--epoch=ms",), "2025-06-01T00:00:00.123+00:00"),
    ("integer", "1748736000", ("--epoch=s",), "2025-06-01T00:00:00+00:00"),
    ("bigint", "1748736000123456", ("--epoch=us",), "2025-06-01T00:00:00.123456+00:00"),
    ("bigint", "1748736000123456789", ("--epoch=ns",), "2025-06-01T00:00:00.123456+00:00"),
    ("numeric", "1748736000.5", ("--epoch=s",), "2025-06-01T00:00:00.5+00:00"),
    ("float8", "1748736000.25", ("--epoch=s",), "2025-06-01T00:00:00.25+00:00"),
    ("timestamptz", "'2025-06-01 02:00+02'", (), "2025-06-01T00:00:00+00:00"),
    ("timestamp", "'2025-06-01 02:00'", ("--tz=Europe/Berlin",), "2025-06-01T00:00:00+00:00"),
    ("timestamp", "'2025-03-30 02:30'", ("--tz=Europe/Berlin",), "2025-03-30T01:30:00+00:00"),
    ("date", "'2025-01-02'", ("--tz=America/New_York",), "2025-01-02T05:00:00+00:00"),
]
EXTREMES = {
    "bigint": ("9223372036854775807", "-9223372036854775808"),
    "integer": ("2147483647", "-1"),
    "numeric": ("'NaN'", "1e300"),
    "float8": ("'NaN'", "'Infinity'", "1e308"),
    "timestamptz": ("'infinity'", "'294276-01-01Z'"),
    "timestamp": ("'infinity'", "'4713-01-01 BC'"),
    "date": ("'-infinity'", "'5874897-12-31'"),
}


@pytest.mark.parametrize(("kind", "given", "options", "expected"), TYPES)
def test_times_of_each_type_are_moments(
    adopt: Adopt, conn: connection, kind: str, given: str, options: tuple[str, ...], expected: str
) -> None:
    run_sql(conn, f"create table happenings (id int primary key, event_name text, at {kind})")
    adopted = ("--table=happenings", "--map=occurred_at=at", *options)
    done = adopt(*adopted)
    assert done.exit_code == 0, done.stderr
    extremes = [far for far in EXTREMES[kind] if far != "2147483647"]
    rows = ", ".join(f"({n}, 'view', {value})" for n, value in enumerate([given, *extremes]))
    run_sql(conn, f"set timezone = 'Asia/Tokyo'; insert into happenings values {rows}")
    ((_, _, instant, _),) = stored_events(conn).values()
    assert instant == datetime.fromisoformat(expected)
    assert f"rejected {len(extremes)}\n" in adopt("--table=happenings", "--check").stdout


# The first of a repeated hour, and a skipped one moved forward. From 2026-09-20 on Casablanca is at
# UTC, which PostgreSQL may not know.
LOCAL = {
    "2025-03-30 01:59:59": ("Europe/Berlin", "2025-03-30T00:59:59+00:00"),
    "2025-03-30 02:00:00": ("Europe/Berlin", "2025-03-30T01:00:00+00:00"),
    "2025-03-30 02:59:59.5": ("Europe/Berlin", "2025-03-30T01:59:59.5+00:00"),
    "2025-03-30 03:00:00": ("Europe/Berlin", "2025-03-30T01:00:00+00:00"),
    "2025-10-26 01:59:59": ("Europe/Berlin", "2025-10-25T23:59:59+00:00"),
    "2025-10-26 02:00:00": ("Europe/Berlin", "2025-10-26T00:00:00+00:00"),
    "2025-10-26 02:59:59.5": ("Europe/Berlin", "2025-10-26T00:59:59.5+00:00"),
    "2025-10-26 03:00:00": ("Europe/Berlin", "2025-10-26T02:00:00+00:00"),
    "2026-09-20 00:30:00": ("Africa/Casablanca", "2026-09-19T23:30:00+00:00"),
    "2026-09-20 01:30:00": ("Africa/Casablanca", "2026-09-20T00:30:00+00:00"),
    "2026-12-01 12:00:00": ("Africa/Casablanca", "2026-12-01T12:00:00+00:00"),
    "2000-01-01 00:00:00": ("UTC", "2000-01-01T00:00:00+00:00"),
    "2099-12-31 23:59:59": ("UTC", "2099-12-31T23:59:59+00:00"),
}
ADJUSTED = {
    "Europe/Berlin": (
        "  2 with a local time in a repeated hour: the first one was used\n"
        "  2 with a local time in a skipped hour: moved forward\n"
    ),
    "Africa/Casablanca": "  1 with a local time in a repeated hour: the first one was used\n",
    "UTC": "",
}
HAPPENINGS = "create table happenings (id serial primary key, event_name text, at timestamp)"


def insert_local(conn: connection, times: Iterable[str], event_name: str) -> None:
    for local in times:
        run_sql(conn, "insert into happenings (event_name, at) values (%s, %s)", event_name, local)


@pytest.mark.parametrize("name", ADJUSTED)
def test_local_times_are_read_as_load_reads_them(adopt: Adopt, conn: connection, name: str) -> None:
    run_sql(conn, HAPPENINGS)
    times = {time: instant for time, (tz, instant) in LOCAL.items() if tz == name}
    insert_local(conn, times, "copied")
    done = adopt("--table=happenings", "--map=occurred_at=at", f"--tz={name}")
    assert done.exit_code == 0, done.stderr
    assert f"rejected 0\n{ADJUSTED[name]}Folded " in done.stdout
    insert_local(conn, times, "arriving")
    expected = sorted(map(datetime.fromisoformat, times.values()))
    for event_name in ("copied", "arriving"):
        result_rows = run_sql(
            conn,
            "select occurred_at from events where event_name = %s order by occurred_at",
            event_name,
        )
        assert [occurred_at for (occurred_at,) in result_rows] == expected
    assert adopt("--table=happenings", "--check").exit_code == 0


def test_triggers_read_local_times_by_the_rules_of_a_new_tzdata(
    adopt: Adopt, conn: connection, database_url: str, tmp_path: Path
) -> None:
    """An older one had Casablanca an hour ahead of UTC for all times."""
    make_tzdata(tmp_path, {"Africa/Casablanca": 1})
    run_sql(conn, HAPPENINGS)
    older = {**os.environ, "DATABASE_URL": database_url, "PYTHONPATH": str(tmp_path)}
    command = ["adopt", "--table=happenings", "--map=occurred_at=at", "--tz=Africa/Casablanca"]
    done = subprocess.run([*MAIN, *command, "--yes"], env=older, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    insert_local(conn, ["2026-12-01 12:00"], "before")
    renewed = run_cli("migrate", DATABASE_URL=database_url)
    message = "Local times of public.happenings now follow the current rules of Africa/Casablanca."
    assert message in renewed.stderr
    assert message not in run_cli("migrate", DATABASE_URL=database_url).stderr
    insert_local(conn, ["2026-12-01 12:00"], "after")
    moments = dict(run_sql(conn, "select event_name, occurred_at from events"))
    assert moments == {
        "before": datetime(2026, 12, 1, 11, tzinfo=UTC),
        "after": datetime(2026, 12, 1, 12, tzinfo=UTC),
    }
    checked = adopt("--table=happenings", "--check")
    assert "2026-12-01: 2 rows, 1 events, missing 0, taken 1" in checked.stdout
    assert checked.exit_code == 1


@pytest.mark.parametrize(
    ("name", "is_other_tzdata", "told"),
    [
        (
            "Africa/Casablanca",
            True,
            "  2 with a local time that PostgreSQL's rules of Africa/Casablanca read differently: "
            f"those of tzdata {VERSION} were used\n",
        ),
        ("Europe/Berlin", True, ""),  # it is winter
        ("Africa/Casablanca", False, ""),
    ],
)
def test_other_rules_of_postgresql_are_told(
    conn: connection, database_url: str, tmp_path: Path, name: str, is_other_tzdata: bool, told: str
) -> None:
    """All know that clocks of Casablanca were at UTC in March 2025, but for this tzdata."""
    make_tzdata(tmp_path, {"Africa/Casablanca": 1, "Europe/Berlin": 1})
    run_sql(conn, HAPPENINGS)
    insert_local(conn, ["2025-03-10 12:00", "2025-03-11 12:00", "2025-01-10 12:00"], "x")
    rules = {"PYTHONPATH": str(tmp_path)} if is_other_tzdata else {}
    command = ["adopt", "--table=happenings", "--map=occurred_at=at", f"--tz={name}", "--yes"]
    environment = {**os.environ, "DATABASE_URL": database_url, **rules}
    done = subprocess.run([*MAIN, *command], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"3 rows, 3 events, rejected 0\n{told}Folded " in done.stdout


def test_a_released_table_leaves_no_function(adopt: Adopt, conn: connection) -> None:
    run_sql(conn, HAPPENINGS)
    adopt("--table=happenings", "--map=occurred_at=at", "--tz=Europe/Berlin")
    ours = "select proname from pg_proc where proname like 'adopted\\_%%\\_%%1'"
    assert len(run_sql(conn, ours)) == 2
    adopt("--table=happenings", "--release")
    assert run_sql(conn, ours) == []


JSON = [
    '{"a": "\\u0000"}',
    '{"a": "\\ud800"}',
    '{"a": 1',
    "",
    '{"a": 1e131071}',
    '"x"',
    '{"b": [2]}',
]


@pytest.mark.parametrize("kind", ["json", "text"])
def test_json_that_jsonb_cannot_hold_is_left_out(adopt: Adopt, conn: connection, kind: str) -> None:
    run_sql(
        conn,
        "create type kinds as enum ('view'); create domain names as text; create table happenings "
        f"(event_id names, event_name kinds, occurred_at timestamptz, properties {kind})",
    )
    adopt("--table=happenings")
    texts = [text for text in JSON if kind == "text" or text not in ('{"a": 1', "")]
    for n, text in enumerate(texts):
        values = (f"k{n}", text)
        run_sql(conn, "insert into happenings values (%s, 'view', '2025-06-01', %s)", *values)
    stored = [properties for *_, properties in stored_events(conn).values()]
    assert sorted(stored, key=str) == [{"b": [2]}, {}] if kind == "text" else [{"b": [2]}]
    assert event_id_of(f"k{len(texts) - 1}", "public.happenings") in stored_events(conn)


@pytest.mark.parametrize("kind", ["json", "text", "jsonb"])
def test_json_that_would_not_be_kept_as_it_is_is_left_out(
    adopt: Adopt, conn: connection, kind: str
) -> None:
    """As `load` and `POST /events` leave it out, whether it is copied or comes in."""
    twice = [
        '{"a": 1, "a": ":"}',
        '{"b": [{"a": 1 , "a": 1}]}',
        r'{"a": 1, "a": 2, "h": "\u003cb\u003e"}',  # as Go's encoding/json writes <b>
        r'{"b": {"a": "\u003a", "a": "\u003A"}, "c": "\\\u003a"}',
        r'{"\u003a": 1, ":": 2}',
        r'{"a": "\\u003a", "a": 1}',
    ]
    huge = ['{"a": 1e309}', '{"a": [-1.8e308]}', '{"a": {"b": %s}}' % ("9" * 309)]
    good = [
        '{"a": "%s", "b:": 1.7e308}' % ("9" * 400),
        '{"a": {"a": ":\\u00fc"}}',
        '{"\\\\u003a": 1}',
        r'{"a": {"h": "\u003cb\u003e: \u003a\u003A \\u003a \\\u003a"}, "h": "\\\\\u003A"}',
    ]
    run_sql(
        conn,
        "create table happenings (id serial primary key, event_name text, "
        f"occurred_at timestamptz, properties {kind})",
    )
    columns = "event_name, occurred_at, properties"
    row = f"insert into happenings ({columns}) values ('a', '2025-06-01', %s)"
    for text in (*twice, *huge, *good):
        run_sql(conn, row, text)
    adopt("--table=happenings")
    for text in (*twice, *huge, *good):
        run_sql(conn, row, text)
    checked = adopt("--table=happenings", "--check").stdout
    expected = 2 * len(good) + (2 * len(twice) if kind == "jsonb" else 0)
    assert f"26 rows, {expected} events, rejected {26 - expected}\n" in checked
    assert "  6 rejected: properties must not hold numbers beyond 1.8e308\n" in checked
    assert ("  12 rejected: properties must not have a key twice\n" in checked) == (kind != "jsonb")
    stored = [json.dumps(properties) for *_, properties in stored_events(conn).values()]
    assert not any(text in stored for text in huge)


@pytest.mark.parametrize("kind", ["json", "text", "jsonb"])
def test_a_column_replaces_no_other_value_of_properties(
    adopt: Adopt, conn: connection, kind: str
) -> None:
    run_sql(
        conn,
        "create table happenings (id serial primary key, event_name text, "
        f"occurred_at timestamptz, plan text, properties {kind})",
    )
    columns = "event_name, occurred_at, plan, properties"
    row = f"insert into happenings ({columns}) values ('a', '2025-06-01', %s, %s)"
    rows = [
        ("pro", '{"plan": "free"}'),
        (None, '{"plan": "free"}'),
        ("pro", '{"plan": "pro"}'),
        ("pro", '{"a": {"plan": 1}}'),
        ("pro", None),
        ("pro", '["plan"]'),
    ]
    for values in rows:
        run_sql(conn, row, *values)
    adopt("--table=happenings", "--property=plan")
    for values in rows:
        run_sql(conn, row, *values)
    checked = adopt("--table=happenings", "--check").stdout
    assert "12 rows, 6 events, rejected 6\n" in checked
    reason = "properties must not have another value than the column plan"
    assert f"  4 rejected: {reason}\n" in checked
    assert "  2 rejected: properties must be an object\n" in checked
    stored = [properties for *_, properties in stored_events(conn).values()]
    expected = [{"plan": "pro"}, {"plan": "pro"}, {"a": {"plan": 1}, "plan": "pro"}]
    assert sorted(stored, key=str) == sorted(2 * expected, key=str)


REFUSED = {
    "no table is named nothing: write SCHEMA.TABLE in exact upper and lower case": (
        "select 1",
        ("--table=nothing",),
    ),
    "events is the table of events of this service": ("select 1", ("--table=events",)),
    "seen is not a table, and only tables can be adopted": (
        "create view seen as select 1 as id",
        ("--table=seen",),
    ),
    "plain has no primary key: name a unique column with --map event_id=COLUMN": (
        "create table plain (event_name text, occurred_at timestamptz)",
        ("--table=plain",),
    ),
    "no table is named Plane: did you mean old.planes or plain?": (
        "create table plain (id int primary key); create schema old; create table old.planes ()",
        ("--table=Plane",),
    ),
    "no table is named evnts: write SCHEMA.TABLE in exact upper and lower case": (
        "select 1",
        ("--table=evnts",),
    ),
    "no column is named event_name: add --map event_name=COLUMN, one of id, occurred_at, or --set "
    "event_name=VALUE": (
        "create table plain (id int primary key, occurred_at timestamptz)",
        ("--table=plain",),
    ),
    "event_name of --set must be at most 200 bytes long": (
        "create table plain (id int primary key, occurred_at timestamptz)",
        ("--table=plain", f"--set=event_name={'x' * 201}"),
    ),
    "plain has no stored column nam; it has id, name, occurred_at": (
        "create table plain (id int primary key, name text, occurred_at timestamptz)",
        ("--table=plain", "--map=event_name=nam"),
    ),
    "occurred_at is timestamp without time zone: name its time zone with --tz": (
        "create table plain (id int primary key, event_name text, occurred_at timestamp)",
        ("--table=plain",),
    ),
    "occurred_at is bigint: name its unit since 1970 with --epoch s, ms, us or ns": (
        "create table plain (id int primary key, event_name text, occurred_at bigint)",
        ("--table=plain",),
    ),
    "occurred_at is text, which cannot be occurred_at": (
        "create table plain (id int primary key, event_name text, occurred_at text)",
        ("--table=plain",),
    ),
    "id is double precision, which cannot be event_id": (
        "create table plain (id float8 primary key, event_name text, occurred_at timestamptz)",
        ("--table=plain",),
    ),
    "properties is hstores, which cannot be properties": (
        "create type hstores as (a int); create table plain (id int primary key, event_name text, "
        "occurred_at timestamptz, properties hstores)",
        ("--table=plain",),
    ),
    "plain has tables that inherit from it: adopt each of them": (
        "create table plain (id int primary key, event_name text, occurred_at timestamptz); "
        "create table heir () inherits (plain)",
        ("--table=plain",),
    ),
    "public.plain was never adopted": (
        "create table plain (id int primary key)",
        ("--table=plain", "--check"),
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_adopted_is_told(adopt: Adopt, conn: connection, message: str) -> None:
    statement, options = REFUSED[message]
    run_sql(conn, statement)
    refused = adopt(*options)
    assert refused.stderr == f"Error: {message}\n"
    assert refused.exit_code == 1
    assert run_sql(conn, "select from adopted_tables") == []


def test_a_map_is_not_given_twice(adopt: Adopt) -> None:
    refused = adopt(*ADOPT, "--check")
    assert refused.exit_code == 2
    assert "use --check and --release without other options" in refused.stderr


def test_a_role_that_may_not_is_told(adopt: Adopt, conn: connection, platform_url: str) -> None:
    with connected(platform_url) as platform:
        repo = AdoptRepo(platform)
        platform.autocommit = False
        with pytest.raises(Exception, match="cannot get triggers from this role"):
            repo.find("app_events")


def test_writers_do_not_wait_long_for_who_waits_for_them(
    platform_url: str, conn: connection, database_url: str
) -> None:
    """A transaction that stays open holds up the adoption, and nobody else for long."""
    owner = psycopg2.connect(database_url)
    repo = AdoptRepo(owner)
    table, adoption_names = repo.find("app_events")
    names = {"event_name": "type", "occurred_at": "created_at"}
    made = make_mapping(table, names, tz="UTC")
    with connected(platform_url) as first, connected(platform_url) as second:
        run_sql(first, "begin; " + GOOD)
        with pytest.raises(LockHeld):
            repo.install(table, made, adoption_names, 50)
        installing = threading.Thread(
            target=steps.install, args=(repo, table, made, adoption_names)
        )
        installing.start()
        longest = 0.0
        for _ in range(100):
            began = time.monotonic()
            run_sql(second, GOOD)
            longest = max(longest, time.monotonic() - began)
            time.sleep(0.01)
        assert installing.is_alive()
        assert longest < 1
        run_sql(first, "commit")
        installing.join()
        run_sql(second, GOOD)
    owner.close()
    assert len(stored_events(conn)) == 1


def test_rows_that_move_while_they_are_copied_are_found(
    platform_url: str, conn: connection, database_url: str
) -> None:
    """An update may put a row where it was copied already."""
    owner = psycopg2.connect(database_url)
    repo = AdoptRepo(owner)
    table, adoption_names = repo.find("app_events")
    names = {"event_name": "type", "occurred_at": "created_at", "user_id": "account_id"}
    made = make_mapping(table, {**names, "properties": "payload"}, tz="Europe/Berlin")
    run_sql(conn, "delete from app_events where id <= 300")
    run_sql(conn, "vacuum app_events")
    adoption = steps.install(repo, table, made, adoption_names)

    def move(pages: int) -> None:
        run_sql(conn, "update app_events set seen = true where id > 2900 and not seen")

    steps.Copier(repo, adoption, batch=100, progress=move).copy()
    moved = steps.compare_rows(repo.compare(adoption)).total.others["missing"]
    assert moved > 0
    assert repo.copy_missing(adoption) == moved
    owner.close()
    assert_each_row_is_an_event(conn)


def test_a_large_copy_goes_through_the_trigger(adopt: Adopt, conn: connection) -> None:
    make_table(conn)
    adopt(*ADOPT)
    make = "select 1, 'view', timestamp '2025-06-01', '{}' from generate_series(1, 20000)"
    run_sql(conn, f"insert into app_events (account_id, type, created_at, payload) {make}")
    assert len(stored_events(conn)) == 20_000


SESSION = "set timezone = 'Asia/Tokyo'; set datestyle = 'German'; set extra_float_digits = -5; "


def test_what_a_session_has_set_changes_no_event(adopt: Adopt, conn: connection) -> None:
    """Neither the ids nor the properties: what the trigger makes is what the copy would make."""
    run_sql(
        conn,
        "create table happenings (at timestamptz, n numeric, event_name text, day date, "
        "primary key (n, at))",
    )
    options = ("--table=happenings", "--map=occurred_at=at", "--property=day", "--property=at")
    adopt(*options)
    run_sql(
        conn,
        SESSION
        + "insert into happenings values ('2025-06-01 00:00:00.5+09', 1.50, 'a', '2025-05-01'); "
        "reset all",
    )
    ((event_id, (_, _, _, properties)),) = stored_events(conn).items()
    instant = datetime.fromisoformat("2025-05-31T15:00:00.5+00:00")
    assert event_id == event_id_of(f"{{1.50,{instant.timestamp():.6f}}}", "public.happenings")
    assert properties == {"at": "2025-05-31T15:00:00.5+00:00", "day": "2025-05-01"}
    assert "Copied 0 events" in adopt(*options).stdout


_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SECONDS = re.compile(r"\d+\.\d s[.;]")


def test_the_walk_through_is_true(adopt: Adopt, conn: connection) -> None:
    """Each command of docs/adopt.md says what is printed there, times aside."""
    table, *blocks = _BLOCK.findall(DOCS.read_text())
    run_sql(conn, table[1])
    fill_table(conn, 3000)
    run_sql(conn, "vacuum analyze app_events")
    commands = [
        (shlex.split(sh)[3:], shown)
        for (_, sh), (_, shown) in zip(blocks[::2], blocks[1::2], strict=True)
    ]
    for arguments, output in commands:
        done = adopt(*arguments, asked="y\n" if "--map" in arguments else "")
        assert _SECONDS.sub("", done.output) == _SECONDS.sub("", output)
    assert len(commands) == 3
