"""A database that may not grow: events are refused, and questions go on."""

from pathlib import Path

import httpx
import pytest
from psycopg2.extensions import connection

from services import disk_space
from tests.api.questions import ask
from tests.api.requests import ndjson, send
from tests.cli import run_cli
from tests.factories import event
from tests.live_server import running, scrape, value
from tests.problems import assert_problem
from tests.wait_until import wait_until

DAY = {"start": "2025-01-31", "end": "2025-02-01"}
HEADROOM = 'analytics_storage_headroom_bytes{limit="database"}'
FILLER = "create table filler as select repeat(n::text, 20) from generate_series(1, 100000) as n"


def post(service: httpx.Client, number: int) -> httpx.Response:
    return send(service, ndjson(event(number)), "application/x-ndjson")


def storage(service: httpx.Client) -> str:
    return str(service.get("/readyz").json()["checks"]["storage"])


def size_gb(conn: connection) -> float:
    with conn.cursor() as cur:
        cur.execute("select pg_database_size(current_database())")
        (size,) = cur.fetchone() or (0,)
        return float(size) / 10**9


def test_events_wait_until_the_database_is_small_enough(
    database_url: str, redis_url: str, conn: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_space, "_MEASURE_EVERY_S", 0.2)
    monkeypatch.setattr(disk_space, "_POLL_EVERY_S", 0.2)
    limit = size_gb(conn) + 0.005
    with running(database_url, redis_url, max_database_gb=limit) as service:
        assert post(service, 1).status_code == 200
        assert 0 < value(scrape(service), HEADROOM) <= 5_000_000
        conn.cursor().execute(FILLER)
        wait_until(lambda: post(service, 2).status_code == 507, timeout_s=30)
        refusal = post(service, 3)
        assert_problem(refusal, 507, "insufficient-storage")
        assert refusal.headers["retry-after"] == "30"
        assert "(ANALYTICS_MAX_DATABASE_GB)" in refusal.json()["detail"]
        assert ask(service, "event-counts", **DAY)["data"]["events"] in (1, 2)
        ready = service.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "ready")
        assert ready.json()["checks"]["storage"].startswith("full: The database takes 0.0")
        assert value(scrape(service), HEADROOM) < 0
        conn.cursor().execute("drop table filler")
        wait_until(lambda: post(service, 4).status_code == 200, timeout_s=30)
        wait_until(lambda: storage(service) == "ok", timeout_s=5)


def test_no_limit_is_none(service: httpx.Client) -> None:
    assert post(service, 1).status_code == 200
    assert storage(service) == "ok"


def test_commands_that_store_events_say_so(
    database_url: str, redis_url: str, conn: connection, tmp_path: Path
) -> None:
    file = tmp_path / "events.ndjson"
    file.write_bytes(ndjson(event(1)))
    with conn.cursor() as cur:
        cur.execute("create table public.visits (id bigint primary key, name text, at timestamptz)")
        cur.execute("insert into public.visits values (1, 'view', '2025-01-31')")
    names = ("--map", "event_id=id", "--map", "event_name=name", "--map", "occurred_at=at")
    for arguments in (
        ("load", file),
        ("demo", "--events", 10),
        ("adopt", "--table", "visits", *names, "--yes"),
    ):
        done = run_cli(
            *arguments,
            DATABASE_URL=database_url,
            REDIS_URL=redis_url,
            ANALYTICS_MAX_DATABASE_GB="0.001",
        )
        assert done.exit_code == 1, done.output
        assert "Error: The database takes 0.0" in done.stderr.splitlines()[-1]
        assert "from 0.001 GB on (ANALYTICS_MAX_DATABASE_GB)" in done.stderr
    with conn.cursor() as cur:
        cur.execute("select count(*) from events")
        assert cur.fetchone() == (0,)
