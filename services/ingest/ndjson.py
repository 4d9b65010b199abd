"""NDJSON by the block: most lines have nothing wrong, and are checked hundreds at a time, in C.

A block in which all lines are as most are becomes rows at once; of any other each line is looked at
by itself. Both ways come to the same rows for PostgreSQL.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import msgspec

from repo.ingest import rows_of
from services.ingest.events import FIELDS, Given, Invalid
from services.ingest.lines import MOST_LINE_BYTES, Columns, Input, Line, parts

_MOST_LETTERS = 50  # of a name or a user: at most 200 bytes, whatever they are
_MOST_PROPERTIES = 10_000
_FROM = "2000-01-02"  # somewhere it is the day before
# Of years from 2000 to 2099, in which each fourth one is a leap year.
_DATE = (
    r"(?:\d{4}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)"
    r"|(?:0[13578]|1[02])-31)|\d\d(?:[02468][048]|[13579][26])-02-29)"
)
_CLOCK = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?(?:Z|[+-](?:0\d|1[0-5]):[0-5]\d)"
_TIMES = re.compile(rf"(?:{_DATE}T{_CLOCK}\n)+", re.ASCII)
_IDS = re.compile(r"(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\n)+")
_fields = attrgetter(*FIELDS)


class _Decoders:
    """Of lines that hold an event each, with fields as the file calls them."""

    def __init__(self, columns: Columns) -> None:
        decoder = msgspec.json.Decoder(_struct(columns))
        self.one = decoder.decode
        self.all = decoder.decode_lines


@dataclass(frozen=True, slots=True)
class Block:
    """Lines as they were read; the first of them has this number."""

    number: int
    raw: list[bytes]
    decoders: _Decoders

    def rows(self, until: str) -> list[str] | None:
        """As COPY reads them; None if a line may not be as most are.

        No time may be written as `until` or later, whatever its offset.
        """
        text = b"".join(self.raw)
        if not _one_object_a_line(text, len(self.raw)):
            return None
        try:
            text.decode()
            found = self.decoders.all(text)
            return _rows(found, until) if len(found) == len(self.raw) else None
        except (ValueError, TypeError, RecursionError):
            return None

    def lines(self) -> Iterator[Line]:
        for number, line in enumerate(self.raw, self.number):
            if not line.isspace():
                yield Line(number, line, self._given(line))

    def _given(self, line: bytes) -> Given | Invalid:
        """The decoder passes over the inside of properties, so UTF-8 is looked at first."""
        if _is_cut(line):
            return Invalid("the line is over 4 MB long")
        try:
            line.decode()
            found = self.decoders.one(line.removeprefix(b"\xef\xbb\xbf"))
        except UnicodeDecodeError:
            return Invalid("the line is not valid UTF-8")
        except msgspec.ValidationError as exc:
            return Invalid(str(exc))
        except (msgspec.DecodeError, RecursionError):
            return Invalid("the line is not valid JSON")
        given = Given(*_fields(found))
        text = bytes(given.properties).decode()
        return given._replace(properties=None if text == "null" else text)


def blocks(file: Input, columns: Columns, most: int) -> Iterator[Block]:
    """So many lines at a time, or fewer where they are long. Raises: any of DAMAGED."""
    decoders, number = _Decoders(columns), 1
    for raw in parts(_lines(file), most, len):
        yield Block(number, raw, decoders)
        number += len(raw)


def _lines(file: Input) -> Iterator[bytes]:
    """With their ends. One that is too long is cut."""
    while line := file.readline(MOST_LINE_BYTES):
        if _is_cut(line):
            _skip_line(file)
        yield line


def _is_cut(line: bytes) -> bool:
    return len(line) == MOST_LINE_BYTES and not line.endswith(b"\n")


def _skip_line(file: Input) -> None:
    while (part := file.readline(MOST_LINE_BYTES)) and not part.endswith(b"\n"):
        pass


def _one_object_a_line(text: bytes, lines: int) -> bool:
    """If there are so many objects in the text: none goes on after a line, for `}` and `{` are not
    neighbours inside of one.
    """
    return text.startswith(b"{") and text.count(b"}\n{") == lines - 1


def _rows(events: Sequence[Any], until: str) -> list[str] | None:
    """Raises: ValueError, TypeError where a value is missing or no text."""
    ids, users, names, times, raw = zip(*map(_fields, events), strict=True)
    if not (_are(_IDS, ids) and _are(_TIMES, times) and min(times) >= _FROM and max(times) < until):
        return None
    objects = [str(each, "utf-8") for each in raw]
    if not (all(names) and _are_short(names) and _are_short(users) and _are_objects(objects)):
        return None
    return rows_of((ids, users, names, times, objects))


def _are(pattern: re.Pattern[str], values: Sequence[str]) -> bool:
    """One line for each, so that one match looks at all of them."""
    text = "\n".join((*values, ""))
    return text.count("\n") == len(values) and bool(pattern.fullmatch(text))


def _are_short(values: Sequence[str]) -> bool:
    return max(map(len, values)) <= _MOST_LETTERS and "\0" not in "".join(values)


def _are_objects(values: Sequence[str]) -> bool:
    """An escape may be a NUL or half of a character, which only a closer look tells."""
    text = "\n".join(("", *values))
    starts = text.count("\n{") == len(values)
    return starts and max(map(len, values)) <= _MOST_PROPERTIES and "\\u" not in text


def _struct(columns: Columns) -> Any:
    """What a line may hold, under the names that the file uses."""
    raw = msgspec.Raw(b"{}")
    fields: list[Any] = [
        ("event_id", str | None, None),
        ("user_id", str | int | None, None),
        ("event_name", str | None, None),
        ("occurred_at", str | None, None),
        ("properties", msgspec.Raw, raw),
    ]
    ignored = [(f"ignored_{n}", msgspec.Raw, raw) for n in range(len(columns.ignored))]
    names = {f"ignored_{n}": name for n, name in enumerate(columns.ignored)} | dict(columns.names)
    return msgspec.defstruct(
        "Line", fields + ignored, rename=names, forbid_unknown_fields=True, gc=False
    )
