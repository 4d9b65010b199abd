"""Queries to the service under test."""

from typing import Any

import httpx


def ask(client: httpx.Client, path: str, **parameters: Any) -> Any:
    """The answer to a query, with data and meta. Raises: AssertionError if it is not a 200."""
    response = client.get(f"/analytics/{path}", params=parameters)
    assert response.status_code == 200, response.text
    return response.json()
