"""Values of request parameters that are accepted, and those that are refused."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from common.errors import InvalidParameter
from common.parameters import (
    Boolean,
    DateOrInstant,
    EventName,
    EventNames,
    Integer,
    LastText,
    Parameters,
    Zone,
)


class Page(Parameters):
    limit: Integer = 10


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (DateOrInstant, "2025-01-31", date(2025, 1, 31)),
        (DateOrInstant, "2025-01-31T09:00:00+01:00", datetime(2025, 1, 31, 8, tzinfo=UTC)),
        (DateOrInstant, "2025-01-31t09:00:00z", datetime(2025, 1, 31, 9, tzinfo=UTC)),
        (Integer, "-50", -50),
        (Boolean, "true", True),
        (Zone, "Europe/Berlin", "Europe/Berlin"),
        (LastText, "30d", "30d"),
        (EventNames, ["b", "a", "b"], ("a", "b")),
    ],
)
def test_accepted_values(kind: Any, text: object, value: object) -> None:
    assert TypeAdapter(kind).validate_python(text) == value


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (DateOrInstant, "2025-02-30", "must be a date"),
        (DateOrInstant, "2025-01-31T09:00:00", "an instant with its offset"),
        (DateOrInstant, "1999-12-31", "within the years 2000 to 2099"),
        (Zone, "Etc/GMT 5", "IANA time zone, such as UTC or Europe/Berlin; a plus sign is written"),
        (Integer, "1_000", "whole number in digits"),
        (Integer, "٣", "whole number in digits"),
        (Boolean, "yes", "must be true or false"),
        (Zone, "Berlin", "must be an IANA time zone"),
        (LastText, "30", "followed by h, d, w, mo, q or y"),
        (EventName, "a\x00b", "must not contain a NUL character"),
        (EventName, "é" * 101, "must be at most 200 bytes long"),
    ],
)
def test_refused_values(kind: Any, text: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(kind).validate_python(text)


def test_unknown_parameters_are_refused_without_their_name() -> None:
    with pytest.raises((InvalidParameter, ValidationError)) as refused:
        Page.model_validate({"limit": "5", "secret-name": "1"})
    assert "limit" in str(refused.value)
    assert "secret-name" not in str(refused.value)
