"""Readers of NDJSON, CSV and Parquet: they give what each line says, or why it cannot be read."""

import gzip
import io
from collections.abc import Iterator
from typing import Any, cast

from services.ingest.csv import csv_blocks
from services.ingest.events import FIELDS, Given, Invalid
from services.ingest.lines import (
    DAMAGED,
    Block,
    Columns,
    Ended,
    Form,
    Input,
    Line,
    Unreadable,
    parts,
    size_of_line,
)
from services.ingest.ndjson import ndjson_blocks

_PARQUET_ROWS = 1_000


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
    try:
        if form == "parquet":
            yield from parts(_parquet(file, columns), most, size_of_line)
        elif form == "csv":
            yield from csv_blocks(file, columns, most)
        else:
            yield from ndjson_blocks(file, columns, most)
    except DAMAGED as exc:
        raise Ended("the compressed input is cut off or damaged") from exc


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
