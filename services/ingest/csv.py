"""CSV reader: parses blocks of lines at once, and falls back to single rows on any problem."""

import csv
import io
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import IO, Any, ClassVar, cast

from services.ingest.csv_dialect import COMMA, Dialect
from services.ingest.fast_validation import validate_block
from services.ingest.input_rows import (
    DAMAGED,
    MAX_LINE_BYTES,
    MAX_PART_BYTES,
    ColumnMapping,
    Input,
    InputRow,
    UnreadableInput,
    ValidRows,
)
from services.ingest.mapping.row_mapping import RowMapping
from services.ingest.mapping.tables import Record, Records
from services.ingest.mapping.text_table import text_records
from services.ingest.validation import Invalid, RawEvent

_LINE_ENDS = ("\n", "\r")
_NULL = "\\N"
_WRONG_ENCODING = "the header has bytes of another encoding: name it with --encoding"
_NOT_UTF8 = "the row is not valid UTF-8"
_LINES_AT_ONCE = 50
_MAX_ROW_LINES = 1_000  # a quoted field that spans more lines was never closed


def csv_blocks(file: Input, columns: ColumnMapping, max_lines: int) -> Iterator["CsvBlock"]:
    """Blocks of at most `max_lines` lines, fewer if they are long.

    Raises: UnreadableInput, any of DAMAGED.
    """
    with _opened(file, COMMA) as lines:
        if header := _header(lines):
            positions = columns.positions(header)
            while raw := lines.peek(max_lines):
                yield CsvBlock(lines, raw, positions, len(header))


def csv_records(file: Input, dialect: Dialect, max_lines: int) -> Iterator[list[Record]]:
    """The rows as dictionaries, at most `max_lines` at a time.

    Raises: UnreadableInput, any of DAMAGED.
    """
    with _opened(file, dialect) as lines:
        header = dialect.header or column_names(_header(lines) or [])
        while raw := lines.peek(max_lines):
            block = CsvBlock(lines, raw, [], len(header))
            yield [_record(header, *record) for record in block.records()]


def csv_tables(
    file: Input, dialect: Dialect, mapping: RowMapping, max_lines: int
) -> Iterator[Records]:
    """The rows as tables of at most `max_lines` rows. Raises: UnreadableInput, any of DAMAGED."""
    with _opened(file, dialect) as lines:
        header = dialect.header or column_names(_header(lines) or [])
        while raw := lines.peek(max_lines):
            block = CsvBlock(lines, raw, [], len(header))
            yield text_records(header, block.records(), mapping)


def csv_header(file: Input, dialect: Dialect) -> list[str]:
    """The names of the columns; empty for an empty file. Raises: UnreadableInput."""
    with _opened(file, dialect) as lines:
        return list(dialect.header) or column_names(_header(lines) or [])


def column_names(header: Sequence[str]) -> list[str]:
    """The names in a header, without spaces around them. Raises: UnreadableInput."""
    names = [name.strip() for name in header]
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        raise UnreadableInput(_WRONG_ENCODING) from None
    repeated = {name for name in names if name and names.count(name) > 1}
    if repeated:
        raise UnreadableInput(f"two columns have the same name: {', '.join(sorted(repeated))}")
    return names


def _record(
    header: Sequence[str], number: int, raw: list[str] | str, cells: list[str] | Invalid
) -> Record:
    if isinstance(cells, Invalid):
        return Record(number, raw, cells)
    row = dict(zip(header, cells, strict=True))
    if "" in row:
        unnamed = (cell for name, cell in zip(header, cells, strict=True) if not name)
        row[""] = " ".join(filter(None, unnamed))
    return Record(number, raw, row)


@contextmanager
def _opened(file: Input, dialect: Dialect) -> Iterator["_Lines"]:
    csv.field_size_limit(MAX_LINE_BYTES)
    # Invalid UTF-8 becomes surrogates here, so that only the rows that contain it are rejected.
    text = io.TextIOWrapper(cast(IO[bytes], file), dialect.encoding, "surrogateescape", newline="")
    try:
        lines = _Lines(_bounded(text), dialect.csv_options)
        if dialect.skipped_lines:
            lines.peek(dialect.skipped_lines)
            lines.skip(dialect.skipped_lines)
        yield lines
    finally:
        text.detach()  # the caller closes the file


def _header(lines: "_Lines") -> list[str] | None:
    """The fields of the header; None for an empty file. Raises: UnreadableInput."""
    try:
        return lines.row()
    except csv.Error as exc:
        raise UnreadableInput(f"the header cannot be read: {exc}") from None
    except UnicodeDecodeError:
        raise UnreadableInput(_WRONG_ENCODING) from None


def _bounded(text: io.TextIOWrapper) -> Iterator[str]:
    """The lines of a file. A line that is too long is cut, and its rest is skipped."""
    while line := text.readline(MAX_LINE_BYTES):
        yield line
        if _is_cut(line):
            while (rest := text.readline(MAX_LINE_BYTES)) and not rest.endswith(_LINE_ENDS):
                pass


def _is_cut(line: str) -> bool:
    return len(line) == MAX_LINE_BYTES and not line.endswith(_LINE_ENDS)


class _Lines:
    """The lines of a file as input of `csv.reader`, with pushback.

    An unclosed quote makes the reader consume all lines that follow. They are pushed back, so that
    only the line with the quote is lost.
    """

    def __init__(self, text: Iterable[str], options: Mapping[str, Any]) -> None:
        self._text = iter(text)
        self.options = options
        self._pushed_back: deque[str] = deque()
        self._row: list[str] = []
        self._row_size = 0
        self._damage: Exception | None = None
        self._longest = MAX_PART_BYTES  # of the lines that were read last
        self.number = 0
        """The number of the line on which the current row begins."""

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
        """The fields of the next row; None at the end of the file. Raises: csv.Error."""
        self.number += len(self._row) or 1
        self._row, self._row_size = [], 0
        return next(csv.reader(self, strict=True, **self.options), None)

    def values(self, row: list[str]) -> list[str]:
        """The fields of the current row, with the empty string for an unquoted `\\N`."""
        return _values(row, self._row, self.options)

    def unread(self) -> str:
        """Push back all lines of the current row but the first, and return the first."""
        first, *others = self._row
        self._pushed_back.extendleft(reversed(others))
        self._row = [first]
        return first

    def peek(self, max_lines: int) -> list[str]:
        """The next lines, at most `max_lines`, without consuming them."""
        size = 0
        while len(self._pushed_back) < max_lines and size < MAX_PART_BYTES:
            count = max(1, min(_LINES_AT_ONCE, MAX_PART_BYTES // self._longest))
            if not (lines := self._next_lines(min(max_lines, count))):
                break
            size += sum(map(len, lines))
            self._longest = max(map(len, lines))
        return list(islice(self._pushed_back, max_lines))

    def _next_lines(self, max_lines: int) -> list[str]:
        """Push back the next lines, and return them. Raises: any of DAMAGED without any line."""
        before = len(self._pushed_back)
        if self._damage is None:
            try:
                self._pushed_back.extend(islice(self._text, max_lines))
            except DAMAGED as exc:
                self._damage = exc
        if self._damage is not None and not self._pushed_back:
            raise self._damage
        return list(islice(self._pushed_back, before, None))

    def _next_of_row(self) -> str | None:
        try:
            return self._next()
        # Damaged compression within a row ends the row here. Its lines are pushed back and read one
        # by one, and the damage is raised again after them.
        except DAMAGED:
            if not self._row:
                raise
            return None

    def _next(self) -> str | None:
        # Lines that were pushed back come before the damage, so it is only raised after them.
        try:
            if self._damage is None:
                return next(self._text, None)
        except DAMAGED as exc:
            self._damage = exc
        if self._pushed_back:
            return None
        raise self._damage

    def skip(self, count: int) -> int:
        """Consume `count` lines that were peeked, and return the number of the first."""
        first = self.number + (len(self._row) or 1)
        for _ in range(count - 1):
            self._pushed_back.popleft()
        self._row = [self._pushed_back.popleft()]
        self.number = first + count - 1
        return first

    def __len__(self) -> int:
        """The number of lines that were peeked or pushed back."""
        return len(self._pushed_back)


@dataclass(frozen=True, slots=True)
class CsvBlock:
    """A block of lines. They are consumed by either `rows`, `lines` or `records`."""

    missing_sources: ClassVar[tuple[str, ...]] = ()
    """No row of CSV lacks a column."""
    all_lines: _Lines
    raw: list[str]
    positions: list[int | None]
    width: int

    def rows(self, latest: datetime) -> ValidRows | None:
        """All rows in the text format of COPY; None if any of them needs a closer look."""
        if (parsed := self._parsed()) is None:
            return None
        rows = validate_block(self._columns(self._values(parsed)), latest)
        if rows is None:
            return None
        return rows, list(enumerate(parsed, self.all_lines.skip(len(parsed))))

    def records(self) -> Iterable[tuple[int, list[str] | str, list[str] | Invalid]]:
        """The number, the cells as read, and the values or the fault of each row."""
        if (parsed := self._parsed()) is None:
            return self._utf8_rows()
        first = self.all_lines.skip(len(parsed))
        return zip(range(first, first + len(parsed)), parsed, self._values(parsed), strict=True)

    def _parsed(self) -> list[list[str]] | None:
        """The cells of all rows; None if any of them needs a closer look."""
        if max(map(len, self.raw)) == MAX_LINE_BYTES and any(map(_is_cut, self.raw)):
            return None
        try:
            "".join(self.raw).encode()
            parsed = list(csv.reader(self.raw, strict=True, **self.all_lines.options))
        except (UnicodeEncodeError, csv.Error):
            return None
        # Fewer rows than lines: a quoted field contains a line break.
        if len(parsed) != len(self.raw) or {len(row) for row in parsed} != {self.width}:
            return None
        return parsed

    def _values(self, parsed: list[list[str]]) -> list[list[str]]:
        if _NULL not in "".join(self.raw):
            return parsed
        options = self.all_lines.options
        return [_values(row, [raw], options) for row, raw in zip(parsed, self.raw, strict=True)]

    def _columns(self, parsed: list[list[str]]) -> list[Sequence[str]]:
        """The columns in the order of FIELDS, with defaults for those that the file lacks."""
        columns = list(zip(*parsed, strict=True))
        defaults = ("", "", "", "", "{}")
        return [
            [default] * len(parsed) if position is None else columns[position]
            for position, default in zip(self.positions, defaults, strict=True)
        ]

    def lines(self) -> Iterator[InputRow]:
        """The rows one by one. The last row may extend beyond the block."""
        for number, raw, cells in self._single_rows():
            event = cells if isinstance(cells, Invalid) else _row(cells, self.positions)
            yield InputRow(number, raw, event)

    def _utf8_rows(self) -> Iterator[tuple[int, list[str] | str, list[str] | Invalid]]:
        for number, raw, cells in self._single_rows():
            is_text = isinstance(cells, Invalid) or _is_utf8(cells)
            yield number, raw, cells if is_text else Invalid(_NOT_UTF8)

    def _single_rows(self) -> Iterator[tuple[int, list[str] | str, list[str] | Invalid]]:
        lines = self.all_lines
        while len(lines):
            try:
                row = lines.row()
            except csv.Error as exc:
                reason = f"the row cannot be read: {exc}"
                yield lines.number, lines.unread(), Invalid(reason)
                continue
            if row and len(row) != self.width:
                reason = f"the row has {len(row)} fields and the header {self.width}"
                yield lines.number, lines.unread(), Invalid(reason)
            elif row:
                yield lines.number, row, lines.values(row)


def _values(row: list[str], raw: Iterable[str], options: Mapping[str, Any]) -> list[str]:
    """The fields of a row, with the empty string for an unquoted `\\N`; a quoted one is text."""
    if _NULL not in row:
        return row
    # `csv.reader` does not tell whether a field was quoted. Parse the row once more with quoted
    # values changed: fields that stay equal were not quoted.
    quote = options.get("quotechar", '"')
    marked = (
        line.replace(f"{quote}{_NULL}{quote}", f"{quote}{_NULL}{_NULL}{quote}") for line in raw
    )
    reparsed = next(csv.reader(marked, strict=True, **options))
    return [
        "" if cell == other == _NULL else cell for cell, other in zip(row, reparsed, strict=True)
    ]


def _is_utf8(row: list[str]) -> bool:
    try:
        "".join(row).encode()
    except UnicodeEncodeError:
        return False
    return True


def _row(row: list[str], positions: list[int | None]) -> RawEvent | Invalid:
    if not _is_utf8(row):
        return Invalid(_NOT_UTF8)
    return RawEvent(*(None if position is None else row[position] for position in positions))
