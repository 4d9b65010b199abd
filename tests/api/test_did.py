"""The parameters `did` and `not_did` over HTTP: what they mean, and what is refused."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import httpx
import psycopg2
import pytest

from common.questions import QUESTIONS
from common.questions.base import Counting
from tests.api.questions import parameters_of, path_of
from tests.events import fold, insert
from tests.live_server import running
from tests.problems import assert_problem
from tests.servers import Cluster
from tests.wait_until import wait_until

COUNTS = "/analytics/event-counts"
RANGE = "start=2025-03-10&end=2025-03-12"
NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)
EVENTS = [
    ("ann", "purchase", NOON - 40 * DAY, {"plan": "free"}),
    ("ann", "view", NOON, {}),
    ("ann", "purchase", NOON, {"plan": "pro", "amount": 5}),
    ("ann", "purchase", NOON + DAY, {"plan": "pro", "amount": 50}),
    ("bob", "view", NOON, {}),
    ("bob", "purchase", NOON, {"plan": "free"}),
    ("cid", "view", NOON + DAY, {}),
    ("cid", "view", NOON + DAY, {}),
    ("cid", "Add to cart", NOON + 2 * DAY, {}),
    ("", "view", NOON, {"plan": "pro"}),
]


@pytest.fixture(scope="module", params=["tail", "chunks"])
def stored(
    request: pytest.FixtureRequest, cluster: Cluster, redis_url: str
) -> Iterator[httpx.Client]:
    """A service over `EVENTS`, which are in the tail of columns, or in a chunk."""
    url = cluster.migrated_database()
    with closing(psycopg2.connect(url)) as conn:
        conn.autocommit = True
        if request.param == "tail":
            insert(conn, ("old", "purchase", NOON - 90 * DAY, {"plan": "pro"}))
            fold(url)
        insert(conn, *EVENTS)
        if request.param == "chunks":
            fold(url)
    with running(url, redis_url) as client:
        yield client


@pytest.mark.parametrize(
    ("query", "events", "users"),
    [
        ("", 8, 3),
        ("did=purchase", 5, 2),
        ("did=purchase+plan:pro", 3, 1),
        ("did=*+plan:pro", 3, 1),
        ("did=purchase,view", 7, 3),
        ("did=purchase&did=view", 5, 2),
        ("did=purchase&not_did=purchase+plan:pro", 2, 1),
        ("did=purchase+amount:>=10+or+plan:free", 5, 2),
        ("did=purchase+@times:2", 3, 1),
        ("did=view+@times:2..", 2, 1),
        ("did=purchase+@times:..1", 4, 2),
        ("did=purchase+@times:0", 2, 1),
        ("did=purchase+@times:1..2", 5, 2),
        ("not_did=purchase", 2, 1),
        ("not_did=purchase&not_did=view+@times:2", 0, 0),
        ("did=*", 7, 3),
        ("not_did=nothing", 7, 3),
        ("did=nothing", 0, 0),
        ("did=purchase&event=view", 2, 2),
        ("did=purchase+plan:pro&where=-plan:pro", 1, 1),
        ("did=purchase+@last:1d", 3, 1),
        ("did=purchase+@last:24h", 3, 1),
        ("did=purchase+@last:45d+@times:3", 3, 1),
        ("did=purchase+@start:2025-01-01+@end:2025-03-01", 3, 1),
        ("did=purchase+@end:2025-03-10", 3, 1),
        ("did=purchase+@start:2025-03-11", 3, 1),
        ("did=%22Add+to+cart%22", 0, 0),
        ("did=%22Add+to+cart%22+@end:2025-04-01", 2, 1),
        ("did=*+@user:cid,bob", 4, 2),
    ],
)
def test_events_of_chosen_users(stored: httpx.Client, query: str, events: int, users: int) -> None:
    for headers in ({}, {"Cache-Control": "no-cache"}):
        answer = stored.get(f"{COUNTS}?{RANGE}&{query}", headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"] == {"events": events, "users": users}
        assert answer.json()["meta"]["source"] == ("columns" if "did=" in query else "rollups")


def test_the_days_are_those_of_the_zone(stored: httpx.Client) -> None:
    """In Los Angeles, a day ends at 7 o'clock in UTC; in Tokyo, one began 16 hours before."""
    query = "start=2025-03-10T00:00:00Z&end=2025-03-12T07:00:00Z&did=purchase+@last:1d"
    west = stored.get(f"{COUNTS}?{query}&tz=America/Los_Angeles").json()["data"]
    assert west == {"events": 3, "users": 1}
    east = stored.get(f"{COUNTS}?{query}&tz=Asia/Tokyo").json()["data"]
    assert east == {"events": 0, "users": 0}


def test_the_definition_says_which_users_count(stored: httpx.Client) -> None:
    answer = stored.get(f"{COUNTS}?{RANGE}&did=purchase+plan:pro&not_did=view+@times:2..+@last:30d")
    assert answer.json()["meta"]["definition"] == (
        "The number of events from 2025-03-10T00:00:00Z up to but excluding 2025-03-12T00:00:00Z, "
        "and of the distinct users who caused them. Only events of users count who have at least "
        "1 event that matches @event:purchase plan:pro from 2025-03-10T00:00:00Z up to but "
        "excluding 2025-03-12T00:00:00Z and who do not have at least 2 events that match "
        "@event:view from 2025-02-10T00:00:00Z up to but excluding 2025-03-12T00:00:00Z."
    )


def test_equal_conditions_share_an_answer(stored: httpx.Client) -> None:
    first = stored.get(f"{COUNTS}?{RANGE}&tz=Asia/Tokyo&did=view,purchase+plan:pro,free&did=view")

    def is_hit() -> bool:
        path = f"{COUNTS}?{RANGE}&tz=Asia/Tokyo&did=view+@times:1..&did=purchase,view+plan:free,pro"
        answer = stored.get(path)
        return answer.headers["x-cache"] == "hit" and answer.content == first.content

    wait_until(is_hit, timeout_s=5)


def test_questions_that_count_take_conditions_on_users(stored: httpx.Client) -> None:
    for question in QUESTIONS:
        path = path_of(question, "ann")
        if not issubclass(question, Counting):
            response = stored.get(f"{path}?did=purchase")
            assert_problem(response, 422, "invalid-parameter", "(unknown)")
            continue
        assert {"did", "not_did"} <= set(parameters_of(question))


@pytest.mark.parametrize(
    ("query", "parameter", "message"),
    [
        ("did=", "did", "at 1: an event name is missing"),
        ("not_did=", "not_did", "at 1: an event name is missing"),
        (
            "did=Add+to+cart",
            "did",
            "at 5: a condition is written name:value; quote an event name that has a space",
        ),
        ("did=view+plan:", "did", "at 11: a value is missing; name:* tests for any value"),
        (
            "not_did=view+@times:many",
            "not_did",
            "at 13: @times must be a number of events, as in 3, 3.. (at least) or ..3 (at most)",
        ),
        ("did=view&did=x+@times:3..2", "did", "at 10: @times has the lower end first"),
        (
            "did=view+@start:2025-04-01",
            "did",
            "@start must be before @end, by default the end of the range",
        ),
        ("not_did=view+@last:9999mo", "not_did", "@last must be within the years 2000 to 2099"),
        ("did=" + "&did=".join("abcdefghijk"), "did", "at 1: may be given at most 10 times"),
    ],
)
def test_conditions_that_are_refused(
    stored: httpx.Client, query: str, parameter: str, message: str
) -> None:
    response = stored.get(f"{COUNTS}?{RANGE}&{query}")
    assert_problem(response, 422, "invalid-parameter", parameter)
    assert response.json()["errors"] == [{"parameter": parameter, "message": message}]
