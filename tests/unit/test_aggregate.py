"""Events of a fold, summed by slot and event name."""

import struct
from datetime import UTC, datetime, timedelta
from uuid import UUID

from pyroaring import BitMap

from repo.rollups.aggregate import (
    ALL,
    Batch,
    Delta,
    Rows,
    decode_rows,
    last_event,
    merge_deltas,
)
from utils.copy_binary import SIGNATURE

START = datetime(2000, 1, 1, tzinfo=UTC)
SLOT = 1_051_872
LATER = datetime(2001, 1, 1, tzinfo=UTC)


def rows(*events: tuple[int, int, int]) -> Rows:
    """Rows of COPY from (seconds since 2000, name_id, ordinal); ids are numbered from 1."""
    packed = (
        struct.pack("!hiqiiiii", 4, 8, second * 10**6, 4, name, 4, ordinal, 16) + UUID(int=n).bytes
        for n, (second, name, ordinal) in enumerate(events, 1)
    )
    return decode_rows(SIGNATURE + b"".join(packed) + b"\xff\xff")


def test_events_are_counted_by_slot_and_name() -> None:
    batch = Batch([rows((0, 1, 5), (899, 1, 5), (899, 2, 6)), rows((900, 1, 0))], LATER)
    assert batch.deltas == {
        (SLOT, 1): Delta(2, BitMap([5])),
        (SLOT, 2): Delta(1, BitMap([6])),
        (SLOT, ALL): Delta(3, BitMap([5, 6])),
        (SLOT + 1, 1): Delta(1, BitMap()),
        (SLOT + 1, ALL): Delta(1, BitMap()),
    }


def test_events_from_an_instant_on_are_left_out() -> None:
    batch = Batch([rows((0, 1, 5), (10, 2, 6))], START + timedelta(seconds=10))
    assert (len(batch), batch.names(), batch.slots) == (1, {1: 1}, {SLOT})


def test_months_before_an_instant_are_counted_from_year_0() -> None:
    february = 31 * 86_400
    batch = Batch([rows((0, 1, 5), (february, 1, 5), (2 * february, 1, 5))], LATER)
    assert batch.months_before(datetime(2000, 2, 15, tzinfo=UTC)) == [24_000, 24_001]


def test_the_last_event_is_the_one_with_the_highest_id_at_the_last_instant() -> None:
    assert last_event(rows((5, 1, 1), (5, 1, 1), (3, 1, 1))) == (
        START + timedelta(seconds=5),
        UUID(int=2),
    )


def test_deltas_add_events_and_join_users() -> None:
    merged = merge_deltas([Delta(1, BitMap([1])), Delta(2, BitMap([1, 2]))])
    assert merged == Delta(3, BitMap([1, 2]))
