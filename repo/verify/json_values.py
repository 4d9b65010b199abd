"""The values of JSON objects by path and type, with exact numbers."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from repo.verify.fingerprints import Kind, Property

_TOKEN = re.compile(r'("(?:[^"\\]|\\.)*"|[\[\]{}]|[^\s\[\]{},:"]+)\s*(:?)')


class _Number(str):
    """A number as canonical text."""

    __slots__ = ()


def _decimal(text: str) -> _Number:
    return _Number(number_text(text))


# The text of jsonb has no spaces around it, which `decode` would look for.
_decode = json.JSONDecoder(parse_int=_Number, parse_float=_decimal).raw_decode
_KINDS: dict[type, Kind] = {str: "text", _Number: "number", bool: "boolean"}


class PropertyValues:
    """The values of one property, with the row of each."""

    __slots__ = ("rows", "values")

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.values: list[Any] = []


def read_objects(texts: Iterable[bytes]) -> dict[Property, PropertyValues]:
    """Return the values of all objects, in the order of rows; lists are flattened."""
    properties: dict[Property, PropertyValues] = defaultdict(PropertyValues)
    keys: dict[tuple[str, type], PropertyValues] = {}
    for row, text in enumerate(texts):
        for key, value in _read(str(text, "utf-8")).items():
            column = keys.get((key, type(value)))
            if column is None:
                if type(value) not in _KINDS:
                    _flatten(properties, row, key, value)
                    continue
                column = properties[Property((key,), _KINDS[type(value)])]
                keys[key, type(value)] = column
            column.rows.append(row)
            column.values.append(value)
    return properties


def number_text(text: str) -> str:
    """Return a number without exponent, and without zeros at the end of its fraction."""
    plain = format(Decimal(text), "f") if "e" in text.lower() else text
    if "." in plain:
        plain = plain.rstrip("0").rstrip(".")
    return "0" if plain == "-0" else plain


def _flatten(properties: dict[Property, PropertyValues], row: int, key: str, value: Any) -> None:
    """Add the values in a list or an object."""
    remaining: list[tuple[tuple[str, ...], Any]] = [((key,), value)]
    while remaining:
        path, value = remaining.pop()
        if isinstance(value, list):
            remaining += [(path, item) for item in reversed(value)]
        elif isinstance(value, dict):
            remaining += [((*path, key), item) for key, item in value.items()]
        elif value is not None:
            column = properties[Property(path, _KINDS[type(value)])]
            column.rows.append(row)
            column.values.append(value)


def _read(text: str) -> dict[str, Any]:
    try:
        decoded: dict[str, Any] = _decode(text)[0]
    except RecursionError:
        return _read_deep(text)
    return decoded


def _read_deep(text: str) -> dict[str, Any]:
    """Decode an object that is nested deeper than the standard library allows."""
    top: list[Any] = []
    containers: list[Any] = [top]
    key = ""
    for token, colon in _TOKEN.findall(text):
        if colon:
            key = json.loads(token)
        elif token in ("}", "]"):
            containers.pop()
        else:
            value: Any = {} if token == "{" else [] if token == "[" else _decode(token)[0]
            if isinstance(parent := containers[-1], list):
                parent.append(value)
            else:
                parent[key] = value
            if token in ("{", "["):
                containers.append(value)
    decoded: dict[str, Any] = top[0]
    return decoded
