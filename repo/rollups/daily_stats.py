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
from repo.engine.bitmaps import max_bytes
from repo.engine.cardinality import CardinalityCache
from repo.engine.rollup_source import CACHES, EngineCaches, RollupSource
from repo.engine.source import Count
from repo.engine.span_cache import SpanCache
from repo.engine.watermark import Watermark, read_user_count
from repo.statements import statements
from utils.time.calendar import Range, day_start, local_day
from utils.time.slots import slot_start
from utils.time.zones import zone, zone_names

SQL = statements("daily_stats")

_NAME = "daily_statistics"
"""What the metrics call it."""
_MIN_DAYS, _MAX_DAYS = 31, 366
"""Days that are counted together: more where sets of users can only be small, and fewer where
there are very many names."""
_MAX_SET_BYTES = 32 * 2**20
"""What all sets of the days may take, where they are more than the least."""
_MAX_ROWS = 200_000
_WINDOW_DAYS = 30
"""Days that the users of one day count in."""
_DAY = timedelta(days=1)


def enqueue(cur: cursor, zones: Iterable[ZoneInfo], slots: Iterable[int], now: datetime) -> None:
    """Events of these slots came in: their days, and those whose windows they are in, are due."""
    instants = [slot_start(slot) for slot in slots]
    for tz in zones:
        today = local_day(now, tz)
        _enqueue(cur, tz, [day for day in _affected_days(instants, tz) if day <= today])


def enqueue_behind(cur: cursor, zones: Iterable[ZoneInfo], first_slot: int, now: datetime) -> None:
    """Days that have no numbers, and those that were not over when they were counted."""
    for tz in zones:
        cur.execute(SQL["daily_stats_last_complete"], {"zone": tz.key})
        settled = {day for (day,) in cur}
        _enqueue(cur, tz, [day for day in _days(tz, first_slot, now) if day not in settled])


def enqueue_all(cur: cursor, zones: Iterable[ZoneInfo], first_slot: int, now: datetime) -> None:
    """All days since the first event."""
    for tz in zones:
        _enqueue(cur, tz, _days(tz, first_slot, now))


def prune(cur: cursor, zones: Iterable[ZoneInfo], first_slot: int | None, now: datetime) -> None:
    """Delete days before the first event and days that have not begun, of all zones.

    A clock that was ahead leaves such days.
    """
    for tz in {*zones, *_counted_zones(cur)}:
        today = local_day(now, tz)
        first = today + _DAY if first_slot is None else local_day(slot_start(first_slot), tz)
        cur.execute(SQL["daily_stats_prune"], {"zone": tz.key, "first": first, "today": today})


def enqueue_moved(cur: cursor, zones: Iterable[ZoneInfo], now: datetime) -> None:
    """Days that were counted from or to another instant than the rules of their zone say now."""
    for tz in zones:
        cur.execute(SQL["daily_stats_edges"], {"zone": tz.key})
        moved = [day for day, *edges in cur if edges != [*_day_range(day, tz)]]
        affected = {day + n * _DAY for day in moved for n in range(_WINDOW_DAYS)}
        today = local_day(now, tz)
        _enqueue(cur, tz, [day for day in affected if day <= today])


def delete_other_zones(cur: cursor, zones: Iterable[ZoneInfo]) -> None:
    """Numbers of any other zone."""
    cur.execute(SQL["daily_stats_forget"], {"zones": [tz.key for tz in zones]})


def _affected_days(instants: Iterable[datetime], tz: ZoneInfo) -> set[date]:
    """The days that count what occurred at these moments."""
    changed = {local_day(instant, tz) for instant in instants}
    return {day + n * _DAY for day in changed for n in range(_WINDOW_DAYS)}


def _days(tz: ZoneInfo, first_slot: int, now: datetime) -> list[date]:
    first, today = local_day(slot_start(first_slot), tz), local_day(now, tz)
    return [first + n * _DAY for n in range((today - first).days + 1)]


def _enqueue(cur: cursor, tz: ZoneInfo, days: Sequence[date]) -> None:
    if days:
        cur.execute(SQL["daily_stats_enqueue"], {"zone": tz.key, "days": list(days)})


class DayBatch(NamedTuple):
    """Days of one zone that are counted together."""

    zone: str
    days: list[date]


def claim_due(
    cur: cursor, limit: int, postponed: Sequence[tuple[str, date]] = ()
) -> DayBatch | None:
    """Take the next days, at most so many, off the queue; None where none is left.

    Zones with days that are postponed come last.
    """
    zones, days = [zone for zone, _ in postponed], [day for _, day in postponed]
    cur.execute(SQL["daily_stats_dequeue"], {"most": limit, "zones": zones, "days": days})
    claimed = cur.fetchall()
    return DayBatch(claimed[0][0], sorted(day for _, day in claimed)) if claimed else None


def count_due(cur: cursor, postponed: Sequence[tuple[str, date]] = ()) -> int:
    """How many days are in the queue and not postponed."""
    zones, days = [zone for zone, _ in postponed], [day for _, day in postponed]
    cur.execute(SQL["daily_stats_count_due"], {"zones": zones, "days": days})
    (due,) = cur.fetchone() or (0,)
    return int(due)


def count(cur: Cursor, watermark: Watermark, batch: DayBatch) -> None:
    """Count days that were taken; those of a zone that is not known are forgotten."""
    cur.as_of = max(
        cur.as_of, watermark.folded_range.end
    )  # as questions do: clocks may be put back
    if batch.zone in zone_names():
        _count(cur, watermark, batch.zone, batch.days, CACHES)
    else:
        delete_unknown_zones(cur)


def delete_unknown_zones(cur: cursor) -> None:
    """Numbers of zones that the pinned tzdata does not have."""
    cur.execute(SQL["daily_stats_forget"], {"zones": list(zone_names())})


def max_days(cur: cursor, watermark: Watermark) -> int:
    """Days at a time."""
    names = watermark.name_count + 1
    fitting = _MAX_SET_BYTES // (names * max_bytes(read_user_count(cur)) or 1)
    return max(1, min(max(_MIN_DAYS, fitting), _MAX_DAYS, _MAX_ROWS // names))


def affected_days(cur: cursor, slots: Iterable[int]) -> dict[str, list[date]]:
    """For each zone the days that have numbers, and count what occurred in these slots; in order.

    Zones that nobody knows any more are forgotten.
    """
    delete_unknown_zones(cur)
    instants = [slot_start(slot) for slot in slots]
    zones = _counted_zones(cur)
    return {tz.key: _counted_days(cur, tz, list(_affected_days(instants, tz))) for tz in zones}


def _counted_zones(cur: cursor) -> list[ZoneInfo]:
    """Those that have numbers, declared or not."""
    cur.execute(SQL["daily_stats_zones"])
    return [zone(name) for (name,) in cur if name in zone_names()]


def _counted_days(cur: cursor, tz: ZoneInfo, days: list[date]) -> list[date]:
    cur.execute(SQL["daily_stats_counted"], {"zone": tz.key, "days": days})
    return [day for (day,) in cur]


def recount(cur: Cursor, watermark: Watermark, days: Mapping[str, list[date]]) -> None:
    """Count these days of zones anew, within a transaction that may yet fail."""
    cur.as_of = max(cur.as_of, watermark.folded_range.end)
    caches = EngineCaches(
        SpanCache(), CardinalityCache()
    )  # nobody else must learn what is not committed
    max_count = max_days(cur, watermark)
    for name, zone_days in days.items():
        for run in _runs(zone_days, max_count):
            cur.execute(SQL["daily_stats_written"], {"zone": name, "days": run})
            _count(cur, watermark, name, run, caches)


def clear(cur: cursor, days: Mapping[str, list[date]]) -> None:
    """Take the numbers of these days away until they are counted."""
    for name, zone_days in days.items():
        cur.execute(SQL["daily_stats_clear"], {"zone": name, "days": zone_days})
        cur.execute(SQL["daily_stats_clear_users"], {"zone": name, "days": zone_days})
        _enqueue(cur, zone(name), zone_days)


def _runs(days: list[date], max_count: int) -> Iterator[list[date]]:
    """Runs of days, each within so many."""
    while days:
        end = bisect_left(days, days[0] + max_count * _DAY)
        yield days[:end]
        days = days[end:]


def _count(
    cur: Cursor, watermark: Watermark, name: str, days: list[date], caches: EngineCaches
) -> None:
    tz = zone(name)
    source = RollupSource(cur, Query(_NAME, tz), watermark, is_guarded=False, caches=caches)
    ranges = [_day_range(day, tz) for day in days]
    by_name = source.by_name([time_range.until(cur.as_of) for time_range in ranges])
    _write_events(cur, name, list(zip(days, by_name, strict=True)))
    params = {
        "zone": name,
        "days": days,
        "starts": [asked.start for asked in ranges],
        "ends": [asked.end for asked in ranges],
        "events": [sum(counts.events for _, counts in name_counts) for name_counts in by_name],
        "counted_at": cur.as_of,
    }
    cur.execute(SQL["daily_stats_users"], {**params, **_windows(source, tz, days, cur.as_of)})


def _day_range(day: date, tz: ZoneInfo) -> Range:
    return Range(day_start(day, tz), day_start(day + _DAY, tz))


def _write_events(
    cur: Cursor, zone: str, by_name: Sequence[tuple[date, Sequence[tuple[str, Count]]]]
) -> None:
    cur.execute(SQL["daily_stats_clear"], {"zone": zone, "days": [day for day, _ in by_name]})
    rows = [(day, name, *count) for day, name_counts in by_name for name, count in name_counts]
    columns = zip(*rows, strict=True) if rows else ([], [], [], [])
    params = dict(zip(("days", "names", "events", "users"), map(list, columns), strict=True))
    cur.execute(SQL["daily_stats_events"], {"zone": zone, **params})


def _windows(
    source: RollupSource, tz: ZoneInfo, due_days: Sequence[date], as_of: datetime
) -> dict[str, list[int]]:
    """dau, wau and mau of each day, and who is in its mau by that day alone."""
    first = due_days[0] - _WINDOW_DAYS * _DAY
    days = [first + n * _DAY for n in range((due_days[-1] - first).days + 1)]
    starts = [day_start(day, tz) for day in [*days, days[-1] + _DAY]]
    ranges = [Range(*edges).until(as_of) for edges in pairwise(starts)]
    indexes = [(day - first).days for day in due_days]
    rolling = source.rolling(ranges, _WINDOW_DAYS - 1)
    windows = {name: [rolling[name][at] for at in indexes] for name in ("dau", "wau", "mau")}
    earlier_counts = [rolling["active"][index - 1] for index in indexes]
    return {
        **windows,
        "new": [mau - earlier for mau, earlier in zip(windows["mau"], earlier_counts, strict=True)],
    }
