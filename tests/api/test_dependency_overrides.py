"""The injected repo runs the query of a request: no other is created, and a fake replaces it."""

import gc
from collections.abc import Callable, Iterator
from dataclasses import fields
from datetime import UTC, datetime
from typing import Annotated, Any
from unittest.mock import Mock
from weakref import WeakSet

import httpx
import pytest
from fastapi import Depends

from common.questions.active_users import ActiveUsersAnswer, ActiveUsersData, ActiveUsersMeta
from common.questions.answer import Answer, Meta, PlanData
from common.questions.event_counts import EventCountsData
from common.questions.top_events import Other, TopEventsData
from common.questions.user_events import PageMeta, UserEventsAnswer
from config.database import Connection
from repo.events import EventsRepo
from services.answering import answer_service
from services.answering.single_flight import BoundRepo
from services.dependencies import get_bound_repo, get_events_repo
from tests.live_server import app_of, identity_of
from tests.source_comparison import finished
from tests.wait_until import wait_until

COUNTS = "/analytics/event-counts?start=2020-01-01&end=2020-02-01"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
META = (NOON, NOON, "UTC", NOON, NOON, "fake")
PLAN = PlanData("fake", *range(1, len(fields(PlanData))))


class FakeRepo:
    """A repo without a connection, whose answers are constants."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def get_event_counts(self, _: Any) -> Answer[EventCountsData]:
        self.calls.append("event_counts")
        return Answer(EventCountsData(41, 7), Meta(*META))

    def get_top_events(self, _: Any) -> Answer[TopEventsData]:
        self.calls.append("top_events")
        return Answer(TopEventsData(42, 7, [], Other(0, 0, 0, 0.0)), Meta(*META))

    def get_active_users(self, _: Any) -> ActiveUsersAnswer:
        self.calls.append("active_users")
        return ActiveUsersAnswer(ActiveUsersData([]), ActiveUsersMeta(*META, windows={}))

    def get_user_events(self, _: Any) -> UserEventsAnswer:
        self.calls.append("user_events")
        return UserEventsAnswer([], PageMeta(*META, next_cursor="more", previous_cursor=None))

    def get_plan(self, _: Any) -> Answer[PlanData]:
        self.calls.append("plan")
        return Answer(PLAN, Meta(*META))


@pytest.fixture
def override(shared_service: httpx.Client) -> Iterator[Callable[[object], None]]:
    """Override `get_events_repo` until the end of the test."""
    overrides = app_of(shared_service).dependency_overrides

    def to(repo: object) -> None:
        overrides[get_events_repo] = lambda: repo

    yield to
    overrides.clear()


@pytest.mark.parametrize(
    ("path", "call", "expected"),
    [
        ("event-counts", "event_counts", {"events": 41, "users": 7}),
        (
            "top-events",
            "top_events",
            {
                "events": 42,
                "users": 7,
                "rows": [],
                "other": {"event_names": 0, "events": 0, "users": 0, "share": 0.0},
            },
        ),
        ("active-users", "active_users", {"series": []}),
        ("users/u_1/events", "user_events", []),
        ("event-counts?explain=true", "plan", None),
        ("top-events?explain=true", "plan", None),
        ("active-users?explain=true", "plan", None),
    ],
)
def test_a_fake_answers_each_request(
    shared_service: httpx.Client,
    override: Callable[[object], None],
    path: str,
    call: str,
    expected: object,
) -> None:
    override(fake := FakeRepo())
    answers = [shared_service.get(f"/analytics/{path}") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200], answers[0].text
    assert [answer.json()["meta"]["source"] for answer in answers] == ["fake", "fake"]
    if expected is not None:
        assert [answer.json()["data"] for answer in answers] == [expected, expected]
    assert fake.calls == [call, call]


def test_a_mock_answers(shared_service: httpx.Client, override: Callable[[object], None]) -> None:
    mock = Mock(spec=EventsRepo)
    mock.get_event_counts.return_value = Answer(EventCountsData(5, 3), Meta(*META))
    override(mock)
    assert [shared_service.get(COUNTS).json()["data"]["events"] for _ in range(2)] == [5, 5]


class SubclassedRepo(EventsRepo):
    """A fake that uses the connection of the request."""

    def get_event_counts(self, query: Any) -> Answer[EventCountsData]:
        answer = finished(super().get_event_counts(query))
        return Answer(EventCountsData(987_654, 321), answer.meta, answer.cache_version)


def test_the_answer_of_a_fake_on_the_database_is_not_cached(shared_service: httpx.Client) -> None:
    url = f"{COUNTS}&tz=Asia/Kolkata"
    app = app_of(shared_service)

    async def fake(bound: Annotated[BoundRepo, Depends(get_bound_repo)]) -> EventsRepo:
        return SubclassedRepo(bound.connection)

    app.dependency_overrides[get_events_repo] = fake
    try:
        assert shared_service.get(url).json()["data"]["events"] == 987_654
    finally:
        app.dependency_overrides.clear()
    after = shared_service.get(url)
    assert after.headers["X-Cache"] == "miss"
    assert after.json()["data"]["events"] != 987_654


def test_a_fake_neither_reads_nor_writes_the_cache(
    shared_service: httpx.Client, override: Callable[[object], None]
) -> None:
    before = shared_service.get(COUNTS).json()["data"]
    override(FakeRepo())
    assert shared_service.get(COUNTS).json()["data"]["events"] == 41
    app_of(shared_service).dependency_overrides.clear()
    assert shared_service.get(COUNTS).json()["data"] == before
    assert before["events"] != 41


class CountedRepo(EventsRepo):
    """Counts its instances."""

    callers: list[str]
    alive: "WeakSet[EventsRepo]"

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.callers.append(connection._caller)
        self.alive.add(self)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> type[CountedRepo]:
    """Requests get repos of this class."""
    monkeypatch.setattr(answer_service, "EventsRepo", CountedRepo)
    CountedRepo.callers, CountedRepo.alive = [], WeakSet()
    return CountedRepo


def test_a_computed_answer_has_one_repo_with_the_caller_of_its_request(
    shared_service: httpx.Client, counted: type[CountedRepo]
) -> None:
    url, fresh = f"{COUNTS}&tz=Asia/Tokyo", {"Cache-Control": "no-cache"}
    assert shared_service.get(url, headers=fresh).json()["meta"]["source"] == "rollups"
    (routed,) = counted.callers
    assert routed.startswith(f"{identity_of(shared_service)}:")
    shared_service.get(url, headers=fresh)  # by the fast path
    assert counted.callers == [routed, routed]


def test_a_cached_answer_has_no_repo(
    shared_service: httpx.Client, counted: type[CountedRepo]
) -> None:
    shared_service.get(COUNTS)
    counted.callers.clear()
    assert shared_service.get(COUNTS).headers["X-Cache"] == "hit"
    assert counted.callers == []


def test_a_refresh_has_a_repo_of_its_own(
    shared_service: httpx.Client, counted: type[CountedRepo], monkeypatch: pytest.MonkeyPatch
) -> None:
    shared_service.get(COUNTS)
    counted.callers.clear()
    monkeypatch.setattr(answer_service, "is_refresh_due", lambda *_: True)
    assert shared_service.get(COUNTS).headers["X-Cache"] == "hit"
    wait_until(lambda: counted.callers == ["refresh"], timeout_s=5)


def test_a_remembered_request_keeps_no_repo(
    shared_service: httpx.Client, counted: type[CountedRepo]
) -> None:
    def has_none_alive() -> bool:
        gc.collect()
        return not counted.alive

    shared_service.get(COUNTS, headers={"Cache-Control": "no-cache"})
    assert counted.callers
    wait_until(has_none_alive, timeout_s=5)
