"""A question over HTTP, whose answer must be there."""

from typing import Any

import httpx


def ask(client: httpx.Client, path: str, **parameters: Any) -> Any:
    """The whole answer: data and meta."""
    response = client.get(f"/analytics/{path}", params=parameters)
    assert response.status_code == 200, response.text
    return response.json()
