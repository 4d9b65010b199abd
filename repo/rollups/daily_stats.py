"""Daily statistics for SQL clients: counts of each day of the declared time zones."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from psycopg2.extensions import cursor

from config.database import Cursor
from repo.engine.bitmaps import max_bytes
from repo.engine.cardinality import CardinalityCache, Count
from repo.engine.plan import Aggregation, Group
from repo.engine.rollup_source import CACHES, EngineCaches, RollupSource
from repo.engine.span_cache import SpanCache
from repo.engine.watermark import Watermark, read_user_count
from repo.statements import statements
from utils.time.calendar import Range, day_start, local_day
from utils.time.slots import slot_start
from utils.time.zones import zone, zone_names

SQL = statements("daily_stats")

_NAME = "daily_statistics"  # the question in metrics

# Limits of a batch of days: fewer days if sets of users can be large, or if there are many names.
_MIN_DAYS, _MAX_DAYS = 31, 366
_MAX_SET_BYTES = 32 * 2**20
_MAX_ROWS = 200_000

_WINDOW_DAYS = 30  # a day's users count on that day and the 29 after it
_DAY = timedelta(days=1)


def enqueue(cur: cursor, zones: Iterable[ZoneInfo], slots: Iterable[int], now: datetime) -> None:
    """Queue the days of these slots, and the later days whose windows include them."""
    instants = [slot_start(slot) for slot in slots]
    for tz in zones:
        today = local_day(now, tz)
        _enqueue(cur, tz, [day for day in _affected_days(instants, tz) if day <= today])


def enqueue_behind(cur: cursor, zones: Iterable[ZoneInfo], first_slot: int, now: datetime) -> None:
    """Queue days without statistics, and days that had not ended when they were counted."""
    for tz in zones:
        cur.execute(SQL["daily_stats_up_to_date"], {"zone": tz.key})
        settled = {day for (day,) in cur}
        _enqueue(cur, tz, [day for day in _days(tz, first_slot, now) if day not in settled])


def enqueue_all(cur: cursor, zones: Iterable[ZoneInfo], first_slot: int, now: datetime) -> None:
    """Queue all days since the first event."""
    for tz in zones:
        _enqueue(cur, tz, _days(tz, first_slot, now))


def prune(cur: cursor, zones: Iterable[ZoneInfo], first_slot: int | None, now: datetime) -> None:
    """Delete days before the first event and days that have not begun, of all zones."""
    # A clock that was ahead for a while leaves days of the future.
    for tz in {*zones, *_counted_zones(cur)}:
        today = local_day(now, tz)
        first = today + _DAY if first_slot is None else local_day(slot_start(first_slot), tz)
        cur.execute(SQL["daily_stats_prune"], {"zone": tz.key, "first_day": first, "today": today})


def enqueue_moved(cur: cursor, zones: Iterable[ZoneInfo], now: datetime) -> None:
    """Queue days whose limits have moved: tzdata may have changed since they were counted."""
    for tz in zones:
        cur.execute(SQL["daily_stats_day_limits"], {"zone": tz.key})
        moved = [day for day, *edges in cur if edges != [*_day_range(day, tz)]]
        affected = {day + n * _DAY for day in moved for n in range(_WINDOW_DAYS)}
        today = local_day(now, tz)
        _enqueue(cur, tz, [day for day in affected if day <= today])


def delete_other_zones(cur: cursor, zones: Iterable[ZoneInfo]) -> None:
    """Delete the statistics of all other zones."""
    cur.execute(SQL["daily_stats_delete_other_zones"], {"zones": [tz.key for tz in zones]})


def _affected_days(instants: Iterable[datetime], tz: ZoneInfo) -> set[date]:
    """Return the days whose statistics include events at these instants."""
    changed = {local_day(instant, tz) for instant in instants}
    return {day + n * _DAY for day in changed for n in range(_WINDOW_DAYS)}


def _days(tz: ZoneInfo, first_slot: int, now: datetime) -> list[date]:
    first, today = local_day(slot_start(first_slot), tz), local_day(now, tz)
    return [first + n * _DAY for n in range((today - first).days + 1)]


def _enqueue(cur: cursor, tz: ZoneInfo, days: Sequence[date]) -> None:
    if days:
        cur.execute(SQL["daily_stats_enqueue"], {"zone": tz.key, "days": list(days)})


class DayBatch(NamedTuple):
    """Days of one zone that are counted together, in order."""

    zone: str
    days: list[date]


def claim_due(
    cur: cursor, limit: int, postponed: Sequence[tuple[str, date]] = ()
) -> DayBatch | None:
    """Take at most `limit` days of one zone off the queue; None if it has no due days.

    Postponed days stay in the queue, and their zones come last.
    """
    zones, days = [zone for zone, _ in postponed], [day for _, day in postponed]
    cur.execute(SQL["daily_stats_dequeue"], {"limit": limit, "zones": zones, "days": days})
    claimed = cur.fetchall()
    return DayBatch(claimed[0][0], sorted(day for _, day in claimed)) if claimed else None


def count_due(cur: cursor, postponed: Sequence[tuple[str, date]] = ()) -> int:
    """Return how many days are in the queue and not postponed."""
    zones, days = [zone for zone, _ in postponed], [day for _, day in postponed]
    cur.execute(SQL["daily_stats_count_due"], {"zones": zones, "days": days})
    (due,) = cur.fetchone() or (0,)
    return int(due)


def count(cur: Cursor, watermark: Watermark, batch: DayBatch) -> None:
    """Compute the statistics of claimed days; delete those of a zone that tzdata lacks."""
    # As for questions: the clock may be behind the watermark if it was put back.
    cur.now = max(cur.now, watermark.folded_range.end)
    if batch.zone in zone_names():
        _count(cur, watermark, batch.zone, batch.days, CACHES)
    else:
        delete_unknown_zones(cur)


def delete_unknown_zones(cur: cursor) -> None:
    """Delete the statistics of zones that the pinned tzdata lacks."""
    cur.execute(SQL["daily_stats_delete_other_zones"], {"zones": list(zone_names())})


def max_days(cur: cursor, watermark: Watermark) -> int:
    """Return how many days to count at a time."""
    names = watermark.name_count + 1
    fitting = _MAX_SET_BYTES // (names * max_bytes(read_user_count(cur)) or 1)
    return max(1, min(max(_MIN_DAYS, fitting), _MAX_DAYS, _MAX_ROWS // names))


def affected_days(cur: cursor, slots: Iterable[int]) -> dict[str, list[date]]:
    """Return, by zone, the days that have statistics which include these slots, in order.

    Deletes the statistics of zones that tzdata lacks.
    """
    delete_unknown_zones(cur)
    instants = [slot_start(slot) for slot in slots]
    zones = _counted_zones(cur)
    return {tz.key: _counted_days(cur, tz, list(_affected_days(instants, tz))) for tz in zones}


def _counted_zones(cur: cursor) -> list[ZoneInfo]:
    """Return the zones that have statistics, declared or not."""
    cur.execute(SQL["daily_stats_zones"])
    return [zone(name) for (name,) in cur if name in zone_names()]


def _counted_days(cur: cursor, tz: ZoneInfo, days: list[date]) -> list[date]:
    cur.execute(SQL["daily_stats_existing"], {"zone": tz.key, "days": days})
    return [day for (day,) in cur]


def recount(cur: Cursor, watermark: Watermark, days: Mapping[str, list[date]]) -> None:
    """Recompute the statistics of these days, within a transaction that may be rolled back."""
    cur.now = max(cur.now, watermark.folded_range.end)
    # Own caches, since those of the process must hold committed data only.
    caches = EngineCaches(SpanCache(), CardinalityCache())
    max_count = max_days(cur, watermark)
    for name, zone_days in days.items():
        for run in _runs(zone_days, max_count):
            cur.execute(SQL["daily_stats_dequeue_days"], {"zone": name, "days": run})
            _count(cur, watermark, name, run, caches)


def clear(cur: cursor, days: Mapping[str, list[date]]) -> None:
    """Delete the statistics of these days, and queue them."""
    for name, zone_days in days.items():
        cur.execute(SQL["daily_stats_delete_events"], {"zone": name, "days": zone_days})
        cur.execute(SQL["daily_stats_delete_users"], {"zone": name, "days": zone_days})
        _enqueue(cur, zone(name), zone_days)


def _runs(days: list[date], max_count: int) -> Iterator[list[date]]:
    """Split days into runs, each within `max_count` consecutive days."""
    while days:
        end = bisect_left(days, days[0] + max_count * _DAY)
        yield days[:end]
        days = days[end:]


def _count(
    cur: Cursor, watermark: Watermark, name: str, days: list[date], caches: EngineCaches
) -> None:
    tz = zone(name)
    source = RollupSource(cur, watermark, is_guarded=False, caches=caches)
    ranges = [_day_range(day, tz) for day in days]
    by_name = _counts_by_name(source, tz, [time_range.until(cur.now) for time_range in ranges])
    _write_events(cur, name, list(zip(days, by_name, strict=True)))
    params = {
        "zone": name,
        "days": days,
        "starts": [time_range.start for time_range in ranges],
        "ends": [time_range.end for time_range in ranges],
        "events": [sum(counts.events for _, counts in name_counts) for name_counts in by_name],
        "counted_at": cur.now,
    }
    cur.execute(SQL["daily_stats_write_users"], {**params, **_windows(source, tz, days, cur.now)})


def _counts_by_name(
    source: RollupSource, tz: ZoneInfo, ranges: list[Range]
) -> list[list[tuple[str, Count]]]:
    """Return the event names of each range with their counts."""
    aggregation = Aggregation(question=_NAME, ranges=ranges, zone=tz, group=Group())
    aggregates = source.read(source.plan(aggregation))
    count = aggregates.cardinalities.counts
    return [
        list(zip(part.named, count(part.named.values()), strict=True)) for part in aggregates.ranges
    ]


def _day_range(day: date, tz: ZoneInfo) -> Range:
    return Range(day_start(day, tz), day_start(day + _DAY, tz))


def _write_events(
    cur: Cursor, zone: str, by_name: Sequence[tuple[date, Sequence[tuple[str, Count]]]]
) -> None:
    cur.execute(
        SQL["daily_stats_delete_events"], {"zone": zone, "days": [day for day, _ in by_name]}
    )
    rows = [(day, name, *count) for day, name_counts in by_name for name, count in name_counts]
    columns = zip(*rows, strict=True) if rows else ([], [], [], [])
    params = dict(zip(("days", "names", "events", "users"), map(list, columns), strict=True))
    cur.execute(SQL["daily_stats_write_events"], {"zone": zone, **params})


def _windows(
    source: RollupSource, tz: ZoneInfo, due_days: Sequence[date], now: datetime
) -> dict[str, list[int]]:
    """Return dau, wau, mau and the number of new or resurrected users of each day.

    New or resurrected users have no event on the 29 days before.
    """
    first = due_days[0] - _WINDOW_DAYS * _DAY
    days = [first + n * _DAY for n in range((due_days[-1] - first).days + 1)]
    starts = [day_start(day, tz) for day in [*days, days[-1] + _DAY]]
    ranges = [Range(*edges).until(now) for edges in pairwise(starts)]
    indexes = [(day - first).days for day in due_days]
    aggregates = source.read(source.plan(Aggregation(question=_NAME, ranges=ranges, zone=tz)))
    totals, cardinalities = aggregates.totals, aggregates.cardinalities
    rolling = {
        "dau": [count.users for count in cardinalities.counts(totals)],
        "wau": cardinalities.rolling(totals, 7),
        "mau": cardinalities.rolling(totals, _WINDOW_DAYS),
        "earlier": cardinalities.rolling(totals, _WINDOW_DAYS - 1),
    }
    windows = {name: [rolling[name][at] for at in indexes] for name in ("dau", "wau", "mau")}
    # The users of the 30 days without those of the 29 days before are new on the last day.
    earlier_counts = [rolling["earlier"][index - 1] for index in indexes]
    return {
        **windows,
        "new_users": [
            mau - earlier for mau, earlier in zip(windows["mau"], earlier_counts, strict=True)
        ],
    }
