"""Blocks of rows that a mapping makes events of: by column where possible, else one by one."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from services.ingest.column_validation import EventColumns, valid_rows
from services.ingest.input_rows import InputRow, ValidRows
from services.ingest.lone_surrogates import lone_surrogate_field
from services.ingest.mapping.column_mapping import ColumnMapper, MappedTable
from services.ingest.mapping.row_format import sorted_json
from services.ingest.mapping.row_mapping import RowMapper, id_text
from services.ingest.mapping.tables import Records
from services.ingest.mapping.time_columns import TimeColumns
from services.ingest.mapping.times import ISO
from services.ingest.strict_json import HugeNumber, NotStrict, check_strict, strict_objects
from services.ingest.validation import Invalid, RawEvent, Validator

_MIN_ROWS_OF_COLUMNS = 16
_Ids = Mapping[int, str]
_Faults = Mapping[int, Invalid]


class MappedBlock:
    """Consecutive rows and their events. Rows are mapped once, since equal ones are numbered."""

    def __init__(
        self, records: Records, mapper: RowMapper, columns: ColumnMapper | None = None
    ) -> None:
        self._records = records
        self._mapper = mapper
        self._columns = columns or ColumnMapper(mapper)
        self.missing_sources: Counter[str] = Counter()
        """The rows of `rows` that lack the source of a field, by field."""
        self.others: list[InputRow] = []
        """The rows that `rows` has left out, each with its event or the reason why it has none."""

    def rows(self, validator: Validator) -> ValidRows:
        """The rows that are certainly valid, in the text format of COPY."""
        mapped = [
            (positions, self._columns(table, validator))
            for positions, table in self._records.tables
        ]
        faults, decoded = self._strict_rows()
        ids = self._ids(mapped, decoded)
        lines: dict[int, str] = {}
        for positions, table in mapped:
            if table is not None:
                lines |= self._valid(positions, table, ids, faults)
        others = self._input_rows(ids, faults, lines)
        lines |= self._valid_singles(others, validator)
        self.others = [row for at, row in others.items() if at not in lines]
        origins = self._records.origins
        if len(lines) == len(origins):
            return [line for _, line in sorted(lines.items())], origins
        positions = sorted(lines)
        return [lines[at] for at in positions], [origins[at] for at in positions]

    def lines(self) -> Iterable[InputRow]:
        """All rows one by one."""
        unmapped = [(positions, None) for positions, _ in self._records.tables]
        faults, decoded = self._strict_rows()
        return self._input_rows(self._ids(unmapped, decoded), faults, {}).values()

    def _ids(
        self,
        mapped: Sequence[tuple[Sequence[int], MappedTable | None]],
        decoded: Mapping[int, Any],
    ) -> _Ids:
        """The ids that are derived from whole rows, by position."""
        if not self._mapper.numbers_rows:
            return {}
        texts: dict[int, bytes] = {}
        for (positions, table), (_, source) in zip(mapped, self._records.tables, strict=True):
            if table is not None:
                names = table.events.event_names
                canonical = (
                    [sorted_json(decoded[at]) for at in positions]
                    if decoded
                    else source.canonical()
                )
                texts.update(zip(positions, map(id_text, names, canonical), strict=True))
        for at in range(len(self._records.origins)):
            if at not in texts and not isinstance(row := self._records.row(at), Invalid):
                texts[at] = self._mapper.id_text(row)
        in_order = sorted(texts)
        ids = self._mapper.ids_of(texts[at] for at in in_order)
        return dict(zip(in_order, ids, strict=True))

    def _strict_rows(self) -> tuple[_Faults, Mapping[int, Any]]:
        """The reasons why lines of JSON are not strict, and the objects if all are strict.

        Both are by position, and empty for other formats.
        """
        singles = self._records.singles
        lines = {
            at: raw
            for at, (_, raw) in enumerate(self._records.origins)
            if isinstance(raw, bytes) and not isinstance(singles.get(at), Invalid)
        }
        text = b"\n".join([line.strip() for line in lines.values()])
        if (decoded := strict_objects(text, len(lines))) is not None:
            return {}, dict(zip(lines, decoded, strict=True))
        return {at: fault for at, line in lines.items() if (fault := _not_strict(line))}, {}

    def _valid(
        self, positions: Sequence[int], table: MappedTable, ids: _Ids, faults: _Faults
    ) -> dict[int, str]:
        """The valid rows of a table by position."""
        events = table.events
        if ids:
            own = zip(events.event_ids, positions, strict=True)
            events = events._replace(event_ids=[event_id or ids[at] for event_id, at in own])
        kept: Sequence[int] = range(len(positions))
        if table.odd or faults:
            kept = [n for n, at in enumerate(positions) if n not in table.odd and at not in faults]
            positions = [positions[n] for n in kept]
            events = events.take(kept)
        if not positions:
            return {}
        rows, valid = valid_rows(events)
        for name, missing in table.missing.items():
            self.missing_sources[name] += sum(kept[n] in missing for n in valid)
        return dict(zip([positions[n] for n in valid], rows, strict=True))

    def _input_rows(
        self, ids: _Ids, faults: _Faults, lines: Mapping[int, str]
    ) -> dict[int, InputRow]:
        """The rows that are in no line, mapped one by one, by position."""
        rows: dict[int, InputRow] = {}
        for at, (number, raw) in enumerate(self._records.origins):
            if at not in lines:
                fault = faults.get(at)
                rows[at] = self._input_row(number, raw, at, ids.get(at), fault)
        return rows

    def _input_row(
        self, number: int, raw: Any, at: int, event_id: str | None, fault: Invalid | None
    ) -> InputRow:
        row = self._records.row(at)
        if isinstance(row, Invalid):
            return InputRow(number, raw, _not_strict(raw) or row)
        if fault is not None:
            return InputRow(number, raw, fault)
        try:
            event = self._mapper(row, event_id)
        except Invalid as exc:
            return InputRow(number, raw, exc)
        return InputRow(number, raw, event, self._mapper.missing_fields(row, event))

    def _valid_singles(self, rows: Mapping[int, InputRow], validator: Validator) -> dict[int, str]:
        """Return the rows mapped one by one that are certainly valid, by position."""
        events = {at: row.event for at, row in rows.items() if isinstance(row.event, RawEvent)}
        if len(events) < _MIN_ROWS_OF_COLUMNS:
            return {}
        ids, users, names, times, properties = zip(*events.values(), strict=True)
        try:
            read = TimeColumns(ISO)(times, validator)
            lines, valid = valid_rows(EventColumns(ids, users, names, read, properties, False))
        except TypeError:  # a value that is an object
            return {}
        positions = [list(events)[n] for n in valid]
        for at in positions:
            self.missing_sources.update(rows[at].missing_sources)
        return dict(zip(positions, lines, strict=True))


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
