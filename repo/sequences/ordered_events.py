"""Events in the order in which users caused them: one user after the other, each by time."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from repo.columns.filter_evaluation import Mask
from repo.sequences.step_labels import LabelBits, Labels, has_any

Positions = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderedEvents:
    """Events by owner, and those of an owner in order."""

    owner: NDArray[np.uint32]
    """The user of each event, or its session."""
    time: NDArray[np.int64]
    """Microseconds since 2000-01-01 UTC."""
    labels: Labels
    same: NDArray[np.int32] | None = None
    """Codes of the values that must be equal within a chain; -1 for a missing one."""
    by: NDArray[np.int32] | None = None
    """Codes of the values of which a funnel has rows; -1 for a missing one."""
    is_over: Mask | None = None
    """Whether the session of each event has ended; None where owners are users."""

    def __len__(self) -> int:
        return len(self.owner)

    def matches(self, step: int) -> Mask:
        """Return which events match a step, from 0."""
        return has_any(self.labels, 1 << step)

    def ends(self) -> Positions:
        """Return for each event the position after the last event of its owner."""
        starts = first_of_runs(self.owner)
        ends = np.append(starts, len(self))[1:]
        return np.repeat(ends, ends - starts)

    def select(self, which: Mask | Positions) -> "OrderedEvents":
        """Return some events, as a mask or as positions in the order of the new events."""
        return OrderedEvents(
            owner=self.owner[which],
            time=self.time[which],
            labels=self.labels[which],
            same=None if self.same is None else self.same[which],
            by=None if self.by is None else self.by[which],
            is_over=None if self.is_over is None else self.is_over[which],
        )


def first_of_runs(values: NDArray[Any]) -> Positions:
    """Return the positions at which runs of equal values begin."""
    is_first = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=is_first[1:])
    return np.flatnonzero(is_first)


def in_order(events: OrderedEvents, bits: LabelBits) -> OrderedEvents:
    """Return events in any order by owner, time and rank; equal ones remain in their order."""
    order, owner = _by_owner_and_time(events.owner, events.time)
    time, labels = events.time[order], events.labels[order]
    ranks = bits.ranks()[labels]
    is_tied = owner[1:] == owner[:-1]
    is_tied &= time[1:] == time[:-1]
    if (is_tied & (ranks[1:] < ranks[:-1])).any():
        is_first = np.ones(len(events), np.bool_)
        is_first[1:] = ~is_tied
        order = order[np.lexsort((ranks, np.cumsum(is_first)))]
        labels = events.labels[order]
    same = None if events.same is None else events.same[order]
    by = None if events.by is None else events.by[order]
    return OrderedEvents(owner=owner, time=time, labels=labels, same=same, by=by)


def _by_owner_and_time(
    owner: NDArray[np.uint32], time: NDArray[np.int64]
) -> tuple[Positions, NDArray[np.uint32]]:
    """Return the positions of events by owner and time, and the owners in this order."""
    is_sorted = bool((time[1:] >= time[:-1]).all())
    # Chunks are sorted, and a stable sort merges what is sorted already.
    by_time = None if is_sorted else time.argsort(kind="stable")
    keys = (owner if by_time is None else owner[by_time]).astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= np.arange(len(keys), dtype=np.uint64)
    keys.sort()
    owners = (keys >> np.uint64(32)).astype(np.uint32)
    keys &= np.uint64(2**32 - 1)
    positions = keys.view(np.intp)
    return positions if by_time is None else by_time[positions], owners


def by_session(events: OrderedEvents, gap: int, complete_until: int) -> OrderedEvents:
    """Return events of users in order with sessions as owners, numbered from 0.

    A session ends after more than `gap` microseconds without an event.
    """
    is_first = np.ones(len(events), np.bool_)
    is_first[1:] = events.owner[1:] != events.owner[:-1]
    is_first[1:] |= np.diff(events.time) > gap
    owner = np.cumsum(is_first, dtype=np.uint32) - np.uint32(1)
    last = np.append(np.flatnonzero(is_first), len(events))[1:] - 1
    is_over = events.time[last] < complete_until - gap
    return replace(events, owner=owner, is_over=is_over[owner])
