"""Dates and instants in parameters, and the years that they may be in."""

import re
from contextlib import suppress
from datetime import UTC, date, datetime

from utils.time.calendar import Range

EARLIEST = datetime(1999, 12, 31, tzinfo=UTC)
LATEST = datetime(2100, 1, 2, tzinfo=UTC)
ALL_TIME = Range(EARLIEST, LATEST)
"""The years of events, 2000 to 2099, and a day before and after for zones other than UTC."""

OUTSIDE_YEARS = "must be within the years 2000 to 2099"

# ASCII: `\d` would match the digits of any script.
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_INSTANT = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_DATES = (date(2000, 1, 1), date(2100, 1, 1))


def date_or_instant(value: object) -> date | datetime:
    """Return the date, or the instant in UTC. Raises: ValueError, with a message for clients."""
    parsed = value if isinstance(value, date) else _parse(value)
    earliest, latest = (EARLIEST, LATEST) if isinstance(parsed, datetime) else _DATES
    if not earliest <= parsed <= latest:
        raise ValueError(OUTSIDE_YEARS)
    return parsed


def _parse(text: object) -> date | datetime:
    with suppress(ValueError, OverflowError):
        if isinstance(text, str) and _DATE.fullmatch(text):
            return date.fromisoformat(text)
        if isinstance(text, str) and _INSTANT.fullmatch(text):
            # RFC 3339 allows a lower-case z, which Python 3.11 does not read.
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
    raise ValueError(
        "must be a date (2025-01-31) or an instant with its offset "
        "(2025-01-31T09:00:00Z, 2025-01-31T09:00:00%2B01:00; a plus sign is written %2B)"
    )
