"""What a row of an input is, whatever the form of the input."""

import gzip
import io
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from services.ingest.key_paths import path_of, suggest
from services.ingest.validation import FIELDS, REQUIRED, Invalid, RawEvent

Form = Literal["ndjson", "csv", "parquet"]
Input = io.BufferedReader | gzip.GzipFile

Row = TypeVar("Row")

MAX_LINE_BYTES = 4 * 1024 * 1024
MAX_PART_BYTES = 1024 * 1024
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)


class UnreadableInput(Exception):
    """Nothing of the input can be loaded; the text says why and what helps."""


class TruncatedInput(Exception):
    """The input stopped before its end; what came before it is good."""


class InputRow(NamedTuple):
    """One row of a file."""

    number: int
    raw: Any
    """The row as it was, for whoever has to mend it."""
    event: RawEvent | Invalid
    missing_sources: tuple[str, ...] = ()
    """Fields whose source was named, and is not in this row."""


RowOrigin = tuple[int, Any]
"""The number of a row, and the row as it was, for whoever has to mend it."""

ValidRows = tuple[list[str], list[RowOrigin]]
"""Rows as COPY reads them, and where each of them stood."""


class Block(Protocol):
    """Rows that are taken as a whole, or line by line."""

    def rows(self, until: str) -> ValidRows | None:
        """None if one of them may not be as most are.

        No time may be written as `until` or later, whatever its offset.
        """

    def lines(self) -> Iterator[InputRow]: ...


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """What the file calls the fields of an event, and what it has besides."""

    names: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    def of(self, name: str) -> str:
        return self.names.get(name, name)

    def positions(self, header: list[str]) -> list[int | None]:
        """Where each field stands. Raises: Unreadable."""
        field_columns = [_column(self.of(name), header) for name in FIELDS]
        if len(set(header)) < len(header):
            raise UnreadableInput(f"two columns have one name: {', '.join(header)}")
        for name in self.names.values():
            if _column(name, header) not in header:
                raise UnreadableInput(f"there is no column {name}{suggest(name, header)}")
        for name in REQUIRED:
            if name not in self.names and name not in header:
                raise UnreadableInput(
                    f"there is no column {name}; there are {', '.join(header)}; "
                    f"name the one that holds {name} with --map {name}=COLUMN"
                )
        ignored = {_column(name, header) for name in self.ignored}
        unknown = [name for name in header if name not in field_columns and name not in ignored]
        if unknown:
            raise UnreadableInput(
                f"what is column {', '.join(unknown)}? Name the field that it holds with "
                "--map FIELD=COLUMN, or leave it out with --ignore COLUMN"
            )
        return [header.index(name) if name in header else None for name in field_columns]


def _column(source: str, header: Collection[str]) -> str:
    """Its name, which may be written as a path of one key: in quotes where it has a dot."""
    if source in header:
        return source
    with suppress(ValueError):
        path = path_of(source)
        return path[0] if len(path) == 1 else source
    return source


def size_of_row(row: InputRow) -> int:
    """About how many bytes it holds in memory."""
    if isinstance(row.raw, bytes | str):
        return len(row.raw)
    return sum(len(cell) if isinstance(cell, bytes | str) else 100 for cell in row.raw)


def parts(rows: Iterator[Row], max_rows: int, size_of: Callable[[Row], int]) -> Iterator[list[Row]]:
    """So many at a time, or fewer where they are large; those before an error come before it."""
    part, size = list[Row](), 0
    try:
        for row in rows:
            part.append(row)
            size += size_of(row)
            if len(part) == max_rows or size > MAX_PART_BYTES:
                yield part
                part, size = [], 0
    except (TruncatedInput, *DAMAGED):
        yield part
        raise
    yield part
