"""Verify the statistics of properties by counting the events anew, without any column."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from psycopg2.extensions import connection, cursor

from repo.verify.copy_rows import copy_rows
from repo.verify.fingerprints import Kind, Property
from repo.verify.json_values import PropertyValues, read_objects
from repo.verify.report import Difference, Findings
from repo.verify.snapshot import SQL, snapshot

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Path = tuple[str, ...]
_Value = tuple[Kind, Any]

_MAX_DISTINCT = 100_000
_WITH_USERS = 100
"""The number of values of each property whose users are counted."""
_KINDS: tuple[Kind, ...] = ("number", "text", "boolean")
_RECORD = np.dtype(
    [
        ("columns", ">i2"),
        ("l1", ">i4"), ("time", ">i8"),
        ("l2", ">i4"), ("user", ">i8"),
        ("l3", ">i4"),
    ]
)  # fmt: skip


class _Stored(NamedTuple):
    """A row of `catalogue_properties`, with times in microseconds since 2000-01-01 UTC."""

    path: Path
    counts: dict[str, int | None]
    values: dict[_Value, tuple[int, int]] | None
    """The events and users of values, most events first."""


@dataclass(slots=True)
class _Recount:
    """The statistics of a property, counted from the events."""

    events: int = 0
    first: int = 2**63 - 1
    last: int = -(2**63)
    types: Counter[Kind] = field(default_factory=Counter)
    values: Counter[_Value] = field(default_factory=Counter)
    users: set[int] = field(default_factory=set)
    users_of: dict[_Value, set[int]] = field(default_factory=dict)
    """The users of the values whose users are counted, by value."""
    has_too_many: bool = False

    def add(self, heads: NDArray[np.void], by_kind: Mapping[Kind, PropertyValues]) -> None:
        """Add the values of a batch of events."""
        rows = {row for column in by_kind.values() for row in column.rows}
        times = heads["time"][list(rows)]
        self.events += len(rows)
        self.first, self.last = min(self.first, *times.tolist()), max(self.last, *times.tolist())
        users = heads["user"].tolist()
        self.users.update(users[row] for row in rows)
        for kind, column in by_kind.items():
            self.types[kind] += len(set(column.rows))
            pairs = zip(column.rows, column.values, strict=True)
            self._add_values({(row, _key(kind, value)) for row, value in pairs}, users)

    def _add_values(self, keys: set[tuple[int, _Value]], users: Sequence[int]) -> None:
        for row, value in keys:
            if value in self.users_of:
                self.users_of[value].add(users[row])
        if not self.has_too_many:
            self.values.update(value for _, value in keys)
        if len(self.values) > _MAX_DISTINCT:
            self.values.clear()
            self.has_too_many = True

    def counts(self) -> dict[str, int | None]:
        """Return the columns that a stored row must have."""
        return {
            "events": self.events,
            "users": len(self.users - {0}),
            "first": self.first,
            "last": self.last,
            **{kind: self.types[kind] for kind in _KINDS},
            "distinct": None if self.has_too_many else len(self.values),
        }


def verify_catalogue(conn: connection, findings: Findings, _: Sequence[str]) -> None:
    """Verify all statistics, unless events that they count were dropped.

    Raises: Unverifiable, DatabaseUnavailable.
    """
    with snapshot(conn) as (cur, state):
        cur.execute(SQL["verify_catalogue_counts"], {"generation": state.generation})
        row = cur.fetchone()
        if row is None:
            return
        counted_at, counted, may_lack = row
        stored = {each.path: each for each in _stored(cur)}
        recounts = {path: _Recount(users_of=_watched(each)) for path, each in stored.items()}
        params = {"counted_at": counted_at, "snapshot": counted}
        _recount(cur, params, recounts)
        findings.rows += len(stored)
        for path in sorted(stored.keys() | recounts.keys()):
            if path in stored:
                _compare(findings, stored[path], recounts[path])
            elif not may_lack:
                _add(findings, path, "no row", f"events {recounts[path].events}")
        _compare_names(cur, params, findings)


def _stored(cur: cursor) -> Iterator[_Stored]:
    cur.execute(SQL["verify_catalogue_rows"])
    names = ("events", "users", "first", "last", "text", "number", "boolean", "distinct")
    for path, *counts, values in cur.fetchall():
        decoded = None if values is None else _values(bytes(values))
        yield _Stored(tuple(path), dict(zip(names, counts, strict=True)), decoded)


def _values(data: bytes) -> dict[_Value, tuple[int, int]]:
    rows = json.loads(zstd.decompress(data))
    return {
        _key(_KINDS[kind], text == "true" if _KINDS[kind] == "boolean" else text): (events, users)
        for kind, text, events, users in rows
    }


def _key(kind: Kind, value: Any) -> _Value:
    return kind, Decimal(value) if kind == "number" else value


def _watched(stored: _Stored) -> dict[_Value, set[int]]:
    return {value: set() for value in list(stored.values or ())[:_WITH_USERS]}


def _recount(cur: cursor, params: Mapping[str, Any], recounts: dict[Path, _Recount]) -> None:
    def take(heads: NDArray[np.void], objects: list[bytes]) -> None:
        by_path: dict[Path, dict[Kind, PropertyValues]] = {}
        for (path, kind), values in read_objects(objects).items():
            by_path.setdefault(path, {})[kind] = values
        for path, by_kind in by_path.items():
            recounts.setdefault(path, _Recount()).add(heads, by_kind)

    copy_rows(cur, SQL["verify_catalogue_events"], params, _RECORD, take)


def _compare(findings: Findings, stored: _Stored, recount: _Recount) -> None:
    expected = recount.counts()
    if stored.counts != expected:
        _add(findings, stored.path, _text(stored.counts), _text(expected))
    if stored.values is None or recount.has_too_many:
        return
    differing = sum(events != recount.values[value] for value, (events, _) in stored.values.items())
    differing += sum(
        len(users - {0}) != stored.values[value][1] for value, users in recount.users_of.items()
    )
    # Values are personal data, so they are not printed.
    if differing or _least(stored) < _greatest_other(stored, recount):
        _add(findings, stored.path, f"{differing} values with other counts", "those of the events")


def _compare_names(cur: cursor, params: Mapping[str, Any], findings: Findings) -> None:
    cur.execute(SQL["verify_catalogue_names"], params)
    for name, stored, expected in cur:
        values = (_text(each) if each else "no row" for each in (stored, expected))
        findings.add(Difference("catalogue_names", repr(name), *values))


def _least(stored: _Stored) -> int:
    return min((events for events, _ in (stored.values or {}).values()), default=0)


def _greatest_other(stored: _Stored, recount: _Recount) -> int:
    """Return the events of the most frequent value that is not stored; 0 if all are."""
    others = (recount.values[value] for value in recount.values.keys() - (stored.values or {}))
    return max(others, default=0)


def _add(findings: Findings, path: Path, stored: str, expected: str) -> None:
    name = str(Property(path, "text")).removesuffix(" (text)")
    findings.add(Difference("catalogue_properties", name, stored, expected))


def _text(counts: Mapping[str, int | None]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
