"""Fixtures for all tests: servers, databases and the running service."""

import os
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import httpx
import psycopg2
import pytest
from hypothesis import HealthCheck, settings
from psycopg2.extensions import connection

from services.embedded import Endpoints
from tests.events import fold, insert, insert_git_history
from tests.live_server import running
from tests.servers import SCHEMA, Cluster, open_servers

# An unusual zone of the process, which must not change any answer.
os.environ["TZ"] = "Pacific/Chatham"
time.tzset()
os.environ["ANALYTICS_SCHEMA"] = SCHEMA

# The examples of a test share a database, and machines are slow now and then.
settings.register_profile(
    "real", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("real")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """The number of workers: 0 (none) if servers are given, on which some tests would collide.

    More than there are processors, since many tests wait for something.
    """
    return 0 if "TEST_DATABASE_URL" in os.environ else min(6, (os.cpu_count() or 1) + 2)


@pytest.fixture(scope="session")
def endpoints() -> Iterator[Endpoints]:
    with open_servers() as servers:
        yield servers


@pytest.fixture(scope="session")
def cluster(endpoints: Endpoints) -> Cluster:
    return Cluster(endpoints.database_url)


@pytest.fixture(scope="session")
def redis_url(endpoints: Endpoints) -> str:
    return endpoints.redis_url


@pytest.fixture
def database_url(cluster: Cluster) -> Iterator[str]:
    """A migrated database without events."""
    url = cluster.migrated_database()
    yield url
    cluster.drop(url)


@pytest.fixture
def conn(database_url: str) -> Iterator[connection]:
    """A connection of the owner in autocommit."""
    opened = psycopg2.connect(database_url)
    opened.autocommit = True
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def history_url(cluster: Cluster) -> str:
    """A database with only the git history, completely folded; tests must not write to it."""
    url = cluster.migrated_database()
    insert_git_history(url)
    fold(url)
    return url


@pytest.fixture(scope="session")
def history(history_url: str, redis_url: str) -> Iterator[httpx.Client]:
    """The service over the git history."""
    with running(history_url, redis_url) as client:
        yield client


@pytest.fixture(scope="session")
def shared_service(cluster: Cluster, redis_url: str) -> Iterator[httpx.Client]:
    """The service over ten events of the user `u_1`, folded; tests must not write to it."""
    url = cluster.migrated_database()
    with closing(psycopg2.connect(url)) as opened, opened:
        insert(opened, *(("u_1", "view", datetime(2025, 1, n, tzinfo=UTC)) for n in range(1, 11)))
    fold(url)
    with running(url, redis_url) as client:
        yield client


@pytest.fixture
def service(database_url: str, redis_url: str) -> Iterator[httpx.Client]:
    """The service over `database_url`."""
    with running(database_url, redis_url) as client:
        yield client
