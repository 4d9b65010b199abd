"""Statistics of a property: what the catalogue says about it, and their form in the table."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

import msgspec

from common.filters import Value
from repo.columns.chunk import Kind
from repo.columns.chunk_table import Path
from utils.decimals import decimal_text

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

KINDS: tuple[Kind, ...] = ("number", "text", "boolean")
"""The types, in the order of values that have the same number of events."""
KIND_BITS: Mapping[Kind, int] = {"text": 1, "number": 2, "boolean": 4}
"""The types of a property, as the column `kinds` adds them up."""

EVENT_NAMES: Path = ()
"""Stands for the names of events in the place of a property."""

_ROWS = msgspec.json.Decoder(list[tuple[int, str, int, int]])


class ValueCount(NamedTuple):
    """A value with its events and users."""

    value: Value
    events: int
    users: int

    @property
    def kind(self) -> Kind:
        return kind_of(self.value)


@dataclass(frozen=True, slots=True)
class PropertyStatistics:
    """The events that have a value of a property, and their users."""

    path: Path
    events: int
    users: int
    first: int
    """The time of the first event, in microseconds since 2000-01-01 UTC."""
    last: int
    types: Mapping[Kind, int]
    """The number of events that have values of a type, also in lists, by each type that some have.
    """
    distinct: int | None
    """The number of distinct values; None if there are too many to be counted."""
    values: Sequence[ValueCount] | None
    """The values with the most events; ties are ordered by type and value. None if there are too
    many, or if they were not counted."""


def kind_of(value: Value) -> Kind:
    """Return the type of a value."""
    if isinstance(value, bool):
        return "boolean"
    return "text" if isinstance(value, str) else "number"


def text_of(value: Value) -> str:
    """Return the text of a value: `true`, a number as decimal, or the text itself."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else decimal_text(value)


def encode_values(values: Sequence[ValueCount]) -> bytes:
    """Return values for the table."""
    rows = [
        (KINDS.index(each.kind), text_of(each.value), each.events, each.users) for each in values
    ]
    return zstd.compress(msgspec.json.encode(rows), 1)


def decode_values(data: bytes | memoryview) -> list[ValueCount]:
    """Return the values that `encode_values` encoded."""
    return [
        ValueCount(_value(KINDS[kind], text), events, users)
        for kind, text, events, users in _ROWS.decode(zstd.decompress(data))
    ]


def _value(kind: Kind, text: str) -> Value:
    if kind == "number":
        return Decimal(text)
    return text == "true" if kind == "boolean" else text
