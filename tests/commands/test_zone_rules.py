"""The rules of a zone change with tzdata, and the days whose edges moved are counted anew."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from psycopg2.extensions import connection

from repo.lifecycle.erasure import EraseRepo
from tests.database_clock import set_clock
from tests.events import insert
from tests.retention import drop
from tests.zone_rules import make_tzdata
from utils.time.zones import zone

MAIN = str(Path(__file__).parents[2] / "main.py")
DAY = timedelta(days=1)
Command = Callable[..., str]

# In 2026 clocks of Casablanca are at UTC from 15 February to 22 March, and from 20 September on.
# Apia had no 30 December 2011, when it went from 10 hours behind UTC to 14 ahead.
CASES = {
    "Africa/Casablanca": (1, datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 20, tzinfo=UTC)),
    "Pacific/Apia": (13, datetime(2011, 12, 20, tzinfo=UTC), datetime(2012, 2, 10, tzinfo=UTC)),
}


@pytest.fixture(params=CASES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def old_rules(tmp_path: Path, name: str) -> dict[str, str]:
    """For the environment of a command."""
    hours, *_ = CASES[name]
    make_tzdata(tmp_path, {name: hours})
    return {"PYTHONPATH": str(tmp_path)}


@pytest.fixture
def command(database_url: str, redis_url: str, name: str) -> Command:
    def run(*arguments: str, **more: str) -> str:
        urls = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
        environment = {**os.environ, **urls, "ANALYTICS_TIME_ZONES": name, **more}
        done = subprocess.run(
            [sys.executable, MAIN, *arguments], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture
def history(conn: connection, name: str) -> None:
    """Twenty users, at each full hour one of them, up to some days ago."""
    _, first, now = CASES[name]
    set_clock(conn, now)
    hours = (first + timedelta(hours=n) for n in range(30 * 24))
    insert(conn, *((f"u{n % 20}", "view", moment) for n, moment in enumerate(hours)))


def stored(conn: connection, name: str) -> dict[date, tuple[int, int]]:
    """Events and users of the days that have any."""
    with conn.cursor() as cur:
        cur.execute(
            "select day, events, dau from daily_users where zone = %s and events > 0", (name,)
        )
        return {day: (events, dau) for day, events, dau in cur}


def labelled(conn: connection, tz: ZoneInfo) -> dict[date, tuple[int, int]]:
    """The same by what clocks of the zone show, in plain Python."""
    with conn.cursor() as cur:
        cur.execute("select occurred_at, user_id from events")
        seen = [(instant.astimezone(tz).date(), user) for instant, user in cur]
    users = Counter(day for day, _ in set(seen))
    return {day: (events, users[day]) for day, events in Counter(d for d, _ in seen).items()}


def old_zone(name: str) -> ZoneInfo:
    hours, *_ = CASES[name]
    return ZoneInfo(f"Etc/GMT-{hours}")


def starts(conn: connection, *days: date) -> list[Any]:
    with conn.cursor() as cur:
        cur.execute("select starts_at from day_users where day = any(%s) order by day", ([*days],))
        return [instant.astimezone(UTC) for (instant,) in cur]


@pytest.mark.usefixtures("history")
def test_newer_rules_are_followed(
    conn: connection, command: Command, old_rules: dict[str, str], name: str
) -> None:
    command("rollup", "--once", **old_rules)
    assert stored(conn, name) == labelled(conn, old_zone(name))
    command("verify", **old_rules)
    assert "Folded 0 events" in command("rollup", "--once")
    assert stored(conn, name) == labelled(conn, zone(name)) != labelled(conn, old_zone(name))
    command("verify")


@pytest.mark.usefixtures("history")
def test_older_rules_are_followed(
    conn: connection, command: Command, old_rules: dict[str, str], name: str
) -> None:
    """As where a day is there anew."""
    command("rollup", "--once")
    command("rollup", "--once", **old_rules)
    assert stored(conn, name) == labelled(conn, old_zone(name))
    command("verify", **old_rules)


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize("name", ["Africa/Casablanca"])
def test_a_rebuild_corrects_the_edges(
    conn: connection, command: Command, old_rules: dict[str, str], name: str
) -> None:
    command("rollup", "--once", **old_rules)
    days = date(2026, 3, 10), date(2026, 4, 10)
    before = [datetime(2026, 3, 9, 23, tzinfo=UTC), datetime(2026, 4, 9, 23, tzinfo=UTC)]
    assert starts(conn, *days) == before
    command("rollup", "--rebuild")
    after = [datetime(2026, 3, 10, tzinfo=UTC), datetime(2026, 4, 9, 23, tzinfo=UTC)]
    assert starts(conn, *days) == after
    command("verify")


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize("name", ["Africa/Casablanca"])
def test_days_of_dropped_events_are_counted_anew_as_well(
    conn: connection,
    database_url: str,
    command: Command,
    old_rules: dict[str, str],
    name: str,
) -> None:
    command("rollup", "--once", **old_rules)
    truth = labelled(conn, zone(name))
    assert drop(database_url, [], datetime(2026, 3, 20, tzinfo=UTC)) > 400
    command("rollup", "--once")
    assert stored(conn, name) == truth
    command("verify")


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize("name", ["Africa/Casablanca"])
def test_an_erased_user_is_in_no_day_of_either_rules(
    conn: connection, command: Command, old_rules: dict[str, str], name: str
) -> None:
    """Erased before the days are counted by the newer ones."""
    command("rollup", "--once", **old_rules)
    EraseRepo(conn).erase("u3")
    command("rollup", "--once")
    assert stored(conn, name) == labelled(conn, zone(name))
    command("verify")
