"""Builds events as in files and requests, and queries."""

from typing import Any

from common.questions.user_events import UserEvents, UserEventsQuery

ID = "00000000-0000-4000-8000-{:012}"


def event(n: int, **other: Any) -> dict[str, Any]:
    """An event with a fixed time in the past; a field that is `...` is left out."""
    fields = {
        "event_id": ID.format(n),
        "user_id": f"u{n}",
        "event_name": "view",
        "occurred_at": "2025-01-31T09:00:00Z",
        "properties": {"n": n},
    } | other
    return {name: value for name, value in fields.items() if value is not ...}


def with_cursor(question: UserEvents, cursor: str) -> UserEventsQuery:
    """The query of another page of a history."""
    # Not `model_copy`, which would copy the resolved query as well.
    return UserEvents(**{**question.model_dump(), "cursor": cursor}).query
