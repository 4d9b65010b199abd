"""Types of request parameters, with their validation and error messages."""

import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
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

from common.errors import refuse
from common.filters import Filter
from common.where import MAX_BYTES, parse_where
from utils.time.calendar import Range
from utils.time.ranges import parse_last
from utils.time.zones import zone_names

EARLIEST = datetime(1999, 12, 31, tzinfo=UTC)
LATEST = datetime(2100, 1, 2, tzinfo=UTC)
ALL_TIME = Range(EARLIEST, LATEST)
"""The years of events, 2000 to 2099, and a day before and after for zones other than UTC."""

# ASCII: `\d` would match the digits of any script.
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_INSTANT = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_INTEGER = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_BOOLEANS = {"true": True, "false": False}
_DATES = (date(2000, 1, 1), date(2100, 1, 1))
OUTSIDE_YEARS = "must be within the years 2000 to 2099"


def _date_or_instant(value: object) -> date | datetime:
    """Return the date, or the instant in UTC. Raises: ValueError, reported by pydantic."""
    parsed = value if isinstance(value, date) else _parse(value)
    earliest, latest = (EARLIEST, LATEST) if isinstance(parsed, datetime) else _DATES
    if not earliest <= parsed <= latest:
        raise ValueError(OUTSIDE_YEARS)
    return parsed


def _parse(text: object) -> date | datetime:
    with suppress(ValueError, OverflowError):
        if isinstance(text, str) and _DATE.fullmatch(text):
            return date.fromisoformat(text)
        if isinstance(text, str) and _INSTANT.fullmatch(text):
            # RFC 3339 allows a lower-case z, which Python 3.11 does not read.
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
    raise ValueError(
        "must be a date (2025-01-31) or an instant with its offset "
        "(2025-01-31T09:00:00Z, 2025-01-31T09:00:00%2B01:00; a plus sign is written %2B)"
    )


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
        raise ValueError("must be an IANA time zone, such as UTC or Europe/Berlin")
    return name


def _well_formed_last(text: str) -> str:
    parse_last(text)
    return text


def _one_filter(texts: Sequence[str]) -> tuple[Filter, ...]:
    """Return the canonical filter, if there is one. Raises: FilterError."""
    where = parse_where(texts)
    return () if where is None else (where,)


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
        fields = cls.model_fields.items()
        return {name for name, field in fields if get_origin(field.annotation) is not tuple}

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, values: Any) -> Any:
        # pydantic's own error would repeat the name of the unknown parameter.
        if isinstance(values, dict) and set(values) - set(cls.model_fields):
            raise refuse("(unknown)", f"only these are allowed: {', '.join(cls.model_fields)}")
        return values


DateOrInstant = Annotated[
    date | datetime,
    BeforeValidator(_date_or_instant),
    WithJsonSchema({"type": "string", "examples": ["2025-01-31", "2025-01-31T09:00:00Z"]}),
]
Integer = Annotated[int, BeforeValidator(_integer)]
Boolean = Annotated[bool, BeforeValidator(_boolean)]
Zone = Annotated[str, AfterValidator(_valid_zone)]
EventName = Annotated[
    str, Field(min_length=1, max_length=200), AfterValidator(_without_nul), _max_bytes(200)
]
UserId = Annotated[
    str, Field(min_length=1, max_length=256), AfterValidator(_without_nul), _max_bytes(256)
]
EventNames = Annotated[tuple[EventName, ...], Field(max_length=100), AfterValidator(_sorted_unique)]
Where = Annotated[
    tuple[SkipValidation[Filter], ...],
    BeforeValidator(_one_filter),
    PlainSerializer(lambda filters: list(map(str, filters)), return_type=list[str]),
    WithJsonSchema({"type": "array", "items": {"type": "string", "maxLength": MAX_BYTES}}),
]
"""The filter that all texts of a parameter mean, in its canonical form; empty for all events."""
LastText = Annotated[
    str,
    AfterValidator(_well_formed_last),
    WithJsonSchema({"type": "string", "pattern": "^[1-9][0-9]{0,3}(h|d|w|mo|q|y)$"}),
]
