"""Keys that are revoked end in time, whatever goes wrong beside it; and who is asked for one."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx
import psycopg2
import pytest
from psycopg2.extensions import connection
from pydantic import SecretStr

from services import auth, container
from services.api_key_secrets import digest_of
from tests.api.test_caching import COUNTS
from tests.api.test_keys import RANGE, add_key, guess, key_in, status
from tests.faults.proxy import proxy_to
from tests.faults.service_process import proxied_url
from tests.live_server import running
from tests.problems import assert_problem
from tests.servers import KEY, SCHEMA, as_user
from tests.slow_events import slow_down
from tests.wait_until import adjusted_for_load, wait_until

Revoked = Callable[[httpx.Client], None]


@pytest.fixture
def ends_in_time(conn: connection) -> Revoked:
    """A key that is revoked by now ends within 5 seconds."""
    key = add_key(conn, "for-a-while", "read")

    def check(service: httpx.Client) -> None:
        wait_until(lambda: status(service, key) == 200, timeout_s=3)
        conn.cursor().execute("update api_keys set ends_at = now() where name = 'another'")
        wait_until(lambda: status(service, key) == 401, timeout_s=5)

    return check


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """When keys were used last is told much more often."""
    monkeypatch.setattr(auth, "_RECORD_EVERY_S", 0.2)


@pytest.mark.usefixtures("eager")
def test_when_their_last_use_cannot_be_written(
    database_url: str, redis_url: str, conn: connection, ends_in_time: Revoked
) -> None:
    cur = conn.cursor()
    cur.execute(
        "create function refuse() returns trigger language plpgsql as "
        "$$ begin raise 'no'; end $$;"
        "create trigger refuse before update of last_used_at on api_keys "
        "for each row execute function refuse()"
    )
    with running(database_url, redis_url) as service:
        assert status(service, {}) == 200
        time.sleep(1)
        ends_in_time(service)
        cur.execute("drop trigger refuse on api_keys")
    cur.execute("select last_used_at from api_keys where name = 'tests'")
    assert cur.fetchone() != (None,), "it is written when it can be"


@pytest.mark.usefixtures("eager")
def test_when_their_last_use_waits_for_a_lock(
    database_url: str, redis_url: str, ends_in_time: Revoked
) -> None:
    holder = psycopg2.connect(database_url)
    holder.cursor().execute("select from api_keys where name = 'tests' for update")
    with running(database_url, redis_url) as service:
        assert status(service, {}) == 200
        time.sleep(2.5)
        ends_in_time(service)
        holder.close()


def test_when_all_connections_are_taken(
    database_url: str, redis_url: str, conn: connection, ends_in_time: Revoked
) -> None:
    """Who has a key must not be able to keep it by using it a lot."""
    slow_down(conn, 3)
    with running(database_url, redis_url, pool_size=1) as service:
        end = time.monotonic() + 10

        def hog(number: int) -> None:
            while time.monotonic() < end:
                service.get(COUNTS, params={**RANGE, "event": f"{number} {time.monotonic()}"})

        with ThreadPoolExecutor(8) as threads:
            hogs = [threads.submit(hog, number) for number in range(8)]
            time.sleep(0.5)
            key = {"Authorization": f"Bearer {key_in('for-a-while')}"}
            conn.cursor().execute("update api_keys set ends_at = now() where name = 'another'")
            wait_until(lambda: status(service, key) == 401, timeout_s=5)
            end = 0
            assert [each.result() for each in hogs] == [None] * 8


def test_when_they_could_not_be_read_for_a_while(
    database_url: str, redis_url: str, conn: connection, ends_in_time: Revoked
) -> None:
    with reader_without_rights(database_url, conn) as url:
        questions = SecretStr(url)
        with running(database_url, redis_url, query_database_url=questions) as service:
            assert_problem(service.get(COUNTS, params=RANGE), 503, "unavailable")
            ready = service.get("/readyz")
            assert ready.status_code == 503
            assert ready.json()["checks"]["database"] == "unavailable: RightsMissing"
            conn.cursor().execute(
                f'grant usage on schema "{SCHEMA}" to without_rights; '
                f'grant select on all tables in schema "{SCHEMA}" to without_rights'
            )
            wait_until(lambda: status(service, {}) == 200, timeout_s=5)
            ends_in_time(service)


@contextmanager
def reader_without_rights(database_url: str, conn: connection) -> Iterator[str]:
    cur = conn.cursor()
    cur.execute("create role without_rights login password 'x'")
    try:
        yield as_user(database_url, "without_rights", "x")
    finally:
        cur.execute("drop owned by without_rights; drop role without_rights")


def test_the_last_key_that_ends_lets_nobody_in(
    database_url: str, redis_url: str, conn: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "may_be_open", lambda _: True)
    conn.cursor().execute("delete from api_keys")
    with running(database_url, redis_url) as service:
        wait_until(lambda: status(service, {"Authorization": ""}) == 200, timeout_s=3)
        conn.cursor().execute(
            "insert into api_keys (name, digest, hint, scopes) "
            "values ('tests', %s, 'ask_', '{read}')",
            (digest_of(KEY),),
        )
        wait_until(lambda: status(service, {"Authorization": ""}) == 401, timeout_s=5)
        assert status(service, {}) == 200
        conn.cursor().execute("update api_keys set ends_at = now()")
        wait_until(lambda: status(service, {}) == 401, timeout_s=5)
        assert status(service, {"Authorization": ""}) == 401


def test_an_unknown_key_is_told_in_time_by_a_silent_database(
    database_url: str, redis_url: str
) -> None:
    """And it is not told that it is wrong: it may be newer than what was read."""
    with (
        proxy_to(urlsplit(database_url).port or 5432) as proxy,
        running(proxied_url(database_url, proxy), redis_url, request_timeout_s=1.5) as service,
    ):
        assert status(service, {}) == 200
        proxy.mode = "swallow"
        with ThreadPoolExecutor(4) as threads:
            began = time.monotonic()
            assert set(threads.map(lambda n: status(service, guess(n)), range(4))) == {503}
            assert time.monotonic() - began < adjusted_for_load(2)
        assert {status(service, guess(n)) for n in range(50)} == {503}
        assert time.monotonic() - began < adjusted_for_load(7), (
            "they wait for what did not answer the first"
        )
        assert status(service, {}) == 200
        assert status(service, {"Authorization": "Bearer nope"}) == 401
        proxy.mode = "pass"
        wait_until(lambda: status(service, guess(0)) == 401, timeout_s=20)
