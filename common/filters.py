"""Filters: conditions on the fields and properties of events.

The canonical form of a filter is flattened, sorted and without duplicates, and `str` returns it as
text, which parses to the same filter. So equal filters share their cached answers.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from utils.decimals import decimal_text

NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)
BARE_NAME = re.compile(r'[^ ,()":.]+')
BARE_VALUE = re.compile(r'[^ ,()"]+')
WORD = re.compile(r"(or|and|not)(?=[ ()]|$)", re.IGNORECASE)
BOOLEANS = {"true": True, "false": False}

Operator = Literal[">", ">=", "<", "<="]
Value = str | Decimal | bool
"""A value of a property, whose types are told apart: 5 and "5" are two values."""


@dataclass(frozen=True, slots=True)
class Name:
    """A property, by the keys of its path, or a field of the event itself: `event` or `user`."""

    path: tuple[str, ...] = ()
    field: Literal["event", "user"] | None = None

    def __str__(self) -> str:
        return f"@{self.field}" if self.field else ".".join(map(_name_text, self.path))


@dataclass(frozen=True, slots=True)
class Exists:
    """Whether there is a value."""

    def __str__(self) -> str:
        return "*"


@dataclass(frozen=True, slots=True)
class Compare:
    """Whether a number is greater or less."""

    operator: Operator
    number: Decimal

    def __str__(self) -> str:
        return f"{self.operator}{decimal_text(self.number)}"


@dataclass(frozen=True, slots=True)
class Between:
    """Whether a number is within a range, both ends included."""

    low: Decimal
    high: Decimal

    def __str__(self) -> str:
        return f"{decimal_text(self.low)}..{decimal_text(self.high)}"


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Whether the value is one of these; whether its text starts with one, or contains one."""

    kind: Literal["", "^", "~"]
    values: tuple[Value, ...]

    def __str__(self) -> str:
        present = set(map(typed, self.values))
        texts = [value for value in self.values if isinstance(value, str)]
        return self.kind + ",".join(_value_text(text, self.kind, present) for text in texts)


Test = Exists | Compare | Between | AnyOf


@dataclass(frozen=True, slots=True)
class Condition:
    """A test of one field or property."""

    name: Name
    test: Test

    def __str__(self) -> str:
        return f"{self.name}:{self.test}"


@dataclass(frozen=True, slots=True)
class Not:
    """Whatever does not match, missing values included."""

    part: "Filter"

    def __str__(self) -> str:
        return f"-{self.part}" if isinstance(self.part, Condition) else f"-({self.part})"


@dataclass(frozen=True, slots=True)
class All:
    """All parts must hold; there are at least two."""

    parts: tuple["Filter", ...]

    def __str__(self) -> str:
        return " ".join(f"({part})" if isinstance(part, Any) else str(part) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Any:
    """At least one part must hold; there are at least two."""

    parts: tuple["Filter", ...]

    def __str__(self) -> str:
        return " or ".join(map(str, self.parts))


Filter = Condition | Not | All | Any


def conjunction(parts: Sequence[Filter]) -> Filter:
    """Return the canonical filter for which all of at least one part must hold."""
    flat = [each for part in parts for each in (part.parts if isinstance(part, All) else (part,))]
    distinct = _sorted(flat)
    return All(distinct) if len(distinct) > 1 else distinct[0]


def disjunction(parts: Sequence[Filter]) -> Filter:
    """Return the canonical filter for which one of at least one part must hold."""
    flat = [each for part in parts for each in (part.parts if isinstance(part, Any) else (part,))]
    distinct = _sorted(flat)
    return Any(distinct) if len(distinct) > 1 else distinct[0]


def negation(part: Filter) -> Filter:
    """Return the canonical filter for all that a filter does not match."""
    return part.part if isinstance(part, Not) else Not(part)


def lacking(names: Sequence[Name]) -> Filter:
    """Return the filter for events without a value of at least one of these."""
    return disjunction([Not(Condition(name, Exists())) for name in names])


def conditions(part: Filter) -> Iterator[Condition]:
    """Yield all conditions of a filter, some perhaps more than once."""
    if isinstance(part, Condition):
        yield part
    elif isinstance(part, Not):
        yield from conditions(part.part)
    else:
        for each in part.parts:
            yield from conditions(each)


def _sorted(parts: Sequence[Filter]) -> tuple[Filter, ...]:
    return tuple(sorted(dict.fromkeys(parts), key=str))


def typed(value: Value) -> tuple[str, Value]:
    """Return a value with its type: True and 1 are equal in Python."""
    return ("bool", value) if isinstance(value, bool) else (type(value).__name__, value)


def sort_key(key: tuple[str, Value]) -> tuple[str, str]:
    kind, value = key
    return kind, decimal_text(value) if isinstance(value, Decimal) else str(value)


def _name_text(key: str) -> str:
    is_bare = BARE_NAME.fullmatch(key) and key[0] not in "@-" and not WORD.fullmatch(key)
    return key if is_bare else quote(key)


def _value_text(text: str, kind: str, present: set[tuple[str, Value]]) -> str:
    spelled: Value | None = BOOLEANS.get(text)
    if spelled is None and NUMBER.fullmatch(text):
        spelled = Decimal(text)
    means_more = not kind and spelled is not None
    if means_more and spelled is not None and typed(spelled) not in present:
        return quote(text)
    is_bare = BARE_VALUE.fullmatch(text) and text[0] not in "<>=!^~" and "*" not in text
    return text if is_bare and (kind or ".." not in text) else quote(text)


def quote(text: str) -> str:
    """Return a text in quotes, as the text form of filters has it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
