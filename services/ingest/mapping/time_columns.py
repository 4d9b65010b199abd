"""Read the times of a column at once, and single values where that fails."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from services.ingest.fast_validation import LOCAL_TIMES, TIMES, all_match, are_in_range
from services.ingest.mapping.times import TimeReading
from services.ingest.validation import MONTHS, Invalid, Validator
from utils.time.epochs import END_SECOND, FIRST_SECOND, PER_SECOND
from utils.time.local_times import read_local

_INTEGERS = re.compile(r"(?:\d{1,20}\n)+", re.ASCII)
_LONG_FRACTION = re.compile(r"(\.\d{6})\d+")
_LOG_TIMES = {
    month: re.compile(
        rf"^(\d\d)/{month}/(\d{{4}}):(\d\d:\d\d:\d\d) ([+-]\d{{4}})$", re.ASCII | re.MULTILINE
    )
    for month in MONTHS
}
_1970 = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LAST_OF_HOUR = timedelta(minutes=59, seconds=59)
_MAX_HOURS = 100_000
# The groups of directives of `strptime` whose digits are copied.
_DIRECTIVES = {
    "Y": r"(?P<Y>\d{4})",
    **{letter: rf"(?P<{letter}>\d\d)" for letter in "mdHMS"},
}

Texts = Sequence[str | None]


class TimeColumns:
    """Reads the times of the columns of a file."""

    def __init__(self, reading: TimeReading) -> None:
        self._reading = reading
        self._in_format = _in_format(reading.format) if reading.format else None
        self._offsets: dict[str, str | None] = {}
        """The offset of local times by hour; None where it changes."""

    def __call__(self, values: Sequence[Any], validator: Validator) -> Texts:
        """The times as stored; None for those that are invalid, or that need an adjustment."""
        kinds = set(map(type, values))
        texts: Texts | None = None
        if self._reading.unit:
            texts = self._epochs(values, kinds, validator.latest())
        elif kinds == {str}:
            texts = self._texts(values, validator)
        elif kinds == {datetime} and not self._reading.format:
            texts = self._datetimes(values, validator)
        return self._each(values, validator) if texts is None else texts

    def _each(self, values: Sequence[Any], validator: Validator) -> Texts:
        read = {value: self._single(value, validator) for value in set(values)}
        return [read[value] for value in values]

    def _single(self, value: Any, validator: Validator) -> str | None:
        try:
            return validator.unadjusted_time(self._reading.read(value))
        except Invalid:
            return None

    def _texts(self, texts: Sequence[str], validator: Validator) -> Texts | None:
        if any("\n" in text for text in texts):
            return None
        if self._reading.format:
            usual = self._in_format(texts) if self._in_format else None
            return None if usual is None else self._local(usual, validator)
        if all_match(TIMES, texts):
            return texts if are_in_range(texts, validator.latest()) else None
        if (local := self._local(texts, validator)) is not None:
            return local
        usual = _usual(texts)
        if all_match(TIMES, usual) and are_in_range(usual, validator.latest()):
            return usual
        return self._local(usual, validator)

    def _datetimes(self, values: Sequence[datetime], validator: Validator) -> Texts | None:
        texts = [value.isoformat() for value in values]
        if all(value.tzinfo for value in values):
            is_valid = all_match(TIMES, texts) and are_in_range(texts, validator.latest())
            return texts if is_valid else None
        return self._local(texts, validator)

    def _local(self, texts: Sequence[str], validator: Validator) -> Texts | None:
        """Times without an offset; None if any is of another kind, or needs a closer look."""
        tz = validator.tz
        if tz is None or not all_match(LOCAL_TIMES, texts):
            return None
        hours = [text[:13] for text in texts]
        for hour in set(hours) - self._offsets.keys():
            self._offsets[hour] = _offset_in(hour, tz)
        offsets = [self._offsets[hour] for hour in hours]
        if len(self._offsets) > _MAX_HOURS:
            self._offsets.clear()
        if None in offsets:
            return None
        instants = [text + offset for text, offset in zip(texts, offsets, strict=True) if offset]
        return instants if are_in_range(instants, validator.latest()) else None

    def _epochs(self, values: Sequence[Any], kinds: set[type], latest: datetime) -> Texts | None:
        """Whole numbers since 1970."""
        if kinds == {str} and all_match(_INTEGERS, values):
            values = list(map(int, values))
        elif kinds != {int}:
            return None
        per_second = PER_SECOND[self._reading.unit or "s"]
        last = (latest - _1970) // _MICROSECOND * per_second // 1_000_000
        end = min(last + 1, END_SECOND * per_second)
        if min(values) < FIRST_SECOND * per_second or max(values) >= end:
            return None
        if per_second == 1:
            return [datetime.fromtimestamp(value, UTC).isoformat() for value in values]
        if per_second > 1_000_000:
            values, per_second = [value // 1000 for value in values], 1_000_000
        unit = timedelta(microseconds=1_000_000 // per_second)
        return [(_1970 + value * unit).isoformat() for value in values]


def _usual(texts: Sequence[str]) -> list[str]:
    """Times without spaces around them, `UTC`, and digits of less than a microsecond.

    Those of access logs are written as the others.
    """
    joined = "\n".join(text.strip() for text in texts) + "\n"
    for number, (month, log_time) in enumerate(_LOG_TIMES.items(), 1):
        if month in joined:
            joined = log_time.sub(rf"\2-{number:02}-\1T\3\4", joined)
    joined = _LONG_FRACTION.sub(r"\1", joined.replace(" UTC\n", "Z\n"))
    return joined.split("\n")[:-1]


def _offset_in(hour: str, tz: ZoneInfo) -> str | None:
    """The offset of an hour of local time such as `2025-01-31T09`; None if it changes in it."""
    start = datetime.fromisoformat(hour + ":00")
    first, adjustment = read_local(start, tz)
    last, other_adjustment = read_local(start + _LAST_OF_HOUR, tz)
    if adjustment or other_adjustment or first.utcoffset() != last.utcoffset():
        return None
    return first.isoformat()[19:]


def _in_format(time_format: str) -> Callable[[Sequence[str]], list[str] | None] | None:
    """A function that writes times of a format in the usual way; None for other directives.

    It returns None if a time has another format.
    """
    parts = re.split(r"%(.)", time_format)
    letters = parts[1::2]
    is_usual = {"Y", "m", "d"} <= set(letters) <= _DIRECTIVES.keys()
    if not is_usual or len(set(letters)) < len(letters):
        return None
    groups = [_DIRECTIVES[letter] for letter in letters] + [""]
    pattern = "".join(
        re.escape(text) + group for text, group in zip(parts[::2], groups, strict=True)
    )
    clock = ":".join(rf"\g<{letter}>" if letter in letters else "00" for letter in "HMS")
    times = re.compile(rf"^{pattern}$", re.ASCII | re.MULTILINE)
    template = rf"\g<Y>-\g<m>-\g<d>T{clock}"

    def in_usual_form(texts: Sequence[str]) -> list[str] | None:
        usual, count = times.subn(template, "\n".join(texts))
        return usual.split("\n") if count == len(texts) else None

    return in_usual_form
