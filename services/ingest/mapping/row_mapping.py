"""Makes events of the rows of a file."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Any

from msgspec import Raw

from services.ingest.json_paths import Path, source_of
from services.ingest.mapping.cell_types import CellType
from services.ingest.mapping.ids import RowNumbers, id_of_keys, id_of_row
from services.ingest.mapping.row_format import (
    MISSING,
    Row,
    RowFormat,
    check_object,
    children,
    encode,
    find,
    json_string,
    key_value_pairs,
    text_of,
    value_of,
)
from services.ingest.mapping.times import ISO, TimeReading
from services.ingest.validation import FIELDS, Invalid, RawEvent, as_json, json_text

Tree = dict[str, Any]
"""Keys that are used, each with a tree of those in its object, or None if it is used as a whole."""

_json_key = lru_cache(10_000)(json_string)


class Rest(Enum):
    """The use of values that no option names."""

    REFUSED = "refused"
    IGNORED = "ignored"
    PROPERTIES = "properties"


@dataclass(frozen=True, slots=True)
class Property:
    """A value that becomes a property."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RowMapping:
    """The sources of the values of an event."""

    format: RowFormat
    fields: Mapping[str, tuple[Path, ...]]
    constants: Mapping[str, str] = field(default_factory=dict)
    properties: tuple[Property, ...] = ()
    ignored: tuple[Path, ...] = ()
    rest: Rest = Rest.REFUSED
    id_paths: tuple[Path, ...] = ()
    has_optional_id: bool = False
    """Whether the ids of rows without a value at `id_paths` are derived from the whole row; equal
    ones of these count once."""
    has_late_ids: bool = False
    """Whether the first rows have no id, while later ones may have one: those without it get ids
    that are derived from the whole row."""
    reading: TimeReading = ISO
    nulls: frozenset[str] = frozenset()
    pairs: frozenset[Path] = frozenset()
    """Lists of objects with `key` and `value` that become objects."""
    texts: Mapping[str, CellType] = field(default_factory=dict)
    """The types of the columns of CSV."""
    counted: frozenset[str] = frozenset()
    """The fields for which rows without a source are counted."""

    @property
    def base(self) -> Path | None:
        """The path of the object whose keys become properties."""
        paths = self.fields.get("properties", ())
        return paths[0] if paths else None

    def ignores(self, name: str) -> bool:
        """Whether a column is left out."""
        if self.rest is not Rest.IGNORED:
            return (name,) in self.ignored
        used = (path for path in self.used_paths() if path not in self.ignored)
        return all(path[0] != name for path in (*used, *self.id_paths))

    def used_paths(self) -> Iterator[Path]:
        """The paths that are not left for the other properties."""
        yield from (each.path for each in self.properties)
        yield from self.ignored
        for name, paths in self.fields.items():
            # One of several sources is used: the others would be lost if they were no properties.
            if len(paths) == 1 or name == "properties" or self.rest is not Rest.PROPERTIES:
                yield from paths
        if self.rest is not Rest.PROPERTIES:
            yield from self.id_paths


class RowMapper:
    """Maps the rows of one file; equal rows of it are numbered."""

    def __init__(self, mapping: RowMapping) -> None:
        self.mapping = mapping
        paths = list(mapping.used_paths())
        self._paths = paths
        self._trees: dict[tuple[Path, ...], Tree] = {}
        base = mapping.base
        inside = [path for path in paths if base is not None and _is_inside(path, base)]
        self._base_tree = tree_of([path[len(base or ()) :] for path in inside])
        self._numbers = RowNumbers()
        has_ids = "event_id" in mapping.fields and not mapping.has_late_ids
        self.numbers_rows = not mapping.id_paths and not has_ids
        """Whether the ids are made of whole rows, and of their numbers among equal rows."""
        self.counted = {
            name: mapping.fields[name]
            for name in FIELDS
            if name in mapping.fields and name in mapping.counted - mapping.constants.keys()
        }

    def __call__(self, row: Row, event_id: str | None = None) -> RawEvent:
        """The event of a row, before validation; `event_id` is that of a row without one.

        Raises: Invalid.
        """
        used: list[Path] = []
        user_id = self._field("user_id", row, used)
        name = self._field("event_name", row, used)
        occurred_at = self._field("occurred_at", row, used)
        return RawEvent(
            self._event_id(row, name, event_id),
            user_id,
            name,
            None if occurred_at is None else self.mapping.reading.read(occurred_at),
            self._properties(row, used),
        )

    def missing_fields(self, row: Row, event: RawEvent) -> tuple[str, ...]:
        """The fields of which the row has no source."""
        return tuple(
            name
            for name, paths in self.counted.items()
            if getattr(event, name) in (None, "{}")
            and all(find(row, path) is MISSING for path in paths)
        )

    def _field(self, name: str, row: Row, used: list[Path]) -> Any:
        """The value of a field; its path is added to `used`."""
        for path in self.mapping.fields.get(name, ()):
            value = row.get(path[0], MISSING) if len(path) == 1 else find(row, path)
            if value is not MISSING:
                value = value_of(value)
                if not self._is_null(value):
                    used.append(path)
                    return value
        return self.mapping.constants.get(name)

    def _is_null(self, value: Any) -> bool:
        return (
            value is None or value == "" or (isinstance(value, str) and value in self.mapping.nulls)
        )

    def _event_id(self, row: Row, name: Any, derived: str | None) -> Any:
        if self.mapping.id_paths:
            return self._derived_id(row, name)
        own = self._field("event_id", row, [])
        if own is not None or not self.numbers_rows:
            return own
        return derived or self.ids_of([id_text(name, self.mapping.format.canonical(row))])[0]

    def id_text(self, row: Row) -> bytes:
        """The text that identifies a row."""
        return id_text(self._field("event_name", row, []), self.mapping.format.canonical(row))

    def ids_of(self, texts: Iterable[bytes]) -> list[str]:
        """The ids of the next rows of the file, which are identified by these texts."""
        return self._numbers.ids_of(texts)

    def _derived_id(self, row: Row, name: Any) -> str:
        values = [find(row, path) for path in self.mapping.id_paths]
        texts = [None if value is MISSING else self._id_text(value_of(value)) for value in values]
        if not any(texts) and self.mapping.has_optional_id:
            return id_of_row(id_text(name, self.mapping.format.canonical(row)))
        if not any(texts):
            sources = ", ".join(map(source_of, self.mapping.id_paths))
            raise Invalid(f"event_id is missing: the row has no {sources}")
        return id_of_keys(str(name), list(map(source_of, self.mapping.id_paths)), texts)

    def _id_text(self, value: Any) -> str | None:
        return None if self._is_null(value) else str(value)

    def _properties(self, row: Row, used: list[Path]) -> str:
        texts = self._base(row)
        rest = self._rest(row, self._tree_without(tuple(used)))
        if not (texts or self.mapping.properties):
            return _object_text(rest)
        if isinstance(texts, str):
            if not (self.mapping.properties or rest):
                return texts
            texts = self._base_texts(texts)
        for each in self.mapping.properties:
            text = self._text_at(row, each.path)
            if text is not None:
                _add(texts, each.name, text)
        for name, text in rest.items():
            _add(texts, name, text)
        return _object_text(texts)

    def _tree_without(self, used: tuple[Path, ...]) -> Tree:
        """The paths that are no other properties: of several sources of a field, the used one."""
        if (tree := self._trees.get(used)) is None:
            tree = self._trees[used] = tree_of([*self._paths, *used])
        return tree

    def _base(self, row: Row) -> dict[str, str] | str:
        """The properties of the mapped object, as its own text if nothing of it is left out."""
        base = self.mapping.base
        value = MISSING if base is None else find(row, base)
        if value is MISSING:
            return {}
        if not self._base_tree and isinstance(value, Raw) and bytes(value).startswith(b"{"):
            return text_of(value)
        inner = value if isinstance(value, Raw) and self._base_tree else value_of(value)
        if self._is_null(value_of(value)):
            return {}
        if base in self.mapping.pairs and isinstance(pairs := value_of(value), list):
            return {key: json_text(each) for key, each in key_value_pairs(pairs).items()}
        if self._base_tree:
            return self._base_texts(inner)
        if not isinstance(inner, str):
            return as_json(inner)
        if isinstance(value, Raw):  # a text within JSON, which is checked without what is in texts
            check_object(inner)
        return inner

    def _base_texts(self, value: Any) -> dict[str, str]:
        """The texts of the properties that are left. Raises: Invalid."""
        if (inner := children(value)) is None:
            check_object(value_of(value))
            raise Invalid("properties must be an object")
        return self._left(inner, self._base_tree)

    def _rest(self, row: Row, tree: Tree) -> dict[str, str]:
        """The JSON texts of the values that no option names. Raises: Invalid."""
        if self.mapping.rest is Rest.IGNORED:
            return {}
        rest: dict[str, str] = {}
        for key, value in row.items():
            if key not in tree:
                text = self._text(value, key)
            elif tree[key] is None:
                continue
            else:
                text = self._left_inside(value, tree[key])
            if text is not None:
                rest[key] = text
        if rest and self.mapping.rest is Rest.REFUSED:
            raise Invalid(_unmapped(next(unused_paths(row, tree))))
        return rest

    def _left(self, values: Mapping[str, Any], tree: Tree) -> dict[str, str]:
        """The JSON texts of the values of an object outside of a tree, by key."""
        left: dict[str, str] = {}
        for key, value in values.items():
            if key not in tree:
                left[key] = text_of(value)
            elif tree[key] is not None and (text := self._left_inside(value, tree[key])):
                left[key] = text
        return left

    def _left_inside(self, value: Any, tree: Tree) -> str | None:
        inner = children(value)
        if inner is not None:
            texts = self._left(inner, tree)
            return _object_text(texts) if texts else None
        return None if self._is_null(value_of(value)) else text_of(value)

    def _text(self, value: Any, key: str) -> str | None:
        """The JSON text of a column or key of the row; None without a value."""
        if self._is_left_out(value):
            return None
        if self.mapping.pairs and (key,) in self.mapping.pairs:
            pairs = value_of(value)
            return json_text(key_value_pairs(pairs) if isinstance(pairs, list) else pairs)
        return self.mapping.texts.get(key, text_of)(value)

    def _is_left_out(self, value: Any) -> bool:
        """Whether a value is no property. In JSON, null and the empty text are properties."""
        if self.mapping.format.omits_empty:
            return self._is_null(value_of(value))
        text = value_of(value) if self.mapping.nulls else None
        return isinstance(text, str) and text in self.mapping.nulls

    def _text_at(self, row: Row, path: Path) -> str | None:
        """The JSON text of a source; None without a value."""
        value = find(row, path)
        if value is MISSING:
            return None
        if len(path) == 1:
            return self._text(value, path[0])
        return None if self._is_left_out(value) else text_of(value)


def id_text(name: Any, canonical: bytes) -> bytes:
    """The text that identifies a row: the name of the event, and the row."""
    return encode(str(name)) + canonical


def tree_of(paths: list[Path]) -> Tree:
    """The tree of paths; one that is used as a whole hides those inside it."""
    tree: Tree = {}
    for path in sorted(paths, key=len, reverse=True):
        level = tree
        for key in path[:-1]:
            level = level.setdefault(key, {})
        level[path[-1]] = None
    return tree


def unused_paths(values: Mapping[str, Any], tree: Tree, above: Path = ()) -> Iterator[Path]:
    """The paths of values outside of a tree: of an object without a used value, its own path."""
    for key, value in values.items():
        path = (*above, key)
        if key not in tree:
            yield path
        elif isinstance(tree[key], dict):
            inner = children(value)
            if inner is not None:
                yield from unused_paths(inner, tree[key], path)
            elif value_of(value) is not None:
                yield path


def _is_inside(path: Path, base: Path) -> bool:
    return len(path) > len(base) and path[: len(base)] == base


def _unmapped(path: Path) -> str:
    source = source_of(path) or '""'
    return f"{source} is not mapped: add --property {source} or --ignore {source}"


def _add(texts: dict[str, str], name: str, text: str) -> None:
    if texts.setdefault(name, text) != text:
        raise Invalid(f"properties has {name} twice: use --property SOURCE=NAME for another name")


def _object_text(texts: Mapping[str, str]) -> str:
    return "{" + ",".join(f"{_json_key(name)}:{text}" for name, text in texts.items()) + "}"
