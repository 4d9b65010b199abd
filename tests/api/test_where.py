"""The parameter `where` over HTTP: what it means, what is refused, and what the answer says."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import psycopg2
import pytest
import redis
from psycopg2.extensions import connection

from common.query import Query
from common.questions import QUESTIONS
from common.questions.answer import Answer, Meta
from common.questions.base import Counting
from common.questions.event_counts import EventCountsData
from common.remarks import Note, Unknown
from repo.columns import column_tail
from repo.engine import cost
from repo.rollups.rollup_writer import RollupWriter
from services.dependencies import get_events_repo
from tests.api.questions import parameters_of, path_of, required_of
from tests.api.test_dependency_overrides import META
from tests.api.test_keys import add_key
from tests.column_contents import query
from tests.events import fold, insert
from tests.live_server import app_of, identity_of, running, scrape
from tests.problems import assert_problem
from tests.retention import drop
from tests.servers import Cluster
from tests.wait_until import wait_until
from utils.time.zones import zone

COUNTS = "/analytics/event-counts"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("where=", "at 1: a condition is missing"),
        ("where=plan", "at 1: a condition is written name:value"),
        ("where=plan:", "at 6: a value is missing; name:* tests for any value"),
        ("where=plan:pro,", "at 10: a value is missing after the comma"),
        ("where=amount:>=ten", "at 10: >= needs a number, as in amount:>=10"),
        ("where=amount:50..10", "at 8: the lower end comes first"),
        ("where=(plan:pro", "at 1: the parenthesis is not closed"),
        ("where=plan:pro)", "at 9: unmatched parenthesis"),
        ("where=plan:%22pro", "at 6: the quote is not closed"),
        ("where=a:1&where=plan:", "at 6: a value is missing; name:* tests for any value"),
        ("where=amount:7357313..", "at 8: a range without an upper end is written >=10"),
        ("where=a%00:1", "at 1: a name must not contain a NUL character"),
        (
            "where=@name:x",
            "at 1: the fields of an event are @event and @user; quote the name of a property",
        ),
        ("where=" + "&where=".join(["a:1"] * 51), "at 1: at most 50 conditions are allowed"),
        (
            f"where=a:{'x' * 1_000}&where=a:{'y' * 1_000}",
            "at 1: all conditions together must be at most 2,000 bytes long",
        ),
    ],
)
def test_a_text_that_is_no_filter_is_refused(
    shared_service: httpx.Client, query: str, message: str
) -> None:
    for method in ("GET", "HEAD"):
        response = shared_service.request(method, f"{COUNTS}?{query}")
        assert response.status_code == 422
    response = shared_service.get(f"{COUNTS}?{query}")
    assert_problem(response, 422, "invalid-parameter", "where", payload="7357313")
    assert response.json()["errors"] == [{"parameter": "where", "message": message}]


def test_all_questions_that_count_have_it(shared_service: httpx.Client) -> None:
    for question in QUESTIONS:
        has_it = "where" in parameters_of(question)
        assert has_it or not issubclass(question, Counting)
        params = required_of(question)
        response = shared_service.get(path_of(question, "u"), params={"where": "plan:", **params})
        assert_problem(response, 422, "invalid-parameter", "where" if has_it else "(unknown)")
        as_of = shared_service.get(f"{path_of(question, 'u')}?as_of=2025-01-01T00:00:00Z")
        assert_problem(as_of, 422, "invalid-parameter", "(unknown)")


class FilterFake:
    """A repo that says which filter its query has."""

    def __init__(self) -> None:
        self.filters: list[str] = []

    def get_event_counts(self, query: Query) -> Answer[EventCountsData]:
        self.filters.append(str(query.where))
        unknown = Unknown(["größe"], ["plan"])
        notes = [Note("amount", "number", {"text": 3})]
        meta = Meta(*META, where=str(query.where), notes=notes, unknown=unknown)
        return Answer(EventCountsData(41, 7), meta)


@pytest.fixture
def fake(shared_service: httpx.Client) -> Iterator[FilterFake]:
    overrides = app_of(shared_service).dependency_overrides
    repo = FilterFake()
    overrides[get_events_repo] = lambda: repo
    yield repo
    overrides.clear()


@pytest.mark.parametrize(
    ("query", "canonical"),
    [
        ("where=plan:pro", "plan:pro"),
        ("where=plan:pro,team&where=country:US", "country:US plan:pro,team"),
        ("where=country:US&where=plan:team,pro,team", "country:US plan:pro,team"),
        ("where=-plan:free", "-plan:free"),
        ("where=amount:>=100", "amount:>=100"),
        ("where=amount:%3E%3D1e2", "amount:>=100"),
        ("where=(plan:pro+or+country:DE)+-test:true", "-test:true (country:DE or plan:pro)"),
        ("where=zip:%2210115%22", 'zip:"10115"'),
        ("where=cart.total:>20+%22cart.total%22:*", '"cart.total":* cart.total:>20'),
        ("where=url:^/blog/+or+title:~%22two+words%22", 'title:~"two words" or url:^/blog/'),
        ("where=at:2025-01-01T00:00:00Z", "at:2025-01-01T00:00:00Z"),
        ("where=@user:*&where=@event:a,b", "@event:a,b @user:*"),
        ("", "None"),
    ],
)
def test_texts_become_the_canonical_filter_of_the_query(
    shared_service: httpx.Client, fake: FilterFake, query: str, canonical: str
) -> None:
    answer = shared_service.get(f"{COUNTS}?{query}")
    assert answer.status_code == 200, answer.text
    assert fake.filters == [canonical]


def test_remarks_are_in_meta_or_in_headers(shared_service: httpx.Client, fake: FilterFake) -> None:
    assert fake.filters == []
    meta: dict[str, Any] = shared_service.get(f"{COUNTS}?where=plan:pro").json()["meta"]
    assert meta["where"] == "plan:pro"
    assert meta["notes"] == [{"property": "amount", "used": "number", "skipped": {"text": 3}}]
    assert meta["unknown"] == {"events": ["größe"], "properties": ["plan"]}
    assert "definition" not in meta
    table = shared_service.get(f"{COUNTS}?where=plan:pro&format=csv")
    assert table.text == "events,users\r\n41,7\r\n"
    assert table.headers["x-unknown"] == '{"events":["gr\\u00f6\\u00dfe"],"properties":["plan"]}'


def test_a_long_filter_is_answered(shared_service: httpx.Client, fake: FilterFake) -> None:
    text = "a:" + quote("é" * 999)
    assert shared_service.get(f"{COUNTS}?where={text}").status_code == 200
    assert fake.filters == ["a:" + "é" * 999]


NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)
EVENTS = [
    (
        "ann",
        "purchase",
        NOON,
        {
            "plan": "pro",
            "country": "US",
            "amount": 120.5,
            "cart": {"total": 21},
            "cart.total": 1,
            "url": "/blog/x",
            "title": "Two WORDS",
            "zip": "10115",
            "at": "2025-01-01T00:00:00Z",
            "test": True,
        },
    ),
    ("bob", "purchase", NOON, {"plan": "team", "country": "US", "amount": "100", "zip": 10115}),
    (
        "cid",
        "view",
        NOON + timedelta(hours=1),
        {
            "plan": "free",
            "country": "DE",
            "amount": 100,
            "cart": {"total": 20},
            "items": [{"sku": "a"}, {"sku": ["b", None]}],
            "test": False,
        },
    ),
    ("ann", "view", NOON + timedelta(days=1), {"plan": None, "title": "two  words", "or": 1}),
    ("", "view", NOON + timedelta(days=1), {}),
]
RANGE = "start=2025-03-10&end=2025-03-12"


@pytest.fixture(scope="module", params=["events", "tail", "chunks"])
def stored(
    request: pytest.FixtureRequest, cluster: Cluster, redis_url: str
) -> Iterator[httpx.Client]:
    """A service over `EVENTS`: there are neither rollups nor columns, or they are in the tail of
    columns, or in a chunk."""
    url = cluster.migrated_database()
    with closing(psycopg2.connect(url)) as conn:
        conn.autocommit = True
        if request.param == "tail":
            insert(conn, ("old", "purchase", NOON - timedelta(days=9), {"plan": "pro"}))
            fold(url)
        insert(conn, *EVENTS)
        if request.param == "chunks":
            fold(url)
    with running(url, redis_url) as client:
        yield client


@pytest.mark.parametrize(
    ("query", "events", "users"),
    [
        ("where=plan:pro", 1, 1),
        ("where=plan:pro,team&where=country:US", 2, 2),
        ("where=-plan:free", 4, 2),
        ("where=amount:>=100", 2, 2),
        ("where=amount:%3E%3D100", 2, 2),
        ("where=amount:100..120.5", 2, 2),
        ("where=(plan:pro+or+country:DE)+-test:true", 1, 1),
        ("where=zip:%2210115%22", 1, 1),
        ("where=zip:10115", 2, 2),
        ("where=cart.total:>20+%22cart.total%22:*", 1, 1),
        ("where=cart.total:*", 2, 2),
        ("where=url:^/blog/+or+title:~%22two+words%22", 1, 1),
        ("where=at:2025-01-01T00:00:00Z", 1, 1),
        ("where=items.sku:b", 1, 1),
        ("where=-items.sku:b", 4, 2),
        ("where=or:1", 1, 1),
        ("where=plan:*", 3, 3),
        ("where=@user:*", 4, 3),
        ("where=-@user:*", 1, 0),
        ("where=@user:ann", 2, 1),
        ("where=@user:^a,b", 3, 2),
        ("where=@event:view", 3, 2),
        ("where=@event:~RCHA", 2, 2),
        ("where=-@event:nothing", 5, 3),
        ("event=view&where=country:DE", 1, 1),
        ("event=purchase&where=country:DE", 0, 0),
        ("where=plan:nothing", 0, 0),
    ],
)
def test_events_and_users_that_match(
    stored: httpx.Client, query: str, events: int, users: int
) -> None:
    for headers in ({}, {}, {"Cache-Control": "no-cache"}):
        answer = stored.get(f"{COUNTS}?{RANGE}&{query}", headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"] == {"events": events, "users": users}
        assert answer.json()["meta"]["source"] == "columns"


def test_filters_that_are_equal_share_an_answer(stored: httpx.Client) -> None:
    first = stored.get(f"{COUNTS}?{RANGE}&tz=Asia/Tokyo&where=plan:team,pro&where=country:US")

    def is_hit() -> bool:
        path = f"{COUNTS}?{RANGE}&tz=Asia/Tokyo&where=country:US+(plan:pro,team,pro)"
        answer = stored.get(path)
        return answer.headers["x-cache"] == "hit" and answer.content == first.content

    wait_until(is_hit, timeout_s=5)
    assert first.json()["meta"]["where"] == "country:US plan:pro,team"


MARKS = {"partial": False, "cut": False}


def test_a_series_a_previous_range_and_all_forms(stored: httpx.Client) -> None:
    path = f"{COUNTS}?start=2025-03-11&end=2025-03-12&interval=day&compare=previous&where=-plan:pro"
    answer = stored.get(path)
    day = {"start": "2025-03-11T00:00:00Z", "end": "2025-03-12T00:00:00Z", "events": 2, "users": 1}
    day["day"] = "2025-03-11"
    previous = {"start": "2025-03-10T00:00:00Z", "end": "2025-03-11T00:00:00Z", "events": 2}
    previous["users"] = 2
    assert answer.json()["data"] == {
        "events": 2,
        "users": 1,
        "series": [day | MARKS],
        "previous": {**previous, "series": [previous | MARKS | {"day": "2025-03-10"}]},
    }
    assert answer.json()["meta"]["definition"] == (
        "The number of events that match -plan:pro from 2025-03-11T00:00:00Z up to but excluding "
        "2025-03-12T00:00:00Z, and of the distinct users who caused them, in total and for each "
        "day of UTC, and for the previous range."
    )
    table = stored.get(f"{path}&format=csv")
    assert table.text.splitlines() == [
        "day,start,end,events,users,partial,cut",
        "2025-03-11,2025-03-11T00:00:00Z,2025-03-12T00:00:00Z,2,1,false,false",
    ]
    assert table.headers["x-previous-events"] == "2"
    for form in ("json", "csv", "ndjson"):
        head, get = (stored.request(method, f"{path}&format={form}") for method in ("HEAD", "GET"))
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(get.content))
        assert head.headers["etag"] == get.headers["etag"]


def test_skipped_types_are_noted(stored: httpx.Client) -> None:
    meta = stored.get(f"{COUNTS}?{RANGE}&where=amount:>=100+or+title:~x").json()["meta"]
    assert meta["notes"] == [{"property": "amount", "used": "number", "skipped": {"text": 1}}]
    assert "unknown" not in meta
    assert "notes" not in stored.get(f"{COUNTS}?{RANGE}&where=plan:pro").json()["meta"]


def test_unknown_names_are_listed(stored: httpx.Client) -> None:
    path = f"{COUNTS}?{RANGE}&event=sign_up&event=view&where=plam:pro+@event:vista,view"
    meta = stored.get(path).json()["meta"]
    assert meta["unknown"] == {"events": ["sign_up", "vista"], "properties": ["plam"]}
    header = stored.get(f"{path}&format=csv").headers["x-unknown"]
    assert header == '{"events":["sign_up","vista"],"properties":["plam"]}'


def test_the_plan_names_columns_and_tail(
    stored: httpx.Client, request: pytest.FixtureRequest
) -> None:
    plan = stored.get(f"{COUNTS}?{RANGE}&where=plan:pro+cart.total:>5&explain=true").json()
    assert plan["meta"]["where"] == "cart.total:>5 plan:pro"
    data = plan["data"]
    assert data["source"] == "columns"
    read = (data["chunks"], data["column_rows"], data["tail"])
    assert read == ((1, 5, 0) if request.node.callspec.params["stored"] == "chunks" else (0, 0, 5))


def test_an_erased_user_is_in_no_answer(
    service: httpx.Client, conn: connection, database_url: str, redis_url: str
) -> None:
    """Neither counted, nor in the filter of a response in Redis."""
    admin = add_key(conn, "an-admin", "admin", name="admin")
    insert(conn, *EVENTS)
    fold(database_url)
    paths = [f"{COUNTS}?{RANGE}&where={text}" for text in ("@user:ann", "title:~words", "-a:1")]
    keys = f"analytics:*:{identity_of(service)}:event_counts:filtered:*"
    assert [service.get(path).json()["data"]["events"] for path in paths] == [2, 2, 5]
    wait_until(lambda: b"@user:ann" in cached(redis_url, keys), timeout_s=5)
    assert service.delete("/analytics/users/ann", headers=admin).status_code == 200
    assert cached(redis_url, keys) == b""
    assert [service.get(path).json()["data"]["events"] for path in paths] == [0, 0, 3]


def test_no_value_of_a_filter_is_in_logs_metrics_or_pg_stat_activity(
    stored: httpx.Client, caplog: pytest.LogCaptureFixture, conn: connection
) -> None:
    texts = {"@user:canary,^canary,~canary": 422, "@user:~canary or @user:^canary": 200}
    texts |= {"canary:canary": 200, "canary:canary*": 422}
    with caplog.at_level("DEBUG"):
        for text, status in texts.items():
            path = f"{COUNTS}?{RANGE}&where={quote(text)}"
            for headers in ({}, {"Cache-Control": "no-cache"}):
                assert stored.get(path, headers=headers).status_code == status
    lines = [str(vars(each)) for each in caplog.records if each.name.startswith("analytics")]
    assert len(lines) >= 8
    assert not any("canary" in line for line in lines)
    assert "canary" not in scrape(stored)
    with conn.cursor() as cur:
        cur.execute(
            "select string_agg(query, ' ') from pg_stat_activity where pid <> pg_backend_pid()"
        )
        assert "canary" not in str(cur.fetchone())


def cached(redis_url: str, keys: str) -> bytes:
    """All that Redis stores under keys of this pattern."""
    with redis.Redis.from_url(redis_url) as client:
        values = map(client.get, client.scan_iter(keys, count=1_000))
        return b"".join(value for value in values if value)


@pytest.mark.parametrize(("limit", "number"), [("MAX_EVENTS", 4), ("MAX_BYTES", 50)])
def test_too_many_events_outside_columns(
    stored: httpx.Client, monkeypatch: pytest.MonkeyPatch, limit: str, number: int
) -> None:
    monkeypatch.setattr(column_tail, limit, number)
    path = f"{COUNTS}?{RANGE}&where=plan:pro&tz=Europe/Berlin"
    explained = stored.get(f"{path}&explain=true").json()["data"]["tail"]
    response = stored.get(path)
    if response.status_code == 200:
        assert explained == 0
        return
    assert explained == 5
    assert_problem(response, 503, "columns-building", payload="plan")
    assert response.headers["retry-after"] == "1"
    assert response.json()["progress"] in ("0.00", "1.00")  # the number of events is an estimate


def test_too_many_events_in_columns(
    service: httpx.Client, conn: connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert(conn, *EVENTS)
    fold(database_url)
    monkeypatch.setattr(cost, "MAX_COLUMN_ROWS", 4)
    path = f"{COUNTS}?{RANGE}&where=plan:pro"
    response = service.get(path)
    assert_problem(response, 422, "too-expensive", payload="plan:pro")
    assert "would read 5 rows of columns; the limit is 4" in response.json()["detail"]
    assert service.get(f"{path}&explain=true").json()["data"]["column_rows"] == 5


def test_properties_that_were_dropped(
    service: httpx.Client, conn: connection, database_url: str
) -> None:
    insert(conn, *EVENTS)
    fold(database_url)
    conn.cursor().execute("update column_state set columns_from = '2025-03-11 00:00:00+00'")
    response = service.get(f"{COUNTS}?{RANGE}&where=plan:pro")
    assert_problem(response, 409, "events-dropped", payload="plan")
    assert response.json()["horizon"] == "2025-03-11T00:00:00Z"
    assert "start=2025-03-11T00:00:00Z" in response.json()["detail"]
    assert service.get(f"{COUNTS}?start=2025-03-11&end=2025-03-12&where=or:1").status_code == 200
    # Times, users and names are still there.
    assert service.get(f"{COUNTS}?{RANGE}&where=@user:ann").json()["data"]["events"] == 2


def test_a_property_that_was_left_out(service: httpx.Client, conn: connection) -> None:
    insert(conn, EVENTS[1])
    RollupWriter(conn, [zone("UTC")], max_paths=2).catch_up()
    left_out = 0
    for name in ("amount", "country", "plan", "zip"):
        response = service.get(f"{COUNTS}?{RANGE}&where={name}:12345678")
        if response.status_code == 200:
            continue
        assert_problem(response, 422, "invalid-parameter", "where", payload="12345678")
        (error,) = response.json()["errors"]
        assert f"the property {name} " in error["message"]
        assert "ANALYTICS_COLUMN_PATHS" in error["message"]
        left_out += 1
    assert left_out == 2


def test_a_property_that_has_columns_since_the_limit_was_raised(
    service: httpx.Client, conn: connection
) -> None:
    """Only ranges with a chunk that lacks it are refused, whatever the latest event is."""

    def write(year: int, properties: dict[str, object], max_paths: int) -> None:
        insert(conn, ("ann", "purchase", datetime(year, 3, 10, tzinfo=UTC), properties))
        RollupWriter(conn, [zone("UTC")], max_paths=max_paths).catch_up()

    def statuses(name: str) -> list[int]:
        paths = [f"{COUNTS}?start={year}-01-01&end={year}-12-31" for year in (2023, 2024, 2025)]
        return [service.get(f"{path}&where={name}:*").status_code for path in paths]

    write(2099, {"old": 1, "new": 1}, 1)
    write(2024, {"old": 1, "new": 1}, 1)
    (name,) = (name for name in ("old", "new") if statuses(name) == [200, 422, 200])
    for _ in range(9):
        write(2025, {name: 1}, 2)
    assert query(conn, "select count(*) from column_chunks where tier = 1") == [(1,)]
    assert statuses(name) == statuses("other") == [200, 422, 200]
    response = service.get(f"{COUNTS}?start=2024-01-01&end=2025-01-01&where={name}:*")
    (error,) = response.json()["errors"]
    assert "events from 2024-03-10T00:00:00Z to 2024-03-10T00:00:00Z" in error["message"]
    answer = service.get(f"{COUNTS}?start=2025-01-01&end=2025-12-31&where={name}:*").json()
    assert answer["data"]["events"] == 9


def test_a_property_that_was_left_out_before_events_were_dropped(
    service: httpx.Client, conn: connection, database_url: str
) -> None:
    """What is built anew has all properties; what cannot be built still lacks them."""
    properties = ("amount", "country", "plan", "zip")
    insert(conn, EVENTS[1])
    RollupWriter(conn, [zone("UTC")], max_paths=2).catch_up()
    drop(database_url, [], datetime(2025, 4, 1, tzinfo=UTC), keeps_properties=True)
    insert(conn, ("ann", "purchase", datetime(2025, 4, 2, tzinfo=UTC), {"zip": 1, "plan": "pro"}))
    RollupWriter(conn, [zone("UTC")]).rebuild()
    paths = [f"{COUNTS}?{RANGE}&where={name}:*" for name in properties]
    assert sorted(service.get(path).status_code for path in paths) == [200, 200, 422, 422]
    later = "start=2025-04-01&end=2025-04-03"
    answers = [service.get(f"{COUNTS}?{later}&where={name}:*").json() for name in properties]
    assert [answer["data"]["events"] for answer in answers] == [0, 0, 1, 1]


def test_a_property_whose_name_is_too_long(service: httpx.Client, conn: connection) -> None:
    insert(conn, ("ann", "purchase", datetime(2025, 3, 10, tzinfo=UTC), {"k" * 1_993: 1}))
    response = service.get(f"{COUNTS}?{RANGE}&where={'k' * 1_993}:*")
    assert_problem(response, 422, "invalid-parameter", "where")
    assert response.json()["errors"][0]["message"].endswith(
        "has so long a name that columns do not hold it"
    )


def test_commits_of_the_git_history(history: httpx.Client) -> None:
    """Counted in the file by other code."""
    year = f"{COUNTS}?start=2025-01-01&end=2026-01-01&event=commit"
    expected = {
        "insertions:>=100": (232, 57),
        "insertions:>=100+-area:Documentation": (182, 46),
        "area:t,builtin+deletions:0": (57, 28),
    }
    for text, (events, users) in expected.items():
        answer = history.get(f"{year}&where={text}").json()
        assert answer["data"] == {"events": events, "users": users}
