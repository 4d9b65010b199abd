"""What a row of an input is, whatever the form of the input."""

import gzip
import io
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from services.ingest.events import FIELDS, REQUIRED, Given, Invalid
from services.ingest.paths import near, path_of

Form = Literal["ndjson", "csv", "parquet"]
Input = io.BufferedReader | gzip.GzipFile

Row = TypeVar("Row")

MOST_LINE_BYTES = 4 * 1024 * 1024
MOST_PART_BYTES = 1024 * 1024
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)


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
    lacking: tuple[str, ...] = ()
    """Fields whose source was named, and is not in this row."""


Place = tuple[int, Any]
"""The number of a row, and the row as it was, for whoever has to mend it."""

Taken = tuple[list[str], list[Place]]
"""Rows as COPY reads them, and where each of them stood."""


class Block(Protocol):
    """Rows that are taken as a whole, or line by line."""

    def rows(self, until: str) -> Taken | None:
        """None if one of them may not be as most are.

        No time may be written as `until` or later, whatever its offset.
        """

    def lines(self) -> Iterator[Line]: ...


@dataclass(frozen=True, slots=True)
class Columns:
    """What the file calls the fields of an event, and what it has besides."""

    names: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    def of(self, name: str) -> str:
        return self.names.get(name, name)

    def places(self, found: list[str]) -> list[int | None]:
        """Where each field stands. Raises: Unreadable."""
        wanted = [_column(self.of(name), found) for name in FIELDS]
        if len(set(found)) < len(found):
            raise Unreadable(f"two columns have one name: {', '.join(found)}")
        for name in self.names.values():
            if _column(name, found) not in found:
                raise Unreadable(f"there is no column {name}{near(name, found)}")
        for name in REQUIRED:
            if name not in self.names and name not in found:
                raise Unreadable(
                    f"there is no column {name}; there are {', '.join(found)}; "
                    f"name the one that holds {name} with --map {name}=COLUMN"
                )
        ignored = {_column(name, found) for name in self.ignored}
        unknown = [name for name in found if name not in wanted and name not in ignored]
        if unknown:
            raise Unreadable(
                f"what is column {', '.join(unknown)}? Name the field that it holds with "
                "--map FIELD=COLUMN, or leave it out with --ignore COLUMN"
            )
        return [found.index(name) if name in found else None for name in wanted]


def _column(source: str, found: Collection[str]) -> str:
    """Its name, which may be written as a path of one key: in quotes where it has a dot."""
    if source in found:
        return source
    with suppress(ValueError):
        path = path_of(source)
        return path[0] if len(path) == 1 else source
    return source


def size_of_line(line: Line) -> int:
    """About how many bytes it holds in memory."""
    if isinstance(line.shown, bytes | str):
        return len(line.shown)
    return sum(len(cell) if isinstance(cell, bytes | str) else 100 for cell in line.shown)


def parts(rows: Iterator[Row], most: int, size_of: Callable[[Row], int]) -> Iterator[list[Row]]:
    """So many at a time, or fewer where they are large; those before an error come before it."""
    part, size = list[Row](), 0
    try:
        for row in rows:
            part.append(row)
            size += size_of(row)
            if len(part) == most or size > MOST_PART_BYTES:
                yield part
                part, size = [], 0
    except (Ended, *DAMAGED):
        yield part
        raise
    yield part
