"""The furthest step that the owners of events reached, and their reported chains."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import TooExpensive
from repo.columns.filter_evaluation import Mask
from repo.sequences.chain_search import Chains
from repo.sequences.ordered_events import OrderedEvents, Positions, first_of_runs

MAX_BYTES = 256 * 2**20
"""The largest size of the arrays of all owners."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The furthest steps of the owners who entered a funnel; each has a place in all arrays.

    Times are microseconds since 2000-01-01 UTC.
    """

    users: NDArray[np.uint32]
    """The user that the owner is, or that caused its session."""
    furthest: NDArray[np.uint8]
    """The number of steps that any of its chains reaches."""
    times: NDArray[np.int64]
    """By step: when the reported chain reached it; of no meaning beyond `furthest`."""
    first_entry: NDArray[np.int64]
    """When its first chain began."""
    is_open: Mask
    """Whether it is not at the last step and may reach a further one."""
    by: NDArray[np.int32] | None = None
    """The code of a value in the reported chain; -1 if that is missing."""

    def __len__(self) -> int:
        return len(self.furthest)

    @property
    def nbytes(self) -> int:
        """The bytes of the arrays."""
        arrays = (
            *(self.users, self.furthest, self.times, self.first_entry),
            *(self.is_open, self.by),
        )
        return sum(each.nbytes for each in arrays if each is not None)

    def select(self, which: Mask | Positions) -> "Progress":
        """Return some of the owners."""
        return Progress(
            users=self.users[which],
            furthest=self.furthest[which],
            times=self.times[:, which],
            first_entry=self.first_entry[which],
            is_open=self.is_open[which],
            by=None if self.by is None else self.by[which],
        )


def progress_of(events: OrderedEvents, chains: Chains, by_step: int = 0) -> Progress:
    """Return how far the owners of chains came; the value of `by` is that at `by_step`, from 0."""
    owners = events.owner.take(chains.entries)
    starts = first_of_runs(owners)
    numbers = _run_numbers(starts, len(owners))
    furthest, reported = _reported(chains, starts, numbers)
    positions = _positions(chains, reported, furthest)
    is_open = np.zeros(len(starts), np.bool_)
    is_open[numbers.take(np.flatnonzero(chains.is_open))] = True
    return Progress(
        users=events.users_of(owners.take(starts)),
        furthest=furthest,
        times=events.time.take(positions),
        first_entry=events.time.take(chains.entries.take(starts)),
        is_open=is_open & (furthest < len(chains.levels)),
        by=None
        if events.by is None
        else np.where(furthest > by_step, events.by.take(positions[by_step]), np.int32(-1)),
    )


def united(parts: Iterable[Progress]) -> Progress:
    """Return the progress of all owners of at least one part. Raises: TooExpensive."""
    listed = _bounded(parts)
    if len(listed) == 1:
        return listed[0]
    return Progress(
        users=np.concatenate([part.users for part in listed]),
        furthest=np.concatenate([part.furthest for part in listed]),
        times=np.concatenate([part.times for part in listed], axis=1),
        first_entry=np.concatenate([part.first_entry for part in listed]),
        is_open=np.concatenate([part.is_open for part in listed]),
        by=None
        if listed[0].by is None
        else np.concatenate([part.by for part in listed if part.by is not None]),
    )


def _bounded(parts: Iterable[Progress]) -> list[Progress]:
    listed, size = list[Progress](), 0
    for part in parts:
        listed.append(part)
        size += part.nbytes
        if size > MAX_BYTES:
            cheaper = "a shorter range, or fewer steps"
            raise TooExpensive("bytes of users who entered", size, MAX_BYTES, cheaper)
    return listed


def _run_numbers(starts: Positions, length: int) -> NDArray[np.int32]:
    """Return for each position the number of its run, from 0."""
    is_first = np.zeros(length, np.bool_)
    is_first[starts] = True
    numbers = np.cumsum(is_first, dtype=np.int32)
    numbers -= np.int32(1)
    return numbers


def _reported(
    chains: Chains, starts: Positions, numbers: NDArray[np.int32]
) -> tuple[NDArray[np.uint8], Positions]:
    """Return the furthest step of each owner, and its first chain that reaches it."""
    furthest, reported = np.ones(len(starts), np.uint8), starts.copy()
    for step, level in enumerate(chains.levels[1:], 2):
        owners = numbers.take(level.chains)
        furthest[owners] = step
        # Reversed, so that the first chain of an owner is written last and stays.
        reported[owners[::-1]] = level.chains[::-1]
    return furthest, reported


def _positions(chains: Chains, reported: Positions, furthest: NDArray[np.uint8]) -> Positions:
    """Return the positions of the events of the reported chains, by step; 0 where there is none."""
    positions = np.zeros((len(chains.levels), len(reported)), np.intp)
    positions[0] = chains.entries.take(reported)
    for step, level in enumerate(chains.levels[1:], 1):
        which = np.flatnonzero(furthest > step)
        places = level.chains.searchsorted(reported.take(which))
        positions[step, which] = level.positions.take(places)
    return positions
