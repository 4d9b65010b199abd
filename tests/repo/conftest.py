"""Fixtures for repository tests: more connections, and clients beside the tested code."""

import time
from collections.abc import Iterator

import pytest
from psycopg2.extensions import connection

from config.database import Database, get_connection
from repo.events import EventsRepo
from tests.events import insert
from tests.servers import Cluster
from tests.source_comparison import Asker, connected, open_asker
from tests.written_columns import consume, events, fold


@pytest.fixture(scope="module")
def owner(database_url: str) -> Iterator[connection]:
    """For modules whose database is their own."""
    with connected(database_url) as conn:
        yield conn


@pytest.fixture(scope="module")
def repo(database_url: str) -> Iterator[EventsRepo]:
    """For modules whose database is their own."""
    database = Database(database_url, size=1, waiters=0, acquire_timeout_s=1, name="tests")
    yield EventsRepo(get_connection(database, time.monotonic() + 600))
    database.close()


@pytest.fixture
def asker(database_url: str) -> Iterator[Asker]:
    with open_asker(database_url) as opened:
        yield opened


@pytest.fixture
def other(database_url: str) -> Iterator[connection]:
    with connected(database_url) as opened:
        yield opened


@pytest.fixture(scope="module")
def written_once(cluster: Cluster) -> Iterator[str]:
    url = cluster.migrated_database()
    with connected(url) as conn:
        insert(conn, *events())
        fold(conn)
        consume(conn)
    yield url
    cluster.drop(url)


@pytest.fixture
def written_url(cluster: Cluster, written_once: str) -> Iterator[str]:
    """A database of its own for each test, in which these events are written."""
    url = cluster.copy_of(written_once)
    yield url
    cluster.drop(url)


@pytest.fixture
def written(written_url: str) -> Iterator[connection]:
    with connected(written_url) as conn:
        yield conn
