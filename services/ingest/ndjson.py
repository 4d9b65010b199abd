"""NDJSON by the block: all of its lines at once, or each by itself."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import msgspec

from services.ingest.events import FIELDS, Given, Invalid
from services.ingest.lines import MOST_LINE_BYTES, Columns, Input, Line, Taken, parts
from services.ingest.usual import usual_rows

_fields = attrgetter(*FIELDS)


class _Decoders:
    """Of lines that hold an event each, with fields as the file calls them."""

    def __init__(self, columns: Columns) -> None:
        decoder = msgspec.json.Decoder(_struct(columns))
        self.one = decoder.decode
        self.all = decoder.decode_lines


@dataclass(frozen=True, slots=True)
class NdjsonBlock:
    """Lines as they were read; the first of them has this number."""

    number: int
    raw: list[bytes]
    decoders: _Decoders

    def rows(self, until: str) -> Taken | None:
        """As COPY reads them; None if one of them may not be as most are."""
        text = b"".join(self.raw)
        if not _one_object_a_line(text, len(self.raw)):
            return None
        try:
            text.decode()
            found = self.decoders.all(text)
            rows = usual_rows(_columns(found), until) if len(found) == len(self.raw) else None
        except (ValueError, TypeError, RecursionError):
            return None
        return None if rows is None else (rows, list(enumerate(self.raw, self.number)))

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


def ndjson_blocks(file: Input, columns: Columns, most: int) -> Iterator[NdjsonBlock]:
    """So many lines at a time, or fewer where they are long. Raises: any of DAMAGED."""
    decoders, number = _Decoders(columns), 1
    for raw in parts(_lines(file), most, len):
        yield NdjsonBlock(number, raw, decoders)
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


def _columns(events: Sequence[Any]) -> list[Sequence[str]]:
    *columns, raw = zip(*map(_fields, events), strict=True)
    return [*columns, [str(each, "utf-8") for each in raw]]


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
