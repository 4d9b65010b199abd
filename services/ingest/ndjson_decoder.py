"""Decoder type for lines of NDJSON, generated from the column mapping of a file."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from services.ingest.input_rows import ColumnMapping, UnreadableInput
from services.ingest.json_paths import Path, path_of, source_of
from services.ingest.validation import FIELDS

ABSENT = msgspec.Raw(b"{}")  # the default of `properties`; compare with `is`

_TYPES: Mapping[str, Any] = {
    "event_id": str | None,
    "user_id": str | int | float | None,
    "event_name": str | None,
    "occurred_at": str | None,
}


class LineShape:
    """The msgspec struct of a line, and the attribute path of each field in it."""

    def __init__(self, columns: ColumnMapping) -> None:
        """Raises: UnreadableInput, if the mapping is contradictory."""
        fields = {field: _path(columns.of(field), field in columns.names) for field in FIELDS}
        ignored = [_path(source, True) for source in columns.ignored]
        self.mapped = {field: fields[field] for field in columns.names}
        """The paths of the fields that `--map` names."""
        leaves: dict[Path, tuple[Any, Any]] = dict.fromkeys(ignored, (msgspec.Raw, ABSENT))
        for field, path in fields.items():
            leaves[path] = _leaf(field, field in columns.names)
        self._attribute_paths: dict[Path, str] = {}
        self.keys = len(FIELDS) - 1
        """The number of keys in a line with all text fields, but without properties."""
        self.type = self._struct(leaves, (), "")
        self.attributes = [self._attribute_paths[path] for path in (*fields.values(), *ignored)]

    def values_of(self, line: Any) -> list[Any]:
        """The values of the fields in a decoded line; UNSET for those that it lacks."""
        return [_value(line, attribute) for attribute in self.attributes[: len(FIELDS)]]

    def _struct(self, leaves: Mapping[Path, tuple[Any, Any]], above: Path, prefix: str) -> Any:
        fields: list[tuple[str, Any, Any]] = []
        names: dict[str, str] = {}
        for number, key in enumerate(dict.fromkeys(path[0] for path in leaves)):
            attribute = f"f{number}"
            below = {path[1:]: leaf for path, leaf in leaves.items() if path[0] == key}
            attribute_path = prefix + attribute
            fields.append((attribute, *self._node(below, (*above, key), attribute_path)))
            names[attribute] = key
        try:
            return msgspec.defstruct(
                "Line", fields, rename=names, forbid_unknown_fields=True, gc=False
            )
        except ValueError:
            message = "keys with quotes, backslashes or control characters cannot be mapped"
            raise UnreadableInput(message) from None

    def _node(
        self, below: Mapping[Path, tuple[Any, Any]], path: Path, attribute_path: str
    ) -> tuple[Any, Any]:
        """The type and the default of a struct field."""
        if () not in below:
            self.keys += 1
            return self._struct(below, path, attribute_path + ".") | None | UnsetType, UNSET
        if len(below) > 1:
            raise UnreadableInput(f"{source_of(path)} is mapped as a whole, and so are keys in it")
        self._attribute_paths[path] = attribute_path
        return below[()]


def _path(source: str, is_mapped: bool) -> Path:
    """The path of a field; the name of an unmapped field is one key. Raises: UnreadableInput."""
    if not is_mapped:
        return (source,)
    try:
        return path_of(source)
    except ValueError as exc:
        raise UnreadableInput(str(exc)) from None


def _leaf(field: str, is_mapped: bool) -> tuple[Any, Any]:
    """The type and the default of a field."""
    # Mapped fields default to UNSET, which tells a missing key from null: it is counted and
    # reported.
    if field == "properties":
        return (msgspec.Raw | UnsetType, UNSET) if is_mapped else (msgspec.Raw, ABSENT)
    return (_TYPES[field] | UnsetType, UNSET) if is_mapped else (_TYPES[field], None)


def _value(line: Any, attribute: str) -> Any:
    for name in attribute.split("."):
        if line is None or line is UNSET:
            return UNSET
        line = getattr(line, name)
    return line
