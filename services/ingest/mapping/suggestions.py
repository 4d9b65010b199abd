"""Suggest options for what is missing: sources by their names and values."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from services.ingest.json_paths import Path, source_of
from services.ingest.mapping.options import ALL, MappingOptions
from services.ingest.mapping.row_format import MISSING, Row, children, find, value_of
from services.ingest.mapping.times import guess_reading, suggested_formats
from services.ingest.validation import is_uuid
from utils.time.zones import zone

_MAX_DEPTH = 3

Option = tuple[str, str]
"""The name and the value of an option."""
# Usual names of the sources of fields, the likeliest first, without case and separators.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "event_id": ("eventid", "uuid", "eventuuid", "insertid", "messageid", "id"),
    "user_id": (
        "userid",
        "uid",
        "user",
        "distinctid",
        "customerid",
        "accountid",
        "visitorid",
        "visitor",
        "customer",
        "account",
        "username",
        "login",
        "anonymousid",
        "clientid",
        "deviceid",
        "email",
    ),
    "event_name": ("eventname", "event", "eventtype", "action", "activity", "name", "type", "kind"),
    "occurred_at": (
        "occurredat",
        "timestamp",
        "eventtime",
        "eventtimestamp",
        "time",
        "ts",
        "createdat",
        "created",
        "datetime",
        "date",
        "at",
        "when",
    ),
    "properties": ("properties", "eventproperties", "props"),
}
# Such as `ts_ms`, `visitTime` or `clicked_at`.
_TIME_NAME = re.compile(r"(?i:ts(?![a-z])|.*(?:time|date|epoch|_at$))|.*[a-z]At$")
_SAFE = re.compile(r"[\w.,:/=@%+-]+", re.ASCII)


def quoted(text: str) -> str:
    """A word of a command line."""
    return text if _SAFE.fullmatch(text) else "'" + text.replace("'", "'\\''") + "'"


def as_text(option: Option) -> str:
    """An option as it is written on the command line."""
    name, value = option
    return f"{name} {quoted(value)}"


def with_options(options: MappingOptions, added: Sequence[Option]) -> MappingOptions:
    """The options with suggested ones."""
    fields, constants = dict(options.fields), dict(options.constants)
    others: dict[str, Any] = {}
    for name, value in added:
        field, _, text = value.partition("=")
        if name == "--map":
            fields[field] = (text,)
        elif name == "--set":
            constants[field] = text
        else:
            others[name] = value
    return replace(
        options,
        fields=fields,
        constants=constants,
        properties={**options.properties, **({ALL: None} if "--property" in others else {})},
        id_sources=(others["--id"],) if "--id" in others else options.id_sources,
        time_format=others.get("--time-format", options.time_format),
        tz=zone(others["--tz"]) if "--tz" in others else options.tz,
    )


def values_at(rows: Sequence[Row], path: Path) -> list[Any]:
    """The values of a path in rows, without those that are null or empty."""
    found = (find(row, path) for row in rows)
    values = (value_of(value) for value in found if value is not MISSING)
    return [value for value in values if value is not None and value != ""]


def leaf_paths(rows: Sequence[Row]) -> list[Path]:
    """The paths of values that are no objects, in the order of the first rows."""
    return list(dict.fromkeys(path for row in rows for path in _leaves(row, ())))


def _leaves(values: Mapping[str, Any], above: Path) -> Iterator[Path]:
    for key, value in values.items():
        path = (*above, key)
        inner = children(value) if len(path) < _MAX_DEPTH else None
        if inner:
            yield from _leaves(inner, path)
        else:
            yield path


def likely_source(field: str, rows: Sequence[Row], paths: Sequence[Path]) -> Path | None:
    """The path that is likely the source of a field; None without one."""
    ranked = sorted((rank, path) for path in paths if (rank := _rank(field, path)) is not None)
    likely = [path for _, path in ranked if _can_be(field, values_at(rows, path))]
    if not likely and field == "occurred_at":
        likely = [path for path in paths if _is_time(path, values_at(rows, path))]
    return likely[0] if likely else None


def _rank(field: str, path: Path) -> tuple[int, int] | None:
    """The rank of a path by its name, the likeliest first; None if it is unlikely."""
    names = _NAMES[field]
    whole, last = ("".join(filter(str.isalpha, text.lower())) for text in ("".join(path), path[-1]))
    if whole in names:
        return 1, names.index(whole)
    # The id of an object in the row is not that of the row.
    return (len(path), names.index(last)) if last in names and field != "event_id" else None


def _can_be(field: str, values: list[Any]) -> bool:
    if not values:
        return False
    if field == "event_id":
        return len(set(map(str, values))) == len(values)
    if field == "occurred_at":
        return guess_reading(values) is not None or bool(suggested_formats(values))
    return all(isinstance(value, str | int) for value in values)


def _is_time(path: Path, values: list[Any]) -> bool:
    """Whether the values are written as times, or are numbers under a name of times."""
    if _TIME_NAME.match(path[-1]):
        return _can_be("occurred_at", values)
    return _are_times(values)


def _are_times(values: list[Any]) -> bool:
    texts = [
        value for value in values if isinstance(value, str) and re.search(r"\d[-:/.]\d", value)
    ]
    return bool(texts) and len(texts) == len(values) and _can_be("occurred_at", values)


def id_option(path: Path, rows: Sequence[Row]) -> Option:
    """The option for the source of an id: its UUIDs as they are, or ids derived from it."""
    source = source_of(path)
    if all(map(is_uuid, values_at(rows, path))):
        return "--map", f"event_id={source}"
    return "--id", source
