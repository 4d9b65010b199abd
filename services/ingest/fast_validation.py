"""Most events have nothing wrong, and are checked hundreds at a time, in C.

What this takes, the Validator takes as well, and both come to the same rows for PostgreSQL. Of what
it does not take it says nothing: each event is looked at by itself then.
"""

import re
from collections.abc import Sequence

from repo.ingest import rows_of
from services.ingest.strict_json import are_strict

_MAX_LETTERS = 50  # of a name or a user: at most 200 bytes, whatever they are
_MAX_PROPERTIES_CHARS = 10_000
_FIRST_DATE = "2000-01-02"  # somewhere it is the day before
# Of years from 2000 to 2099, in which each fourth one is a leap year.
_DATE = (
    r"(?:\d{4}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)"
    r"|(?:0[13578]|1[02])-31)|\d\d(?:[02468][048]|[13579][26])-02-29)"
)
_CLOCK = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?(?:Z|[+-](?:0\d|1[0-5])(?::?[0-5]\d)?)"
_TIMES = re.compile(rf"(?:{_DATE}[T ]{_CLOCK}\n)+", re.ASCII)
_IDS = re.compile(r"(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\n)+")


def validate_block(columns: Sequence[Sequence[str]], until: str) -> list[str] | None:
    """Rows as COPY reads them, of columns in the order of FIELDS; None if anything is unusual.

    No time may be written as `until` or later, whatever its offset.

    Raises: TypeError where a value is missing or no text.
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
    """One line for each, so that one match looks at all of them."""
    text = "\n".join((*values, ""))
    return text.count("\n") == len(values) and bool(pattern.fullmatch(text))


def _are_between(start: str, times: Sequence[str], until: str) -> bool:
    """A space stands before all letters, and would make a time of the same day an earlier one."""
    normalized = "\n".join(times).replace(" ", "T").split("\n")
    return start <= min(normalized) and max(normalized) < until


def _are_short(values: Sequence[str]) -> bool:
    return max(map(len, values)) <= _MAX_LETTERS and "\0" not in "".join(values)


def _are_objects(values: Sequence[str]) -> bool:
    """An escape may be a NUL or half of a character, which only a closer look tells."""
    text = "\n".join(("", *values))
    are_one_per_line = text.count("\n{") == len(values) == text.count("\n")
    is_usual = (
        are_one_per_line and max(map(len, values)) <= _MAX_PROPERTIES_CHARS and "\\u" not in text
    )
    return is_usual and are_strict(text.encode())
