"""CSV, by the block where nothing is unusual, and else row by row."""

import csv
import io
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import IO, cast

from services.ingest.fast_validation import validate_block
from services.ingest.rows import (
    DAMAGED,
    MAX_LINE_BYTES,
    MAX_PART_BYTES,
    ColumnMapping,
    Input,
    InputRow,
    UnreadableInput,
    ValidRows,
)
from services.ingest.validation import Invalid, RawEvent

_LINE_ENDS = ("\n", "\r")
_NULL = "\\N"
_QUOTED_NULL, _MARKED_NULL = f'"{_NULL}"', f'"{_NULL}{_NULL}"'
_MAX_ROW_LINES = 1_000  # a quote that is open for longer was never closed


def csv_blocks(file: Input, columns: ColumnMapping, max_lines: int) -> Iterator["CsvBlock"]:
    """So many lines at a time, or fewer where they are long. Raises: Unreadable, any of DAMAGED."""
    csv.field_size_limit(MAX_LINE_BYTES)
    text = io.TextIOWrapper(cast(IO[bytes], file), "utf-8-sig", "surrogateescape", newline="")
    try:
        lines = _Lines(_bounded(text))
        if header := _header(lines):
            positions = columns.positions(header)
            while raw := lines.peek(max_lines):
                yield CsvBlock(lines, raw, positions, len(header))
    finally:
        text.detach()  # the file is another's to close


def _header(lines: "_Lines") -> list[str] | None:
    """Raises: Unreadable."""
    try:
        return lines.row()
    except csv.Error as exc:
        raise UnreadableInput(f"the header cannot be read: {exc}") from None


def _bounded(text: io.TextIOWrapper) -> Iterator[str]:
    """The lines of a file. One that is too long is cut, and the rest of it is passed over."""
    while line := text.readline(MAX_LINE_BYTES):
        yield line
        if _is_cut(line):
            while (rest := text.readline(MAX_LINE_BYTES)) and not rest.endswith(_LINE_ENDS):
                pass


def _is_cut(line: str) -> bool:
    return len(line) == MAX_LINE_BYTES and not line.endswith(_LINE_ENDS)


class _Lines:
    """The lines of a file for `csv.reader`; those of a row that is broken can be read again.

    A quote that is never closed would swallow all that follows: only its line is lost.
    """

    def __init__(self, text: Iterable[str]) -> None:
        self._text = iter(text)
        self._pushed_back: deque[str] = deque()
        self._row: list[str] = []
        self._row_size = 0
        self._damage: Exception | None = None
        self.number = 0
        """Of the line that the row begins with."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if len(self._row) == _MAX_ROW_LINES:
            raise csv.Error("a quote is not closed")
        line = self._pushed_back.popleft() if self._pushed_back else self._next_of_row()
        if line is None:
            raise StopIteration
        self._row.append(line)
        self._row_size += len(line)
        if self._row_size > MAX_LINE_BYTES or _is_cut(line):
            raise csv.Error(f"it is over {MAX_LINE_BYTES // 2**20} MB long")
        return line

    def row(self) -> list[str] | None:
        """The fields of the next row; None at the end. Raises: csv.Error."""
        self.number += len(self._row) or 1
        self._row, self._row_size = [], 0
        return next(csv.reader(self, strict=True), None)

    def values(self, row: list[str]) -> list[str]:
        """The fields of the row that was read, without those that stand for nothing."""
        return _values(row, self._row)

    def unread(self) -> str:
        """Read all but the first line of this row again; return that one."""
        first, *others = self._row
        self._pushed_back.extendleft(reversed(others))
        self._row = [first]
        return first

    def peek(self, max_lines: int) -> list[str]:
        """The lines that come next; what was not taken of those before comes first."""
        size = 0
        while (
            len(self._pushed_back) < max_lines and size < MAX_PART_BYTES and (line := self._next())
        ):
            self._pushed_back.append(line)
            size += len(line)
        return list(islice(self._pushed_back, max_lines))

    def _next_of_row(self) -> str | None:
        """Damage within a row is its end: its lines are looked at one by one, and the damage is met
        again after them.
        """
        try:
            return self._next()
        except DAMAGED:
            if not self._row:
                raise
            return None

    def _next(self) -> str | None:
        """What came before the damage is given first."""
        try:
            if self._damage is None:
                return next(self._text, None)
        except DAMAGED as exc:
            self._damage = exc
        if self._pushed_back:
            return None
        raise self._damage

    def skip(self, count: int) -> int:
        """Pass over so many lines, and tell the number of the first."""
        first = self.number + (len(self._row) or 1)
        for _ in range(count):
            self._row = [self._pushed_back.popleft()]
        self.number = first + count - 1
        return first

    def __len__(self) -> int:
        """How many of those that were looked at are not taken."""
        return len(self._pushed_back)


@dataclass(frozen=True, slots=True)
class CsvBlock:
    """Lines that come next. Either of both takes them."""

    all_lines: _Lines
    raw: list[str]
    positions: list[int | None]
    width: int

    def rows(self, until: str) -> ValidRows | None:
        """As COPY reads them; None if one of them may not be as most are."""
        if any(map(_is_cut, self.raw)):
            return None
        text = "".join(self.raw)
        try:
            text.encode()
            parsed = list(csv.reader(self.raw, strict=True))
        except (UnicodeEncodeError, csv.Error):
            return None
        if len(parsed) != len(self.raw) or {len(row) for row in parsed} != {self.width}:
            return None
        values = parsed
        if _NULL in text:
            values = [_values(row, [raw]) for row, raw in zip(parsed, self.raw, strict=True)]
        rows = validate_block(self._columns(values), until)
        if rows is None:
            return None
        return rows, list(enumerate(parsed, self.all_lines.skip(len(parsed))))

    def _columns(self, parsed: list[list[str]]) -> list[Sequence[str]]:
        """What the file does not have is nobody, and without properties."""
        columns = list(zip(*parsed, strict=True))
        defaults = ("", "", "", "", "{}")
        return [
            [default] * len(parsed) if position is None else columns[position]
            for position, default in zip(self.positions, defaults, strict=True)
        ]

    def lines(self) -> Iterator[InputRow]:
        """Row by row, until all of them are taken; the last one may go on after them."""
        lines = self.all_lines
        while len(lines):
            try:
                row = lines.row()
            except csv.Error as exc:
                reason = f"the row cannot be read: {exc}"
                yield InputRow(lines.number, lines.unread(), Invalid(reason))
                continue
            if row and len(row) != self.width:
                reason = f"the row has {len(row)} fields and the header {self.width}"
                yield InputRow(lines.number, lines.unread(), Invalid(reason))
            elif row:
                yield InputRow(lines.number, row, _row(lines.values(row), self.positions))


def _values(row: list[str], raw: Iterable[str]) -> list[str]:
    """The fields of a row, where an unquoted `\\N` is nothing and a quoted one is a text."""
    if _NULL not in row:
        return row
    marked = (line.replace(_QUOTED_NULL, _MARKED_NULL) for line in raw)
    reparsed = next(csv.reader(marked, strict=True))
    return [
        "" if cell == other == _NULL else cell for cell, other in zip(row, reparsed, strict=True)
    ]


def _row(row: list[str], positions: list[int | None]) -> RawEvent | Invalid:
    try:
        "".join(row).encode()
    except UnicodeEncodeError:
        return Invalid("the row is not valid UTF-8")
    return RawEvent(*(None if position is None else row[position] for position in positions))
