"""The users of ranges from rollups, as the arrays that collectors of events receive."""

from collections.abc import Sequence

import numpy as np
from pyroaring import BitMap

from repo.engine.aggregate_decoder import FIRST_TEMPORARY
from repo.engine.cardinality import Aggregates
from repo.engine.ordinals import Ordinals
from repo.engine.span_cache import size_of


class UserSets:
    """The users of each range of an aggregation.

    Collectors have arrays that are as long as the highest ordinal, so temporary ordinals, which
    are large, are replaced by those after the highest other one.
    """

    def __init__(self, sets: Sequence[BitMap], shift: int) -> None:
        """`shift` is subtracted from temporary ordinals."""
        self._sets = sets
        self._shift = np.uint32(shift)

    @property
    def size(self) -> int:
        """The bytes of the sets, about."""
        return sum(map(size_of, self._sets))

    def users(self, index: int) -> Ordinals:
        """Return the distinct users of a range."""
        ordinals = np.array(self._sets[index].to_array(), np.uint32)
        ordinals[ordinals >= FIRST_TEMPORARY] -= self._shift
        return ordinals


def user_sets_of(parts: Sequence[Aggregates]) -> list[UserSets]:
    """Return the users of aggregations of one snapshot, whose ordinals are those of one source."""
    sets = [[part.cardinalities.users(total) for total in part.totals] for part in parts]
    highest = max((_highest_ordinal(each) for part in sets for each in part), default=0)
    return [UserSets(each, FIRST_TEMPORARY - 1 - highest) for each in sets]


def _highest_ordinal(users: BitMap) -> int:
    """Return the highest ordinal that is not temporary; 0 without one."""
    count = users.rank(FIRST_TEMPORARY - 1)
    return users[count - 1] if count else 0
