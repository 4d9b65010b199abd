"""Building chunks from events."""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from repo.columns.chunk import EVENT_ID, Chunk, event_order
from repo.columns.property_collector import Path, PropertyCollector


class EventRecord(NamedTuple):
    """An event to be written into a chunk."""

    time: int
    """Microseconds since 2000-01-01 UTC."""
    user: int
    """The user's ordinal; 0 for none."""
    name: int
    """The id of the event name."""
    xid: int
    """The transaction that inserted the event."""
    event_id: bytes
    """16 bytes."""
    properties: bytes | str
    """A JSON object."""


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Events as arrays of equal length, with the meaning of the fields of `EventRecord`."""

    time: NDArray[np.int64]
    user: NDArray[np.uint32]
    name: NDArray[np.int32]
    xid: NDArray[np.int64]
    event_id: NDArray[np.void]
    properties: Sequence[bytes | str]


@dataclass(slots=True)
class PathLimit:
    """Admits registered paths, and as many new ones as the limit allows."""

    registered: set[Path]
    """Grows by the paths that are admitted."""
    limit: int
    new: list[Path] = field(default_factory=list)
    left_out: bool = False
    """Whether values of a path were left out."""

    def __call__(self, path: Path) -> bool:
        if path in self.registered:
            return True
        if len(self.registered) >= self.limit:
            self.left_out = True
            return False
        self.registered.add(path)
        self.new.append(path)
        return True


def admit_all(path: Path) -> bool:
    return True


def build_chunk(events: Sequence[EventRecord], admits: Callable[[Path], bool] = admit_all) -> Chunk:
    """Return the chunk of events in any order, with the values of the paths that are admitted.

    `admits` is called before a path gets its first value, in the order of the events.
    """
    return build_batch(event_batch(events), admits)


def event_batch(events: Sequence[EventRecord]) -> EventBatch:
    """Return events as arrays."""
    time, user, name, xid, event_id, properties = zip(*events, strict=True) if events else [()] * 6
    return EventBatch(
        np.array(time, np.int64),
        np.array(user, np.uint32),
        np.array(name, np.int32),
        np.array(xid, np.int64),
        np.frombuffer(b"".join(event_id), EVENT_ID),
        properties,
    )


def build_batch(batch: EventBatch, admits: Callable[[Path], bool] = admit_all) -> Chunk:
    """Return the chunk of a batch in any order, as `build_chunk` does."""
    order = event_order(batch.time, batch.user, batch.event_id)
    collector = PropertyCollector(admits)
    with _without_garbage_collection():
        collector.add_events(batch.properties[position] for position in order.tolist())
    return Chunk(
        time=batch.time[order],
        user=batch.user[order],
        name=batch.name[order],
        xid=batch.xid[order],
        event_id=batch.event_id[order],
        properties=collector.columns(),
    )


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Decoded objects have no cycles, and searching them for some takes as long as decoding."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
