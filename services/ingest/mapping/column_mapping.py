"""Makes events of tables of rows, column by column, as `RowMapper` does row by row."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from services.ingest.column_validation import EventColumns
from services.ingest.json_paths import Path, source_of
from services.ingest.mapping.ids import id_of_keys
from services.ingest.mapping.row_format import decode_raw
from services.ingest.mapping.row_mapping import Rest, RowMapper, tree_of
from services.ingest.mapping.tables import Fragments, Table, object_texts
from services.ingest.mapping.time_columns import TimeColumns
from services.ingest.validation import Invalid, Validator

_UNREADABLE = (TypeError, ValueError, Invalid, msgspec.MsgspecError, RecursionError)
_Used = dict[Path, set[int]]
"""The rows in which the value at a path is that of a field."""
_Members = list[tuple[str, Fragments]]


class MappedTable(NamedTuple):
    """The events of a table. Rows in `odd` are mapped one by one; their values mean nothing."""

    events: EventColumns
    odd: set[int]
    missing: Mapping[str, set[int]]
    """The rows without a source of a field, by field."""


class ColumnMapper:
    """Maps tables of the rows of one file."""

    def __init__(self, mapper: RowMapper) -> None:
        mapping = mapper.mapping
        self._counted = mapper.counted
        self._mapping = mapping
        self._nulls = {None, "", *mapping.nulls}
        self._times = TimeColumns(mapping.reading)
        self._paths = list(mapping.used_paths())
        self._tree = tree_of(self._paths)
        base = mapping.base or ()
        inside = [path[len(base) :] for path in self._paths if path[: len(base)] == base]
        self._base_tree = tree_of([path for path in inside if path]) if base else {}
        self._id_sources = list(map(source_of, mapping.id_paths))

    def paths(self) -> Iterable[Path]:
        """All paths that are used in any row."""
        for paths in self._mapping.fields.values():
            yield from paths
        yield from self._paths
        yield from self._mapping.id_paths

    def __call__(self, table: Table, validator: Validator) -> MappedTable | None:
        """The events of a table; None if all rows have to be mapped one by one."""
        try:
            return self._map(table, validator)
        except _UNREADABLE:
            return None

    def _map(self, table: Table, validator: Validator) -> MappedTable:
        used: _Used = {}
        users = self._field("user_id", table, used)
        names = self._field("event_name", table, used)
        times = self._times(self._field("occurred_at", table, used), validator)
        properties = self._properties(table, used)
        ids = self._ids(table, names)
        table.odd.update(at for at, time in enumerate(times) if time is None)
        missing = {
            name: _without(users if name == "user_id" else properties)
            for name, paths in self._counted.items()
            if name in ("user_id", "properties") and not any(map(table.has, paths))
        }
        events = EventColumns(ids, users, names, times, properties, table.is_strict)
        return MappedTable(events, table.odd, missing)

    def _field(self, name: str, table: Table, used: _Used) -> Sequence[Any]:
        """The values of a field: for each row, that of the first source with a value."""
        result: list[Any] = [self._mapping.constants.get(name)] * len(table)
        missing: Sequence[int] = range(len(table))
        for path in filter(table.has, self._mapping.fields.get(name, ())):
            values = table.times(path) if name == "occurred_at" else table.values(path)
            present = used.setdefault(path, set())
            if len(missing) == len(table) and self._nulls.isdisjoint(values):
                present.update(missing)
                return values
            for at in missing:
                if values[at] not in self._nulls:
                    result[at] = values[at]
                    present.add(at)
            missing = [at for at in missing if values[at] in self._nulls]
        return result

    def _ids(self, table: Table, names: Sequence[Any]) -> Sequence[Any]:
        if self._mapping.id_paths:
            keys = [self._key_texts(table, path) for path in self._mapping.id_paths]
            return [
                id_of_keys(str(name), self._id_sources, texts) if any(texts) else None
                for name, *texts in zip(names, *keys, strict=True)
            ]
        return self._field("event_id", table, {})

    def _key_texts(self, table: Table, path: Path) -> Fragments:
        if not table.has(path):
            return [None] * len(table)
        return [None if value in self._nulls else str(value) for value in table.values(path)]

    def _properties(self, table: Table, used: _Used) -> Fragments:
        members: _Members = [
            (each.name, table.texts(each.path))
            for each in self._mapping.properties
            if table.has(each.path)
        ]
        members += self._rest(table, used)
        names = [name for name, _ in members]
        if len(set(names)) < len(names):
            raise Invalid("two properties have the same name")
        base = self._base(table)
        if base is None:
            return object_texts(members, len(table))
        return _merged(base, members, table.odd) if members else [text or "{}" for text in base]

    def _base(self, table: Table) -> Fragments | None:
        """The objects whose keys become properties; None without any."""
        base = self._mapping.base
        if base is None or not table.has(base):
            return None
        if self._base_tree:
            return table.left_texts(base, self._base_tree)
        return table.base_texts(base)

    def _rest(self, table: Table, used: _Used) -> _Members:
        """The values that no option names. Rows that must not have any are odd."""
        if self._mapping.rest is Rest.IGNORED:
            return []
        members = [
            (name, texts)
            for name in table.names
            if (texts := self._rest_texts(name, table, used)) is not None
        ]
        if self._mapping.rest is Rest.PROPERTIES:
            return members
        for _, texts in members:
            table.odd.update(at for at, text in enumerate(texts) if text is not None)
        return []

    def _rest_texts(self, name: str, table: Table, used: _Used) -> Fragments | None:
        """Return the values of a column without those that are used as fields."""
        sources = [path for path in used if path[0] == name and path not in self._paths]
        texts = self._left(name, table, self._tree)
        if texts is None or not any(used[path] for path in sources):
            return texts
        left, changed = list(texts), set[int]()
        for path in sources:
            others = self._left(name, table, tree_of([*self._paths, path]))
            table.odd |= changed & used[path]
            changed |= used[path]
            for at in used[path]:
                left[at] = None if others is None else others[at]
        return left

    def _left(self, name: str, table: Table, tree: Mapping[str, Any]) -> Fragments | None:
        if name not in tree:
            return table.texts((name,))
        return None if tree[name] is None else table.left_texts((name,), tree[name])


def _merged(base: Fragments, members: _Members, odd: set[int]) -> list[str]:
    """Objects with the keys of both. Rows in which these may be the same are odd."""
    names = {name for name, _ in members}
    texts = object_texts(members, len(base))
    for at, text in enumerate(base):
        if text is None:
            continue
        if texts[at] == "{}":
            texts[at] = text
            continue
        keys = _keys(text)
        if keys is None or not names.isdisjoint(keys):
            odd.add(at)
        elif keys:
            texts[at] = text.strip()[:-1] + "," + texts[at][1:]
    return texts


def _keys(text: str) -> Iterable[str] | None:
    """The keys of an object; None if the text is no object."""
    try:
        return decode_raw(text).keys()
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        return None


def _without(values: Sequence[Any]) -> set[int]:
    return {at for at, value in enumerate(values) if value in (None, "{}")}
