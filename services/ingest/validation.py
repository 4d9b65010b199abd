"""Validation of events from files and requests."""

import json
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from math import isfinite
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
# What files have besides: no seconds or no clock, a comma before the fraction, names of UTC, and
# a zone after the offset, as Java and Go write it.
_FILE_TIME = re.compile(
    r"(\d{4})(-?)(\d\d)\2(\d\d)"
    r"(?:[Tt ](\d\d)(:?)(\d\d)(?:\6(\d\d)(?:[.,](\d+))?)?)?"
    r"(?: ?(Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)(?: UTC|\[[A-Za-z0-9_/+-]+\])?)?",
    re.ASCII | re.IGNORECASE,
)
_LOG_TIME = re.compile(r"(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d:\d\d:\d\d) ([+-]\d{4})", re.ASCII)
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
# Linear time for any text: possessive quantifiers do not backtrack.
_STORABLE = re.compile(
    r"(?:[^\\]++|\\(?:[^u]|u(?!0000|[dD][89a-fA-F])"
    r"|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}))*+\\?",
    re.DOTALL,
)
_FIRST_INEXACT = 2**53  # from here on, a float may be another integer than it was made of
_FIRST_INSTANT = datetime(2000, 1, 1, tzinfo=UTC)
_END_INSTANT = datetime(2100, 1, 1, tzinfo=UTC)
STORED_LIMIT = 65_536  # properties must be shorter than this, as PostgreSQL writes them
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
    parse_time: Callable[[Any], datetime]


def parse_time(value: Any) -> datetime:
    """The time of a text of a file, truncated to microseconds. Raises: Invalid."""
    try:
        return _parse_time(value)
    except Invalid:
        text = value.strip() if isinstance(value, str) else ""
        if (iso := _iso_time(text) or _iso_log_time(text)) is not None:
            with suppress(ValueError):
                return datetime.fromisoformat(iso)
        raise


def _iso_time(text: str) -> str | None:
    """The usual form of a time of a file; None for other texts."""
    if not (match := _FILE_TIME.fullmatch(text)):
        return None
    year, _, month, day, hour, _, minute, second, fraction, zone = match.groups()
    clock = f"{hour or '00'}:{minute or '00'}:{second or '00'}.{(fraction or '0')[:6]:0<6}"
    offset = "+00:00" if zone and zone.upper() in _UTC_NAMES else zone or ""
    return f"{year}-{month}-{day}T{clock}{offset}"


def _iso_log_time(text: str) -> str | None:
    """The usual form of a time of an access log; None for other texts."""
    match = _LOG_TIME.fullmatch(text)
    if not match or match[2] not in MONTHS:
        return None
    return f"{match[3]}-{MONTHS.index(match[2]) + 1:02}-{match[1]}T{match[4]}{match[5]}"


_UTC_NAMES = ("Z", "UTC", "GMT")


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


FILES = IngestPolicy(
    timedelta(days=1),
    "occurred_at must not be more than a day ahead",
    "occurred_at must have an offset, or --tz must name its zone",
    parse_time,
)
REQUESTS = IngestPolicy(
    timedelta(minutes=5),
    "occurred_at must not be more than 5 minutes ahead",
    "occurred_at must have an offset, such as Z or +01:00",
    _parse_time,
)


class Validator:
    """Validates events. Times without an offset are local times of `tz`; invalid if it is None."""

    def __init__(
        self, tz: ZoneInfo | None, now: Callable[[], datetime], policy: IngestPolicy = FILES
    ) -> None:
        self.tz = tz
        self.adjusted: Counter[Adjustment] = Counter()
        """The number of local times that occur twice or never, at a change of the clocks."""
        self._now = now
        self._policy = policy

    def __call__(self, raw: RawEvent, *, is_strict: bool = False) -> Event:
        """The event as stored, in normal form. Raises: Invalid.

        `is_strict`: the caller has checked that the properties are strict JSON.
        """
        return Event(
            stored_event_id(raw.event_id),
            stored_user_id(raw.user_id),
            stored_event_name(raw.event_name),
            self._occurred_at(raw.occurred_at),
            stored_properties(raw.properties, is_strict),
        )

    def latest(self) -> datetime:
        """The latest time that an event may have, in UTC."""
        return self._now() + self._policy.max_ahead

    def unadjusted_time(self, value: Any) -> str | None:
        """The time as stored; None if it is a local time that occurs twice or never.

        Raises: Invalid.
        """
        instant, adjustment = self._instant(value)
        return None if adjustment else self._in_utc(instant)

    def _occurred_at(self, value: Any) -> str:
        instant, adjustment = self._instant(value)
        if adjustment:
            self.adjusted[adjustment] += 1
        return self._in_utc(instant)

    def _instant(self, value: Any) -> tuple[datetime, Adjustment | None]:
        """The time with an offset, and how a local time was adjusted. Raises: Invalid."""
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day)
        instant = value if isinstance(value, datetime) else self._policy.parse_time(value)
        if instant.tzinfo is not None:
            return instant, None
        if self.tz is None:
            raise Invalid(self._policy.no_offset_message)
        return read_local(instant, self.tz)

    def _in_utc(self, instant: datetime) -> str:
        """The text of a time that an event may have. Raises: Invalid."""
        try:
            instant = instant.astimezone(UTC)
        except OverflowError:
            raise Invalid("occurred_at must be within the years 2000 to 2099") from None
        if not _FIRST_INSTANT <= instant < _END_INSTANT:
            raise Invalid("occurred_at must be within the years 2000 to 2099")
        if instant > self.latest():
            raise Invalid(self._policy.too_far_message)
        return instant.isoformat()


def stored_event_id(value: Any) -> str:
    """The id in lower case with dashes. Raises: Invalid."""
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, bytes):
        return _bytes_id(value)
    if value is None or value == "":
        raise Invalid("event_id is missing")
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise Invalid("event_id must be a UUID")
    # One spelling, so that ids sort the same way as text and as UUID.
    return value.lower() if "-" in value else str(UUID(value))


def _bytes_id(value: bytes) -> str:
    """The id in 16 bytes, or in a text of Parquet that is not marked as text. Raises: Invalid."""
    if len(value) == 16:
        return str(UUID(bytes=value))
    return stored_event_id(_text("event_id", value, 64))


def _decoded(field: str, value: bytes) -> str:
    """The text in bytes of Parquet that are not marked as text. Raises: Invalid."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Invalid(f"{field} must be text") from None


def is_uuid(value: Any) -> bool:
    """Whether a value can be an event_id as it is."""
    try:
        stored_event_id(value)
    except Invalid:
        return False
    return True


def stored_user_id(value: Any) -> str:
    """The text of a user id; empty for None. Raises: Invalid."""
    if value is None:
        return ""
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        value = _whole_number("user_id", value)
    return _text("user_id", value, 256)


def _whole_number(field: str, value: float | Decimal) -> str:
    """The digits of a whole number, which tables and data frames may hold as a float."""
    if isinstance(value, int):
        return str(value)
    if not isfinite(value) or value != int(value):
        raise Invalid(f"{field} must be text or a whole number")
    if isinstance(value, float) and abs(value) >= _FIRST_INEXACT:
        raise Invalid(f"{field} is a number that was rounded: it must be text or an integer")
    return str(int(value))


def stored_event_name(value: Any) -> str:
    """Raises: Invalid."""
    if value is None or value == "":
        raise Invalid("event_name is missing")
    return _text("event_name", value, 200)


def _text(field: str, value: Any, limit: int) -> str:
    if isinstance(value, bytes):
        value = _decoded(field, value)
    if not isinstance(value, str):
        raise Invalid(f"{field} must be text")
    if "\x00" in value:
        raise Invalid(f"{field} must not contain a NUL character")
    # UTF-8 takes at most 4 bytes per character, so short texts need not be encoded.
    if len(value) * 4 > limit and len(value.encode()) > limit:
        raise Invalid(f"{field} must be at most {limit} bytes long")
    return value


def stored_properties(value: Any, is_strict: bool) -> str:
    """The JSON text of properties. Raises: Invalid."""
    # The text of the client is kept: decoding and encoding would round long numbers.
    if value is None or value == "":
        return "{}"
    text = value if isinstance(value, str) else as_json(value)
    if not text.lstrip(" \t\r\n").startswith("{"):
        if text.strip(" \t\r\n") == "null":
            return "{}"
        raise Invalid("properties must be an object")
    if len(text) > STORED_LIMIT and _is_too_large(text):
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
    return len(text) > _MAX_PROPERTIES_CHARS or min_stored_size(text) >= STORED_LIMIT


def min_stored_size(text: str) -> int:
    """A lower bound of the characters that PostgreSQL writes for a JSON text as jsonb.

    jsonb drops whitespace, escapes and the sign of -0, and writes numbers with an exponent in full,
    so these are not counted.
    """
    removable = sum(map(text.count, " \t\r\n-")) + 5 * text.count("\\u") + text.count("\\/")
    return len(text) - removable - sum(map(len, _WITH_EXPONENT.findall(text)))


def as_json(value: Any) -> str:
    """The JSON text of a struct or map of Parquet. Raises: Invalid."""
    if not isinstance(value, dict):
        raise Invalid("properties must be an object")
    return json_text(value)


def json_text(value: Any) -> str:
    """The JSON text of a value, with times, decimals and UUIDs as text. Raises: Invalid."""
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
