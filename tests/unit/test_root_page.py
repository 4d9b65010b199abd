"""The first page: which questions it links to, and what it makes of what it shows."""

from typing import Any

import pytest

from routes.overview import Links, Overview, QuestionLink, question_links
from routes.root_page import address_of, render


def operation(*parameters: dict[str, Any], tag: str = "analytics") -> dict[str, Any]:
    return {"tags": [tag], "summary": "New Ones", "description": "It.", "parameters": parameters}


def parameter(name: str, place: str = "query", **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": schema}


def test_a_new_question_is_linked_by_itself() -> None:
    """With the parameters that it has of those that have a usual value, and all it needs."""
    steps = {**parameter("steps", examples=[["sign up", "buy"]]), "required": True}
    paths = {
        "/analytics/new": {"get": operation(parameter("tz"), parameter("last"), steps)},
        "/analytics/users/{user_id}/new": {
            "get": operation(parameter("user_id", "path"), parameter("last"), parameter("limit")),
            "delete": operation(parameter("user_id", "path")),
        },
        "/events": {"post": operation()},
        "/healthz": {"get": operation(tag="health")},
    }
    assert [(link.title, link.path, link.example) for link in question_links({"paths": paths})] == [
        ("New ones", "/analytics/new", "/analytics/new?last=30d&steps=sign+up&steps=buy"),
        (
            "New ones",
            "/analytics/users/{user_id}/new",
            "/analytics/users/user_000001/new?limit=10",
        ),
    ]


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("localhost", "http://localhost"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("analytics:8000", "http://analytics:8000"),
        ("analytics.example", "https://analytics.example"),
        ("[2001:db8::1]", "https://[2001:db8::1]"),
        ("", "https://ADDRESS-OF-THIS-SERVICE"),
        ("x'; rm -rf ~ #", "https://ADDRESS-OF-THIS-SERVICE"),
        ("x:99999999", "https://ADDRESS-OF-THIS-SERVICE"),
        ("[x", "https://ADDRESS-OF-THIS-SERVICE"),
        ("user@x", "https://ADDRESS-OF-THIS-SERVICE"),
    ],
)
def test_commands_call_the_address_of_the_page(host: str, address: str) -> None:
    assert address_of(host) == address


@pytest.mark.parametrize("needs_key", [True, False])
def test_what_is_shown_is_escaped(needs_key: bool) -> None:
    hostile = "<b>\"&'$x"
    link = QuestionLink(title=hostile, description=hostile, path=hostile, example=hostile)
    overview = Overview(
        service=hostile,
        version=hostile,
        status="not ready",
        checks={hostile: hostile},
        needs_key=needs_key,
        metrics_access="open",
        questions=[link],
        links=Links(),
    )
    page = render(overview, hostile)
    assert hostile not in page
    assert "<b>" not in page
    assert page.count("&lt;b&gt;&quot;&amp;&#x27;$x") >= 7
