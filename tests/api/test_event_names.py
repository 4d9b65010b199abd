"""event-names: all names, with the counts of all events up to now."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from psycopg2.extensions import connection

from tests.api.questions import ask
from tests.api.test_keys import add_key
from tests.events import fold, insert
from tests.problems import assert_problem
from tests.retention import drop
from utils.time.zones import zone

NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
PATH = "/analytics/event-names"


def rows(service: httpx.Client, **parameters: object) -> list[Any]:
    response = service.get(PATH, params=parameters, headers={"Cache-Control": "no-cache"})  # type: ignore[arg-type]
    return [tuple(row.values()) for row in response.json()["data"]["rows"]]


@pytest.fixture(params=["events", "folded", "partly folded"])
def stored(
    request: pytest.FixtureRequest, service: httpx.Client, conn: connection, database_url: str
) -> httpx.Client:
    """Events that are not folded, all folded, or in part."""
    insert(conn, ("u", "view", NOON + SECOND), ("v", "view", NOON + 2 * DAY), ("u", "buy", NOON))
    if request.param == "partly folded":
        fold(database_url)
    insert(conn, ("u", "view", NOON), ("u", "view", NOON + 3 * DAY), ("", "leave", NOON))
    insert(conn, ("u", "view", datetime(2099, 1, 1, tzinfo=UTC)))
    if request.param == "folded":
        fold(database_url)
    return service


def test_names_have_their_counts_and_times(stored: httpx.Client) -> None:
    answer = ask(stored, "event-names")
    at = "2025-03-10T12:00:00Z"
    assert answer["data"] == {
        "event_names": 3,
        "rows": [
            {
                "event_name": "view",
                "events": 4,
                "users": 2,
                "first_seen": at,
                "last_seen": "2025-03-13T12:00:00Z",
            },
            {"event_name": "buy", "events": 1, "users": 1, "first_seen": at, "last_seen": at},
            {"event_name": "leave", "events": 1, "users": 0, "first_seen": at, "last_seen": at},
        ],
    }
    assert (answer["meta"]["start"], answer["meta"]["end"]) == (None, None)
    assert answer["meta"]["counted_at"] == answer["meta"]["computed_at"]


def test_names_are_found_by_their_beginning(stored: httpx.Client) -> None:
    assert [row[0] for row in rows(stored, starts="v")] == ["view"]
    assert [row[0] for row in rows(stored, limit=2)] == ["view", "buy"]
    assert rows(stored, starts="V") == rows(stored, starts="view ") == []
    assert ask(stored, "event-names", limit=1)["data"]["event_names"] == 3


def test_a_name_appears_with_its_first_event(service: httpx.Client, conn: connection) -> None:
    assert rows(service) == []
    insert(conn, ("u", "view", NOON))
    assert rows(service) == [("view", 1, 1, "2025-03-10T12:00:00Z", "2025-03-10T12:00:00Z")]


def test_an_erased_user_is_in_no_count(
    service: httpx.Client, conn: connection, database_url: str
) -> None:
    insert(conn, ("u", "view", NOON), ("v", "view", NOON + DAY), ("u", "secret", NOON))
    fold(database_url)
    admin = add_key(conn, "an-admin", "admin", name="admin")
    assert service.delete("/analytics/users/u", headers=admin).status_code == 200
    assert rows(service) == [("view", 1, 1, "2025-03-11T12:00:00Z", "2025-03-11T12:00:00Z")]


def test_of_dropped_events_the_quarter_of_an_hour_is_known(
    service: httpx.Client, conn: connection, database_url: str
) -> None:
    insert(conn, ("u", "view", NOON + SECOND), ("u", "view", NOON + 40 * DAY))
    fold(database_url)
    drop(database_url, [zone("UTC")], datetime(2025, 4, 1, tzinfo=UTC))
    assert rows(service) == [("view", 2, 1, "2025-03-10T12:00:00Z", "2025-04-19T12:00:00Z")]


def test_other_parameters_are_refused(shared_service: httpx.Client) -> None:
    for name in ("start", "event", "tz", "explain"):
        assert_problem(
            shared_service.get(f"{PATH}?{name}=x"), 422, "invalid-parameter", "(unknown)"
        )
    assert_problem(shared_service.get(f"{PATH}?limit=0"), 422, "invalid-parameter", "limit")
    assert_problem(shared_service.get(f"{PATH}?starts=%00"), 422, "invalid-parameter", "starts")
