"""Values of properties in answers, and their types."""

from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from pydantic import WithJsonSchema

from common.filters import Value
from utils.decimals import decimal_text

PropertyValue = Annotated[Any, WithJsonSchema({"type": ["string", "number", "boolean", "null"]})]
"""A value as in JSON; null is a missing one."""
ValueType = Literal["text", "number", "boolean", "missing", "other"]
"""The type of a value in CSV, which tells 5 from the text "5"; `other` is that of a row of others.
"""


def json_value(value: Value | None) -> PropertyValue:
    """Return a value for JSON; numbers are exact."""
    return msgspec.Raw(decimal_text(value).encode()) if isinstance(value, Decimal) else value


def value_type(value: PropertyValue) -> ValueType:
    """Return the type of a value of `json_value`."""
    if value is None:
        return "missing"
    if isinstance(value, bool):
        return "boolean"
    return "text" if isinstance(value, str) else "number"
