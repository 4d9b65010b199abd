"""Events that PostgreSQL has aggregated: segments of time, counts and users."""

from array import array
from datetime import UTC, datetime, timedelta

from pyroaring import BitMap

from repo.engine.aggregate_decoder import EventRow, TemporaryOrdinals, decode_events, segments_of
from repo.engine.span_cache import Row
from utils.copy_binary import SIGNATURE
from utils.time.calendar import Range

NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_segments_are_numbered_between_all_edges_and_only_ranges_have_an_index() -> None:
    early = Range(NOON, NOON + HOUR)
    late = Range(NOON + 3 * HOUR, NOON + 4 * HOUR)
    after = Range(late.end, late.end + HOUR)
    segments = segments_of([(0, early), (7, late), (8, after)])
    assert segments.edges == [*early, *late, after.end]
    assert segments.indexes == {0: 0, 2: 7, 3: 8}
    assert segments.params["start"] == NOON
    assert segments.params["end"] == after.end


def test_empty_ranges_have_no_segment() -> None:
    assert segments_of([(0, Range(NOON, NOON))]) == ([], {})


def test_users_without_ordinals_get_temporary_ones() -> None:
    ordinals, users = TemporaryOrdinals(), array("I")
    ordinals.add_to(users, b"a\0b\0a\0")
    ordinals.add_to(users, b"c\0b\0")
    first = 2**31
    assert users.tolist() == [first, first + 1, first, first + 2, first + 1]


def test_rows_are_decoded_with_ordinals_in_network_byte_order() -> None:
    fields = (
        (4, (5).to_bytes(4)),
        (8, (3).to_bytes(8)),
        (4, b"view"),
        (8, (1).to_bytes(4) + (258).to_bytes(4)),
        (2, b"x\0"),
    )
    row = (5).to_bytes(2) + b"".join(size.to_bytes(4) + value for size, value in fields)
    (event,) = decode_events(SIGNATURE + row + b"\xff\xff", TemporaryOrdinals())
    assert event == EventRow(5, "view", Row(3, BitMap([1, 258, 2**31])))
