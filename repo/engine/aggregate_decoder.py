"""Decode events that PostgreSQL has aggregated: counts, and users as ordinals or as ids."""

import sys
from array import array
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from pyroaring import BitMap

from repo.engine.span_cache import Row
from utils.copy_binary import decode
from utils.time.calendar import Range

_COLUMNS = "iqbbb"
FIRST_TEMPORARY = 2**31
"""The first temporary ordinal, beyond all others, which are positive integers of 4 bytes."""

# The interpreter's lock is held while a chunk is looked up, so chunks are short.
_CHUNK_BYTES = 2**16


class Segments(NamedTuple):
    """The segments of time between the edges of ranges, which a statement numbers from 0."""

    edges: list[datetime]
    """In order, without duplicates."""
    indexes: dict[int, int]
    """The index of the range by segment; segments between ranges have none."""

    @property
    def params(self) -> dict[str, Any]:
        return {"edges": self.edges, "start": self.edges[0], "end": self.edges[-1]}


def segments_of(ranges: Iterable[tuple[int, Range]]) -> Segments:
    """Return the segments of ranges, each with its index, that do not overlap."""
    # One statement reads all ranges: PostgreSQL finds the segment of an event by the edges.
    parts = [(index, part) for index, part in ranges if part.start < part.end]
    edges = sorted({edge for _, part in parts for edge in part})
    numbers = {edge: number for number, edge in enumerate(edges)}
    return Segments(edges, {numbers[part.start]: index for index, part in parts})


class EventRow(NamedTuple):
    """The events of one segment of time and one name; the name is empty for all together."""

    segment: int
    event_name: str
    row: Row


class TemporaryOrdinals(dict[bytes, int]):
    """Ordinals for users that have none yet, valid for one query, by user id."""

    def __missing__(self, user_id: bytes) -> int:
        ordinal = self[user_id] = FIRST_TEMPORARY + len(self)
        return ordinal

    def add_to(self, users: "array[int]", user_ids: bytes) -> None:
        """Append the ordinals of user ids, each of which ends with a zero byte and may repeat."""
        start = 0
        while start < len(user_ids):
            end = user_ids.index(b"\0", min(start + _CHUNK_BYTES, len(user_ids) - 1))
            users.extend(map(self.__getitem__, user_ids[start:end].split(b"\0")))
            start = end + 1


def decode_events(data: bytes, temporary_ordinals: TemporaryOrdinals) -> Iterator[EventRow]:
    """Yield the rows of a binary COPY of segment, events, event name, ordinals and user ids."""
    # A view, since a copy of the ordinals of millions of events takes much memory.
    for segment, events, name, ordinals, user_ids in decode(memoryview(data), _COLUMNS):
        users = array("I")
        users.frombytes(ordinals)  # PostgreSQL sends them in network byte order
        if sys.byteorder == "little":
            users.byteswap()
        temporary_ordinals.add_to(users, bytes(user_ids))
        yield EventRow(segment, bytes(name).decode(), Row(events, BitMap(users)))
