"""Search for the chains of a funnel among the events of owners."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from common.questions.answer import Checkpoint
from repo.columns.filter_evaluation import Mask
from repo.sequences.any_order import any_order_levels
from repo.sequences.chains import (
    Entries,
    Level,
    first_after,
    sequence_levels,
    strict_levels,
)
from repo.sequences.ordered_events import OrderedEvents, Positions
from repo.sequences.step_labels import LabelBits, has_any

Order = Literal["sequence", "strict", "any"]

_SEARCH: dict[Order, Callable[[OrderedEvents, Entries, int, Checkpoint], list[Level]]] = {
    "sequence": sequence_levels,
    "strict": strict_levels,
    "any": any_order_levels,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainRules:
    """The rules of a chain; times are microseconds since 2000-01-01 UTC."""

    bits: LabelBits
    order: Order = "sequence"
    within: int
    """Microseconds from the first to the last event, at most."""
    entry_end: int
    """Chains begin before this time."""
    complete_until: int
    """All events before this time are known."""

    @property
    def steps(self) -> int:
        return self.bits.steps

    @property
    def open_from(self) -> int:
        """The time from which chains begin that may reach further steps after `complete_until`."""
        return self.complete_until - self.within


@dataclass(frozen=True, slots=True)
class Chains:
    """The chains of all entries, in the order of the entries."""

    levels: list[Level]
    """By step; the first has all chains."""
    is_open: Mask
    """Which chains may reach a further step by events that are not known yet."""

    @property
    def entries(self) -> Positions:
        """The positions of the first events."""
        return self.levels[0].positions


def find_chains(
    events: OrderedEvents, rules: ChainRules, checkpoint: Checkpoint = lambda: None
) -> Chains:
    """Return the chain from each event that may be the first of one.

    Raises: what the checkpoint raises.
    """

    def search(among: OrderedEvents, entries: Entries) -> list[Level]:
        return _SEARCH[rules.order](among, entries, rules.bits.steps, checkpoint)

    first_steps = rules.bits.all_steps if rules.order == "any" else 1
    is_entry = has_any(events.labels, first_steps)
    is_entry &= events.time < rules.entry_end
    positions = np.flatnonzero(is_entry)
    ends = events.ends().take(positions)
    stop = _before_excluded(events, positions, ends, rules)
    entries = Entries(positions, stop, events.time.take(positions) + rules.within)
    # The very next event is that among all events, whatever their values.
    if events.same is None or rules.order == "strict":
        levels = search(events, entries)
    else:
        levels = _search_by_same(events, events.same, entries, search)
    is_ended = _last(levels) + 1 < ends if rules.order == "strict" else stop < ends
    return Chains(levels, _is_open(events, positions, rules) & ~is_ended)


def _before_excluded(
    events: OrderedEvents, positions: Positions, ends: Positions, rules: ChainRules
) -> Positions:
    """Return the position of the first excluded event after each position, or the end."""
    is_excluded = events.matches(rules.bits.steps)
    if not is_excluded.any():
        return ends
    return np.minimum(ends, first_after(is_excluded, positions))


def _search_by_same(
    events: OrderedEvents,
    same: NDArray[np.int32],
    entries: Entries,
    search: Callable[[OrderedEvents, Entries], list[Level]],
) -> list[Level]:
    """Return the chains whose events have equal values."""
    keys = events.owner.astype(np.int64) << 32 | same.view(np.uint32)
    order = keys.argsort(kind="stable")
    groups = _group_numbers(keys[order], same[order] < 0)
    places = np.empty(len(order), np.intp)
    places[order] = np.arange(len(order))
    first = places[entries.positions]
    # The first event of the group that is not before the stop.
    stop = (groups << 32 | order).searchsorted(groups[first] << 32 | entries.stop)
    grouped = search(events.select(order), Entries(first, stop, entries.deadline))
    return [Level(level.chains, order[level.positions]) for level in grouped]


def _group_numbers(keys: NDArray[np.int64], is_missing: Mask) -> NDArray[np.int64]:
    """Return a number for each run of equal keys; missing values are each a run of their own."""
    is_first = np.ones(len(keys), np.bool_)
    is_first[1:] = (keys[1:] != keys[:-1]) | is_missing[1:]
    return np.cumsum(is_first)


def _last(levels: list[Level]) -> Positions:
    """Return the position of the last event of each chain."""
    last = levels[0].positions.copy()
    for level in levels[1:]:
        last[level.chains] = level.positions
    return last


def _is_open(events: OrderedEvents, positions: Positions, rules: ChainRules) -> Mask:
    is_open: Mask = events.time.take(positions) >= rules.open_from
    if events.is_over is not None:
        is_open &= ~events.is_over[positions]
    return is_open
