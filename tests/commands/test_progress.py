"""No command is silent while it works: without a terminal it tells how far it has come."""

import json
import re
from pathlib import Path

import pytest
from psycopg2.extensions import connection

from commands import _progress
from tests.cli import run_cli
from tests.events import fold, insert
from tests.factories import event

NOON = "2025-03-20T12:00:00Z"
TABLE = "create table visits (id bigint primary key, name text not null, at timestamptz not null)"
ROWS = "insert into visits select n, 'view', '2025-03-20' from generate_series(1, 20000) as n"
ADOPT = "adopt --table visits --map event_id=id --map event_name=name --map occurred_at=at --yes"


@pytest.fixture
def many(database_url: str, conn: connection, tmp_path: Path) -> Path:
    """Events, a table to adopt and a file to load: enough for each command to take a moment."""
    insert(conn, *((f"u{n}", "view", NOON) for n in range(2000)))
    fold(database_url)
    conn.cursor().execute(f"{TABLE}; {ROWS}")
    file = tmp_path / "events.ndjson"
    file.write_text("".join(json.dumps(event(n)) + "\n" for n in range(20_000)))
    (tmp_path / "users").write_text("".join(f"u{n}\n" for n in range(20)))
    return tmp_path


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("rollup --rebuild", r"rebuild: [\d,]+( of [\d,]+)? events.*, \d+ s"),
        ("rollup --once", r"fold: [\d,]+ events.*, \d+ s"),
        ("verify", r"verify: \d+( of \d+)? months, \d+ s"),
        ("retain --raw 90d --yes", r"drop: [\d,]+ of 2,000 events, \d+ s"),
        ("erase --file FOLDER/users --yes", r"erase: \d+ of 20 users, \d+ s"),
        ("demo --events 20000", r"insert demo events: [\d,]+ of 20,000 events, \d+ s"),
        ("demo --events 20000", r"make demo events: [\d,]+ of 20,000 events, \d+ s"),
        ("load FOLDER/events.ndjson", r"events.ndjson: [\d.]+[kM]?B of [\d.]+MB, \d+ s"),
        (ADOPT, r"visits: [\d,]+( of [\d,]+)? pages, \d+ s"),
        ("migrate", r"migrate: \d+ migrations, \d+ s"),
    ],
)
def test_it_tells_how_far_it_has_come(
    many: Path,
    database_url: str,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    told: str,
) -> None:
    monkeypatch.setattr(_progress, "EVERY_S", 0.0005)
    done = run_cli(
        *line.replace("FOLDER", str(many)).split(),
        DATABASE_URL=database_url,
        REDIS_URL=redis_url,
        ANALYTICS_REQUEST_TIMEOUT_S="0.1",
    )
    assert done.exit_code == 0, done.output
    assert re.search(f"^{told}$", done.stderr, re.MULTILINE)
