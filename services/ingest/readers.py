"""Readers of NDJSON, CSV and Parquet: they give what each line says, or why it cannot be read."""

import csv
import gzip
import io
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Literal, NamedTuple, cast

import msgspec

from services.ingest.events import FIELDS, REQUIRED, Given, Invalid

Form = Literal["ndjson", "csv", "parquet"]
Input = io.BufferedReader | gzip.GzipFile

MOST_LINE_BYTES = 4 * 1024 * 1024
_PARQUET_ROWS = 1_000
_MOST_ROW_LINES = 1_000  # of CSV; a quote that is open for longer was never closed
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)


class Unreadable(Exception):
    """Nothing of the input can be loaded; the text says why and what helps."""


class Ended(Exception):
    """The input stopped before its end; what came before it is good."""


class Line(NamedTuple):
    """One row of a file."""

    number: int
    shown: Any
    """The row as it was, for whoever has to mend it."""
    given: Given | Invalid


@dataclass(frozen=True, slots=True)
class Columns:
    """What the file calls the fields of an event, and what it has besides."""

    names: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    def of(self, name: str) -> str:
        return self.names.get(name, name)

    def places(self, found: list[str]) -> list[int | None]:
        """Where each field stands. Raises: Unreadable."""
        wanted = [self.of(name) for name in FIELDS]
        if len(set(found)) < len(found):
            raise Unreadable(f"two columns have one name: {', '.join(found)}")
        missing = [name for name in self.names.values() if name not in found]
        if missing:
            raise Unreadable(f"there is no column {missing[0]}; there are {', '.join(found)}")
        for name in REQUIRED:
            if self.of(name) not in found:
                raise Unreadable(
                    f"there is no column {self.of(name)}; there are {', '.join(found)}; "
                    f"name the one that holds {name} with --map {name}=COLUMN"
                )
        unknown = [name for name in found if name not in wanted and name not in self.ignored]
        if unknown:
            raise Unreadable(
                f"what is column {', '.join(unknown)}? Name the field that it holds with "
                "--map FIELD=COLUMN, or leave it out with --ignore COLUMN"
            )
        return [found.index(name) if name in found else None for name in wanted]


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
    except _DAMAGED as exc:
        raise Unreadable("the compressed input is cut off or damaged at its beginning") from exc


def read(form: Form, file: Input, columns: Columns) -> Iterator[Line]:
    """The rows of a file. Raises: Unreadable, Ended."""
    readers = {"ndjson": _ndjson, "csv": _csv, "parquet": _parquet}
    try:
        yield from readers[form](file, columns)
    except _DAMAGED as exc:
        raise Ended("the compressed input is cut off or damaged") from exc


def _ndjson(file: Input, columns: Columns) -> Iterator[Line]:
    decode = msgspec.json.Decoder(_struct(columns)).decode
    number = 0
    while line := file.readline(MOST_LINE_BYTES):
        number += 1
        if not line.endswith(b"\n") and len(line) == MOST_LINE_BYTES:
            _skip_line(file)
            yield Line(number, line, Invalid("the line is over 4 MB long"))
        elif not line.isspace():
            yield Line(number, line, _decoded(decode, line.removeprefix(b"\xef\xbb\xbf")))


def _skip_line(file: Input) -> None:
    while (part := file.readline(MOST_LINE_BYTES)) and not part.endswith(b"\n"):
        pass


def _decoded(decode: Any, line: bytes) -> Given | Invalid:
    """The decoder passes over the inside of properties, so UTF-8 is looked at first."""
    try:
        line.decode()
        given = decode(line)
    except UnicodeDecodeError:
        return Invalid("the line is not valid UTF-8")
    except msgspec.ValidationError as exc:
        return Invalid(str(exc))
    except (msgspec.DecodeError, RecursionError):
        return Invalid("the line is not valid JSON")
    properties = None if given.properties == b"null" else bytes(given.properties).decode()
    return Given(given.event_id, given.user_id, given.event_name, given.occurred_at, properties)


def _struct(columns: Columns) -> Any:
    """What a line may hold, under the names that the file uses."""
    raw = msgspec.Raw(b"{}")
    fields: list[Any] = [
        ("event_id", str | None, None),
        ("user_id", str | int | None, None),
        ("event_name", str | None, None),
        ("occurred_at", str | None, None),
        ("properties", msgspec.Raw, raw),
    ]
    ignored = [(f"ignored_{n}", msgspec.Raw, raw) for n in range(len(columns.ignored))]
    names = {f"ignored_{n}": name for n, name in enumerate(columns.ignored)} | dict(columns.names)
    return msgspec.defstruct(
        "Line", fields + ignored, rename=names, forbid_unknown_fields=True, gc=False
    )


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
