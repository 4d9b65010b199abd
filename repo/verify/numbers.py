"""The numbers of days, against what is counted anew from the events."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from psycopg2.extensions import connection, cursor

from repo.verify.calendar import Days, folded_at, verify_calendar, zones_of
from repo.verify.findings import Difference, Findings
from repo.verify.kept_days import verify_kept_days
from repo.verify.snapshot import SQL, State, snapshot

_AT_ONCE = timedelta(days=92)
_RECOUNTS = ("verify_day_users", "verify_day_events")


def verify_numbers(conn: connection, findings: Findings, declared: Sequence[str] = ()) -> None:
    """All days of all zones that have numbers, or should have.

    Those that wait to be counted anew are left out.

    Raises: Unverifiable, DatabaseUnavailable.
    """
    with snapshot(conn) as (cur, state):
        zones = list(zones_of(cur, state, declared, findings))
    for days in zones:
        for part in _parts(days):
            with snapshot(conn) as (cur, state):
                _verify(cur, state, part, findings)


def _parts(days: Days) -> Iterator[Days]:
    first = days.first
    while first < days.end:
        end = min(first + _AT_ONCE, days.end)
        if first < days.whole:
            end = min(end, days.whole)
        yield days._replace(first=first, end=end)
        first = end


def _verify(cur: cursor, state: State, days: Days, findings: Findings) -> None:
    days = days._replace(folded_at=folded_at(state))
    given = {**days._asdict(), **state.folded()}
    cur.execute(SQL["verify_waiting"], given)
    given["waiting"] = [day for (day,) in cur]
    cur.execute(SQL["verify_numbers_rows"], given)
    findings.rows += sum(rows for (rows,) in cur)
    verify_calendar(cur, days, given["waiting"], findings)
    for check in _RECOUNTS if days.first >= days.whole else ():
        cur.execute(SQL[check], given)
        for table, place, stored, true in cur:
            findings.differs(Difference(table, f"{days.zone} {place}", stored, true))
    if days.first < days.whole:
        verify_kept_days(cur, state, given, findings)
