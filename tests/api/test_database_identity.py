"""Databases that share a Redis share nothing in it, whatever they are reached by."""

import socket
import time
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import httpx
import psycopg2
import pytest
import redis
from psycopg2.extensions import connection, parse_dsn

from services import database_identity as identity_module
from tests.api.test_keys import add_key
from tests.events import fold, insert
from tests.faults.proxy import proxy_to
from tests.faults.service_process import proxied_url
from tests.live_server import identity_in, identity_of, running
from tests.servers import Cluster, another_postgres
from tests.wait_until import wait_until

HISTORY = "/analytics/users/u/events"
USER = "/analytics/users/u"
NOON = "2025-03-10T12:00:00Z"


@pytest.fixture
def store(redis_url: str) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def recreate_database(cluster: Cluster, url: str, *, template: str) -> None:
    """Another database of the same name on the same server."""
    name = parse_dsn(url)["dbname"]
    cluster.drop(url)
    cluster.execute(f'create database "{name}" template "{template}" encoding utf8')


@pytest.fixture
def migrated(cluster: Cluster) -> Iterator[str]:
    """The name of a database without events."""
    url = cluster.migrated_database()
    yield str(parse_dsn(url)["dbname"])
    cluster.drop(url)


def cache_history(service: httpx.Client, url: str) -> None:
    conn = psycopg2.connect(url)
    with conn:
        insert(conn, ("u", "view", NOON))
    conn.close()
    for expected in ("miss", "hit"):
        answer = service.get(HISTORY)
        assert (answer.headers["x-cache"], len(answer.json()["data"])) == (expected, 1)


def test_answers_of_the_database_that_had_this_url_before_are_not_given(
    cluster: Cluster, database_url: str, migrated: str, redis_url: str
) -> None:
    with running(database_url, redis_url, cache_ttl_open_s=600) as service:
        cache_history(service, database_url)
    recreate_database(cluster, database_url, template=migrated)
    with running(database_url, redis_url, cache_ttl_open_s=600) as service:
        answer = service.get(HISTORY)
        assert (answer.headers["x-cache"], answer.json()["data"]) == ("miss", [])


@pytest.mark.parametrize("is_migrated_later", [False, True])
def test_workers_notice_that_their_database_is_another_one(
    cluster: Cluster,
    database_url: str,
    migrated: str,
    redis_url: str,
    store: "redis.Redis",
    *,
    is_migrated_later: bool,
) -> None:
    with running(database_url, redis_url, cache_ttl_open_s=600) as service:
        cache_history(service, database_url)
        if is_migrated_later:
            recreate_database(cluster, database_url, template="template0")
            wait_until(lambda: service.get(HISTORY).status_code == 503, timeout_s=10)
        recreate_database(cluster, database_url, template=migrated)
        pattern = f"analytics:*:{identity_of(service)}:user_events:*"
        wait_until(
            lambda: bool(service.get(HISTORY)) and bool(list(store.scan_iter(pattern))),
            timeout_s=10,
        )
        assert service.get(HISTORY).json()["data"] == []


def test_a_copy_is_another_database(cluster: Cluster, database_url: str) -> None:
    copy = cluster.copy_of(database_url)
    assert identity_in(copy) != identity_in(database_url)
    assert identity_in(database_url) == identity_in(database_url)
    cluster.drop(copy)


def test_an_erasure_drops_what_is_kept_of_its_own_database(
    cluster: Cluster, database_url: str, conn: connection, redis_url: str, store: "redis.Redis"
) -> None:
    """And what older versions kept, whose keys do not tell of which it is."""
    other_url = cluster.migrated_database()
    older = "analytics:4.2026.1:0123456789ab:user_events:json:plain:0:"
    with (
        running(database_url, redis_url, cache_ttl_open_s=600) as service,
        running(other_url, redis_url, cache_ttl_open_s=600) as other,
    ):
        cache_history(service, database_url)
        cache_history(other, other_url)
        store.set(older, "a page", ex=60)
        admin = add_key(conn, "an-admin", "admin", name="admin")
        assert service.delete(USER, headers=admin).json()["cache_cleared"] is True
        assert other.get(HISTORY).headers["x-cache"] == "hit"
        assert not store.exists(older)
        assert not set(store.scan_iter(f"analytics:*:{identity_of(service)}:user_events:*"))
    cluster.drop(other_url)


def test_limits_are_those_of_one_database(
    database_url: str, redis_url: str, store: "redis.Redis"
) -> None:
    with running(database_url, redis_url, rate_limit=5) as service:
        service.get(HISTORY)
        assert store.exists(f"analytics:limit:{identity_of(service)}:1:rate")


def test_a_worker_that_starts_without_postgresql_learns_later_which_one_it_is(
    database_url: str, redis_url: str, store: "redis.Redis"
) -> None:
    with proxy_to(urlsplit(database_url).port or 5432) as proxy:
        proxy.refuse()
        url = proxied_url(database_url, proxy)
        with running(url, redis_url, cache_ttl_open_s=600) as service:
            assert service.get(HISTORY).status_code == 503
            proxy.mode = "pass"
            wait_until(lambda: service.get(HISTORY).status_code == 200, timeout_s=20)
            pattern = f"analytics:*:{identity_in(database_url)}:user_events:*"
            wait_until(
                lambda: bool(service.get(HISTORY)) and bool(list(store.scan_iter(pattern))),
                timeout_s=10,
            )
            assert service.get(HISTORY).headers["x-cache"] == "hit"


@pytest.fixture
def elsewhere(database_url: str) -> Iterator[str]:
    """A database on another server, of the same name, user and password."""
    with another_postgres() as endpoints:
        other = Cluster(endpoints.database_url)
        made = parse_dsn(other.migrated_database())
        here = parse_dsn(database_url)
        other.execute(f'alter database "{made["dbname"]}" rename to "{here["dbname"]}"')
        other.execute(f"alter role \"{here['user']}\" password '{here['password']}'")
        yield database_url.replace(f":{here['port']}/", f":{made['port']}/")


@pytest.mark.parametrize("ended", ["analytics-cache-versions-", "analytics-[0-9]"])
def test_answers_are_kept_for_the_database_that_gave_them(
    database_url: str,
    conn: connection,
    elsewhere: str,
    redis_url: str,
    ended: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the URL leads to another database, while connections to the last one live on."""
    monkeypatch.setattr(identity_module, "_CHECK_EVERY_S", 4)  # more than the 3 s below
    insert(conn, ("u", "here", NOON))
    with closing(psycopg2.connect(elsewhere)) as other, other:
        insert(other, ("u", "elsewhere", NOON))
    with (
        proxy_to(int(parse_dsn(database_url)["port"])) as proxy,
        running(proxied_url(database_url, proxy), redis_url, cache_ttl_open_s=600) as service,
        running(database_url, redis_url, cache_ttl_open_s=600) as last,
        running(elsewhere, redis_url, cache_ttl_open_s=600) as present,
    ):
        assert names(service) == ["here"]
        proxy.target = int(parse_dsn(elsewhere)["port"])
        conn.cursor().execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and application_name ~ %s",
            (f"^{ended}",),
        )
        until = time.monotonic() + 3
        while time.monotonic() < until:
            names(service)
            for day in range(10, 12):  # no other answer is kept under the key of its own
                params = {"start": f"2025-03-{day}", "end": "2025-03-12"}
                service.get(HISTORY, params=params)
            assert (names(last), names(present)) == (["here"], ["elsewhere"])
        wait_until(lambda: names(service) == ["elsewhere"], timeout_s=30)
        for day in range(10, 12):
            params = {"start": f"2025-03-{day}", "end": "2025-03-12"}
            cached = [names(each, **params) for each in (last, present)]
            assert cached == ([["here"], ["elsewhere"]] if day == 10 else [[], []])


def test_late_events_are_seen_while_no_connection_can_be_opened(
    database_url: str, conn: connection, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when all slots of PostgreSQL are taken: no connection is given up for a check."""
    monkeypatch.setattr(identity_module, "_CHECK_EVERY_S", 0.1)
    insert(conn, ("u", "view", NOON))
    fold(database_url)
    params = {"start": "2025-03-01", "end": "2025-04-01"}

    def events() -> int:
        answer = service.get("/analytics/event-counts", params=params)
        return int(answer.json()["data"]["events"])

    with (
        proxy_to(int(parse_dsn(database_url)["port"])) as proxy,
        socket.socket() as closed,
        running(proxied_url(database_url, proxy), redis_url) as service,
    ):
        closed.bind(("127.0.0.1", 0))
        assert (events(), events()) == (1, 1)
        proxy.target = closed.getsockname()[1]
        time.sleep(1)
        insert(conn, ("u", "view", NOON))
        fold(database_url)
        wait_until(lambda: events() == 2, timeout_s=5)


def names(service: httpx.Client, **params: str) -> list[str]:
    return [event["event_name"] for event in service.get(HISTORY, params=params).json()["data"]]
