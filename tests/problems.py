"""Assertions on problem responses (RFC 9457)."""

import httpx


def assert_problem(
    response: httpx.Response, status: int, kind: str, *parameters: str, payload: str | None = None
) -> None:
    """Check the form of a problem, its request id and the parameters that it names.

    `payload` is text that the problem must not echo.
    """
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["type"] == f"urn:analytics-service:problem:{kind}"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == response.headers["x-request-id"]
    assert {error["parameter"] for error in body.get("errors", [])} == set(parameters)
    if payload:
        assert payload not in response.text
