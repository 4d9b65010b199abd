"""Verify the daily statistics of days with dropped events against the retained slots."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
from psycopg2.extensions import cursor

from repo.verify.recount import ALL, Recount, Row
from repo.verify.report import Difference, Findings
from repo.verify.roaring import Ordinals
from repo.verify.slots_before_horizon import retained_records
from repo.verify.snapshot import SQL, FoldState, Span
from utils.formats import quantity

_EMPTY_ROW = Row(0, np.empty(0, np.uint32))
_WINDOWS = (1, 7, 30)

DayValues = dict[str, str]
"""The values of a day, by table and key."""


def verify_retained_days(
    cur: cursor, state: FoldState, params: Mapping[str, Any], findings: Findings
) -> None:
    """Compare the daily statistics with slots, which are verified elsewhere."""
    stored = _read_stored_names(cur, params)
    event_names, active = _read_event_names(cur), _LastActive()
    cur.execute(SQL["verify_retained_days"], params)
    for day, start, end, events, *users in cur.fetchall():
        rows = _slots(cur, state, Span(start, end))
        # Also for days that are not compared: later windows include their users.
        all_names = rows.pop(ALL, _EMPTY_ROW)
        active_counts = active.count_active(day, all_names.users)
        if day < params["first"] or day in params["queued_days"]:
            continue
        stored_values = {f"day_users {day}": _describe_users(events, users), **stored.get(day, {})}
        expected_values = {
            f"day_users {day}": _describe_users(all_names.events, active_counts),
            **_values_by_name(day, rows, event_names),
        }
        for difference in _differences(params["zone"], stored_values, expected_values):
            findings.add(difference)


class _LastActive:
    """The last day on which each user was active."""

    def __init__(self) -> None:
        self._days = np.zeros(1, np.int64)

    def count_active(self, day: date, users: Ordinals) -> list[int]:
        """Return the active users of the windows that end with `day`, and how many are new.

        Must be called with days in order.
        """
        today, missing = day.toordinal(), max(users[-1:].tolist(), default=0) + 1 - len(self._days)
        # One number for each ordinal, which grows with the highest ordinal seen.
        self._days = np.pad(self._days, (0, max(missing, 0)))
        new = int((self._days[users] <= today - max(_WINDOWS)).sum())
        self._days[users] = today
        return [*(int((self._days > today - window).sum()) for window in _WINDOWS), new]


def _slots(cur: cursor, state: FoldState, day: Span) -> dict[int, Row]:
    day_recount = Recount()
    day_recount.add(retained_records(cur, state, day))
    return day_recount.rows()


def _read_event_names(cur: cursor) -> dict[int, str]:
    cur.execute(SQL["verify_names"])
    return dict(cur.fetchall())


def _read_stored_names(cur: cursor, params: Mapping[str, Any]) -> dict[date, DayValues]:
    stored: dict[date, DayValues] = {}
    cur.execute(SQL["verify_retained_names"], params)
    for day, name, events, users in cur:
        stored.setdefault(day, {})[_key(day, name)] = _describe_counts(events, users)
    return stored


def _values_by_name(day: date, rows: Mapping[int, Row], names: Mapping[int, str]) -> DayValues:
    return {
        _key(day, names.get(name_id, "")): _describe_counts(row.events, len(row.users))
        for name_id, row in rows.items()
    }


def _key(day: date, name: str) -> str:
    return f"day_events {day} {name!r}"


def _describe_users(events: int, users: Sequence[int | None]) -> str:
    dau, wau, mau, new = users
    new_text = "uncounted" if new is None else new
    return (
        f"{quantity(events, 'event')}, {dau}, {wau} and {mau} users, {new_text} new or resurrected"
    )


def _describe_counts(events: int, users: int) -> str:
    return f"{quantity(events, 'event')}, {quantity(users, 'user')}"


def _differences(
    zone: str, stored_values: DayValues, expected_values: DayValues
) -> Iterator[Difference]:
    for key in sorted(stored_values.keys() | expected_values.keys()):
        stored, counted = stored_values.get(key, "no row"), expected_values.get(key, "no row")
        if stored != counted:
            table, day = key.split(" ", 1)
            yield Difference(table, f"{zone} {day}", stored, counted)
