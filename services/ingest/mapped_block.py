"""Blocks of rows that a mapping makes events of; they are validated at once where possible."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from services.ingest.fast_validation import validate_block
from services.ingest.input_rows import InputRow, ValidRows
from services.ingest.lone_surrogates import lone_surrogate_field
from services.ingest.mapping.row_format import Row
from services.ingest.mapping.row_mapping import RowMapper
from services.ingest.strict_json import HugeNumber, NotStrict, check_strict
from services.ingest.validation import Invalid


class Record(NamedTuple):
    """One row as read, before it is mapped."""

    number: int
    raw: Any
    """The row for the file of rejected rows; a line of JSON as bytes."""
    row: Row | Invalid


class MappedBlock:
    """Consecutive rows and their events. Rows are mapped once, since equal ones are numbered."""

    def __init__(self, records: Iterable[Record], mapper: RowMapper) -> None:
        self._rows = [_input_row(record, mapper) for record in records]

    @property
    def missing_sources(self) -> list[str]:
        """For each row that lacks the source of a field, the field."""
        return [name for row in self._rows for name in row.missing_sources]

    def rows(self, latest: datetime) -> ValidRows | None:
        """All rows in the text format of COPY; None if any of them needs a closer look."""
        events = [row.event for row in self._rows]
        if not events or any(isinstance(event, Invalid) for event in events):
            return None
        try:
            columns = [list(map(_as_text, column)) for column in zip(*events, strict=True)]
            columns[1] = [str(user) if type(user) is int else user for user in columns[1]]
            columns[-1] = [text or "{}" for text in columns[-1]]
            rows = validate_block(columns, latest, self._lines())
        except (TypeError, AttributeError, UnicodeEncodeError):
            return None
        return None if rows is None else (rows, [(row.number, row.raw) for row in self._rows])

    def lines(self) -> Iterator[InputRow]:
        """The rows one by one."""
        for row in self._rows:
            yield row._replace(event=exc) if (exc := _not_strict(row.raw)) else row

    def _lines(self) -> bytes | None:
        """The lines of JSON, which are checked as a whole; None for other formats."""
        lines = [row.raw.strip() for row in self._rows if isinstance(row.raw, bytes)]
        return b"\n".join(lines) if lines else None


def _input_row(record: Record, mapper: RowMapper) -> InputRow:
    if isinstance(record.row, Invalid):
        return InputRow(record.number, record.raw, record.row)
    try:
        event = mapper(record.row)
        missing = mapper.missing_fields(record.row, event)
        return InputRow(record.number, record.raw, event, missing)
    except Invalid as exc:
        return InputRow(record.number, record.raw, exc)


def _as_text(value: Any) -> Any:
    """The text of a value that needs no closer look; other values are left as they are."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.isoformat()
    return value


def _reason(text: str, fault: NotStrict) -> str:
    if lone_surrogate_field(text) is not None:
        return "the line must not contain a lone surrogate"
    is_invalid = str(fault) == "must be valid JSON"
    return "the line is not valid JSON" if is_invalid else f"the line {fault}"


def _not_strict(raw: Any) -> Invalid | None:
    """The reason why a line of JSON is not strict; None for strict ones and other formats."""
    if not isinstance(raw, bytes):
        return None
    try:
        check_strict(raw.decode().removeprefix("\ufeff"))
    except HugeNumber as exc:
        return Invalid(f"properties {exc}")
    except NotStrict as exc:
        return Invalid(_reason(raw.decode(), exc))
    except UnicodeDecodeError:
        return Invalid("the line is not valid UTF-8")
    return None
