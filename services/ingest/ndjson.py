"""NDJSON reader: decodes blocks of lines at once, and falls back to single lines on any problem."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any, ClassVar

import msgspec
from msgspec import UNSET

from services.ingest.fast_validation import validate_block
from services.ingest.input_rows import (
    DAMAGED,
    ColumnMapping,
    InputRow,
    Lines,
    UnreadableInput,
    ValidRows,
)
from services.ingest.json_paths import Path, has_path, paths_in, source_of, suggest
from services.ingest.lines import is_cut, lines_of
from services.ingest.lone_surrogates import lone_surrogate_field
from services.ingest.mapping.json_table import json_tables
from services.ingest.mapping.row_format import decode_raw
from services.ingest.mapping.row_mapping import RowMapping
from services.ingest.mapping.tables import Record, Records
from services.ingest.ndjson_decoder import ABSENT, LineShape
from services.ingest.strict_json import (
    HugeNumber,
    NotStrict,
    check_strict,
    has_one_object_per_line,
    may_escape_colon,
)
from services.ingest.validation import FIELDS, Invalid, RawEvent

_TEXTS = len(FIELDS) - 1  # all fields but the last one, properties, are text
_LOOK_AHEAD_LINES = 10_000
_LOOK_AHEAD_BYTES = 16 * 1024 * 1024

_NULL = msgspec.Raw(b"null")

_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
_decode_rows = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode_lines


class Decoders:
    """Decoders of the lines of a file, for its column mapping."""

    def __init__(self, columns: ColumnMapping) -> None:
        self.shape = LineShape(columns)
        decoder = msgspec.json.Decoder(self.shape.type)
        self.one = decoder.decode
        self.all = decoder.decode_lines
        self.values: Callable[[Any], tuple[Any, ...]] = attrgetter(*self.shape.attributes)


@dataclass(frozen=True, slots=True)
class NdjsonBlock:
    """A block of raw lines; `number` is the line number of the first."""

    missing_sources: ClassVar[tuple[str, ...]] = ()
    """Fields are missing only from lines that are read one by one."""
    number: int
    raw: list[bytes]
    decoders: Decoders

    def rows(self, latest: datetime) -> ValidRows | None:
        """All rows in the text format of COPY; None if any of them needs a closer look."""
        text = b"".join(self.raw)
        if not has_one_object_per_line(text, len(self.raw)):
            return None
        try:
            text.decode()
            rows = self._rows(text, latest)
        except (ValueError, TypeError, AttributeError, RecursionError):
            return None
        return None if rows is None else (rows, list(enumerate(self.raw, self.number)))

    def _rows(self, text: bytes, latest: datetime) -> list[str] | None:
        decoded = self.decoders.all(text)
        if len(decoded) != len(self.raw):
            return None
        columns = list(zip(*map(self.decoders.values, decoded), strict=True))
        ids, users, *other_texts = columns[:_TEXTS]
        texts = [ids, list(map(_user_text, users)), *other_texts]
        properties, *ignored = columns[_TEXTS:]
        rows = validate_block(
            [*texts, [str(raw, "utf-8") for raw in properties]], latest, text if ignored else None
        )
        if ignored or (rows and self._has_each_key_once(text, texts, properties)):
            return rows
        return None

    def _has_each_key_once(
        self, text: bytes, texts: Sequence[Sequence[str]], properties: Sequence[Any]
    ) -> bool:
        """Whether no line certainly repeats a key outside of its properties.

        The decoder ignores a repeated key, but its colon is in the text: there must be one colon
        per key, and those inside values.
        """
        present = [raw for raw in properties if raw is not ABSENT]
        keys = len(self.raw) * self.decoders.shape.keys + len(present)
        # The first column, event_id, has no colons.
        colons_in_values = sum("".join(column).count(":") for column in texts[1:])
        colons_in_values += b"".join(present).count(b":")
        return text.count(b":") == keys + colons_in_values and not may_escape_colon(text)

    def lines(self) -> Iterator[InputRow]:
        """The rows one by one, without blank lines."""
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
        """The decoded struct of a line. Raises: Invalid."""
        if is_cut(line):
            raise Invalid("the line is over 4 MB long")
        try:
            # The decoder skips the contents of `properties`, so UTF-8 is checked here.
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
            if lone_surrogate_field(text) is not None:
                raise Invalid("the line must not contain a lone surrogate") from None
            raise Invalid("the line is not valid JSON") from None
        return decoded


def _user_text(user: Any) -> Any:
    """The text of a user id that is a whole number or null; any other value unchanged."""
    if user is None:
        return ""
    return str(user) if isinstance(user, int) else user


def ndjson_blocks(file: Lines, columns: ColumnMapping, max_lines: int) -> Iterator[NdjsonBlock]:
    """Blocks of at most `max_lines` lines, fewer if they are long.

    Raises: UnreadableInput, any of DAMAGED.
    """
    decoders, number = Decoders(columns), 1
    for raw in _check_mapped(lines_of(file, max_lines), decoders.shape.mapped):
        yield NdjsonBlock(number, raw, decoders)
        number += len(raw)


def ndjson_records(file: Lines, max_lines: int) -> Iterator[list[Record]]:
    """The objects of the lines, at most `max_lines` at a time.

    Raises: UnreadableInput, any of DAMAGED.
    """
    number = 1
    for raw in lines_of(file, max_lines):
        yield _records(number, raw)
        number += len(raw)


def json_line_tables(
    file: Lines, mapping: RowMapping, branches: Sequence[Path], max_lines: int
) -> Iterator[Records]:
    """The objects of the lines as tables of at most `max_lines` rows.

    Raises: UnreadableInput, any of DAMAGED.
    """
    for records in ndjson_records(file, max_lines):
        rows = {
            at: record.row
            for at, record in enumerate(records)
            if not isinstance(record.row, Invalid)
        }
        tables = json_tables(rows, branches, mapping)
        in_tables = {at for positions, _ in tables for at in positions}
        yield Records(
            [(record.number, record.raw) for record in records],
            {at: record.row for at, record in enumerate(records) if at not in in_tables},
            tables,
        )


def _records(number: int, raw: list[bytes]) -> list[Record]:
    numbered = list(enumerate(raw, number))
    text = b"".join(raw)
    try:
        text.decode()
        decoded = _decode_rows(text) if has_one_object_per_line(text, len(raw)) else []
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        decoded = []
    if len(decoded) == len(raw):
        return [Record(*line, row) for line, row in zip(numbered, decoded, strict=True)]
    return [_record(*line) for line in numbered if not line[1].isspace()]


def _record(number: int, line: bytes) -> Record:
    if is_cut(line):
        return Record(number, line, Invalid("the line is over 4 MB long"))
    try:
        text = line.removeprefix(b"\xef\xbb\xbf").decode()
        return Record(number, line, decode_raw(text))
    except UnicodeDecodeError:
        return Record(number, line, Invalid("the line is not valid UTF-8"))
    except msgspec.ValidationError:
        return Record(number, line, Invalid("the line is not an object"))
    except (msgspec.DecodeError, RecursionError):
        is_lone = lone_surrogate_field(text) is not None
        reason = "must not contain a lone surrogate" if is_lone else "is not valid JSON"
        return Record(number, line, Invalid(f"the line {reason}"))


def _check_mapped(
    blocks: Iterator[list[bytes]], mapped: Mapping[str, Path]
) -> Iterator[list[bytes]]:
    """The blocks unchanged, after a check that the first lines have the keys that `--map` names.

    Raises: UnreadableInput.
    """
    lookahead: list[list[bytes]] = []
    damage = None
    try:
        for block in blocks:
            lookahead.append(block)
            if not _missing_fields(mapped, lookahead) or _is_enough(lookahead):
                break
    except DAMAGED as exc:  # raised after the lines that could be read
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
    """The mapped fields that none of these lines has."""
    missing = dict(mapped)
    for block in lookahead:
        for value in _objects(block) if missing else ():
            missing = {field: path for field, path in missing.items() if not has_path(value, path)}
    return missing


def _refuse(missing: Mapping[str, Path], lookahead: list[list[bytes]]) -> None:
    """Raise UnreadableInput about a missing key.

    If no line can be decoded, nothing is raised: each line is rejected with its own reason.
    """
    values = [value for block in lookahead for value in _objects(block)]
    known_paths = list(
        dict.fromkeys(source_of(path) for value in values for path in paths_in(value))
    )
    field, path = next(iter(missing.items()))
    lines = sum(map(len, lookahead))
    if values:
        raise UnreadableInput(
            f"none of the first {lines:,} lines has {source_of(path)}, which is mapped to {field}"
            + suggest(source_of(path), known_paths)
        )


def _objects(block: list[bytes]) -> Iterator[dict[str, Any]]:
    """The objects in those lines that can be decoded."""
    for line in block:
        try:
            yield _decode_object(line.removeprefix(b"\xef\xbb\xbf"))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
