"""Convert local times to instants: a repeated hour is its first, a skipped hour is moved forward.

The rules are those of the pinned tzdata package; PostgreSQL's own may be of another version.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from utils.time.zones import offset

Adjustment = Literal["repeated", "skipped"]

ADJUSTMENT_TEXTS: Mapping[Adjustment, str] = {
    "repeated": "with a local time in a repeated hour: the first one was used",
    "skipped": "with a local time in a skipped hour: moved forward",
}

_FROM, _UNTIL = datetime(1999, 12, 1, tzinfo=UTC), datetime(2100, 2, 1, tzinfo=UTC)
_STEP = timedelta(days=1)  # no zone changes its clocks twice within a day


def read_local(instant: datetime, tz: ZoneInfo) -> tuple[datetime, Adjustment | None]:
    """Return a naive time as an aware time of the zone, and the adjustment if one was needed."""
    first, second = instant.replace(tzinfo=tz, fold=0), instant.replace(tzinfo=tz, fold=1)
    before, after = first.utcoffset(), second.utcoffset()
    if before == after or before is None or after is None:
        return first, None
    return first, "repeated" if before > after else "skipped"


class LocalRules(NamedTuple):
    """The offsets of a zone by local time: `offsets[i]` applies from `times[i]` on."""

    first: timedelta
    """The offset before `times[0]`."""
    times: tuple[datetime, ...]
    """Naive local times, ascending."""
    offsets: tuple[timedelta, ...]


@cache
def local_rules(tz: ZoneInfo) -> LocalRules:
    """Return the rules of a zone for the years that events may have, 2000 to 2099."""
    times, offsets = [], []
    for instant in _offset_changes(tz):
        before, after = offset(instant - timedelta.resolution, tz), offset(instant, tz)
        # The old offset applies up to the later of the two local times of the change: where clocks
        # go back, to the end of the first of the repeated hours; where they go forward, to the end
        # of the skipped hour.
        times.append(instant.replace(tzinfo=None) + max(before, after))
        offsets.append(after)
    return LocalRules(offset(_FROM, tz), tuple(times), tuple(offsets))


def _offset_changes(tz: ZoneInfo) -> Iterator[datetime]:
    """Yield the instants at which the zone's offset changes."""
    instant = _FROM
    while instant < _UNTIL:
        following = instant + _STEP
        if offset(instant, tz) != offset(following, tz):
            yield _change_between(instant, following, tz)
        instant = following


def _change_between(start: datetime, end: datetime, tz: ZoneInfo) -> datetime:
    """Return the instant of the change of offset, exact to the second, as tzdata is."""
    before = offset(start, tz)
    while end - start > timedelta(seconds=1):
        middle = start + timedelta(seconds=(end - start) // timedelta(seconds=2))
        if offset(middle, tz) == before:
            start = middle
        else:
            end = middle
    return end
