"""Keys: who may ask, how often, and how soon a change counts."""

import hashlib
import re
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import httpx
import pytest
from psycopg2.extensions import connection

from config.database import Database
from main import create_app
from repo.api_keys import ApiKeySet
from services import auth
from tests.api.test_caching import COUNTS
from tests.live_server import METRICS_TOKEN, running, scrape, value
from tests.problems import assert_problem
from tests.servers import KEY
from tests.slow_events import slow_down
from tests.wait_until import wait_until

RANGE = {"start": "2025-03-10", "end": "2025-03-12"}
NEEDED = 'Bearer realm="analytics"'
PUBLIC = {"/", "/healthz", "/readyz"}


def add_key(conn: connection, key: str, *scopes: str, name: str = "another") -> dict[str, str]:
    return store_key(conn, key_in(key), *scopes, name=name)


def store_key(conn: connection, key: str, *scopes: str, name: str) -> dict[str, str]:
    """Of any form. What no command makes is known once keys are read anew."""
    digest = hashlib.sha256(key.encode()).digest()
    conn.cursor().execute(
        "insert into api_keys (name, digest, hint, scopes) values (%s, %s, 'ask_', %s)",
        (name, digest, list(scopes)),
    )
    return {"Authorization": f"Bearer {key}"}


def key_in(output: str) -> str:
    """A text of the form of a key, with something to tell it by."""
    return f"ask_{output:-<40}"


def guess(number: int) -> dict[str, str]:
    return {"Authorization": f"Bearer {key_in(f'guess{number}')}"}


def status(service: httpx.Client, headers: dict[str, str]) -> int:
    return service.get(COUNTS, params=RANGE, headers=headers).status_code


@pytest.mark.parametrize(
    ("sent", "challenge"),
    [
        (None, NEEDED),
        ("Bearer wrong", f'{NEEDED}, error="invalid_token"'),
        ("Bearer", f'{NEEDED}, error="invalid_token"'),
        ("Basic dXNlcjpwYXNz", f'{NEEDED}, error="invalid_token"'),
        (KEY, f'{NEEDED}, error="invalid_token"'),
        (f"Bearer {KEY}2", f'{NEEDED}, error="invalid_token"'),
        ("Bearer " + "x" * 5_000, f'{NEEDED}, error="invalid_token"'),
    ],
)
def test_requests_without_a_valid_key_are_rejected(
    service: httpx.Client, sent: str | None, challenge: str
) -> None:
    headers = {"Authorization": sent} if sent else {}
    with httpx.Client(base_url=service.base_url) as stranger:
        for params in (RANGE, {"start": "nonsense"}):
            response = stranger.get(COUNTS, params=params, headers=headers)
            assert_problem(response, 401, "unauthorized", payload=sent)
            assert response.headers["www-authenticate"] == challenge


def test_cached_responses_need_a_key(service: httpx.Client) -> None:
    assert status(service, {}) == 200
    with httpx.Client(base_url=service.base_url) as stranger:
        assert stranger.get(COUNTS, params=RANGE).status_code == 401


def test_each_path_needs_a_key_but_these(service: httpx.Client) -> None:
    paths = create_app().openapi()["paths"]
    with httpx.Client(base_url=service.base_url) as stranger:
        open_to_all = {
            path
            for path, operations in paths.items()
            for method in operations
            if stranger.request(method, path.format(user_id="u", property="key")).status_code != 401
        }
    assert open_to_all == PUBLIC


def test_a_scope_is_needed(service: httpx.Client, conn: connection) -> None:
    writer = add_key(conn, "a-writer", "write", name="writer")
    response = service.get(COUNTS, params=RANGE, headers=writer)
    assert_problem(response, 403, "forbidden")
    assert 'error="insufficient_scope", scope="read"' in response.headers["www-authenticate"]
    assert status(service, add_key(conn, "an-admin", "admin", name="admin")) == 200


def test_cached_responses_need_the_read_scope(service: httpx.Client, conn: connection) -> None:
    assert status(service, {}) == 200
    assert status(service, add_key(conn, "a-writer", "write")) == 403


def test_a_new_key_works_at_once(service: httpx.Client, conn: connection) -> None:
    assert status(service, {"Authorization": f"Bearer {key_in('tomorrow')}"}) == 401
    assert status(service, add_key(conn, "tomorrow", "read")) == 200


def test_guessing_does_not_ask_the_database_each_time(
    service: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, reads = auth._read_keys, []

    async def counted(database: Database) -> ApiKeySet:
        reads.append(database)
        return await read(database)

    monkeypatch.setattr(auth, "_read_keys", counted)
    guesses = [guess(n) for n in range(200)]
    began = time.monotonic()
    with ThreadPoolExecutor(50) as threads:
        assert set(threads.map(lambda guess: verdict(service, guess), guesses)) == {401}
    # Each half a second for guesses, and each 2 seconds whether there are any or not.
    assert len(reads) <= 2.5 * (time.monotonic() - began) + 2


NO_KEYS = ["", "Bearer", "Bearer nope", "Basic x", f"Basic {key_in('x')}", "Bearer ask_short"]
NO_KEYS += [f"Bearer {key_in('of two')} words", f"Bearer {key_in('x')}=", key_in("bare")]


def test_malformed_keys_are_rejected_at_once(
    service: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing may wait here, and what would have to is told that it cannot be told."""
    monkeypatch.setattr(auth, "_MAX_GUESSES", 0)
    monkeypatch.setattr(auth, "_TRUSTED_S", -1)
    for key in NO_KEYS:
        answer = service.get(COUNTS, params=RANGE, headers={"Authorization": key})
        assert_problem(answer, 401, "unauthorized")
    assert status(service, guess(1)) == 503


def test_few_guesses_wait_at_a_time(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are told what is known, and keys are read each 2 seconds in any case."""
    with (
        running(database_url, redis_url, request_timeout_s=5) as service,
        ThreadPoolExecutor(5) as threads,
    ):
        assert status(service, {}) == 200
        monkeypatch.setattr(auth, "_GUESS_TIMEOUT_S", 60)
        monkeypatch.setattr(auth, "_MIN_READ_INTERVAL_S", 60)
        sent = [threads.submit(status, service, guess(n)) for n in range(5)]
        done, waiting = wait(sent, 20, FIRST_COMPLETED)
        assert {status(service, guess(n)) for n in range(5, 15)} == {401}
        assert status(service, {}) == 200
        assert [len(done), len(waiting)] == [1, 4]
        assert not any(each.done() for each in waiting)
        assert {each.result() for each in sent} == {401}


def verdict(service: httpx.Client, headers: dict[str, str]) -> int:
    """Asked again where a busy machine could not read the keys in time, which is a 503."""
    answers = (status(service, headers) for _ in range(10))
    return next((answer for answer in answers if answer != 503), 503)


def test_a_revoked_key_ends_within_5_seconds(service: httpx.Client, conn: connection) -> None:
    revoked = add_key(conn, "for-a-while", "read")
    wait_until(lambda: status(service, revoked) == 200, timeout_s=3)
    conn.cursor().execute("update api_keys set ends_at = now() where name = 'another'")
    wait_until(lambda: status(service, revoked) == 401, timeout_s=5)


def test_when_a_key_was_used_last_is_written_down(
    database_url: str, redis_url: str, conn: connection
) -> None:
    with running(database_url, redis_url) as service:
        assert status(service, {}) == 200
    with conn.cursor() as cur:
        cur.execute("select now() - last_used_at < interval '1 minute' from api_keys")
        assert cur.fetchone() == (True,)


def test_each_request_is_checked_once(service: httpx.Client) -> None:
    series = 'analytics_key_checks_total{result="ok"}'
    assert status(service, {}) == 200
    before = value(scrape(service), series)
    for headers in ({}, {"Cache-Control": "no-cache"}, {}):
        assert status(service, headers) == 200
    assert value(scrape(service), series) - before == 3


def test_metrics_have_a_token_of_their_own(service: httpx.Client) -> None:
    assert_problem(service.get("/metrics"), 401, "unauthorized")
    scrape(service)
    as_key = {"Authorization": f"Bearer {METRICS_TOKEN}"}
    assert status(service, as_key) == 401


def test_metrics_without_a_token_are_closed(database_url: str, redis_url: str) -> None:
    with running(database_url, redis_url, metrics_token=None) as service:
        assert_problem(service.get("/metrics"), 403, "forbidden")


class TestLimits:
    @pytest.fixture
    def limited(self, database_url: str, redis_url: str) -> Iterator[httpx.Client]:
        with running(database_url, redis_url, rate_limit=5, concurrency_limit=2) as service:
            yield service

    def test_a_burst_over_the_limit_is_refused(self, limited: httpx.Client) -> None:
        answers = [limited.get(COUNTS, params=RANGE) for _ in range(20)]
        allowed = [answer for answer in answers if answer.status_code == 200]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert len(allowed) + len(refused) == 20
        assert 5 <= len(allowed) <= 8
        assert allowed[0].headers["ratelimit-policy"] == '"second";q=5;w=1'
        assert re.fullmatch(r'"second";r=[0-4];t=1', allowed[0].headers["ratelimit"])
        assert_problem(refused[0], 429, "too-many-requests")
        assert refused[0].headers["retry-after"] == "1"
        assert refused[0].headers["ratelimit"] == '"second";r=0;t=1'
        time.sleep(1.1)
        assert status(limited, {}) == 200

    def test_the_rate_limit_is_shared_by_workers(
        self, limited: httpx.Client, database_url: str, redis_url: str
    ) -> None:
        time.sleep(1)
        with running(database_url, redis_url, rate_limit=5) as other:
            answers = [
                (limited, other)[n % 2].get(COUNTS, params=RANGE).status_code for n in range(20)
            ]
        assert 5 <= answers.count(200) <= 8

    def test_each_key_has_its_own(self, limited: httpx.Client, conn: connection) -> None:
        another = add_key(conn, "another", "read")
        assert [status(limited, {}) for _ in range(9)][-1] == 429
        assert status(limited, another) == 200

    def test_a_forged_address_is_no_way_around(self, limited: httpx.Client) -> None:
        forged = [{"X-Forwarded-For": f"10.0.0.{n}", "X-Real-IP": f"10.0.0.{n}"} for n in range(9)]
        assert [status(limited, headers) for headers in forged][-1] == 429

    def test_few_are_computed_at_a_time(self, limited: httpx.Client, conn: connection) -> None:
        slow_down(conn, 0.5)
        names = [{**RANGE, "event": f"e{n}"} for n in range(5)]
        with ThreadPoolExecutor(5) as threads:
            futures = [threads.submit(limited.get, COUNTS, params=each) for each in names]
            answers = [answer.result() for answer in futures]
        assert sorted(answer.status_code for answer in answers) == [200, 200, 429, 429, 429]
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert_problem(refused, 429, "too-many-at-once")
        assert refused.headers["retry-after"] == "1"
        time.sleep(1)
        assert status(limited, {}) == 200, "the places are free again"

    def test_without_redis_all_are_let_through(self, database_url: str) -> None:
        with running(database_url, "redis://127.0.0.1:1/0", rate_limit=1) as service:
            before = value(scrape(service), 'analytics_limited_requests_total{limit="unknown"}')
            assert [status(service, {}) for _ in range(5)] == [200] * 5
            after = value(scrape(service), 'analytics_limited_requests_total{limit="unknown"}')
            assert after - before == 5
