"""What is kept, for how long, and how answers tell about it."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import redis
from psycopg2.extensions import connection

from tests.events import insert
from tests.live_server import identity_of, running, scrape, value
from tests.problems import assert_problem
from tests.slow_events import slow_down
from tests.wait_until import wait_until

NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)
CLOSED = {"start": "2025-03-10", "end": "2025-03-12"}
COUNTS = "/analytics/event-counts"
FRESH = {"Cache-Control": "no-cache"}


def data(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()["data"]


def executions(service: httpx.Client) -> float:
    series = 'analytics_question_duration_seconds_count{question="event_counts",source="events"}'
    return value(scrape(service), series)


def look_ups_that_failed(service: httpx.Client) -> float:
    page = scrape(service)
    operations = ("look_up", "skipped", "settle")
    series = 'analytics_cache_errors_total{{operation="{}"}}'
    return sum(value(page, series.format(operation)) for operation in operations)


LARGE = {"start": "2025-01-01", "end": "2025-03-01", "interval": "day"}


class TestEtag:
    def test_matching_etag_returns_304(self, service: httpx.Client, conn: connection) -> None:
        insert(conn, ("u", "view", NOON))
        first = service.get(COUNTS, params=CLOSED)
        tag = first.headers["etag"]
        second = service.get(COUNTS, params=CLOSED, headers={"If-None-Match": tag})
        assert (second.status_code, second.content) == (304, b"")
        assert second.headers["etag"] == tag
        assert second.headers["x-cache"] == "hit"
        assert second.headers["cache-control"] == "private, no-cache"

    @pytest.mark.parametrize("given", ["*", '"other", {}', "{strong}"])
    def test_lists_stars_and_strong_tags_match(self, service: httpx.Client, given: str) -> None:
        tag = service.get(COUNTS, params=CLOSED).headers["etag"]
        condition = given.format(tag, strong=tag.removeprefix("W/"))
        response = service.get(COUNTS, params=CLOSED, headers={"If-None-Match": condition})
        assert response.status_code == 304

    def test_etag_changes_only_with_the_answer(
        self, service: httpx.Client, conn: connection
    ) -> None:
        """`computed_at` and `complete_until` are others each time, the tag is not."""
        open_range = {"start": "2025-03-10"}
        tags = [
            service.get(COUNTS, params=open_range, headers=FRESH).headers["etag"] for _ in range(3)
        ]
        assert len(set(tags)) == 1
        insert(conn, ("u", "view", NOON))
        assert service.get(COUNTS, params=open_range, headers=FRESH).headers["etag"] != tags[0]

    def test_forms_and_questions_differ(self, service: httpx.Client) -> None:
        requests = [
            {**CLOSED, "interval": "day", "format": form} for form in ("json", "csv", "ndjson")
        ]
        requests += [
            {**CLOSED, "interval": "week", "format": "csv"},
            {**CLOSED, "tz": "Asia/Tokyo"},
        ]
        tags = [service.get(COUNTS, params=each).headers["etag"] for each in requests]
        assert len(set(tags)) == len(requests)


class TestCompression:
    def test_large_answers_are_compressed_once(self, service: httpx.Client) -> None:
        miss, hit = (
            service.get(COUNTS, params=LARGE, headers={"Accept-Encoding": "gzip"}) for _ in range(2)
        )
        assert (miss.headers["x-cache"], hit.headers["x-cache"]) == ("miss", "hit")
        assert miss.headers["content-encoding"] == hit.headers["content-encoding"] == "gzip"
        assert miss.content == hit.content
        assert len(data(hit)["series"]) == 59
        assert int(hit.headers["content-length"]) < len(hit.content) / 3

    @pytest.mark.parametrize("coding", ["identity", "br", "gzip;q=0", "*", ""])
    def test_clients_without_gzip_get_uncompressed_responses(
        self, service: httpx.Client, coding: str
    ) -> None:
        service.get(COUNTS, params=LARGE, headers={"Accept-Encoding": "gzip"})
        plain = service.get(COUNTS, params=LARGE, headers={"Accept-Encoding": coding})
        assert "content-encoding" not in plain.headers
        assert plain.headers["vary"] == "Accept, Accept-Encoding"
        assert len(data(plain)["series"]) == 59

    def test_small_responses_are_not_compressed(self, service: httpx.Client) -> None:
        small = service.get(COUNTS, params=CLOSED, headers={"Accept-Encoding": "gzip"})
        assert "content-encoding" not in small.headers


class TestFreshness:
    def test_no_cache_requests_include_the_latest_commit(
        self, service: httpx.Client, conn: connection
    ) -> None:
        for n in range(1, 4):
            insert(conn, ("u", "view", NOON))
            assert data(service.get(COUNTS, params=CLOSED, headers=FRESH))["events"] == n
        assert data(service.get(COUNTS, params=CLOSED))["events"] == 3

    def test_an_answer_tells_its_age(self, service: httpx.Client) -> None:
        assert service.get(COUNTS, params=CLOSED).headers["age"] == "0"
        time.sleep(1.1)
        assert service.get(COUNTS, params=CLOSED).headers["age"] == "1"

    def test_open_ranges_are_cached_for_the_open_ttl(
        self, database_url: str, redis_url: str, conn: connection
    ) -> None:
        with running(database_url, redis_url, cache_ttl_open_s=1) as service:
            params = {"start": "2025-03-10"}
            assert data(service.get(COUNTS, params=params))["events"] == 0
            insert(conn, ("u", "view", NOON))
            assert service.get(COUNTS, params=params).headers["x-cache"] == "hit"
            time.sleep(1.1)
            assert data(service.get(COUNTS, params=params))["events"] == 1

    def test_a_disabled_cache_stores_nothing(self, database_url: str, redis_url: str) -> None:
        with running(database_url, redis_url, cache_enabled=False) as service:
            answers = [service.get(COUNTS, params=CLOSED) for _ in range(2)]
            assert [answer.headers["x-cache"] for answer in answers] == ["miss", "miss"]

    def test_times_are_told(self, service: httpx.Client) -> None:
        miss, hit = (service.get(COUNTS, params=CLOSED).headers["server-timing"] for _ in "12")
        names = [[part.split(";")[0] for part in timing.split(", ")] for timing in (miss, hit)]
        assert sorted(names[0]) == ["answer", "cache", "total"]
        assert sorted(names[1]) == ["cache", "total"]


class TestOneFlight:
    @pytest.fixture
    def slow(self, service: httpx.Client, conn: connection) -> httpx.Client:
        """Each statement on events takes a third of a second."""
        slow_down(conn, 0.3)
        return service

    def test_a_cold_question_is_computed_once(self, slow: httpx.Client) -> None:
        before = executions(slow)
        with ThreadPoolExecutor(30) as threads:
            futures = [threads.submit(slow.get, COUNTS, params=CLOSED) for _ in range(30)]
            answers = {answer.result().content for answer in futures}
        assert len(answers) == 1
        assert executions(slow) - before == 1

    def test_concurrent_requests_to_two_processes_are_computed_once(
        self, slow: httpx.Client, database_url: str, redis_url: str
    ) -> None:
        """As long as Redis answers in time: a look-up that it does not may cost a computation."""
        with running(database_url, redis_url) as other:
            before, failed = executions(slow), look_ups_that_failed(slow)
            with ThreadPoolExecutor(20) as threads:
                services = (slow, other)
                futures = [
                    threads.submit(services[n % 2].get, COUNTS, params=CLOSED) for n in range(20)
                ]
                answers = {answer.result().content for answer in futures}
            maximum = 1 + look_ups_that_failed(slow) - failed
            assert 1 <= executions(slow) - before <= maximum
            assert len(answers) <= maximum

    def test_a_disconnect_does_not_affect_other_waiting_clients(self, slow: httpx.Client) -> None:
        def impatient() -> None:
            with pytest.raises(httpx.TimeoutException):
                httpx.get(
                    f"{slow.base_url}{COUNTS}", params=CLOSED, headers=slow.headers, timeout=0.1
                )

        first = threading.Thread(target=impatient)
        first.start()
        time.sleep(0.05)
        with ThreadPoolExecutor(10) as threads:
            futures = [threads.submit(slow.get, COUNTS, params=CLOSED) for _ in range(10)]
            assert {answer.result().status_code for answer in futures} == {200}
        first.join()

    def test_errors_are_shared_by_waiting_requests_but_not_cached(
        self, service: httpx.Client, conn: connection
    ) -> None:
        conn.cursor().execute("alter table events rename to hidden")
        with ThreadPoolExecutor(5) as threads:
            futures = [threads.submit(service.get, COUNTS, params=CLOSED) for _ in range(5)]
            assert {answer.result().status_code for answer in futures} == {503}
        conn.cursor().execute("alter table hidden rename to events")
        assert service.get(COUNTS, params=CLOSED).status_code == 200

    def test_a_popular_response_is_refreshed_before_it_expires(
        self, database_url: str, redis_url: str, conn: connection
    ) -> None:
        """It is kept for a second and takes a tenth: it is computed anew before its end."""
        slow_down(conn, 0.1)
        with running(database_url, redis_url, cache_ttl_open_s=1) as service:
            params = {"start": "2025-03-10"}
            assert service.get(COUNTS, params=params).headers["x-cache"] == "miss"
            end = time.monotonic() + 3.5
            answers = []
            while time.monotonic() < end:
                answers.append(service.get(COUNTS, params=params))
            durations = [answer for answer in answers if answer.headers["x-cache"] != "hit"]
            # A machine that stands still for a moment may make one of thousands late.
            assert len(durations) <= 1
            assert len(answers) > 100
            assert executions(service) >= 4

    def test_the_query_is_cancelled_when_the_last_client_disconnects(
        self, slow: httpx.Client, conn: connection
    ) -> None:
        slow_down(conn, 5)
        with pytest.raises(httpx.TimeoutException):
            slow.get(COUNTS, params=CLOSED, timeout=0.3)
        wait_until(lambda: not active(conn), timeout_s=1.5)


class TestStale:
    def test_old_answers_are_served_while_postgresql_is_away(
        self, database_url: str, redis_url: str, conn: connection
    ) -> None:
        insert(conn, ("u", "view", NOON))
        with running(database_url, redis_url, cache_ttl_open_s=1) as service:
            fresh = service.get(COUNTS, params=CLOSED)
            time.sleep(1.2)
            conn.cursor().execute("alter table events rename to hidden")
            stale = service.get(COUNTS, params=CLOSED)
            assert (stale.status_code, stale.headers["x-cache"]) == (200, "stale")
            assert stale.content == fresh.content
            assert int(stale.headers["age"]) >= 1
            insisted = service.get(COUNTS, params=CLOSED, headers=FRESH)
            assert_problem(insisted, 503, "unavailable")
            conn.cursor().execute("alter table hidden rename to events")
            assert service.get(COUNTS, params=CLOSED).headers["x-cache"] == "miss"


class TestPoison:
    @pytest.mark.parametrize(
        "poison",
        [b"", b"\x00garbage", b"9" * 26, b"1700000000000" + b"9999999999999" + b"\x97", b"0" * 500],
    )
    def test_garbage_is_replaced(
        self, service: httpx.Client, redis_url: str, poison: bytes
    ) -> None:
        first = service.get(COUNTS, params=CLOSED)
        with redis.Redis.from_url(redis_url) as client:
            (key,) = pages(client, service)
            client.set(key, poison)
            replaced = service.get(COUNTS, params=CLOSED)
            assert (replaced.status_code, replaced.headers["x-cache"]) == (200, "miss")
            assert service.get(COUNTS, params=CLOSED).headers["x-cache"] == "hit"
            assert data(replaced) == data(first)

    def test_another_type_is_replaced(self, service: httpx.Client, redis_url: str) -> None:
        service.get(COUNTS, params=CLOSED)
        with redis.Redis.from_url(redis_url) as client:
            (key,) = pages(client, service)
            client.delete(key)
            client.lpush(key, "a list")
            assert service.get(COUNTS, params=CLOSED).headers["x-cache"] == "miss"
            assert service.get(COUNTS, params=CLOSED).headers["x-cache"] == "hit"

    def test_the_page_of_another_question_is_not_served(
        self, service: httpx.Client, redis_url: str, conn: connection
    ) -> None:
        insert(conn, ("u", "view", NOON))
        service.get(COUNTS, params=CLOSED)
        with redis.Redis.from_url(redis_url) as client:
            (key,) = pages(client, service)
            service.get(COUNTS, params={**CLOSED, "event": "other"})
            (other,) = set(pages(client, service)) - {key}
            client.set(other, client.get(key) or b"")
        answer = service.get(COUNTS, params={**CLOSED, "event": "other"})
        assert data(answer)["events"] == 0


def pages(client: redis.Redis, service: httpx.Client) -> list[bytes]:
    """Those of this service: the cache is shared with other tests."""
    keys = client.scan_iter(b"analytics:*:" + identity_of(service).encode() + b":event_counts:*")
    return [key for key in keys if not key.endswith(b":flight")]


def active(conn: connection) -> int:
    with conn.cursor() as cur:
        cur.execute(
            "select count(*) from pg_stat_activity where state = 'active' "
            "and datname = current_database() and pid <> pg_backend_pid()"
        )
        (number,) = cur.fetchone() or (0,)
        return int(number)


def test_lists_in_several_headers_are_read_as_one(service: httpx.Client) -> None:
    """RFC 9110, 5.3."""
    first = service.get(COUNTS, params=CLOSED)
    headers = [("If-None-Match", '"another"'), ("If-None-Match", first.headers["etag"])]
    assert service.get(COUNTS, params=CLOSED, headers=headers).status_code == 304
    headers = [("Cache-Control", "max-age=60"), ("Cache-Control", "no-cache")]
    assert service.get(COUNTS, params=CLOSED, headers=headers).headers["x-cache"] == "miss"
    headers = [("Accept", "text/html"), ("Accept", "text/csv")]
    media_type = service.get(COUNTS, params=CLOSED, headers=headers).headers["content-type"]
    assert media_type == "text/csv; charset=utf-8"
