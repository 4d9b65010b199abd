"""The numbers of days whose events are dropped, against the slots that are kept of them."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
from psycopg2.extensions import cursor

from repo.verify.findings import Difference, Findings
from repo.verify.kept import kept
from repo.verify.recount import ALL, Row, Tally
from repo.verify.roaring import Ordinals
from repo.verify.snapshot import SQL, Span, State

_NOTHING = Row(0, np.empty(0, np.uint32))
_WINDOWS = (1, 7, 30)

Told = dict[str, str]
"""What there is to tell about a day, by where it stands."""


def verify_kept_days(
    cur: cursor, state: State, given: Mapping[str, Any], findings: Findings
) -> None:
    """Slots of events that are not dropped are compared with these elsewhere."""
    stored = _names_stored(cur, given)
    names, active = _names_of(cur), _Active()
    cur.execute(SQL["verify_kept_days"], given)
    for day, start, end, events, *users in cur.fetchall():
        rows = _slots(cur, state, Span(start, end))
        every = rows.pop(ALL, _NOTHING)
        counted = active.on(day, every.users)
        if day < given["first"] or day in given["waiting"]:
            continue
        there = {f"day_users {day}": _users(events, users), **stored.get(day, {})}
        true = {f"day_users {day}": _users(every.events, counted), **_names(day, rows, names)}
        for found in _differences(given["zone"], there, true):
            findings.differs(found)


class _Active:
    """On which day each user was active last."""

    def __init__(self) -> None:
        self._days = np.zeros(1, np.int64)

    def on(self, day: date, users: Ordinals) -> list[int]:
        """How many were active in the windows that end with the day, and how many of them in no
        window of a day before; days come in order."""
        today, beyond = day.toordinal(), max(users[-1:].tolist(), default=0) + 1 - len(self._days)
        self._days = np.pad(self._days, (0, max(beyond, 0)))
        new = int((self._days[users] <= today - max(_WINDOWS)).sum())
        self._days[users] = today
        return [*(int((self._days > today - window).sum()) for window in _WINDOWS), new]


def _slots(cur: cursor, state: State, day: Span) -> dict[int, Row]:
    tally = Tally()
    tally.add(kept(cur, state, day))
    return tally.rows()


def _names_of(cur: cursor) -> dict[int, str]:
    cur.execute(SQL["verify_names"])
    return dict(cur.fetchall())


def _names_stored(cur: cursor, given: Mapping[str, Any]) -> dict[date, Told]:
    stored: dict[date, Told] = {}
    cur.execute(SQL["verify_kept_names"], given)
    for day, name, events, users in cur:
        stored.setdefault(day, {})[_place(day, name)] = _counts(events, users)
    return stored


def _names(day: date, rows: Mapping[int, Row], names: Mapping[int, str]) -> Told:
    return {
        _place(day, names.get(name_id, "")): _counts(row.events, len(row.users))
        for name_id, row in rows.items()
    }


def _place(day: date, name: str) -> str:
    return f"day_events {day} {name!r}"


def _users(events: int, users: Sequence[int | None]) -> str:
    dau, wau, mau, new = users
    fresh = "uncounted" if new is None else new
    return f"{events} events, {dau}, {wau} and {mau} users, {fresh} new"


def _counts(events: int, users: int) -> str:
    return f"{events} events, {users} users"


def _differences(zone: str, there: Told, true: Told) -> Iterator[Difference]:
    for place in sorted(there.keys() | true.keys()):
        stored, counted = there.get(place, "no row"), true.get(place, "no row")
        if stored != counted:
            table, where = place.split(" ", 1)
            yield Difference(table, f"{zone} {where}", stored, counted)
