"""POST /events: what is stored, what is refused, and that it is all of a request or nothing."""

import gzip
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from psycopg2.extensions import connection

from tests.api.questions import ask
from tests.api.requests import ENCODERS, array, ndjson, send, stored_rows
from tests.events import insert
from tests.factories import ID, event
from tests.live_server import AUTHORIZED, running, scrape, value
from tests.problems import assert_problem

JSON, NDJSON = "application/json", "application/x-ndjson"
DAY = {"start": "2025-01-31", "end": "2025-02-01"}
FORMS: list[tuple[str, Callable[..., bytes]]] = [(JSON, array), (NDJSON, ndjson)]


@pytest.mark.parametrize("coding", ENCODERS)
@pytest.mark.parametrize(("media_type", "form"), FORMS, ids=["array", "ndjson"])
def test_what_is_sent_is_stored_and_counted(
    service: httpx.Client, conn: connection, media_type: str, form: Any, coding: str
) -> None:
    body = ENCODERS[coding](form(event(1), event(2, user_id=None), event(3, properties=...)))
    answer = send(service, body, media_type, coding)
    assert answer.status_code == 200
    assert answer.json() == {"accepted": 3, "duplicates": 0}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert ask(service, "event-counts", **DAY)["data"] == {"events": 3, "users": 2}
    instant = datetime(2025, 1, 31, 9, tzinfo=UTC)
    assert stored_rows(conn, "event_id, user_id, event_name, occurred_at, properties") == [
        (ID.format(1), "u1", "view", instant, {"n": 1}),
        (ID.format(2), "", "view", instant, {"n": 2}),
        (ID.format(3), "u3", "view", instant, {}),
    ]


def test_one_event_is_a_request_as_well(service: httpx.Client, conn: connection) -> None:
    body = b"\xef\xbb\xbf " + json.dumps(event(1)).encode() + b"\r\n"
    answer = send(service, body, 'Application/JSON; charset="UTF-8"')
    assert answer.json() == {"accepted": 1, "duplicates": 0}
    assert stored_rows(conn) == [ID.format(1)]


@pytest.mark.parametrize(("body", "media_type"), [(b"[]", JSON), (b"", NDJSON), (b"\n \n", NDJSON)])
def test_no_events_are_no_error(service: httpx.Client, body: bytes, media_type: str) -> None:
    assert send(service, body, media_type).json() == {"accepted": 0, "duplicates": 0}


def test_users_may_have_numbers(service: httpx.Client, conn: connection) -> None:
    """All at once, and one by one since one of the ids is upper case."""
    users = [7, -7, 10**30, 0]
    events = [event(n, user_id=user) for n, user in enumerate(users)]
    unusual = event(9, event_id=ID.format(9).upper(), user_id=7)
    for body in (array(*events), array(*events, unusual)):
        assert send(service, body, JSON).status_code == 200
    assert stored_rows(conn, "user_id") == ["7", "-7", str(10**30), "0", "7"]
    assert ask(service, "event-counts", **DAY)["data"] == {"events": 5, "users": 4}


def test_what_the_client_leaves_out_is_made(service: httpx.Client, conn: connection) -> None:
    before = datetime.now(UTC)
    bare = {"event_name": "view"}
    answer = send(service, ndjson(bare, {**bare, "event_id": None, "occurred_at": None}))
    assert answer.json() == {"accepted": 2, "duplicates": 0}
    for event_id, occurred_at in stored_rows(conn, "event_id, occurred_at"):
        assert event_id[14] == "7"
        assert before <= occurred_at <= datetime.now(UTC)


def test_a_time_without_an_id_is_kept(service: httpx.Client, conn: connection) -> None:
    assert send(service, ndjson(event(1, event_id=...))).status_code == 200
    assert stored_rows(conn, "occurred_at") == [datetime(2025, 1, 31, 9, tzinfo=UTC)]


def test_an_event_id_counts_once(service: httpx.Client, conn: connection) -> None:
    twice = ndjson(event(1), event(2), event(1, event_name="other"))
    assert send(service, twice).json() == {"accepted": 2, "duplicates": 1}
    again = ndjson(event(2, event_name="other"), event(3))
    assert send(service, again).json() == {"accepted": 1, "duplicates": 1}
    assert stored_rows(conn, "event_name") == ["view", "view", "view"]


def test_ids_are_the_same_however_they_are_written(service: httpx.Client, conn: connection) -> None:
    plain = "8e2b1f52-64a3-4f0f-9f2c-0d9f0a9b6a01"
    spelled = [plain, plain.upper(), plain.replace("-", "")]
    answer = send(service, ndjson(*(event(1, event_id=each) for each in spelled)))
    assert answer.json() == {"accepted": 1, "duplicates": 2}
    assert stored_rows(conn) == [plain]


def test_numbers_stay_as_they_are_given(service: httpx.Client) -> None:
    exact = b'{"long": 123456789012345678901234567890, "fine": 0.10, "text": "\\u00fc\\n"}'
    body = ndjson(event(1)).replace(b'{"n": 1}', exact)
    assert send(service, array(body), JSON).status_code == 200
    history = service.get("/analytics/users/u1/events")
    for part in ("123456789012345678901234567890", "0.10", '"ü\\n"'):
        assert part in history.text


def ahead(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def test_clocks_may_be_ahead_by_5_minutes(service: httpx.Client, conn: connection) -> None:
    assert send(service, ndjson(event(1, occurred_at=ahead(290)))).status_code == 200
    late = send(service, ndjson(event(2, occurred_at=ahead(310))))
    assert_problem(late, 422, "invalid-events", "occurred_at")
    message = "must not be more than 5 minutes ahead"
    assert late.json()["errors"] == [{"parameter": "occurred_at", "message": message, "index": 0}]
    assert stored_rows(conn) == [ID.format(1)]


def raw(properties: bytes) -> bytes:
    return ndjson(event(1)).replace(b'{"n": 1}', properties)


BAD: list[tuple[dict[str, Any] | bytes, str, str]] = [
    (event(1, event_id="nonsense"), "event_id", "must be a UUID"),
    (event(1, event_id=7), "event_id", "must be a UUID"),
    (event(1, event_id=""), "event_id", "is missing"),
    (event(1, occurred_at=...), "occurred_at", "must be given if event_id is"),
    (event(1, occurred_at=""), "occurred_at", "is missing"),
    (
        event(1, occurred_at=1738314000),
        "occurred_at",
        "must be a time such as 2025-01-31T09:00:00+01:00",
    ),
    (
        event(1, occurred_at="2025-01-31"),
        "occurred_at",
        "must be a time such as 2025-01-31T09:00:00+01:00",
    ),
    (
        event(1, occurred_at="2025-01-31T09:00:00"),
        "occurred_at",
        "must have an offset, such as Z or +01:00",
    ),
    (
        event(1, occurred_at="0001-01-01T00:00:00+14:00"),
        "occurred_at",
        "must be within the years 2000 to 2099",
    ),
    (
        event(1, occurred_at="9999-12-31T23:59:59-12:00"),
        "occurred_at",
        "must be within the years 2000 to 2099",
    ),
    (event(1, event_name=...), "event_name", "is missing"),
    (event(1, event_name=""), "event_name", "is missing"),
    (event(1, event_name=["view"]), "event_name", "must be text"),
    (event(1, event_name="ü" * 101), "event_name", "must be at most 200 bytes long"),
    (event(1, event_name="\x00"), "event_name", "must not contain a NUL character"),
    (event(1, user_id=7.5), "user_id", "must be text, a whole number or null"),
    (event(1, user_id=True), "user_id", "must be text, a whole number or null"),
    (event(1, user_id=10**256), "user_id", "must be at most 256 bytes long"),
    (event(1, user_id="ü" * 129), "user_id", "must be at most 256 bytes long"),
    (event(1, properties=[]), "properties", "must be an object"),
    (event(1, properties="{}"), "properties", "must be an object"),
    (event(1, user_id="\x00"), "user_id", "must not contain a NUL character"),
    (event(1, properties={"x": "\x00"}), "properties", "must not contain a NUL character"),
    (event(1, properties={"\x00": 1}), "properties", "must not contain a NUL character"),
    (raw(b'{"x": "\\ud800"}'), "properties", "must not contain a lone surrogate"),
    (raw(b'{"x": "\\udc00y"}'), "properties", "must not contain a lone surrogate"),
    (raw(b'{"\\ud83d\\u0041": 1}'), "properties", "must not contain a lone surrogate"),
    (event(1, event_name="\udfff"), "event_name", "must not contain a lone surrogate"),
    (event(1, user_id="\ud800"), "user_id", "must not contain a lone surrogate"),
    (event(1, **{"canary\ud800": 1}), "(event)", "must not contain a lone surrogate"),
    (
        event(1, properties={"x": "y" * 70_000}),
        "properties",
        "must be an object of less than 64 kB",
    ),
    (raw(b'{"x": 1e400}'), "properties", "must not hold numbers beyond 1.8e308"),
    (raw(b'{"x": [-%s]}' % (b"9" * 400)), "properties", "must not hold numbers beyond 1.8e308"),
    (raw(b'{"x": 1e-140000}'), "properties", "must be a value that PostgreSQL can store as jsonb"),
    (
        raw(b'{"x": [%s1e300]}' % (b"1e300," * 300)),  # in the digits that PostgreSQL shows
        "properties",
        "must be an object of less than 64 kB",
    ),
    (
        event(1, canary=1),
        "(unknown)",
        "only these are allowed: event_id, user_id, event_name, occurred_at, properties",
    ),
    (raw(b'{"x": 1, "\\u0078": 2}'), "(event)", "must not have a key twice"),
    (
        b'{"event_name": "canary", "event_name": "view"}',
        "(event)",
        "must not have a key twice",
    ),
    (b"1", "(event)", "must be a JSON object"),
    (b"[]", "(event)", "must be a JSON object"),
    (b"null", "(event)", "must be a JSON object"),
    (b'"canary"', "(event)", "must be a JSON object"),
    (b'{"event_name": "\xff"}', "(event)", "must be UTF-8"),
    (raw(b'{"\xed\xa0\x80": 1}'), "(event)", "must be UTF-8"),
]
BROKEN = [
    raw(b'{"x": NaN}'),
    raw(b'{"x": -Infinity}'),
    raw(b'{"x": "\\ud800", "y": NaN}'),
    raw(b"[" * 20_000 + b"]" * 20_000),
    raw(b'{"x":' * 20_000 + b"1" + b"}" * 20_000),
    b'{"event_name": "canary"',
    b'{"event_name": "canary",}',
    b"{'event_name': 'canary'}",
    b"canary",
]


@pytest.fixture(scope="class")
def strict(request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """One service for all that is refused: nothing of it leaves a trace."""
    cluster = request.getfixturevalue("cluster")
    url = cluster.migrated_database()
    with running(url, request.getfixturevalue("redis_url")) as client:
        yield client


class TestWhatIsRefused:
    @pytest.mark.parametrize(("bad", "parameter", "message"), BAD)
    def test_each_reason_comes_with_its_place(
        self, strict: httpx.Client, bad: dict[str, Any] | bytes, parameter: str, message: str
    ) -> None:
        """In an array the commas between events are those that `array` puts for line breaks."""
        for media_type, form in FORMS:
            answer = send(strict, form(event(8), bad, event(9)), media_type)
            assert_problem(answer, 422, "invalid-events", parameter, payload="canary")
            fault = {"parameter": parameter, "message": message, "index": 1}
            assert answer.json()["errors"] == [fault]
            assert answer.json()["detail"] == "1 of 3 events are invalid, so none was stored."
        assert counted(strict) == 0

    @pytest.mark.parametrize("bad", BROKEN, ids=range(len(BROKEN)))
    def test_what_is_no_json_is_a_line_in_ndjson_and_else_the_whole_body(
        self, strict: httpx.Client, bad: bytes
    ) -> None:
        line = send(strict, ndjson(event(8), bad, event(9)))
        assert_problem(line, 422, "invalid-events", "(event)", payload="canary")
        fault = {"parameter": "(event)", "message": "must be valid JSON", "index": 1}
        assert line.json()["errors"] == [fault]
        for body in (bad, array(event(8), bad, event(9))):
            response = send(strict, body, JSON)
            assert_problem(response, 400, "unreadable-body", "(body)", payload="canary")
            assert response.json()["errors"][0]["message"] == "must be valid JSON in UTF-8"
        assert counted(strict) == 0

    def test_of_many_faults_the_first_hundred_are_told(self, strict: httpx.Client) -> None:
        bad = [event(n, event_id="x") for n in range(150)]
        answer = send(strict, ndjson(event(1), *bad))
        assert answer.json()["detail"] == (
            "150 of 151 events are invalid, so none was stored; `errors` lists the first 100."
        )
        assert [error["index"] for error in answer.json()["errors"]] == list(range(1, 101))

    def test_all_that_postgresql_finds_too_large_are_told(self, strict: httpx.Client) -> None:
        """It writes nine bytes for each of these objects, and seven are sent."""
        large = raw(b'{"a":[%s{"":0}]}' % (b'{"":0},' * 8_000))
        answer = send(strict, ndjson(event(1), *[large] * 60))
        assert answer.json()["detail"] == "60 of 61 events are invalid, so none was stored."
        assert [error["index"] for error in answer.json()["errors"]] == list(range(1, 61))

    def test_of_what_postgresql_cannot_read_ten_are_told(self, strict: httpx.Client) -> None:
        unreadable = raw(b'{"x": 1e-140000}')
        answer = send(strict, ndjson(*[unreadable] * 11))
        assert (
            answer.json()["detail"] == "At least 10 of 11 events are invalid, so none was stored."
        )
        assert [error["index"] for error in answer.json()["errors"]] == list(range(10))

    def test_of_large_batches_fewer_are_told(self, strict: httpx.Client) -> None:
        unreadable = raw(b'{"x": 1e-140000}')
        rest = [event(n, properties={"x": "y" * 60_000}) for n in range(200)]
        body = gzip.compress(ndjson(*[unreadable] * 5, *rest))
        answer = send(strict, body, coding="gzip")
        assert answer.status_code == 422, answer.text
        assert (
            answer.json()["detail"] == "At least 1 of 205 events are invalid, so none was stored."
        )

    def test_postgresql_is_asked_for_each_that_it_refuses(self, strict: httpx.Client) -> None:
        refused = raw(b'{"x": 1e-140000}')
        body = ndjson(refused, event(8), refused, refused, event(9), refused)
        positions = [error["index"] for error in send(strict, body).json()["errors"]]
        assert positions == [0, 2, 3, 5]
        assert counted(strict) == 0

    def test_the_only_event_is_the_first(self, strict: httpx.Client) -> None:
        answer = send(strict, json.dumps(event(1, user_id="\ud800")).encode(), JSON)
        message = "must not contain a lone surrogate"
        fault = {"parameter": "user_id", "message": message, "index": 0}
        assert answer.json()["errors"] == [fault]

    @pytest.mark.parametrize("media_type", [None, "", "text/plain", "application/jsonl", "json"])
    def test_other_forms(self, strict: httpx.Client, media_type: str | None) -> None:
        headers = {"Content-Type": media_type} if media_type is not None else {}
        answer = strict.post("/events", content=b"{}", headers=headers)
        assert_problem(answer, 415, "unsupported-media-type", "Content-Type")
        assert answer.headers["accept"] == "application/json, application/x-ndjson"

    def test_other_charsets(self, strict: httpx.Client) -> None:
        answer = send(strict, b"{}", "application/json; charset=latin-1")
        assert_problem(answer, 415, "unsupported-media-type", "Content-Type")

    @pytest.mark.parametrize("coding", ["br", "gzip, gzip", "canary"])
    def test_other_codings(self, strict: httpx.Client, coding: str) -> None:
        answer = send(strict, b"{}", JSON, coding)
        assert_problem(answer, 415, "unsupported-media-type", "Content-Encoding", payload="canary")
        assert answer.headers["accept-encoding"] == "gzip, zstd, identity"

    @pytest.mark.parametrize("coding", ["gzip", "zstd"])
    @pytest.mark.parametrize("cut", [0, 5, -1])
    def test_what_is_damaged(self, strict: httpx.Client, coding: str, cut: int) -> None:
        complete = ENCODERS[coding](ndjson(event(1)))
        for body in (complete[:cut], b"canary" + complete, complete + b"canary"):
            answer = send(strict, body, NDJSON, coding)
            assert_problem(answer, 400, "unreadable-body", "(body)", payload="canary")
            assert answer.json()["errors"][0]["message"] == f"must be complete {coding} data"

    def test_parameters(self, strict: httpx.Client) -> None:
        answer = strict.post("/events?canary=1", content=b"[]", headers={"Content-Type": JSON})
        assert_problem(answer, 422, "invalid-parameter", "(unknown)", payload="canary")

    def test_other_methods(self, strict: httpx.Client) -> None:
        for method in ("GET", "PUT", "DELETE"):
            answer = strict.request(method, "/events")
            assert_problem(answer, 405, "method-not-allowed")
            assert answer.headers["allow"] == "POST"


def counted(service: httpx.Client) -> int:
    """Of all time."""
    answer = ask(service, "event-counts", start="2000-01-01")
    return int(answer["data"]["events"])


def test_the_metrics_tell_what_became_of_events(service: httpx.Client) -> None:
    series = 'analytics_ingested_events_total{{result="{}"}}'
    names = [series.format(result) for result in ("accepted", "duplicate", "refused")]
    timed = "analytics_ingest_duration_seconds_count"
    before = scrape(service)
    send(service, ndjson(event(1), event(2), event(2)))
    send(service, ndjson(event(3), event(4, event_name=""), event(5, event_id="")))
    after = scrape(service)
    assert [value(after, name) - value(before, name) for name in names] == [2, 1, 2]
    assert value(after, timed) - value(before, timed) == 2


def test_events_and_other_rows_share_the_table(service: httpx.Client, conn: connection) -> None:
    insert(conn, ("u9", "view", datetime(2025, 1, 31, 9, tzinfo=UTC)))
    send(service, ndjson(event(1)))
    assert ask(service, "event-counts", **DAY)["data"] == {"events": 2, "users": 2}


def test_pages_of_origins_that_are_set_may_send(database_url: str, redis_url: str) -> None:
    origin = "https://app.example"
    with running(database_url, redis_url, cors_origins=origin) as service:
        first = httpx.options(
            f"{service.base_url}/events",
            headers={
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization,content-type,content-encoding",
            },
        )
        assert first.status_code == 200
        answer = send(service, ndjson(event(1)), **{**AUTHORIZED, "Origin": origin})
        assert answer.headers["access-control-allow-origin"] == origin
