"""The furthest step that the owners of events reached, and their reported chains."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

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
        arrays = (self.furthest, self.times, self.first_entry, self.is_open, self.by)
        return sum(each.nbytes for each in arrays if each is not None)

    def select(self, which: Mask | Positions) -> "Progress":
        """Return some of the owners."""
        return Progress(
            furthest=self.furthest[which],
            times=self.times[:, which],
            first_entry=self.first_entry[which],
            is_open=self.is_open[which],
            by=None if self.by is None else self.by[which],
        )


def progress_of(events: OrderedEvents, chains: Chains, by_step: int = 0) -> Progress:
    """Return how far the owners of chains came; the value of `by` is that at `by_step`, from 0."""
    starts = first_of_runs(events.owner[chains.entries])
    reach = chains.reach()
    furthest = _reduced(np.maximum, reach, starts)
    positions = _positions(chains, _reported(reach, furthest, starts))
    is_open = _reduced(np.logical_or, chains.is_open, starts)
    return Progress(
        furthest=furthest,
        times=events.time[positions],
        first_entry=events.time[chains.entries[starts]],
        is_open=is_open & (furthest < len(chains.levels)),
        by=None
        if events.by is None
        else np.where(furthest > by_step, events.by[positions[by_step]], np.int32(-1)),
    )


def united(parts: Iterable[Progress]) -> Progress:
    """Return the progress of all owners of at least one part. Raises: TooExpensive."""
    listed = _bounded(parts)
    if len(listed) == 1:
        return listed[0]
    return Progress(
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


def _reported(
    reach: NDArray[np.uint8], furthest: NDArray[np.uint8], starts: Positions
) -> Positions:
    """Return the first chain of each owner that reaches its furthest step."""
    sizes = np.diff(starts, append=len(reach))
    candidates = np.flatnonzero(reach == np.repeat(furthest, sizes))
    return candidates[candidates.searchsorted(starts)]


def _positions(chains: Chains, reported: Positions) -> Positions:
    """Return the positions of the events of the reported chains, by step; 0 where there is none."""
    places = np.full(len(chains.entries), -1)
    places[reported] = np.arange(len(reported))
    positions = np.zeros((len(chains.levels), len(reported)), np.intp)
    for row, level in zip(positions, chains.levels, strict=True):
        place = places[level.chains]
        is_reported = place >= 0
        row[place[is_reported]] = level.positions[is_reported]
    return positions


def _reduced(ufunc: np.ufunc, values: NDArray[Any], starts: Positions) -> NDArray[Any]:
    """Return the values of each owner as one; `reduceat` fails without owners."""
    return ufunc.reduceat(values, starts) if len(starts) else values
