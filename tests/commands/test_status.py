"""`python main.py status`: what works, and what needs somebody to act, with the command to run."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from click.testing import Result
from psycopg2.extensions import connection

from config.database import connect
from repo.migrate import migrations
from services.api_key_secrets import digest_of
from services.embedded import embedded_servers
from tests.adoption import MAP, make_table, run_sql
from tests.cli import run_cli
from tests.events import insert
from tests.live_server import running
from tests.servers import PASSWORD, Cluster, as_role
from tests.tempdirs import temp_dir
from tests.wait_until import wait_until

NOW = datetime.now(UTC)
APPLIED = len(migrations())
Status = Callable[..., Result]


@pytest.fixture
def status(database_url: str, redis_url: str) -> Status:
    urls = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "ANALYTICS_COMMAND": "ours"}

    def call(*arguments: str, **environment: str) -> Result:
        return run_cli("status", *arguments, **{**urls, **environment})

    return call


def check_of(done: Result, name: str, subject: str | None = None) -> dict[str, Any]:
    """One check of what --json printed."""
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    checks: list[dict[str, Any]] = json.loads(done.stdout)["checks"]
    (found,) = [check for check in checks if (check["name"], check["subject"]) == (name, subject)]
    return found


def needs(done: Result, name: str, summary: str, action: str, subject: str | None = None) -> None:
    """The check says so, and the exit code that there is something to do."""
    found = check_of(done, name, subject)
    assert (found["state"], found["summary"], found["action"]) == ("action", summary, action)
    assert done.exit_code == 1
    assert json.loads(done.stdout)["healthy"] is False


def is_fine(done: Result, name: str, summary: str, subject: str | None = None) -> None:
    found = check_of(done, name, subject)
    assert (found["state"], found["summary"], found["action"]) == ("ok", summary, None)


def fold(database_url: str) -> None:
    assert run_cli("rollup", "--once", DATABASE_URL=database_url).exit_code == 0


def test_a_healthy_service_is_one_screen(
    status: Status, conn: connection, database_url: str
) -> None:
    insert(conn, ("u", "view", NOW - timedelta(days=1)), ("u", "view", NOW))
    fold(database_url)
    done = status()
    assert (done.exit_code, done.stderr) == (0, "")
    head, empty, *lines, before_last, last = done.stdout.splitlines()
    assert head.startswith("Analytics Service 0.2.0, PostgreSQL ")
    assert (empty, before_last, last) == ("", "", "Healthy.")
    assert [line[:32].rstrip() for line in lines] == [
        "ok       schema",
        "ok       rollups",
        "ok       columns",
        "ok       column paths",
        "ok       daily statistics",
        "ok       catalogue",
        "ok       future events",
        "ok       keys",
        "ok       retention",
        "ok       disk",
        "ok       redis",
        "ok       cache of erased users",
    ]
    assert f"{APPLIED} migrations applied, 0 pending" in lines[0]
    assert "all events folded; last fold " in lines[1]
    assert "all folded events written, last batch " in lines[2]
    assert lines[3].endswith("0 of at most 2,000 properties have columns")
    assert lines[7].endswith(
        "1 active (1 read, 1 write, 0 admin), 0 revoked, 0 expired; never used"
    )


def test_programs_get_json(status: Status, conn: connection, database_url: str) -> None:
    insert(conn, ("u", "view", NOW))
    fold(database_url)
    found = json.loads(status("--json").stdout)
    assert (found["version"], found["healthy"]) == ("0.2.0", True)
    assert found["role"] == run_sql(conn, "select current_user::text")[0][0]
    checked_at = datetime.fromisoformat(found["checked_at"])
    assert abs(checked_at - datetime.now(UTC)) < timedelta(minutes=5)
    values = {check["name"]: check["values"] for check in found["checks"]}
    assert values["schema"] == {"applied": APPLIED, "pending": 0}
    folded_at, age = values["rollups"].pop("last_fold_at"), values["rollups"].pop("lag_s")
    assert abs(datetime.fromisoformat(folded_at) - checked_at) < timedelta(minutes=5)
    assert age == 0
    assert values["rollups"] == {
        "answers_from": "rollups",
        "state": "ok",
        "unfolded_events": 0,
        "rollup_workers": 0,
        "generations_in_progress": 0,
    }
    parts = {"events", "daily statistics", "rollups", "columns"}
    assert set(values["disk"]["table_bytes"]) == parts
    assert values["cache_of_erased_users"] == {"pending": False}


def test_columns_that_are_not_written_need_a_worker(
    status: Status, conn: connection, database_url: str
) -> None:
    insert(conn, *[("u", "view", NOW, {"plan": "pro"})] * 2)
    fold(database_url)
    found = check_of(status("--json"), "columns")
    assert (found["state"], found["values"]["chunks"]) == ("ok", 1)
    assert found["values"]["written_at"] is not None
    run_sql(conn, "update column_state set snapshot = '3:3:', written_at = now() - interval '1 h'")
    done = status("--json")
    found = check_of(done, "columns")
    needs(
        done,
        "columns",
        found["summary"],
        "no rollup worker is connected: start `ours serve`, or `ours rollup`",
    )
    assert found["summary"].startswith("2 events not written yet, last batch 60 min ago; 1 chunk, ")
    assert found["values"]["lag_events"] == 2


def test_a_backfill_of_columns_shows_how_far_it_is(
    status: Status, conn: connection, database_url: str
) -> None:
    insert(conn, *[("u", "view", NOW - timedelta(days=n)) for n in range(5)])
    fold(database_url)
    run_sql(conn, "update column_state set backfilled_from = now() - interval '60 h'")
    with closing(connect(database_url, "analytics-rollup")):
        found = check_of(status("--json"), "columns")
    assert (found["state"], found["values"]["state"]) == ("ok", "building")
    assert found["values"]["backfill_events"] == 2
    assert "about 2 older events to go, which filters may not read yet" in found["summary"]
    run_sql(conn, "update column_state set written_at = now() - interval '11 min'")
    with closing(connect(database_url, "analytics-rollup")):
        action = "a rollup worker is connected but writes no columns: see its log"
        needs(done := status("--json"), "columns", check_of(done, "columns")["summary"], action)


def test_erased_users_who_stay_in_columns_need_a_look(
    status: Status, conn: connection, database_url: str
) -> None:
    insert(conn, ("u", "view", NOW))
    fold(database_url)
    run_sql(conn, "insert into columns_erasures values (7, 1, now() - interval '25 h')")
    with closing(connect(database_url, "analytics-rollup")):
        found = check_of(status("--json"), "columns")
    assert found["summary"].endswith(
        "; 1 erased user still to be removed from chunks, and in no answer"
    )
    assert found["action"] == (
        "erased users have been in chunks for a day: see the log of the rollup worker"
    )


def test_properties_that_are_left_out_need_a_higher_limit(
    status: Status, conn: connection, database_url: str
) -> None:
    insert(conn, ("u", "view", NOW, {"a": 1, "b": 2, "c": 3}))
    environment = {"DATABASE_URL": database_url, "ANALYTICS_COLUMN_PATHS": "2"}
    assert run_cli("rollup", "--once", **environment).exit_code == 0
    needs(
        status("--json", ANALYTICS_COLUMN_PATHS="2"),
        "column_paths",
        "2 of at most 2 properties have columns; others are left out, and cannot be filtered by",
        "raise ANALYTICS_COLUMN_PATHS, or send fewer different properties",
    )
    is_fine(
        status("--json"),
        "column_paths",
        "2 of at most 2,000 properties have columns; others were left out before, and get columns "
        "with their next events",
    )


def test_an_empty_database_needs_nothing(status: Status) -> None:
    done = status("--json")
    is_fine(done, "rollups", "no events are stored yet")
    assert done.exit_code == 0


def test_events_without_rollups_need_a_worker(status: Status, conn: connection) -> None:
    insert(conn, ("u", "view", NOW))
    needs(
        status("--json"),
        "rollups",
        "not built yet: questions are answered from the events, exactly but more slowly",
        "start `ours serve`, or run `ours rollup --once`",
    )
    assert "-> start `ours serve`, or run `ours rollup --once`" in status().stdout
    assert status().stdout.endswith("\n1 thing needs action.\n")


def test_rollups_of_another_cluster_need_a_worker(
    status: Status, conn: connection, database_url: str
) -> None:
    insert(conn, ("u", "view", NOW))
    fold(database_url)
    run_sql(conn, "update fold_state set cluster = cluster + 1")
    done = status("--json")
    summary = (
        "of the database that this one was restored from: "
        "questions are answered from the events, exactly but more slowly"
    )
    needs(done, "rollups", summary, "start `ours serve`, or run `ours rollup --once`")
    assert check_of(done, "rollups")["values"]["answers_from"] == "events"
    with closing(connect(database_url, "analytics-rollup")):
        assert check_of(status("--json"), "rollups")["state"] == "ok"


def test_a_worker_that_does_not_fold_is_told(
    status: Status, conn: connection, database_url: str
) -> None:
    insert(conn, ("u", "view", NOW))
    fold(database_url)
    insert(conn, *[("u", "view", NOW)] * 3)
    run_sql(conn, "update fold_state set folded_at = now() - interval '2 hours'")
    summary = "3 events not folded yet, for up to 2 h; last fold 2 h ago"
    without = "no rollup worker is connected: start `ours serve`, or `ours rollup`"
    done = status("--json")
    needs(done, "rollups", summary, without)
    values = check_of(done, "rollups")["values"]
    assert (values["unfolded_events"], round(values["lag_s"], -2)) == (3, 7200)
    with closing(connect(database_url, "analytics-rollup")):
        stuck = "a rollup worker is connected but does not fold: see its log"
        needs(status("--json"), "rollups", summary, stuck)


def rollup_sessions(conn: connection) -> int:
    with conn.cursor() as cur:
        cur.execute(
            "select count(*) from pg_stat_activity "
            "where datname = current_database() and application_name like 'analytics-rollup%'"
        )
        (count,) = cur.fetchone() or (0,)
        return int(count)


def test_days_that_wait_are_told(status: Status, conn: connection, database_url: str) -> None:
    insert(conn, ("u", "view", NOW))
    fold(database_url)
    run_sql(
        conn, "insert into daily_stats_queue values ('UTC', '2025-01-01'), ('UTC', '2025-01-02')"
    )
    wait_until(lambda: rollup_sessions(conn) == 0, timeout_s=10)  # of the command, which has ended
    needs(
        status("--json"),
        "daily_statistics",
        "2 days to be recomputed",
        "run `ours rollup --once`",
    )
    with closing(connect(database_url, "analytics-rollup")):
        is_fine(status("--json"), "daily_statistics", "2 days to be recomputed")
        run_sql(conn, "update day_users set counted_at = now() - interval '3 hours'")
        summary = "2 days to be recomputed, and none was for 3 h"
        log = "see the log of the rollup worker: it names the days that fail"
        needs(status("--json"), "daily_statistics", summary, log)


def test_the_age_of_the_catalogue_is_told(
    status: Status, conn: connection, database_url: str
) -> None:
    is_fine(status("--json"), "catalogue", "properties are counted by each question")
    run_sql(conn, "insert into catalogue_counts values (true, now(), pg_current_snapshot(), '')")
    age = "update catalogue_counts set counted_at = now() - interval '{}'"
    run_sql(conn, age.format("3 minutes"))
    is_fine(status("--json"), "catalogue", "properties were counted 3 min ago")
    run_sql(conn, age.format("2 hours"))
    summary = "properties were counted 2 h ago"
    wait_until(lambda: rollup_sessions(conn) == 0, timeout_s=10)
    without = "no rollup worker is connected: start `ours serve`, or `ours rollup`"
    needs(status("--json"), "catalogue", summary, without)
    with closing(connect(database_url, "analytics-rollup")):
        stuck = "a rollup worker is connected but does not count them: see its log"
        needs(status("--json"), "catalogue", summary, stuck)
    run_sql(conn, "truncate catalogue_counts")


def test_events_of_the_future_are_told(status: Status, conn: connection, database_url: str) -> None:
    later = NOW + timedelta(hours=20)
    insert(conn, ("u", "view", NOW), ("u", "view", later), ("u", "view", later))
    fold(database_url)
    day = f"{later:%Y-%m-%d}"
    summary = f"2 events from {day} to {day}, which count from their time on"
    is_fine(status("--json"), "future_events", summary)


def test_migrations_that_are_missing_are_told(status: Status, conn: connection) -> None:
    run_sql(
        conn,
        "delete from schema_migrations where number = (select max(number) from schema_migrations)",
    )
    done = status("--json")
    needs(done, "schema", f"{APPLIED - 1} migrations applied, 1 pending", "run `ours migrate`")
    assert check_of(done, "schema")["values"] == {"applied": APPLIED - 1, "pending": 1}


def test_a_newer_schema_is_fine(status: Status, conn: connection) -> None:
    run_sql(conn, "insert into schema_migrations values (9999, 'later', 'x')")
    summary = (
        f"{APPLIED + 1} migrations applied, 0 pending; "
        "1 of them belong to a newer version of this program"
    )
    is_fine(status("--json"), "schema", summary)


def test_keys_are_counted_by_scope(status: Status, conn: connection) -> None:
    keys = {
        "('a', 'read,admin', null, null, '2026-02-03T04:05Z')",
        "('b', 'write', null, now(), null)",
        "('c', 'write', now() - interval '1 hour', null, null)",
        "('d', 'read', now() + interval '1 hour', null, null)",
    }
    run_sql(
        conn,
        "insert into api_keys (name, digest, hint, scopes, ends_at, revoked_at, last_used_at) "
        "select name, sha256(name::bytea), 'ask_', string_to_array(scopes, ','), ends, revoked, "
        "used::timestamptz from (values " + ",".join(sorted(keys)) + ") as k "
        "(name, scopes, ends, revoked, used)",
    )
    summary = "3 active (3 read, 1 write, 1 admin), 1 revoked, 1 expired; last used on 2026-02-03"
    done = status("--json")
    is_fine(done, "keys", summary)
    assert check_of(done, "keys")["values"] == {
        "active": 3,
        "read": 3,
        "write": 1,
        "admin": 1,
        "revoked": 1,
        "expired": 1,
        "last_used_at": "2026-02-03T04:05:00Z",
    }


def test_without_a_key_one_has_to_be_made(status: Status, conn: connection) -> None:
    run_sql(conn, "update api_keys set revoked_at = now()")
    summary = "0 active (0 read, 0 write, 0 admin), 1 revoked, 0 expired; never used"
    needs(status("--json"), "keys", summary, "create one: `ours keys create NAME --scope read`")


def test_old_events_that_are_not_all_dropped_are_told(
    status: Status, conn: connection, database_url: str
) -> None:
    insert(conn, ("u", "view", datetime(2025, 1, 1, tzinfo=UTC)))
    fold(database_url)
    run_sql(conn, "insert into retention (takes_from) values ('2025-06-01Z')")
    summary = "events before 2025-06-01 are rejected, but not all were dropped"
    action = "run `ours retain --raw AGE` again, with the AGE of that run"
    needs(status("--json"), "retention", summary, action)
    run_sql(conn, "update retention set horizon = takes_from")
    needs(status("--json"), "retention", summary, action)
    with closing(connect(database_url, "analytics-retain")):
        running = "events before 2025-06-01 are rejected and are being dropped"
        is_fine(status("--json"), "retention", running)
    run_sql(conn, "begin; set local analytics.reason = 'retain'; delete from events; commit")
    done = status("--json")
    is_fine(done, "retention", "events before 2025-06-01 are rejected and were dropped")
    assert check_of(done, "retention")["values"] == {
        "horizon": "2025-06-01T00:00:00Z",
        "refused_before": "2025-06-01T00:00:00Z",
        "is_complete": True,
    }


@pytest.mark.parametrize(
    ("damage", "summary", "action"),
    [
        ("", "new rows become events; 1 row rejected", None),
        (
            "alter table app_events disable trigger analytics_adopt",
            "the trigger is disabled; 1 row rejected",
            "ALTER TABLE public.app_events ENABLE TRIGGER analytics_adopt, then run "
            "`ours adopt --table public.app_events`",
        ),
        (
            "drop trigger analytics_adopt on app_events",
            "the trigger is missing; 1 row rejected",
            "run `ours adopt --table public.app_events` with its options again",
        ),
        (
            "update adopted_parts set copied = pages - 1",
            "1 page not copied yet; 1 row rejected",
            "run `ours adopt --table public.app_events` with its options again",
        ),
        (
            "update adopted_tables set released_at = now()",
            "released, but its trigger exists; 1 row rejected",
            "run `ours adopt --table public.app_events --release`",
        ),
        (
            "drop table app_events",
            "the table does not exist any more; its events are kept; 1 row rejected",
            None,
        ),
    ],
    ids=["adopted", "disabled", "missing", "cut off", "half released", "gone"],
)
def test_each_adopted_table_has_its_state(
    status: Status,
    conn: connection,
    database_url: str,
    damage: str,
    summary: str,
    action: str | None,
) -> None:
    make_table(conn, 100)
    adopted = run_cli("adopt", "--table=app_events", *MAP, "--yes", DATABASE_URL=database_url)
    assert adopted.exit_code == 0, adopted.output
    if damage:
        run_sql(conn, damage)
    done = status("--json")
    if action:
        needs(done, "adopted_table", summary, action, "public.app_events")
    else:
        is_fine(done, "adopted_table", summary, "public.app_events")


def test_a_table_that_is_released_is_told(
    status: Status, conn: connection, database_url: str
) -> None:
    make_table(conn)
    run_cli("adopt", "--table=app_events", *MAP, "--yes", DATABASE_URL=database_url)
    run_cli("adopt", "--table=app_events", "--release", "--yes", DATABASE_URL=database_url)
    is_fine(status("--json"), "adopted_table", "released", "public.app_events")


def test_answers_about_erased_users_are_told_until_a_service_has_dropped_them(
    status: Status, conn: connection, database_url: str, redis_url: str
) -> None:
    insert(conn, ("some-user", "view", NOW))
    erased = run_cli("erase", "some-user", "--yes", DATABASE_URL=database_url, REDIS_URL=redis_url)
    assert erased.exit_code == 0, erased.output
    needs(
        status("--json"),
        "cache_of_erased_users",
        "not confirmed as deleted since the last erasure",
        "start the service, which deletes them within seconds; if it does not, see its log",
    )
    name, is_dropped = "cache_of_erased_users", "deleted since the last erasure"
    with running(database_url, redis_url):
        wait_until(lambda: check_of(status("--json"), name)["state"] == "ok", timeout_s=10)
    is_fine(status("--json"), name, is_dropped)


@pytest.fixture
def silent_server() -> Iterator[str]:
    """It takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"redis://127.0.0.1:{listening.getsockname()[1]}/0"


def test_redis_that_is_away_or_silent_is_told(status: Status, silent_server: str) -> None:
    summary = "unreachable: questions are answered without a cache, and limits are not enforced"
    for url in ("redis://127.0.0.1:1/0", silent_server):
        needs(status("--json", REDIS_URL=url), "redis", summary, "start it, or check REDIS_URL")


def test_a_database_at_its_limit_is_told(status: Status) -> None:
    done = status("--json", ANALYTICS_MAX_DATABASE_GB="0.001")
    found = check_of(done, "disk")
    assert (found["state"], done.exit_code) == ("action", 1)
    assert "no events are stored from 0.001 GB on (ANALYTICS_MAX_DATABASE_GB)" in found["action"]


def test_other_urls_are_tried(status: Status, cluster: Cluster, database_url: str) -> None:
    other = cluster.migrated_database()
    urls = {
        "ANALYTICS_INGEST_DATABASE_URL": as_role(database_url, "writer"),
        "ANALYTICS_QUERY_DATABASE_URL": as_role(other, "reader"),
        "ANALYTICS_ROLLUP_DATABASE_URL": "postgresql://x:secret-of-nobody@127.0.0.1:1/y",
    }
    done = status("--json", **urls)
    is_fine(done, "connection", "reachable", "ANALYTICS_INGEST_DATABASE_URL")
    needs(
        done,
        "connection",
        "leads to another database",
        "correct ANALYTICS_QUERY_DATABASE_URL, or DATABASE_URL",
        "ANALYTICS_QUERY_DATABASE_URL",
    )
    away = check_of(done, "connection", "ANALYTICS_ROLLUP_DATABASE_URL")
    assert away["state"] == "action"
    assert away["summary"].startswith("PostgreSQL cannot be reached")
    cluster.drop(other)


def test_the_role_of_questions_sees_most_of_it(
    status: Status, conn: connection, database_url: str
) -> None:
    insert(conn, ("u", "view", NOW))
    fold(database_url)
    done = status("--json", DATABASE_URL=as_role(database_url, "reader"))
    assert done.exit_code == 0
    states = {check["name"]: check["state"] for check in json.loads(done.stdout)["checks"]}
    assert states == {
        "schema": "ok",
        "rollups": "ok",
        "columns": "ok",
        "column_paths": "ok",
        "daily_statistics": "unknown",
        "catalogue": "ok",
        "future_events": "ok",
        "keys": "ok",
        "retention": "ok",
        "adopted_table": "unknown",
        "disk": "ok",
        "redis": "ok",
        "cache_of_erased_users": "ok",
    }
    text = status(DATABASE_URL=as_role(database_url, "reader")).stdout
    assert "this role may not read it: permission denied for table daily_stats_queue" in text
    assert text.endswith(
        "\nHealthy. analytics_test_reader may not read all of it: the owner of the tables may.\n"
    )


def test_a_table_that_is_locked_holds_up_only_its_check(
    status: Status, conn: connection, database_url: str
) -> None:
    with closing(psycopg2.connect(database_url)) as other, other.cursor() as cur:
        cur.execute("lock table api_keys in access exclusive mode")
        done = status("--json")
    found = check_of(done, "keys")
    told = ("action", "cannot be read: the query timed out")
    assert (found["state"], found["summary"]) == told
    assert check_of(done, "retention")["state"] == "ok"


def test_a_database_that_somebody_has_changed_is_told(status: Status, conn: connection) -> None:
    run_sql(conn, "alter table retention rename to other")
    done = status("--json")
    found = check_of(done, "retention")
    assert found["summary"] == 'cannot be read: relation "retention" does not exist'
    assert found["action"].startswith("if migrations are pending, run `ours migrate`; ")
    assert done.exit_code == 1
    assert check_of(done, "keys")["state"] == "ok"


def test_it_writes_nothing(status: Status, cluster: Cluster, database_url: str) -> None:
    name = database_url.rpartition("/")[2]
    cluster.execute(f'alter database "{name}" set default_transaction_read_only = on')
    assert status().exit_code == 0


def test_it_tells_no_secret_and_no_user(
    status: Status, conn: connection, database_url: str, redis_url: str
) -> None:
    insert(conn, ("the-user", "view", NOW), ("the-erased", "view", NOW))
    run_cli(
        "erase", "the-erased", "--yes", "--suppress",
        DATABASE_URL=database_url, REDIS_URL=redis_url,
    )  # fmt: skip
    run_sql(conn, "update api_keys set digest = %s", digest_of("ask_secret"))
    urls = {
        "DATABASE_URL": as_role(database_url, "reader"),
        "ANALYTICS_QUERY_DATABASE_URL": as_role(database_url, "reader"),
        "ANALYTICS_ROLLUP_DATABASE_URL": "postgresql://x:secret-of-nobody@127.0.0.1:1/y",
        "ANALYTICS_METRICS_TOKEN": "secret-of-metrics",
    }
    for form in ((), ("--json",)):
        output = status(*form, **urls).output
        for secret in (PASSWORD, "secret", "the-user", "the-erased", "ask_"):
            assert secret not in output


@pytest.mark.parametrize("login", ["u:the@secret", "u:the/secret", "the@secret"])
def test_a_password_that_is_not_encoded_is_not_told(status: Status, login: str) -> None:
    """libpq takes a part of it for the host or the port, and says so."""
    for setting in ("DATABASE_URL", "ANALYTICS_QUERY_DATABASE_URL"):
        done = status(**{setting: f"postgresql://{login}@127.0.0.1:1/db"})
        assert done.exit_code == 1
        assert "PostgreSQL cannot be reached: the user and the password in its URL" in done.output
        assert "secret" not in done.output
        assert "the@" not in done.output


def test_embedded_servers_that_do_not_run_are_not_started(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    done = run_cli("status", ANALYTICS_DATA_DIR=str(folder), ANALYTICS_COMMAND="ours")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: DATABASE_URL is not set, and no embedded servers run: set it, or start "
        "`ours serve`\n"
    )
    assert not folder.exists()


def test_embedded_servers_that_run_are_joined() -> None:
    """There the free space is known, and no key is needed."""
    with temp_dir("status") as folder, embedded_servers(folder):
        data_dir = {"ANALYTICS_DATA_DIR": str(folder)}
        assert run_cli("status", **data_dir).stderr.startswith("Error: the schema is missing")
        assert run_cli("migrate", **data_dir).exit_code == 0
        done = run_cli("status", "--json", **data_dir)
        assert check_of(done, "disk")["values"]["free_bytes"] > 0
        summary = (
            "0 active (0 read, 0 write, 0 admin), 0 revoked, 0 expired; never used; "
            "on this machine none is needed until one is created"
        )
        is_fine(done, "keys", summary)
        is_fine(done, "redis", "reachable")
        assert done.exit_code == 0
        away = run_cli("status", "--json", **data_dir, ANALYTICS_HOST="0.0.0.0")
        assert check_of(away, "keys")["state"] == "action"


def test_without_a_known_redis_it_is_told(status: Status, tmp_path: Path) -> None:
    done = status("--json", REDIS_URL="", ANALYTICS_DATA_DIR=str(tmp_path))
    needs(done, "redis", "no server is known", "set REDIS_URL, or start the service")
    assert check_of(done, "cache_of_erased_users")["state"] == "unknown"
    assert list(tmp_path.iterdir()) == []


FOREIGN = "create table events (id bigint); create table users (id bigint)"


@pytest.fixture(params=["unreachable", "unmigrated", "foreign"])
def unusable(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[tuple[str, str]]:
    """The URL of a database without a status, and what the error says of it."""
    if request.param == "unreachable":
        yield "postgresql://nobody@127.0.0.1:1/none", "PostgreSQL cannot be reached: "
        return
    url = cluster.empty_database()
    if request.param == "unmigrated":
        yield url, "the schema is missing: run `ours migrate`"
    else:
        with closing(psycopg2.connect(url)) as conn, conn, conn.cursor() as cur:
            cur.execute(FOREIGN)
        yield url, "tables of another program, owned by "
    cluster.drop(url)


def test_without_a_database_the_error_is_one_line(
    status: Status, unusable: tuple[str, str]
) -> None:
    url, message = unusable
    done = status(DATABASE_URL=url)
    assert (done.exit_code, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ")
    assert message in line


def test_without_a_database_json_has_the_error(status: Status, unusable: tuple[str, str]) -> None:
    url, message = unusable
    whole = json.loads(status("--json").stdout)
    assert whole["error"] is None
    done = status("--json", DATABASE_URL=url)
    assert done.exit_code == 1
    printed = json.loads(done.stdout)
    assert done.stderr == f"Error: {printed['error']}\n"
    assert message in printed.pop("error")
    assert printed == {
        "version": "0.2.0",
        "postgresql": None,
        "database": None,
        "role": None,
        "checked_at": None,
        "healthy": False,
        "checks": [],
    }
    assert printed.keys() | {"error"} == whole.keys()


def test_a_wrong_setting_is_an_error_in_json(status: Status) -> None:
    done = status("--json", ANALYTICS_MIN_FREE_MB="x")
    assert done.exit_code == 1
    assert "ANALYTICS_MIN_FREE_MB" in json.loads(done.stdout)["error"]
