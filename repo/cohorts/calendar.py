"""The periods of cohorts, and the ranges in which events count for them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from utils.time.calendar import Range


@dataclass(frozen=True, slots=True)
class Part:
    """A range in which all events count alike."""

    time_range: Range
    period: int | None
    """The period that contains it; None before the first."""
    is_entry: bool
    """Whether users enter in it."""
    is_earlier: bool
    """Whether it is before the range in which users enter."""

    @property
    def is_return(self) -> bool:
        """Whether users return in it."""
        return self.period is not None


def parts_of(
    periods: Sequence[Range], entry_range: Range, *, since: datetime | None, until: datetime | None
) -> list[Part]:
    """Return ranges in order that do not overlap: periods, cut where users begin to enter and stop.

    `since`: the parts begin there, if it is before the first period. `until`: after the last
    period comes one that ends there.
    """
    if not periods:
        return []
    first, last = periods[0].start, periods[-1].end
    parts = list[Part]()
    if since is not None and since < first:
        parts.append(Part(Range(since, first), None, is_entry=False, is_earlier=True))
    for number, period in enumerate(periods):
        parts += _parts_of_period(number, period, entry_range)
    if until is not None and last < until:
        parts.append(Part(Range(last, until), len(periods), is_entry=False, is_earlier=False))
    return parts


def _parts_of_period(number: int, period: Range, entry_range: Range) -> Iterator[Part]:
    start = min(max(period.start, entry_range.start), period.end)
    end = min(max(start, entry_range.end), period.end)
    pieces = (Range(period.start, start), Range(start, end), Range(end, period.end))
    for place, piece in enumerate(pieces):
        if piece.start < piece.end:
            yield Part(piece, number, is_entry=place == 1, is_earlier=place == 0)
