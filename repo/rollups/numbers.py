"""Numbers for SQL readers: the days of each declared zone, counted soon after they change."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from psycopg2.extensions import cursor

from common.query import Query
from config.database import Cursor
from repo.rollups.memory import Memory
from repo.rollups.rolled import KNOWN, Known, Rolled
from repo.rollups.state import State, read_users
from repo.rollups.unions import Unions
from repo.sources import Count
from repo.statements import statements
from utils.bitmaps import largest
from utils.slots import slot_start
from utils.timebuckets import Range, day_start, local_day
from utils.zones import zone, zone_names

SQL = statements("numbers")

_NAME = "daily_statistics"
"""What the metrics call it."""
_LEAST, _MOST = 31, 366
"""Days that are counted together: more where sets of users can only be small, and fewer where
there are very many names."""
_BYTES = 32 * 2**20
"""What all sets of the days may take, where they are more than the least."""
_ROWS_AT_ONCE = 200_000
_REACH = 30
"""Days that the users of one day count in."""
_DAY = timedelta(days=1)


def mark(cur: cursor, zones: Iterable[ZoneInfo], slots: Iterable[int], now: datetime) -> None:
    """Events of these slots came in: their days, and those whose windows they are in, are due."""
    moments = [slot_start(slot) for slot in slots]
    for tz in zones:
        today = local_day(now, tz)
        _mark(cur, tz, [day for day in _reached(moments, tz) if day <= today])


def mark_behind(cur: cursor, zones: Iterable[ZoneInfo], first_slot: int, now: datetime) -> None:
    """Days that have no numbers, and those that were not over when they were counted."""
    for tz in zones:
        cur.execute(SQL["numbers_settled"], {"zone": tz.key})
        settled = {day for (day,) in cur}
        _mark(cur, tz, [day for day in _days(tz, first_slot, now) if day not in settled])


def mark_all(cur: cursor, zones: Iterable[ZoneInfo], first_slot: int, now: datetime) -> None:
    """All days since the first event."""
    for tz in zones:
        _mark(cur, tz, _days(tz, first_slot, now))


def prune(cur: cursor, zones: Iterable[ZoneInfo], first_slot: int | None, now: datetime) -> None:
    """Delete days before the first event and days that have not begun, of all zones.

    A clock that was ahead leaves such days.
    """
    for tz in {*zones, *_counted_zones(cur)}:
        today = local_day(now, tz)
        first = today + _DAY if first_slot is None else local_day(slot_start(first_slot), tz)
        cur.execute(SQL["numbers_prune"], {"zone": tz.key, "first": first, "today": today})


def mark_moved(cur: cursor, zones: Iterable[ZoneInfo], now: datetime) -> None:
    """Days that were counted from or to another instant than the rules of their zone say now."""
    for tz in zones:
        cur.execute(SQL["numbers_edges"], {"zone": tz.key})
        moved = [day for day, *edges in cur if edges != [*_range(day, tz)]]
        reached = {day + n * _DAY for day in moved for n in range(_REACH)}
        today = local_day(now, tz)
        _mark(cur, tz, [day for day in reached if day <= today])


def forget_others(cur: cursor, zones: Iterable[ZoneInfo]) -> None:
    """Numbers of any other zone."""
    cur.execute(SQL["numbers_forget"], {"zones": [tz.key for tz in zones]})


def _reached(moments: Iterable[datetime], tz: ZoneInfo) -> set[date]:
    """The days that count what occurred at these moments."""
    touched = {local_day(moment, tz) for moment in moments}
    return {day + n * _DAY for day in touched for n in range(_REACH)}


def _days(tz: ZoneInfo, first_slot: int, now: datetime) -> list[date]:
    first, today = local_day(slot_start(first_slot), tz), local_day(now, tz)
    return [first + n * _DAY for n in range((today - first).days + 1)]


def _mark(cur: cursor, tz: ZoneInfo, days: Sequence[date]) -> None:
    if days:
        cur.execute(SQL["numbers_mark"], {"zone": tz.key, "days": list(days)})


class Piece(NamedTuple):
    """Days of one zone that are counted together."""

    zone: str
    days: list[date]


def take_due(cur: cursor, most: int, postponed: Sequence[tuple[str, date]] = ()) -> Piece | None:
    """Take the next days, at most so many, off the queue; None where none is left.

    Zones with days that are postponed come last.
    """
    zones, days = [zone for zone, _ in postponed], [day for _, day in postponed]
    cur.execute(SQL["numbers_take"], {"most": most, "zones": zones, "days": days})
    taken = cur.fetchall()
    return Piece(taken[0][0], sorted(day for _, day in taken)) if taken else None


def count_due(cur: cursor, postponed: Sequence[tuple[str, date]] = ()) -> int:
    """How many days are in the queue and not postponed."""
    zones, days = [zone for zone, _ in postponed], [day for _, day in postponed]
    cur.execute(SQL["numbers_count_due"], {"zones": zones, "days": days})
    (due,) = cur.fetchone() or (0,)
    return int(due)


def count(cur: Cursor, state: State, piece: Piece) -> None:
    """Count days that were taken; those of a zone that is not known are forgotten."""
    cur.as_of = max(cur.as_of, state.folded.end)  # as questions do: clocks may be put back
    if piece.zone in zone_names():
        _count(cur, state, piece.zone, piece.days, KNOWN)
    else:
        forget_unknown(cur)


def forget_unknown(cur: cursor) -> None:
    """Numbers of zones that the pinned tzdata does not have."""
    cur.execute(SQL["numbers_forget"], {"zones": list(zone_names())})


def most_days(cur: cursor, state: State) -> int:
    """Days at a time."""
    names = state.names + 1
    fitting = _BYTES // (names * largest(read_users(cur)) or 1)
    return max(1, min(max(_LEAST, fitting), _MOST, _ROWS_AT_ONCE // names))


def counted_in(cur: cursor, slots: Iterable[int]) -> dict[str, list[date]]:
    """For each zone the days that have numbers, and count what occurred in these slots; in order.

    Zones that nobody knows any more are forgotten.
    """
    forget_unknown(cur)
    moments = [slot_start(slot) for slot in slots]
    zones = _counted_zones(cur)
    return {tz.key: _counted(cur, tz, list(_reached(moments, tz))) for tz in zones}


def _counted_zones(cur: cursor) -> list[ZoneInfo]:
    """Those that have numbers, declared or not."""
    cur.execute(SQL["numbers_zones"])
    return [zone(name) for (name,) in cur if name in zone_names()]


def _counted(cur: cursor, tz: ZoneInfo, days: list[date]) -> list[date]:
    cur.execute(SQL["numbers_counted"], {"zone": tz.key, "days": days})
    return [day for (day,) in cur]


def recount(cur: Cursor, state: State, days: Mapping[str, list[date]]) -> None:
    """Count these days of zones anew, within a transaction that may yet fail."""
    cur.as_of = max(cur.as_of, state.folded.end)
    known = Known(Memory(), Unions())  # nobody else must learn what is not committed
    most = most_days(cur, state)
    for name, of_zone in days.items():
        for part in _parts(of_zone, most):
            cur.execute(SQL["numbers_done"], {"zone": name, "days": part})
            _count(cur, state, name, part, known)


def clear(cur: cursor, days: Mapping[str, list[date]]) -> None:
    """Take the numbers of these days away until they are counted."""
    for name, of_zone in days.items():
        cur.execute(SQL["numbers_clear"], {"zone": name, "days": of_zone})
        cur.execute(SQL["numbers_clear_users"], {"zone": name, "days": of_zone})
        _mark(cur, zone(name), of_zone)


def _parts(days: list[date], most: int) -> Iterator[list[date]]:
    """Runs of days, each within so many."""
    while days:
        end = bisect_left(days, days[0] + most * _DAY)
        yield days[:end]
        days = days[end:]


def _count(cur: Cursor, state: State, name: str, due: list[date], known: Known) -> None:
    tz = zone(name)
    source = Rolled(cur, Query(_NAME, tz), state, guarded=False, known=known)
    ranges = [_range(day, tz) for day in due]
    by_name = source.by_name([asked.until(cur.as_of) for asked in ranges])
    _write_events(cur, name, list(zip(due, by_name, strict=True)))
    given = {
        "zone": name,
        "days": due,
        "starts": [asked.start for asked in ranges],
        "ends": [asked.end for asked in ranges],
        "events": [sum(count.events for _, count in found) for found in by_name],
        "counted_at": cur.as_of,
    }
    cur.execute(SQL["numbers_users"], {**given, **_windows(source, tz, due, cur.as_of)})


def _range(day: date, tz: ZoneInfo) -> Range:
    return Range(day_start(day, tz), day_start(day + _DAY, tz))


def _write_events(
    cur: Cursor, zone: str, by_name: Sequence[tuple[date, Sequence[tuple[str, Count]]]]
) -> None:
    cur.execute(SQL["numbers_clear"], {"zone": zone, "days": [day for day, _ in by_name]})
    rows = [(day, name, *count) for day, found in by_name for name, count in found]
    columns = zip(*rows, strict=True) if rows else ([], [], [], [])
    given = dict(zip(("days", "names", "events", "users"), map(list, columns), strict=True))
    cur.execute(SQL["numbers_events"], {"zone": zone, **given})


def _windows(
    source: Rolled, tz: ZoneInfo, due: Sequence[date], as_of: datetime
) -> dict[str, list[int]]:
    """dau, wau and mau of each day, and who is in its mau by that day alone."""
    first = due[0] - _REACH * _DAY
    days = [first + n * _DAY for n in range((due[-1] - first).days + 1)]
    starts = [day_start(day, tz) for day in [*days, days[-1] + _DAY]]
    ranges = [Range(*edges).until(as_of) for edges in pairwise(starts)]
    places = [(day - first).days for day in due]
    rolling = source.rolling(ranges, _REACH - 1)
    found = {name: [rolling[name][at] for at in places] for name in ("dau", "wau", "mau")}
    before = [rolling["active"][at - 1] for at in places]
    return {
        **found,
        "new": [mau - others for mau, others in zip(found["mau"], before, strict=True)],
    }
