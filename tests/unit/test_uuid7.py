"""UUIDs of version 7."""

from datetime import UTC, datetime, timedelta
from uuid import RFC_4122, UUID

from utils.uuid7 import time_ordered_uuid

# The example of RFC 9562, appendix A.6: 017F22E2-79B0-7CC3-98C4-DC0C0C07398F.
INSTANT = datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)


def test_the_time_is_that_of_the_example_in_the_rfc() -> None:
    assert time_ordered_uuid(INSTANT).startswith("017f22e2-79b0-7")


def test_version_and_variant_are_those_of_the_rfc() -> None:
    made = UUID(time_ordered_uuid(INSTANT))
    assert (made.version, made.variant) == (7, RFC_4122)


def test_ids_are_in_the_order_of_time() -> None:
    ids = [time_ordered_uuid(INSTANT + n * timedelta(milliseconds=1)) for n in range(20)]
    assert ids == sorted(ids)


def test_ids_of_one_instant_differ() -> None:
    assert len({time_ordered_uuid(INSTANT) for _ in range(100)}) == 100
