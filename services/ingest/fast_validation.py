"""Fast validation: checks hundreds of events at once, with regular expressions and string methods.

It accepts a subset of what `Validator` accepts, and produces identical rows. If it does not accept
a block, the events are validated one by one, which also finds the reasons.
"""

import re
from collections.abc import Sequence

from repo.ingest import rows_of
from services.ingest.strict_json import are_strict

_MAX_LETTERS = 50  # of an event name or a user id: at most 200 bytes in UTF-8
_MAX_PROPERTIES_CHARS = 10_000
_FIRST_DATE = "2000-01-02"  # with a positive offset, 2000-01-01 may be a day of 1999 in UTC
# Valid for the years 2000 to 2099, in which every fourth year is a leap year.
_DATE = (
    r"(?:\d{4}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)"
    r"|(?:0[13578]|1[02])-31)|\d\d(?:[02468][048]|[13579][26])-02-29)"
)
_CLOCK = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?(?:Z|[+-](?:0\d|1[0-5])(?::?[0-5]\d)?)"
_TIMES = re.compile(rf"(?:{_DATE}[T ]{_CLOCK}\n)+", re.ASCII)
_IDS = re.compile(r"(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\n)+")


def validate_block(columns: Sequence[Sequence[str]], until: str) -> list[str] | None:
    """The rows in the text format of COPY; None if any event needs a closer look.

    `columns` are in the order of FIELDS. Times must be less than `until` as text, which ignores
    their offsets; see `Validator.until`.

    Raises: TypeError if a value is missing or not a string.
    """
    ids, users, names, times, objects = columns
    if not (
        _all_match(_IDS, ids)
        and _all_match(_TIMES, times)
        and _are_between(_FIRST_DATE, times, until)
    ):
        return None
    if not (all(names) and _are_short(names) and _are_short(users) and _are_objects(objects)):
        return None
    return rows_of(columns)


def _all_match(pattern: re.Pattern[str], values: Sequence[str]) -> bool:
    # Join the values with line breaks, so that one match checks all of them.
    text = "\n".join((*values, ""))
    return text.count("\n") == len(values) and bool(pattern.fullmatch(text))


def _are_between(start: str, times: Sequence[str], until: str) -> bool:
    # ISO times compare as strings, but a space sorts before `T`.
    normalized = "\n".join(times).replace(" ", "T").split("\n")
    return start <= min(normalized) and max(normalized) < until


def _are_short(values: Sequence[str]) -> bool:
    return max(map(len, values)) <= _MAX_LETTERS and "\0" not in "".join(values)


def _are_objects(values: Sequence[str]) -> bool:
    text = "\n".join(("", *values))
    are_one_per_line = text.count("\n{") == len(values) == text.count("\n")
    # `\u` may escape a NUL or a lone surrogate, which PostgreSQL does not store.
    is_usual = (
        are_one_per_line and max(map(len, values)) <= _MAX_PROPERTIES_CHARS and "\\u" not in text
    )
    return is_usual and are_strict(text.encode())
