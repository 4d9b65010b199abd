"""`python main.py erase`: it asks first, and tells what it did."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from psycopg2.extensions import connection

from commands.erase import erase as command
from repo.rollups.rollup_writer import RollupWriter
from tests.adoption import MAP, adopt_command, make_table
from tests.cli import run_cli
from tests.events import insert
from utils.time.zones import zone

NOON = "2026-11-20T12:00:00Z"

Erase = Callable[..., Result]


@pytest.fixture
def erase(database_url: str, redis_url: str, conn: connection) -> Erase:
    insert(conn, *((user, "view", NOON) for user in ("u", "v", "w", "two\u2028lines")))
    RollupWriter(conn, [zone("UTC")]).catch_up()
    urls = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}

    def call(*arguments: str, given: str = "", **more: str) -> Result:
        return run_cli("erase", *arguments, stdin=given, **{**urls, **more})

    return call


def users(conn: connection) -> list[str]:
    with conn.cursor() as cur:
        cur.execute("select user_id from events order by 1")
        return [user for (user,) in cur]


def test_it_asks_first(erase: Erase, conn: connection) -> None:
    refused = erase("u", given="n\n")
    assert refused.exit_code == 1
    assert "Erase 1 user with 1 event? This cannot be undone. [y/N]" in refused.stderr
    assert refused.stdout == ""
    assert len(users(conn)) == 4
    done = erase("u", "v", "u", given="y\n")
    assert done.exit_code == 0
    assert "Erase 2 users with 2 events?" in done.stderr
    assert [json.loads(line)["events"] for line in done.stdout.splitlines()] == [1, 1]
    assert users(conn) == ["two\u2028lines", "w"]


def test_a_file_of_users_and_a_list_of_those_who_do_not_come_back(
    erase: Erase, conn: connection, tmp_path: Path
) -> None:
    file = tmp_path / "users.txt"
    file.write_text("u\r\ntwo\u2028lines\n\nnobody\nu\n")
    done = erase("--file", str(file), "--yes", "--suppress")
    receipts = [json.loads(line) for line in done.stdout.splitlines()]
    assert [receipt["events"] for receipt in receipts] == [1, 1, 0]
    assert all(receipt["suppressed"] and receipt["cache_cleared"] for receipt in receipts)
    assert receipts[0]["first_month"] == "2026-11-01"
    assert receipts[0]["erased_at"].endswith("Z")
    insert(conn, ("u", "view", NOON), ("nobody", "view", NOON))
    assert users(conn) == ["v", "w"]
    lines = erase("--unsuppress", "u", "x").stdout.splitlines()
    assert lines[0] == "1 of 2 users were suppressed and no longer are."
    assert lines[1].startswith("2 users are suppressed, the first since ")
    assert erase("--suppressed").stdout == lines[1] + "\n"


def test_who_may_come_back_from_an_adopted_table_is_told(
    erase: Erase, conn: connection, database_url: str
) -> None:
    make_table(conn, 200)
    adopt = adopt_command(database_url)
    adopt("--table=app_events", *MAP)
    done = erase("7", "v", "--yes")
    receipts = [json.loads(line) for line in done.stdout.splitlines()]
    assert [receipt["events"] for receipt in receipts] == [4, 1]
    assert [receipt["may_return_from"] for receipt in receipts] == [["public.app_events"]] * 2
    assert done.exit_code == 0
    assert done.stderr == (
        "Adopted tables: public.app_events. Rows of these users that are still there become events "
        "again at the next adopt: delete them there, or repeat this command with --suppress.\n"
    )
    assert "Copied 4 events" in adopt("--table=app_events", *MAP).stdout
    done = erase("7", "--yes", "--suppress")
    assert (json.loads(done.stdout)["may_return_from"], done.stderr) == ([], "")
    assert "Copied 0 events" in adopt("--table=app_events", *MAP).stdout
    adopt("--table=app_events", "--release")
    assert json.loads(erase("8", "--yes").stdout)["may_return_from"] == ["public.app_events"]
    conn.cursor().execute("drop table app_events")
    assert json.loads(erase("9", "--yes").stdout)["may_return_from"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name users, or give a --file of users"),
        (["--yes", ""], "user 1 of 1: a user must be 1 to 256 bytes of UTF-8"),
        (["--yes", "u", "x" * 257], "user 2 of 2: a user must be 1 to 256 bytes of UTF-8"),
        (["--yes", "u", "\udcff"], "user 2 of 2: a user must be 1 to 256 bytes of UTF-8"),
        (["--suppress", "--unsuppress", "u"], "use one of --suppress, --unsuppress"),
    ],
)
def test_what_makes_no_sense_erases_nothing(arguments: list[str], message: str) -> None:
    """No server is asked."""
    refused = CliRunner().invoke(command, arguments)
    assert refused.exit_code == 2
    assert message in refused.output


def test_a_cache_that_is_away_is_told(erase: Erase, conn: connection) -> None:
    done = erase("u", "--yes", REDIS_URL="redis://127.0.0.1:1")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["cache_cleared"] is False
    assert "Redis cannot be reached" in done.stderr
    assert "u" not in users(conn)
    again = erase("u", "--yes")
    assert (again.exit_code, json.loads(again.stdout)["events"]) == (0, 0)
