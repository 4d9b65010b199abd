"""Fast validation: checks hundreds of events at once, with regular expressions and string methods.

It accepts a subset of what `Validator` accepts, and produces identical rows. If it does not accept
a block, the events are validated one by one, which also finds the reasons.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from repo.ingest import rows_of
from services.ingest.strict_json import are_strict
from services.ingest.validation import has_storable_escapes

_MAX_OFFSET = timedelta(hours=16)  # PostgreSQL accepts offsets below this
_MAX_LETTERS = 50  # of an event name or a user id: at most 200 bytes in UTF-8
_MAX_PROPERTIES_CHARS = 10_000
_FIRST_DATE = "2000-01-02"  # with a positive offset, 2000-01-01 may be a day of 1999 in UTC
# Valid for the years 2000 to 2099, in which every fourth year is a leap year.
_DATE = (
    r"(?:\d{4}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)"
    r"|(?:0[13578]|1[02])-31)|\d\d(?:[02468][048]|[13579][26])-02-29)"
)
_CLOCK = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?"
_OFFSET = r"(?:Z|[+-](?:0\d|1[0-5])(?::?[0-5]\d)?)"
TIMES = re.compile(rf"(?:{_DATE}[T ]{_CLOCK}{_OFFSET}\n)+", re.ASCII)
LOCAL_TIMES = re.compile(rf"(?:{_DATE}[T ]{_CLOCK}\n)+", re.ASCII)
IDS = re.compile(r"(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\n)+")


def validate_block(
    columns: Sequence[Sequence[str]], latest: datetime, text: bytes | None = None
) -> list[str] | None:
    """The rows in the text format of COPY; None if any event needs a closer look.

    `columns` are in the order of FIELDS. `latest`, in UTC, is the latest time that an event may
    have. `text` is the JSON of the events, one per line, which must be strict as a whole; without
    it only the properties must be.

    Raises: TypeError if a value is missing or not a string.
    """
    ids, users, names, times, objects = columns
    if not (
        all_match(IDS, ids)
        and all_match(TIMES, times)
        and are_in_range(times, latest)
        and all(names)
        and _are_short(names)
        and _are_short(users)
        and _are_objects(objects)
    ):
        return None
    text = "\n".join(objects).encode() if text is None else text
    return rows_of(columns) if are_strict(text, len(objects)) else None


def all_match(pattern: re.Pattern[str], values: Sequence[str]) -> bool:
    """Whether a pattern of lines matches all values. Raises: TypeError if one is no text."""
    # Join the values with line breaks, so that one match checks all of them.
    text = "\n".join(values) + "\n"
    return text.count("\n") == len(values) and bool(pattern.fullmatch(text))


def are_in_range(times: Sequence[str], latest: datetime) -> bool:
    """Whether times that TIMES matches are certainly within the years of events."""
    # ISO times in UTC compare as strings, but a space sorts before `T`.
    text = "\n".join((*times, "")).replace(" ", "T")
    are_utc = text.count("Z\n") + text.count("+00:00\n") == len(times)
    # The others may be hours later than the text says.
    end = latest if are_utc else latest - _MAX_OFFSET
    normalized = text.split()
    return min(normalized) >= _FIRST_DATE and max(normalized) < end.isoformat()[:19]


def _are_short(values: Sequence[str]) -> bool:
    return max(map(len, values)) <= _MAX_LETTERS and "\0" not in "".join(values)


def _are_objects(values: Sequence[str]) -> bool:
    text = "\n".join(("", *values))
    are_one_per_line = text.count("\n{") == len(values) == text.count("\n")
    return (
        are_one_per_line
        and max(map(len, values)) <= _MAX_PROPERTIES_CHARS
        and ("\\u" not in text or has_storable_escapes(text))
    )
