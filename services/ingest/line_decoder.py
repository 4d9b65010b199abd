"""What a line of NDJSON may hold, under the names that the file uses."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from services.ingest.key_paths import Path, path_of, source_of
from services.ingest.rows import ColumnMapping, UnreadableInput
from services.ingest.validation import FIELDS

ABSENT = msgspec.Raw(b"{}")
"""What stands for an object that is not there."""

_TYPES: Mapping[str, Any] = {
    "event_id": str | None,
    "user_id": str | int | None,
    "event_name": str | None,
    "occurred_at": str | None,
}


class LineShape:
    """The struct of a line, and where in it each field stands."""

    def __init__(self, columns: ColumnMapping) -> None:
        """Raises: Unreadable."""
        fields = {field: _path(columns.of(field), field in columns.names) for field in FIELDS}
        ignored = [_path(source, True) for source in columns.ignored]
        self.mapped = {field: fields[field] for field in columns.names}
        """Where `--map` says that fields are."""
        leaves: dict[Path, tuple[Any, Any]] = dict.fromkeys(ignored, (msgspec.Raw, ABSENT))
        for field, path in fields.items():
            leaves[path] = _leaf(field, field in columns.names)
        self._attribute_paths: dict[Path, str] = {}
        self.keys = len(FIELDS) - 1
        """Of a line that has all texts; properties and what is ignored are not among them."""
        self.type = self._struct(leaves, (), "")
        self.attributes = [self._attribute_paths[path] for path in (*fields.values(), *ignored)]

    def values_of(self, line: Any) -> list[Any]:
        """The fields; UNSET where there are none."""
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
            message = "keys with quotes, backslashes or control characters cannot be named"
            raise UnreadableInput(message) from None

    def _node(
        self, below: Mapping[Path, tuple[Any, Any]], path: Path, attribute_path: str
    ) -> tuple[Any, Any]:
        """Type and default."""
        if () not in below:
            self.keys += 1
            return self._struct(below, path, attribute_path + ".") | None | UnsetType, UNSET
        if len(below) > 1:
            raise UnreadableInput(f"{source_of(path)} is used as a whole, and so are parts of it")
        self._attribute_paths[path] = attribute_path
        return below[()]


def _path(source: str, is_mapped: bool) -> Path:
    """Raises: Unreadable."""
    if not is_mapped:
        return (source,)
    try:
        return path_of(source)
    except ValueError as exc:
        raise UnreadableInput(str(exc)) from None


def _leaf(field: str, is_mapped: bool) -> tuple[Any, Any]:
    """What is mapped must be there."""
    if field == "properties":
        return (msgspec.Raw | UnsetType, UNSET) if is_mapped else (msgspec.Raw, ABSENT)
    return (_TYPES[field] | UnsetType, UNSET) if is_mapped else (_TYPES[field], None)


def _value(line: Any, attribute: str) -> Any:
    for name in attribute.split("."):
        if line is None or line is UNSET:
            return UNSET
        line = getattr(line, name)
    return line
