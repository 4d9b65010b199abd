"""What holds for every question: forms, HEAD, parameters, plans, the cache, erasures and limits."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg2
import pytest
import redis
from psycopg2.extensions import connection

from common import questions
from common.questions import QUESTIONS
from common.questions.answer import PlanData
from common.questions.base import LIST_HEADERS, Counting, ListsUsers, Question, Ranged
from repo.events import EventsRepo
from tests.api.questions import PATHS, parameters_of, path_of
from tests.api.test_keys import add_key
from tests.database_clock import set_clock
from tests.events import fold, insert
from tests.live_server import identity_of, running, scrape
from tests.problems import assert_problem
from tests.servers import Cluster
from tests.wait_until import wait_until
from utils.formats import MEDIA_TYPES, Format

FORMS: list[Format] = ["json", "csv", "ndjson"]
NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)
RANGE = {"start": "2025-03-10", "end": "2025-03-12"}
FRESH = {"Cache-Control": "no-cache"}
ERASED = "erased-canary"
UNKNOWN = "x-unknown"
SHARED_HEADERS = {"x-cache", "x-content-type-options", "x-request-id"}


@dataclass(frozen=True)
class Example:
    """A request that shows all parts of an answer, and how many events the answer contains."""

    events: Callable[[Any], int]
    """The number of events in the `data` of an answer."""
    parameters: dict[str, str | list[str]] = field(default_factory=dict)
    source: str = "rollups"
    """The source of its answer."""


EXAMPLES = {
    "active_users": Example(
        lambda data: sum(day["dau"] for day in data["series"]), {"window": "3"}
    ),
    "breakdown": Example(
        lambda data: sum(row["events"] for row in [*data["rows"], data["other"]]),
        {"by": ["@event", "key"], "limit": "2", "interval": "day"},
        source="columns",
    ),
    "event_counts": Example(
        lambda data: sum(bucket["events"] for bucket in data["series"]),
        {"interval": "day", "compare": "previous"},
    ),
    "event_names": Example(
        lambda data: sum(row["events"] for row in data["rows"]), {"limit": "50"}
    ),
    "funnel": Example(
        lambda data: data["entered"],
        {"step": ["*", "*"], "within": "2d", "by": "key"},
        source="columns",
    ),
    "lifecycle": Example(
        lambda data: sum(period["active"] for period in data["series"]),
        {"interval": "day"},
        source="columns",
    ),
    "numbers": Example(
        lambda data: data["count"] + data["skipped"]["missing"],
        {"of": "ü", "by": "key", "stat": "sum,p50,p99.5", "interval": "day"},
        source="columns",
    ),
    "properties": Example(
        lambda data: sum(row["events"] for row in data["rows"] if row["property"] == "key"),
        {"limit": "50"},
        source="columns",
    ),
    "property_values": Example(
        lambda data: sum(row["events"] for row in data["rows"]),
        {"limit": "50"},
        source="columns",
    ),
    "retention": Example(
        lambda data: sum(cohort["users"] for cohort in data["cohorts"]),
        {"periods": "1", "by": "key"},
        source="columns",
    ),
    "stickiness": Example(lambda data: data["users"], source="columns"),
    "top_events": Example(lambda data: sum(row["events"] for row in data["rows"]), {"limit": "2"}),
    "user_events": Example(len, {"limit": "2"}, source="events"),
    "user_profile": Example(lambda data: data["events"], source="events"),
    "users": Example(
        lambda data: sum(user["events"] for user in data),
        {"sort": "events", "limit": "2"},
        "columns",
    ),
}
FILTERED = {
    question.name: Example(
        EXAMPLES[question.name].events,
        {
            **EXAMPLES[question.name].parameters,
            "where": "@user:* -some:thing",
            **({"did": "*", "not_did": "some:thing"} if issubclass(question, Counting) else {}),
        },
        source="columns",
    )
    for question in QUESTIONS
    if "where" in question.model_fields
}
"""Examples of the questions that take filters, which all events of users match."""
LIST_CELLS = {"active_users": "date:{day} @count:dau", "lifecycle": "start:{day}"}
"""Cells of the questions that have no total; `{day}` is the day of the events."""
LISTED = {
    question.name: Example(
        len,
        {
            **{
                name: value
                for name, value in EXAMPLES[question.name].parameters.items()
                if name in ("by", "of", "step")
            },
            "list": "users",
            **({"cell": LIST_CELLS[question.name]} if question.name in LIST_CELLS else {}),
        },
        source="columns",
    )
    for question in QUESTIONS
    # Numbers count users of events that have one, which not all events of these tests do.
    if issubclass(question, ListsUsers) and question.name != "numbers"
}
"""Examples of lists of the users behind a number."""


@dataclass(frozen=True)
class Case:
    """A question, and its example."""

    question: type[Question]
    example: Example
    day: str = "2025-03-10"
    """The day of the events that a cell is about."""

    @property
    def is_list(self) -> bool:
        """Whether the answer is a list of users in the place of numbers."""
        return "list" in self.example.parameters

    @property
    def path(self) -> str:
        return path_of(self.question, ERASED)

    def get(
        self, service: httpx.Client, form: Format, *, fresh: bool = False, **parameters: str
    ) -> httpx.Response:
        params = self.parameters(form, **parameters)
        response = service.get(self.path, params=params, headers=FRESH if fresh else {})
        assert response.status_code == 200, response.text
        return response

    def parameters(self, form: Format, **others: str) -> dict[str, str | list[str]]:
        """The parameters of the example and others, without those that the question lacks."""
        params: dict[str, str | list[str]] = {**RANGE, **self.example.parameters, **others}
        params["format"] = form
        if cell := params.get("cell"):
            params["cell"] = str(cell).format(day=self.day)
        known = parameters_of(self.question)
        return {name: value for name, value in params.items() if name in known}


CASES = [
    pytest.param((question, examples), id=f"{question.name}{suffix}")
    for suffix, examples in (("", EXAMPLES), (" where", FILTERED), (" list", LISTED))
    for question in QUESTIONS
    if question.name in examples
]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    question, examples = request.param
    return Case(question, examples[question.name])


def test_examples_are_of_questions() -> None:
    assert list(EXAMPLES) == [question.name for question in QUESTIONS]
    assert FILTERED.keys() <= EXAMPLES.keys()
    assert LIST_CELLS.keys() <= LISTED.keys()


def test_each_module_has_its_question() -> None:
    modules = {path.stem for path in Path(questions.__path__[0]).glob("*.py")}
    shared = {"__init__", "answer", "base", "user_lists"}
    assert {question.name for question in QUESTIONS} == modules - shared


@pytest.fixture(scope="module")
def shared_url(cluster: Cluster) -> str:
    """A folded database with three events of one user and one of another, on one day."""
    url = cluster.migrated_database()
    conn = psycopg2.connect(url)
    conn.autocommit = True
    names = ("buy", "view", 'Öl, "groß"')
    insert(conn, *((ERASED, name, NOON, {"ü": [0.1, name], "key": "a"}) for name in names))
    insert(conn, ("v", "view", NOON))
    conn.close()
    fold(url)
    return url


@pytest.fixture(scope="module")
def shared(shared_url: str, redis_url: str) -> Iterator[httpx.Client]:
    """A service whose events no test changes. Requests of different zones share no cache entry."""
    with running(shared_url, redis_url) as client:
        yield client


def test_it_has_a_method_of_the_repo(case: Case) -> None:
    assert callable(getattr(EventsRepo, f"get_{case.question.name}"))


def test_rows_are_the_same_in_csv_and_ndjson(case: Case, shared: httpx.Client) -> None:
    answers = {form: case.get(shared, form, tz="Asia/Tokyo") for form in FORMS}
    for form, answer in answers.items():
        assert answer.headers["content-type"] == MEDIA_TYPES[form]
    assert case.example.events(answers["json"].json()["data"]) > 0
    rows = [json.loads(line) for line in answers["ndjson"].text.splitlines()]
    header, *lines = csv.reader(io.StringIO(answers["csv"].text))
    assert len(rows) > 0
    assert [list(row) for row in rows] == [header] * len(rows)
    for line, row in zip(lines, rows, strict=True):
        assert [parsed(*pair) for pair in zip(line, row.values(), strict=True)] == [*row.values()]


def parsed(cell: str, expected: object) -> object:
    """The value of a cell of CSV: text as it is, other values as in JSON."""
    if isinstance(expected, str | None):
        return cell or None
    return json.loads(cell)


def test_accept_chooses_the_form(case: Case, shared: httpx.Client) -> None:
    for form in FORMS:
        expected = case.get(shared, form, tz="Asia/Tokyo")
        answer = shared.get(
            case.path,
            params=case.parameters("json", tz="Asia/Tokyo") | {"format": ()},
            headers={"Accept": MEDIA_TYPES[form].partition(";")[0]},
        )
        assert body(answer) == body(expected)
        assert answer.headers["vary"] == "Accept, Accept-Encoding"


def test_headers_beside_rows_are_declared(case: Case, shared: httpx.Client) -> None:
    """Scripts in browsers may only read those that CORS names."""
    headers = {name for name in case.get(shared, "csv").headers if name.startswith("x-")}
    declared = {header.lower() for header in case.question.response_headers}
    if issubclass(case.question, ListsUsers) and not case.is_list:
        declared -= {header.lower() for header in LIST_HEADERS}
    assert headers - SHARED_HEADERS <= declared
    own = declared - {UNKNOWN}
    assert bool(headers - SHARED_HEADERS - {UNKNOWN}) == bool(own), "let the example have one"


def test_head_is_get_without_the_body(case: Case, shared: httpx.Client) -> None:
    for form in FORMS:
        params = case.parameters(form)
        answer = shared.get(case.path, params=params)
        head = shared.head(case.path, params=params)
        assert (head.status_code, head.content) == (200, b"")
        for name in ("content-length", "content-type", "etag"):
            assert head.headers[name] == answer.headers[name]


def test_a_parameter_may_be_repeated_if_it_is_a_list(case: Case, shared: httpx.Client) -> None:
    paths = shared.get("/openapi.json").json()["paths"]
    described = paths[PATHS[case.question.name]]["get"]["parameters"]
    lists = [each["name"] for each in described if each["schema"].get("type") == "array"]
    assert ("event" in lists) == issubclass(case.question, Ranged)
    for name in parameters_of(case.question):
        response = shared.get(f"{case.path}?{name}=view&{name}=buy")
        if name in lists:
            assert "must be given once" not in response.text
        else:
            assert_problem(response, 422, "invalid-parameter", name, payload="buy")
            assert response.json()["errors"][0]["message"] == "must be given once"


def test_an_unknown_parameter_lists_the_known_ones(case: Case, shared: httpx.Client) -> None:
    response = shared.get(case.path, params={"name-canary": "value-canary"})
    assert_problem(response, 422, "invalid-parameter", "(unknown)", payload="canary")
    (error,) = response.json()["errors"]
    assert error["message"] == f"only these are allowed: {', '.join(parameters_of(case.question))}"


def test_a_plan_is_explained_where_one_counts(case: Case, shared: httpx.Client) -> None:
    params = {**case.parameters("json"), "explain": "true"}
    response = shared.get(case.path, params=params)
    if not issubclass(case.question, Counting):
        assert_problem(response, 422, "invalid-parameter", "(unknown)")
        return
    names = [each.name for each in fields(PlanData)]
    plan = response.json()["data"]
    assert [name for name in names if name in plan] == list(plan)
    assert plan["source"] == case.example.source
    assert plan["rows"] + plan["tail"] + plan.get("chunks", 0) > 0
    table = shared.get(case.path, params={**params, "format": "csv"}).text.splitlines()
    assert (table[0], len(table)) == (",".join(plan), 2)


def test_a_hit_is_the_bytes_of_the_miss(case: Case, shared: httpx.Client) -> None:
    for form in FORMS:
        answers = [case.get(shared, form, tz="Europe/Paris", fresh=True)]

        def is_hit(form: Format = form, answers: list[httpx.Response] = answers) -> bool:
            answers.append(case.get(shared, form, tz="Europe/Paris"))
            return answers[-1].headers["x-cache"] == "hit"

        # On a busy machine Redis may be too slow to store the first answer.
        wait_until(is_hit, timeout_s=5)
        *misses, hit = answers
        assert {miss.headers["x-cache"] for miss in misses} == {"miss"}
        assert hit.content in [miss.content for miss in misses]
        for name in ("content-type", "etag", *case.question.response_headers):
            assert hit.headers.get(name) == misses[0].headers.get(name)


def test_who_has_the_answer_gets_no_body(case: Case, shared: httpx.Client) -> None:
    for form in FORMS:
        tag = case.get(shared, form).headers["etag"]
        params = case.parameters(form)
        for headers in ({}, FRESH):
            known = {**headers, "If-None-Match": tag}
            response = shared.get(case.path, params=params, headers=known)
            assert (response.status_code, response.content) == (304, b"")
            assert response.headers["etag"] == tag
        other = shared.get(case.path, params=params, headers={"If-None-Match": '"other"'})
        assert other.status_code == 200


def test_its_computations_are_counted(case: Case, shared: httpx.Client) -> None:
    series = f'analytics_question_duration_seconds_count{{question="{case.question.name}",'

    def computed() -> float:
        lines = [line for line in scrape(shared).splitlines() if line.startswith(series)]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    before = computed()
    case.get(shared, "json", fresh=True)
    assert computed() == before + 1


def test_no_cache_sees_what_was_just_committed(
    case: Case, service: httpx.Client, conn: connection
) -> None:
    insert(conn, ("v", "view", NOON, {"key": "a"}))
    empty = case.example.events(case.get(service, "json", fresh=True).json()["data"])
    for form in FORMS:
        case.get(service, form)
    insert(conn, (ERASED, "view", NOON, {"key": "a"}))
    for form in FORMS:
        answer = case.get(service, form, fresh=True)
        assert answer.headers["x-cache"] == "miss"
        assert body(case.get(service, form)) == body(answer)
    assert case.example.events(case.get(service, "json").json()["data"]) == empty + 1


def test_an_erased_user_leaves_no_trace(
    case: Case, service: httpx.Client, conn: connection, database_url: str, redis_url: str
) -> None:
    """Neither in an answer that is computed nor in one that was cached before, nor in Redis."""
    admin = add_key(conn, "an-admin", "admin", name="admin")
    insert(conn, ("v", "view", NOON), ("v", "buy", NOON + timedelta(days=1)))
    fold(database_url)
    without = {form: body(case.get(service, form, fresh=True)) for form in FORMS}
    insert(conn, *[(ERASED, "name-canary", NOON, {"key": "value-canary"})] * 3)
    fold(database_url)
    for form in FORMS:
        assert body(case.get(service, form, fresh=True)) != without[form]
        wait_until(partial(is_other_hit, case, service, form, without[form]), timeout_s=10)
    keys = f"analytics:*:{identity_of(service)}:{case.question.name}:*"
    has_values = case.question.has_values and not case.is_list
    assert (b"value-canary" in stored(redis_url, keys)) == has_values
    erased = service.delete(f"/analytics/users/{ERASED}", headers=admin)
    assert (erased.status_code, erased.json()["events"]) == (200, 3)
    assert b"value-canary" not in stored(redis_url, keys)
    for form in FORMS:
        for answer in (case.get(service, form), case.get(service, form, fresh=True)):
            assert body(answer) == without[form]
            assert "canary" not in f"{answer.headers} {answer.text}"


def stored(redis_url: str, keys: str) -> bytes:
    """All that Redis stores under keys of this pattern."""
    with redis.Redis.from_url(redis_url) as client:
        found = list(client.scan_iter(keys, count=1000))
        return b"".join(value for value in (client.get(key) for key in found) if value)


def is_other_hit(case: Case, service: httpx.Client, form: Format, without: object) -> bool:
    """Whether another answer comes from the cache, which takes as long as late events do."""
    answer = case.get(service, form)
    return answer.headers["x-cache"] == "hit" and body(answer) != without


def body(answer: httpx.Response) -> object:
    """Without `meta`, in which the time of the computation differs."""
    is_json = answer.headers["content-type"] == MEDIA_TYPES["json"]
    return answer.json()["data"] if is_json else answer.text


@dataclass(frozen=True)
class Edge:
    """The first or the last instant of an event, and the local day that contains it."""

    instant: datetime
    tz: str
    day: str
    start: str
    end: str


EDGES = [
    Edge(
        datetime(2000, 1, 1, tzinfo=UTC),
        "Pacific/Pago_Pago",
        "1999-12-31",
        "1999-12-31T11:00:00Z",
        "2000-01-01T11:00:00Z",
    ),
    Edge(
        datetime(2099, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        "Pacific/Pago_Pago",
        "2099-12-31",
        "2099-12-31T11:00:00Z",
        "2100-01-01T11:00:00Z",
    ),
]


@pytest.fixture(scope="module", params=EDGES, ids=lambda edge: edge.day)
def edge(request: pytest.FixtureRequest) -> Edge:
    param: Edge = request.param
    return param


@pytest.fixture(scope="module", params=["events", "rollups"])
def at_the_edge(
    request: pytest.FixtureRequest, cluster: Cluster, redis_url: str, edge: Edge
) -> Iterator[httpx.Client]:
    """A service the day after the instant, with one event at the instant."""
    url = cluster.migrated_database()
    conn = psycopg2.connect(url)
    conn.autocommit = True
    set_clock(conn, edge.instant + timedelta(days=1))
    insert(conn, (ERASED, "view", edge.instant, {"key": "a"}))
    conn.close()
    if request.param == "rollups":
        fold(url)
    with running(url, redis_url) as client:
        yield client


def test_the_first_and_the_last_instant_of_events_are_in_their_days(
    case: Case, at_the_edge: httpx.Client, edge: Edge
) -> None:
    case = replace(case, day=edge.day)
    answers = {
        form: case.get(at_the_edge, form, start=edge.start, end=edge.end, tz=edge.tz)
        for form in FORMS
    }
    answer = answers["json"].json()
    assert case.example.events(answer["data"]) == 1
    assert len(answers["csv"].text.splitlines()) > 1
    if issubclass(case.question, Ranged):
        assert answer["meta"]["start"] == f"{edge.day}T00:00:00-11:00"
