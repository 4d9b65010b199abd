"""Reader of the access logs of Apache and nginx, in the common and the combined format."""

import re
from collections.abc import Iterator

from services.ingest.input_rows import Lines
from services.ingest.mapped_block import Record
from services.ingest.ndjson import lines_of
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
_QUOTED = r'"((?:[^"\\]|\\.)*)"'
_LINE = re.compile(
    rf"(\S+) \S+ (.+?) \[([^\]]+)\] {_QUOTED} (\d{{3}}|-) (\d+|-)(?: {_QUOTED} {_QUOTED})?.*"
)


def is_access_log(line: str) -> bool:
    return bool(_LINE.fullmatch(line.rstrip("\r\n")))


def access_log_records(file: Lines, max_lines: int) -> Iterator[list[Record]]:
    """The lines as rows of COLUMNS, at most `max_lines` at a time. Raises: any of DAMAGED."""
    number = 1
    for raw in lines_of(file, max_lines):
        yield [_record(at, line) for at, line in enumerate(raw, number) if not line.isspace()]
        number += len(raw)


def _record(number: int, line: bytes) -> Record:
    try:
        text = line.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        return Record(number, line.decode(errors="replace"), Invalid("the line is not valid UTF-8"))
    match = _LINE.fullmatch(text)
    if not match:
        return Record(number, text, Invalid("the line is not one of an access log"))
    cells = ("" if cell in (None, "-") else cell for cell in match.groups())
    return Record(number, text, dict(zip(COLUMNS, cells, strict=True)))
