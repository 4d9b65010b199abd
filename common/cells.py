"""Cells: the numbers of an answer that lists of users are about, as in the parameter `cell`.

cell = item *(["and"] item)
item = field ":" value / "@count:" name / "@row:" name / a condition as in `where`
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from common.filters import Filter, Name, conditions, conjunction
from common.where import FilterParser, TermCounter, check_length

COUNT, ROW = "@count", "@row"
EVENT_NAME = "event_name"
"""The field that is the value of a row."""

_FIELD = re.compile(r'[^ ,()":.]+(?=:)')
_OPERATORS = tuple("<>=!^~")


@dataclass(frozen=True, slots=True)
class CellFields:
    """The items that the cells of an answer may have."""

    fields: tuple[str, ...] = ()
    """Fields of the answer, such as `start`."""
    counts: tuple[str, ...] = ()
    """Counts of users in one row of the answer, as values of `@count`."""
    rows: tuple[str, ...] = ()
    """Rows without a value of their own, `other` and `missing`, as values of `@row`."""
    required: tuple[str, ...] = ()
    """The items that a cell must have: fields or `@count`."""
    properties: tuple[Name, ...] = ()
    """The properties, or `@event`, whose values the rows are for."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names that a cell may have before a colon, besides those of properties."""
        special = {COUNT: self.counts, ROW: self.rows}
        return (*self.fields, *(name for name, values in special.items() if values))

    def without(self, *names: str) -> "CellFields":
        """Return a copy without these fields, and without `rows` if `@row` is among the names."""
        fields = tuple(name for name in self.fields if name not in names)
        return replace(self, fields=fields, rows=() if ROW in names else self.rows)

    def __str__(self) -> str:
        """Return a clause for error messages that says what a cell may have."""
        special = {COUNT: self.counts, ROW: self.rows}
        parts = [*self.fields, *(f"{name}:{each}" for name in special for each in special[name])]
        if self.properties:
            parts.append(f"a condition on {' and one on '.join(map(str, self.properties))}")
        return f"this answer has {', '.join(parts)}" if parts else "this answer has no cells"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One number of an answer; the empty cell is the total."""

    text: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Values of fields of the answer, by field."""
    count: str | None = None
    """The value of `@count`: one of several counts of a row."""
    row: str | None = None
    """The value of `@row`: a row without a value of its own."""
    where: Filter | None = None
    """The condition on the values of a row."""

    def __str__(self) -> str:
        return self.text

    @property
    def subject(self) -> str:
        """The number, as a phrase for definitions and error messages."""
        return f"`cell={self.text}`" if self.text else "the total"

    @property
    def names(self) -> set[str]:
        """The names of the items of the cell: its fields, `@count` and `@row`."""
        special = {COUNT: self.count, ROW: self.row}
        return {*self.fields, *(name for name, value in special.items() if value)}

    def fault(self, allowed: CellFields) -> str | None:
        """Return the reason why the answer has no such cell; None if it has one."""
        others = sorted(self.names - set(allowed.names))
        missing = [name for name in allowed.required if name not in self.names]
        tested = {each.name for each in conditions(self.where)} if self.where else set[Name]()
        unknown = sorted(map(str, tested - set(allowed.properties)))
        if others:
            needs = "; start needs `interval`" if others == ["start"] else ""
            return f"must not have {', '.join(others)}{needs}; {allowed}"
        if missing:
            return f"must have {' and '.join(missing)}; {allowed}"
        if self.count and self.count not in allowed.counts:
            return f"must have another {COUNT}; {allowed}"
        if unknown:
            return f"must not have a condition on {', '.join(unknown)}; {allowed}"
        has_value = bool(tested) or EVENT_NAME in self.fields
        if self.row and (has_value or self.row not in allowed.rows):
            return f"must have one row; {allowed}"
        if tested and tested != set(allowed.properties):
            return f"must have a condition on each property of `by`; {allowed}"
        return None


TOTAL = Cell()


def parse_cell(text: str, allowed: CellFields) -> Cell:
    """Parse the text of a cell. Raises: FilterError."""
    check_length([text])
    return _CellParser(text, allowed).parse_cell()


class _CellParser(FilterParser):
    """Parses fields of an answer, and conditions as `where` has them."""

    def __init__(self, text: str, allowed: CellFields) -> None:
        super().__init__(text, TermCounter())
        self.field_hint = f"{allowed}; quote the name of a property"
        self._allowed = allowed
        self._fields: dict[str, str] = {}
        self._parts: list[Filter] = []

    def parse_cell(self) -> Cell:
        self._add_item()
        while self._has_next_item():
            self._add_item()
        if self._peek() == ")":
            raise self._error("unmatched parenthesis")
        if self._peek():
            raise self._error("conditions with or must be in parentheses")
        return Cell(
            text=self._text.strip(" "),
            count=self._fields.pop(COUNT, None),
            row=self._fields.pop(ROW, None),
            fields=self._fields,
            where=conjunction(self._parts) if self._parts else None,
        )

    def _add_item(self) -> None:
        self._skip_spaces()
        if name := self._field():
            self._add_field(name)
        else:
            self._parts.append(self._item())

    def _field(self) -> str | None:
        """Return the field, `@count` or `@row` at the current position; None if there is none."""
        match = _FIELD.match(self._text, self._at)
        return match[0] if match and match[0] in self._allowed.names else None

    def _add_field(self, name: str) -> None:
        if name in self._fields:
            raise self._error(f"{name} may occur once")
        self._at += len(name) + 1
        self._fields[name] = self._field_value(name)
        self._expect_end("a condition")

    def _field_value(self, name: str) -> str:
        position = self._at + 1
        part = self._value("", is_first=True)
        if self._peek() == "," or (not part.is_quoted and part.text.startswith(_OPERATORS)):
            raise self._error(f"{name} must have one value; quote a comma or an operator", position)
        special = {COUNT: self._allowed.counts, ROW: self._allowed.rows}
        if name in special and part.text not in special[name]:
            raise self._error(f"{name} must be {' or '.join(special[name])}", position)
        return part.text

    def _name(self) -> Name:
        if name := self._field():
            raise self._error(f"{name} must not be in parentheses or after -")
        return super()._name()
