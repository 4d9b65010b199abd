"""Times as numbers since 1970."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from utils.time.epochs import Epoch, instant_of, unit_of

INSTANT = datetime(2025, 1, 10, 9, 6, 40, tzinfo=UTC)


@pytest.mark.parametrize(
    ("number", "unit"),
    [
        (1736500000, "s"),
        (1736500000000, "ms"),
        (1736500000000000, "us"),
        (1736500000000000000, "ns"),
        (Decimal("1736500000.5"), "s"),
        (20250110, None),
        (0, None),
        (-1736500000, None),
    ],
)
def test_the_unit_is_that_of_the_years_of_events(
    number: Decimal | float, unit: Epoch | None
) -> None:
    assert unit_of(number) == unit


def test_instants_are_exact_to_the_microsecond() -> None:
    assert instant_of(1736500000, "s") == INSTANT
    assert instant_of(1736500000.25, "s") == INSTANT.replace(microsecond=250_000)
    assert instant_of(1736500000123456789, "ns") == INSTANT.replace(microsecond=123_456)
    assert instant_of(Decimal("1736500000123.456"), "ms") == INSTANT.replace(microsecond=123_456)


def test_numbers_of_other_years_have_no_instant() -> None:
    assert instant_of(1736500000, "ms") is None
    assert instant_of(4_102_444_800, "s") is None
    assert instant_of(float("nan"), "s") is None
