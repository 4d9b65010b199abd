"""Readers of NDJSON, CSV and Parquet, plain or compressed with gzip."""

import gzip
import io
from collections.abc import Iterator

from services.ingest.csv import csv_blocks
from services.ingest.input_rows import (
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
from services.ingest.ndjson import ndjson_blocks
from services.ingest.parquet import parquet_rows


def sniff(start: bytes) -> Form:
    """The format of an input, by its first bytes. Raises: UnreadableInput."""
    if start.startswith(b"PAR1"):
        return "parquet"
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UnreadableInput("this is UTF-16: convert it to UTF-8")
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"["):
        raise UnreadableInput("this is a JSON array: put each event on a line of its own (NDJSON)")
    return "ndjson" if text.startswith(b"{") else "csv"


def open_input(raw: io.BufferedReader) -> Input:
    """The decompressed input, if it is compressed with gzip."""
    # No BufferedReader around the GzipFile: its contents would be lost if the input is truncated.
    return gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == b"\x1f\x8b" else raw


def form_of(file: Input) -> Form:
    """The format of an opened input. Raises: UnreadableInput."""
    try:
        return sniff(file.peek(64))
    except DAMAGED as exc:
        raise UnreadableInput(
            "the compressed input is truncated or damaged at its beginning"
        ) from exc


def read(
    form: Form, file: Input, columns: ColumnMapping, max_rows: int
) -> Iterator[Block | list[InputRow]]:
    """The rows of a file, at most `max_rows` at a time. Raises: UnreadableInput, TruncatedInput."""
    try:
        if form == "parquet":
            yield from parts(parquet_rows(file, columns), max_rows, size_of_row)
        elif form == "csv":
            yield from csv_blocks(file, columns, max_rows)
        else:
            yield from ndjson_blocks(file, columns, max_rows)
    except DAMAGED as exc:
        raise TruncatedInput("the compressed input is truncated or damaged") from exc
