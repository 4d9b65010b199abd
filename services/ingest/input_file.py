"""A file that is loaded: how it is written, its first rows, and its mapping."""

import io
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, islice
from typing import cast

from services.ingest.compression import HEAD_BYTES, decompressed, read_head, readable_part
from services.ingest.csv import csv_header
from services.ingest.csv_dialect import COMMA, Dialect, guess_dialect, guess_encoding
from services.ingest.input_rows import (
    DAMAGED,
    ColumnMapping,
    Form,
    TruncatedInput,
    UnreadableInput,
)
from services.ingest.mapping.options import MappingOptions
from services.ingest.mapping.resolution import Resolution, Sample, resolve
from services.ingest.mapping.row_format import JSON, TEXTS, VALUES
from services.ingest.mapping.row_mapping import RowMapper
from services.ingest.mapping.suggestions import values_at
from services.ingest.mapping.tables import Record
from services.ingest.mapping.times import ISO
from services.ingest.readers import Layout, Part, columns_of, read, read_records, sniff
from services.ingest.validation import REQUIRED, Invalid, is_uuid, parse_time

_ROWS, _BYTES = 500, 1024 * 1024
# Searched where the first rows lack a source.
_MANY_ROWS, _MANY_BYTES = 10_000, 16 * 1024 * 1024
_MAX_HEADER_CHARS = 100
_FORMATS = {"csv": TEXTS, "access-log": TEXTS, "parquet": VALUES, "ndjson": JSON, "json": JSON}
_UNUSUAL_KEY = re.compile(r'["\\\x00-\x1f]')


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """The format of a file, as far as options name it; the rest is guessed."""

    form: Form | None = None
    encoding: str | None = None
    delimiter: str | None = None
    quote: str | None = None
    header: tuple[str, ...] = field(default=())
    """The names of the columns of CSV without a header."""


class InputFile:
    """An opened file, which may be compressed."""

    def __init__(self, raw: io.BufferedReader, options: ReadOptions) -> None:
        """Raises: UnreadableInput."""
        self._head, self._raw = read_head(raw)
        start = self._start(_BYTES)
        if self._head and not start:
            raise UnreadableInput("the compressed input is truncated or damaged at its beginning")
        form = options.form or sniff(start)
        encoding = options.encoding or guess_encoding(start)
        dialect = COMMA
        if form == "csv":
            dialect = guess_dialect(start, encoding, options.delimiter, options.quote)
            if options.header and not _has_header(start, dialect, options.header):
                dialect = replace(dialect, header=options.header)
        self.layout = Layout(form, encoding, dialect)

    def resolve(self, options: MappingOptions) -> Resolution:
        """The mapping of the file. Raises: UnreadableInput."""
        sample = self.sample
        resolution = resolve(options, sample)
        if resolution.problems and self.layout.form == "csv":
            self._check_header(sample)
        if resolution.has_unknown:
            return resolve(options, self._sample(_MANY_ROWS, _MANY_BYTES))
        return resolution

    def blocks(
        self, resolution: Resolution, options: MappingOptions, max_rows: int
    ) -> Iterator[Part]:
        """The rows of the file as events. Raises: UnreadableInput, TruncatedInput."""
        columns: ColumnMapping | RowMapper = (
            ColumnMapping(options.names, options.ignored)
            if self._is_plain(resolution, options)
            else RowMapper(resolution.mapping)
        )
        return read(self.layout, decompressed(self._raw), columns, max_rows)

    @property
    def size(self) -> int | None:
        """The number of bytes as stored; None if it is unknown."""
        try:
            return os.fstat(self._raw.fileno()).st_size if self._raw.seekable() else None
        except OSError:
            return None

    def tell(self) -> int:
        """The number of bytes that were read, as stored."""
        return self._raw.tell()

    @cached_property
    def sample(self) -> Sample:
        """The first rows that can be read. Raises: UnreadableInput."""
        return self._sample(_ROWS, _BYTES)

    def first_records(self, rows: int = _ROWS, size: int = _BYTES) -> list[Record]:
        """The first rows, also those that cannot be read. Raises: UnreadableInput."""
        start = self._start(size)
        whole = len(self._head) < HEAD_BYTES and len(start) < size
        file = self._raw if self.layout.form == "parquet" else io.BytesIO(start)
        records: list[Record] = []
        with suppress(TruncatedInput, UnicodeDecodeError, *DAMAGED):
            for record in islice(chain.from_iterable(read_records(self.layout, file, rows)), rows):
                records.append(record)
        # The last row may go on behind the part that was read.
        return records if whole or len(records) == rows else records[:-1]

    def _sample(self, rows: int, size: int) -> Sample:
        records = self.first_records(rows, size)
        file = self._raw if self.layout.form == "parquet" else io.BytesIO(self._start(size))
        return Sample(
            _FORMATS[self.layout.form],
            [record.row for record in records if not isinstance(record.row, Invalid)],
            columns_of(self.layout, file) or None,
        )

    def _start(self, size: int) -> bytes:
        """The first bytes, decompressed."""
        head = cast(io.BufferedReader, io.BufferedReader(io.BytesIO(self._head)))
        return readable_part(decompressed(head), size)

    def _check_header(self, sample: Sample) -> None:
        """Raises: UnreadableInput, if the first line does not name the columns of the others."""
        columns = sample.columns or ()
        if values := [name for name in columns if is_uuid(name) or _is_time(name)]:
            snowplow = " (Snowplow: --from snowplow)" if len(columns) == 131 else ""
            raise UnreadableInput(
                f"the first line has values, such as {values[0]}: put a line with the names of the "
                f"columns before it{snowplow}"
            )
        records = self.first_records()
        if len(sample.rows) * 2 >= len(records):
            return
        if records:
            header = ", ".join(sample.columns or ())[:_MAX_HEADER_CHARS]
            raise UnreadableInput(
                f"the rows have not as many columns as the first line, which is `{header}`: remove "
                "the lines above the names of the columns, or name the --delimiter"
            )

    def _is_plain(self, resolution: Resolution, options: MappingOptions) -> bool:
        """Whether the columns are the fields of an event as they are, which is read fastest."""
        mapping = resolution.mapping
        paths = [path for paths in mapping.fields.values() for path in paths]
        if self.layout.form == "parquet":
            return False
        if not (self.sample.rows or self.sample.columns):
            return options.is_simple
        return (
            options.is_simple
            and mapping.reading is ISO
            and all(name in mapping.fields for name in REQUIRED)
            and not mapping.has_late_ids
            and not self.layout.description
            and self._has_plain_rows(resolution)
            and not any(_UNUSUAL_KEY.search(key) for path in paths for key in path)
            and not _overlap([*paths, *mapping.ignored])
        )

    def _has_plain_rows(self, resolution: Resolution) -> bool:
        """Whether the rows of this format need no mapping."""
        mapping, form = resolution.mapping, self.layout.form
        used = [*chain.from_iterable(mapping.fields.values()), *mapping.ignored]
        if form == "csv":
            has_names = "" not in (self.sample.columns or ())
            is_flat = all(len(path) == 1 for path in used)
            return has_names and is_flat and self.layout.dialect == COMMA
        values = [
            value
            for path in mapping.fields.get("properties", ())
            for value in (values_at(self.sample.rows, path))
        ]
        return form in ("ndjson", "json") and not any(isinstance(value, str) for value in values)


def _has_header(start: bytes, dialect: Dialect, header: tuple[str, ...]) -> bool:
    """Whether most of the first line are names of these columns. A value may be one by chance."""
    try:
        names = csv_header(io.BytesIO(start), dialect)
    except UnreadableInput:  # such as values that repeat
        return False
    return len(set(names) & set(header)) * 2 > len(names)


def _is_time(text: str) -> bool:
    try:
        parse_time(text)
    except Invalid:
        return False
    return True


def _overlap(paths: list[tuple[str, ...]]) -> bool:
    """Whether any path is inside another one."""
    return any(one != other and other[: len(one)] == one for one in paths for other in paths)
