"""Answers that are computed from a reading, after the connection was given back."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from common.questions.answer import Answer, Checkpoint, Meta, Reading
from common.questions.event_counts import EventCountsData
from repo.events import EventsRepo
from services.answering import answer_service
from services.dependencies import get_events_repo
from tests.api.test_dependency_overrides import COUNTS, META, FakeRepo
from tests.live_server import app_of, running, scrape, value
from tests.problems import assert_problem
from tests.source_comparison import finished
from tests.wait_until import wait_until

FRESH = {"Cache-Control": "no-cache"}
SECONDS = 'analytics_evaluation_duration_seconds_count{question="event_counts"}'

Evaluate = Callable[[Answer[Any], Checkpoint], Answer[Any]]


@pytest.fixture
def lone(database_url: str, redis_url: str) -> Iterator[httpx.Client]:
    """A service with a single connection for questions."""
    with running(database_url, redis_url, pool_size=1, request_timeout_s=30) as client:
        yield client


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> Callable[[Evaluate], None]:
    """Let event counts be computed by an evaluation that gets the answer."""

    def by(evaluate: Evaluate) -> None:
        class ReadingRepo(EventsRepo):
            def get_event_counts(self, query: Any) -> Reading[EventCountsData]:
                answer = finished(super().get_event_counts(query))
                return Reading(lambda checkpoint: evaluate(answer, checkpoint))

        monkeypatch.setattr(answer_service, "EventsRepo", ReadingRepo)

    return by


class Endless:
    """An evaluation that ends at a checkpoint alone."""

    def __init__(self) -> None:
        self.has_begun = threading.Event()
        self.has_ended = threading.Event()

    def __call__(self, _: Answer[Any], checkpoint: Checkpoint) -> Answer[Any]:
        self.has_begun.set()
        try:
            while True:
                checkpoint()
                time.sleep(0.001)
        finally:
            self.has_ended.set()


def test_it_is_cached_and_measured(
    lone: httpx.Client, evaluated: Callable[[Evaluate], None]
) -> None:
    evaluated(lambda answer, _: answer)
    before = value(scrape(lone), SECONDS)
    missed = lone.get(COUNTS)
    assert (missed.headers["x-cache"], missed.json()["data"]) == ("miss", {"events": 0, "users": 0})

    def is_hit() -> bool:
        return lone.get(COUNTS).headers["x-cache"] == "hit"

    wait_until(is_hit, timeout_s=5)
    assert lone.get(COUNTS).content == missed.content
    page = scrape(lone)
    assert value(page, SECONDS) >= before + 1
    assert value(page, "analytics_evaluation_wait_seconds_count") >= 1
    assert value(page, "analytics_evaluations") == 0


def test_it_holds_no_connection(lone: httpx.Client, evaluated: Callable[[Evaluate], None]) -> None:
    may_end = threading.Event()
    has_begun = threading.Event()

    def evaluate(answer: Answer[Any], _: Checkpoint) -> Answer[Any]:
        has_begun.set()
        may_end.wait(10)
        return answer

    evaluated(evaluate)
    with ThreadPoolExecutor(1) as threads:
        counting = threads.submit(lone.get, COUNTS, headers=FRESH)
        assert has_begun.wait(10)
        assert lone.get("/analytics/top-events", headers=FRESH).status_code == 200
        assert value(scrape(lone), "analytics_evaluations") == 1
        assert not counting.done()
        may_end.set()
        assert counting.result().status_code == 200


def test_it_ends_when_the_client_disconnects(
    lone: httpx.Client, evaluated: Callable[[Evaluate], None]
) -> None:
    evaluated(endless := Endless())
    url = lone.base_url
    with socket.create_connection((url.host, url.port)) as line:
        authorization = lone.headers["authorization"]
        line.sendall(
            f"GET {COUNTS} HTTP/1.1\r\nHost: {url.host}\r\n"
            f"Authorization: {authorization}\r\n\r\n".encode()
        )
        assert endless.has_begun.wait(10)
    assert endless.has_ended.wait(10)  # long before the deadline


def test_it_ends_at_the_deadline(
    database_url: str, redis_url: str, evaluated: Callable[[Evaluate], None]
) -> None:
    evaluated(endless := Endless())
    with running(database_url, redis_url, request_timeout_s=5) as service:
        assert_problem(service.get(COUNTS), 504, "too-slow")
        assert endless.has_ended.wait(10)


def test_a_fake_may_return_one(shared_service: httpx.Client) -> None:
    class ReadingFake(FakeRepo):
        def get_event_counts(self, _: Any) -> Any:
            return Reading(lambda _: Answer(EventCountsData(43, 7), Meta(*META)))

    overrides = app_of(shared_service).dependency_overrides
    overrides[get_events_repo] = ReadingFake
    try:
        answers = [shared_service.get(COUNTS) for _ in range(2)]
    finally:
        overrides.clear()
    assert [answer.json()["data"]["events"] for answer in answers] == [43, 43]
    assert {answer.headers["x-cache"] for answer in answers} == {"miss"}
