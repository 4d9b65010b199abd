"""Databases that share a Redis share nothing in it, whatever they are reached by."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import psycopg2
import pytest
import redis
from psycopg2.extensions import connection, parse_dsn

from tests.api.test_keys import add_key
from tests.events import insert
from tests.faults.proxy import proxy_to
from tests.faults.service import through
from tests.running import identity_in, identity_of, running
from tests.servers import Cluster
from tests.waiting import wait_until

HISTORY = "/analytics/users/u/events"
USER = "/analytics/users/u"
NOON = "2025-03-10T12:00:00Z"


@pytest.fixture
def store(redis_url: str) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def made_anew(cluster: Cluster, url: str, *, template: str) -> None:
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


def kept_history(service: httpx.Client, url: str) -> None:
    conn = psycopg2.connect(url)
    with conn:
        insert(conn, ("u", "view", NOON))
    conn.close()
    for kept in ("miss", "hit"):
        answer = service.get(HISTORY)
        assert (answer.headers["x-cache"], len(answer.json()["data"])) == (kept, 1)


def test_answers_of_the_database_that_had_this_url_before_are_not_given(
    cluster: Cluster, database_url: str, migrated: str, redis_url: str
) -> None:
    with running(database_url, redis_url, cache_open_s=600) as service:
        kept_history(service, database_url)
    made_anew(cluster, database_url, template=migrated)
    with running(database_url, redis_url, cache_open_s=600) as service:
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
    with running(database_url, redis_url, cache_open_s=600) as service:
        kept_history(service, database_url)
        if is_migrated_later:
            made_anew(cluster, database_url, template="template0")
            wait_until(lambda: service.get(HISTORY).status_code == 503, within_s=10)
        made_anew(cluster, database_url, template=migrated)
        pattern = f"analytics:*:{identity_of(service)}:user_events:*"
        wait_until(
            lambda: bool(service.get(HISTORY)) and bool(list(store.scan_iter(pattern))),
            within_s=10,
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
        running(database_url, redis_url, cache_open_s=600) as service,
        running(other_url, redis_url, cache_open_s=600) as other,
    ):
        kept_history(service, database_url)
        kept_history(other, other_url)
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
        url = through(database_url, proxy)
        with running(url, redis_url, cache_open_s=600) as service:
            assert service.get(HISTORY).status_code == 503
            proxy.mode = "pass"
            wait_until(lambda: service.get(HISTORY).status_code == 200, within_s=20)
            pattern = f"analytics:*:{identity_in(database_url)}:user_events:*"
            wait_until(
                lambda: bool(service.get(HISTORY)) and bool(list(store.scan_iter(pattern))),
                within_s=10,
            )
            assert service.get(HISTORY).headers["x-cache"] == "hit"
