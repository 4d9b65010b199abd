"""Read times that are numbers or texts, and guess how from the first rows of a file."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from services.ingest.validation import Invalid, parse_time
from utils.time.epochs import EPOCH_NAMES, PER_SECOND, Epoch, instant_of, unit_of

_NUMBER = re.compile(r"-?\d{1,30}(?:\.\d{1,30})?", re.ASCII)  # longer ones are no times
# Formats that are suggested where they fit. Where both orders of day and month fit, both are.
_SUGGESTED_FORMATS = (
    *(
        f"{date}{clock}"
        for date in ("%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%Y/%m/%d")
        for clock in (" %H:%M", " %H:%M:%S", "", " %I:%M:%S %p", " %I:%M %p")
    ),
    "%a %b %d %Y %H:%M:%S",
    "%d %b %Y %H:%M:%S",
    "%b %d, %Y %H:%M:%S",
)
OUT_OF_RANGE = "occurred_at must be within the years 2000 to 2099"

ReadTime = Callable[[Any], Any]
"""Returns a time, aware or local, or a text that the validator reads. Raises: Invalid."""


@dataclass(frozen=True, slots=True)
class TimeReading:
    """A way to read times, with words about it for the report; the usual way has none."""

    read: ReadTime
    description: str = ""
    unit: Epoch | None = None
    """The unit of numbers."""
    format: str | None = None
    """The format of `strptime`."""


def number_of(value: Any) -> Decimal | float | None:
    """The number that a value is, or that a text spells; None for other values."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float | Decimal):
        return value
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        text = value.strip()
        return Decimal(text) if "." in text else int(text)
    return None


def epoch_reading(unit: Epoch) -> TimeReading:
    """Read numbers since 1970."""

    def read(value: Any) -> Any:
        try:
            number = number_of(value)
        except (InvalidOperation, ValueError):
            number = None
        if number is None:
            raise Invalid(f"occurred_at must be a number of {EPOCH_NAMES[unit]}")
        if (instant := instant_of(number, unit)) is None:
            raise Invalid(OUT_OF_RANGE)
        return instant

    return TimeReading(read, EPOCH_NAMES[unit], unit=unit)


def _sized_reading(units: Iterable[Epoch]) -> TimeReading:
    """Read numbers since 1970 each in the unit in which it is a time of these years."""

    def read(value: Any) -> Any:
        number = number_of(value)
        unit = None if number is None else unit_of(number)
        if number is None or unit is None:
            raise Invalid(OUT_OF_RANGE)
        return instant_of(number, unit)

    names = " or ".join(unit for unit in PER_SECOND if unit in units)
    return TimeReading(read, f"numbers since 1970, in {names} by their size")


def format_reading(time_format: str) -> TimeReading:
    """Read texts in a format of `strptime`."""

    def read(value: Any) -> Any:
        try:
            return datetime.strptime(str(value).strip(), time_format)
        except ValueError:
            raise Invalid(f"occurred_at must have the format {time_format}") from None

    return TimeReading(read, time_format, format=time_format)


def _read_text(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


ISO = TimeReading(_read_text)


def guess_reading(values: Sequence[Any]) -> TimeReading | None:
    """The way to read times like these; None if no way fits any of them."""
    units = {unit for value in values if (unit := _unit(value)) is not None}
    if units and all(_unit(value) is not None for value in values):
        return epoch_reading(units.pop()) if len(units) == 1 else _sized_reading(units)
    if not values or any(_fits(ISO, value) for value in values):
        return ISO
    return None


def are_all_local(reading: TimeReading, values: Iterable[Any]) -> bool:
    """Whether none of the times that can be read has an offset."""
    times = [_time(reading, value) for value in values if _fits(reading, value)]
    return bool(times) and all(time.tzinfo is None for time in times)


def suggested_formats(values: Sequence[Any]) -> list[str]:
    """The formats that fit all of these times, the day first and the month first."""
    texts = [value for value in values if isinstance(value, str)]
    if not texts or len(texts) < len(values):
        return []
    return [
        each
        for each in _SUGGESTED_FORMATS
        if all(_fits(format_reading(each), text) for text in texts)
    ]


def _unit(value: Any) -> Epoch | None:
    number = number_of(value)
    return None if number is None else unit_of(number)


def _fits(reading: TimeReading, value: Any) -> bool:
    try:
        _time(reading, value)
    except Invalid:
        return False
    return True


def _time(reading: TimeReading, value: Any) -> datetime:
    """The time as the validator reads it. Raises: Invalid."""
    read = reading.read(value)
    if isinstance(read, datetime):
        return read
    return datetime(read.year, read.month, read.day) if isinstance(read, date) else parse_time(read)
