"""What a verification found: how much was compared, and what is not as it should be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np

from repo.verify.recount import ALL, UNKNOWN, Row
from repo.verify.roaring import BadBitmap, Ordinals, decode
from repo.verify.snapshot import Span
from repo.verify.stored import Stored

MOST_TOLD = 100
_NAMED = 3
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SLOT = timedelta(minutes=15)
_NOTHING = "no row"


NameOf = Callable[[int], str | None]
"""The event name of a number; None where the dictionary has none."""


class Difference(NamedTuple):
    """One line: where, what is stored there, and what is true."""

    table: str
    place: str
    stored: str
    true: str

    def __str__(self) -> str:
        place = f" {self.place}" if self.place else ""
        return f"{self.table}{place}: stored {self.stored}; true {self.true}"


@dataclass(slots=True)
class Findings:
    """Counts all differences, and keeps the first ones."""

    rows: int = 0
    """Compared."""
    events: int = 0
    """Recounted."""
    differences: int = 0
    told: list[Difference] = field(default_factory=list)

    def differs(self, found: Difference) -> None:
        self.differences += 1
        if len(self.told) < MOST_TOLD:
            self.told.append(found)


def compare(
    findings: Findings,
    table: str,
    span: Span,
    true: Mapping[int, Row],
    stored: Mapping[int, Stored],
    name_of: NameOf,
) -> None:
    """The rows of one slot or span. Names are looked up for what is told."""
    for name_id in sorted(true.keys() | stored.keys()):
        findings.rows += 1
        if difference := _difference(true.get(name_id), stored.get(name_id)):
            is_told = findings.differences < MOST_TOLD
            place = f"{shown(span)} {_shown_name(name_id, name_of)}" if is_told else ""
            findings.differs(Difference(table, place, *difference))


def shown(span: Span) -> str:
    """In ISO times of UTC, as far as calendars go."""
    return "/".join(map(_moment, span))


def _shown_name(name_id: int, name_of: NameOf) -> str:
    """On one line, whatever the name holds."""
    if name_id == ALL:
        return "all names"
    name = name_of(name_id)
    return f"name_id {name_id}, which has no name" if name is None else repr(name)


def _difference(true: Row | None, stored: Stored | None) -> tuple[str, str] | None:
    """What is stored and what is true, where that is not the same."""
    if stored is None:
        return _NOTHING, _told(true)
    try:
        there = Row(stored.events, decode(stored.bitmap))
    except BadBitmap as exc:
        return f"{_events(stored.events)}, a bitmap that cannot be read ({exc})", _told(true)
    if true is None:
        return _told(there), _NOTHING
    if there.events == true.events and np.array_equal(there.users, true.users):
        return None
    return _told(there, true.users), _told(true, there.users)


def _told(row: Row | None, other: Ordinals | None = None) -> str:
    if row is None:
        return _NOTHING
    told = f"{_events(row.events)}, {len(row.users)} users"
    more = np.setdiff1d(row.users, row.users[:0] if other is None else other)
    return f"{told} ({_these(more)})" if other is not None and len(more) else told


def _these(users: Ordinals) -> str:
    named = ("one without ordinal" if n == UNKNOWN else str(n) for n in users[:_NAMED].tolist())
    rest = len(users) - _NAMED
    return "with " + ", ".join([*named, *([f"{rest} more"] if rest > 0 else [])])


def _events(count: int) -> str:
    return f"{count} events"


def _moment(slot: int) -> str:
    try:
        return f"{_EPOCH + slot * _SLOT:%Y-%m-%dT%H:%MZ}"
    except OverflowError:
        return f"slot {slot}"
