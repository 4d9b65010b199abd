"""The parameter `where` over HTTP: what it means, what is refused, and what the answer says."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from common.query import Query
from common.questions import QUESTIONS
from common.questions.answer import Answer, Meta
from common.questions.event_counts import EventCountsData
from common.remarks import Note, Unknown
from services.dependencies import get_events_repo
from tests.api.questions import parameters_of, path_of
from tests.api.test_dependency_overrides import META
from tests.live_server import app_of
from tests.problems import assert_problem

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


def test_only_event_counts_have_it(shared_service: httpx.Client) -> None:
    for question in QUESTIONS:
        has_it = "where" in parameters_of(question)
        assert has_it == (question.name == "event_counts")
        response = shared_service.get(f"{path_of(question, 'u')}?where=plan:")
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
