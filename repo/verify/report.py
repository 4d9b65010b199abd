"""The report of a verification: how much was compared, and the differences."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np

from repo.verify.recount import ALL, UNKNOWN, Row
from repo.verify.roaring import BadBitmap, Ordinals, decode
from repo.verify.snapshot import Span
from repo.verify.stored_rows import StoredRow
from utils.formats import quantity

MAX_LISTED = 100
_MAX_NAMED = 3
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SLOT = timedelta(minutes=15)
_NO_ROW = "no row"


NameOf = Callable[[int], str | None]
"""Returns the event name of an id; None if the dictionary lacks it."""


class Difference(NamedTuple):
    """A difference between a stored and an expected value, printed as one line."""

    table: str
    key: str
    stored: str
    expected: str

    def __str__(self) -> str:
        key = f" {self.key}" if self.key else ""
        return f"{self.table}{key}: stored {self.stored}; expected {self.expected}"


@dataclass(slots=True)
class Findings:
    """Counts differences, and lists the first ones."""

    rows: int = 0
    """Rows that were compared."""
    events: int = 0
    """Events that were recounted."""
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
    expected: Mapping[int, Row],
    stored: Mapping[int, StoredRow],
    name_of: NameOf,
) -> None:
    """Compare the rows of one slot or span, and add differences to the findings."""
    # Names are looked up only for differences that are listed.
    for name_id in sorted(expected.keys() | stored.keys()):
        findings.rows += 1
        if difference := _difference(expected.get(name_id), stored.get(name_id)):
            is_listed = findings.differences < MAX_LISTED
            key = f"{format_span(span)} {format_name(name_id, name_of)}" if is_listed else ""
            findings.add(Difference(table, key, *difference))


def format_span(span: Span) -> str:
    """Return the start and end as ISO times in UTC, or as slots beyond the calendar."""
    return "/".join(map(_format_slot, span))


def format_name(name_id: int, name_of: NameOf) -> str:
    """Return the name on one line, whatever characters it has."""
    if name_id == ALL:
        return "all names"
    name = name_of(name_id)
    return f"name_id {name_id} (not in event_names)" if name is None else repr(name)


def _difference(expected: Row | None, stored: StoredRow | None) -> tuple[str, str] | None:
    """Describe the stored and the expected row; None if they are equal."""
    if stored is None:
        return _NO_ROW, _describe(expected)
    try:
        stored_row = Row(stored.events, decode(stored.bitmap))
    except BadBitmap as exc:
        return (
            f"{quantity(stored.events, 'event')}, a bitmap that cannot be read ({exc})",
            _describe(expected),
        )
    if expected is None:
        return _describe(stored_row), _NO_ROW
    if stored_row.events == expected.events and np.array_equal(stored_row.users, expected.users):
        return None
    return _describe(stored_row, expected.users), _describe(expected, stored_row.users)


def _describe(row: Row | None, other: Ordinals | None = None) -> str:
    if row is None:
        return _NO_ROW
    text = f"{quantity(row.events, 'event')}, {quantity(len(row.users), 'user')}"
    extra = np.setdiff1d(row.users, row.users[:0] if other is None else other)
    return f"{text} ({_list_users(extra)})" if other is not None and len(extra) else text


def _list_users(users: Ordinals) -> str:
    names = (
        "one without an ordinal" if n == UNKNOWN else str(n) for n in users[:_MAX_NAMED].tolist()
    )
    remaining = len(users) - _MAX_NAMED
    return "with " + ", ".join([*names, *([f"{remaining} more"] if remaining > 0 else [])])


def _format_slot(slot: int) -> str:
    try:
        return f"{_EPOCH + slot * _SLOT:%Y-%m-%dT%H:%MZ}"
    except OverflowError:
        return f"slot {slot}"
