"""Readers of NDJSON, JSON, CSV, Parquet and access logs, with or without a mapping."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

from services.ingest.access_log import (
    COLUMNS,
    access_log_records,
    access_log_tables,
    is_access_log,
)
from services.ingest.csv import csv_blocks, csv_header, csv_records, csv_tables
from services.ingest.csv_dialect import COMMA, Dialect, guess_encoding
from services.ingest.input_rows import (
    DAMAGED,
    Block,
    ColumnMapping,
    Form,
    Input,
    InputRow,
    Lines,
    TruncatedInput,
)
from services.ingest.json_values import JsonLines, extends_over_lines
from services.ingest.mapped_block import MappedBlock
from services.ingest.mapping.column_mapping import ColumnMapper
from services.ingest.mapping.json_table import branches_of
from services.ingest.mapping.row_mapping import RowMapper, RowMapping
from services.ingest.mapping.tables import Record, Records, single_records
from services.ingest.ndjson import json_line_tables, ndjson_blocks, ndjson_records
from services.ingest.parquet import column_names, parquet_records
from services.ingest.parquet_table import parquet_tables

LINES_AT_ONCE = 500
"""The most lines that are validated at once: more do not fit into the caches of a processor."""
Part = Block | MappedBlock | list[InputRow]


@dataclass(frozen=True, slots=True)
class Layout:
    """The format, encoding and dialect of a file."""

    form: Form
    encoding: str = "utf-8-sig"
    dialect: Dialect = field(default=COMMA)
    """The dialect of CSV."""

    @property
    def description(self) -> str:
        """Words about what is unusual; empty without that."""
        if self.form == "csv":
            return self.dialect.description
        return "" if self._is_utf_8 or self.form in ("parquet", "access-log") else self.encoding

    @property
    def _is_utf_8(self) -> bool:
        return self.encoding in ("utf-8-sig", "utf-8")

    def lines(self, file: Input) -> Lines:
        """The lines of JSON, in UTF-8 whatever the encoding of the file."""
        is_plain = self.form == "ndjson" and self._is_utf_8
        return cast(Lines, file) if is_plain else JsonLines(file, self.encoding)


def sniff(start: bytes) -> Form:
    """The format of a file that begins with these bytes."""
    if start.startswith(b"PAR1"):
        return "parquet"
    text = start.decode(guess_encoding(start), "replace").lstrip("\ufeff \t\r\n")
    if text.startswith("[") or (text.startswith("{") and extends_over_lines(text)):
        return "json"
    if text.startswith("{"):
        return "ndjson"
    return "access-log" if is_access_log(text.partition("\n")[0]) else "csv"


def columns_of(layout: Layout, file: Input) -> list[str] | None:
    """The names of the columns; None if the rows name their values. Raises: UnreadableInput."""
    if layout.form == "csv":
        return csv_header(file, layout.dialect)
    if layout.form == "parquet":
        return column_names(file)
    return list(COLUMNS) if layout.form == "access-log" else None


def read_records(layout: Layout, file: Input, max_rows: int) -> Iterator[list[Record]]:
    """The rows before they are mapped. Raises: UnreadableInput, TruncatedInput, any of DAMAGED."""
    if layout.form == "parquet":
        return parquet_records(file, max_rows)
    if layout.form == "csv":
        return csv_records(file, layout.dialect, max_rows)
    if layout.form == "access-log":
        return access_log_records(file, max_rows)
    return ndjson_records(layout.lines(file), max_rows)


def _tables(
    layout: Layout, file: Input, mapper: ColumnMapper, mapping: RowMapping, max_rows: int
) -> Iterator[Records]:
    """The rows in tables, if they can be mapped by column."""
    if layout.form in ("ndjson", "json"):
        branches = branches_of(mapper.paths())
        return json_line_tables(layout.lines(file), mapping, branches, max_rows)
    is_flat = all(len(path) == 1 for path in mapper.paths())
    if layout.form == "parquet":
        return parquet_tables(file, mapping, max_rows, by_column=is_flat)
    if not is_flat:
        return map(single_records, read_records(layout, file, max_rows))
    if layout.form == "csv":
        return csv_tables(file, layout.dialect, mapping, max_rows)
    return access_log_tables(file, mapping, max_rows)


def read(
    layout: Layout, file: Input, columns: ColumnMapping | RowMapper, max_rows: int
) -> Iterator[Part]:
    """The rows of a file, at most `max_rows` at a time. Raises: UnreadableInput, TruncatedInput."""
    max_rows = max_rows if layout.form == "parquet" else min(max_rows, LINES_AT_ONCE)
    try:
        if isinstance(columns, RowMapper):
            mapper = ColumnMapper(columns)
            for records in _tables(layout, file, mapper, columns.mapping, max_rows):
                yield MappedBlock(records, columns, mapper)
        elif layout.form == "csv":
            yield from csv_blocks(file, columns, max_rows)
        else:
            yield from ndjson_blocks(layout.lines(file), columns, max_rows)
    except DAMAGED as exc:
        raise TruncatedInput("the compressed input is truncated or damaged") from exc
    except UnicodeDecodeError as exc:
        message = f"the input is not {layout.encoding}: name its encoding with --encoding"
        raise TruncatedInput(message) from exc
