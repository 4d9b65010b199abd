"""Fingerprints of events: hashes of 64 bits of all that columns hold of them.

Two sets of events are compared by their sorted fingerprints, which takes the same memory however
large the properties are.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Kind = Literal["text", "number", "boolean"]

EVENT_ID: Any = np.dtype("V16")
NO_ID = bytes(16)


class Property(NamedTuple):
    """The values of one type at one path."""

    path: tuple[str, ...]
    kind: Kind

    def __str__(self) -> str:
        return f"{'.'.join(self.path)!a} ({self.kind})"


@dataclass(frozen=True, slots=True)
class EventRows:
    """Events as parallel arrays."""

    time: NDArray[np.int64]
    """Microseconds since 2000-01-01 UTC."""
    user: NDArray[np.int64]
    """Ordinals; 0 for no user, -1 for a user without an ordinal."""
    name: NDArray[np.int64]
    """Ids of names; -1 for a name without an id."""
    xid: NDArray[np.int64]
    event_id: NDArray[np.void]
    """Zeros for events of chunks that do not contain the id."""
    properties: Hashes
    """The sum of the hashes of all values."""
    by_property: Mapping[Property, Hashes] = field(default_factory=dict)
    """The summands of each property; empty unless they were requested."""

    def __len__(self) -> int:
        return len(self.time)

    def select(self, rows: NDArray[Any]) -> "EventRows":
        """Return some of the rows, by a mask or by positions."""
        by_property = {key: hashes[rows] for key, hashes in self.by_property.items()}
        return _event_rows([column[rows] for column in _columns(self)], by_property)

    def fingerprints(self) -> Hashes:
        """Return one hash for each row, of everything except `event_id`."""
        hashes = self.properties
        for column in (self.time, self.user, self.name, self.xid):
            hashes = mix(hashes ^ mix(column.view(np.uint64)))
        return hashes

    def has_id(self) -> NDArray[np.bool_]:
        """Return which rows have an `event_id`."""
        high, low = self.event_id.view(np.uint64).reshape(-1, 2).T
        has_id: NDArray[np.bool_] = (high | low) != 0
        return has_id

    def with_ids(self) -> Hashes:
        """Return one hash for each row, of everything."""
        high, low = self.event_id.view(np.uint64).reshape(-1, 2).T
        return mix(mix(self.fingerprints() ^ mix(high)) ^ low)


NO_ROWS = EventRows(
    np.zeros(0, np.int64),
    np.zeros(0, np.int64),
    np.zeros(0, np.int64),
    np.zeros(0, np.int64),
    np.zeros(0, EVENT_ID),
    np.zeros(0, np.uint64),
)


def concatenate(parts: Sequence[EventRows]) -> EventRows:
    """Return the rows of all parts."""
    parts = [NO_ROWS, *parts]
    columns = list(map(np.concatenate, zip(*map(_columns, parts), strict=True)))
    keys = {key for part in parts for key in part.by_property}
    by_property = {key: _concatenate_property(key, parts) for key in keys}
    return _event_rows(columns, by_property)


def _columns(rows: EventRows) -> tuple[NDArray[Any], ...]:
    return rows.time, rows.user, rows.name, rows.xid, rows.event_id, rows.properties


def _event_rows(
    columns: Sequence[NDArray[Any]], by_property: Mapping[Property, Hashes]
) -> EventRows:
    time, user, name, xid, event_id, properties = columns
    return EventRows(time, user, name, xid, event_id, properties, by_property)


def _concatenate_property(key: Property, parts: Sequence[EventRows]) -> Hashes:
    missing = ((part.by_property.get(key), len(part)) for part in parts)
    return np.concatenate(
        [np.zeros(count, np.uint64) if hashes is None else hashes for hashes, count in missing]
    )


def property_hashes(key: Property, rows: NDArray[Any], values: Hashes, count: int) -> Hashes:
    """Return for each of `count` rows the sum of the hashes of its values.

    `rows` are the rows of the values, ascending. The place of a value in its row counts as well.
    """
    seed = np.uint64(hash(key) & (2**64 - 1))
    places = np.arange(len(rows), dtype=np.int64)
    is_first = np.diff(rows, prepend=-1) != 0
    places -= np.maximum.accumulate(np.where(is_first, places, 0))
    hashes = mix(values ^ mix(places.view(np.uint64) ^ seed))
    sums = np.zeros(count, np.uint64)
    np.add.at(sums, rows, hashes)
    return sums


def text_hashes(texts: Iterable[str]) -> Hashes:
    """Return the hashes of texts, which differ from process to process."""
    # Python's hash of texts is SipHash with a random key.
    return np.fromiter(map(hash, texts), np.int64).view(np.uint64)


def mix(hashes: Hashes) -> Hashes:
    """Return well distributed hashes of 64-bit integers (the finalizer of SplitMix64)."""
    hashes = hashes + np.uint64(0x9E3779B97F4A7C15)
    hashes = (hashes ^ hashes >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ hashes >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return hashes ^ hashes >> np.uint64(31)
