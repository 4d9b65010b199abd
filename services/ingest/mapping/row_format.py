"""Reads the values of a row: JSON, of which the text is kept, texts of CSV, and Parquet."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from services.ingest.json_paths import Path
from services.ingest.strict_json import NotStrict, check_strict
from services.ingest.validation import Invalid, json_text

Row = Mapping[str, Any]
MISSING: Any = msgspec.UNSET

_INTEGER = re.compile(r"-?\d{1,19}", re.ASCII)
ONE_OF = "_value"
"""The suffix of the fields of a union, such as `int_value` in Google Analytics."""

decode = msgspec.json.Decoder().decode
decode_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
encode = msgspec.json.Encoder().encode
sorted_json = msgspec.json.Encoder(order="sorted").encode


@dataclass(frozen=True, slots=True)
class RowFormat:
    """The functions that read the rows of a format. JSON values are `msgspec.Raw`."""

    canonical: Callable[[Row], bytes]
    """A text of a row that is the same in every file that holds the row."""
    omits_empty: bool
    """Whether a column without a value is not a property; a null of JSON is one."""


def find(row: Row, path: Path) -> Any:
    """The value at a path; MISSING without one. Raises: Invalid."""
    value: Any = row
    for depth, key in enumerate(path):
        inner = children(value) if depth else row
        if inner is None or key not in inner:
            return MISSING
        value = inner[key]
    return value


def json_string(text: str) -> str:
    return encode(text).decode()


def value_of(value: Any) -> Any:
    """The Python value; None for JSON that cannot be stored, whose row is rejected."""
    if not isinstance(value, msgspec.Raw):
        return value
    try:
        return decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _odd_value(bytes(value))


def _odd_value(text: bytes) -> Any:
    """A value with numbers beyond the range of a double; None for other faults."""
    try:
        value = json.loads(text)
        encode(value)
        return value
    except (ValueError, RecursionError):
        return None


def text_of(value: Any) -> str:
    return str(value, "utf-8") if isinstance(value, msgspec.Raw) else json_text(value)


def children(value: Any) -> Mapping[str, Any] | None:
    """The values of an object by key, also of one that is written as JSON within a text."""
    if isinstance(value, dict):
        return value
    try:
        if isinstance(value, msgspec.Raw):
            if bytes(value).startswith(b"{"):
                return decode_raw(value)
            value = value_of(value)
        if not isinstance(value, str) or not value.lstrip(" \t\r\n").startswith("{"):
            return None
        check_object(value)
        return decode_raw(value)
    except (Invalid, msgspec.MsgspecError):
        return None


def check_object(value: Any) -> None:
    """Check that a text is strict JSON. Raises: Invalid."""
    try:
        if isinstance(value, str):
            check_strict(value)
    except NotStrict as exc:
        raise Invalid(f"properties {exc}") from None


def _canonical_json(row: Row) -> bytes:
    return sorted_json({key: value_of(raw) for key, raw in row.items()})


def _canonical_texts(row: Row) -> bytes:
    return sorted_json({key: text for key, text in row.items() if text})


def _canonical_values(row: Row) -> bytes:
    # Without columns that have no value: a later file may have more of them.
    values = {key: value for key, value in row.items() if value is not None}
    return json.dumps(values, sort_keys=True, default=str).encode()


JSON = RowFormat(_canonical_json, omits_empty=False)
TEXTS = RowFormat(_canonical_texts, omits_empty=True)
VALUES = RowFormat(_canonical_values, omits_empty=True)


def key_value_pairs(pairs: Iterable[Any]) -> dict[str, Any]:
    """A list of objects with `key` and `value` as one object, as in Google Analytics.

    Raises: Invalid.
    """
    items = [_pair(pair) for pair in pairs if pair is not None]
    if len(dict(items)) < len(items):
        raise Invalid("properties must not have a key twice")
    return dict(items)


def _pair(pair: Any) -> tuple[str, Any]:
    """Raises: Invalid."""
    if not isinstance(pair, dict) or not isinstance(pair.get("key"), str):
        raise Invalid("properties must be a list of objects with `key` and `value`")
    return pair["key"], _single(pair.get("value"))


@lru_cache(1_000)
def _is_union(kinds: tuple[str, ...]) -> bool:
    return all(kind.endswith(ONE_OF) for kind in kinds)


def _single(value: Any) -> Any:
    """The value of a union such as {"int_value": "7", "string_value": null}."""
    if not isinstance(value, dict) or not _is_union(tuple(value)):
        return value
    present = [(kind, each) for kind, each in value.items() if each is not None]
    if len(present) > 1:
        return value
    kind, single = present[0] if present else ("", None)
    # BigQuery writes integers of 64 bits as text.
    if kind == "int_value" and isinstance(single, str) and _INTEGER.fullmatch(single):
        return int(single)
    return single
