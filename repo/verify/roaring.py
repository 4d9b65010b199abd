"""Decode roaring bitmaps in the portable format, independently of the library that writes them.

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
_OFFSETS_FROM = 4  # with runs, fewer containers have no offsets
_HEAD = struct.Struct("<II")
_COUNT = struct.Struct("<H")
_LOW = np.dtype("<u2")


class BadBitmap(ValueError):
    """The data is not a roaring bitmap, or is inconsistent."""


class _Head(NamedTuple):
    """The descriptive header: high halves, sizes and offsets of the containers."""

    keys: Sequence[int]
    sizes: Sequence[int]
    has_runs: Sequence[int] | None
    """None if no container has runs."""
    offsets: Sequence[int] | None
    end: int


def decode(data: bytes) -> Ordinals:
    """Return all members in order. Raises: BadBitmap."""
    try:
        members = _members(data)
    except (struct.error, ValueError) as exc:
        raise BadBitmap(str(exc)) from exc
    if not (members[1:] > members[:-1]).all():
        raise BadBitmap("members are out of order")
    return members


def _members(data: bytes) -> Ordinals:
    head = _head(data)
    # Most bitmaps have small containers only, which are decoded at once.
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
            raise BadBitmap("run flags exceed the number of containers")
        at += len(flags) // 8
    elif cookie != _NO_RUNS:
        raise BadBitmap(f"unknown cookie {cookie}")
    pairs = struct.unpack_from(f"<{2 * count}H", data, at)
    at += 4 * count
    offsets = None
    if has_runs is None or count >= _OFFSETS_FROM:
        offsets = struct.unpack_from(f"<{count}I", data, at)
        at += 4 * count
    return _Head(pairs[::2], [size + 1 for size in pairs[1::2]], has_runs, offsets, at)


def _arrays(data: bytes, head: _Head) -> Ordinals:
    """Decode a bitmap whose containers are all arrays, as most are, without a loop."""
    starts = list(accumulate((2 * size for size in head.sizes), initial=head.end))
    if starts.pop() != len(data):
        raise BadBitmap("the length does not match the sizes of containers")
    if list(head.offsets or ()) != starts:
        raise BadBitmap("wrong offsets of containers")
    high = np.array(head.keys, np.uint32) << np.uint32(16)
    low: NDArray[np.uint16] = np.frombuffer(data, _LOW, offset=head.end)
    return high.repeat(head.sizes) | low


def _containers(data: bytes, head: _Head) -> Iterator[Ordinals]:
    at = head.end
    for index, (key, size) in enumerate(zip(head.keys, head.sizes, strict=True)):
        if head.offsets is not None and head.offsets[index] != at:
            raise BadBitmap("wrong offsets of containers")
        if head.has_runs is not None and head.has_runs[index]:
            low, at = _runs(data, at)
        elif size <= _LARGEST_ARRAY:
            low, at = np.frombuffer(data, _LOW, size, at).astype(np.uint32), at + 2 * size
        else:
            low, at = _bitset(data, at)
        if len(low) != size:
            raise BadBitmap(f"a container has {len(low)} members instead of {size}")
        yield low | np.uint32(key << 16)
    if at != len(data):
        raise BadBitmap("the length does not match the sizes of containers")


def _runs(data: bytes, at: int) -> tuple[Ordinals, int]:
    """Decode runs, each of which is its first member and how many follow."""
    (count,) = _COUNT.unpack_from(data, at)
    pairs = np.frombuffer(data, _LOW, 2 * count, at + 2).astype(np.int64)
    starts, sizes = pairs[::2], pairs[1::2] + 1
    if (starts + sizes > 1 << 16).any():
        raise BadBitmap("a run exceeds its container")
    # Without a loop over runs: the members are 0, 1, 2, ... shifted for each run.
    before = np.cumsum(sizes) - sizes
    members = np.repeat(starts - before, sizes) + np.arange(sizes.sum())
    return members.astype(np.uint32), at + 2 + 4 * count


def _bitset(data: bytes, at: int) -> tuple[Ordinals, int]:
    bits = np.unpackbits(np.frombuffer(data, np.uint8, _BITSET_BYTES, at), bitorder="little")
    return np.flatnonzero(bits).astype(np.uint32), at + _BITSET_BYTES
