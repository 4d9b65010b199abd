"""The description of the API says what the API does."""

from typing import Any

import httpx
import pytest
from psycopg2.extensions import connection

from config.settings import Settings
from main import create_app
from tests.api.test_keys import add_key

DESCRIBED: dict[str, Any] = create_app(Settings()).openapi()
QUESTIONS = {
    path: item
    for path, item in DESCRIBED["paths"].items()
    if "/analytics/" in path and "get" in item
}


@pytest.mark.parametrize("path", QUESTIONS)
def test_errors_are_problems(path: str) -> None:
    responses = QUESTIONS[path]["get"]["responses"]
    for status in ("400", "422", "500", "503", "504"):
        assert list(responses[status]["content"]) == ["application/problem+json"]
    assert "HTTPValidationError" not in DESCRIBED["components"]["schemas"]


@pytest.mark.parametrize("path", QUESTIONS)
def test_everything_is_described(path: str) -> None:
    operation = QUESTIONS[path]["get"]
    assert operation["description"]
    for parameter in operation["parameters"]:
        assert parameter.get("description"), parameter["name"]


@pytest.mark.parametrize("path", QUESTIONS)
def test_an_answer_has_the_fields_that_are_described(path: str, history: httpx.Client) -> None:
    params = {"start": "2025-12-01", "end": "2026-01-01", "interval": "day", "compare": "previous"}
    params |= {"by": "area", "of": "insertions"}
    names = {parameter["name"] for parameter in QUESTIONS[path]["get"]["parameters"]}
    answer = history.get(
        path.format(user_id="u_e5e88ca5b91b", property="area"),
        params={name: value for name, value in params.items() if name in names}
        | ({"window": 9} if "window" in names else {})
        | ({"step": ["commit", "signed_off"]} if "step" in names else {}),
    ).json()
    content = QUESTIONS[path]["get"]["responses"]["200"]["content"]
    assert set(content) == {"application/json", "text/csv", "application/x-ndjson"}
    assert_fits(answer, content["application/json"]["schema"])


def test_what_is_sent_and_stored_is_described(service: httpx.Client) -> None:
    operation = DESCRIBED["paths"]["/events"]["post"]
    assert operation["description"]
    for status in ("400", "401", "403", "408", "413", "415", "422", "429", "500", "503", "504"):
        assert list(operation["responses"][status]["content"]) == ["application/problem+json"]
    content = operation["requestBody"]["content"]
    assert set(content) == {"application/json", "application/x-ndjson"}
    event, several = content["application/json"]["schema"]["anyOf"]
    assert (several["items"], several["maxItems"]) == (event, 10_000)
    example = {name: described["examples"][0] for name, described in event["properties"].items()}
    answer = service.post("/events", json=example | {"occurred_at": "2025-01-31T09:00:00+01:00"})
    assert answer.json() == {"accepted": 1, "duplicates": 0}
    stored = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert_fits(answer.json() | {"refused": 0}, stored)  # told where there are some


def test_a_receipt_is_described(service: httpx.Client, conn: connection) -> None:
    operation = DESCRIBED["paths"]["/analytics/users/{user_id}"]["delete"]
    assert operation["description"]
    assert all(parameter["description"] for parameter in operation["parameters"])
    for status in ("401", "403", "422", "503", "504"):
        assert list(operation["responses"][status]["content"]) == ["application/problem+json"]
    admin = add_key(conn, "an-admin", "admin")
    with conn.cursor() as cur:
        cur.execute("insert into adopted_tables (table_name, fields) values ('app.visits', '{}')")
    receipt = service.delete("/analytics/users/u", headers=admin).json()
    assert receipt["may_return_from"] == ["app.visits"]
    assert_fits(receipt, operation["responses"]["200"]["content"]["application/json"]["schema"])


def assert_fits(value: Any, schema: dict[str, Any]) -> None:
    """All that is described is there, unless it is optional, and nothing else."""
    if "$ref" in schema:
        schema = DESCRIBED["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    if "properties" in schema:
        assert set(schema.get("required", ())) <= set(value) <= set(schema["properties"])
        for name, inner in value.items():
            assert_fits(inner, schema["properties"][name])
    elif schema.get("type") == "array":
        assert value
        for item in value:
            assert_fits(item, schema["items"])
