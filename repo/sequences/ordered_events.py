"""Events in the order in which users caused them: one user after the other, each by time."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from repo.columns.filter_evaluation import Mask
from repo.columns.tied_events import NO_TIES, Ties, distinct_ties
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
    session_users: NDArray[np.uint32] | None = None
    """The user of each session, by its number; None where owners are users."""

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

    def differs_from_previous(self, positions: Positions) -> Mask:
        """Return which events differ from the one before in what chains depend on."""
        differs: Mask = np.zeros(len(positions), np.bool_)
        for codes in (self.labels, self.same, self.by):
            if codes is not None:
                differs |= codes[positions] != codes[positions - 1]
        return differs

    def users_of(self, owners: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Return the user of each of some owners."""
        return owners if self.session_users is None else self.session_users.take(owners)

    def select(self, positions: Positions) -> "OrderedEvents":
        """Return the events at positions."""
        return OrderedEvents(
            owner=self.owner.take(positions),
            time=self.time.take(positions),
            labels=self.labels.take(positions),
            same=None if self.same is None else self.same.take(positions),
            by=None if self.by is None else self.by.take(positions),
            is_over=None if self.is_over is None else self.is_over.take(positions),
            session_users=self.session_users,
        )


def first_of_runs(values: NDArray[Any]) -> Positions:
    """Return the positions at which runs of equal values begin."""
    is_first = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=is_first[1:])
    return np.flatnonzero(is_first)


def in_order(
    events: OrderedEvents, bits: LabelBits, starts: Sequence[int] = ()
) -> tuple[OrderedEvents, Ties]:
    """Return events in any order by owner, time and rank; equal ones remain in their order.

    `starts` are the positions at which the events of further chunks begin; those of one chunk are
    in the order of their ids. With them the ties are returned whose order by id is not known,
    since they have events of several chunks, and in which it matters.
    """
    order, owner = _by_owner_and_time(events.owner, events.time)
    # `take` is faster than an index.
    time, labels = events.time.take(order), events.labels.take(order)
    is_tied = owner[1:] == owner[:-1]
    is_tied &= time[1:] == time[:-1]
    if is_tied.any():
        order = order.take(_order_of_ties(is_tied, bits.ranks()[labels]))
        labels = events.labels.take(order)
    same = None if events.same is None else events.same.take(order)
    by = None if events.by is None else events.by.take(order)
    ordered = OrderedEvents(owner=owner, time=time, labels=labels, same=same, by=by)
    return ordered, _unordered_ties(ordered, is_tied, order, bits, starts)


def _unordered_ties(
    events: OrderedEvents, is_tied: Mask, order: Positions, bits: LabelBits, starts: Sequence[int]
) -> Ties:
    """Return the ties of equal rank that differ and have events of several chunks.

    `order` has the position of each event before it was ordered.
    """
    later = np.flatnonzero(is_tied) + 1 if starts else np.zeros(0, np.intp)
    ranks = bits.ranks()
    rank = ranks[events.labels[later]]
    # Events that match no step or end a chain may be in any order.
    later = later[(rank == ranks[events.labels[later - 1]]) & (rank < bits.steps)]
    differs = events.differs_from_previous(later)
    if not differs.any():
        return NO_TIES
    runs = np.cumsum(np.diff(later, prepend=later[0]) > 1)
    matters = _any_by_run(runs, differs)[runs]
    later, runs = later[matters], runs[matters]
    chunks, others = (
        np.searchsorted(starts, order[rows], side="right") for rows in (later, later - 1)
    )
    rows = later[_any_by_run(runs, chunks != others)[runs]]
    return distinct_ties(events.time[rows], events.owner[rows])


def _any_by_run(runs: NDArray[np.intp], is_true: Mask) -> Mask:
    """Return for each run whether a row of it is true."""
    return np.bincount(runs, weights=is_true) > 0


def _order_of_ties(is_tied: Mask, ranks: NDArray[np.uint8]) -> Positions:
    """Return the order of events by rank, of those that are tied with the one before."""
    order = np.arange(len(ranks))
    is_first = np.ones(len(ranks), np.bool_)
    is_first[1:] = ~is_tied
    has_tie = ~is_first
    has_tie[:-1] |= is_tied
    tied = np.flatnonzero(has_tie)
    runs = np.cumsum(is_first).take(tied)
    order[tied] = tied.take(np.lexsort((ranks.take(tied), runs)))
    return order


def _by_owner_and_time(
    owner: NDArray[np.uint32], time: NDArray[np.int64]
) -> tuple[Positions, NDArray[np.uint32]]:
    """Return the positions of events by owner and time, and the owners in this order."""
    is_sorted = bool((time[1:] >= time[:-1]).all())
    # Chunks are sorted, and a stable sort merges what is sorted already.
    by_time = None if is_sorted else time.argsort(kind="stable")
    keys = (owner if by_time is None else owner.take(by_time)).astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= np.arange(len(keys), dtype=np.uint64)
    keys.sort()
    owners = (keys >> np.uint64(32)).astype(np.uint32)
    keys &= np.uint64(2**32 - 1)
    positions = keys.view(np.intp)
    return positions if by_time is None else by_time.take(positions), owners


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
    return replace(
        events, owner=owner, is_over=is_over[owner], session_users=events.owner[is_first]
    )
