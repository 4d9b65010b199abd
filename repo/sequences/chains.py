"""Chains: events of one owner that match the steps of a funnel, one event for each step.

A chain begins with an entry, and takes the earliest event of each further step in turn. No other
chain from that entry reaches further, or a step earlier.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.questions.answer import Checkpoint
from repo.columns.filter_evaluation import Mask
from repo.sequences.ordered_events import OrderedEvents, Positions


@dataclass(frozen=True, slots=True)
class Level:
    """The chains that reach a step, and their events of that step."""

    chains: Positions
    """Indexes of chains, ascending."""
    positions: Positions
    """The position of the event of each."""


@dataclass(frozen=True, slots=True)
class Entries:
    """The first events of chains, and where the chains end at the latest."""

    positions: Positions
    stop: Positions
    """The position before which all events of each chain are."""
    deadline: NDArray[np.int64]
    """The time of its last event, at most."""

    def __len__(self) -> int:
        return len(self.positions)

    def all(self) -> Level:
        return Level(np.arange(len(self)), self.positions)

    def reached(self, events: OrderedEvents, level: Level) -> Mask:
        """Return which events of a level are still part of their chains."""
        is_reached = level.positions < self._of(level, self.stop)
        times = events.time.take(level.positions, mode="clip")
        is_reached &= times <= self._of(level, self.deadline)
        return is_reached

    def _of(self, level: Level, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the values of the chains of a level, which often are all chains."""
        return values if len(level.chains) == len(self) else values.take(level.chains)


def first_after(is_match: Mask, positions: Positions) -> Positions:
    """Return the first matching position after each position; the number of all without one."""
    found = np.append(np.flatnonzero(is_match), len(is_match))
    return found.take(np.cumsum(is_match, dtype=np.int32).take(positions))


def sequence_levels(
    events: OrderedEvents, entries: Entries, steps: int, checkpoint: Checkpoint
) -> list[Level]:
    """Return the chains whose events match the steps in order, whatever is between them.

    Raises: what the checkpoint raises.
    """
    levels = [entries.all()]
    for step in range(1, steps):
        checkpoint()
        last = levels[-1]
        following = Level(last.chains, first_after(events.matches(step), last.positions))
        levels.append(_only(following, entries.reached(events, following)))
    return levels


def strict_levels(
    events: OrderedEvents, entries: Entries, steps: int, checkpoint: Checkpoint
) -> list[Level]:
    """Return the chains of which each event is the very next of its owner.

    Raises: what the checkpoint raises.
    """
    levels = [entries.all()]
    for step in range(1, steps):
        checkpoint()
        last = levels[-1]
        following = Level(last.chains, last.positions + 1)
        is_reached = entries.reached(events, following)
        is_reached &= events.matches(step).take(following.positions, mode="clip")
        if events.same is not None:
            first = events.same[entries.positions[following.chains]]
            is_reached &= events.same.take(following.positions, mode="clip") == first
            is_reached &= first >= 0
        levels.append(_only(following, is_reached))
    return levels


def _only(level: Level, is_reached: Mask) -> Level:
    which = np.flatnonzero(is_reached)
    return Level(level.chains.take(which), level.positions.take(which))
