"""Our reading of roaring bitmaps against the library that writes them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap

from repo.verify.roaring import BadBitmap, decode

few = st.sets(st.integers(0, 2**32 - 1), max_size=60).map(BitMap)
runs = st.builds(
    lambda start, size: BitMap(range(start, start + size)),
    st.integers(0, 2**20),
    st.integers(0, 2**18),
)
dense = st.builds(
    lambda start, size, step: BitMap(range(start, start + size, step)),
    st.integers(0, 2**31),
    st.integers(0, 2**18),
    st.integers(2, 20),
)
bitmaps = st.lists(st.one_of(few, runs, dense), max_size=6).map(
    lambda parts: BitMap.union(*[BitMap(), *parts])
)


@given(bitmap=bitmaps, optimized=st.booleans())
def test_it_reads_what_the_library_writes(bitmap: BitMap, optimized: bool) -> None:
    if optimized:
        bitmap.run_optimize()
    assert np.array_equal(decode(bitmap.serialize()), np.array(bitmap, np.uint32))


@pytest.mark.parametrize("optimized", [False, True])
@pytest.mark.parametrize(
    "members",
    [
        [],
        [0],
        [2**32 - 1],
        range(4096),
        range(4097),
        range(0, 2**16, 2),
        range(2**16),
        [*range(10), *range(2**17, 2**17 + 9000, 2), *range(2**20, 2**20 + 5000)],
        [n << 16 for n in range(5)],
        [*range(2**18)],
    ],
    ids=lambda members: f"{len(members)} from {min(members, default='none')}",
)
def test_each_kind_of_container_is_read(members: list[int], optimized: bool) -> None:
    bitmap = BitMap(members)
    if optimized:
        bitmap.run_optimize()
    assert decode(bitmap.serialize()).tolist() == list(members)


ARRAYS = BitMap([1, 2, 70_000]).serialize()
DENSE = BitMap(range(0, 2**16, 2)).serialize()


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"", "requires"),
        (b"\0" * 8, "unknown cookie 0"),
        (ARRAYS[:-1], "length"),
        (ARRAYS + b"\0\0", "length"),
        (DENSE[:-1], "buffer"),
        (DENSE + b"\0", "length"),
        (DENSE[:-1] + b"\xff", "members instead of 32768"),
        (ARRAYS[:16] + b"\x19" + ARRAYS[17:], "offsets"),
        (ARRAYS[:24] + b"\2\0\1\0" + ARRAYS[28:], "out of order"),
    ],
)
def test_what_contradicts_itself_is_refused(sent: bytes, why: str) -> None:
    with pytest.raises(BadBitmap, match=why):
        decode(sent)


@given(bitmap=bitmaps, at=st.integers(0), bit=st.integers(0, 7))
def test_a_changed_bit_is_never_read_as_the_same(bitmap: BitMap, at: int, bit: int) -> None:
    sent = bytearray(bitmap.serialize())
    sent[at % len(sent)] ^= 1 << bit
    try:
        read = decode(bytes(sent))
    except BadBitmap:
        return
    assert not np.array_equal(read, np.array(bitmap, np.uint32))
