"""The values of entries that have most users."""

from collections.abc import Sequence

import numpy as np

from common.filters import Value
from repo.cohorts.counts import Cohort, Grouping
from repo.sequences.first_values import value_order


def ranked(
    cohorts: Sequence[Cohort], values: Sequence[Value], limit: int
) -> tuple[list[int], Grouping]:
    """Return the codes of the values with most users, and the groups of all codes.

    The groups are these values in their order, then all others, then the missing value.
    """
    users = np.zeros(len(values) + 1, np.int64)
    for cohort in cohorts:
        assert cohort.values is not None, "the values of entries were collected"
        users += np.bincount(cohort.values + 1, minlength=len(users))
    present = np.flatnonzero(users[1:]).tolist()
    present.sort(key=lambda code: (-users[code + 1], value_order(values[code])))
    shown = present[:limit]
    # The code of the missing value is -1, the last position.
    group_of = np.full(len(values) + 1, len(shown))
    group_of[shown] = np.arange(len(shown))
    group_of[-1] = len(shown) + 1
    return shown, Grouping(len(shown) + 2, group_of)
