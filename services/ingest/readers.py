"""Readers of NDJSON, CSV and Parquet: they give what each line says, or why it cannot be read."""

import csv
import gzip
import io
from collections import deque
from collections.abc import Iterable, Iterator
from typing import IO, Any, cast

from services.ingest.events import FIELDS, Given, Invalid
from services.ingest.lines import (
    DAMAGED,
    MOST_LINE_BYTES,
    Columns,
    Ended,
    Form,
    Input,
    Line,
    Unreadable,
    parts,
    size_of_line,
)
from services.ingest.ndjson import Block, blocks

_PARQUET_ROWS = 1_000
_MOST_ROW_LINES = 1_000  # of CSV; a quote that is open for longer was never closed


def sniff(start: bytes) -> Form:
    """The form of an input by its first bytes. Raises: Unreadable."""
    if start.startswith(b"PAR1"):
        return "parquet"
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Unreadable("this is UTF-16: convert it to UTF-8")
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"["):
        raise Unreadable("this is one JSON array: put each event on a line of its own (NDJSON)")
    return "ndjson" if text.startswith(b"{") else "csv"


def opened(raw: io.BufferedReader) -> Input:
    """What is inside, where the input is compressed.

    Not through one more buffer: all that it held would be lost where the input is cut off.
    """
    return gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == b"\x1f\x8b" else raw


def form_of(file: Input) -> Form:
    """Raises: Unreadable."""
    try:
        return sniff(file.peek(64))
    except DAMAGED as exc:
        raise Unreadable("the compressed input is cut off or damaged at its beginning") from exc


def read(form: Form, file: Input, columns: Columns, most: int) -> Iterator[Block | list[Line]]:
    """The rows of a file, at most so many at a time. Raises: Unreadable, Ended."""
    readers = {"csv": _csv, "parquet": _parquet}
    try:
        if form == "ndjson":
            yield from blocks(file, columns, most)
        else:
            yield from parts(readers[form](file, columns), most, size_of_line)
    except DAMAGED as exc:
        raise Ended("the compressed input is cut off or damaged") from exc


def _csv(file: Input, columns: Columns) -> Iterator[Line]:
    csv.field_size_limit(MOST_LINE_BYTES)
    text = io.TextIOWrapper(cast(IO[bytes], file), "utf-8-sig", "surrogateescape", newline="")
    try:
        yield from _csv_rows(_CsvLines(text), columns)
    finally:
        text.detach()  # the file is another's to close


class _CsvLines:
    """The lines of a file for `csv.reader`; those of a row that is broken can be read again.

    A quote that is never closed would swallow all that follows: only its line is lost.
    """

    def __init__(self, text: Iterable[str]) -> None:
        self._text = iter(text)
        self._again: deque[str] = deque()
        self._row: list[str] = []
        self.number = 0
        """Of the line that the row begins with."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if len(self._row) == _MOST_ROW_LINES:
            raise csv.Error("a quote is not closed")
        line = self._again.popleft() if self._again else next(self._text)
        self._row.append(line)
        return line

    def row(self) -> list[str] | None:
        """The fields of the next row; None at the end. Raises: csv.Error."""
        self.number += len(self._row) or 1
        self._row = []
        return next(csv.reader(self, strict=True), None)

    def give_back(self) -> str:
        """Read all but the first line of this row again; return that one."""
        first, *others = self._row
        self._again.extendleft(reversed(others))
        self._row = [first]
        return first


def _csv_rows(lines: _CsvLines, columns: Columns) -> Iterator[Line]:
    header = lines.row()
    if header is None:
        return
    places = columns.places(header)
    while True:
        try:
            row = lines.row()
        except csv.Error as exc:
            reason = f"the row cannot be read: {exc}"
            yield Line(lines.number, lines.give_back(), Invalid(reason))
            continue
        if row is None:
            return
        if row and len(row) != len(header):
            reason = f"the row has {len(row)} fields and the header {len(header)}"
            yield Line(lines.number, lines.give_back(), Invalid(reason))
        elif row:
            yield Line(lines.number, row, _row(row, places))


def _row(row: list[str], places: list[int | None]) -> Given | Invalid:
    try:
        "".join(row).encode()
    except UnicodeEncodeError:
        return Invalid("the row is not valid UTF-8")
    return Given(*(None if place is None else row[place] for place in places))


def _parquet(file: Input, columns: Columns) -> Iterator[Line]:
    import pyarrow  # large, and only needed here
    from pyarrow import parquet

    try:
        source = parquet.ParquetFile(file)
        places = columns.places(source.schema_arrow.names)
    except pyarrow.ArrowException as exc:
        raise Unreadable(f"this is no Parquet file: {exc}") from exc
    number = 0
    try:
        for batch in source.iter_batches(batch_size=_PARQUET_ROWS):
            for row in zip(*map(_values, batch.columns), strict=True):
                number += 1
                yield Line(number, row, _cells(row, places))
    except (pyarrow.ArrowException, OSError) as exc:
        raise Ended(f"the Parquet file is damaged: {exc}") from exc


def _cells(row: tuple[Any, ...], places: list[int | None]) -> Given | Invalid:
    cells = [None if place is None else row[place] for place in places]
    for name, cell in zip(FIELDS, cells, strict=True):
        if isinstance(cell, Invalid):
            return Invalid(f"{name} {cell}")
    return Given(*cells)


def _values(column: Any) -> list[Any]:
    """Nanoseconds are cut to the microseconds that PostgreSQL and Python have."""
    import pyarrow

    if pyarrow.types.is_timestamp(column.type):
        column = column.cast(pyarrow.timestamp("us", column.type.tz), safe=False)
    try:
        return cast(list[Any], column.to_pylist())
    except (OverflowError, ValueError, pyarrow.ArrowException):
        return [_value(cell) for cell in column]


def _value(cell: Any) -> Any:
    """One cell, where another one of its column cannot be read."""
    import pyarrow

    try:
        return cell.as_py()
    except (OverflowError, ValueError, pyarrow.ArrowException):
        return Invalid("cannot be read: it is no valid text, time or zone")
