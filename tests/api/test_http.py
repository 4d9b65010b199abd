"""What holds for every answer: forms, headers, HEAD, the cache, health, metrics and the docs."""

import json
import re
import socket
from datetime import UTC, datetime
from urllib.parse import urlparse

import httpx
import pytest
import redis
from psycopg2.extensions import connection

from repo.migrate import migrations
from tests.events import insert
from tests.live_server import running, scrape, value
from tests.problems import assert_problem
from tests.servers import Cluster
from tests.wait_until import adjusted_for_load, wait_until

NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)
RANGE = {"start": "2025-03-10", "end": "2025-03-12"}


def test_csv_and_ndjson_by_accept_and_by_parameter(service: httpx.Client, conn: connection) -> None:
    insert(conn, ("u", "view", NOON), ("v", "view", NOON))
    params = {**RANGE, "interval": "day"}
    csv = service.get("/analytics/event-counts", params=params, headers={"Accept": "text/csv"})
    assert csv.headers["content-type"] == "text/csv; charset=utf-8"
    assert csv.text.splitlines() == [
        "day,start,end,events,users,partial,cut",
        "2025-03-10,2025-03-10T00:00:00Z,2025-03-11T00:00:00Z,2,2,false,false",
        "2025-03-11,2025-03-11T00:00:00Z,2025-03-12T00:00:00Z,0,0,false,false",
    ]
    lines = service.get("/analytics/event-counts", params={**params, "format": "ndjson"})
    assert lines.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line)["events"] for line in lines.text.splitlines()] == [2, 0]
    assert csv.headers["vary"] == "Accept, Accept-Encoding"


def test_a_page_of_csv_tells_its_cursors_in_headers(
    service: httpx.Client, conn: connection
) -> None:
    insert(conn, ("u", "a", NOON), ("u", "b", NOON))
    params: dict[str, str | int] = {"limit": 1, "format": "csv"}
    first = service.get("/analytics/users/u/events", params=params)
    second = service.get(
        "/analytics/users/u/events", params={**params, "cursor": first.headers["x-next-cursor"]}
    )
    assert "x-next-cursor" not in second.headers
    assert "x-previous-cursor" in second.headers
    names = [page.text.splitlines()[1].split(",")[1] for page in (first, second)]
    assert sorted(names) == ["a", "b"]


class TestWithoutRedis:
    def test_answers_come_all_the_same(self, database_url: str) -> None:
        with running(database_url, "redis://127.0.0.1:1/0") as service:
            response = service.get("/analytics/event-counts", params=RANGE)
            assert response.status_code == 200
            assert response.headers["x-cache"] == "miss"
            assert response.elapsed.total_seconds() < adjusted_for_load(0.25)
            assert service.get("/readyz").status_code == 200

    def test_an_unresponsive_redis_does_not_delay_answers(self, database_url: str) -> None:
        """It takes connections and never answers, as a stopped process does."""
        with (
            socket.create_server(("127.0.0.1", 0)) as silent,
            running(database_url, f"redis://127.0.0.1:{silent.getsockname()[1]}/0") as service,
        ):
            for _ in range(3):
                response = service.get("/analytics/event-counts", params=RANGE)
                assert response.headers["x-cache"] == "miss"
                assert response.elapsed.total_seconds() < adjusted_for_load(0.25)

    def test_garbage_is_replaced(
        self, service: httpx.Client, redis_url: str, database_url: str
    ) -> None:
        first = service.get("/analytics/top-events", params=RANGE)
        with redis.Redis.from_url(redis_url) as client:
            for key in client.scan_iter(b"analytics:*:top_events:*"):
                client.set(key, b"\x93garbage")
        second = service.get("/analytics/top-events", params=RANGE)
        third = service.get("/analytics/top-events", params=RANGE)
        assert [r.headers["x-cache"] for r in (first, second, third)] == ["miss", "miss", "hit"]
        assert second.json()["data"] == third.json()["data"] == first.json()["data"]


class TestWithoutPostgres:
    def test_questions_are_refused_and_health_is_not(self, redis_url: str) -> None:
        with running("postgresql://nobody@127.0.0.1:1/none", redis_url) as service:
            response = service.get("/analytics/event-counts", params=RANGE)
            assert_problem(response, 503, "unavailable")
            assert response.headers["retry-after"] == "2"
            assert service.get("/healthz").status_code == 200
            ready = service.get("/readyz")
            assert ready.status_code == 503
            assert ready.json()["checks"]["database"] == "unavailable: DatabaseUnavailable"


def test_a_question_that_takes_too_long_is_given_up(history_url: str, redis_url: str) -> None:
    with running(history_url, redis_url, request_timeout_s=0.01) as service:
        # Until the keys were read, which may take longer than a request of this service may.
        wait_until(lambda: service.get("/analytics/event-counts").status_code != 503, timeout_s=10)
        response = service.get("/analytics/active-users", params={"start": "2005-01-01"})
        assert_problem(response, 504, "too-slow")


def test_ready_tells_what_is_missing(cluster: Cluster, redis_url: str) -> None:
    with running(cluster.empty_database(), redis_url) as service:
        response = service.get("/readyz")
        assert response.status_code == 503
        assert response.json()["checks"]["database"] == (
            f"{len(migrations())} migrations missing: run the command migrate"
        )


def test_an_older_version_goes_on_beside_a_newer_one(
    service: httpx.Client, conn: connection
) -> None:
    conn.cursor().execute(
        "insert into schema_migrations (number, name, checksum) values (9999, 'of_tomorrow', '')"
    )
    ready = service.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]["database"]) == (200, "ok")
    assert service.get("/analytics/event-counts", params=RANGE).status_code == 200


def test_who_asks_for_readiness_takes_no_connections_from_others(service: httpx.Client) -> None:
    """Anybody may ask, as often as they like."""
    service.get("/readyz")
    acquired = 'analytics_pool_acquired_total{pool="questions"}'
    before = value(scrape(service), acquired)
    assert {service.get("/readyz").status_code for _ in range(100)} == {200}
    assert value(scrape(service), acquired) - before <= 10


def test_unexpected_errors_reveal_no_details(
    service: httpx.Client, conn: connection, caplog: pytest.LogCaptureFixture
) -> None:
    conn.cursor().execute("alter table events rename column occurred_at to happened_at")
    response = service.get("/analytics/event-counts", params=RANGE)
    assert_problem(response, 500, "internal-error")
    assert "happened_at" not in response.text
    assert "occurred_at" not in response.text
    (record,) = [each for each in caplog.records if each.message == "a request failed"]
    assert "UndefinedColumn 42703" in vars(record)["failure"]
    assert "occurred_at" not in str(vars(record))


def test_log_lines_name_no_user(service: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        service.get("/analytics/users/canary-user/events", params={"event": "canary-event"})
    (line,) = [each for each in caplog.records if each.name == "analytics.access"]
    assert vars(line)["route"] == "/analytics/users/{user_id:text}/events"
    assert "canary" not in str(vars(line))


def test_every_answer_has_an_id(service: httpx.Client) -> None:
    response = service.get("/healthz", headers={"X-Request-Id": "abc-1"})
    assert response.headers["x-request-id"] == "abc-1"
    assert len(service.get("/healthz").headers["x-request-id"]) == 32


def test_requests_are_counted_by_route_and_not_by_path(service: httpx.Client) -> None:
    before = scrape(service)
    for n in range(20):
        service.get(f"/analytics/users/u{n}/events")
        service.get(f"/nothing/{n}")
    after = scrape(service)
    counts = {line.rsplit(" ", 1)[0] for line in after.splitlines() if "http_requests" in line}
    assert not any("u7" in line or "nothing" in line for line in counts)
    history = 'http_requests_total{method="GET",route="/analytics/users/{user_id:text}/events",'
    history += 'status="200"}'
    assert value(after, history) - value(before, history) == 20
    nowhere = 'http_requests_total{method="GET",route="(none)",status="404"}'
    assert value(after, nowhere) - value(before, nowhere) == 20


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_the_docs_need_no_internet(service: httpx.Client, path: str) -> None:
    page = service.get(path)
    assert page.status_code == 200
    links = re.findall(r"""["']([^"']+\.(?:js|css|png))["']""", page.text)
    assert links
    for link in links:
        assert not urlparse(link).netloc
        assert service.get(link).status_code == 200


class TestCors:
    origin = "https://app.example"

    def test_pages_of_other_origins_may_not_ask(self, service: httpx.Client) -> None:
        response = service.get(
            "/analytics/event-counts", params=RANGE, headers={"Origin": self.origin}
        )
        assert "access-control-allow-origin" not in response.headers

    def test_those_that_are_set_may(self, database_url: str, redis_url: str) -> None:
        origins = f"{self.origin}, https://other.example"
        with running(database_url, redis_url, cors_origins=origins) as service:
            for _ in range(2):
                response = service.get(
                    "/analytics/event-counts", params=RANGE, headers={"Origin": self.origin}
                )
                assert response.headers["access-control-allow-origin"] == self.origin
                assert "Origin" in response.headers["vary"]
                assert "ETag" in response.headers["access-control-expose-headers"]
            asked_first = httpx.options(
                f"{service.base_url}/analytics/event-counts",
                headers={
                    "Origin": self.origin,
                    "Access-Control-Request-Method": "GET",
                    "Access-Control-Request-Headers": "authorization",
                },
            )
            assert asked_first.status_code == 200
            stranger = service.get("/healthz", headers={"Origin": "https://evil.example"})
            assert "access-control-allow-origin" not in stranger.headers
