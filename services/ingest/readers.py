"""Readers of NDJSON, CSV and Parquet: they give what each line says, or why it cannot be read."""

import gzip
import io
from collections.abc import Iterator

from services.ingest.csv import csv_blocks
from services.ingest.ndjson import ndjson_blocks
from services.ingest.parquet import parquet_rows
from services.ingest.rows import (
    DAMAGED,
    Block,
    ColumnMapping,
    Form,
    Input,
    InputRow,
    TruncatedInput,
    UnreadableInput,
    parts,
    size_of_row,
)


def sniff(start: bytes) -> Form:
    """The form of an input by its first bytes. Raises: Unreadable."""
    if start.startswith(b"PAR1"):
        return "parquet"
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UnreadableInput("this is UTF-16: convert it to UTF-8")
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"["):
        raise UnreadableInput(
            "this is one JSON array: put each event on a line of its own (NDJSON)"
        )
    return "ndjson" if text.startswith(b"{") else "csv"


def open_input(raw: io.BufferedReader) -> Input:
    """What is inside, where the input is compressed.

    Not through one more buffer: all that it held would be lost where the input is cut off.
    """
    return gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == b"\x1f\x8b" else raw


def form_of(file: Input) -> Form:
    """Raises: Unreadable."""
    try:
        return sniff(file.peek(64))
    except DAMAGED as exc:
        raise UnreadableInput(
            "the compressed input is cut off or damaged at its beginning"
        ) from exc


def read(
    form: Form, file: Input, columns: ColumnMapping, max_rows: int
) -> Iterator[Block | list[InputRow]]:
    """The rows of a file, at most so many at a time. Raises: Unreadable, Ended."""
    try:
        if form == "parquet":
            yield from parts(parquet_rows(file, columns), max_rows, size_of_row)
        elif form == "csv":
            yield from csv_blocks(file, columns, max_rows)
        else:
            yield from ndjson_blocks(file, columns, max_rows)
    except DAMAGED as exc:
        raise TruncatedInput("the compressed input is cut off or damaged") from exc
