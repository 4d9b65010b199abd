"""JSON of whole columns of Parquet, also of nested ones, as rows are converted one by one."""

import json
from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate
from math import isfinite
from typing import Any, NamedTuple

from services.ingest.mapping.cell_types import json_strings
from services.ingest.mapping.row_format import ONE_OF
from services.ingest.mapping.tables import Fragments, joined_objects
from services.ingest.parquet import is_pair
from services.ingest.validation import Invalid, json_text

_ascii_string = json.encoder.encode_basestring_ascii


class NoColumnJson(Exception):
    """The values of a column have to be converted one by one."""


class ColumnJson(NamedTuple):
    """The JSON of the values of a column; None for null."""

    plain: Fragments
    """Texts for properties; None also for values that are no JSON."""
    canonical: Fragments
    """Texts with sorted keys, in ASCII."""


def json_of_values(values: Sequence[Any]) -> ColumnJson:
    """The JSON of Python values."""
    canonical = [
        None if value is None else json.dumps(value, sort_keys=True, default=str)
        for value in values
    ]
    return ColumnJson(list(map(_json_text, values)), canonical)


def _json_text(value: Any) -> str | None:
    try:
        return None if value is None else json_text(value)
    except Invalid:
        return None


def json_of_array(array: Any) -> ColumnJson:
    """The JSON of an array of Arrow. Raises: NoColumnJson, ValueError, ArrowException."""
    from pyarrow import types

    kind = array.type
    if types.is_struct(kind):
        return _structs(array)
    if types.is_list(kind) or types.is_large_list(kind):
        return _pairs(array) if is_pair(kind.value_type) else _lists(array)
    if (values := scalar_values(array)) is None:
        raise NoColumnJson
    if is_text(kind):
        return ColumnJson(
            _without_null(json_strings, values), _without_null(_ascii_strings, values)
        )
    texts = _without_null(_scalar_texts(kind), values)
    return ColumnJson(texts, texts)


def is_text(kind: Any) -> bool:
    """Whether a type of Arrow is text."""
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind))


def scalar_values(array: Any) -> list[Any] | None:
    """The Python values of an array of a simple type; None for other types.

    Raises: ValueError, ArrowException.
    """
    from pyarrow import types

    kind = array.type
    is_number = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    if is_text(kind) or (is_number and not array.null_count):
        values: list[Any] = array.to_numpy(zero_copy_only=False).tolist()
        return values
    return array.to_pylist() if is_number or types.is_timestamp(kind) else None


def _scalar_texts(kind: Any) -> Callable[[Sequence[Any]], Sequence[str]]:
    from pyarrow import types

    if types.is_boolean(kind):
        return lambda values: ["true" if value else "false" for value in values]
    if types.is_floating(kind):
        return _float_texts
    if types.is_integer(kind):
        return lambda values: list(map(str, values))
    return lambda values: [f'"{value}"' for value in values]  # times


def _float_texts(values: Sequence[float]) -> list[str]:
    if not all(map(isfinite, values)):
        raise NoColumnJson
    return list(map(repr, values))


def _ascii_strings(texts: Sequence[str]) -> Sequence[str]:
    joined = "".join(texts)
    if joined.isascii() and joined.isprintable() and '"' not in joined and "\\" not in joined:
        return [f'"{text}"' for text in texts]
    return list(map(_ascii_string, texts))


def _without_null(
    convert: Callable[[Sequence[Any]], Sequence[str]], values: Sequence[Any]
) -> Fragments:
    if None not in values:
        return convert(values)
    texts = iter(convert([value for value in values if value is not None]))
    return [None if value is None else next(texts) for value in values]


def _structs(array: Any) -> ColumnJson:
    """Objects with all fields, null ones too."""
    names = [field.name for field in array.type]
    if not names or len(set(names)) < len(names):
        raise NoColumnJson
    fields = list(zip(names, map(json_of_array, array.flatten()), strict=True))
    plain = [(_key(name), _with_null(field.plain)) for name, field in fields]
    canonical = [(ascii_key(name), _with_null(field.canonical)) for name, field in sorted(fields)]
    rows = len(array)
    return _where_valid(
        array,
        ColumnJson(joined_objects(plain, rows, ", "), joined_objects(canonical, rows, ", ")),
    )


def _lists(array: Any) -> ColumnJson:
    inner, limits = json_of_array(array.flatten()), _limits(array)
    plain, canonical = _with_null(inner.plain), _with_null(inner.canonical)
    return _where_valid(
        array,
        ColumnJson(
            ["[" + ", ".join(plain[start:end]) + "]" for start, end in limits],
            ["[" + ", ".join(canonical[start:end]) + "]" for start, end in limits],
        ),
    )


def _pairs(array: Any) -> ColumnJson:
    """Lists of structs with `key` and `value` as objects."""
    pairs = array.flatten()
    columns = dict(zip((field.name for field in pairs.type), pairs.flatten(), strict=True))
    if pairs.null_count or columns["key"].null_count or not is_text(columns["key"].type):
        raise NoColumnJson
    keys = scalar_values(columns["key"]) or []
    values = _single_values(columns["value"])
    plain = [f"{_key(key)}{text}" for key, text in zip(keys, _with_null(values.plain), strict=True)]
    canonical = [
        f"{ascii_key(key)}{text}"
        for key, text in zip(keys, _with_null(values.canonical), strict=True)
    ]
    objects, sorted_objects = [], []
    for start, end in _limits(array):
        order = _sorted_order(tuple(keys[start:end]))
        objects.append("{" + ", ".join(plain[start:end]) + "}")
        sorted_objects.append("{" + ", ".join([canonical[start + at] for at in order]) + "}")
    _sorted_order.cache_clear()
    return _where_valid(array, ColumnJson(objects, sorted_objects))


@cache
def _sorted_order(keys: tuple[str, ...]) -> list[int]:
    """The positions of keys in their order. Raises: NoColumnJson if one occurs twice."""
    if len(set(keys)) < len(keys):
        raise NoColumnJson
    return sorted(range(len(keys)), key=keys.__getitem__)


def _single_values(array: Any) -> ColumnJson:
    """The values; of unions such as {string_value, int_value}, the value that is not null."""
    from pyarrow import types

    kind = array.type
    if not types.is_struct(kind) or not all(field.name.endswith(ONE_OF) for field in kind):
        return json_of_array(array)
    fields = list(map(json_of_array, array.flatten()))
    return ColumnJson(
        _non_null([field.plain for field in fields], len(array)),
        _non_null([field.canonical for field in fields], len(array)),
    )


def _non_null(columns: Sequence[Fragments], rows: int) -> Fragments:
    """The one text of each row that is not None. Raises: NoColumnJson if there are several."""
    texts: list[str | None] = [None] * rows
    for column in columns:
        for at, text in enumerate(column):
            if text is not None:
                if texts[at] is not None:
                    raise NoColumnJson
                texts[at] = text
    return texts


def _limits(array: Any) -> list[tuple[int, int]]:
    """The start and the end of each list in the values of all."""
    from pyarrow import compute

    lengths = [length or 0 for length in compute.list_value_length(array).to_pylist()]
    ends = list(accumulate(lengths))
    return [(end - length, end) for end, length in zip(ends, lengths, strict=True)]


def _where_valid(array: Any, texts: ColumnJson) -> ColumnJson:
    if not array.null_count:
        return texts
    are_valid = array.is_valid().to_pylist()
    return ColumnJson(*(_masked(column, are_valid) for column in texts))


def _masked(texts: Fragments, are_valid: Sequence[bool]) -> Fragments:
    return [text if is_valid else None for text, is_valid in zip(texts, are_valid, strict=True)]


def _with_null(texts: Fragments) -> list[str]:
    return [text or "null" for text in texts]


@cache
def _key(name: str) -> str:
    return json.dumps(name, ensure_ascii=False) + ": "


@cache
def ascii_key(name: str) -> str:
    """The text before a value in a canonical object."""
    return json.dumps(name) + ": "
