"""Labels of events: the steps of a funnel that they match, as bits of small integers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.filters import Filter
from repo.columns.filter_evaluation import Mask
from repo.engine.scan import MatchingEvents

Labels = NDArray[np.unsignedinteger[Any]]
"""Bit k is set for events that match step k, from 0; `LabelBits` has the bits after these."""


@dataclass(frozen=True, slots=True)
class LabelBits:
    """The bits of labels."""

    steps: int
    """The number of steps, whose bits come first."""

    @property
    def all_steps(self) -> int:
        return (1 << self.steps) - 1

    @property
    def excluded(self) -> int:
        """The bit of events that end a chain; they match no step."""
        return 1 << self.steps

    @property
    def ignored(self) -> int:
        """The bit of events that are left out, except that they continue a session."""
        return 2 << self.steps

    @property
    def dtype(self) -> type[np.unsignedinteger[Any]]:
        """The type of labels."""
        return np.uint8 if self.steps + 2 <= 8 else np.uint16

    def considered(self, labels: Labels, *, with_others: bool) -> Mask:
        """Return which events may be part of a chain or end one.

        `with_others` says whether events that match no step end chains.
        """
        if with_others:
            return np.not_equal(labels, self.ignored)
        return has_any(labels, self.all_steps | self.excluded)

    def ranks(self) -> NDArray[np.uint8]:
        """Return for each label its rank among events of the same user at the same instant.

        It is the first step; then come events that match none, then those that are excluded.
        """
        labels = np.arange(4 << self.steps)
        ranks = np.full(len(labels), self.steps, np.uint8)
        for step in reversed(range(self.steps)):
            ranks[labels & 1 << step != 0] = step
        ranks[labels & self.excluded != 0] = self.steps + 1
        return ranks


@dataclass(frozen=True, slots=True)
class StepFilters:
    """The filters of a funnel; None matches every event."""

    steps: Sequence[Filter | None]
    excluded: Sequence[Filter | None] = ()
    """An event that matches one of these ends a chain."""
    ignored: Sequence[Filter | None] = ()
    """An event that matches one of these is left out."""

    @property
    def all(self) -> tuple[Filter, ...]:
        """The filters, without those that match every event."""
        return tuple(filter(None, (*self.steps, *self.excluded, *self.ignored)))

    @property
    def bits(self) -> LabelBits:
        return LabelBits(len(self.steps))

    def labels(self, events: MatchingEvents) -> Labels:
        """Return the labels of events; 0 for those that match nothing."""
        bits = self.bits
        labels: Labels = np.zeros(len(events.mask), bits.dtype)
        for step, where in enumerate(self.steps):
            labels |= np.left_shift(_matches(events, where), step, dtype=bits.dtype)
        for where in self.excluded:
            labels[_matches(events, where)] = bits.excluded
        for where in self.ignored:
            labels[_matches(events, where)] = bits.ignored
        labels *= events.mask
        return labels


def has_any(labels: Labels, bits: int) -> Mask:
    """Return which labels have one of these bits."""
    has_bit: Mask = (labels & labels.dtype.type(bits)) != 0
    return has_bit


def _matches(events: MatchingEvents, where: Filter | None) -> Mask:
    return events.mask if where is None else events.matches(where)
