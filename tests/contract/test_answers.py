"""The answers that pages show are real: each curl line is asked. TEST_WRITE_PAGES=1 writes them."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import httpx
import pytest
from psycopg2.extensions import connection
from pydantic import SecretStr

from tests import pages
from tests.api.test_caching import COUNTS
from tests.api.test_keys import store_key
from tests.events import fold, insert
from tests.live_server import running
from tests.pages import Example
from tests.problems import assert_problem
from tests.retention import drop
from tests.wait_until import wait_until
from utils.time.zones import zone

# Where another service is meant than one over the real events, which nobody changes.
SERVICES = {
    "Over HTTP": "service",
    "Sending events": "service",
    "Segment's API": "service",
    "Erasing a user": "with_keys",
    "Missing or invalid key": "with_keys",
    "Dropped events": "dropped",
    "Rate limit": "limited",
    "Metrics": "with_token",
}
HORIZON = datetime(2025, 10, 1, tzinfo=UTC)
EXAMPLES = [
    (page, heading, list(found))
    for page in pages.PAGES
    for heading, found in groupby(pages.examples(page), lambda example: example.heading)
]


@pytest.fixture
def with_keys(service: httpx.Client, database_url: str, conn: connection) -> httpx.Client:
    """With the user that is erased."""
    store_key(conn, "ask_of_a_reader", "read", name="reader")
    admin = store_key(conn, "ask_of_an_admin", "admin", name="admin")  # last: it is waited for
    wait_until(lambda: service.get(COUNTS, headers=admin).status_code == 200, timeout_s=5)
    insert(conn, *(("u_2", name, HORIZON) for name in ("sign_up", "page_view")))
    fold(database_url)
    return service


@pytest.fixture
def dropped(database_url: str, conn: connection, service: httpx.Client) -> httpx.Client:
    insert(conn, ("u", "commit", datetime(2025, 6, 1, 12, tzinfo=UTC)), ("u", "commit", HORIZON))
    assert drop(database_url, [zone("UTC")], HORIZON) == 1
    return service


@pytest.fixture
def limited(history_url: str, redis_url: str) -> Iterator[httpx.Client]:
    """Whose key has just used up its requests."""
    with running(history_url, redis_url, rate_limit=2) as client:
        answer = next(
            answer
            for _ in range(100)
            if (answer := client.get("/analytics/top-events")).status_code == 429
        )
        assert_problem(answer, 429, "too-many-requests")
        yield client


@pytest.fixture
def with_token(history_url: str, redis_url: str) -> Iterator[httpx.Client]:
    token = SecretStr("the-token-of-metrics")
    with running(history_url, redis_url, metrics_token=token) as client:
        yield client


@pytest.mark.parametrize(
    ("page", "heading", "found"),
    EXAMPLES,
    ids=[f"{page.stem}: {heading}" for page, heading, _ in EXAMPLES],
)
def test_each_curl_line_gives_the_answer_that_is_printed(
    request: pytest.FixtureRequest, page: Path, heading: str, found: list[Example]
) -> None:
    client: httpx.Client = request.getfixturevalue(SERVICES.get(heading, "history"))
    if os.environ.get("TEST_WRITE_PAGES") == "1":
        pages.write(page, {each.request: pages.ask(client, each.request.text) for each in found})
        return
    for example in found:
        pages.check(client, example)


def test_no_answer_is_without_its_service() -> None:
    assert set(SERVICES) <= {heading for _, heading, _ in EXAMPLES}
