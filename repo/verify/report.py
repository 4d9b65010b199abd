"""What a verification found: how much was compared, and what is not as it should be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np

from repo.verify.recount import ALL, UNKNOWN, Row
from repo.verify.roaring import BadBitmap, Ordinals, decode
from repo.verify.snapshot import Span
from repo.verify.stored_rows import StoredRow

MAX_LISTED = 100
_MAX_NAMED = 3
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SLOT = timedelta(minutes=15)
_NO_ROW = "no row"


NameOf = Callable[[int], str | None]
"""The event name of a number; None where the dictionary has none."""


class Difference(NamedTuple):
    """One line: where, what is stored there, and what is true."""

    table: str
    key: str
    stored: str
    true: str

    def __str__(self) -> str:
        key = f" {self.key}" if self.key else ""
        return f"{self.table}{key}: stored {self.stored}; true {self.true}"


@dataclass(slots=True)
class Findings:
    """Counts all differences, and keeps the first ones."""

    rows: int = 0
    """Compared."""
    events: int = 0
    """Recounted."""
    differences: int = 0
    listed: list[Difference] = field(default_factory=list)

    def add(self, difference: Difference) -> None:
        self.differences += 1
        if len(self.listed) < MAX_LISTED:
            self.listed.append(difference)


def compare(
    findings: Findings,
    table: str,
    span: Span,
    true: Mapping[int, Row],
    stored: Mapping[int, StoredRow],
    name_of: NameOf,
) -> None:
    """The rows of one slot or span. Names are looked up for what is told."""
    for name_id in sorted(true.keys() | stored.keys()):
        findings.rows += 1
        if difference := _difference(true.get(name_id), stored.get(name_id)):
            is_listed = findings.differences < MAX_LISTED
            key = f"{format_span(span)} {_format_name(name_id, name_of)}" if is_listed else ""
            findings.add(Difference(table, key, *difference))


def format_span(span: Span) -> str:
    """In ISO times of UTC, as far as calendars go."""
    return "/".join(map(_format_slot, span))


def _format_name(name_id: int, name_of: NameOf) -> str:
    """On one line, whatever the name holds."""
    if name_id == ALL:
        return "all names"
    name = name_of(name_id)
    return f"name_id {name_id}, which has no name" if name is None else repr(name)


def _difference(true: Row | None, stored: StoredRow | None) -> tuple[str, str] | None:
    """What is stored and what is true, where that is not the same."""
    if stored is None:
        return _NO_ROW, _describe(true)
    try:
        stored_row = Row(stored.events, decode(stored.bitmap))
    except BadBitmap as exc:
        return f"{_format_events(stored.events)}, a bitmap that cannot be read ({exc})", _describe(
            true
        )
    if true is None:
        return _describe(stored_row), _NO_ROW
    if stored_row.events == true.events and np.array_equal(stored_row.users, true.users):
        return None
    return _describe(stored_row, true.users), _describe(true, stored_row.users)


def _describe(row: Row | None, other: Ordinals | None = None) -> str:
    if row is None:
        return _NO_ROW
    text = f"{_format_events(row.events)}, {len(row.users)} users"
    extra = np.setdiff1d(row.users, row.users[:0] if other is None else other)
    return f"{text} ({_list_users(extra)})" if other is not None and len(extra) else text


def _list_users(users: Ordinals) -> str:
    names = ("one without ordinal" if n == UNKNOWN else str(n) for n in users[:_MAX_NAMED].tolist())
    remaining = len(users) - _MAX_NAMED
    return "with " + ", ".join([*names, *([f"{remaining} more"] if remaining > 0 else [])])


def _format_events(count: int) -> str:
    return f"{count} events"


def _format_slot(slot: int) -> str:
    try:
        return f"{_EPOCH + slot * _SLOT:%Y-%m-%dT%H:%MZ}"
    except OverflowError:
        return f"slot {slot}"
