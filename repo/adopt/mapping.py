"""Map the columns of a table to the fields of an event, and build the SQL of the mapping."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from psycopg2 import sql
from psycopg2.sql import SQL as Text
from psycopg2.sql import Composable, Composed, Identifier
from psycopg2.sql import Literal as Value

from repo.adopt.catalog import SQL, CannotAdopt, Column, Table
from repo.adopt.timestamps import Instant, by_rules, epoch_instant, local_instant
from utils.time.epochs import Epoch
from utils.time.zones import zone_names

_INTEGERS = {"int2", "int4", "int8"}
_NUMBERS = {*_INTEGERS, "numeric", "float4", "float8"}
_WITHOUT_ZONE = {"timestamp", "date"}
_TIME_TYPES = {"timestamptz", *_WITHOUT_ZONE}
# Types whose text does not depend on settings of the session, so that it can be part of an id.
_STABLE_TEXT = {*_INTEGERS, "numeric", "uuid", "bool"}
_JSON_TYPES = {*_STABLE_TEXT, *_NUMBERS, *_TIME_TYPES, "jsonb"}
_MAX_PROPERTIES = 50  # a function of PostgreSQL takes 100 arguments
_MAX_BYTES = {"event_name": 200, "user_id": 256}
ALL = "*"
"""The name that stands for all columns that are not used otherwise."""

CONSTANT_FIELDS = tuple(_MAX_BYTES)
"""The fields that may have a constant."""


@dataclass(frozen=True, slots=True)
class TableMapping:
    """The column of each field; each of `property_columns` becomes a property."""

    event_id: tuple[str, ...]
    event_name: str | None
    occurred_at: str
    user_id: str | None
    properties: str | None
    property_columns: tuple[str, ...]
    tz: str | None
    epoch: Epoch | None
    constants: Mapping[str, str] = field(default_factory=dict)
    """The values of fields in rows in which no column has one."""
    property_names: Mapping[str, str] = field(default_factory=dict)
    """The names of properties that differ from those of their columns."""

    @property
    def columns(self) -> list[str]:
        """The columns that are read, each once."""
        single = (self.event_name, self.occurred_at, self.user_id, self.properties)
        named = (*self.event_id, *single, *self.property_columns)
        return list(dict.fromkeys(name for name in named if name is not None))

    def as_json(self) -> dict[str, Any]:
        """Return the mapping as it is stored."""
        fields = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }
        # Mappings of older versions, which lack these, stay equal to the same options.
        return {name: value for name, value in fields.items() if value != {}}


class AdoptionNames(NamedTuple):
    """The schema of the service's own tables, and the name of the table in ids of events."""

    own_schema: str
    original_name: str


def make_mapping(
    table: Table,
    names: Mapping[str, str],
    *,
    constants: Mapping[str, str] | None = None,
    properties: Mapping[str, str | None] | None = None,
    ignored: Sequence[str] = (),
    tz: str | None = None,
    epoch: Epoch | None = None,
) -> TableMapping:
    """Return the mapping of a table; `names` are columns by field.

    A field without a name is the column of its own name. `properties` are the names of properties
    by column, None for that of the column; the column ALL is all that are neither used otherwise
    nor `ignored`. Raises: CannotAdopt.
    """
    constants, properties = constants or {}, properties or {}
    optional = {name: _column(table, names, name) for name in ("user_id", "properties")}
    time_column = _required_field(table, names, "occurred_at")
    mapping = TableMapping(
        _event_id_columns(table, names),
        _event_name_column(table, names, constants),
        time_column,
        optional["user_id"],
        optional["properties"],
        tuple(_require_column(table, name) for name in properties if name != ALL),
        tz if table.columns[time_column].base in _WITHOUT_ZONE else None,
        epoch if table.columns[time_column].base in _NUMBERS else None,
        dict(constants),
        {column: name for column, name in properties.items() if name and name != column},
    )
    unused = _unused_columns(table, mapping, ignored)
    if ALL in properties:
        all_columns = (*mapping.property_columns, *unused)
        mapping = replace(mapping, property_columns=all_columns)
    _check(table, mapping)
    return mapping


def _unused_columns(table: Table, mapping: TableMapping, ignored: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that are neither read nor ignored. Raises: CannotAdopt."""
    left_out = {*mapping.columns, *(_require_column(table, name) for name in ignored)}
    if used := sorted(set(mapping.columns) & set(ignored)):
        raise CannotAdopt(f"--ignore: {', '.join(used)} is the source of a field or property")
    return tuple(name for name in table.columns if name not in left_out)


def _event_name_column(
    table: Table, names: Mapping[str, str], constants: Mapping[str, str]
) -> str | None:
    """Return the column; None if there is none but a constant. Raises: CannotAdopt."""
    if "event_name" in constants:
        return _column(table, names, "event_name")
    return _required_field(table, names, "event_name")


def stored_mapping(table: Table, fields: Mapping[str, Any]) -> TableMapping:
    """Return a stored mapping. Raises: CannotAdopt if a column or the zone no longer exists."""
    stored: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
    }
    mapping = TableMapping(**stored)
    for name in mapping.columns:
        _require_column(table, name)
    if mapping.tz is not None and mapping.tz not in zone_names():
        raise CannotAdopt(f"tzdata has no zone {mapping.tz} any more: run adopt with another --tz")
    return mapping


def _require_column(table: Table, name: str) -> str:
    if name not in table.columns:
        listed = ", ".join(table.columns)
        raise CannotAdopt(f"{table.name} has no stored column {name}; it has {listed}")
    return name


def _column(table: Table, names: Mapping[str, str], field: str) -> str | None:
    if field in names:
        return _require_column(table, names[field])
    return field if field in table.columns else None


def _required_field(table: Table, names: Mapping[str, str], field: str) -> str:
    if (column := _column(table, names, field)) is None:
        listed = ", ".join(table.columns)
        constant = f", or --set {field}=VALUE" if field in CONSTANT_FIELDS else ""
        raise CannotAdopt(
            f"no column is named {field}: add --map {field}=COLUMN, one of {listed}{constant}"
        )
    return column


def _event_id_columns(table: Table, names: Mapping[str, str]) -> tuple[str, ...]:
    """Return the named column, or else the primary key. Raises: CannotAdopt."""
    if column := _column(table, names, "event_id"):
        return (column,)
    if not table.key:
        raise CannotAdopt(
            f"{table.name} has no primary key: name a unique column with --map event_id=COLUMN"
        )
    return table.key


def _check(table: Table, mapping: TableMapping) -> None:
    for name in mapping.event_id:
        _check_type(table, name, "event_id", _STABLE_TEXT | _TIME_TYPES)
    for name, column in (("event_name", mapping.event_name), ("user_id", mapping.user_id)):
        _check_type(table, column, name, _STABLE_TEXT)
    _check_type(table, mapping.occurred_at, "occurred_at", _TIME_TYPES | _NUMBERS, texts=False)
    _check_type(table, mapping.properties, "properties", {"jsonb", "json"})
    for name in mapping.property_columns:
        _check_type(table, name, "properties", _JSON_TYPES)
    _check_properties(mapping)
    _check_constants(mapping)
    _check_time(table.columns[mapping.occurred_at], mapping)


def _check_properties(mapping: TableMapping) -> None:
    if len(mapping.property_columns) > _MAX_PROPERTIES:
        raise CannotAdopt(f"at most {_MAX_PROPERTIES} columns can be properties")
    names = [_property_name(mapping, column) for column in mapping.property_columns]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise CannotAdopt(f"two columns would be the property {twice[0]}: name one COLUMN=NAME")


def _property_name(mapping: TableMapping, column: str) -> str:
    return mapping.property_names.get(column, column)


def _check_constants(mapping: TableMapping) -> None:
    for name, text in mapping.constants.items():
        max_bytes = _MAX_BYTES[name]
        if len(text.encode()) > max_bytes:
            raise CannotAdopt(f"{name} of --set must be at most {max_bytes} bytes long")


def _check_type(
    table: Table, name: str | None, field: str, bases: set[str], *, texts: bool = True
) -> None:
    if name is None:
        return
    column = table.columns[name]
    # Categories of pg_type: S is text, E an enum.
    if column.base not in bases and not (texts and column.category in "SE"):
        raise CannotAdopt(f"{name} is {column.display_type}, which cannot be {field}")


def _check_time(column: Column, mapping: TableMapping) -> None:
    if column.base in _WITHOUT_ZONE and mapping.tz is None:
        raise CannotAdopt(f"{column.name} is {column.display_type}: name its time zone with --tz")
    if column.base in _NUMBERS and mapping.epoch is None:
        raise CannotAdopt(
            f"{column.name} is {column.display_type}: name its unit since 1970 with --epoch s, ms, "
            "us or ns"
        )


def mapped_rows(
    table: Table,
    mapping: TableMapping,
    names: AdoptionNames,
    rows: Composable,
    instant: Instant | None = None,
) -> Composed:
    """Return a query without parameters for rows as events, or with the reason of a rejection.

    `instant` converts local times; by default, the rules of the zone are part of the query.
    """
    # No expression may fail, whatever a row holds: the trigger runs it in the platform's
    # transaction.
    return Text(SQL["adopt_mapped"]).format(
        key=_key_text(table, mapping),
        event_id=_event_id_sql(table, mapping, names.original_name),
        user_id=_text_field(mapping.user_id, mapping.constants.get("user_id")),
        event_name=_text_field(mapping.event_name, mapping.constants.get("event_name")),
        occurred_at=_occurred_at(table, mapping, instant),
        time_column=_row_column(mapping.occurred_at),
        properties=_properties_sql(table, mapping, names.own_schema),
        has_repeated_key=_has_repeated_key(table, mapping, names.own_schema),
        conflict=_conflicting_column(table, mapping, names.own_schema),
        rows=rows,
    )


def types_unchanged(table: Table, mapping: TableMapping) -> Composed:
    """Return a condition that the columns of a row still have the same types."""
    conditions = (
        Text("pg_typeof({}) = {}::regtype").format(
            _row_column(name), Value(table.columns[name].type)
        )
        for name in mapping.columns
    )
    return Text(" and ").join(conditions)


def columns(names: Iterable[str]) -> Composed:
    """Return quoted names, separated by commas."""
    return Text(", ").join(map(Identifier, names))


def _text_field(column: str | None, constant: str | None) -> Composable:
    """Return an expression for the text of a column, or else the constant."""
    if column is None:
        return Text("{}::text").format(Value(constant or ""))
    text = Text("{}::text").format(_row_column(column))
    if constant is None:
        return text
    return Text("coalesce(nullif({}, ''), {})").format(text, Value(constant))


def _row_column(name: str) -> Composable:
    return Identifier("r", name)


def _key_text(table: Table, mapping: TableMapping) -> Composable:
    texts = [_stable_text(table.columns[name]) for name in mapping.event_id]
    if len(texts) == 1:
        return texts[0]
    return Text("array[{}]::text").format(Text(", ").join(texts))


def _stable_text(column: Column) -> Composable:
    # Times as seconds since 1970, since their text depends on the zone of the session.
    template = "extract(epoch from {})::text" if column.base in _TIME_TYPES else "{}::text"
    return Text(template).format(_row_column(column.name))


def _event_id_sql(table: Table, mapping: TableMapping, original_name: str) -> Composable:
    if [table.columns[name].base for name in mapping.event_id] == ["uuid"]:
        return _row_column(mapping.event_id[0])
    # The name of the table is part of the hash: rows of two tables may have the same key.
    hashed = Text("md5({} || {})::uuid")
    return hashed.format(Value(original_name + "/"), _key_text(table, mapping))


def _occurred_at(table: Table, mapping: TableMapping, instant: Instant | None) -> Composable:
    column = _row_column(table.columns[mapping.occurred_at].name)
    if mapping.epoch:
        return epoch_instant(column, mapping.epoch)
    if mapping.tz:
        return local_instant(column, instant or by_rules(mapping.tz))
    return column


def _properties_sql(table: Table, mapping: TableMapping, own_schema: str) -> Composable:
    parts = [*_properties_column(table, mapping, own_schema), *_built_properties(mapping)]
    return Text(" || ").join(parts) if parts else Text("'{}'::jsonb")


def _properties_column(table: Table, mapping: TableMapping, own_schema: str) -> list[Composable]:
    if mapping.properties is None:
        return []
    column = _row_column(mapping.properties)
    if table.columns[mapping.properties].base != "jsonb":
        column = _read_json(column, own_schema)
    # No properties are stored for null, be it that of SQL or of JSON.
    return [Text("coalesce(nullif({}, 'null'), '{{}}')").format(column)]


def _read_json(column: Composable, own_schema: str) -> Composed:
    function = Identifier(own_schema, "adopted_json")
    return Text("{}(nullif({}::text, ''))").format(function, column)


def _has_repeated_key(table: Table, mapping: TableMapping, own_schema: str) -> Composable:
    """Return a condition that a key occurs twice in properties, which `jsonb` rules out."""
    if mapping.properties is None or table.columns[mapping.properties].base == "jsonb":
        return Text("false")
    column = _row_column(mapping.properties)
    text, parsed = Text("{}::text").format(column), _read_json(column, own_schema)
    return Text(SQL["adopt_has_repeated_key"]).format(text=text, parsed=parsed)


def _conflicting_column(table: Table, mapping: TableMapping, own_schema: str) -> Composable:
    """Return an expression for the name of a column that would overwrite a property."""
    existing, built = _properties_column(table, mapping, own_schema), _built_properties(mapping)
    if not (existing and built):
        return Text("null::text")
    return Text(SQL["adopt_conflict"]).format(from_properties=existing[0], from_columns=built[0])


def _built_properties(mapping: TableMapping) -> list[Composable]:
    if not mapping.property_columns:
        return []
    pairs = (
        part
        for column in mapping.property_columns
        for part in (Value(_property_name(mapping, column)), _row_column(column))
    )
    return [Text("jsonb_build_object({})").format(sql.SQL(", ").join(pairs))]
