"""Formats values as Grafana does."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

_THOUSANDS = ("", " K", " Mil", " Bil")
_RATES = {"reqps": " req/s", "cps": " c/s", "ops": " ops/s", "opm": " ops/min", "cpm": " c/min"}
_SECONDS = ((1e-3, 1e6, " µs"), (1, 1e3, " ms"), (60, 1, " s"), (3600, 1 / 60, " min"))


def format_value(value: Any, unit: str, decimals: int | None = None) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if isinstance(value, datetime):
        return _ago(value)
    return _FORMATS.get(unit, _short)(float(value), decimals) + _RATES.get(unit, "")


def _ago(instant: datetime) -> str:
    seconds = (datetime.now(UTC) - instant).total_seconds()
    return "a few seconds ago" if seconds < 45 else f"{seconds / 60:.0f} minutes ago"


def _short(value: float, decimals: int | None) -> str:
    size, at = abs(value), 0
    while size >= 1000 and at < len(_THOUSANDS) - 1:
        size, value, at = size / 1000, value / 1000, at + 1
    return f"{_digits(value, decimals)}{_THOUSANDS[at]}"


def _plain(value: float, decimals: int | None) -> str:
    return _digits(value, decimals)


def _percent(value: float, decimals: int | None) -> str:
    return f"{_digits(100 * value, decimals)}%"


def _seconds(value: float, decimals: int | None) -> str:
    for below, factor, name in _SECONDS:
        if abs(value) < below:
            return f"{_digits(value * factor, decimals)}{name}" if value else "0 s"
    return f"{_digits(value / 3600, decimals)} hours"


def _bytes(value: float, decimals: int | None) -> str:
    at = 0
    while abs(value) >= 1024 and at < 4:
        value, at = value / 1024, at + 1
    return f"{_digits(value, decimals)} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[at]}"


def _date_time(value: float, decimals: int | None) -> str:
    return f"{datetime.fromtimestamp(value / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def _digits(value: float, decimals: int | None) -> str:
    """How many decimals to show: three significant digits unless `decimals` is given."""
    if decimals is not None:
        return f"{value:.{decimals}f}"
    size = abs(value)
    text = f"{value:.{0 if size >= 100 else 1 if size >= 10 else 2}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


_FORMATS: dict[str, Callable[[float, int | None], str]] = {
    "none": _plain,
    "percentunit": _percent,
    "s": _seconds,
    "bytes": _bytes,
    "dateTimeAsIso": _date_time,
}
