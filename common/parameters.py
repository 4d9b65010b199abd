"""Types of request parameters, with their validation and error messages."""

import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Annotated, Any, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SkipValidation,
    WithJsonSchema,
    model_validator,
)
from pydantic.fields import FieldInfo

from common.dates import date_or_instant
from common.errors import refuse
from common.filters import Filter, Name
from common.selections import (
    Selection,
    UserCondition,
    parse_selection,
    parse_selections,
    parse_user_conditions,
)
from common.where import MAX_BYTES, parse_property, parse_where
from utils.time.durations import duration_text, parse_duration
from utils.time.ranges import parse_last
from utils.time.zones import zone_names

_INTEGER = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_BOOLEANS = {"true": True, "false": False}


def _integer(text: object) -> object:
    # Python's `int` also accepts underscores, spaces, plus signs and the digits of any script.
    if isinstance(text, str) and not _INTEGER.fullmatch(text):
        raise ValueError("must be a whole number in digits, such as 50")
    return text


def _boolean(text: object) -> object:
    # pydantic also accepts `yes`, `on`, `t` and others.
    if isinstance(text, str):
        if text not in _BOOLEANS:
            raise ValueError("must be true or false")
        return _BOOLEANS[text]
    return text


def _valid_zone(name: str) -> str:
    if name not in zone_names():
        hint = "; a plus sign is written %2B" if " " in name else ""
        raise ValueError(f"must be an IANA time zone, such as UTC or Europe/Berlin{hint}")
    return name


def _well_formed_last(text: str) -> str:
    parse_last(text)
    return text


def _one_filter(texts: Sequence[str]) -> tuple[Filter, ...]:
    """Return the canonical filter, if there is one. Raises: FilterError."""
    where = parse_where(texts)
    return () if where is None else (where,)


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def between(shortest: str, longest: str) -> AfterValidator:
    """Return the check that a duration is neither shorter nor longer."""

    def check(duration: timedelta) -> timedelta:
        if not parse_duration(shortest) <= duration <= parse_duration(longest):
            raise ValueError(f"must be from {shortest} to {longest}")
        return duration

    return AfterValidator(check)


def _property(value: object) -> Name:
    """Return the property of a name. Raises: ValueError, reported by pydantic."""
    if isinstance(value, Name):
        return value
    return parse_property(value if isinstance(value, str) else "")


def _sorted_unique(names: tuple[str, ...]) -> tuple[str, ...]:
    # Questions that differ in the order of names only share one cache entry.
    return tuple(sorted(set(names)))


def _without_nul(text: str) -> str:
    # PostgreSQL's type `text` cannot hold it.
    if "\x00" in text:
        raise ValueError("must not contain a NUL character")
    return text


def _max_bytes(limit: int) -> AfterValidator:
    def check(text: str) -> str:
        if len(text.encode()) > limit:
            raise ValueError(f"must be at most {limit} bytes long")
        return text

    return AfterValidator(check)


class Parameters(BaseModel):
    """The base class of query parameters; unknown parameters are refused."""

    # Errors must not repeat input, which may hold ids of users.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @classmethod
    def single_parameters(cls) -> set[str]:
        """Return the names of the parameters that have one value; tuples may be repeated."""
        fields = cls.fields_by_parameter().items()
        return {name for name, field in fields if get_origin(field.annotation) is not tuple}

    @classmethod
    def fields_by_parameter(cls) -> dict[str, FieldInfo]:
        """Return the fields by the names of parameters, which may be keywords of Python."""
        return {field.alias or name: field for name, field in cls.model_fields.items()}

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, values: Any) -> Any:
        # pydantic's own error would repeat the name of the unknown parameter.
        names = cls.fields_by_parameter()
        if isinstance(values, dict) and set(values) - set(names):
            raise refuse("(unknown)", f"only these are allowed: {', '.join(names)}")
        return values


DateOrInstant = Annotated[
    date | datetime,
    BeforeValidator(date_or_instant),
    WithJsonSchema({"type": "string", "examples": ["2025-01-31", "2025-01-31T09:00:00Z"]}),
]
Integer = Annotated[int, BeforeValidator(_integer)]
Boolean = Annotated[bool, BeforeValidator(_boolean)]
Zone = Annotated[str, AfterValidator(_valid_zone)]
EventName = Annotated[
    str, Field(min_length=1, max_length=200), AfterValidator(_without_nul), _max_bytes(200)
]
Prefix = Annotated[str, Field(max_length=200), AfterValidator(_without_nul), _max_bytes(200)]
UserId = Annotated[
    str, Field(min_length=1, max_length=256), AfterValidator(_without_nul), _max_bytes(256)
]
EventNames = Annotated[tuple[EventName, ...], Field(max_length=100), AfterValidator(_sorted_unique)]
_TEXT_SCHEMA = {"type": "string", "maxLength": MAX_BYTES}
_TEXTS_SCHEMA = {"type": "array", "items": _TEXT_SCHEMA}
_Texts = PlainSerializer(lambda parts: list(map(str, parts)), return_type=list[str])
Where = Annotated[
    tuple[SkipValidation[Filter], ...],
    BeforeValidator(_one_filter),
    _Texts,
    WithJsonSchema(_TEXTS_SCHEMA),
]
"""The filter that all texts of a parameter mean, in its canonical form; empty for all events."""
SelectionText = Annotated[
    SkipValidation[Selection],
    BeforeValidator(parse_selection),
    PlainSerializer(str, return_type=str),
    WithJsonSchema(_TEXT_SCHEMA),
]
Selections = Annotated[
    tuple[SkipValidation[Selection], ...],
    BeforeValidator(parse_selections),
    _Texts,
    WithJsonSchema(_TEXTS_SCHEMA),
]
"""The selections of a parameter that may be repeated, in the order of the request."""
UserConditions = Annotated[
    tuple[SkipValidation[UserCondition], ...],
    BeforeValidator(parse_user_conditions),
    _Texts,
    WithJsonSchema(_TEXTS_SCHEMA),
]
"""Conditions on users, sorted and without duplicates."""
Property = Annotated[
    SkipValidation[Name],
    BeforeValidator(_property),
    PlainSerializer(str, return_type=str),
    WithJsonSchema(_TEXT_SCHEMA),
]
"""A property, named as in `where`."""
PropertyName = Annotated[
    str, Field(min_length=1), AfterValidator(_without_nul), _max_bytes(MAX_BYTES)
]
"""The name of a property that is not parsed yet."""
Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(duration_text, return_type=str),
    WithJsonSchema({"type": "string", "pattern": "^[1-9][0-9]{0,8}[smhdw]$"}),
]
LastText = Annotated[
    str,
    AfterValidator(_well_formed_last),
    WithJsonSchema({"type": "string", "pattern": "^[1-9][0-9]{0,3}(h|d|w|mo|q|y)$"}),
]
