"""Queries to the service under test."""

from typing import Any

import httpx
from fastapi.routing import APIRoute

from common.questions.base import Question
from routes import analytics

PATHS = {
    route.name: route.path.replace(":text}", "}")
    for route in analytics.router.routes
    if isinstance(route, APIRoute)
}
"""The path of each question by its name, in the order of the routes."""


REQUIRED: dict[str, dict[str, Any]] = {
    "breakdown": {"by": "plan"},
    "funnel": {"step": ["*", "*"]},
    "numbers": {"of": "amount"},
}
"""Values of the parameters that a question requires."""


def required_of(question: type[Question], *others: str) -> dict[str, Any]:
    """Values of the parameters that a question requires, without these others."""
    values = REQUIRED.get(question.name, {})
    return {name: value for name, value in values.items() if name not in others}


def path_of(question: type[Question], user_id: str = "u") -> str:
    """The path of a question, about this user or about the property `key` if it is about one."""
    return PATHS[question.name].format(user_id=user_id, property="key")


def parameters_of(question: type[Question]) -> list[str]:
    """The parameters in the query string of a question, in the order of its fields."""
    path = PATHS[question.name]
    return [name for name in question.fields_by_parameter() if f"{{{name}}}" not in path]


def ask(client: httpx.Client, path: str, **parameters: Any) -> Any:
    """The answer to a query, with data and meta. Raises: AssertionError if it is not a 200."""
    response = client.get(f"/analytics/{path}", params=parameters)
    assert response.status_code == 200, response.text
    return response.json()
