"""Reader of the access logs of Apache and nginx, in the common and the combined format."""

import re
from collections.abc import Iterator
from itertools import starmap

from services.ingest.input_rows import Lines
from services.ingest.lines import lines_of
from services.ingest.mapping.row_mapping import RowMapping
from services.ingest.mapping.tables import Record, Records
from services.ingest.mapping.text_table import text_records
from services.ingest.validation import Invalid

COLUMNS = (
    "remote_addr",
    "remote_user",
    "time_local",
    "request",
    "status",
    "body_bytes_sent",
    "http_referer",
    "http_user_agent",
)
_Row = tuple[int, str, list[str] | Invalid]
_QUOTED = r'"([^"\\]*+(?:\\.[^"\\]*+)*+)"'
_LINE = re.compile(
    rf"(\S+) \S+ (.+?) \[([^\]]+)\] {_QUOTED} (\d{{3}}|-) (\d+|-)(?: {_QUOTED} {_QUOTED})?.*"
)


def is_access_log(line: str) -> bool:
    return bool(_LINE.fullmatch(line.rstrip("\r\n")))


def access_log_records(file: Lines, max_lines: int) -> Iterator[list[Record]]:
    """The lines as rows of COLUMNS, at most `max_lines` at a time. Raises: any of DAMAGED."""
    for rows in _rows(file, max_lines):
        yield list(starmap(_record, rows))


def access_log_tables(file: Lines, mapping: RowMapping, max_lines: int) -> Iterator[Records]:
    """The lines as tables of at most `max_lines` rows. Raises: any of DAMAGED."""
    for rows in _rows(file, max_lines):
        yield text_records(COLUMNS, rows, mapping)


def _rows(file: Lines, max_lines: int) -> Iterator[list[_Row]]:
    number = 1
    for raw in lines_of(file, max_lines):
        yield [_row(at, line) for at, line in enumerate(raw, number) if not line.isspace()]
        number += len(raw)


def _row(number: int, line: bytes) -> _Row:
    """The number of a line, its text, and its cells."""
    try:
        text = line.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        return number, line.decode(errors="replace"), Invalid("the line is not valid UTF-8")
    match = _LINE.fullmatch(text)
    if not match:
        return number, text, Invalid("the line is not one of an access log")
    return number, text, ["" if cell in (None, "-") else cell for cell in match.groups()]


def _record(number: int, text: str, cells: list[str] | Invalid) -> Record:
    if isinstance(cells, Invalid):
        return Record(number, text, cells)
    return Record(number, text, dict(zip(COLUMNS, cells, strict=True)))
