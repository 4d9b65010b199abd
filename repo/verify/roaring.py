"""Roaring bitmaps in the portable format, read without the library that wrote them.

Source: RoaringFormatSpec, "Specification of the compressed-bitmaps Roaring format".
"""

import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ordinals = NDArray[np.uint32]

_NO_RUNS = 12346
_WITH_RUNS = 12347
_LARGEST_ARRAY = 4096
_BITSET_BYTES = 8192
_OFFSETS_FROM = 4
"""Where there are runs, fewer containers than this have no offsets."""
_HEAD = struct.Struct("<II")
_COUNT = struct.Struct("<H")
_LOW = np.dtype("<u2")


class BadBitmap(ValueError):
    """Not a roaring bitmap, or one that contradicts itself."""


class _Head(NamedTuple):
    """Of the containers: the high half of their members, how many, and where they stand."""

    keys: Sequence[int]
    sizes: Sequence[int]
    has_runs: Sequence[int] | None
    """None: no container has."""
    offsets: Sequence[int] | None
    end: int


def decode(data: bytes) -> Ordinals:
    """All members, in order. Raises: BadBitmap."""
    try:
        members = _members(data)
    except (struct.error, ValueError) as exc:
        raise BadBitmap(str(exc)) from exc
    if not (members[1:] > members[:-1]).all():
        raise BadBitmap("members are out of order")
    return members


def _members(data: bytes) -> Ordinals:
    head = _head(data)
    if head.has_runs is None and max(head.sizes, default=0) <= _LARGEST_ARRAY:
        return _arrays(data, head)
    parts = list(_containers(data, head))
    return np.concatenate(parts) if parts else np.empty(0, np.uint32)


def _head(data: bytes) -> _Head:
    cookie, count = _HEAD.unpack_from(data)
    at, has_runs = 8, None
    if cookie & 0xFFFF == _WITH_RUNS:
        count, at = (cookie >> 16) + 1, 4
        flags = np.unpackbits(
            np.frombuffer(data, np.uint8, (count + 7) // 8, at), bitorder="little"
        )
        has_runs = flags[:count].tolist()
        if flags[count:].any():
            raise BadBitmap("there are runs of no container")
        at += len(flags) // 8
    elif cookie != _NO_RUNS:
        raise BadBitmap(f"begins with {cookie}")
    pairs = struct.unpack_from(f"<{2 * count}H", data, at)
    at += 4 * count
    offsets = None
    if has_runs is None or count >= _OFFSETS_FROM:
        offsets = struct.unpack_from(f"<{count}I", data, at)
        at += 4 * count
    return _Head(pairs[::2], [size + 1 for size in pairs[1::2]], has_runs, offsets, at)


def _arrays(data: bytes, head: _Head) -> Ordinals:
    """All containers at once, as most bitmaps have but arrays."""
    starts = list(accumulate((2 * size for size in head.sizes), initial=head.end))
    if starts.pop() != len(data):
        raise BadBitmap("its length is not what its sizes say")
    if list(head.offsets or ()) != starts:
        raise BadBitmap("offsets point elsewhere")
    high = np.array(head.keys, np.uint32) << np.uint32(16)
    low: NDArray[np.uint16] = np.frombuffer(data, _LOW, offset=head.end)
    return high.repeat(head.sizes) | low


def _containers(data: bytes, head: _Head) -> Iterator[Ordinals]:
    at = head.end
    for index, (key, size) in enumerate(zip(head.keys, head.sizes, strict=True)):
        if head.offsets is not None and head.offsets[index] != at:
            raise BadBitmap("offsets point elsewhere")
        if head.has_runs is not None and head.has_runs[index]:
            low, at = _runs(data, at)
        elif size <= _LARGEST_ARRAY:
            low, at = np.frombuffer(data, _LOW, size, at).astype(np.uint32), at + 2 * size
        else:
            low, at = _bitset(data, at)
        if len(low) != size:
            raise BadBitmap(f"a container has {len(low)} members and says {size}")
        yield low | np.uint32(key << 16)
    if at != len(data):
        raise BadBitmap("its length is not what its sizes say")


def _runs(data: bytes, at: int) -> tuple[Ordinals, int]:
    """Each run is its first member, and how many follow."""
    (count,) = _COUNT.unpack_from(data, at)
    pairs = np.frombuffer(data, _LOW, 2 * count, at + 2).astype(np.int64)
    starts, sizes = pairs[::2], pairs[1::2] + 1
    if (starts + sizes > 1 << 16).any():
        raise BadBitmap("a run leaves its container")
    before = np.cumsum(sizes) - sizes
    members = np.repeat(starts - before, sizes) + np.arange(sizes.sum())
    return members.astype(np.uint32), at + 2 + 4 * count


def _bitset(data: bytes, at: int) -> tuple[Ordinals, int]:
    bits = np.unpackbits(np.frombuffer(data, np.uint8, _BITSET_BYTES, at), bitorder="little")
    return np.flatnonzero(bits).astype(np.uint32), at + _BITSET_BYTES
