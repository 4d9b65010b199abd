"""Fixtures for repository tests: more connections, and clients beside the tested code."""

from collections.abc import Iterator

import pytest
from psycopg2.extensions import connection

from tests.source_comparison import Asker, connected, open_asker


@pytest.fixture
def asker(database_url: str) -> Iterator[Asker]:
    with open_asker(database_url) as opened:
        yield opened


@pytest.fixture
def other(database_url: str) -> Iterator[connection]:
    with connected(database_url) as opened:
        yield opened
