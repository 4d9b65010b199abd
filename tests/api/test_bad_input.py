"""Bad input is a clear 4xx that names the parameter, never a 500, and never an echo."""

from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from common.questions import QUESTIONS
from common.questions.base import Question
from tests.api.questions import parameters_of, path_of, required_of
from tests.problems import assert_problem

FREE = {"event", "where", "did", "not_did", "by", "of", "exclude", "same", "from", "to", "starts"}
"""Parameters that may name nearly anything."""
CORPUS = [
    "NaN",
    "Infinity",
    "1e400",
    "%00",
    "a%00b",
    "%FF",
    "%C3%28",
    "%ED%A0%80",  # a lone surrogate
    str(2**63),
    "-1",
    # What Python's `int` takes beside digits, and other numbers.
    "1_0",
    "%2B10",
    "+10",
    "%2010",
    "10%0A",
    "%EF%BC%91%EF%BC%90",  # full-width digits
    "%D9%A1%D9%A0",  # Arabic ones
    "1e1",
    "0x10",
    "10.0",
    "%EF%BC%92%EF%BC%90%EF%BC%92%EF%BC%95-01-01",
    "0001-01-01T00:00:00%2B14:00",
    "9999-12-31T23:59:59-12:00",
    "2025-02-30",
    "2025-01-01T00:00:00",  # no offset
    "2025-01-01T24:00:00Z",
    "20000000001",
    "{a,b}",
    "%25",
    "trailing%5C",
    "'; drop table events; --",
    "$(reboot)",
    "../../etc/passwd",
    "UTC+3",
    "Europe/Nowhere",
    "[" * 5_000,
    "x" * 20_000,
    "",
]


def parameters() -> list[Any]:
    return [
        pytest.param(question, name, id=f"{question.name} {name}")
        for question in QUESTIONS
        for name in parameters_of(question)
    ]


@pytest.mark.parametrize(("question", "parameter"), parameters())
def test_no_parameter_can_break_a_question(
    shared_service: httpx.Client, question: type[Question], parameter: str
) -> None:
    others = urlencode(required_of(question, parameter), doseq=True)
    for value in CORPUS:
        prefix = "&start=2025-01-01" if parameter == "end" else ""
        path = f"{path_of(question, 'u1')}?{parameter}={value}{prefix}&{others}"
        response = shared_service.get(path.removesuffix("&"))
        if parameter in FREE and response.status_code == 200:
            assert "%FF" not in value
            continue
        assert 400 <= response.status_code < 500, (value, response.text)
        named = parameter
        if "%FF" in value or "%C3%28" in value or "%ED%A0" in value:
            named = "query"
        kind = "invalid-cursor" if response.status_code == 400 else "invalid-parameter"
        echo = value if len(value) > 8 and "-" not in value else None
        assert_problem(response, response.status_code, kind, named, payload=echo)


@pytest.mark.parametrize("value", ["1", "0", "yes", "on", "t", "True", "TRUE", "false%20", "no"])
def test_a_boolean_is_true_or_false(shared_service: httpx.Client, value: str) -> None:
    answer = shared_service.get(f"/analytics/event-counts?start=2025-01-01&explain={value}")
    assert_problem(answer, 422, "invalid-parameter", "explain")
    assert answer.json()["errors"][0]["message"] == "must be true or false"


@pytest.mark.parametrize(
    ("query", "parameter", "message"),
    [
        ("top-events?limit=0", "limit", "must be at least 1"),
        ("top-events?limit=1001", "limit", "must be at most 1000"),
        ("top-events?event=", "event", "must not be empty"),
        ("breakdown?last=1d", "by", "is required"),
        ("funnel?step=commit", "step", "must be given at least 2 times"),
        (
            "event-counts?interval=minute",
            "interval",
            "must be 'hour', 'day', 'week', 'month', 'quarter' or 'year'",
        ),
    ],
)
def test_a_message_says_what_is_allowed(
    shared_service: httpx.Client, query: str, parameter: str, message: str
) -> None:
    answer = shared_service.get(f"/analytics/{query}")
    assert_problem(answer, 422, "invalid-parameter", parameter)
    assert answer.json()["errors"][0]["message"] == message


def test_a_whole_number_is_digits(shared_service: httpx.Client) -> None:
    answer = shared_service.get("/analytics/top-events?start=2025-01-01&limit=1_0")
    assert_problem(answer, 422, "invalid-parameter", "limit")
    message = answer.json()["errors"][0]["message"]
    assert message == "must be a whole number in digits, such as 50"
    assert shared_service.get("/analytics/top-events?start=2025-01-01&limit=10").status_code == 200


@pytest.mark.parametrize("value", ["%00", "a%00b", "x" * 300, "%C3%BC" * 150])
def test_a_user_id_that_cannot_be_stored_is_refused(
    shared_service: httpx.Client, value: str
) -> None:
    assert_problem(
        shared_service.get(f"/analytics/users/{value}/events"), 422, "invalid-parameter", "user_id"
    )


@pytest.mark.parametrize("value", ["%FF", "%ED%A0%80", "a%C3%28"])
def test_a_path_that_is_not_utf_8_is_refused(shared_service: httpx.Client, value: str) -> None:
    assert_problem(
        shared_service.get(f"/analytics/users/{value}/events"), 422, "invalid-parameter", "path"
    )


def test_an_empty_user_id_is_rejected(shared_service: httpx.Client) -> None:
    assert_problem(
        shared_service.get("/analytics/users//events"), 422, "invalid-parameter", "user_id"
    )


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("start=2025-02-01&end=2025-01-01", "start"),
        ("start=2025-02-01&end=2025-02-01", "start"),
        ("start=2099-01-01", "start"),
        ("end=2025-01-01", "start"),
        ("last=30d&start=2025-01-01", "last"),
        ("last=9999mo", "last"),
        ("last=0d", "last"),
        ("start=1999-12-31", "start"),
        ("start=2025-01-01&end=2101-01-01", "end"),
        ("tz=UTC&tz=UTC", "tz"),
        ("start=2025-01-01&start=2025-01-01", "start"),
        ("interval=minute", "interval"),
        ("interval=hour&start=1996-01-01&end=2026-01-01", "start"),
        ("interval=hour&start=2000-01-01&end=2030-01-01", "interval"),
        ("interval=day&start=2000-01-01&end=2099-01-01", "interval"),
        ("compare=next", "compare"),
        ("secret_canary=1", "(unknown)"),
        ("&".join(f"event=e{n}" for n in range(101)), "event"),
    ],
)
def test_what_does_not_fit_is_named(
    shared_service: httpx.Client, query: str, parameter: str
) -> None:
    response = shared_service.get(f"/analytics/event-counts?{query}")
    assert_problem(response, 422, "invalid-parameter", parameter, payload="secret_canary")


def test_a_plus_sign_that_is_a_space_is_explained(shared_service: httpx.Client) -> None:
    response = shared_service.get("/analytics/event-counts?tz=Etc/GMT+5")
    assert_problem(response, 422, "invalid-parameter", "tz")
    assert response.json()["errors"][0]["message"] == (
        "must be an IANA time zone, such as UTC or Europe/Berlin; a plus sign is written %2B"
    )


def test_an_unknown_parameter_lists_the_known_ones(shared_service: httpx.Client) -> None:
    response = shared_service.get("/analytics/top-events?limits=5")
    (error,) = response.json()["errors"]
    assert error["message"] == (
        "only these are allowed: format, start, end, last, tz, week_start, event, where, did, "
        "not_did, explain, list, cell, cursor, page_size, limit"
    )


class TestCursor:
    PATH = "/analytics/users/u_1/events"

    @pytest.fixture
    def cursor(self, shared_service: httpx.Client) -> str:
        return str(shared_service.get(self.PATH, params={"limit": 3}).json()["meta"]["next_cursor"])

    def test_a_tampered_cursor_is_refused(self, shared_service: httpx.Client, cursor: str) -> None:
        for position in (0, len(cursor) // 2, len(cursor) - 1):
            forged = (
                cursor[:position]
                + ("A" if cursor[position] != "A" else "B")
                + cursor[position + 1 :]
            )
            response = shared_service.get(self.PATH, params={"cursor": forged})
            assert_problem(response, 400, "invalid-cursor", "cursor", payload=forged)

    @pytest.mark.parametrize(
        "other", [{"event": "commit"}, {"tz": "Asia/Tokyo"}, {"start": "2020-01-01"}]
    )
    def test_other_filters_are_refused(
        self, shared_service: httpx.Client, cursor: str, other: dict[str, str]
    ) -> None:
        response = shared_service.get(self.PATH, params={"cursor": cursor, **other})
        assert_problem(response, 400, "invalid-cursor", "cursor")

    def test_another_user_is_refused(self, shared_service: httpx.Client, cursor: str) -> None:
        response = shared_service.get("/analytics/users/u_other/events", params={"cursor": cursor})
        assert_problem(response, 400, "invalid-cursor", "cursor")

    def test_another_limit_is_fine(self, shared_service: httpx.Client, cursor: str) -> None:
        response = shared_service.get(self.PATH, params={"cursor": cursor, "limit": 7})
        assert len(response.json()["data"]) == 7


def test_an_unknown_path_is_a_problem(shared_service: httpx.Client) -> None:
    assert_problem(
        shared_service.get("/analytics/nothing-here"), 404, "not-found", payload="nothing-here"
    )


def test_an_unknown_method_is_a_problem(shared_service: httpx.Client) -> None:
    response = shared_service.post("/analytics/event-counts", json={"a": 1})
    assert_problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == "GET, HEAD"


def test_a_request_id_that_is_none_is_replaced(shared_service: httpx.Client) -> None:
    response = shared_service.get("/healthz", headers={"X-Request-Id": "x" * 100})
    assert response.status_code == 200
    assert response.headers["x-request-id"] != "x" * 100
