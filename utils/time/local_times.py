"""Local times as instants, by one rule everywhere: the first of a repeated hour, and a skipped hour
moved forward. By the pinned tzdata: PostgreSQL's own rules may be others.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from utils.time.zones import offset

Adjustment = Literal["repeated", "skipped"]

ADJUSTMENT_TEXTS: Mapping[Adjustment, str] = {
    "repeated": "with a local time in a repeated hour: the first one was taken",
    "skipped": "with a local time in a skipped hour: moved forward",
}

_FROM, _UNTIL = datetime(1999, 12, 1, tzinfo=UTC), datetime(2100, 2, 1, tzinfo=UTC)
_STEP = timedelta(days=1)
"""No zone changes its clocks twice within it."""


def read_local(instant: datetime, tz: ZoneInfo) -> tuple[datetime, Adjustment | None]:
    """A time without an offset as one of the zone, and how it was adjusted."""
    first, second = instant.replace(tzinfo=tz, fold=0), instant.replace(tzinfo=tz, fold=1)
    before, after = first.utcoffset(), second.utcoffset()
    if before == after or before is None or after is None:
        return first, None
    return first, "repeated" if before > after else "skipped"


class LocalRules(NamedTuple):
    """How local times of a zone become instants: from each of the times on the offset of the same
    place applies, and before the first of them `first`.
    """

    first: timedelta
    times: tuple[datetime, ...]
    """Without a zone, in their order."""
    offsets: tuple[timedelta, ...]


@cache
def local_rules(tz: ZoneInfo) -> LocalRules:
    """Those of the years in which events can be."""
    times, offsets = [], []
    for instant in _offset_changes(tz):
        before, after = offset(instant - timedelta.resolution, tz), offset(instant, tz)
        # Where clocks go back, and where they go forward: the offset of before is kept up to the
        # later of the two times that they show at this moment.
        times.append(instant.replace(tzinfo=None) + max(before, after))
        offsets.append(after)
    return LocalRules(offset(_FROM, tz), tuple(times), tuple(offsets))


def _offset_changes(tz: ZoneInfo) -> Iterator[datetime]:
    """The moments from which on another offset applies."""
    instant = _FROM
    while instant < _UNTIL:
        following = instant + _STEP
        if offset(instant, tz) != offset(following, tz):
            yield _change_between(instant, following, tz)
        instant = following


def _change_between(start: datetime, end: datetime, tz: ZoneInfo) -> datetime:
    """To the second: rules know nothing finer."""
    before = offset(start, tz)
    while end - start > timedelta(seconds=1):
        middle = start + timedelta(seconds=(end - start) // timedelta(seconds=2))
        if offset(middle, tz) == before:
            start = middle
        else:
            end = middle
    return end
