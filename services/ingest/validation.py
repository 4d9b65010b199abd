"""Validation of events from files and requests."""

import json
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from repo.ingest import Event
from services.ingest.strict_json import NotStrict, check_strict
from utils.time.local_times import Adjustment, read_local

FIELDS = ("event_id", "user_id", "event_name", "occurred_at", "properties")
REQUIRED = ("event_id", "event_name", "occurred_at")

_UUID = re.compile(
    r"[0-9a-fA-F]{8}(-?)[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{12}"
)
_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?: ?([Zz]|[+-]\d\d(?::?\d\d)?))?", re.ASCII
)
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
# Linear time for any text: possessive quantifiers do not backtrack.
_STORABLE = re.compile(
    r"(?:[^\\]++|\\(?:[^u]|u(?!0000|[dD][89a-fA-F])"
    r"|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}))*+\\?",
    re.DOTALL,
)
_FIRST_INSTANT = datetime(2000, 1, 1, tzinfo=UTC)
_END_INSTANT = datetime(2100, 1, 1, tzinfo=UTC)
_STORED_LIMIT = 65_536  # properties must be shorter than this, as PostgreSQL writes them
# Matches only from the first digit of a number on: starting at each digit takes quadratic time.
_WITH_EXPONENT = re.compile(r"[0-9](?<![0-9.].)[0-9.]*+[eE][+-]?[0-9]++")
_MAX_PROPERTIES_CHARS = 262_144  # as sent; whitespace and escapes can make it longer than stored


class Invalid(ValueError):
    """The reason why an event cannot be stored; its first word is the field at fault."""


class RawEvent(NamedTuple):
    """The fields of an event before validation."""

    event_id: Any
    user_id: Any
    event_name: Any
    occurred_at: Any
    properties: Any


class IngestPolicy(NamedTuple):
    """The rules that differ between files and requests."""

    max_ahead: timedelta
    """How far in the future an event may have occurred."""
    too_far_message: str
    no_offset_message: str


FILES = IngestPolicy(
    timedelta(days=1),
    "occurred_at must not be more than a day ahead",
    "occurred_at must have an offset, or --tz must name its zone",
)
REQUESTS = IngestPolicy(
    timedelta(minutes=5),
    "occurred_at must not be more than 5 minutes ahead",
    "occurred_at must have an offset, such as Z or +01:00",
)


class Validator:
    """Validates events. Times without an offset are local times of `tz`; invalid if it is None."""

    def __init__(
        self, tz: ZoneInfo | None, now: Callable[[], datetime], policy: IngestPolicy = FILES
    ) -> None:
        self._tz = tz
        self.adjusted: Counter[Adjustment] = Counter()
        """The number of local times that occur twice or never, at a change of the clocks."""
        self._now = now
        self._policy = policy

    def __call__(self, raw: RawEvent, *, is_strict: bool = False) -> Event:
        """The event as stored, in normal form. Raises: Invalid.

        `is_strict`: the caller has checked that the properties are strict JSON.
        """
        return Event(
            _event_id(raw.event_id),
            _user_id(raw.user_id),
            _event_name(raw.event_name),
            self._occurred_at(raw.occurred_at),
            _properties(raw.properties, is_strict),
        )

    def latest(self) -> datetime:
        """The latest time that an event may have, in UTC."""
        return self._now() + self._policy.max_ahead

    def _occurred_at(self, value: Any) -> str:
        instant = value if isinstance(value, datetime) else _parse_time(value)
        if instant.tzinfo is None:
            if self._tz is None:
                raise Invalid(self._policy.no_offset_message)
            instant, adjustment = read_local(instant, self._tz)
            if adjustment:
                self.adjusted[adjustment] += 1
        try:
            instant = instant.astimezone(UTC)
        except OverflowError:
            raise Invalid("occurred_at must be within the years 2000 to 2099") from None
        if not _FIRST_INSTANT <= instant < _END_INSTANT:
            raise Invalid("occurred_at must be within the years 2000 to 2099")
        if instant > self.latest():
            raise Invalid(self._policy.too_far_message)
        return instant.isoformat()


def _event_id(value: Any) -> str:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, bytes) and len(value) == 16:
        return str(UUID(bytes=value))
    if value is None or value == "":
        raise Invalid("event_id is missing")
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise Invalid("event_id must be a UUID")
    # One spelling, so that ids sort the same way as text and as UUID.
    return value.lower() if "-" in value else str(UUID(value))


def _user_id(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return _text("user_id", value, 256)


def _event_name(value: Any) -> str:
    if value is None or value == "":
        raise Invalid("event_name is missing")
    return _text("event_name", value, 200)


def _text(field: str, value: Any, limit: int) -> str:
    if not isinstance(value, str):
        raise Invalid(f"{field} must be text")
    if "\x00" in value:
        raise Invalid(f"{field} must not contain a NUL character")
    # UTF-8 takes at most 4 bytes per character, so short texts need not be encoded.
    if len(value) * 4 > limit and len(value.encode()) > limit:
        raise Invalid(f"{field} must be at most {limit} bytes long")
    return value


def _parse_time(value: Any) -> datetime:
    """The time of an RFC 3339 text, truncated to microseconds. Raises: Invalid."""
    if value is None or value == "":
        raise Invalid("occurred_at is missing")
    if isinstance(value, str) and _TIME.fullmatch(value):
        try:
            return datetime.fromisoformat(value.upper().replace(" ", "T", 1).replace(" ", ""))
        except (ValueError, OverflowError):
            pass
    raise Invalid("occurred_at must be a time such as 2025-01-31T09:00:00+01:00")


def _properties(value: Any, is_strict: bool) -> str:
    """The JSON text of properties. Raises: Invalid."""
    # The text of the client is kept: decoding and encoding would round long numbers.
    if value is None or value == "":
        return "{}"
    text = value if isinstance(value, str) else _as_json(value)
    if not text.lstrip(" \t\r\n").startswith("{"):
        raise Invalid("properties must be an object")
    if len(text) > _STORED_LIMIT and _is_too_large(text):
        raise Invalid("properties must be an object of less than 64 kB")
    if "\\u" in text:
        _check_escapes(text)
    if is_strict:
        return text
    try:
        check_strict(text)
    except NotStrict as exc:
        raise Invalid(f"properties {exc}") from None
    return text


def _is_too_large(text: str) -> bool:
    return len(text) > _MAX_PROPERTIES_CHARS or min_stored_size(text) >= _STORED_LIMIT


def min_stored_size(text: str) -> int:
    """A lower bound of the characters that PostgreSQL writes for a JSON text as jsonb.

    jsonb drops whitespace, escapes and the sign of -0, and writes numbers with an exponent in full,
    so these are not counted.
    """
    removable = sum(map(text.count, " \t\r\n-")) + 5 * text.count("\\u") + text.count("\\/")
    return len(text) - removable - sum(map(len, _WITH_EXPONENT.findall(text)))


def _as_json(value: Any) -> str:
    """The JSON text of a struct or map of Parquet. Raises: Invalid."""
    if not isinstance(value, dict):
        raise Invalid("properties must be an object")
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=False, default=_json_default)
    except (TypeError, ValueError):
        raise Invalid("properties must be an object of JSON values") from None


def _json_default(value: Any) -> str:
    """The text of a time, decimal or UUID of Parquet. Raises: TypeError for bytes."""
    if isinstance(value, bytes):
        raise TypeError
    return str(value)


def has_storable_escapes(text: str) -> bool:
    """Whether a JSON text is free of escapes that jsonb cannot store: NUL and lone surrogates."""
    return bool(_STORABLE.fullmatch(text))


def _check_escapes(text: str) -> None:
    """Raises: Invalid, if the text has escapes that jsonb cannot store."""
    if has_storable_escapes(text):
        return
    if _NUL.search(text):
        raise Invalid("properties must not contain a NUL character")
    raise Invalid("properties must not contain a lone surrogate")
