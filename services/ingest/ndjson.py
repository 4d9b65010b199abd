"""NDJSON by the block: all of its lines at once, or each by itself."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import UNSET

from services.ingest.fast_validation import validate_block
from services.ingest.key_paths import Path, has_path, paths_in, source_of, suggest
from services.ingest.line_decoder import ABSENT, LineShape
from services.ingest.rows import (
    DAMAGED,
    MAX_LINE_BYTES,
    ColumnMapping,
    Input,
    InputRow,
    UnreadableInput,
    ValidRows,
    parts,
)
from services.ingest.strict_json import (
    HugeNumber,
    NotStrict,
    are_strict,
    check_strict,
    may_escape_colon,
)
from services.ingest.validation import FIELDS, Invalid, RawEvent

_TEXTS = len(FIELDS) - 1  # the last one is properties
_LOOK_AHEAD_LINES = 10_000
_LOOK_AHEAD_BYTES = 16 * 1024 * 1024

_NULL = msgspec.Raw(b"null")

_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


class Decoders:
    """Of lines that hold an event each, with fields as the file calls them."""

    def __init__(self, columns: ColumnMapping) -> None:
        self.shape = LineShape(columns)
        decoder = msgspec.json.Decoder(self.shape.type)
        self.one = decoder.decode
        self.all = decoder.decode_lines
        self.values: Callable[[Any], tuple[Any, ...]] = attrgetter(*self.shape.attributes)


@dataclass(frozen=True, slots=True)
class NdjsonBlock:
    """Lines as they were read; the first of them has this number."""

    number: int
    raw: list[bytes]
    decoders: Decoders

    def rows(self, until: str) -> ValidRows | None:
        """As COPY reads them; None if one of them may not be as most are."""
        text = b"".join(self.raw)
        if not _has_one_object_per_line(text, len(self.raw)):
            return None
        try:
            text.decode()
            rows = self._rows(text, until)
        except (ValueError, TypeError, AttributeError, RecursionError):
            return None
        return None if rows is None else (rows, list(enumerate(self.raw, self.number)))

    def _rows(self, text: bytes, until: str) -> list[str] | None:
        decoded = self.decoders.all(text)
        if len(decoded) != len(self.raw):
            return None
        columns = list(zip(*map(self.decoders.values, decoded), strict=True))
        texts, raws = columns[:_TEXTS], columns[_TEXTS:]
        rows = validate_block([*texts, [str(raw, "utf-8") for raw in raws[0]]], until)
        return rows if rows and self._has_each_key_once(text, texts, raws) else None

    def _has_each_key_once(
        self, text: bytes, texts: Sequence[Sequence[str]], raws: Sequence[Sequence[Any]]
    ) -> bool:
        """Of the lines themselves; properties are looked at by themselves. A line has a colon after
        each key and inside of values. False also where that is not certain.
        """
        properties, *ignored = raws
        if ignored:
            return are_strict(text)
        present = [raw for raw in properties if raw is not ABSENT]
        keys = len(self.raw) * self.decoders.shape.keys + len(present)
        colons_in_values = sum(
            "".join(column).count(":") for column in texts[1:]
        )  # in ids there is none
        colons_in_values += b"".join(present).count(b":")
        return text.count(b":") == keys + colons_in_values and not may_escape_colon(text)

    def lines(self) -> Iterator[InputRow]:
        for number, line in enumerate(self.raw, self.number):
            if not line.isspace():
                yield self._line(number, line)

    def _line(self, number: int, line: bytes) -> InputRow:
        shape = self.decoders.shape
        try:
            values = shape.values_of(self._decode(line))
        except Invalid as exc:
            return InputRow(number, line, exc)
        named = zip(FIELDS, values, strict=True)
        missing_sources = tuple(field for field, value in named if value is UNSET)
        *texts, raw = (None if value is UNSET else value for value in values)
        properties = None if raw in (None, _NULL) else bytes(raw).decode()
        event_id, user_id, event_name, occurred_at = texts
        event = RawEvent(event_id, user_id, event_name, occurred_at, properties)
        return InputRow(number, line, event, missing_sources)

    def _decode(self, line: bytes) -> Any:
        """The decoder passes over the inside of properties, so UTF-8 is looked at first.

        Raises: Invalid.
        """
        if _is_cut(line):
            raise Invalid("the line is over 4 MB long")
        try:
            text = line.removeprefix(b"\xef\xbb\xbf").decode()
            decoded = self.decoders.one(text)
            check_strict(text)
        except UnicodeDecodeError:
            raise Invalid("the line is not valid UTF-8") from None
        except msgspec.ValidationError as exc:
            raise Invalid(str(exc)) from None
        except HugeNumber as exc:
            raise Invalid(f"properties {exc}") from None
        except NotStrict as exc:
            raise Invalid(f"the line {exc}") from None
        except (msgspec.DecodeError, RecursionError):
            raise Invalid("the line is not valid JSON") from None
        return decoded


def ndjson_blocks(file: Input, columns: ColumnMapping, max_lines: int) -> Iterator[NdjsonBlock]:
    """So many lines at a time, or fewer where they are long. Raises: Unreadable, any of DAMAGED."""
    decoders, number = Decoders(columns), 1
    for raw in _check_mapped(parts(_lines(file), max_lines, len), decoders.shape.mapped):
        yield NdjsonBlock(number, raw, decoders)
        number += len(raw)


def _check_mapped(
    blocks: Iterator[list[bytes]], mapped: Mapping[str, Path]
) -> Iterator[list[bytes]]:
    """The same, after a look whether lines have what `--map` names. Raises: Unreadable."""
    lookahead: list[list[bytes]] = []
    damage = None
    try:
        for block in blocks:
            lookahead.append(block)
            if not _missing_fields(mapped, lookahead) or _is_enough(lookahead):
                break
    except DAMAGED as exc:
        damage = exc
    if missing := _missing_fields(mapped, lookahead):
        _refuse(missing, lookahead)
    yield from lookahead
    if damage is not None:
        raise damage
    yield from blocks


def _is_enough(lookahead: list[list[bytes]]) -> bool:
    lines, size = sum(map(len, lookahead)), sum(len(line) for block in lookahead for line in block)
    return lines >= _LOOK_AHEAD_LINES or size >= _LOOK_AHEAD_BYTES


def _missing_fields(mapped: Mapping[str, Path], lookahead: list[list[bytes]]) -> dict[str, Path]:
    """What none of these lines has."""
    missing = dict(mapped)
    for block in lookahead:
        for value in _objects(block) if missing else ():
            missing = {field: path for field, path in missing.items() if not has_path(value, path)}
    return missing


def _refuse(missing: Mapping[str, Path], lookahead: list[list[bytes]]) -> None:
    """Raises: Unreadable, unless no line can be read: then each is told by itself."""
    values = [value for block in lookahead for value in _objects(block)]
    known_paths = list(
        dict.fromkeys(source_of(path) for value in values for path in paths_in(value))
    )
    field, path = next(iter(missing.items()))
    lines = sum(map(len, lookahead))
    if values:
        raise UnreadableInput(
            f"none of the first {lines:,} lines has {source_of(path)}, which is to be {field}"
            + suggest(source_of(path), known_paths)
        )


def _objects(block: list[bytes]) -> Iterator[dict[str, Any]]:
    """Lines that can be read."""
    for line in block:
        try:
            yield _decode_object(line.removeprefix(b"\xef\xbb\xbf"))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue


def _lines(file: Input) -> Iterator[bytes]:
    """With their ends. One that is too long is cut."""
    while line := file.readline(MAX_LINE_BYTES):
        if _is_cut(line):
            _skip_line(file)
        yield line


def _is_cut(line: bytes) -> bool:
    return len(line) == MAX_LINE_BYTES and not line.endswith(b"\n")


def _skip_line(file: Input) -> None:
    while (part := file.readline(MAX_LINE_BYTES)) and not part.endswith(b"\n"):
        pass


def _has_one_object_per_line(text: bytes, lines: int) -> bool:
    """If there are so many objects in the text: none goes on after a line, for `}` and `{` are not
    neighbours inside of one.
    """
    return text.startswith(b"{") and text.count(b"}\n{") == lines - 1
