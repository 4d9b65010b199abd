"""Chains in any order: different events that match as many different steps as possible."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from common.questions.answer import Checkpoint
from repo.columns.filter_evaluation import Mask
from repo.sequences.chains import Entries, Level, first_after
from repo.sequences.ordered_events import OrderedEvents
from repo.sequences.step_labels import Labels

StepSets = frozenset[int]
"""The sets of steps that events may serve, one step for each event; a set is the bits of steps."""

_UNREACHED = -1


@dataclass(slots=True)
class Matchings:
    """The sets of steps that the events of chains may serve, numbered when they first occur.

    An event extends a chain if one more step can be served with it, whichever steps the events
    before it serve then. So the earliest events that extend a chain are a largest matching.
    """

    _numbers: dict[StepSets, int] = field(default_factory=dict)
    _known: list[StepSets] = field(default_factory=list)

    def first(self, label: int) -> int:
        """Return the number for chains of one event."""
        return self._number(frozenset(_single_steps(label)))

    def extended(self, number: int, label: int) -> int:
        """Return the number for chains with one more event; -1 if it serves no further step."""
        steps = frozenset(
            served | step
            for served in self._known[number]
            for step in _single_steps(label)
            if not served & step
        )
        return self._number(steps) if steps else _UNREACHED

    def _number(self, steps: StepSets) -> int:
        if steps not in self._numbers:
            self._numbers[steps] = len(self._known)
            self._known.append(steps)
        return self._numbers[steps]


@dataclass(slots=True)
class _Search:
    """Chains that grow by an event at a time."""

    labels: Labels
    """The steps of each event."""
    level: Level
    states: NDArray[np.int32]
    """The matchings of each chain of the level."""
    matchings: Matchings

    def extend(self, checkpoint: Checkpoint) -> None:
        """Go to the next event that extends each chain; its position is `len(labels)` without.

        Raises: what the checkpoint raises.
        """
        positions = np.full(len(self.states), len(self.labels))
        states = np.zeros(len(self.states), np.int32)
        for label in filter(None, np.unique(self.labels).tolist()):
            checkpoint()
            extended = self._extended(label)
            candidates = np.flatnonzero(extended >= 0)
            found = first_after(self.labels == label, self.level.positions[candidates])
            is_earlier = found < positions[candidates]
            earlier = candidates[is_earlier]
            positions[earlier], states[earlier] = found[is_earlier], extended[earlier]
        self.level, self.states = Level(self.level.chains, positions), states

    def keep(self, which: Mask) -> None:
        """Keep only these chains of the level."""
        self.level = Level(self.level.chains[which], self.level.positions[which])
        self.states = self.states[which]

    def _extended(self, label: int) -> NDArray[np.int32]:
        """Return the state of each chain after an event of this label."""
        present, index = np.unique(self.states, return_inverse=True)
        extended = [self.matchings.extended(state, label) for state in present.tolist()]
        return np.array(extended, np.int32)[index]


def any_order_levels(
    events: OrderedEvents, entries: Entries, steps: int, checkpoint: Checkpoint
) -> list[Level]:
    """Return the chains of different events that match different steps, in any order.

    The events of a chain are in the order of time, so that step k is its k-th event.

    Raises: what the checkpoint raises.
    """
    labels = events.labels & events.labels.dtype.type((1 << steps) - 1)
    matchings = Matchings()
    states = _first_states(labels[entries.positions], matchings)
    search = _Search(labels, entries.all(), states, matchings)
    levels = [search.level]
    for _ in range(1, steps):
        search.extend(checkpoint)
        search.keep(entries.reached(events, search.level))
        levels.append(search.level)
    return levels


def _first_states(labels: Labels, matchings: Matchings) -> NDArray[np.int32]:
    present, index = np.unique(labels, return_inverse=True)
    return np.array([matchings.first(label) for label in present.tolist()], np.int32)[index]


def _single_steps(label: int) -> list[int]:
    """Return the bits of a label, each as a number of its own."""
    return [1 << step for step in range(label.bit_length()) if label & 1 << step]
