"""Choose users by how many events each of them has, by their ordinals."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from common.errors import TooExpensive
from common.user_criteria import UserCriterion
from repo.columns.filter_evaluation import Mask
from repo.engine.cost import MAX_BYTES
from repo.engine.ordinals import Ordinals
from repo.engine.scan import MatchingEvents

_COUNT_BYTES = 4
_ONE = np.uint32(1)


class UserCounter:
    """Collects how many events each user has that a criterion is about."""

    def __init__(self, criterion: UserCriterion, max_bytes: int = MAX_BYTES) -> None:
        self._criterion = criterion
        self._filter = criterion.condition.selection.filter
        self._max_bytes = max_bytes
        self.counts: NDArray[np.uint32] = np.zeros(0, np.uint32)
        """By ordinal, up to the highest one that has an event."""

    def add(self, events: MatchingEvents) -> None:
        """Count events. Raises: TooExpensive."""
        mask = events.mask & events.matches(self._filter) if self._filter else events.mask
        users = events.chunk.user[events.start : events.stop][mask]
        highest = int(users.max(initial=0))
        if highest >= len(self.counts):
            self._grow(highest + 1)
        # An integer of the type of the counts: adding a Python integer takes 25 times as long.
        np.add.at(self.counts, users, _ONE)

    def meets(self, length: int) -> Mask:
        """Return by ordinal which users meet the criterion, for as many ordinals.

        Ordinals without a count have no events.
        """
        counts = np.zeros(length, np.uint32)
        counts[: len(self.counts)] = self.counts
        low, high = self._criterion.condition.times
        mask = counts >= low
        if high is not None:
            mask &= counts <= high
        return ~mask if self._criterion.is_negated else mask

    def _grow(self, length: int) -> None:
        if length * _COUNT_BYTES > self._max_bytes:
            raise TooExpensive(
                "bytes of numbers of events by user",
                length * _COUNT_BYTES,
                self._max_bytes,
                "fewer `did` and `not_did`",
            )
        # By a quarter at least, since ordinals often rise from chunk to chunk.
        counts = np.zeros(max(length, len(self.counts) * 5 // 4), np.uint32)
        counts[: len(self.counts)] = self.counts
        self.counts = counts


class UserChoice:
    """The users who meet all criteria; none of them is an event without a user."""

    def __init__(self, criteria: Sequence[UserCriterion]) -> None:
        max_bytes = MAX_BYTES // max(len(criteria), 1)
        self.counters = [UserCounter(each, max_bytes) for each in criteria]

    def contains(self, users: Ordinals) -> Mask:
        """Return for each ordinal whether the user is chosen, once all events are counted."""
        # Greater ordinals are clipped to the last entry, which is that of users without events.
        return self._chosen.take(users, mode="clip")

    @cached_property
    def _chosen(self) -> Mask:
        length = max((len(each.counts) for each in self.counters), default=0)
        # Besides them, an entry for events without a user, and one for users without events.
        chosen = np.ones(max(length, 1) + 1, np.bool_)
        for counter in self.counters:
            chosen &= counter.meets(len(chosen))
        chosen[0] = False
        return chosen
