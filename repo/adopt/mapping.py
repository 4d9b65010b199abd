"""Which column of a table is which field of an event, and the SQL that says so."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from psycopg2 import sql
from psycopg2.sql import SQL as Text
from psycopg2.sql import Composable, Composed, Identifier
from psycopg2.sql import Literal as Value

from repo.adopt.moments import Epoch, Instant, by_rules, epoch_moment, local_moment
from repo.adopt.tables import SQL, CannotAdopt, Column, Table
from utils.zones import zone_names

_INTEGERS = {"int2", "int4", "int8"}
_NUMBERS = {*_INTEGERS, "numeric", "float4", "float8"}
_WITHOUT_ZONE = {"timestamp", "date"}
_MOMENTS = {"timestamptz", *_WITHOUT_ZONE}
# Whose text is the same in every session, whatever it has set.
_STEADY = {*_INTEGERS, "numeric", "uuid", "bool"}
_IN_JSON = {*_STEADY, *_NUMBERS, *_MOMENTS, "jsonb"}
_MOST_PROPERTIES = 50  # a function of PostgreSQL takes 100 arguments


@dataclass(frozen=True, slots=True)
class Map:
    """Columns by field; where `properties` are several, each is one of that name."""

    event_id: tuple[str, ...]
    event_name: str
    occurred_at: str
    user_id: str | None
    properties: str | None
    property_columns: tuple[str, ...]
    tz: str | None
    epoch: Epoch | None

    @property
    def columns(self) -> list[str]:
        """Those that are read, each once."""
        single = (self.event_name, self.occurred_at, self.user_id, self.properties)
        named = (*self.event_id, *single, *self.property_columns)
        return list(dict.fromkeys(name for name in named if name is not None))

    def as_json(self) -> dict[str, Any]:
        """As it is kept."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }


class Place(NamedTuple):
    """Where our own tables are, and what the table is called in ids."""

    home: str
    known_as: str


def make_map(
    table: Table,
    names: Mapping[str, str],
    *,
    property_columns: Sequence[str] = (),
    tz: str | None = None,
    epoch: Epoch | None = None,
) -> Map:
    """`names` are columns by field; a column that is called as a field need not be named.

    Raises: CannotAdopt.
    """
    found = {field: _column(table, names, field) for field in ("user_id", "properties")}
    moment = _needed(table, names, "occurred_at")
    made = Map(
        _event_id(table, names),
        _needed(table, names, "event_name"),
        moment,
        found["user_id"],
        found["properties"],
        tuple(_existing(table, name) for name in property_columns),
        tz if table.columns[moment].base in _WITHOUT_ZONE else None,
        epoch if table.columns[moment].base in _NUMBERS else None,
    )
    _check(table, made)
    return made


def remembered_map(table: Table, fields: Mapping[str, Any]) -> Map:
    """The map that was kept. Raises: CannotAdopt where one of its columns has gone."""
    kept: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
    }
    made = Map(**kept)
    for name in made.columns:
        _existing(table, name)
    if made.tz is not None and made.tz not in zone_names():
        raise CannotAdopt(f"tzdata has no zone {made.tz} any more: call adopt with another --tz")
    return made


def _existing(table: Table, name: str) -> str:
    if name not in table.columns:
        listed = ", ".join(table.columns)
        raise CannotAdopt(f"{table.name} has no column {name} that holds values; it has {listed}")
    return name


def _column(table: Table, names: Mapping[str, str], field: str) -> str | None:
    if field in names:
        return _existing(table, names[field])
    return field if field in table.columns else None


def _needed(table: Table, names: Mapping[str, str], field: str) -> str:
    if (column := _column(table, names, field)) is None:
        listed = ", ".join(table.columns)
        raise CannotAdopt(f"say which column is {field}: --map {field}=COLUMN, one of {listed}")
    return column


def _event_id(table: Table, names: Mapping[str, str]) -> tuple[str, ...]:
    """The primary key, unless a column is named."""
    if column := _column(table, names, "event_id"):
        return (column,)
    if not table.key:
        raise CannotAdopt(
            f"{table.name} has no primary key: say what tells its rows apart, --map event_id=COLUMN"
        )
    return table.key


def _check(table: Table, made: Map) -> None:
    for name in made.event_id:
        _check_type(table, name, "event_id", _STEADY | _MOMENTS)
    for field, column in (("event_name", made.event_name), ("user_id", made.user_id)):
        _check_type(table, column, field, _STEADY)
    _check_type(table, made.occurred_at, "occurred_at", _MOMENTS | _NUMBERS, texts=False)
    _check_type(table, made.properties, "properties", {"jsonb", "json"})
    for name in made.property_columns:
        _check_type(table, name, "properties", _IN_JSON)
    if len(made.property_columns) > _MOST_PROPERTIES:
        raise CannotAdopt(f"at most {_MOST_PROPERTIES} columns can be properties")
    _check_moment(table.columns[made.occurred_at], made)


def _check_type(
    table: Table, name: str | None, field: str, bases: set[str], *, texts: bool = True
) -> None:
    if name is None:
        return
    column = table.columns[name]
    # Texts and enums.
    if column.base not in bases and not (texts and column.category in "SE"):
        raise CannotAdopt(f"{name} is {column.shown_type}, which cannot be {field}")


def _check_moment(column: Column, made: Map) -> None:
    if column.base in _WITHOUT_ZONE and made.tz is None:
        raise CannotAdopt(f"{column.name} is {column.shown_type}: name its zone with --tz")
    if column.base in _NUMBERS and made.epoch is None:
        raise CannotAdopt(
            f"{column.name} is {column.shown_type}: say what it counts since 1970, "
            "--epoch s, ms or us"
        )


def mapped(
    table: Table, made: Map, place: Place, rows: Composable, instant: Instant | None = None
) -> Composed:
    """A query for these rows as events, with the reason why one cannot be; it takes no values.

    `instant` reads local times, unless the rules of their zone are to stand in the query.
    """
    return Text(SQL["adopt_mapped"]).format(
        key=_key_text(table, made),
        event_id=_event_id_of(table, made, place.known_as),
        user_id=Text("{}::text").format(_of_row(made.user_id)) if made.user_id else Text("''"),
        event_name=Text("{}::text").format(_of_row(made.event_name)),
        occurred_at=_moment(table, made, instant),
        moment=_of_row(made.occurred_at),
        properties=_properties(table, made, place.home),
        repeats=_repeats(table, made, place.home),
        conflict=_conflict(table, made, place.home),
        rows=rows,
    )


def shape(table: Table, made: Map) -> Composed:
    """Whether the columns of a row have the types that they had."""
    same = (
        Text("pg_typeof({}) = {}::regtype").format(_of_row(name), Value(table.columns[name].type))
        for name in made.columns
    )
    return Text(" and ").join(same)


def columns(names: Iterable[str]) -> Composed:
    return Text(", ").join(map(Identifier, names))


def _of_row(name: str) -> Composable:
    return Identifier("r", name)


def _key_text(table: Table, made: Map) -> Composable:
    texts = [_steady_text(table.columns[name]) for name in made.event_id]
    if len(texts) == 1:
        return texts[0]
    return Text("array[{}]::text").format(Text(", ").join(texts))


def _steady_text(column: Column) -> Composable:
    """Moments as seconds since 1970: their own text is another one in other zones."""
    steady = "extract(epoch from {})::text" if column.base in _MOMENTS else "{}::text"
    return Text(steady).format(_of_row(column.name))


def _event_id_of(table: Table, made: Map, known_as: str) -> Composable:
    if [table.columns[name].base for name in made.event_id] == ["uuid"]:
        return _of_row(made.event_id[0])
    hashed = Text("md5({} || {})::uuid")
    return hashed.format(Value(known_as + "/"), _key_text(table, made))


def _moment(table: Table, made: Map, instant: Instant | None) -> Composable:
    given = _of_row(table.columns[made.occurred_at].name)
    if made.epoch:
        return epoch_moment(given, made.epoch)
    if made.tz:
        return local_moment(given, instant or by_rules(made.tz))
    return given


def _properties(table: Table, made: Map, home: str) -> Composable:
    parts = [*_given_properties(table, made, home), *_built_properties(made)]
    return Text(" || ").join(parts) if parts else Text("'{}'::jsonb")


def _given_properties(table: Table, made: Map, home: str) -> list[Composable]:
    if made.properties is None:
        return []
    given = _of_row(made.properties)
    if table.columns[made.properties].base != "jsonb":
        given = _read_json(given, home)
    return [Text("coalesce(nullif({}, 'null'), '{{}}')").format(given)]


def _read_json(given: Composable, home: str) -> Composed:
    read = Identifier(home, "adopted_json")
    return Text("{}(nullif({}::text, ''))").format(read, given)


def _repeats(table: Table, made: Map, home: str) -> Composable:
    """Whether a key comes twice in properties; in `jsonb` none does."""
    if made.properties is None or table.columns[made.properties].base == "jsonb":
        return Text("false")
    given = _of_row(made.properties)
    text, read = Text("{}::text").format(given), _read_json(given, home)
    return Text(SQL["adopt_repeats"]).format(text=text, read=read)


def _conflict(table: Table, made: Map, home: str) -> Composable:
    """The name of a column that would replace another value in properties."""
    given, built = _given_properties(table, made, home), _built_properties(made)
    if not (given and built):
        return Text("null::text")
    return Text(SQL["adopt_conflict"]).format(given=given[0], built=built[0])


def _built_properties(made: Map) -> list[Composable]:
    if not made.property_columns:
        return []
    pairs = (part for name in made.property_columns for part in (Value(name), _of_row(name)))
    return [Text("jsonb_build_object({})").format(sql.SQL(", ").join(pairs))]
