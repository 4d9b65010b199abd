"""Readers of NDJSON, CSV and Parquet: they give what each line says, or why it cannot be read."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Literal, NamedTuple, cast

import msgspec

from services.ingest.events import FIELDS, REQUIRED, Given, Invalid

Form = Literal["ndjson", "csv", "parquet"]
Input = io.BufferedReader | gzip.GzipFile

MOST_LINE_BYTES = 4 * 1024 * 1024


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
    """The form of an input by its first bytes."""
    if start.startswith(b"PAR1"):
        return "parquet"
    return "ndjson" if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") else "csv"


def opened(raw: io.BufferedReader) -> Input:
    """What is inside, where the input is compressed.

    Not through one more buffer: all that it held would be lost where the input is cut off.
    """
    return gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == b"\x1f\x8b" else raw


def read(form: Form, file: Input, columns: Columns) -> Iterator[Line]:
    """The rows of a file. Raises: Unreadable, Ended."""
    readers = {"ndjson": _ndjson, "csv": _csv, "parquet": _parquet}
    try:
        yield from readers[form](file, columns)
    except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
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
        yield from _csv_rows(csv.reader(text), columns)
    finally:
        text.detach()  # the file is another's to close


def _csv_rows(rows: Any, columns: Columns) -> Iterator[Line]:
    header = next(rows, None)
    if header is None:
        return
    places = columns.places(header)
    while True:
        number = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as exc:
            yield Line(number, "", Invalid(f"the row cannot be read: {exc}"))
            continue
        if row:
            yield Line(number, row, _row(row, len(header), places))


def _row(row: list[str], width: int, places: list[int | None]) -> Given | Invalid:
    if len(row) != width:
        return Invalid(f"the row has {len(row)} fields and the header {width}")
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
    except pyarrow.ArrowInvalid as exc:
        raise Unreadable(f"this is no Parquet file: {exc}") from exc
    places = columns.places(source.schema_arrow.names)
    number = 0
    for batch in source.iter_batches(batch_size=10_000):
        for row in zip(*(_values(column) for column in batch.columns), strict=True):
            number += 1
            given = Given(*(None if place is None else row[place] for place in places))
            yield Line(number, row, given)


def _values(column: Any) -> list[Any]:
    """Nanoseconds are cut to the microseconds that PostgreSQL and Python have."""
    from pyarrow import timestamp, types

    if types.is_timestamp(column.type):
        column = column.cast(timestamp("us", column.type.tz), safe=False)
    return cast(list[Any], column.to_pylist())
