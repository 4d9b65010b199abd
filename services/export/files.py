"""Parquet files of an export: one for each UTC day, replaced as a whole."""

import hashlib
import os
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from repo.export import EventRow

_SCHEMA = pa.schema(
    [
        # Text, because Spark does not read Parquet's UUIDs.
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string()),
        pa.field("event_name", pa.string(), nullable=False),
        pa.field("occurred_at", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("properties", pa.string(), nullable=False),
    ]
)
_GROUP_ROWS = 131_072
_GROUP_BYTES = 32 * 2**20


class WrittenFile(NamedTuple):
    """A file that is complete, but has not replaced the one of its day yet."""

    aside: Path
    rows: int
    bytes: int
    sha256: str


def file_of(day: date) -> str:
    """The path of a day's file in the directory of the export."""
    return f"day={day}/events.parquet"


def write_aside(directory: Path, day: date, rows: Iterable[list[EventRow]]) -> WrittenFile:
    """Write the file of a day beside its place. Raises: OSError, and what `rows` raises."""
    aside = _aside(directory, day)
    aside.parent.mkdir(exist_ok=True)
    try:
        count = _write(aside, rows)
    except BaseException:
        # It may have filled the disk, and a user in it may be erased before the next run.
        aside.unlink(missing_ok=True)
        raise
    with aside.open("rb") as written:
        digest = hashlib.file_digest(written, "sha256").hexdigest()
    return WrittenFile(aside, count, aside.stat().st_size, digest)


def _write(file: Path, rows: Iterable[list[EventRow]]) -> int:
    """Write a file durably; return the number of its rows. Raises: OSError."""
    count = 0
    with file.open("wb") as opened:
        with pq.ParquetWriter(opened, _SCHEMA, **_OPTIONS) as writer:
            for group in _groups(rows):
                writer.write_table(group, row_group_size=group.num_rows)
                count += group.num_rows
        opened.flush()
        os.fsync(opened.fileno())
    return count


def put_in_place(directory: Path, day: date, written: WrittenFile) -> None:
    """Replace the file of a day at once. Raises: OSError."""
    place = directory / file_of(day)
    written.aside.replace(place)
    sync_directory(place.parent)
    sync_directory(directory)


def remove_day(directory: Path, day: date) -> None:
    """Remove the file of a day, and what a crash has left beside it. Raises: OSError."""
    folder = (directory / file_of(day)).parent
    if folder.exists():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        sync_directory(directory)


def remove_leftovers(directory: Path, days: Container[date]) -> None:
    """Remove what a killed run has left: files of other days, and files beside their place.

    Otherwise they would hold events that were erased since. Raises: OSError.
    """
    for folder in directory.glob("day=????-??-??"):
        try:
            day = date.fromisoformat(folder.name.removeprefix("day="))
        except ValueError:  # not ours
            continue
        if day not in days:
            remove_day(directory, day)
        else:
            _aside(directory, day).unlink(missing_ok=True)


def _aside(directory: Path, day: date) -> Path:
    place = directory / file_of(day)
    return place.with_name(f".{place.name}")


def sync_directory(directory: Path) -> None:
    """Make renames in a directory durable. Raises: OSError."""
    with opened_directory(directory) as number:
        os.fsync(number)


@contextmanager
def opened_directory(directory: Path) -> Iterator[int]:
    """The number of an open file for a directory. Raises: OSError."""
    number = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield number
    finally:
        os.close(number)


# Dictionaries only where values repeat: those of unique values cost time and are thrown away.
_OPTIONS: dict[str, Any] = {
    "compression": "zstd",
    "use_dictionary": ["user_id", "event_name", "properties"],
}


def _groups(rows: Iterable[list[EventRow]]) -> Iterator[pa.Table]:
    """Tables of the rows, each of which becomes a row group of a bounded size."""
    batches: list[pa.RecordBatch] = []
    for part in rows:
        batches.append(_batch(part))
        if (
            sum(batch.num_rows for batch in batches) >= _GROUP_ROWS
            or sum(batch.nbytes for batch in batches) >= _GROUP_BYTES
        ):
            yield pa.Table.from_batches(batches)
            batches = []
    if batches:
        yield pa.Table.from_batches(batches)


def _batch(rows: list[EventRow]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA)
