"""Response formats: encode answers as JSON, CSV (RFC 4180) or NDJSON, and negotiate the format."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import date, datetime
from typing import Any, Literal

import msgspec

from utils.accept import media_ranges

Format = Literal["json", "csv", "ndjson"]

MEDIA_TYPES: dict[Format, str] = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "ndjson": "application/x-ndjson",
}

_WILDCARDS: dict[str, Format] = {"*/*": "json", "application/*": "json", "text/*": "csv"}

as_json = msgspec.json.Encoder().encode
as_ndjson = msgspec.json.Encoder().encode_lines
"""Encodes one JSON object for each line; empty for no rows."""


def quantity(count: int, noun: str) -> str:
    """Return a number with its noun, such as `1 event` or `1,000 events`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def as_csv(columns: type | Sequence[str], rows: Sequence[Any]) -> bytes:
    """Return a header line with the columns, and a line for each row.

    The columns are names, of which each row is a mapping, or the type of the rows, a dataclass.
    """
    if not isinstance(columns, type):
        return _table(columns, ([row[name] for name in columns] for row in rows))
    names = [field.name for field in fields(columns)]
    # A field that the request did not ask for is unset in every row.
    names = [name for name in names if not rows or getattr(rows[0], name) is not msgspec.UNSET]
    return _table(names, ([getattr(row, name) for name in names] for row in rows))


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(map(_cell, row) for row in rows)
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    """Return the value as in JSON, but text without quotes and null as an empty cell."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, date | datetime):
        return as_json(value).decode().strip('"')
    return as_json(value).decode()


def preferred_format(accept: str) -> Format:
    """Return the format that an `Accept` header prefers; JSON if it names no supported one."""
    ranges = sorted(media_ranges(accept), key=lambda pair: -pair[0])
    formats = {media.split(";")[0]: form for form, media in MEDIA_TYPES.items()} | _WILDCARDS
    return next(
        (formats[media] for quality, media in ranges if quality and media in formats), "json"
    )
