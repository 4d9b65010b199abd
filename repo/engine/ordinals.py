"""Operations on arrays of the ordinals of users, in which users may repeat and 0 is no user."""

from array import array
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from common.errors import TooExpensive
from repo.engine.cost import MAX_BYTES
from utils.distinct import distinct

Ordinals = NDArray[np.uint32]

# Above one ordinal for so many possible ones, setting flags is faster than sorting.
_SPARSE = 16

_MAX_PENDING = 2**22  # ordinals of all groups that may repeat: 16 MB
_CHEAPER = "a longer interval, a shorter range, or a filter"


def count_distinct(parts: Sequence[Ordinals]) -> int:
    """Return the number of distinct users."""
    highest = _highest(parts)
    if _is_sparse(parts, highest):
        return len(distinct_ordinals(parts))
    return int(np.count_nonzero(_flags(parts, highest)))


def distinct_ordinals(parts: Sequence[Ordinals]) -> Ordinals:
    """Return the distinct users, ascending."""
    highest = _highest(parts)
    if not _is_sparse(parts, highest):
        return np.flatnonzero(_flags(parts, highest)).astype(np.uint32)
    ordinals = distinct(np.concatenate([np.zeros(1, np.uint32), *parts]))
    return ordinals[1:]


def group_by_user(
    parts: Sequence[Ordinals],
) -> tuple[Ordinals, list[NDArray[np.intp]]]:
    """Return the distinct users, ascending, and for each ordinal the position of its user.

    No ordinal is 0.
    """
    users = distinct_ordinals(parts)
    if _is_sparse(parts, _highest(parts)):
        return users, [np.searchsorted(users, part) for part in parts]
    positions = np.zeros(_highest(parts) + 1, np.intp)
    positions[users] = np.arange(len(users))
    return users, [positions[part] for part in parts]


def set_of(*parts: Ordinals) -> BitMap:
    """Return the distinct users as a set."""
    return BitMap(array("I", distinct_ordinals(parts).tobytes()))


class FlaggedUsers:
    """A set of users, with a flag for each possible one."""

    def __init__(self) -> None:
        self._flags = np.zeros(1, np.bool_)

    def add(self, users: Ordinals) -> None:
        """Add users, who may repeat; 0 is no user."""
        try:
            self._flags[users] = True
        except IndexError:  # which is noticed faster than the highest ordinal is found
            highest = int(users.max())
            # By a quarter at least, since ordinals often rise from chunk to chunk.
            flags = np.zeros(max(highest + 1, len(self._flags) * 5 // 4), np.bool_)
            flags[: len(self._flags)] = self._flags
            self._flags = flags
            self._flags[users] = True

    @property
    def count(self) -> int:
        """The number of users."""
        return int(np.count_nonzero(self._flags[1:]))

    def ordinals(self) -> Ordinals:
        """Return the users, ascending."""
        return (np.flatnonzero(self._flags[1:]) + 1).astype(np.uint32)


class HasUsers(Protocol):
    """Users of events, as ordinals that may repeat, or as a set."""

    def compact(self) -> int:
        """Turn ordinals into a set; return the bytes of the set, about."""
        ...


class UserMemory:
    """Bounds the memory of the users of many groups, which one computation collects together."""

    def __init__(self) -> None:
        self._pending = 0

    def take(self, ordinals: int, groups: Iterable[HasUsers]) -> None:
        """Note that a number of ordinals were added to the groups. Raises: TooExpensive."""
        self._pending += ordinals
        if self._pending <= _MAX_PENDING:
            return
        self._pending = 0
        size = sum(group.compact() for group in groups)
        if size > MAX_BYTES:
            raise TooExpensive("bytes of users", size, MAX_BYTES, _CHEAPER)


def _highest(parts: Sequence[Ordinals]) -> int:
    return max((int(part.max()) for part in parts if len(part)), default=0)


def _is_sparse(parts: Sequence[Ordinals], highest: int) -> bool:
    return sum(map(len, parts)) * _SPARSE < highest


def _flags(parts: Sequence[Ordinals], highest: int) -> NDArray[np.bool_]:
    """Return for each ordinal whether it is one of a user in the arrays."""
    # Sized by the ordinals themselves, so no ordinal is beyond the end.
    flags = np.zeros(highest + 1, np.bool_)
    for part in parts:
        flags[part] = True
    flags[0] = False
    return flags
