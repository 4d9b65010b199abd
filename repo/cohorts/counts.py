"""Cohorts of users, and how many of them are present in the periods after their entries."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from repo.cohorts.presence import Flags, Groups, Presence

Codes = NDArray[np.int32]
"""Codes of values, from 0."""
Counts = NDArray[np.int64]
Times = NDArray[np.int64]
"""Microseconds since 2000-01-01 UTC."""


@dataclass(frozen=True, slots=True)
class Cohort:
    """The users of one cohort, and what is needed of their entries."""

    ordinals: NDArray[np.intp]
    """Distinct, without 0."""
    times: Times | None = None
    """When each user entered, if windows of elapsed time begin there."""
    is_return: Flags | None = None
    """Whether the entry of each user is also an event that users return with."""
    values: Codes | None = None
    """The code of the value of each entry, if users are grouped by it."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """Groups of the values of entries that are counted together."""

    count: int = 1
    """The number of groups."""
    group_of: NDArray[np.int64] | None = None
    """The group of each code; None if all users are one group."""

    def groups(self, cohort: Cohort) -> Groups | None:
        """Return the group of each user; None if there is only one group."""
        if self.group_of is None or cohort.values is None:
            return None
        groups: Groups = self.group_of[cohort.values]
        return groups


ALL_IN_ONE = Grouping()


class CohortCounts(NamedTuple):
    """The users of cohorts and of their cells, by group."""

    users: Counts
    """Shape (groups, cohorts)."""
    cells: Counts
    """Users who are present; shape (groups, cohorts, cells)."""
    of: Counts
    """Users who could have been present; shape (groups, cohorts, cells)."""


def calendar_counts(
    cohorts: Iterable[Cohort],
    presence: Presence,
    cells: int,
    grouping: Grouping = ALL_IN_ONE,
    *,
    is_open_ended: bool = False,
) -> CohortCounts:
    """Count the users of the cohort of each period who are present in it and in later ones.

    With `is_open_ended` a user who is present in a later period counts in a cell, too.
    """
    last = presence.last_periods() if is_open_ended else None
    users, parts = list[Counts](), list[Counts]()
    for period, cohort in enumerate(cohorts):
        groups = grouping.groups(cohort)
        users.append(user_counts(cohort, groups, grouping.count))
        if last is None:
            part = presence.counts(cohort.ordinals, period, cells, groups, grouping.count)
        else:
            numbers = last[cohort.ordinals] - period
            part = counts_of_at_least(numbers, cells, groups, grouping.count)
        parts.append(part)
    sizes = stacked_counts(users, (grouping.count, 0))
    return CohortCounts(
        sizes,
        stacked_counts(parts, (grouping.count, 0, cells)),
        np.repeat(sizes[:, :, None], cells, axis=2),
    )


def present_in_period(
    cohort: Cohort, presence: Presence, period: int, *, is_open_ended: bool
) -> Flags:
    """Return which users of a cohort `calendar_counts` counts in the cell of a period."""
    if is_open_ended:
        flags: Flags = presence.last_periods()[cohort.ordinals] >= period
        return flags
    return presence.flags(period)[cohort.ordinals]


def exclude_users(values: NDArray[np.integer], excluded: Flags, replacement: int) -> None:
    """Replace the values of users for whom `excluded` is true; its length may differ."""
    length = min(len(values), len(excluded))
    values[:length][excluded[:length]] = replacement


def positions_by_number(numbers: NDArray[np.integer], count: int) -> list[NDArray[np.intp]]:
    """Return the positions of each number from 0 to before `count`, ascending."""
    # Integers of 16 bits, since numpy sorts these by radix.
    keys = np.minimum(numbers, count).astype(np.uint16)
    ends = np.bincount(keys, minlength=count + 1).cumsum()
    return np.split(np.argsort(keys, kind="stable"), ends[:-1])[:count]


def user_counts(cohort: Cohort, groups: Groups | None, group_count: int) -> Counts:
    """Return the number of users by group; shape (groups,)."""
    if groups is None:
        return np.array([len(cohort.ordinals)], np.int64)
    return np.bincount(groups, minlength=group_count)


def counts_of_at_least(
    numbers: NDArray[np.integer], count: int, groups: Groups | None, group_count: int
) -> Counts:
    """Return how many numbers are at least 0, 1, ... up to before `count`; (groups, count)."""
    keys: NDArray[np.integer] = np.clip(numbers, -1, count - 1).astype(np.int64) + 1
    if groups is not None:
        keys += groups * (count + 1)
    tally = np.bincount(keys, minlength=group_count * (count + 1))
    from_end = tally.reshape(group_count, count + 1)[:, ::-1].cumsum(axis=1)
    counts: Counts = from_end[:, ::-1][:, 1:]
    return counts


def stacked_counts(parts: Sequence[Counts], empty_shape: tuple[int, ...]) -> Counts:
    """Return counts of cohorts as one array, with the cohorts as its second dimension."""
    return np.stack(parts, axis=1) if parts else np.zeros(empty_shape, np.int64)
