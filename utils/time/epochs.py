"""Times as numbers since 1970, in seconds, milliseconds, microseconds or nanoseconds."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal

Epoch = Literal["s", "ms", "us", "ns"]

PER_SECOND: Mapping[Epoch, int] = {
    "s": 1,
    "ms": 1000,
    "us": 1_000_000,
    "ns": 1_000_000_000,
}
EPOCH_NAMES: Mapping[Epoch, str] = {
    "s": "seconds since 1970",
    "ms": "milliseconds since 1970",
    "us": "microseconds since 1970",
    "ns": "nanoseconds since 1970",
}
# The years of events, 2000 to 2099, in seconds. In any unit, the ranges do not overlap.
FIRST_SECOND, END_SECOND = 946_684_800, 4_102_444_800

_1970 = datetime(1970, 1, 1, tzinfo=UTC)


def unit_of(number: Decimal | float) -> Epoch | None:
    """Return the unit in which a number is a time of the years 2000 to 2099; None without one."""
    for unit, per_second in PER_SECOND.items():
        if FIRST_SECOND * per_second <= number < END_SECOND * per_second:
            return unit
    return None


def instant_of(number: Decimal | float, unit: Epoch) -> datetime | None:
    """Return the instant in UTC, truncated to microseconds; None outside the years of events."""
    per_second = PER_SECOND[unit]
    if not FIRST_SECOND * per_second <= number < END_SECOND * per_second:
        return None
    exact = Decimal(repr(number)) if isinstance(number, float) else number
    return _1970 + timedelta(microseconds=int(exact * 1_000_000 // per_second))
