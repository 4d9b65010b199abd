"""Verify the daily statistics by recounting them from the events."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from psycopg2.extensions import connection, cursor

from repo.verify.calendar import Days, folded_at, verify_calendar, zones_to_verify
from repo.verify.days_before_horizon import verify_retained_days
from repo.verify.report import Difference, Findings
from repo.verify.snapshot import SQL, FoldState, snapshot

_CHUNK = timedelta(days=92)
_RECOUNTS = ("verify_day_users", "verify_day_events")


def verify_daily_stats(conn: connection, findings: Findings, declared: Sequence[str]) -> None:
    """Verify all days of all zones that have or should have statistics, except queued days.

    Raises: Unverifiable, DatabaseUnavailable.
    """
    with snapshot(conn) as (cur, state):
        zones = list(zones_to_verify(cur, state, declared, findings))
    for days in zones:
        for part in _parts(days):
            with snapshot(conn) as (cur, state):
                _verify(cur, state, part, findings)


def _parts(days: Days) -> Iterator[Days]:
    first = days.first
    while first < days.end:
        end = min(first + _CHUNK, days.end)
        # Days before `complete_from` are verified in another way, so no part has both kinds.
        if first < days.complete_from:
            end = min(end, days.complete_from)
        yield days._replace(first=first, end=end)
        first = end


def _verify(cur: cursor, state: FoldState, days: Days, findings: Findings) -> None:
    days = days._replace(folded_at=folded_at(state))
    params = {**days._asdict(), **state.params()}
    cur.execute(SQL["verify_daily_stats_queue"], params)
    params["queued_days"] = [day for (day,) in cur]
    cur.execute(SQL["verify_daily_stats_rows"], params)
    findings.rows += sum(rows for (rows,) in cur)
    verify_calendar(cur, days, params["queued_days"], findings)
    for check in _RECOUNTS if days.first >= days.complete_from else ():
        cur.execute(SQL[check], params)
        for table, key, stored, expected in cur:
            findings.add(Difference(table, f"{days.zone} {key}", stored, expected))
    if days.first < days.complete_from:
        verify_retained_days(cur, state, params, findings)
