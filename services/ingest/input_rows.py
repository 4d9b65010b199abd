"""Rows of an input and its column mapping, for all formats."""

import gzip
import io
import sys
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol, TypeVar
from zipfile import BadZipFile

from services.ingest.json_paths import path_of, suggest
from services.ingest.validation import FIELDS, REQUIRED, Invalid, RawEvent

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Form = Literal["ndjson", "json", "csv", "parquet", "access-log"]
Input = io.BufferedIOBase

Row = TypeVar("Row")

MAX_LINE_BYTES = 4 * 1024 * 1024
MAX_PART_BYTES = 1024 * 1024
# Raised by truncated or damaged data of gzip, zstd and zip.
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, zstd.ZstdError, BadZipFile)


class Lines(Protocol):
    """A source of lines."""

    def readline(self, size: int, /) -> bytes: ...


class UnreadableInput(Exception):
    """No row of the input can be loaded; the message says why, and what to do."""


class TruncatedInput(Exception):
    """The input ends early; the rows before that are valid."""


class InputRow(NamedTuple):
    """One row of an input."""

    number: int
    raw: Any
    """The row as read, for the file of rejected rows."""
    event: RawEvent | Invalid
    missing_sources: tuple[str, ...] = ()
    """Mapped fields whose column is missing in this row."""


class UnreadRow:
    """A row that is only read if it is rejected."""

    __slots__ = ("_at", "_read")

    def __init__(self, read: Callable[[int], Any], at: int) -> None:
        self._read = read
        self._at = at

    def read(self) -> Any:
        """The row as it is written to the file of rejected rows."""
        return self._read(self._at)


# The number of a row, and the row as read, for the file of rejected rows.
RowOrigin = tuple[int, Any]

# Rows in the text format of COPY, and the origin of each.
ValidRows = tuple[list[str], list[RowOrigin]]


class Block(Protocol):
    """Consecutive rows of an input, which are validated at once or one by one."""

    @property
    def missing_sources(self) -> Iterable[str]:
        """For each row of `rows` that lacks the source of a field, the field."""

    def rows(self, latest: datetime) -> ValidRows | None:
        """All rows; None if any of them needs a closer look.

        `latest` is the latest time that an event may have; see `Validator.latest`.
        """

    def lines(self) -> Iterator[InputRow]:
        """The rows one by one, each with its event or the reason why it is invalid."""


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """The columns of the fields of an event (`--map`), and the ignored columns (`--ignore`)."""

    names: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    def of(self, name: str) -> str:
        """The column of a field."""
        return self.names.get(name, name)

    def positions(self, header: list[str]) -> list[int | None]:
        """The index of each field's column; None if it is absent. Raises: UnreadableInput."""
        field_columns = [_column(self.of(name), header) for name in FIELDS]
        if len(set(header)) < len(header):
            raise UnreadableInput(f"two columns have the same name: {', '.join(header)}")
        for name in self.names.values():
            if _column(name, header) not in header:
                raise UnreadableInput(f"there is no column {name}{suggest(name, header)}")
        for name in REQUIRED:
            if name not in self.names and name not in header:
                raise UnreadableInput(
                    f"there is no column {name}; there are {', '.join(header)}; "
                    f"name the column of {name} with --map {name}=COLUMN"
                )
        ignored = {_column(name, header) for name in self.ignored}
        unknown = [name for name in header if name not in field_columns and name not in ignored]
        if unknown:
            raise UnreadableInput(
                f"unknown column {', '.join(unknown)}: name its field with --map FIELD=COLUMN, or "
                "leave it out with --ignore COLUMN"
            )
        return [header.index(name) if name in header else None for name in field_columns]


def _column(source: str, header: Collection[str]) -> str:
    """The name of a column, which may be written as a path of one key, quoted if it has a dot."""
    if source in header:
        return source
    with suppress(ValueError):
        path = path_of(source)
        return path[0] if len(path) == 1 else source
    return source
